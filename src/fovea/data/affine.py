"""Affine resampling of whole batches, on the convention of Keras' ImageDataGenerator.

With x = column and y = row from the image's middle (size / 2 - 0.5), an output pixel reads the input at
rotation @ shift @ shear @ zoom @ (x, y, 1). As complex numbers x + iy that is four products for each image.
Source: keras/src/legacy/preprocessing/image.py (apply_affine_transform), Keras 3. It takes the middle of an image that
is not square for that of its transpose; here each image turns about its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AffineParameters:
    """One transform for each of B images, all float32 [B]; in brackets the names of Keras' apply_transform.

    Attributes:
        theta: rotation, degrees; positive values turn the content counterclockwise.
        shift_rows, shift_columns: pixels (ty, tx); positive values move the content up and left.
        shear: degrees; positive values lean an upright line to the left at its upper end.
        zoom_rows, zoom_columns: factors from output to input (zy, zx): 2 halves the content, .5 doubles it.
    """

    theta: NDArray[np.float32]
    shift_rows: NDArray[np.float32]
    shift_columns: NDArray[np.float32]
    shear: NDArray[np.float32]
    zoom_rows: NDArray[np.float32]
    zoom_columns: NDArray[np.float32]


def source_positions(parameters: AffineParameters, height: int, width: int) -> torch.Tensor:
    """Where each output pixel reads: complex64 [B, H, W], column + i row from the image's middle, in pixels."""
    turn = _turn(parameters.theta)
    upright = 1j * _turn(parameters.shear)  # where shear takes the unit of y
    a_column = turn * parameters.zoom_columns
    a_row = turn * upright * parameters.zoom_rows
    middle = turn * (parameters.shift_columns + 1j * parameters.shift_rows.astype(np.float64))
    by_column = a_column[:, None] * (np.arange(width) - (width / 2 - 0.5))
    by_row = a_row[:, None] * (np.arange(height) - (height / 2 - 0.5)) + middle[:, None]
    by_column, by_row = by_column.astype(np.complex64), by_row.astype(np.complex64)
    return torch.from_numpy(by_column)[:, None, :] + torch.from_numpy(by_row)[:, :, None]


def _turn(degrees: NDArray[np.float32]) -> NDArray[np.complex128]:
    """The complex numbers of length 1 in these directions."""
    return np.exp(1j * np.deg2rad(degrees.astype(np.float64)))


def resample(
    images: torch.Tensor, positions: torch.Tensor, fill_mode: str, cval: float, interpolation: str = "bilinear"
) -> torch.Tensor:
    """Read images at fractional positions.

    Args:
        images: float32 [B, C, H, W].
        positions: complex64 [B, H', W'], see `source_positions`.
        fill_mode: what lies outside: "nearest" aaa|abcd|ddd, "reflect" cba|abcd|dcb, "wrap" bcd|abcd|abc, or
            "constant", where a position outside the pixel middles gives `cval`.
        interpolation: "bilinear", or "nearest" for the nearest pixel's value.

    Returns:
        float32 [B, C, H', W'].
    """
    read = _read_nearest if interpolation == "nearest" else _read_bilinear
    sampled = read(images, positions, fill_mode)
    if fill_mode == "constant":
        slack = 1e-4  # rounding must not cut the border off an image that is not moved at all
        most_row, most_column = (side / 2 - 0.5 + slack for side in images.shape[2:])
        off = torch.view_as_real(positions).abs()
        inside = (off[..., 0] <= most_column) & (off[..., 1] <= most_row)
        sampled = torch.where(inside[:, None], sampled, torch.tensor(cval, dtype=sampled.dtype))
    return sampled


def _read_bilinear(images: torch.Tensor, positions: torch.Tensor, fill_mode: str) -> torch.Tensor:
    height, width = images.shape[2:]
    if fill_mode == "wrap":  # one more row and column, and every position led back in
        x = (positions.real + (width / 2 - 0.5)).remainder(width) - width / 2
        y = (positions.imag + (height / 2 - 0.5)).remainder(height) - height / 2
        positions = torch.complex(x, y)
        images = F.pad(images, (0, 1, 0, 1), mode="circular")
        height, width = height + 1, width + 1
    if height == width:
        grid = torch.view_as_real(positions * (2 / width))  # from -1 to 1 over the image
    else:
        grid = torch.stack([positions.real * (2 / width), positions.imag * (2 / height)], dim=-1)
    padding = "reflection" if fill_mode == "reflect" else "border"
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _read_nearest(images: torch.Tensor, positions: torch.Tensor, fill_mode: str) -> torch.Tensor:
    height, width = images.shape[2:]
    rows = _inside((positions.imag + height / 2).floor().long(), height, fill_mode)
    columns = _inside((positions.real + width / 2).floor().long(), width, fill_mode)
    places = (rows * width + columns).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, places).view(*images.shape[:2], *positions.shape[1:])


def is_whole_shift(parameters: AffineParameters) -> bool:
    """Whether every transform moves its image by whole pixels and does nothing else."""
    if parameters.theta.any() or parameters.shear.any():
        return False
    if (parameters.zoom_rows != 1).any() or (parameters.zoom_columns != 1).any():
        return False
    return all(bool((part == part.round()).all()) for part in (parameters.shift_rows, parameters.shift_columns))


def shift_whole(images: torch.Tensor, parameters: AffineParameters, fill_mode: str, cval: float) -> torch.Tensor:
    """What `resample` gives for whole-pixel shifts, by copying: one copy for all images that move alike.

    Args:
        images: float32 [B, C, H, W].

    Returns:
        float32 [B, C, H, W].
    """
    shifts = np.stack([parameters.shift_rows, parameters.shift_columns], axis=1).astype(np.int64)
    ways, group = np.unique(shifts, axis=0, return_inverse=True)
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
