"""Course: what a watched PyTorch training did, pass by pass, and what of it goes into the record."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import RandomSampler, SequentialSampler

from fovea.data.imageset import spread_rows
from fovea.diagnosis.observe import (
    SAMPLE,
    as_array,
    class_indices,
    class_recalls,
    image_facts,
    with_labels,
)
from fovea.diagnosis.record import (
    BatchFacts,
    CurveFacts,
    EvaluationFacts,
    NetFacts,
    Record,
    SplitFacts,
    TrainingFacts,
)

_MOST_LABELS = 2_000_000  # of one pass that are kept


@dataclass(eq=False)
class Pass:
    """Sums over one pass through training or validation images; kept as tensors, so that nothing waits for them."""

    loss_sum: Any = 0.0
    losses: int = 0
    right: Any = 0
    count: int = 0
    kept: int = 0
    labels: list[torch.Tensor] = field(default_factory=list)
    predicted: list[torch.Tensor] = field(default_factory=list)

    def add(self, loss: Any, answers: torch.Tensor, labels: torch.Tensor) -> None:
        """One batch; `loss` None where none was computed."""
        if isinstance(loss, torch.Tensor) and loss.dim() == 0:
            self.loss_sum, self.losses = self.loss_sum + loss.detach(), self.losses + 1
        true = labels.argmax(dim=1) if labels.dim() == 2 and labels.shape[1] > 1 else labels.reshape(-1)
        if answers.dim() == 2 and len(true) == len(answers):
            given = answers.argmax(dim=1) if answers.shape[1] > 1 else (answers[:, 0] > 0.5).long()
            self.right, self.count = self.right + (given == true).sum(), self.count + len(true)
            self.predicted.append(given)
        if labels.dim() <= 2 and self.kept < _MOST_LABELS:
            self.labels.append(labels.detach())
            self.kept += len(labels)

    @property
    def loss(self) -> float | None:
        """The mean over batches."""
        return float(self.loss_sum) / self.losses if self.losses else None

    @property
    def accuracy(self) -> float | None:
        """Of the answers that could be judged."""
        return float(self.right) / self.count if self.count else None

    def all_labels(self) -> NDArray[Any] | None:
        """In the order in which they came."""
        return None if not self.labels else torch.cat(self.labels).cpu().numpy()


@dataclass(eq=False)
class Given:
    """Images that the net was given, some of them kept."""

    sample: torch.Tensor | None = None
    sample_labels: torch.Tensor | None = None
    loader: Any = None

    def take(self, images: torch.Tensor) -> None:
        """Keep images until there are enough."""
        have = 0 if self.sample is None else len(self.sample)
        if have < SAMPLE and images.dim() > 1:
            some = images[: SAMPLE - have].detach().clone()
            self.sample = some if self.sample is None else torch.cat([self.sample, some])

    def take_labels(self, labels: torch.Tensor) -> None:
        """The labels of the images kept."""
        have = 0 if self.sample_labels is None else len(self.sample_labels)
        room = (0 if self.sample is None else len(self.sample)) - have
        if room > 0:
            some = labels[:room].detach().clone()
            self.sample_labels = some if self.sample_labels is None else torch.cat([self.sample_labels, some])


@dataclass(frozen=True)
class Loss:
    """The loss of a training.

    Attributes:
        name: as records spell it; None: not seen.
        from_logits: whether it applies the softmax or sigmoid itself.
    """

    name: str | None
    from_logits: bool | None = None
    reduction: str | None = None
    smoothing: float | None = None
    is_weighted: bool | None = None


class Course:
    """The training as it went."""

    def __init__(self) -> None:
        self.train, self.val = Given(), Given()
        self.train_passes: list[Pass] = []
        self.val_passes: list[Pass | None] = []  # behind each pass of training; None: it was not judged
        self.late = False  # whether judging came only after the last step
        self.steps = 0
        self.rates: list[float] = []
        self.batch_size: int | None = None
        self.loss: Loss | None = None
        self.answers: torch.Tensor | None = None
        self.initial: tuple[float | None, float | None] = (None, None)
        self.ends_in_last_layer: bool | None = None
        self.width: int | None = None  # answers an image
        self.has_classes: bool | None = None  # False: the net learns quantities or images
        self.judged_in_training_mode = False
        self._loader: Any = None
        self._new_pass = True

    def loader_begins(self, loader: Any) -> None:
        """A DataLoader is gone through from its beginning."""
        self._loader = weakref.ref(loader)
        trained = self.train.loader
        if trained is None or trained() is loader:
            self._new_pass = True

    def begins(self) -> bool:
        """Called before each forward pass of training: whether a new pass through the images begins."""
        judged = bool(self.train_passes) and len(self.val_passes) == len(self.train_passes)
        if not (self._new_pass or judged):
            return False
        while len(self.val_passes) < len(self.train_passes):
            self.val_passes.append(None)
        self._new_pass = False
        self.train_passes.append(Pass())
        if self.train.loader is None:
            self.train.loader = self._loader
        return True

    def images_given(self, images: torch.Tensor, is_training: bool) -> None:
        """What the net was given."""
        if is_training and self.batch_size is None:
            self.batch_size = len(images)
        (self.train if is_training else self.val).take(images)

    def loss_begins(self, loss: Loss, answers: torch.Tensor) -> None:
        """The first loss of training, and what it was given."""
        self.loss, self.answers = loss, answers

    def judged(self, is_training: bool, mode: bool, loss: Any, answers: torch.Tensor, labels: torch.Tensor) -> None:
        """A batch was answered, and its labels are known."""
        if self.has_classes is None:
            self.has_classes = _are_classes(labels, answers)
        if not self.has_classes:
            return
        self.width = answers.shape[1] if answers.dim() == 2 else None
        if is_training:
            self.begins()  # where no forward pass was seen, the loss tells
            current = self.train_passes[-1]
            current.add(loss, answers, labels)
            self.train.take_labels(labels)
            if self.steps == 0:
                self.initial = (current.loss, current.accuracy)
            return
        self.judged_in_training_mode |= mode
        if self.val.loader is None:
            self.val.loader = self._loader
        if not self.train_passes:
            return  # before the first step
        while len(self.val_passes) < len(self.train_passes):
            self.val_passes.append(None if len(self.val_passes) < len(self.train_passes) - 1 else Pass())
        current_val = self.val_passes[-1]
        assert current_val is not None
        current_val.add(loss, answers, labels)
        self.val.take_labels(labels)

    def stepped(self, rate: Any) -> None:
        """The optimizer has made a step."""
        self.steps += 1
        if rate is not None and len(self.rates) < len(self.train_passes):
            self.rates.append(float(rate))


def _are_classes(labels: torch.Tensor, answers: torch.Tensor) -> bool:
    """Whether labels are class numbers, or rows of one-hot or smoothed ones; not quantities, not images."""
    if labels.dim() > 2 or len(labels) != len(answers):
        return False
    if not labels.is_floating_point():
        return True
    if labels.dim() == 2 and labels.shape[1] > 1:
        sums = labels.double().sum(dim=1)
        return bool((labels >= 0).all() and ((sums - 1).abs() < 1e-3).all()) or bool(
            ((labels == 0) | (labels == 1)).all()
        )
    return bool((labels == labels.round()).all())


def _answers_are_classes(course: Course) -> bool:
    """Whether the widest answer can be a class: without a known loss a net may give features, to be compared."""
    if course.loss is not None or course.width is None:
        return True
    known = [
        labels
        for each in (*course.train_passes, *course.val_passes)
        if each and (labels := each.all_labels()) is not None
    ]
    most = max(
        (labels.shape[1] - 1 if labels.ndim == 2 else int(labels.max()) for labels in known if labels.size), default=0
    )
    return course.width <= max(2 * (most + 1), 2)


def course_facts(course: Course, net: NetFacts, training: TrainingFacts, data: Any) -> Record:
    """The record of a course; the signals of layers are not part of it."""
    passes = course.train_passes
    if not _answers_are_classes(course):
        for each in (*passes, *filter(None, course.val_passes)):
            each.count = 0
    num_judged = sum(each is not None for each in course.val_passes)
    only_at_end = num_judged == 1 and len(passes) > 1
    split = "test" if only_at_end else "val"
    splits = _splits(course, split, data)
    loss = course.loss or Loss(None)
    training = replace(
        training,
        epochs=len(passes) or None,
        steps_per_epoch=round(course.steps / len(passes)) if passes else None,
        loss=loss.name,
        from_logits=loss.from_logits,
        label_smoothing=loss.smoothing,
        class_weights=loss.is_weighted,
        loss_reduction=loss.reduction,
        validation_source=None if not passes else "none" if only_at_end or not num_judged else "own",
        evaluates_in_training_mode=course.judged_in_training_mode if num_judged else None,
    )
    return Record(
        origin="torch",
        name="net",
        splits=splits,
        net=replace(net, last_activation=_end(course, net)),
        training=training,
        batch=_batch(course),
        curves=_curves(course, not only_at_end),
        evaluation=_evaluation(course, split, net),
    )


def _splits(course: Course, judged: str, data: Any) -> dict[str, SplitFacts]:
    found = {}
    passes = {"train": course.train_passes, judged: [each for each in course.val_passes if each is not None]}
    for name, given in (("train", course.train), (judged, course.val)):
        labels = passes[name][0].all_labels() if passes[name] else None
        if given.sample is None:
            if labels is not None and len(labels):
                found[name] = with_labels(SplitFacts(count=len(labels)), labels)
            continue
        images = given.sample.float().cpu().numpy()
        facts = image_facts(images, None if labels is None else len(labels), channels_first=True)
        facts = replace(facts, dtype=str(given.sample.dtype).removeprefix("torch."))
        facts = facts if labels is None else with_labels(facts, labels)
        found[name] = replace(facts, is_shuffled=_is_shuffled(given, passes[name]) if name == "train" else None)
    given_data = data if isinstance(data, list | tuple) and len(data) == 2 else (None, None)
    own, own_labels = as_array(given_data[0]), as_array(given_data[1])
    if own is not None and "train" not in found:
        found["train"] = image_facts(np.asarray(own[spread_rows(len(own), SAMPLE)]), len(own), channels_first=True)
    if own_labels is not None and "train" in found:
        found["train"] = replace(with_labels(found["train"], own_labels), count=len(own_labels))
    return found


def _is_shuffled(given: Given, passes: list[Pass]) -> bool | None:
    """By the loader's sampler; without one, whether two passes came in different orders."""
    loader = None if given.loader is None else given.loader()
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, SequentialSampler):
        return False
    if isinstance(sampler, RandomSampler):
        return True
    orders = [order for each in passes[:2] if (order := each.all_labels()) is not None]
    return None if len(orders) < 2 else not np.array_equal(orders[0], orders[1])


def _end(course: Course, net: NetFacts) -> str | None:
    """What stands between the last layer and the loss, told from the first answers."""
    answers = course.answers
    last = next((layer for layer in reversed(net.layers) if layer.is_connected), None)
    if answers is None or answers.dim() != 2 or answers.shape[1] < 2:
        return None if last is None else last.activation
    values = answers.double()
    if bool((values >= 0).all()) and bool(((values.sum(dim=1) - 1).abs() < 1e-4).all()):
        return "softmax"
    if bool((values <= 0).all()) and bool(((values.exp().sum(dim=1) - 1).abs() < 1e-4).all()):
        return "logsoftmax"
    if last is not None and last.kind == "activation":
        return last.activation
    if bool((values >= 0).all()) and bool((values == 0).any()):
        return "relu"
    return "linear" if course.ends_in_last_layer else None


def _batch(course: Course) -> BatchFacts:
    answers = course.answers
    if answers is None:
        return BatchFacts()
    loss, accuracy = course.initial
    sums = answers.double().sum(dim=1) if answers.dim() == 2 else None
    same = sums is not None and bool((sums.max() - sums.min()) <= 1e-3)
    return BatchFacts(
        initial_loss=loss,
        initial_accuracy=accuracy,
        output_minimum=float(answers.min()),
        output_maximum=float(answers.max()),
        row_sum=float(sums.mean()) if same and sums is not None else None,
    )


def _known(values: list[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None)


def _curves(course: Course, with_val: bool) -> CurveFacts:
    val = [each for each in course.val_passes if each is not None] if with_val else []
    return CurveFacts(
        running_loss=_known([each.loss for each in course.train_passes]),
        running_accuracy=_known([each.accuracy for each in course.train_passes]),
        val_loss=_known([each.loss for each in val]),
        val_accuracy=_known([each.accuracy for each in val]),
        learning_rate=tuple(course.rates),
        steps=course.steps,
    )


def _evaluation(course: Course, split: str, net: NetFacts) -> EvaluationFacts:
    last = next((each for each in reversed(course.val_passes) if each is not None), None)
    if last is None or not last.count:
        return EvaluationFacts()
    predicted = torch.cat(last.predicted).cpu().numpy()
    true, width = class_indices(last.all_labels()), max(net.output_units or 2, 2)
    recalls, share = None, None
    if true is not None and len(true) == len(predicted):
        share = float(np.bincount(true - min(true.min(), 0)).max() / len(true))
        recalls = class_recalls(predicted, true, width)
    return EvaluationFacts(
        split=split,
        count=last.count,
        accuracy=last.accuracy,
        loss=last.loss,
        class_accuracies=recalls,
        predicted_counts=tuple(int(count) for count in np.bincount(predicted, minlength=width)),
        majority_share=share,
    )
