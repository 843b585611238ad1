"""Where named data sets and decoded images are kept and looked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


def cache_folder() -> Path:
    """XDG_CACHE_HOME/fovea, or ~/.cache/fovea; a relative XDG_CACHE_HOME does not count (XDG specification).

    Raises:
        RuntimeError: for a user without a home.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "fovea"


@contextlib.contextmanager
def alone(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`; `wait` is called once where another process holds it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def search_folders() -> list[Path]:
    """Where named data sets are looked for: FOVEA_DATA, the cache, Keras' folder of downloads."""
    data, keras = os.environ.get("FOVEA_DATA"), os.environ.get("KERAS_HOME")
    folders = [Path(data).expanduser()] if data else []
    with contextlib.suppress(RuntimeError):  # a user without a home
        folders.append(cache_folder())
        folders.append((Path(keras) if keras else Path.home() / ".keras") / "datasets")
    return folders
