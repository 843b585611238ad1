"""Batch norms in training, with the activation that follows, by compiled kernels; and a layer that uses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import carray
from torch import nn
from torch.autograd.function import once_differentiable

from fovea.training.compiled.compiler import compiled, kernel
from fovea.training.compiled.norm_rows import activation_gradient_rows, add_moments, combine_rows, normalized_rows
from fovea.training.compiled.plans import BLOCK
from fovea.training.compiled.threads import run, share, thread_number
from fovea.training.compiled.vectors import at

_NONE, _RELU, _SILU = range(3)
_ACTIVATIONS: dict[type, int] = {nn.ReLU: _RELU, nn.SiLU: _SILU}
_ROWS = 64  # positions of one go: with all their channels they stay in the nearest caches
_plain, _relu, _silu = (normalized_rows(name) for name in ("none", "relu", "silu"))
_plain_slope, _relu_slope, _silu_slope = (activation_gradient_rows(name) for name in ("none", "relu", "silu"))


@compiled
def _own_sums(parts: int, totals: int, channels: int) -> tuple[Any, Any]:
    """This thread's two float32 and two float64 sums of each channel, cleared."""
    own = carray(at(parts + thread_number() * 8 * channels), (2, channels), np.float32)
    whole = carray(at(totals + thread_number() * 16 * channels), (2, channels), np.float64)
    own[:] = 0
    whole[:] = 0
    return own, whole


@compiled
def _take_up(parts: Any, totals: Any) -> None:
    """Add the float32 sums of some rows to the float64 sums of all, and clear them."""
    for kind in range(2):
        for channel in range(parts.shape[1]):
            totals[kind, channel] += parts[kind, channel]
            parts[kind, channel] = 0


@kernel
def _moments(data: Any) -> None:
    n = carray(data, (6,), np.int64)
    positions, channels, x, shift = n[0], n[1], n[2], n[3]
    parts, totals = _own_sums(n[4], n[5], channels)
    begin, end = share(positions)
    for first in range(begin, end, _ROWS):
        count = min(_ROWS, end - first)
        for channel in range(0, channels, BLOCK):
            place = parts.ctypes.data + 4 * channel
            row = x + 2 * (first * channels + channel)
            add_moments(row, count, 2 * channels, shift + 4 * channel, place, place + 4 * channels)
        _take_up(parts, totals)


@kernel
def _normalize(data: Any) -> None:
    n = carray(data, (7,), np.int64)
    positions, channels, x, scale, offset, out, activation = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    begin, end = share(positions)
    for first in range(begin, end, _ROWS):
        count = min(_ROWS, end - first)
        for channel in range(0, channels, BLOCK):
            away = 2 * (first * channels + channel)
            factor, added = scale + 4 * channel, offset + 4 * channel
            if activation == _NONE:
                _plain(x + away, count, 2 * channels, factor, added, out + away)
            elif activation == _RELU:
                _relu(x + away, count, 2 * channels, factor, added, out + away)
            else:
                _silu(x + away, count, 2 * channels, factor, added, out + away)


@kernel
def _gradient_sums(data: Any) -> None:
    n = carray(data, (11,), np.int64)
    positions, channels, gradient, x, scale, offset, mean = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    out, activation, step = n[7], n[8], 2 * channels
    parts, totals = _own_sums(n[9], n[10], channels)
    begin, end = share(positions)
    for first in range(begin, end, _ROWS):
        count = min(_ROWS, end - first)
        for channel in range(0, channels, BLOCK):
            away, place = 2 * (first * channels + channel), parts.ctypes.data + 4 * channel
            factor, added, middle = scale + 4 * channel, offset + 4 * channel, mean + 4 * channel
            behind, row, before, product = gradient + away, x + away, out + away, place + 4 * channels
            if activation == _NONE:
                _plain_slope(behind, row, count, step, factor, added, middle, before, place, product)
            elif activation == _RELU:
                _relu_slope(behind, row, count, step, factor, added, middle, before, place, product)
            else:
                _silu_slope(behind, row, count, step, factor, added, middle, before, place, product)
        _take_up(parts, totals)


@kernel
def _combine(data: Any) -> None:
    n = carray(data, (7,), np.int64)
    positions, channels, x, of_out, of_x, offset, out = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
    begin, end = share(positions)
    for first in range(begin, end, _ROWS):
        count = min(_ROWS, end - first)
        for channel in range(0, channels, BLOCK):
            away, place = 2 * (first * channels + channel), 4 * channel
            combine_rows(x + away, count, 2 * channels, of_out + place, of_x + place, offset + place, out + away)


@kernel
def _finish_moments(data: Any) -> None:
    """Mean, 1 / deviation, scale and offset of each channel; the running statistics move towards the batch's."""
    n = carray(data, (11,), np.int64)
    positions, channels = n[0], n[1]
    totals = carray(at(n[2]), (n[3], 2, channels), np.float64)
    weight, bias = carray(at(n[4]), (channels,), np.float32), carray(at(n[5]), (channels,), np.float32)
    shift = carray(at(n[6]), (channels,), np.float32)
    running = carray(at(n[7]), (channels,), np.float32), carray(at(n[8]), (channels,), np.float32)
    constants, facts = carray(at(n[9]), (2,), np.float64), carray(at(n[10]), (4, channels), np.float32)
    momentum, epsilon = constants[0], constants[1]
    for channel in range(channels):
        first = totals[:, 0, channel].sum() / positions
        variance = max(totals[:, 1, channel].sum() / positions - first * first, 0.0)
        mean = first + shift[channel]
        inverse = 1 / np.sqrt(variance + epsilon)
        facts[0, channel], facts[1, channel] = mean, inverse
        facts[2, channel] = weight[channel] * inverse
        facts[3, channel] = bias[channel] - mean * weight[channel] * inverse
        running[0][channel] += momentum * (mean - running[0][channel])
        running[1][channel] += momentum * (variance * positions / max(positions - 1, 1) - running[1][channel])


@kernel
def _finish_gradients(data: Any) -> None:
    """The gradients of weight and bias, and of what dx is made: dx = scale * dz + of_x * x + added."""
    n = carray(data, (7,), np.int64)
    positions, channels = n[0], n[1]
    totals = carray(at(n[2]), (n[3], 2, channels), np.float64)
    facts, found = carray(at(n[4]), (4, channels), np.float32), carray(at(n[5]), (4, channels), np.float32)
    for channel in range(channels):
        mean, inverse, scale = facts[0, channel], facts[1, channel], facts[2, channel]
        of_bias, of_weight = totals[:, 0, channel].sum(), totals[:, 1, channel].sum() * inverse
        of_x = -scale * inverse * of_weight / positions
        found[0, channel], found[1, channel] = of_weight, of_bias
        found[2, channel], found[3, channel] = of_x, -scale * of_bias / positions - of_x * mean


def _work(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    threads = torch.get_num_threads()
    parts = torch.empty(threads, 2, channels, dtype=torch.float32)
    return parts, torch.zeros(threads, 2, channels, dtype=torch.float64)


def norm_fits(norm: nn.BatchNorm2d) -> bool:
    """Whether the kernels compute such a batch norm."""
    plain = type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None
    return plain and norm.num_features % BLOCK == 0 and norm.weight.dtype == torch.float32


class TilesNorm2d(nn.BatchNorm2d):
    """A batch norm and, where `activation` says so, what follows it; faster in training."""

    plain_name = "BatchNorm2d"
    activation = _NONE

    def take_over(self, following: nn.Module | None) -> bool:
        """Do what the layer behind this one does, too; False where that cannot be."""
        if self.activation != _NONE or type(following) not in _ACTIVATIONS:
            return False
        self.activation = _ACTIVATIONS[type(following)]
        return True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plain = x.dtype == torch.bfloat16 and x.device.type == "cpu" and self.weight.dtype == torch.float32
        if self.training and torch.is_grad_enabled() and plain:
            x = x.contiguous(memory_format=torch.channels_last)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            out: torch.Tensor = _Norm.apply(x, self.weight, self.bias, self, self.activation)  # type: ignore[no-untyped-call]
            return out
        x = super().forward(x)
        if self.activation == _NONE:
            return x
        return F.silu(x) if self.activation == _SILU else F.relu(x)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: Any, activation: int
    ) -> torch.Tensor:
        positions, channels = x.numel() // x.shape[1], x.shape[1]
        running = layer.running_mean, layer.running_var
        parts, totals = _work(channels)
        # Near the running mean squares lose no digits; one that has become infinite must not spoil later batches.
        shift = torch.where(running[0].isfinite(), running[0], 0)
        run(_moments, [positions, channels, *_addresses(x, shift, parts, totals)])
        facts = torch.empty(4, channels, dtype=torch.float32)
        constants = torch.tensor([layer.momentum, layer.eps], dtype=torch.float64)
        given = _addresses(weight, bias, shift, *running, constants, facts)
        run(_finish_moments, [positions, channels, totals.data_ptr(), len(totals), *given], threads=1)
        out, row = torch.empty_like(x), 4 * channels
        scale, offset = facts.data_ptr() + 2 * row, facts.data_ptr() + 3 * row
        run(_normalize, [positions, channels, x.data_ptr(), scale, offset, out.data_ptr(), activation])
        ctx.save_for_backward(x, facts)
        ctx.activation = activation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, facts = ctx.saved_tensors
        positions, channels = x.numel() // x.shape[1], x.shape[1]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        out, row = torch.empty_like(x), 4 * channels
        parts, totals = _work(channels)
        mean, scale, offset = (facts.data_ptr() + number * row for number in (0, 2, 3))
        given = [*_addresses(gradient, x), scale, offset, mean, out.data_ptr(), ctx.activation]
        run(_gradient_sums, [positions, channels, *given, *_addresses(parts, totals)])
        found = torch.empty(4, channels, dtype=torch.float32)
        sums = [totals.data_ptr(), len(totals)]
        run(_finish_gradients, [positions, channels, *sums, *_addresses(facts, found)], threads=1)
        of_x, added = found.data_ptr() + 2 * row, found.data_ptr() + 3 * row
        run(_combine, [positions, channels, x.data_ptr(), scale, of_x, added, out.data_ptr()])
        return out, found[0], found[1], None, None


def _addresses(*tensors: torch.Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
