"""Arrays in memory: a pair (images, labels)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fovea.data.imageset import RawSet
from fovea.data.pixels import off_torch
from fovea.errors import DataError


def set_from_arrays(images: Any, labels: Any, where: str) -> RawSet:
    """Pair images with labels; checks of contents come later.

    Args:
        images: [N, H, W] or [N, H, W, C]; a NumPy array, a torch tensor or nested lists.
        labels: [N], [N, 1], one-hot [N, K], or names; None: there are none.

    Raises:
        DataError: when there are no images, not one label for each, or values are masked.
    """
    given = {"images": images, "labels": labels}
    images, labels = off_torch(images), off_torch(labels)
    try:
        images, labels = (None if part is None else np.asarray(part) for part in (images, labels))
    except ValueError:
        raise DataError(
            f"The images or labels of {where} are of unequal size and make no array: every image needs the same "
            "height, width and channels."
        ) from None
    for name, part in (("images", images), ("labels", labels)):
        if part is not None and part.ndim == 0:  # a generator, a sparse matrix, a number ...
            kind = type(given[name]).__name__
            raise DataError(f"The {name} of {where} are one {kind}: expected an array or a list, with one an image.")
    if len(images) == 0:
        raise DataError(f"{where} holds no images.")
    if labels is not None and len(images) != len(labels):
        raise DataError(f"{where} has {len(images):,} images but {len(labels):,} labels: expected one label an image.")
    return RawSet(images, labels, np.arange(len(images)))
