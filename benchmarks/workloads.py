"""What is measured: nets, batches and contenders, as plain values that go to the workers as JSON.

The nets and their settings are those of published Keras programs: P1 is Kaggle's Digit Recognizer at 99.6 %, P2 the
answer to a CIFAR-10 question, P4 a Fashion-MNIST tutorial. Images are random: speed does not depend on what they show.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

# Layers as the peers build them: a convolution is (kind, channels, kernel side, padding), all with relu. Fovea knows
# the same nets by name; the driver holds the numbers of parameters against each other.
P1_LAYERS = (
    ("conv", 32, 5, "same"), ("conv", 32, 5, "same"), ("pool", 2), ("dropout", 0.25),
    ("conv", 64, 3, "same"), ("conv", 64, 3, "same"), ("pool", 2), ("dropout", 0.25),
    ("flatten",), ("dense", 256), ("dropout", 0.25),
)  # fmt: skip
P2_ANSWER_LAYERS = (
    ("conv", 64, 3, "valid"), ("pool", 2), ("conv", 256, 2, "valid"), ("pool", 2),
    ("flatten",), ("dense", 1024), ("dropout", 0.4),
)  # fmt: skip
P4_CONV_LAYERS = (
    ("conv", 64, 3, "valid"), ("pool", 2), ("conv", 64, 3, "valid"), ("pool", 2), ("flatten",), ("dense", 128),
)  # fmt: skip
# ImageDataGenerator's names and P1's values.
P1_AUGMENTATION = {"rotation_range": 10, "zoom_range": 0.1, "width_shift_range": 0.1, "height_shift_range": 0.1}
YARDSTICK_STEPS = 378  # one epoch of P1: 37,800 images in batches of 100


@dataclass(frozen=True)
class Workload:
    """One training to be timed.

    Attributes:
        model: Fovea's name of the net.
        layers: the same net for the peers, without its output layer; empty where only Fovea is measured.
        image_shape: height, width, channels.
        num_images: training images, all in one epoch; they must last for every step that is run.
        sparse: labels are class numbers, not one-hot rows (for Keras).
        augmentation: of ImageDataGenerator's arguments.
        lead_in_seconds: untimed steps before each chunk; long enough to empty a queue of prepared batches.
    """

    model: str
    layers: tuple[tuple[Any, ...], ...]
    image_shape: tuple[int, int, int]
    batch_size: int
    num_images: int
    optimizer: str
    lr: float | None
    sparse: bool = False
    augmentation: dict[str, float] = field(default_factory=dict)
    lead_in_seconds: float = 0.3


@dataclass(frozen=True)
class Contender:
    """Who runs a workload: the script of its worker, whether it needs the peers' environment, and its settings."""

    script: str
    peer: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """A contender with its workload."""

    name: str
    workload: Workload
    contender: Contender

    @property
    def spec(self) -> dict[str, Any]:
        """What the worker is told."""
        return {**asdict(self.workload), "settings": self.contender.settings}


def _keras(backend: str, policy: str = "float32", jit: bool | str = "auto") -> Contender:
    return Contender("worker_keras.py", True, {"backend": backend, "policy": policy, "jit_compile": jit})


FOVEA = "fovea"
KERAS_TF_DEFAULT = "keras-tf"
CONTENDERS = {
    FOVEA: Contender("worker_fovea.py"),
    KERAS_TF_DEFAULT: _keras("tensorflow"),
    "fovea-fp32": Contender("worker_fovea.py", settings={"precision": "fp32"}),
    "keras-tf-bf16": _keras("tensorflow", "mixed_bfloat16"),
    "keras-tf-jit": _keras("tensorflow", jit=True),
    "keras-tf-jit-bf16": _keras("tensorflow", "mixed_bfloat16", jit=True),
    "keras-jax": _keras("jax"),
    "keras-torch": _keras("torch"),
    "torch": Contender("worker_torch.py"),
}
LABELS = {
    "fovea": "Fovea",
    "fovea-fp32": "Fovea, `precision=fp32`",
    "keras-tf": "Keras on TensorFlow, default",
    "keras-tf-bf16": "Keras on TensorFlow, mixed_bfloat16",
    "keras-tf-jit": "Keras on TensorFlow, jit_compile",
    "keras-tf-jit-bf16": "Keras on TensorFlow, mixed_bfloat16 and jit_compile",
    "keras-jax": "Keras on JAX",
    "keras-torch": "Keras on torch",
    "torch": "plain PyTorch, DataLoader",
}
WORKLOADS = {
    "p1": Workload("p1", P1_LAYERS, (28, 28, 1), 100, 37_800, "rmsprop", 1e-3),
    "p1-augmented": Workload(
        "p1", P1_LAYERS, (28, 28, 1), 100, 37_800, "rmsprop", 1e-3, augmentation=P1_AUGMENTATION, lead_in_seconds=1.5
    ),
    "p4-conv": Workload("p4-conv", P4_CONV_LAYERS, (28, 28, 1), 32, 60_000, "adam", 1e-3, sparse=True),
    "p2-answer": Workload("p2-answer", P2_ANSWER_LAYERS, (32, 32, 3), 500, 50_000, "adam", 1e-3),
}
_KERAS_TF = ("keras-tf", "keras-tf-bf16", "keras-tf-jit")
# XLA without AMX takes seconds a step, so its mixed variant is tried on P1 alone.
WHO = {
    "p1": tuple(CONTENDERS),
    "p1-augmented": (FOVEA, "keras-tf", "fovea-fp32", "keras-tf-bf16", "keras-tf-jit"),
    "p4-conv": (FOVEA, *_KERAS_TF, "torch"),
    "p2-answer": (FOVEA, *_KERAS_TF, "torch"),
}
TITLES = {
    "p1": "P1's net, batches of 100",
    "p1-augmented": "P1's net with its augmentation, batches of 100",
    "p4-conv": "P4's convolutional net, batches of 32",
    "p2-answer": "P2's answer net, 32x32 colour images, batches of 500",
}
SIDES, CHANNELS, BATCH_SIZES = (16, 28, 32, 48, 64), (1, 3), (32, 100, 500, 1000)
MOST_IMAGE_BYTES = 100_000_000


def jobs_of(name: str) -> list[Job]:
    """The contenders of a workload, in the order in which they take turns."""
    return [Job(who, WORKLOADS[name], CONTENDERS[who]) for who in WHO[name]]


def growth_groups() -> list[list[Job]]:
    """Fovea's default net over image sides (batches of 100) and over batch sizes (28x28x1 and 32x32x3)."""
    groups = [[(side, channels, 100) for side in SIDES] for channels in CHANNELS]
    groups += [[(side, channels, size) for size in BATCH_SIZES] for side, channels in ((28, 1), (32, 3))]
    return [[_growth_job(*case) for case in group] for group in groups]


def _growth_job(side: int, channels: int, batch_size: int) -> Job:
    count = min(60_000, MOST_IMAGE_BYTES // (side * side * channels))
    workload = Workload("small", (), (side, side, channels), batch_size, count, "auto", None, lead_in_seconds=0.1)
    return Job(f"{side}x{side}x{channels}, batch {batch_size}", workload, CONTENDERS[FOVEA])
