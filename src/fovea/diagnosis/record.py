"""The record of a patient: what is known of a training, whoever ran it. Rules read this and nothing else.

A run of ours, a live Keras or PyTorch training and a program read as text fill the same record. None means "not known",
never "no": a rule that needs what is not known is silent. Names of optimizers, losses, layers and activations are in
lower case without separators, as Keras' classes are ("sgd", "adam", "categoricalcrossentropy", "conv2d", "relu").
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

Origin = Literal["run", "data", "keras", "torch", "script"]


@dataclass(frozen=True)
class SplitFacts:
    """The images and labels of one split, as the net is given them.

    Attributes:
        count: images; shape: height, width, channels.
        minimum, maximum, mean, std: of the values that reach the net; channel_means: one a channel.
        num_values: how many different values a sample of pixels has.
        constant_images: images whose pixels are all the same.
        class_counts: images a class, in class order; num_classes: how many the labels speak of.
        label_kind: "integer", "one_hot", "column" or "float"; label_minimum, label_maximum, label_width: of the array.
        longest_run: of one and the same label in the order in which the images stand.
        is_augmented: whether these images are changed at random when they are used.
        is_shuffled: whether they are drawn in another order each epoch.
        preprocessing: what is done to the images, in words that two splits can be compared by.
    """

    count: int | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    channel_means: tuple[float, ...] | None = None
    num_values: int | None = None
    constant_images: int | None = None
    class_counts: tuple[int, ...] | None = None
    num_classes: int | None = None
    label_kind: str | None = None
    label_minimum: float | None = None
    label_maximum: float | None = None
    label_width: int | None = None
    longest_run: int | None = None
    is_augmented: bool | None = None
    is_shuffled: bool | None = None
    preprocessing: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LayerFacts:
    """One layer, in the order of the forward pass.

    Attributes:
        kind: "conv2d", "dense", "batchnormalization", "dropout", "maxpooling2d", "flatten", "activation" ...
        activation: what follows its sums: "relu", "softmax", "linear" ...; None: not known.
        units: of a dense layer, filters of a convolution; rate: of a dropout.
        is_connected: False: made and never used by the forward pass.
        is_trainable: False: frozen.
        is_fresh: whether its first weights are spread as its framework draws them: nobody has trained them.
        in_optimizer: False: it could be trained, but the optimizer was not given its weights.
    """

    name: str
    kind: str
    activation: str | None = None
    units: int | None = None
    kernel: tuple[int, ...] | None = None
    rate: float | None = None
    initializer: str | None = None
    input_shape: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    parameters: int | None = None
    is_trainable: bool | None = None
    is_connected: bool | None = None
    line: int | None = None
    in_optimizer: bool | None = None
    is_fresh: bool | None = None


@dataclass(frozen=True)
class NetFacts:
    """The net: its layers, and what its end says."""

    layers: tuple[LayerFacts, ...] = ()
    is_complete: bool | None = None  # False: some layers could not be seen
    output_units: int | None = None
    last_activation: str | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None


@dataclass(frozen=True)
class TrainingFacts:
    """How it is trained.

    Attributes:
        loss: "categoricalcrossentropy", "sparsecategoricalcrossentropy", "binarycrossentropy", "crossentropy",
            "nll", "meansquarederror" ...; from_logits: whether the loss applies the softmax itself.
        learning_rate: None: the optimizer's default, where `default_learning_rate` says so.
        validation_source: "split" (cut from train), "test", "train", "own" or "none".
        chosen_by: what decides which epoch's weights are used, "val_accuracy", "test_accuracy", "last" ...
        callbacks_made, callbacks_passed: names in the program.
        monitors: what callbacks watch; metrics: names as the framework reports them.
        augmentation: ImageDataGenerator's names -> values, as given.
        gradients_cleared: False: a step's gradients were those of all steps so far (no zero_grad).
        evaluates_in_training_mode: True: dropout or batch norm was left in training mode where the net was judged.
        loss_reduction: "mean" or "sum" over the batch.
        num_fits: how often fit (or the loop) ran on the same weights.
        is_continued: whether it started from trained weights on purpose.
        frozen_on_purpose: whether the program says that layers are frozen.
    """

    framework: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    default_learning_rate: bool | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    loss: str | None = None
    from_logits: bool | None = None
    label_smoothing: float | None = None
    class_weights: bool | None = None
    metrics: tuple[str, ...] | None = None
    validation_source: str | None = None
    chosen_by: str | None = None
    monitors: tuple[str, ...] | None = None
    callbacks_made: tuple[str, ...] | None = None
    callbacks_passed: tuple[str, ...] | None = None
    augmentation: dict[str, Any] | None = None
    num_fits: int | None = None
    is_continued: bool | None = None
    frozen_on_purpose: bool | None = None
    num_seeds: int | None = None
    gradients_cleared: bool | None = None
    evaluates_in_training_mode: bool | None = None
    loss_reduction: str | None = None


@dataclass(frozen=True)
class LayerSignals:
    """What one layer did on a batch (or the median over some steps).

    Attributes:
        gradient_norm, weight_norm: of its kernel; None without one.
        update_ratio: norm of a step's update over the norm of the weights.
        dead_fraction: units that are 0 for every image of the sample; zero_fraction: of all its outputs.
        weight_std: of the kernel; is_constant: all weights of the kernel are the same.
    """

    name: str
    gradient_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    dead_fraction: float | None = None
    zero_fraction: float | None = None
    weight_std: float | None = None
    is_constant: bool | None = None
    is_finite: bool | None = None


@dataclass(frozen=True)
class BatchFacts:
    """What single batches tell.

    Attributes:
        initial_loss: before the first step; initial_accuracy: likewise.
        output_minimum, output_maximum, row_sum: of the net's answers before the loss; row_sum is their mean sum, or
            None where rows differ.
        first, last: signals of the layers at the beginning and at the end.
        evaluation_repeats: whether two passes over the same images in evaluation gave the same.
        zeroed_loss, real_loss: of the trained net on zeroed and on real images.
    """

    initial_loss: float | None = None
    initial_accuracy: float | None = None
    output_minimum: float | None = None
    output_maximum: float | None = None
    row_sum: float | None = None
    first: tuple[LayerSignals, ...] = ()
    last: tuple[LayerSignals, ...] = ()
    evaluation_repeats: bool | None = None
    zeroed_loss: float | None = None
    real_loss: float | None = None


@dataclass(frozen=True)
class CurveFacts:
    """One value an epoch; empty: not known.

    `train_*` are measured like validation (evaluation mode, no augmentation); `running_*` are the means over the
    epoch's batches, as frameworks print them.
    """

    train_loss: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    running_loss: tuple[float, ...] = ()
    running_accuracy: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_accuracy: tuple[float, ...] = ()
    learning_rate: tuple[float, ...] = ()
    steps: int | None = None  # updates in all


@dataclass(frozen=True)
class EvaluationFacts:
    """The end: figures on held-back images.

    Attributes:
        count, accuracy, loss: of the images of `split` ("test", or "val" where the test stayed closed).
        class_accuracies, predicted_counts: in class order.
        majority_share: of the most frequent class among them.
        stored_accuracy: what predictions and labels in their order give; other than `accuracy`: the orders differ.
        seed_accuracies: of runs that differ in their seed alone.
        test_looks: how many different settings (seeds apart) opened this test set.
    """

    split: str | None = None
    count: int | None = None
    accuracy: float | None = None
    loss: float | None = None
    class_accuracies: tuple[float, ...] | None = None
    predicted_counts: tuple[int, ...] | None = None
    majority_share: float | None = None
    stored_accuracy: float | None = None
    seed_accuracies: tuple[float, ...] | None = None
    test_looks: int | None = None


@dataclass(frozen=True)
class Mention:
    """Something that a program says literally and that needs no further reading: a call, an argument, a name.

    Attributes:
        what: a stable word, as "removed-argument:lr", "removed-call:fit_generator", "unused-callback:early_stop".
        detail: as it stands in the program; instead: what to write.
    """

    what: str
    line: int | None = None
    detail: str = ""
    instead: str = ""


@dataclass(frozen=True)
class Record:
    """All that is known of one training.

    Attributes:
        origin: who filled it; name: of the run, the data or the file.
        classes: names in order.
        splits: "train", "val", "test" -> its facts; inference: what the program does to images it answers for.
        data_findings: what the audit of the data found, as plain findings.
        lines: "section.field" -> line in the program, where it is one.
        unseen: what could not be read, in words; the rest is judged.
        dataset: the data set's name where it is a known one ("mnist", "fashion_mnist", "cifar10").
        cell_starts: of a notebook, the line on which each code cell begins in the text of all of them.
    """

    origin: Origin
    name: str
    classes: tuple[str, ...] | None = None
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    inference: SplitFacts | None = None
    net: NetFacts = field(default_factory=NetFacts)
    training: TrainingFacts = field(default_factory=TrainingFacts)
    batch: BatchFacts = field(default_factory=BatchFacts)
    curves: CurveFacts = field(default_factory=CurveFacts)
    evaluation: EvaluationFacts = field(default_factory=EvaluationFacts)
    data_findings: tuple[dict[str, Any], ...] = ()
    mentions: tuple[Mention, ...] = ()
    lines: dict[str, int] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    dataset: str | None = None
    cell_starts: tuple[int, ...] = ()

    def line_of(self, name: str) -> int | None:
        """The line of a fact such as "training.learning_rate"; None where the patient is no program."""
        return self.lines.get(name)

    def place_of(self, line: int) -> str:
        """A line in words: "line 12", or "code cell 3, line 4" of a notebook."""
        before = [start for start in self.cell_starts if start <= line]
        return f"code cell {len(before)}, line {line - before[-1] + 1}" if before else f"line {line}"

    @property
    def num_classes(self) -> int | None:
        """From the names, else from the training labels."""
        train = self.splits.get("train")
        return len(self.classes) if self.classes is not None else None if train is None else train.num_classes


def known_facts(facts: Any) -> dict[str, Any]:
    """The fields of a section that are known, as plain values."""
    return {item.name: value for item in fields(facts) if (value := getattr(facts, item.name)) not in (None, (), {})}
