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
def what_is_missing() -> str | None:
    """The reason why the kernels cannot run in this process, as far as it shows without loading them; else None."""
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


@cache
def why_not() -> str | None:
    """The reason why the kernels cannot run in this process; None where they can, and then they are loaded."""
    missing = what_is_missing()
    if missing is not None:
        return missing
    try:
        importlib.import_module("fovea.training.compiled.layers")
        importlib.import_module("fovea.training.compiled.norms")
    except Exception as error:  # a numba that is too old, or does not go with this NumPy, or is switched off
        return f"numba cannot compile them: {' '.join(str(error).split())[:200]}"
    return None


def only_numba_is_missing() -> bool:
    """Whether installing a package is all that is to be done."""
    return what_is_missing() == _NO_NUMBA


def _loaded_libraries() -> set[str]:
    with suppress(OSError):
        text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        return {line.rpartition("/")[2] for line in text.splitlines()}
    return set()
