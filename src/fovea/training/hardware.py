"""What the machine allows: device, precision, memory format, threads and allocator, each with its reason."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fovea.errors import SettingsError
from fovea.evaluation.predictions import Device, cpu_capabilities, cpu_has_bf16
from fovea.settings import TrainingSettings


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    value: str
    reason: str


@dataclass(frozen=True)
class Hardware:
    """Every hardware choice of a run."""

    device: Choice
    precision: Choice
    memory_format: Choice
    threads: Choice
    fast_ops: Choice
    allocator: Choice

    @property
    def target(self) -> Device:
        """Device, precision and memory format as prediction needs them."""
        return Device(self.device.value, self.precision.value, self.memory_format.value)

    def settings(self, settings: TrainingSettings) -> TrainingSettings:
        """The training settings with the choices written in."""
        chosen = {name: choice.value for name, choice in self.choices().items()}
        return settings.model_copy(update={**chosen, "threads": int(self.threads.value)})

    def choices(self) -> dict[str, Choice]:
        return dict(self.__dict__)


def choose_hardware(settings: TrainingSettings) -> Hardware:
    """Decide what was left to "auto".

    Raises:
        SettingsError: when a device or a precision is asked for that is not here.
    """
    device = _choose_device(settings.device)
    return Hardware(
        device=device,
        precision=_choose_precision(settings.precision, device.value),
        memory_format=_choose_memory_format(settings.memory_format),
        threads=_choose_threads(settings.threads),
        fast_ops=_choose_fast_ops(settings, device.value),
        allocator=_choose_allocator(settings.allocator, device.value),
    )


def _choose_device(asked: str) -> Choice:
    gpu_here = torch.cuda.is_available()
    if asked == "auto":
        return Choice("cuda:0", "a GPU is here") if gpu_here else Choice("cpu", "no GPU was found")
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda", "mps"}:
        raise SettingsError(f"Unknown device {asked!r}. Choices: auto, cpu, cuda, cuda:1 ..., mps.")
    if device.type == "cuda" and (not gpu_here or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if gpu_here else 0
        raise SettingsError(f"The device {asked!r} is not here: {count} CUDA devices were found. Use --device cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("The device 'mps' is not here: it needs a Mac with Apple silicon. Use --device cpu.")
    return Choice(asked, "as asked")


def _choose_precision(asked: str, device: str) -> Choice:
    if asked != "auto":
        return Choice(asked, "as asked")
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return Choice("bf16", "the GPU computes in it") if fast else Choice("fp32", "the GPU has no bf16")
    if device != "cpu":
        return Choice("fp32", f"bf16 is not used on {device}")
    feature = cpu_has_bf16()
    if feature:
        return Choice("bf16", f"the CPU has {feature}; weights stay float32")
    return Choice("fp32", "the CPU has neither amx_bf16 nor avx512_bf16, without which bf16 is slower")


def _choose_memory_format(asked: str) -> Choice:
    if asked != "auto":
        return Choice(asked, "as asked")
    return Choice("channels_last", "convolutions need no reordering of the activations")


def _choose_fast_ops(settings: TrainingSettings, device: str) -> Choice:
    if settings.fast_ops != "auto":
        return Choice(settings.fast_ops, "as asked")
    if device != "cpu":
        return Choice("off", f"they are for the CPU, not for {device}")
    if settings.precision == "fp32":
        return Choice("off", "precision fp32 was asked for: torch's own layers, as plain as they are")
    return Choice("on", "layers that train faster with the same meaning: dropout, pooling, weight gradients")


def _choose_threads(asked: int | None) -> Choice:
    if asked is not None:
        return Choice(str(asked), "as asked")
    environment = os.environ.get("OMP_NUM_THREADS", "")
    first = environment.partition(",")[0].strip()  # OpenMP takes a list, a number for each level of nesting
    if first.isdecimal() and int(first) > 0:
        return Choice(str(int(first)), "OMP_NUM_THREADS says so")
    ignored = f"; OMP_NUM_THREADS={environment!r} is no number of threads" if environment else ""
    return Choice(str(usable_cores()), f"one for each core that this process may use{ignored}")


def usable_cores() -> int:
    """Physical cores, no more than the process's affinity and its container's quota allow."""
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    limits.append(int(cpu_capabilities().get("num_physical_cores") or limits[0]))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            limits.append(max(1, math.ceil(int(quota) / int(period))))
    return max(1, min(limits))


def _choose_allocator(asked: str, device: str) -> Choice:
    if asked != "auto":
        return Choice(asked, "as asked")
    if device == "cpu" and platform.libc_ver()[0] == "glibc":
        return Choice("keep", "freed memory is kept for the next step, not given back to the system each time")
    return Choice("system", "left as it is: only glibc gives memory back at every step")


@contextlib.contextmanager
def applied(hardware: Hardware) -> Iterator[None]:
    """Set threads and allocator; threads are set back at the end, glibc keeps its memory to the process's end."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(hardware.threads.value))
    if hardware.allocator.value == "keep":
        _keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """mallopt(M_MMAP_MAX, 0) and a high M_TRIM_THRESHOLD: large tensors come from the heap, which is not trimmed."""
    m_trim_threshold, m_mmap_max = -1, -4
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
