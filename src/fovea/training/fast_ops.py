"""Layers of the same meaning as torch's own that train faster on a CPU.

They change a net in place and leave its parameters, their names and its answers as they are: what is saved is read
back by the plain net.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from fovea.training.kernels import IM2COL, STRIPS, TILES, strips_fit
from fovea.training.weight_gradients import Im2colConv2d, StripsConv2d


def use_fast_ops(net: nn.Module, kernels: Mapping[str, str]) -> None:
    """Exchange the layers of a net that have a faster equal.

    Args:
        kernels: names of convolutions (as in `named_modules`) -> how they or their weight gradients are computed,
            where not by torch.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Sequential):
            if TILES in kernels.values():
                _use_tiles(module, {child for child in module._modules if kernels.get(_path(name, child)) == TILES})
            _pool_before_relu(module)
        elif type(module) is nn.Dropout:
            module.__class__ = BulkDropout
        elif type(module) is nn.Conv2d and name in kernels:
            _use_kernel(module, kernels[name])


def _path(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child


class TakenOver(nn.Identity):
    """Stands where a layer was whose work the one before it does now.

    Attributes:
        plain: the kind of layer that it was.
    """

    def __init__(self, plain: type[nn.Module]) -> None:
        super().__init__()
        self.plain = plain


def _use_tiles(chain: nn.Sequential, names: Container[str]) -> None:
    """Compute the named convolutions and all batch norms by compiled kernels, each with what follows it."""
    from fovea.training.compiled.layers import TilesConv2d, convolution_fits  # numba is loaded where it is used
    from fovea.training.compiled.norms import TilesNorm2d, norm_fits

    modules = chain._modules
    order = list(modules)
    for place, name in enumerate(order):
        layer = modules[name]
        if name in names and layer is not None and convolution_fits(layer):
            layer.__class__ = TilesConv2d
        elif isinstance(layer, nn.BatchNorm2d) and norm_fits(layer):
            layer.__class__ = TilesNorm2d
        else:
            continue
        assert isinstance(layer, TilesConv2d | TilesNorm2d)
        for following in order[place + 1 : place + 3]:  # a relu and a pool, in either order
            behind = modules[following]
            if behind is None or not layer.take_over(behind):
                break
            modules[following] = TakenOver(type(behind))


def _use_kernel(module: nn.Conv2d, kernel: str) -> None:
    padded = isinstance(module.padding, tuple)
    if kernel == IM2COL and padded:
        module.__class__ = Im2colConv2d
    if kernel == STRIPS and padded and strips_fit(module.kernel_size, module.stride, module.padding):  # type: ignore[arg-type]
        module.__class__ = StripsConv2d


def _pool_before_relu(chain: nn.Sequential) -> None:
    """relu, maxpool -> maxpool, relu: a quarter of the work, the same bits, as relu never changes an order."""
    for name, following in zip(list(chain._modules), list(chain._modules)[1:], strict=False):
        pair = chain._modules[name], chain._modules[following]
        if type(pair[0]) is nn.ReLU and type(pair[1]) is nn.MaxPool2d:
            chain._modules[name], chain._modules[following] = pair[1], pair[0]


class BulkDropout(nn.Dropout):
    """Dropout whose mask is made from the bytes of random words, drawn all at once.

    torch draws one bit after the other, in one thread. The generator (SFC64) is seeded from torch's: the mask is a
    function of (seed, step) as torch's own is, though not the same one.
    """

    plain_name = "Dropout"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p in (0.0, 1.0) or x.device.type != "cpu":
            return super().forward(x)
        return x * dropout_mask(x, self.p)


def dropout_mask(like: torch.Tensor, rate: float) -> torch.Tensor:
    """0 with probability `rate`, else 1 / (1 - rate): shape, dtype and memory format of `like`.

    The rate is rounded to 1/256 where that is exact, else to 1/65536, and the scale follows the rounded rate.
    """
    bits = 8 if float(rate * 256).is_integer() else 16
    levels = 1 << bits
    threshold = round(rate * levels)
    seed = int(torch.randint(2**62, ()))
    kind: Any = np.uint8 if bits == 8 else np.uint16
    count = like.numel()
    generator = np.random.Generator(np.random.SFC64(seed))
    words = generator.integers(0, 2**64, -(-count * bits // 64), dtype=np.uint64).view(kind)[:count]
    kept = torch.from_numpy(words >= threshold)
    mask = torch.empty_like(like)  # dense, in the strides of `like`: what lies next to what does not matter
    flat = mask.as_strided((count,), (1,))
    torch.mul(kept, levels / (levels - threshold), out=flat) if threshold < levels else flat.zero_()
    return mask
