"""Whether this machine can run the compiled kernels; asked without importing what compiles them."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path

from fovea.evaluation.predictions import cpu_has_bf16

NEEDED_FEATURE = "amx_bf16"
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18  # linux: arch/x86/include/uapi/asm/prctl.h
_OPENMP = "libgomp.so.1"
_NO_NUMBA = "numba is not installed: pip install 'fovea-vision[fast]'"


@cache
def why_not() -> str | None:
    """The reason why the kernels cannot run in this process; None where they can."""
    if cpu_has_bf16() != NEEDED_FEATURE:
        return f"the CPU has no {NEEDED_FEATURE}"
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "they are for Linux on x86-64"
    if importlib.util.find_spec("numba") is None:
        return _NO_NUMBA
    if _OPENMP not in _loaded_libraries():
        return f"this torch does not compute on the threads of {_OPENMP}"
    if ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) != 0:
        return "Linux does not lend the matrix unit to this process"
    return None


def cure_is_here() -> bool:
    """Whether all that is missing is a package."""
    return why_not() == _NO_NUMBA


def _loaded_libraries() -> set[str]:
    with suppress(OSError):
        return {line.rpartition("/")[2] for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()}
    return set()
