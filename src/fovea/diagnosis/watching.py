"""watch: a plain PyTorch loop is observed through hooks, which are gone again when the block is left."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from fovea.diagnosis import torch_facts
from fovea.diagnosis.interception import show_compilations, show_loaders, show_losses
from fovea.diagnosis.look import Seen
from fovea.diagnosis.observe import joined_signals, median_signals, spelled
from fovea.diagnosis.passes import answers_for, are_under_way, look_at
from fovea.diagnosis.record import LayerSignals, Record
from fovea.diagnosis.tell import Patient, safely
from fovea.diagnosis.watched import Course, Loss, course_facts
from fovea.errors import SettingsError

_LOOKED_AT = 3  # steps at the beginning of each pass
_EVERY = 200  # and one in so many, where a pass has no visible end
_CHECKED_STEPS = 10  # for gradients that nobody clears


def watch(
    model: Any, optimizer: Any = None, loss_fn: Any = None, data: Any = None, *, verbose: bool = True
) -> TorchPatient:
    """Watch a training loop: `with fovea.watch(model, optimizer) as patient:` and the loop as it was.

    Around a trainer (Lightning's `trainer.fit(model)`, skorch's `net.fit(x, y)`) it works as well: the optimizer is
    recognised by the weights that it holds. The losses of torch.nn are seen by themselves; one written by hand is
    passed as loss_fn, if it is a module. A compiled model is passed as what torch.compile returned.

    Args:
        model: a torch.nn.Module, from a batch of images to one row of answers an image; or a net of skorch's.
        optimizer: only so that it is known before its first step.
        loss_fn: a module, where it is not one of torch's losses.
        data: the training images and labels, as two arrays or tensors; None: what the net is given is looked at.
        verbose: whether findings are printed at the end of the block.

    Returns:
        The patient; its `findings` and its `record` are there once the block is left. It may be entered again, for a
        training of several blocks.

    Raises:
        SettingsError: for a model that is no module and holds none.
    """
    if not isinstance(model, nn.Module) and not hasattr(model, "initialize"):
        kind = type(model).__name__
        raise SettingsError(f"watch takes a torch.nn.Module or a net of skorch's, not a {kind}: pass the model itself.")
    return TorchPatient(model, optimizer, loss_fn, data, verbose)


def _hook(method: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that never breaks the training that it watches, and that is nothing while torch.compile reads along."""
    guarded = safely(method)

    @functools.wraps(method)
    def hook(self: TorchPatient, *arguments: Any) -> Any:
        return None if torch.compiler.is_compiling() else guarded(self, *arguments)

    return hook


class TorchPatient(Patient):
    """A PyTorch training while it is watched; made by `watch`."""

    def __init__(self, model: Any, optimizer: Any, loss_fn: Any, data: Any, verbose: bool) -> None:
        super().__init__(verbose)
        self.model: Any = model if isinstance(model, nn.Module) else None
        self.optimizer, self.loss_fn, self.data = optimizer, loss_fn, data
        self.course = Course()
        self._holder = None if isinstance(model, nn.Module) else model  # skorch makes its module when it fits
        self._optimizers: list[Any] = [] if optimizer is None else [optimizer]
        self._others: set[Any] = set()  # optimizers of other nets
        self._undo: list[Callable[[], Any]] = []
        self._of_model: list[Any] = []  # hooks on the model
        self._of_parts: list[Any] = []  # hooks on the model's parts, until its own forward pass is seen
        self._part_calls: list[tuple[nn.Module, torch.Tensor, Any]] = []  # since the last loss
        self._outputs: tuple[torch.Tensor, bool, bool] | None = None  # with whether it trains, and the net's mode
        self._labels: torch.Tensor | None = None  # of the batch that a loader has given last
        self._has_judged = False  # whether this batch's loss was seen
        self._first: tuple[LayerSignals, ...] = ()
        self._has_looked = False
        self._fresh: dict[str, bool] = {}
        self._seen: Mapping[str, Seen] = {}
        self._before: dict[str, torch.Tensor] = {}
        self._updates: list[tuple[LayerSignals, ...]] = []
        self._first_updates: tuple[LayerSignals, ...] = ()
        self._steps_of_pass = 0
        self._checked: nn.Parameter | None = None
        self._contribution: torch.Tensor | None = None
        self._gradient: torch.Tensor | None = None
        self._uncleared = 0

    def __enter__(self) -> TorchPatient:
        self._attach_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for undo in (*reversed(self._undo), self._detach):
            with contextlib.suppress(Exception):
                undo()
        self._undo = []
        if error is not None:
            self.unseen.append(f"the end: the block was left by {type(error).__name__}")
        self.conclude(self._record)

    @safely
    def _attach_all(self) -> None:
        self._undo += show_losses(self._loss_computed)
        self._undo += show_loaders(self._loader_begins, self._batch_given)
        self._undo += show_compilations(self._is_compiled)
        self._undo.append(register_optimizer_step_pre_hook(self._before_step).remove)
        self._undo.append(register_optimizer_step_post_hook(self._after_step).remove)
        if isinstance(self.loss_fn, nn.Module) and not type(self.loss_fn).__module__.startswith("torch.nn"):
            self._undo.append(self.loss_fn.register_forward_hook(self._own_loss).remove)
        if self._holder is not None:
            self._undo.append(register_module_forward_pre_hook(self._any_forward).remove)
        if self.model is not None:
            self._attach(self.model)

    def _attach(self, model: nn.Module) -> None:
        """Watch the forward passes of a module, and of its parts until it is seen to be called itself."""
        self.model = model
        if not any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()):
            self._of_parts = [part.register_forward_hook(self._after_part) for part in model.children()]
            hooks = (model.register_forward_pre_hook(self._before_forward),)
            self._of_model = [*hooks, model.register_forward_hook(self._after_forward)]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        smallest = min(trained, key=lambda parameter: parameter.numel(), default=None)
        if smallest is not None:
            self._checked = smallest
            self._undo.append(smallest.register_hook(self._gradient_arrives).remove)  # type: ignore[no-untyped-call]

    def _detach(self) -> None:
        """No forward pass is watched any more."""
        for handle in (*self._of_model, *self._of_parts):
            handle.remove()
        self._of_model, self._of_parts = [], []

    @_hook
    def _is_compiled(self, module: nn.Module) -> None:
        """A module compiles itself: hooks on it would be compiled too, into other kernels."""
        if self.model is not None and any(module is part for part in self.model.modules()):
            self._detach()

    @_hook
    def _any_forward(self, module: nn.Module, inputs: Any) -> None:
        """The module that skorch has made is called, or the one that a later fit has made."""
        if module is not self.model and module is getattr(self._holder, "module_", None):
            self._detach()
            self._attach(module)
            self._before_forward(module, inputs)  # hooks that are added now come into force with the next call

    @_hook
    def _after_part(self, part: nn.Module, inputs: Any, outputs: Any) -> None:
        if not are_under_way() and inputs and isinstance(inputs[0], torch.Tensor):
            made = weakref.ref(outputs) if isinstance(outputs, torch.Tensor) else None
            self._part_calls = [*self._part_calls[-1:], (part, inputs[0].detach(), made)]

    def _is_part_judged(self, answers: torch.Tensor) -> None:
        """A loss was computed: where the model's own forward was not called, its one part that was is the net."""
        calls, self._part_calls = self._part_calls, []
        if len(calls) != 1 or calls[0][2] is None or calls[0][2]() is not answers:
            return
        part, images, _ = calls[0]
        self._detach()
        self._attach(part)
        self._images_come(images, part.training and torch.is_grad_enabled())

    @_hook
    def _loader_begins(self, loader: Any) -> None:
        self._settle()
        self.course.loader_begins(loader)

    @_hook
    def _batch_given(self, batch: Any) -> None:
        self._settle()
        labels = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
        self._labels, self._has_judged = labels if isinstance(labels, torch.Tensor) else None, False

    @_hook
    def _own_loss(self, module: nn.Module, inputs: Any, value: Any) -> None:
        self._loss_computed(Loss(spelled(type(module))), value, inputs[0], inputs[1] if len(inputs) > 1 else None)

    @_hook
    def _before_forward(self, model: nn.Module, inputs: Any) -> None:
        if are_under_way() or model is not self.model:
            return
        for handle in self._of_parts:
            handle.remove()
        self._of_parts, self._part_calls = [], []
        self._settle()
        self._has_judged = False
        if inputs and isinstance(inputs[0], torch.Tensor):
            self._images_come(inputs[0], model.training and torch.is_grad_enabled())

    def _images_come(self, images: torch.Tensor, is_training: bool) -> None:
        if is_training and self.course.begins():
            self._first_updates = self._first_updates or median_signals(self._updates, 0)
            self._updates, self._steps_of_pass = [], 0
        self.course.images_given(images, is_training)
        if is_training and not self._has_looked:
            self._has_looked = True
            self._fresh = torch_facts.fresh_layers(self.model)
            self._first = self._look(images)

    @_hook
    def _after_forward(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        answers = torch_facts.answers_of(outputs)
        if not are_under_way() and model is self.model and answers is not None:
            mode = model.training
            self._outputs = answers.detach(), mode and torch.is_grad_enabled(), mode

    @safely
    def _settle(self) -> None:
        """Answers for which no loss was computed are judged by the labels that came from the loader."""
        held, labels, self._outputs = self._outputs, self._labels, None
        if held is None or labels is None:
            return
        outputs, is_training, mode = held
        if outputs.dim() == 2 and len(outputs) == len(labels) and not (is_training and self.course.loss is not None):
            self.course.judged(is_training, mode, None, outputs, labels)

    @_hook
    def _loss_computed(self, loss: Loss, value: Any, answers: Any, target: Any) -> None:
        if are_under_way() or self.model is None:
            return
        if not isinstance(answers, torch.Tensor) or not isinstance(target, torch.Tensor):
            return
        if self._of_parts:
            self._is_part_judged(answers)
        is_training = self.model.training and torch.is_grad_enabled() and answers.requires_grad
        self._outputs = None
        if self._has_judged:  # the loss of a second head, or of mixed labels
            return
        self._has_judged = True
        if is_training and self.course.loss is None:
            self.course.loss_begins(loss, answers.detach())
            self.course.ends_in_last_layer = self._ends_in(answers)
        self.course.judged(is_training, self.model.training, value, answers.detach(), target.detach())

    def _ends_in(self, answers: torch.Tensor) -> bool | None:
        """Whether the loss was given the sums of the last layer as they are."""
        if not self._seen:
            return None
        return None if answers.dim() != 2 else not bool(((answers >= 0).all() or (answers <= 0).all()).item())

    @_hook
    def _gradient_arrives(self, gradient: torch.Tensor) -> None:
        if self.course.steps < _CHECKED_STEPS:
            part = gradient.detach().clone()
            self._contribution = part if self._contribution is None else self._contribution + part

    def _is_of_model(self, optimizer: Any) -> bool:
        """Whether an optimizer holds weights of the model; those that do are remembered, in their order."""
        if any(optimizer is known for known in self._optimizers):
            return True
        if self.model is None or optimizer in self._others:
            return False
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) in held for parameter in self.model.parameters()):
            self._optimizers.append(optimizer)
            self.optimizer = self._optimizers[0]
            return True
        self._others.add(optimizer)
        return False

    @_hook
    def _before_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if not self._is_of_model(optimizer):
            return
        if optimizer is self.optimizer and self.course.steps < _CHECKED_STEPS:
            self._check_cleared()
        if self._steps_of_pass < _LOOKED_AT or self.course.steps % _EVERY == 0:
            held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            kernels = torch_facts.kernels_of(self.model).items()
            self._before = {name: weight.detach().clone() for name, weight in kernels if id(weight) in held}

    def _check_cleared(self) -> None:
        gradient = None if self._checked is None else self._checked.grad
        arrived, old = self._contribution, self._gradient
        self._contribution = None
        if gradient is None or arrived is None:
            return
        self._gradient = gradient.detach().clone()
        if old is None or torch.allclose(gradient, arrived, rtol=1e-4, atol=1e-9):
            return
        self._uncleared += int(torch.allclose(gradient, old + arrived, rtol=1e-4, atol=1e-9))

    @_hook
    def _after_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if not self._is_of_model(optimizer):
            return
        is_first, self._has_judged = optimizer is self.optimizer, False  # several on one net make one step together
        if is_first:
            self.course.stepped(optimizer.param_groups[0].get("lr"))
        kernels, before, self._before = torch_facts.kernels_of(self.model), self._before, {}
        found = tuple(
            torch_facts.kernel_signals(name, weight, kernels[name].detach(), kernels[name].grad)
            for name, weight in before.items()
            if name in kernels
        )
        if found and (is_first or not self._updates):
            self._updates = [*self._updates, found][-_LOOKED_AT:]
        elif found:
            self._updates[-1] += found
        if optimizer is self._optimizers[-1]:
            self._steps_of_pass += 1

    def _look(self, images: torch.Tensor) -> tuple[LayerSignals, ...]:
        """Signals of all leaves on some images."""
        seen, leaves = look_at(self.model, images)
        self._seen = seen or self._seen
        return torch_facts.leaf_signals(seen, leaves)

    def _record(self) -> Record:
        self._settle()
        course = self.course
        unseen = [*self.unseen, *([] if self._has_looked else ["the net: no batch of images was seen to enter it"])]
        if self.model is None:
            self.unseen += ["the training: the net was never made"] * (not self.unseen)
            return Record("torch", "net", unseen=tuple(self.unseen))
        last = self._last_outputs() or ()
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        held = {id(parameter) for group in groups for parameter in group["params"]}
        net = torch_facts.net_facts(torch_facts.uncompiled(self.model), self._seen, held or None, self._fresh)
        if not course.steps:
            unseen.append("the training: no step of an optimizer that holds weights of the model")
        if course.loss is None and course.steps:
            unseen.append("the loss: it is none of torch.nn's")
        if course.has_classes is False:
            unseen.append("labels: the net learns quantities or images, it is no classifier")
        training = torch_facts.training_facts(self.optimizer, course.batch_size)
        cleared = None if course.steps < 4 else self._uncleared < 3
        first = joined_signals(self._first, self._first_updates or median_signals(self._updates, 0))
        facts = course_facts(course, net, replace(training, gradients_cleared=cleared), self.data)
        batch = replace(facts.batch, first=first, last=joined_signals(last, median_signals(self._updates)))
        zeroed, real = self._losses_of_sample() or (None, None)
        batch = replace(batch, zeroed_loss=zeroed, real_loss=real)
        name = type(torch_facts.uncompiled(self.model)).__name__
        return replace(facts, name=name, batch=batch, unseen=tuple(dict.fromkeys([*unseen, *self.unseen])))

    @safely
    def _last_outputs(self) -> tuple[LayerSignals, ...]:
        sample = self.course.train.sample
        return () if sample is None else self._look(sample)

    @safely
    def _losses_of_sample(self) -> tuple[float, float] | None:
        """The loss on a training sample, zeroed and as it is."""
        train, name = self.course.train, None if self.course.loss is None else self.course.loss.name
        loss = {"crossentropy": nn.functional.cross_entropy, "nll": nn.functional.nll_loss}.get(name or "")
        if train.sample is None or train.sample_labels is None or loss is None or train.sample_labels.dim() != 1:
            return None
        zeroed, real = answers_for(self.model, torch.zeros_like(train.sample)), answers_for(self.model, train.sample)
        if zeroed is None or real is None:
            return None
        return float(loss(zeroed, train.sample_labels)), float(loss(real, train.sample_labels))
