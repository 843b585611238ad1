"""What turns Python functions into machine code: numba, with what it made kept in the user's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.extending

from fovea.data.folders import cache_folder

_F = TypeVar("_F", bound=Callable[..., Any])
_ONE_POINTER = numba.types.void(numba.types.voidptr)


def compiled(function: _F) -> _F:
    """A function for kernels to call. Addresses are whole numbers."""
    found: _F = numba.njit(function)
    return found


def instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes LLVM's instructions: called with the types of its arguments, see numba.extending."""
    found: Callable[..., Any] = numba.extending.intrinsic(function)
    return found


def kernel(function: Callable[[Any], None]) -> Any:
    """A function of one pointer that other code can call, see `threads.run`; compiled at once.

    Compiling takes about ten seconds. What comes of it is kept for the next process, in a folder for this very source:
    numba itself looks at one file only. Where nothing can be kept, it is compiled again.
    """
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(cache_folder() / "kernels" / _source_digest())
        return numba.cfunc(_ONE_POINTER, cache=True)(function)
    except (OSError, RuntimeError):  # a full disk, no folder that can be written to, a user without a home
        return numba.cfunc(_ONE_POINTER)(function)
    finally:
        numba.config.CACHE_DIR = before


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
