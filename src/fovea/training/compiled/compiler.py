"""What turns Python functions into machine code: numba, with what it made kept in the user's cache."""

from __future__ import annotations

import hashlib
import tempfile
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

    All kernels together take about ten seconds. What comes of it is kept for the next process, where it can be.
    """
    folder, before = _kept_folder(), numba.config.CACHE_DIR
    if folder is not None:
        try:
            numba.config.CACHE_DIR = str(folder)
            return numba.cfunc(_ONE_POINTER, cache=True)(function)
        except Exception:  # a full disk, a damaged file: whatever it is, it is not kept then
            pass
        finally:
            numba.config.CACHE_DIR = before
    return numba.cfunc(_ONE_POINTER)(function)


def _kept_folder() -> Path | None:
    """Where machine code of this very source is kept; None where nothing can be.

    numba looks at one file only to see whether code is stale, and where it cannot write it takes the folder of the
    source: both would run old code with new data.
    """
    try:
        folder = cache_folder() / "kernels" / _source_digest()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    return folder


def _source_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
