"""Affine resampling of whole batches, on the convention of Keras' ImageDataGenerator.

An output pixel (row, column) reads the input at M (row - c_row, column - c_column) + (c_row, c_column), c being the
image's middle (size / 2 - 0.5), M = rotation @ shift @ shear @ zoom in homogeneous coordinates; bilinear.
Source: keras/src/legacy/preprocessing/image.py (apply_affine_transform), Keras 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

FILL_MODES = ("nearest", "constant", "reflect", "wrap")


@dataclass(frozen=True, eq=False)
class AffineParameters:
    """One transform for each of B images, all float32 [B].

    Attributes:
        theta: rotation, degrees.
        shift_rows, shift_columns: pixels; positive values move the content up and left.
        shear: degrees.
        zoom_rows, zoom_columns: factors from output to input: 2 halves the content, .5 doubles it.
    """

    theta: torch.Tensor
    shift_rows: torch.Tensor
    shift_columns: torch.Tensor
    shear: torch.Tensor
    zoom_rows: torch.Tensor
    zoom_columns: torch.Tensor


def affine_matrices(parameters: AffineParameters) -> torch.Tensor:
    """rotation @ shift @ shear @ zoom: float32 [B, 2, 3], from output to input (row, column), about the middle."""
    theta, shear = torch.deg2rad(parameters.theta), torch.deg2rad(parameters.shear)
    cos, sin = torch.cos(theta), torch.sin(theta)
    cos_shear, sin_shear = torch.cos(shear), torch.sin(shear)
    zoom_rows, zoom_columns = parameters.zoom_rows, parameters.zoom_columns
    shift_rows, shift_columns = parameters.shift_rows, parameters.shift_columns
    # rotation @ shift has the linear part of the rotation and the rotated shift; shear = [[1, -sin], [0, cos]].
    rows = torch.stack(
        [
            cos * zoom_rows,
            (-cos * sin_shear - sin * cos_shear) * zoom_columns,
            cos * shift_rows - sin * shift_columns,
        ],
        dim=1,
    )
    columns = torch.stack(
        [
            sin * zoom_rows,
            (-sin * sin_shear + cos * cos_shear) * zoom_columns,
            sin * shift_rows + cos * shift_columns,
        ],
        dim=1,
    )
    return torch.stack([rows, columns], dim=1)


def source_positions(matrices: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The input row and column that each output pixel reads: two float32 [B, H, W]."""
    middle_row, middle_column = height / 2 - 0.5, width / 2 - 0.5
    row = torch.arange(height, dtype=torch.float32)[:, None] - middle_row
    column = torch.arange(width, dtype=torch.float32)[None, :] - middle_column

    def apply(line: torch.Tensor, middle: float) -> torch.Tensor:
        a, b, c = (line[:, i, None, None] for i in range(3))
        return a * row + (b * column + (c + middle))

    return apply(matrices[:, 0], middle_row), apply(matrices[:, 1], middle_column)


def resample(
    images: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    fill_mode: str,
    cval: float,
    interpolation: str = "bilinear",
) -> torch.Tensor:
    """Read images at fractional positions.

    Args:
        images: float32 [B, C, H, W].
        rows, columns: float32 [B, H', W'], positions in pixels; 0 is the middle of the first pixel.
        fill_mode: what lies outside: "nearest" aaa|abcd|ddd, "reflect" cba|abcd|dcb, "wrap" bcd|abcd|abc, or
            "constant", where a position outside the pixel middles gives `cval`.
        interpolation: "bilinear", or "nearest" for the nearest pixel's value.

    Returns:
        float32 [B, C, H', W'].
    """
    height, width = images.shape[2:]
    inside = None
    if fill_mode == "constant":
        slack = 1e-4  # rounding must not cut the border off an image that is not moved at all
        inside = (rows >= -slack) & (rows <= height - 1 + slack) & (columns >= -slack) & (columns <= width - 1 + slack)
    if interpolation == "nearest":
        rows, columns = (rows + 0.5).floor(), (columns + 0.5).floor()
    if fill_mode == "wrap":
        rows, columns = rows.remainder(height), columns.remainder(width)
        images = F.pad(images, (0, 1, 0, 1), mode="circular")
        height, width = height + 1, width + 1
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    padding = "reflection" if fill_mode == "reflect" else "border"
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if inside is not None:
        sampled = torch.where(inside[:, None], sampled, torch.tensor(cval, dtype=sampled.dtype))
    return sampled


def is_whole_shift(parameters: AffineParameters) -> bool:
    """Whether every transform moves its image by whole pixels and does nothing else."""
    still = (parameters.theta, parameters.shear, parameters.zoom_rows - 1, parameters.zoom_columns - 1)
    shifts = (parameters.shift_rows, parameters.shift_columns)
    return not any(bool(part.any()) for part in still) and all(torch.equal(part, part.round()) for part in shifts)


def shift_whole(images: torch.Tensor, parameters: AffineParameters, fill_mode: str, cval: float) -> torch.Tensor:
    """What `resample` gives for whole-pixel shifts, by copying: one copy for all images that move alike.

    Args:
        images: float32 [B, C, H, W].

    Returns:
        float32 [B, C, H, W].
    """
    shifts = torch.stack([parameters.shift_rows, parameters.shift_columns], dim=1).long()
    ways, group = np.unique(shifts.numpy(), axis=0, return_inverse=True)
    channels_last = images.permute(0, 2, 3, 1)  # in this order of memory whole rows are copied at once
    out = torch.empty(channels_last.shape)
    for number, (down, right) in enumerate(ways.tolist()):
        members = torch.from_numpy(np.flatnonzero(group.ravel() == number))
        moved = _moved(channels_last[members], down, 1, fill_mode, cval)
        out[members] = _moved(moved, right, 2, fill_mode, cval)
    return out.permute(0, 3, 1, 2)


def _moved(images: torch.Tensor, by: int, dim: int, fill_mode: str, cval: float) -> torch.Tensor:
    """Images [B, H, W, C] read `by` pixels further along one axis."""
    if by == 0:
        return images
    side = images.shape[dim]
    positions = torch.arange(side) + by
    moved = images.index_select(dim, _inside(positions, side, fill_mode))
    if fill_mode == "constant":
        outside = ((positions < 0) | (positions >= side)).nonzero()[:, 0]
        moved.index_fill_(dim, outside, cval)
    return moved


def _inside(positions: torch.Tensor, side: int, fill_mode: str) -> torch.Tensor:
    """Positions of an axis, those outside led back in."""
    if fill_mode == "wrap":
        return positions.remainder(side)
    if fill_mode == "reflect":
        positions = positions.remainder(2 * side)
        return torch.minimum(positions, 2 * side - 1 - positions)
    return positions.clamp(0, side - 1)
