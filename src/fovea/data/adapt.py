"""Making new images like the training images: inverted, cut out, scaled and centred, where they are unlike them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.data.guard import InputProfile, border_of, compare, compare_sizes
from fovea.data.pixels import fit_size

Image8 = NDArray[np.uint8]
_INK_SHARE = 0.25  # of the strongest ink: what is weaker is paper, shadow or noise
_FAINT_SHARE = 0.1  # of it: weaker levels become background
_SPECK_SHARE = 0.05  # of the largest stroke's pixels: smaller ones are specks
_BLANK_LEVELS = 16.0  # an image whose strongest ink is weaker shows nothing


def fit_sizes(images: Sequence[Image8] | Image8, size: tuple[int, int]) -> Image8:
    """Images of one or of many sizes, each uint8 [h, w, C] -> uint8 [N, H, W, C]."""
    if isinstance(images, np.ndarray):
        return np.asarray(fit_size(images, size), np.uint8)
    fitted = [np.asarray(fit_size(image[None], size), np.uint8) for image in images]
    return np.concatenate(fitted) if fitted else np.empty((0, *size, 1), np.uint8)


def adapt_images(
    profile: InputProfile, originals: Sequence[Image8] | Image8, size: tuple[int, int]
) -> tuple[Image8, dict[str, NDArray[np.bool_]]]:
    """Invert what is inverted; where training images stand on a plain background, cut out and centre what is not.

    Images that are like the training images already stay as they are.

    Args:
        originals: uint8 [h, w, C] each, as large as they came.
        size: height and width of the net's input.

    Returns:
        uint8 [N, H, W, C], and which images were "inverted" and which "centred": bool [N] each.
    """
    images = fit_sizes(originals, size)
    inverted = compare(profile, images).outside.get("inverted", np.zeros(len(images), np.bool_))
    images = np.where(inverted[:, None, None, None], 255 - images, images)
    centred = np.zeros(len(images), np.bool_)
    if profile.plain_background:
        shapes = np.array([image.shape[:2] for image in originals], np.int64).reshape(-1, 2)
        outside = {**compare(profile, images).outside, **compare_sizes(profile, shapes)}
        for row in np.flatnonzero(np.any([*outside.values(), centred], axis=0)).tolist():
            original = 255 - originals[row] if inverted[row] else originals[row]
            found = centre(profile, original, size)
            if found is not None:
                images[row], centred[row] = found, True
    return images, {"inverted": inverted, "centred": centred}


def centre(profile: InputProfile, image: Image8, size: tuple[int, int]) -> Image8 | None:
    """Cut out what an image shows and set it as the training images have it: its size, place, and levels.

    The way in which MNIST was made from NIST's scans: scaled to a box with its aspect kept, then moved by its centre of
    mass (LeCun et al., Proceedings of the IEEE 86, 1998, section III.A).

    Args:
        image: uint8 [h, w, C]; ink brighter or darker than the background, as in training.

    Returns:
        uint8 [H, W, C]; None where nothing can be told from the background.
    """
    strength = _strength(profile, image)
    peak = float(strength.max())
    if peak < _BLANK_LEVELS:
        return None
    faint = strength <= _INK_SHARE * peak
    strokes = _without_specks(~faint)
    rows, columns = np.flatnonzero(strokes.any(axis=1)), np.flatnonzero(strokes.any(axis=0))
    ink = np.where(strokes | faint, strength, 0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    peak = float(np.median(strength[strokes & (strength > peak / 2)]))  # the inside of a stroke, not its one speck
    ink = (ink / peak).clip(0, 1)
    ink[ink < _FAINT_SHARE] = 0
    height, width = size
    scale = profile.spreads["ink_size"].typical / max(ink.shape[0] / height, ink.shape[1] / width)
    shape = [max(1, min(round(side * scale), room)) for side, room in zip(ink.shape, size, strict=True)]
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).resize(shape[::-1], Image.Resampling.BILINEAR))
    canvas = np.zeros(size, np.float32)
    top = _start(small.sum(axis=1), profile.spreads["centre_row"].typical, height)
    left = _start(small.sum(axis=0), profile.spreads["centre_column"].typical, width)
    canvas[top : top + shape[0], left : left + shape[1]] = small
    levels = profile.background + _sign(profile) * canvas * profile.ink
    return np.repeat(np.rint(levels).clip(0, 255).astype(np.uint8)[..., None], image.shape[2], axis=2)


def _sign(profile: InputProfile) -> float:
    """1 where ink is brighter than the background in training, -1 where it is darker."""
    return 1.0 if profile.spreads["brightness"].typical >= profile.background else -1.0


def _strength(profile: InputProfile, image: Image8) -> NDArray[np.float32]:
    """How far each pixel is from the image's background, in the direction of ink: float32 [h, w], 0 and more."""
    grey = image.mean(axis=2, dtype=np.float32)
    background = np.float32(np.median(border_of(grey[None])))
    strength: NDArray[np.float32] = ((grey - background) * np.float32(_sign(profile))).clip(0)
    return strength


def _without_specks(strokes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage

    pieces, _ = ndimage.label(strokes, structure=np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(_SPECK_SHARE * sizes.max(), 1))[pieces])


def _start(weight: NDArray[np.float32], centre_share: float, side: int) -> int:
    """Where along one axis to begin so that the centre of mass comes to `centre_share` of the side, all inside."""
    mass_centre = float((weight * (np.arange(len(weight)) + 0.5)).sum() / max(float(weight.sum()), 1e-9))
    return int(min(max(round(centre_share * side - mass_centre), 0), side - len(weight)))
