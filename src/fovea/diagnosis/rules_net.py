"""Rules on the end of the net, its loss and its activations."""

from __future__ import annotations

from fovea.diagnosis.reading import (
    BLOWN,
    CROSS_ENTROPIES,
    STUCK,
    WEIGHTED,
    learns_well,
    listed,
    num_classes,
    split,
    used_layers,
)
from fovea.diagnosis.record import LayerFacts, Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.findings import Severity

_ONE_OF_MANY = ("categoricalcrossentropy", "sparsecategoricalcrossentropy", "categoricalfocalcrossentropy")
_REGRESSION = ("meansquarederror", "meanabsoluteerror", "mse", "mae", "l1", "huber", "meansquaredlogarithmicerror")
_BENT = ("relu", "relu6", "leakyrelu", "elu", "tanh", "softplus", "softsign", "selu", "gelu", "hardsigmoid")
_PASSING = (
    "batchnormalization", "dropout", "maxpooling2d", "averagepooling2d", "globalaveragepooling2d", "flatten",
    "globalmaxpooling2d", "layernormalization", "groupnormalization", "zeropadding2d", "spatialdropout2d", "reshape",
    "adaptiveavgpool2d",
)  # fmt: skip


def doubled_softmax(record: Record) -> Suspicion | None:
    """Probabilities enter a loss that applies the softmax itself."""
    training, batch = record.training, record.batch
    applies = training.from_logits is True or (training.loss == "crossentropy" and training.from_logits is not False)
    if not applies:
        return None
    sums_to_one = (
        batch.row_sum is not None
        and abs(batch.row_sum - 1) < 1e-4
        and batch.output_minimum is not None
        and batch.output_maximum is not None
        and batch.output_minimum >= -1e-6
        and batch.output_maximum <= 1 + 1e-4
    )
    if record.net.last_activation != "softmax" and not sums_to_one:
        return None
    return Suspicion(
        {"last_activation": record.net.last_activation, "loss": training.loss, "row_sum": batch.row_sum},
        "The net ends in a softmax and the loss applies another: gradients shrink, and with 10 classes the loss cannot "
        "fall below 1.46.",
        "Remove the softmax from the net, or in Keras set from_logits=False.",
        line=record.line_of("net.last_activation") or record.line_of("training.loss"),
        weight=0.9,
        severity="warning" if learns_well(record) else "severe",
    )


def missing_softmax(record: Record) -> Suspicion | None:
    """Sums of the last layer enter a loss that wants probabilities."""
    training, last = record.training, record.net.last_activation
    if training.loss == "nllofprobabilities" and last in ("linear", "none", "logsoftmax"):
        return Suspicion(
            {"last_activation": last, "loss": training.loss},
            "NeuralNetClassifier takes the logarithm of what the net answers, and this net does not answer "
            "probabilities: the loss becomes NaN or means nothing.",
            "End the net in softmax, or give criterion=torch.nn.CrossEntropyLoss and leave the end as it is.",
            line=record.line_of("net.last_activation"),
            weight=0.9,
        )
    if training.loss not in _ONE_OF_MANY or training.from_logits is not False or last not in ("linear", "none"):
        return None
    return Suspicion(
        {"last_activation": last, "loss": training.loss, "from_logits": False},
        f"The last layer has no softmax, and {training.loss} is told to expect probabilities: the loss is computed of "
        "clipped numbers, and its gradient is wrong.",
        "End in softmax, or give the loss from_logits=True.",
        line=record.line_of("net.last_activation"),
        weight=0.9,
    )


def wrong_last_activation(record: Record) -> Suspicion | None:
    """A relu, tanh or sigmoid where the loss wants a softmax or plain sums."""
    training, last, units = record.training, record.net.last_activation, record.net.output_units
    if last is None or training.loss is None or units is None:
        return None
    if training.loss in ("binarycrossentropy", "bcewithlogits") and units == 1:
        if last not in _BENT:
            return None
    elif training.loss == "nll":
        if last in ("logsoftmax", "linear", "none"):
            return None
    elif training.loss not in CROSS_ENTROPIES or last not in (*_BENT, "sigmoid"):
        return None
    wanted = "sigmoid" if units == 1 else "log_softmax" if training.loss == "nll" else "softmax"
    if training.loss == "crossentropy" or training.from_logits:
        wanted = "no activation"
    severity: Severity = "warning" if last == "sigmoid" or learns_well(record) else "severe"
    return Suspicion(
        {"last_activation": last, "loss": training.loss, "output_units": units},
        f"The net ends in {last}, but {training.loss} needs {wanted} there: sums that {last} cuts or bends cannot "
        "become the probabilities of classes.",
        f"End in {wanted}.",
        line=record.line_of("net.last_activation"),
        weight=0.85,
        severity=severity,
    )


def wrong_output_units(record: Record) -> Suspicion | None:
    """The last layer is not as wide as there are classes."""
    units, classes, train = record.net.output_units, num_classes(record), split(record, "train")
    last, loss = record.net.last_activation, record.training.loss
    if units == 1 and last == "softmax":
        said = "A softmax over one unit is always 1: the net gives one answer, whatever it sees"
        cure = "Use sigmoid with binary_crossentropy for two classes, or one unit a class with softmax."
    elif units is None:
        return None
    elif units == 1 and train.label_kind == "one_hot" and train.label_width != 1:
        said = "The labels are one-hot, a column for each class; the net has one output"
        cure = "Give two classes labels of 0 and 1 (class_mode='binary'), or the net one unit a class with softmax."
    elif train.label_kind == "one_hot" and train.label_width is not None and units != train.label_width:
        said = f"The net has {units} outputs, the one-hot labels are {train.label_width} wide"
        cure = "Give the last layer as many units as there are classes, and to_categorical the same num_classes."
    elif classes is None or (units >= classes and units <= 20 * classes) or (units == 1 and classes == 2):
        return None
    elif loss in _REGRESSION and units == 1:
        return None  # said by the rule on the loss
    else:
        said = f"The net has {units} {'output' if units == 1 else 'outputs'} for {classes} classes"
        cure = f"Give the last layer {classes} units."
    return Suspicion(
        {"output_units": units, "classes": classes, "label_width": train.label_width},
        f"{said}.",
        cure,
        line=record.line_of("net.output_units"),
        weight=1.0,  # the other faults only slow a training down
        severity="warning" if classes is not None and units > classes else "severe",
    )


def labels_out_of_range(record: Record) -> Suspicion | None:
    """Integer labels that begin at 1 or reach beyond the outputs."""
    train, units = split(record, "train"), record.net.output_units or record.num_classes
    if train.label_kind not in ("integer", "column") or train.label_maximum is None or units is None or units < 2:
        return None
    low, high = train.label_minimum, train.label_maximum
    if high != int(high):
        return Suspicion(
            {"label_minimum": low, "label_maximum": high, "output_units": units},
            f"The labels are fractions (up to {high:.3g}), the loss takes them as numbers of classes: the labels were "
            "divided as the images are.",
            "Divide the images alone.",
            line=record.line_of("splits.train.label_maximum"),
            weight=1.0,
        )
    if high < units and (low is None or low >= 0):
        return None
    start = f"run from {low:g} to {high:g}" if low is not None else f"reach {high:g}"
    by_one = low == 1 and high == units
    return Suspicion(
        {"label_minimum": low, "label_maximum": high, "output_units": units},
        f"The labels {start}, the outputs count from 0 to {units - 1}"
        + (": the labels are off by one." if by_one else ": some labels name no output."),
        "Subtract 1 from the labels." if by_one else "Number the classes from 0, without gaps.",
        line=record.line_of("splits.train.label_maximum"),
        weight=0.95,
    )


def loss_mismatch(record: Record) -> Suspicion | None:
    """The loss does not fit the form of the labels, or is none for classes."""
    training, train, units = record.training, split(record, "train"), record.net.output_units
    loss, kind, classes = training.loss, train.label_kind, num_classes(record)
    severity: Severity = "severe"
    if loss == "sparsecategoricalcrossentropy" and kind == "one_hot":
        said, cure = f"{loss} wants class numbers, the labels are one-hot", "Use categorical_crossentropy."
    elif loss == "categoricalcrossentropy" and kind in ("integer", "column") and units != 1:
        said = f"{loss} wants one-hot labels, these are class numbers"
        cure = "Use sparse_categorical_crossentropy, or to_categorical(labels)."
    elif loss == "binarycrossentropy" and units is not None and units > 2 and record.net.last_activation == "softmax":
        said = f"binary_crossentropy over a softmax of {units} classes judges each output by itself"
        cure = "Use categorical_crossentropy; `accuracy` beside binary_crossentropy counts outputs, not images."
        severity = "warning" if learns_well(record) else "severe"
    elif loss in _REGRESSION and ((classes or 0) > 1 or record.net.last_activation == "softmax"):
        said = f"{loss} is a loss for measured quantities, not for {classes or units or 'several'} classes"
        cure = "Use a cross-entropy: its gradient stays large while the answer is wrong."
        severity = "severe" if units == 1 and (classes or 0) > 2 else "warning"
    else:
        return None
    if severity == "warning" and learns_well(record):
        severity = "note"
    line = record.line_of("training.loss")
    evidence = {"loss": loss, "label_kind": kind, "output_units": units}
    return Suspicion(evidence, f"{said}.", cure, line=line, weight=0.8, severity=severity)


def metric_mismatch(record: Record) -> Suspicion | None:
    """The accuracy that is printed is not the share of images answered right."""
    training, train = record.training, split(record, "train")
    metrics = [name.replace("_", "").lower() for name in training.metrics or ()]
    units = record.net.output_units or 0
    said = None
    if "binaryaccuracy" in metrics and units > 2:
        said = f"binary accuracy over {units} outputs counts each output: always answering no gives {1 - 1 / units:.0%}"
    elif "categoricalaccuracy" in metrics and train.label_kind in ("integer", "column"):
        said = "categorical accuracy wants one-hot labels, these are class numbers"
    elif "sparsecategoricalaccuracy" in metrics and train.label_kind == "one_hot":
        said = "sparse categorical accuracy wants class numbers, these labels are one-hot"
    elif {"r2score", "meansquarederror", "mse", "mae"} & set(metrics) and "accuracy" not in " ".join(metrics):
        said = "an error of measured quantities does not tell how many images are answered right"
    if said is None:
        return None
    cure = 'Give metrics=["accuracy"], which takes the kind that fits the loss, or compare argmax with the labels.'
    line = record.line_of("training.metrics")
    return Suspicion({"metrics": list(training.metrics or ())}, f"The metric misleads: {said}.", cure, line=line)


def missing_activation(record: Record) -> Suspicion | None:
    """Layers with weights follow each other with nothing nonlinear between them."""
    layers = used_layers(record)
    if record.net.is_complete is not True or not layers:
        return None
    places = [place for place, layer in enumerate(layers) if layer.kind in WEIGHTED and layer.units != 0]
    linear = [layers[place].name for place in places[:-1] if _stays_linear(layers, place)]
    if not linear:
        return None
    share = len(linear) / (len(places) - 1)
    severity: Severity = "severe" if share > 0.5 else "warning"
    return Suspicion(
        {"layers": linear, "hidden_layers": len(places) - 1},
        f"{len(linear)} of {len(places) - 1} hidden layers have no activation ({listed(linear)}): linear layers in a "
        "row can do no more than one.",
        "Give each hidden layer activation='relu' (or a ReLU after it).",
        line=next((layer.line for layer in layers if layer.name == linear[0]), None),
        weight=0.5 + share / 3,
        severity="warning" if learns_well(record) else severity,
    )


def _stays_linear(layers: tuple[LayerFacts, ...], place: int) -> bool:
    """Whether the next layer with weights sees the plain sums of this one."""
    if layers[place].activation not in ("linear", "none"):
        return False
    pooled = False
    for after in layers[place + 1 :]:
        if after.kind in WEIGHTED:
            return not pooled
        if after.kind not in _PASSING or after.activation not in (None, "linear", "none"):
            return False
        pooled = pooled or after.kind in ("maxpooling2d", "globalmaxpooling2d")  # bends too
    return False


def hidden_softmax(record: Record) -> Suspicion | None:
    """A softmax between hidden layers."""
    layers = [layer for layer in used_layers(record) if layer.kind in (*WEIGHTED, "activation", "softmax")]
    weighted = [place for place, layer in enumerate(layers) if layer.kind in WEIGHTED]
    if not weighted or record.net.is_complete is False:
        return None
    inner = [layer for layer in layers[: weighted[-1]] if "softmax" in (layer.activation, layer.kind)]
    if any(layer.kind == "merge" for layer in used_layers(record)):
        return None  # what weighs the other branch, as attention does
    if not inner:
        return None
    return Suspicion(
        {"layers": [layer.name for layer in inner]},
        f"A softmax stands inside the net ({listed([layer.name for layer in inner])}): it squeezes a layer's answers "
        "into shares of one, and gradients fade.",
        "Use relu in hidden layers; softmax belongs to the last layer alone.",
        line=inner[0].line,
        weight=0.8,
    )


NET_RULES = (
    Rule(
        "doubled-softmax", "softmax twice", "severe", "settings", doubled_softmax,
        "the loss applies a softmax and the net ends in one (or its rows are >= 0 and sum to 1 within 1e-4)",
        "log-softmax before NLL; a loss that expects probabilities",
        "TheDeepChecker (TOSEM 2022), outputs against loss",
        ("too-few-epochs", "underfitting"),
    ),
    Rule(
        "missing-softmax", "no softmax at the end", "severe", "settings", missing_softmax,
        "a categorical loss that expects probabilities, and a linear last layer",
        "from_logits=True; a separate softmax layer", "UMLAUT, read off the activation, not the name",
        (*STUCK, *BLOWN),
    ),
    Rule(
        "wrong-last-activation", "wrong activation at the end", "severe", "settings", wrong_last_activation,
        "relu, tanh or the like (a warning: sigmoid) before a cross-entropy; NLL without log-softmax",
        "sigmoid with binary cross-entropy", "AutoTrainer (TDSC 2024), last activation against loss",
        (*STUCK, *BLOWN),
    ),
    Rule(
        "wrong-output-units", "wrong number of outputs", "severe", "settings", wrong_output_units,
        "outputs other than the one-hot width, fewer than classes, more than 20 times as many, one for one-hot labels, "
        "or softmax over one",
        "one sigmoid unit for two classes; a wide head of a trained net",
        "TheDeepChecker (TOSEM 2022), outputs against loss",
        (*STUCK, "metric-mismatch", "missing-softmax", "labels-out-of-range"),
    ),
    Rule(
        "labels-out-of-range", "labels off by one or out of range", "severe", "settings", labels_out_of_range,
        "an integer label below 0, or not below the number of outputs; class numbers that were divided",
        "an unused output 0", "own check", STUCK,
    ),
    Rule(
        "loss-mismatch", "loss does not fit the labels", "severe", "settings", loss_mismatch,
        "sparse loss with one-hot labels; categorical with class numbers; binary over a softmax of 3 and more; a loss "
        "for quantities with classes (a warning)",
        "two outputs; sigmoid outputs with several labels an image; nets that learned (then a note at most)",
        "AutoTrainer and NeuraLint, loss against labels", (*STUCK, "metric-mismatch"),
    ),
    Rule(
        "metric-mismatch", "metric does not fit", "warning", "settings", metric_mismatch,
        "binary accuracy with more than 2 outputs; categorical with class numbers; sparse with one-hot",
        '"accuracy", which Keras resolves by the loss', "own check",
    ),
    Rule(
        "missing-activation", "hidden layers without activation", "severe", "settings", missing_activation,
        "a layer with weights whose plain sums enter the next; severe where more than half are so",
        "an activation layer, normalization or max-pooling between; nets that are not wholly seen; branches",
        "NeuraLint, missing nonlinearity", STUCK,
    ),
    Rule(
        "hidden-softmax", "softmax inside the net", "severe", "settings", hidden_softmax,
        "softmax before the last layer with weights", "attention, where it is meant", "DeepFD's activation faults",
        (*STUCK, "vanishing-gradient"),
    ),
)  # fmt: skip
