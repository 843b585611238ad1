"""Records of healthy trainings, each with what a careless rule takes for a fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fovea.diagnosis.record import (
    BatchFacts,
    CurveFacts,
    EvaluationFacts,
    LayerFacts,
    LayerSignals,
    NetFacts,
    Record,
    SplitFacts,
    TrainingFacts,
)
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.diagnosis.rules import RULES


def images(count: int, **facts: Any) -> SplitFacts:
    """Images divided by 255, of ten equally large classes, shuffled where they are trained on."""
    known: dict[str, Any] = {
        "shape": (28, 28, 1),
        "dtype": "float32",
        "minimum": 0.0,
        "maximum": 1.0,
        "mean": 0.13,
        "std": 0.31,
        "num_values": 256,
        "constant_images": 0,
        "class_counts": (count // 10,) * 10,
        "num_classes": 10,
        "label_kind": "integer",
        "label_minimum": 0,
        "label_maximum": 9,
        "longest_run": 4,
        "is_augmented": False,
        "preprocessing": ("/255",),
    }
    return SplitFacts(count=count, **(known | facts))


LAYERS = (
    LayerFacts("conv1", "conv2d", "relu", 32, parameters=320, initializer="glorotuniform", is_connected=True),
    LayerFacts("pool1", "maxpooling2d"),
    LayerFacts("conv2", "conv2d", "relu", 64, parameters=18_496, initializer="glorotuniform", is_connected=True),
    LayerFacts("pool2", "maxpooling2d"),
    LayerFacts("flatten", "flatten"),
    LayerFacts("dense1", "dense", "relu", 128, parameters=204_928, initializer="glorotuniform", is_connected=True),
    LayerFacts("dropout", "dropout", rate=0.5),
    LayerFacts("dense2", "dense", "softmax", 10, parameters=1_290, initializer="glorotuniform", is_connected=True),
)

SIGNALS = tuple(
    LayerSignals(
        name,
        gradient_norm=norm,
        weight_norm=5.0,
        update_ratio=2e-3,
        dead_fraction=0.1,
        zero_fraction=0.6,
        weight_std=0.08,
        is_constant=False,
        is_finite=True,
    )
    for name, norm in (("conv1", 0.2), ("conv2", 0.3), ("dense1", 0.2), ("dense2", 0.4))
)

MNIST = Record(
    origin="keras",
    name="healthy",
    splits={
        "train": images(54_000, is_shuffled=True),
        "val": images(6_000, is_shuffled=False),
        "test": images(10_000, is_shuffled=False),
    },
    net=NetFacts(LAYERS, True, 10, "softmax", 225_034, 225_034),
    training=TrainingFacts(
        framework="keras",
        optimizer="adam",
        learning_rate=0.001,
        batch_size=128,
        epochs=8,
        loss="sparsecategoricalcrossentropy",
        from_logits=False,
        metrics=("accuracy",),
        validation_source="split",
        chosen_by="last",
        num_fits=1,
        monitors=(),
        callbacks_made=(),
        callbacks_passed=(),
    ),
    batch=BatchFacts(
        initial_loss=2.31,
        initial_accuracy=0.11,
        output_minimum=0.0,
        output_maximum=1.0,
        row_sum=1.0,
        first=SIGNALS,
        last=SIGNALS,
        evaluation_repeats=True,
        zeroed_loss=3.1,
        real_loss=0.03,
    ),
    curves=CurveFacts(
        running_loss=(0.36, 0.12, 0.09, 0.07, 0.06, 0.05, 0.045, 0.04),
        running_accuracy=(0.89, 0.964, 0.973, 0.978, 0.981, 0.984, 0.986, 0.987),
        val_loss=(0.07, 0.05, 0.042, 0.036, 0.034, 0.033, 0.034, 0.031),
        val_accuracy=(0.978, 0.985, 0.987, 0.989, 0.990, 0.990, 0.990, 0.991),
    ),
    evaluation=EvaluationFacts(
        split="test",
        count=10_000,
        accuracy=0.991,
        loss=0.028,
        class_accuracies=(0.99,) * 10,
        predicted_counts=(1_000,) * 10,
        majority_share=0.1,
        stored_accuracy=0.991,
    ),
)


def changed(record: Record = MNIST, **parts: Any) -> Record:
    """The record with facts changed: training={"optimizer": "sgd"}, train={"maximum": 255.0}, val=..., curves=..."""
    splits = dict(record.splits)
    fields: dict[str, Any] = {}
    for part, facts in parts.items():
        if part in ("train", "val", "test"):
            splits[part] = replace(splits[part], **facts)
        elif isinstance(facts, dict):
            fields[part] = replace(getattr(record, part), **facts)
        else:
            fields[part] = facts
    return replace(record, splits=splits, **fields)


def with_broken_rule(name: str) -> dict[str, Rule]:
    """The rules, one of which raises."""

    def fails(record: Record) -> Suspicion | None:
        raise ZeroDivisionError("no luck")

    return {**RULES, name: replace(RULES[name], check=fails)}


def without_curves(record: Record) -> Record:
    """As a program is known: nothing has run."""
    return replace(record, origin="script", batch=BatchFacts(), curves=CurveFacts(), evaluation=EvaluationFacts())


def _standardised(record: Record) -> Record:
    facts = {"minimum": -1.99, "maximum": 2.13, "mean": 0.0, "std": 1.0, "preprocessing": ("-mean", "/std")}
    return changed(record, train=facts, val=facts, test=facts)


def _layers(**changes: dict[str, Any]) -> tuple[LayerFacts, ...]:
    return tuple(replace(layer, **changes.get(layer.name, {})) for layer in LAYERS)


def _with_signals(**facts: Any) -> BatchFacts:
    return replace(MNIST.batch, last=tuple(replace(signals, **facts) for signals in SIGNALS))


CIFAR = changed(
    _standardised(MNIST),
    train={"shape": (32, 32, 3), "channel_means": (0.01, 0.0, -0.01)},
    curves={
        "running_accuracy": (0.42, 0.55, 0.61, 0.65, 0.68, 0.70, 0.72, 0.735, 0.745, 0.75),
        "running_loss": (1.6, 1.25, 1.09, 0.99, 0.92, 0.86, 0.81, 0.77, 0.74, 0.72),
        "val_accuracy": (0.52, 0.60, 0.64, 0.67, 0.69, 0.71, 0.72, 0.725, 0.728, 0.731),
        "val_loss": (1.35, 1.13, 1.02, 0.95, 0.89, 0.84, 0.81, 0.80, 0.79, 0.79),
    },
    evaluation={"accuracy": 0.729, "stored_accuracy": 0.729, "class_accuracies": (0.73,) * 10, "loss": 0.8},
    batch={"real_loss": 0.7},
)
SLOW = {  # a long training whose late errors get dearer, validation steady: 91.6 % on Fashion-MNIST
    "running_accuracy": (0.85, 0.90, 0.915, 0.925, 0.93, 0.94, 0.945, 0.95, 0.955, 0.96, 0.965, 0.97, 0.972, 0.974),
    "running_loss": (0.42, 0.28, 0.24, 0.21, 0.19, 0.17, 0.15, 0.14, 0.12, 0.11, 0.10, 0.09, 0.08, 0.07),
    "val_accuracy": (0.88, 0.895, 0.905, 0.909, 0.912, 0.913, 0.915, 0.914, 0.916, 0.915, 0.916, 0.917, 0.916, 0.916),
    "val_loss": (0.33, 0.29, 0.27, 0.26, 0.25, 0.25, 0.26, 0.27, 0.29, 0.31, 0.33, 0.36, 0.39, 0.42),
}

HEALTHY: dict[str, Record] = {
    "mnist": MNIST,
    "mnist, as a program": without_curves(MNIST),
    "standardised inputs": _standardised(MNIST),
    "standardised inputs, as a program": without_curves(_standardised(MNIST)),
    "cifar-10 at 73 %": CIFAR,
    "adadelta 1.0": changed(training={"optimizer": "adadelta", "learning_rate": 1.0}),
    "adadelta 1.0, as a program": without_curves(changed(training={"optimizer": "adadelta", "learning_rate": 1.0})),
    "sgd .1": changed(training={"optimizer": "sgd", "learning_rate": 0.1}),
    "sgd .1 with momentum, as a program": without_curves(
        changed(training={"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9})
    ),
    "summed loss with a large rate": changed(
        training={"optimizer": "sgd", "learning_rate": 11.5, "momentum": 0.85, "loss_reduction": "sum"},
        batch={"initial_loss": 2_900.0, "first": tuple(replace(s, gradient_norm=5e4) for s in SIGNALS)},
    ),
    "summed loss, hundreds for each wrong answer": changed(
        training={"optimizer": "sgd", "learning_rate": 0.001, "loss_reduction": "sum"},
        curves={
            "val_loss": (9.0, 7.0, 6.0, 5.5, 5.0, 4.5, 4.3, 4.0),
            "val_accuracy": (0.90, 0.93, 0.94, 0.95, 0.955, 0.96, 0.962, 0.965),
        },
    ),
    "summed loss, as a program": without_curves(
        changed(training={"optimizer": "sgd", "learning_rate": 11.5, "loss_reduction": "sum"})
    ),
    "validation above train because of dropout": changed(
        curves={
            "running_accuracy": (0.55, 0.72, 0.80, 0.84, 0.86, 0.87, 0.878, 0.88),
            "running_loss": (1.3, 0.9, 0.7, 0.6, 0.5, 0.45, 0.43, 0.42),
        },
    ),
    "validation above train because of augmentation": changed(
        net={"layers": tuple(layer for layer in LAYERS if layer.kind != "dropout")},
        train={"is_augmented": True},
        training={"augmentation": {"rotation_range": 10, "zoom_range": 0.1, "width_shift_range": 0.1}},
        curves={
            "running_accuracy": (0.60, 0.80, 0.86, 0.89, 0.90, 0.91, 0.915, 0.92),
            "running_loss": (1.2, 0.6, 0.45, 0.36, 0.33, 0.3, 0.28, 0.27),
        },
    ),
    "four epochs that converged": changed(
        training={"epochs": 4},
        curves={
            "running_loss": (0.25, 0.07, 0.05, 0.04),
            "running_accuracy": (0.93, 0.979, 0.985, 0.988),
            "val_loss": (0.06, 0.04, 0.035, 0.031),
            "val_accuracy": (0.982, 0.987, 0.989, 0.990),
        },
    ),
    "four epochs, as a program": without_curves(changed(training={"epochs": 4})),
    "fashion-mnist at 91.6 %": changed(
        curves=SLOW,
        training={"epochs": 14},
        evaluation={
            "accuracy": 0.916,
            "stored_accuracy": 0.916,
            "loss": 0.45,
            "class_accuracies": (0.87, 0.98, 0.86, 0.92, 0.87, 0.98, 0.74, 0.97, 0.98, 0.96),
        },
    ),
    "frozen first layers of trained weights": changed(
        net={"layers": _layers(conv1={"is_trainable": False}, conv2={"is_trainable": False})},
        training={"is_continued": True, "frozen_on_purpose": True, "learning_rate": 1e-5},
        batch={"initial_accuracy": 0.8, "initial_loss": 0.7, "first": SIGNALS[2:]},
    ),
    "frozen first layers, as a program": without_curves(
        changed(net={"layers": _layers(conv1={"is_trainable": False}, conv2={"is_trainable": False})})
    ),
    "70 % zeros after relu": changed(batch=_with_signals(zero_fraction=0.7, dead_fraction=0.3)),
    "imbalanced but fine": changed(
        train={"class_counts": (20_000, 10_000, 8_000, 5_000, 4_000, 3_000, 2_000, 1_000, 600, 400)},
        test={"class_counts": (3_700, 1_850, 1_480, 925, 740, 555, 370, 185, 111, 84)},
        evaluation={
            "class_accuracies": (0.99, 0.99, 0.98, 0.98, 0.97, 0.97, 0.96, 0.95, 0.91, 0.88),
            "majority_share": 0.37,
            "predicted_counts": (3_710, 1_850, 1_480, 925, 740, 555, 370, 180, 110, 80),
        },
    ),
    "label smoothing": changed(
        training={"label_smoothing": 0.1},
        curves={
            "running_loss": (0.9, 0.62, 0.58, 0.56, 0.55, 0.545, 0.54, 0.54),
            "val_loss": (0.6, 0.56, 0.55, 0.545, 0.54, 0.54, 0.54, 0.54),
        },
    ),
    "logits into a loss that wants them": changed(
        net={"last_activation": "linear", "layers": _layers(dense2={"activation": "linear"})},
        training={"framework": "torch", "loss": "crossentropy", "from_logits": True},
        batch={"row_sum": None, "output_minimum": -9.0, "output_maximum": 12.0},
    ),
    "log-softmax and nll": changed(
        net={"last_activation": "logsoftmax"},
        training={"framework": "torch", "loss": "nll", "from_logits": False},
        batch={"row_sum": None, "output_minimum": -14.0, "output_maximum": 0.0},
    ),
    "two classes with one sigmoid": changed(
        net={"output_units": 1, "last_activation": "sigmoid"},
        train={"class_counts": (27_000, 27_000), "num_classes": 2, "label_maximum": 1},
        val={"class_counts": (3_000, 3_000)},
        test={"class_counts": (5_000, 5_000)},
        training={"loss": "binarycrossentropy"},
        batch={"row_sum": None, "initial_loss": 0.69, "initial_accuracy": 0.5},
        evaluation={"class_accuracies": (0.99, 0.99), "predicted_counts": (5_000, 5_000), "majority_share": 0.5},
    ),
    "batch norm, then activation": changed(
        net={
            "layers": (
                LayerFacts("c1", "conv2d", "linear", 32),
                LayerFacts("b1", "batchnormalization"),
                LayerFacts("r1", "activation", "relu"),
                LayerFacts("c2", "conv2d", "linear", 64),
                LayerFacts("p2", "maxpooling2d"),
                LayerFacts("r2", "activation", "relu"),
                LayerFacts("f", "flatten"),
                LayerFacts("d", "dense", "softmax", 10),
            )
        },
    ),
    "raw pixels into a layer that scales": changed(
        train={"maximum": 255.0, "mean": 33.0, "std": 78.0, "preprocessing": ()},
        val={"maximum": 255.0, "mean": 33.0, "std": 78.0, "preprocessing": ()},
        test={"maximum": 255.0, "mean": 33.0, "std": 78.0, "preprocessing": ()},
        net={"layers": (LayerFacts("scale", "rescaling"), *LAYERS)},
    ),
    "other crops in training and test": changed(
        train={"preprocessing": ("randomresizedcrop", "randomflip", "totensor", "normalize"), "is_augmented": True},
        val={"preprocessing": ("resize", "centercrop", "totensor", "normalize")},
        test={"preprocessing": ("resize", "centercrop", "totensor", "normalize")},
    ),
    "validation of 30 images": changed(
        val={"count": 30, "class_counts": (5, 4, 4, 3, 3, 3, 3, 2, 2, 1), "mean": 0.15, "std": 0.33},
        curves={"val_accuracy": (0.93, 0.97, 0.93, 0.97, 1.0, 0.97, 0.93, 0.97)},
    ),
    "an easy small set, well learned": changed(
        train={"count": 400, "class_counts": (40,) * 10},
        val={"count": 80, "class_counts": (8,) * 10},
        test={"count": 200, "class_counts": (20,) * 10},
        training={"epochs": 40, "batch_size": 32},
        evaluation={"count": 200, "accuracy": 0.975, "stored_accuracy": 0.975, "predicted_counts": (20,) * 10},
    ),
    "fine-tuning with a small rate": without_curves(
        changed(training={"optimizer": "adam", "learning_rate": 1e-5, "is_continued": True, "epochs": 2})
    ),
    "large batches, many steps": changed(training={"batch_size": 1_024, "epochs": 30}),
    "a last layer that begins at zero": changed(
        net={"layers": _layers(dense2={"initializer": "zeros"})},
        batch={
            "first": (
                *(replace(s, gradient_norm=0.0) for s in SIGNALS[:3]),
                replace(SIGNALS[3], is_constant=True, weight_std=0.0),
            )
        },
    ),
    "five seeds that agree": changed(evaluation={"seed_accuracies": (0.990, 0.991, 0.9905, 0.992, 0.9895)}),
    "cosine schedule, rising to the end": changed(
        CIFAR,
        curves={"learning_rate": (0.1, 0.09, 0.08, 0.06, 0.05, 0.04, 0.02, 0.01, 0.005, 0.0)},
        training={"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9},
    ),
    "eight annealed epochs, gaining to the end": changed(  # airbench94 on CIFAR-10, seed 0
        CIFAR,
        training={"epochs": 8},
        curves={
            "train_accuracy": (0.761, 0.830, 0.876, 0.902, 0.918, 0.950, 0.981, 0.994),
            "running_accuracy": (0.59, 0.79, 0.82, 0.845, 0.87, 0.90, 0.93, 0.96),
            "val_accuracy": (0.730, 0.799, 0.840, 0.843, 0.871, 0.892, 0.929, 0.928),
            "val_loss": (0.93, 0.75, 0.65, 0.65, 0.55, 0.50, 0.43, 0.40),
            "running_loss": (1.6, 1.3, 1.22, 1.16, 1.1, 1.05, 1.0, 0.96),
            "learning_rate": (0.097, 0.083, 0.07, 0.056, 0.042, 0.028, 0.014, 0.00004),
        },
        evaluation={"accuracy": 0.9356, "stored_accuracy": 0.9356, "class_accuracies": None, "predicted_counts": None},
    ),
    "noisy validation": changed(
        val={"count": 200, "class_counts": (20,) * 10},
        curves={"val_accuracy": (0.95, 0.98, 0.96, 0.99, 0.965, 0.985, 0.975, 0.985)},
    ),
    "forty steps that are level": changed(
        train={"count": 500, "class_counts": (50,) * 10},
        val={"count": 250, "class_counts": (25,) * 10},
        training={"batch_size": 64, "epochs": 5},
        curves={
            "running_accuracy": (0.55, 0.74, 0.79, 0.80, 0.80),
            "running_loss": (1.4, 0.8, 0.7, 0.68, 0.67),
            "val_accuracy": (0.60, 0.76, 0.78, 0.785, 0.785),
            "val_loss": (1.2, 0.78, 0.72, 0.71, 0.71),
            "steps": 40,
        },
        evaluation={"accuracy": 0.78, "stored_accuracy": 0.78, "class_accuracies": None, "predicted_counts": None},
    ),
    "one epoch of 19 steps that learned": changed(
        training={"epochs": 1},
        curves={
            "running_accuracy": (0.93,),
            "running_loss": (0.25,),
            "val_accuracy": (0.985,),
            "val_loss": (0.05,),
            "steps": 19,
        },
    ),
    "two epochs cut short by steps_per_epoch": changed(  # 60 steps of 256 an epoch
        origin="run",
        training={"batch_size": 256, "epochs": 2, "steps_per_epoch": 60, "learning_rate": 0.001},
        curves={
            "train_accuracy": (0.862, 0.892),
            "running_accuracy": (0.85, 0.865),
            "running_loss": (0.7, 0.42),
            "val_accuracy": (0.875, 0.885),
            "val_loss": (0.45, 0.32),
            "steps": 120,
        },
        evaluation={"accuracy": 0.885, "stored_accuracy": 0.885, "class_accuracies": None, "predicted_counts": None},
    ),
    "no classifier, a rate that is high for one": changed(
        Record("torch", "features"),
        training={"framework": "torch", "optimizer": "adam", "learning_rate": 0.01},
        batch={"first": SIGNALS, "last": SIGNALS},
        curves={"running_loss": (0.9, 0.5, 0.3), "steps": 300},
    ),
    "an unused library of nothing": Record("script", "empty.py"),
}
