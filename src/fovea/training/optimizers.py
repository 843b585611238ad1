"""Optimizers: torch's own where it has them, and Muon."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fovea.registry import Registry
from fovea.settings import OptimizerSettings
from fovea.training.fast_ops import TakenOver

ParamGroups = list[dict[str, Any]]

FLOAT32_ROWS = 64  # up to so many rows or columns a product in float32 ends before one in bfloat16 has begun


def newton_schulz(gradient: torch.Tensor, num_iterations: int = 3) -> torch.Tensor:
    """An approximately orthogonal matrix of the same row and column space.

    Args:
        gradient: float32 or bfloat16 [M, N]; it computes in that.

    Source: the quintic iteration of Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: torch.Tensor = gradient / (gradient.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(num_iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(Optimizer):
    """Momentum whose update is orthogonalised, for convolution kernels [C_out, C_in, kH, kW] and matrices.

    Groups with `renormalize` set are scaled to the norm sqrt(C_out) before each update, for kernels whose scale a
    batch norm undoes anyway. `dtype` is what it orthogonalises in, small matrices always in float32: updates are rough
    by design, and bfloat16 is twice as fast where the CPU has it. Source: Jordan, airbench94_muon (arXiv 2404.00498 and
    its repository).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.24,
        momentum: float = 0.6,
        nesterov: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": 0.0,
            "renormalize": False,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"]
        torch.add(gradient, buffer, alpha=group["momentum"], out=buffer)
        direction = gradient.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
        if group["renormalize"]:
            parameter.mul_(len(parameter) ** 0.5 / (parameter.norm() + 1e-7))
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        order = _memory_order(parameter)
        matrix = direction.permute(order).flatten(1)
        kind = self.dtype if min(matrix.shape) > FLOAT32_ROWS else torch.float32
        ours = parameter.permute(order)
        ours.add_(newton_schulz(matrix.to(kind)).view_as(ours), alpha=-group["lr"])


def _memory_order(kernel: torch.Tensor) -> tuple[int, ...]:
    """The dimensions as they lie in memory: a matrix of it is no copy, and any order of its columns is as good."""
    is_last = kernel.dim() == 4 and kernel.is_contiguous(memory_format=torch.channels_last)
    return (0, 2, 3, 1) if is_last else tuple(range(kernel.dim()))


def _decay_groups(parameters: Iterable[torch.Tensor], weight_decay: float) -> ParamGroups:
    """Kernels and matrices decay, biases and norms do not."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _without_compiler() -> None:
    """Keep torch's optimizers from importing its compiler, which takes longer than many a training here."""
    if "torch._dynamo" in sys.modules:
        return
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        plain = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if plain is not None:  # torch remembers there what to call instead, once it has imported the compiler
            setattr(plain, "__dynamo_disable", plain)


def _eager(kind: Any) -> Any:
    """A class of torch.optim whose steps, too, do not import the compiler: torch's own code, without its wrapper."""
    step = inspect.unwrap(kind.step)

    @torch.no_grad()
    def eager_step(optimizer: Any, closure: Callable[[], float] | None = None) -> Any:
        return step(optimizer, closure)

    return type(kind.__name__, (kind,), {"step": eager_step, "__doc__": kind.__doc__})


def _sgd(net: nn.Module, settings: OptimizerSettings, lr: float, _: str) -> list[Optimizer]:
    momentum = 0.9 if settings.momentum is None else settings.momentum
    groups = _decay_groups(net.parameters(), settings.weight_decay)
    nesterov = settings.nesterov and momentum > 0
    return [_eager(torch.optim.SGD)(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)]


def _adam(net: nn.Module, settings: OptimizerSettings, lr: float, _: str) -> list[Optimizer]:
    betas = (settings.beta_1, settings.beta_2)
    groups = _decay_groups(net.parameters(), settings.weight_decay)
    return [_eager(torch.optim.Adam)(groups, lr=lr, betas=betas, eps=settings.epsilon, fused=True)]


def _adamw(net: nn.Module, settings: OptimizerSettings, lr: float, _: str) -> list[Optimizer]:
    betas = (settings.beta_1, settings.beta_2)
    groups = _decay_groups(net.parameters(), settings.weight_decay)
    return [_eager(torch.optim.AdamW)(groups, lr=lr, betas=betas, eps=settings.epsilon, fused=True)]


class FusedRMSprop(Optimizer):
    """torch.optim.RMSprop without momentum in one pass over memory, by the fused kernel of Adam.

    Adam without a first moment (beta_1 = 0) and without its correction of the beginning is RMSprop: after very many
    steps the correction is 1, so that is the number of steps the kernel is told.
    """

    def __init__(self, params: Iterable[Any], lr: float, alpha: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "FusedRMSprop takes no closure"
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in trained:
                if "square_avg" not in self.state[parameter]:
                    self.state[parameter]["square_avg"] = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in trained]
            torch._fused_adam_(
                trained,
                gradients,
                gradients,  # without memory the first moment is the gradient
                [self.state[parameter]["square_avg"] for parameter in trained],
                [],
                [torch.full((), 1e12, device=parameter.device) for parameter in trained],
                lr=group["lr"],
                beta1=0.0,
                beta2=group["alpha"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )


def _rmsprop(net: nn.Module, settings: OptimizerSettings, lr: float, _: str) -> list[Optimizer]:
    groups = _decay_groups(net.parameters(), settings.weight_decay)
    momentum = settings.momentum or 0.0
    if momentum == 0:
        return [FusedRMSprop(groups, lr=lr, alpha=settings.rho, eps=settings.epsilon)]
    return [_eager(torch.optim.RMSprop)(groups, lr=lr, alpha=settings.rho, eps=settings.epsilon, momentum=momentum)]


REST_LR_SHARE = 0.05  # the rate of Adam on biases, norms and the head, as a share of Muon's


def kernels_before_norms(net: nn.Module) -> set[int]:
    """The ids of convolution kernels whose scale a batch norm right behind them (or behind their pool) undoes."""
    found = set()
    for chain in net.modules():
        if not isinstance(chain, nn.Sequential):
            continue
        modules = [module for module in chain if not _is_pool(module)]
        for module, following in itertools.pairwise(modules):
            if isinstance(module, nn.Conv2d) and module.bias is None and isinstance(following, nn.BatchNorm2d):
                found.add(id(module.weight))
    return found


def _is_pool(module: nn.Module) -> bool:
    kind = module.plain if isinstance(module, TakenOver) else type(module)
    return issubclass(kind, nn.MaxPool2d | nn.AvgPool2d)


def _muon(net: nn.Module, settings: OptimizerSettings, lr: float, precision: str) -> list[Optimizer]:
    """Muon on the convolution kernels, Adam on everything else."""
    free = kernels_before_norms(net)
    kernels = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d) and m.weight.requires_grad]
    ids = {id(weight) for weight in kernels}
    rest = _decay_groups([p for p in net.parameters() if id(p) not in ids], settings.weight_decay)
    momentum = 0.6 if settings.momentum is None else settings.momentum
    groups: ParamGroups = [
        {"params": [w for w in kernels if id(w) in free], "renormalize": True},
        {"params": [w for w in kernels if id(w) not in free], "weight_decay": settings.weight_decay},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[Optimizer] = []
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if groups:
        optimizers.append(Muon(groups, lr=lr, momentum=momentum, nesterov=settings.nesterov, dtype=dtype))
    if rest:
        betas = (settings.beta_1, settings.beta_2)
        optimizers.append(
            _eager(torch.optim.Adam)(rest, lr=lr * REST_LR_SHARE, betas=betas, eps=settings.epsilon, fused=True)
        )
    return optimizers


Maker = Callable[[nn.Module, OptimizerSettings, float, str], list[Optimizer]]

# Name -> (maker, its learning rate where none is set).
OPTIMIZERS: Registry[tuple[Maker, float]] = Registry(
    "optimizer",
    {
        "sgd": (_sgd, 0.05),
        "adam": (_adam, 0.001),
        "adamw": (_adamw, 0.001),
        "rmsprop": (_rmsprop, 0.001),
        "muon": (_muon, 0.05),
    },
)


def make_optimizers(net: nn.Module, settings: OptimizerSettings, precision: str = "fp32") -> list[Optimizer]:
    """The optimizers of complete settings; each group remembers its full rate as `base_lr`.

    Args:
        precision: of the forward pass, "fp32" or "bf16"; Muon follows it.
    """
    assert settings.lr is not None
    _without_compiler()
    make, _ = OPTIMIZERS[settings.name]
    optimizers = make(net, settings, settings.lr, precision)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Set every group to its full rate times `factor`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
