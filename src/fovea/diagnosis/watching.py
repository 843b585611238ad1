"""watch: a plain PyTorch loop is observed through hooks, which are gone again when the block is left."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from fovea.diagnosis import torch_facts
from fovea.diagnosis.observe import SAMPLE, joined_signals, median_signals, spelled
from fovea.diagnosis.record import LayerSignals, Record
from fovea.diagnosis.tell import Patient
from fovea.diagnosis.watched import Course, Loss, course_facts

# What torch.nn.functional looks up at each call, so that a loss is seen however it was imported: (where, name) -> the
# loss, whether it applies the softmax or sigmoid itself, and at which argument it is told to sum or to average.
_LOSSES = {
    (torch._C._nn, "cross_entropy_loss"): ("crossentropy", True, 3),
    (torch._C._nn, "nll_loss_nd"): ("nll", False, 3),
    (torch._C._nn, "mse_loss"): ("meansquarederror", False, 2),
    (torch._C._nn, "l1_loss"): ("meanabsoluteerror", False, 2),
    (torch._C._nn, "binary_cross_entropy"): ("binarycrossentropy", False, 3),
    (torch, "binary_cross_entropy_with_logits"): ("binarycrossentropy", True, 4),
}
_SMOOTHING = 5  # the argument of cross_entropy_loss
_REDUCTIONS = ("none", "mean", "sum")
_LOOKED_AT = 3  # steps at the beginning of each pass
_EVERY = 200  # and one in so many, where a pass has no visible end
_AT_ONCE = 128  # images that the doctor's own passes use
_SIGNAL_VALUES = 20_000_000  # of outputs that are held at once
_CHECKED_STEPS = 10  # for gradients that nobody clears


def watch(
    model: nn.Module, optimizer: Any = None, loss_fn: Any = None, data: Any = None, *, verbose: bool = True
) -> TorchPatient:
    """Watch a training loop: `with fovea.watch(model, optimizer) as patient:` and the loop as it was.

    Around a trainer (Lightning's `trainer.fit(model)`, skorch's `net.fit` after `net.initialize()`) it works as well:
    the optimizer is recognised by the weights that it holds. The losses of torch.nn are seen by themselves; one written
    by hand is passed as loss_fn, if it is a module.

    Args:
        model: from a batch of images to one row of answers an image.
        optimizer: only so that it is known before its first step.
        loss_fn: a module, where it is not one of torch's losses.
        data: the training images and labels, as two arrays or tensors; None: what the net is given is looked at.
        verbose: whether findings are printed at the end of the block.

    Returns:
        The patient; its `findings` and its `record` are there once the block is left.
    """
    return TorchPatient(model, optimizer, loss_fn, data, verbose)


def _safely(method: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that never breaks the training it watches: what fails is noted and left out."""

    @functools.wraps(method)
    def guarded(self: TorchPatient, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except Exception as error:
            note = f"{method.__name__.strip('_').replace('_', ' ')}: {type(error).__name__}: {error}"[:200]
            if note not in self.unseen:
                self.unseen.append(note)

    return guarded


class TorchPatient(Patient):
    """A PyTorch training while it is watched; made by `watch`."""

    def __init__(self, model: nn.Module, optimizer: Any, loss_fn: Any, data: Any, verbose: bool) -> None:
        super().__init__(verbose)
        self.model, self.optimizer, self.loss_fn, self.data = model, optimizer, loss_fn, data
        self.unseen: list[str] = []
        self.course = Course()
        self._undo: list[Callable[[], Any]] = []
        self._own_pass = False  # the doctor's own forward passes are not part of the training
        self._outputs: tuple[torch.Tensor, bool, bool] | None = None  # with whether it trains, and the net's mode
        self._labels: torch.Tensor | None = None  # of the batch that a loader has given last
        self._first: tuple[LayerSignals, ...] = ()
        self._has_looked = False
        self._fresh: dict[str, bool] = {}
        self._seen: dict[str, torch_facts.Seen] = {}
        self._before: dict[str, torch.Tensor] = {}
        self._updates: list[tuple[LayerSignals, ...]] = []
        self._first_updates: tuple[LayerSignals, ...] = ()
        self._steps_of_pass = 0
        self._contribution: torch.Tensor | None = None
        self._gradient: torch.Tensor | None = None
        self._uncleared = 0

    def __enter__(self) -> TorchPatient:
        model = self.model
        self._undo = [
            model.register_forward_pre_hook(self._before_forward).remove,
            model.register_forward_hook(self._after_forward).remove,
            register_optimizer_step_pre_hook(self._before_step).remove,
            register_optimizer_step_post_hook(self._after_step).remove,
        ]
        for (owner, name), (known, from_logits, place) in _LOSSES.items():
            if hasattr(owner, name):
                self._wrap(owner, name, self._watched_loss(known, from_logits, place))
        self._wrap(DataLoader, "__iter__", self._watched_loader())
        if isinstance(self.loss_fn, nn.Module) and not type(self.loss_fn).__module__.startswith("torch.nn"):
            self._undo.append(self.loss_fn.register_forward_hook(self._own_loss).remove)
        smallest = min((p for p in model.parameters() if p.requires_grad), key=lambda p: p.numel(), default=None)
        if smallest is not None:
            self._checked = smallest
            handle = smallest.register_hook(self._gradient_arrives)  # type: ignore[no-untyped-call]
            self._undo.append(handle.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo = []
        if error is not None:
            self.unseen.append(f"the end: the block was left by {type(error).__name__}")
        with contextlib.suppress(Exception) if error is not None else contextlib.nullcontext():
            self.finish(self._record())

    def _wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        setattr(owner, name, make(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def _watched_loss(self, known: str, from_logits: bool, place: int) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            @functools.wraps(original)
            def loss(*arguments: Any, **named: Any) -> Any:
                value = original(*arguments, **named)
                self._loss_computed(Loss(known, from_logits, *_options(arguments, place)), value, *arguments[:2])
                return value

            return loss

        return make

    def _watched_loader(self) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            @functools.wraps(original)
            def batches(loader: Any) -> Iterator[Any]:
                inner = original(loader)
                self._loader_begins(loader)
                return _Batches(inner, self._batch_given)

            return batches

        return make

    @_safely
    def _loader_begins(self, loader: Any) -> None:
        self._settle()
        self.course.loader_begins(loader)

    @_safely
    def _batch_given(self, batch: Any) -> None:
        self._settle()
        labels = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
        self._labels = labels if isinstance(labels, torch.Tensor) else None

    @_safely
    def _own_loss(self, module: nn.Module, inputs: Any, value: Any) -> None:
        self._loss_computed(Loss(spelled(type(module))), value, inputs[0], inputs[1] if len(inputs) > 1 else None)

    @_safely
    def _before_forward(self, model: nn.Module, inputs: Any) -> None:
        if self._own_pass:
            return
        self._settle()
        images = inputs[0] if inputs and isinstance(inputs[0], torch.Tensor) else None
        if images is None:
            return
        is_training = model.training and torch.is_grad_enabled()
        if is_training and self.course.begins(self._labels):
            self._first_updates = self._first_updates or median_signals(self._updates, 0)
            self._updates, self._steps_of_pass = [], 0
        self.course.images_given(images, is_training)
        if is_training and not self._has_looked:
            self._has_looked = True
            self._fresh = torch_facts.fresh_layers(self.model)
            self._first = self._look(images)

    @_safely
    def _after_forward(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        if not self._own_pass and isinstance(outputs, torch.Tensor):
            mode = model.training
            self._outputs = outputs.detach(), mode and torch.is_grad_enabled(), mode

    def _settle(self) -> None:
        """Answers for which no loss was computed are judged by the labels that came from the loader."""
        held, labels, self._outputs = self._outputs, self._labels, None
        if held is None or labels is None:
            return
        outputs, is_training, mode = held
        if outputs.dim() == 2 and len(outputs) == len(labels) and not is_training:
            self.course.judged(False, mode, None, outputs, labels)

    @_safely
    def _loss_computed(self, loss: Loss, value: Any, answers: Any, target: Any) -> None:
        if self._own_pass or not isinstance(answers, torch.Tensor) or not isinstance(target, torch.Tensor):
            return
        is_training = self.model.training and torch.is_grad_enabled() and answers.requires_grad
        self._outputs = None
        if is_training and self.course.loss is None:
            self.course.loss_begins(loss, answers.detach())
            self.course.ends_in_last_layer = self._ends_in(answers)
        self.course.judged(is_training, self.model.training, value, answers.detach(), target.detach())

    def _ends_in(self, answers: torch.Tensor) -> bool | None:
        """Whether the loss was given the sums of the last layer as they are."""
        if not self._seen:
            return None
        return None if answers.dim() != 2 else not bool(((answers >= 0).all() or (answers <= 0).all()).item())

    @_safely
    def _gradient_arrives(self, gradient: torch.Tensor) -> None:
        if self.course.steps < _CHECKED_STEPS:
            part = gradient.detach().clone()
            self._contribution = part if self._contribution is None else self._contribution + part

    def _holds_the_model(self, optimizer: Any) -> bool:
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return any(id(parameter) in held for parameter in self.model.parameters())

    @_safely
    def _before_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if optimizer is not self.optimizer:
            if not self._holds_the_model(optimizer):
                return
            self.optimizer = optimizer
        if self.course.steps < _CHECKED_STEPS:
            self._check_cleared()
        if self._steps_of_pass < _LOOKED_AT or self.course.steps % _EVERY == 0:
            kernels = torch_facts.kernels_of(self.model)
            self._before = {name: weight.detach().clone() for name, weight in kernels.items()}

    def _check_cleared(self) -> None:
        gradient, arrived, old = self._checked.grad, self._contribution, self._gradient
        self._contribution = None
        if gradient is None or arrived is None:
            return
        self._gradient = gradient.detach().clone()
        if old is None or torch.allclose(gradient, arrived, rtol=1e-4, atol=1e-9):
            return
        self._uncleared += int(torch.allclose(gradient, old + arrived, rtol=1e-4, atol=1e-9))

    @_safely
    def _after_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if optimizer is not self.optimizer:
            return
        self.course.stepped(optimizer.param_groups[0].get("lr"))
        self._steps_of_pass += 1
        if not self._before:
            return
        kernels, before, self._before = torch_facts.kernels_of(self.model), self._before, {}
        found = [
            torch_facts.kernel_signals(name, before[name], weight.detach(), weight.grad)
            for name, weight in kernels.items()
        ]
        self._updates = [*self._updates, tuple(found)][-_LOOKED_AT:]

    @contextlib.contextmanager
    def _apart(self) -> Iterator[None]:
        """A pass of the doctor's own, in evaluation mode: nothing of the training is changed by it."""
        modes = {name: module.training for name, module in self.model.named_modules()}
        self._own_pass = True
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                self.model.eval()
                yield
        finally:
            self._own_pass = False
            for name, module in self.model.named_modules():
                module.training = modes[name]

    def _look(self, images: torch.Tensor) -> tuple[LayerSignals, ...]:
        """Signals of all leaves on some images."""
        leaves, images = torch_facts.leaves(self.model), images.detach()
        seen: dict[str, torch_facts.Seen] = {}
        handles = [module.register_forward_hook(torch_facts.noting(name, seen)) for name, module in leaves.items()]
        try:
            with self._apart():
                self.model(images[:_AT_ONCE])
                size = sum(each.outputs[0].numel() for each in seen.values() if len(each.outputs))
                most = min(SAMPLE, len(images), _SIGNAL_VALUES // max(size, 1))
                for start in range(_AT_ONCE, most, _AT_ONCE):
                    self.model(images[start : start + _AT_ONCE])
        finally:
            for handle in handles:
                handle.remove()
        self._seen = seen or self._seen
        return torch_facts.leaf_signals(seen, leaves)

    def _answers(self, images: torch.Tensor) -> torch.Tensor | None:
        """The model's answers for a sample."""
        with self._apart():
            starts = range(0, len(images), _AT_ONCE)
            found = [self.model(images[start : start + _AT_ONCE]) for start in starts]
            return torch.cat(found) if all(isinstance(each, torch.Tensor) for each in found) else None

    def _record(self) -> Record:
        self._settle_at_end()
        course = self.course
        last = self._last_look()
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        optimized = {id(parameter) for group in groups for parameter in group["params"]} if groups else None
        net = torch_facts.net_facts(self.model, self._seen, optimized, self._fresh)
        if not course.steps:
            self.unseen.append("the training: no step of an optimizer that holds weights of the model")
        if course.loss is None and course.steps:
            self.unseen.append("the loss: it is none of torch.nn's")
        training = torch_facts.training_facts(self.optimizer, course.batch_size)
        cleared = None if course.steps < 4 else self._uncleared < 3
        first = joined_signals(self._first, self._first_updates or median_signals(self._updates, 0))
        facts = course_facts(course, net, replace(training, gradients_cleared=cleared), self.data)
        batch = replace(facts.batch, first=first, last=joined_signals(last, median_signals(self._updates)))
        zeroed, real = self._zeroed()
        batch = replace(batch, zeroed_loss=zeroed, real_loss=real)
        name = type(self.model).__name__
        return replace(facts, name=name, batch=batch, unseen=tuple(self.unseen))

    @_safely
    def _settle_at_end(self) -> None:
        self._settle()

    @_safely
    def _last_outputs(self) -> tuple[LayerSignals, ...]:
        sample = self.course.train.sample
        return () if sample is None else self._look(sample)

    def _last_look(self) -> tuple[LayerSignals, ...]:
        return self._last_outputs() or ()

    @property
    def _loss_name(self) -> str:
        return "" if self.course.loss is None else self.course.loss.name or ""

    def _zeroed(self) -> tuple[float | None, float | None]:
        """The loss on a training sample, zeroed and as it is."""
        return self._losses_of_sample() or (None, None)

    @_safely
    def _losses_of_sample(self) -> tuple[float, float] | None:
        train = self.course.train
        loss = {"crossentropy": nn.functional.cross_entropy, "nll": nn.functional.nll_loss}.get(self._loss_name)
        if train.sample is None or train.sample_labels is None or loss is None or train.sample_labels.dim() != 1:
            return None
        zeroed, real = self._answers(torch.zeros_like(train.sample)), self._answers(train.sample)
        if zeroed is None or real is None:
            return None
        return float(loss(zeroed, train.sample_labels)), float(loss(real, train.sample_labels))


def _options(arguments: tuple[Any, ...], place: int) -> tuple[str | None, float | None, bool]:
    """Of a loss's arguments: how it reduces, its label smoothing, whether classes are weighted."""
    reduction = arguments[place] if len(arguments) > place else None
    known = _REDUCTIONS[reduction] if isinstance(reduction, int) and 0 <= reduction < 3 else None
    smoothing = arguments[_SMOOTHING] if len(arguments) > _SMOOTHING else None
    weight = arguments[2] if place > 2 and len(arguments) > 2 else None
    return known, smoothing if isinstance(smoothing, float) else None, weight is not None


class _Batches:
    """An iterator over batches that shows each one before it is handed on."""

    def __init__(self, inner: Any, show: Callable[[Any], Any]) -> None:
        self._inner, self._show = inner, show

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        batch = next(self._inner)
        self._show(batch)
        return batch

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
