"""Rules on single layers: unused, frozen, badly begun, dropped, shrinking."""

from __future__ import annotations

from fovea.diagnosis.reading import STUCK, WEIGHTED, is_ours, listed, reached, starts_from_trained_weights, used_layers
from fovea.diagnosis.record import LayerFacts, Record
from fovea.diagnosis.rule import Rule, Suspicion

_DROPOUTS = ("dropout", "spatialdropout2d", "dropout2d", "alphadropout")
_ENDS_OF_MAPS = ("flatten", "globalaveragepooling2d", "globalmaxpooling2d")
_CONSTANT = ("zeros", "zero", "ones", "one", "constant")
_MARGIN = 1e-3


def layer_not_connected(record: Record) -> Suspicion | None:
    """Layers that are made and that no image passes."""
    loose = [layer for layer in record.net.layers if layer.is_connected is False]
    if not loose:
        return None
    names = [layer.name for layer in loose]
    return Suspicion(
        {"layers": names},
        f"{len(names)} layer{'s are' if len(names) > 1 else ' is'} made and never used ({listed(names)}): the net is "
        "not the one that was meant.",
        "Add them to the model (model.add(...), or call them in the forward pass), or delete the lines.",
        line=loose[0].line,
        weight=0.6,
    )


def layer_not_in_optimizer(record: Record) -> Suspicion | None:
    """Layers whose weights the optimizer was never given."""
    left = [
        layer.name for layer in record.net.layers if layer.in_optimizer is False and layer.is_trainable is not False
    ]
    if not left or record.training.frozen_on_purpose:
        return None
    return Suspicion(
        {"layers": left},
        f"The optimizer was not given the weights of {listed(left)}: they stay as they began.",
        "Make the optimizer after the whole net is built, with model.parameters().",
        weight=0.8,
    )


def frozen_by_mistake(record: Record) -> Suspicion | None:
    """Layers with fresh weights are frozen and nothing says that this was meant."""
    training, net = record.training, record.net
    own = [layer for layer in used_layers(record) if (layer.parameters or 0) > 0 or layer.kind in WEIGHTED]
    frozen = [layer for layer in own if layer.is_trainable is False and layer.kind in WEIGHTED]
    if net.trainable_parameters == 0 and (net.parameters or 0) > 0:
        return Suspicion(
            {"trainable_parameters": 0, "parameters": net.parameters},
            "Not one weight of the net can be trained.",
            "Set trainable = True (requires_grad in PyTorch) before compiling or before the optimizer is made.",
            weight=1.0,
        )
    meant = training.frozen_on_purpose or starts_from_trained_weights(record)
    last = bool(own) and own[-1].is_trainable is False
    unsaid = training.frozen_on_purpose is None and _prefix(own) and not all(layer.is_fresh for layer in frozen)
    if not frozen or (meant and not last) or (not last and unsaid):
        return None
    names = [layer.name for layer in frozen]
    return Suspicion(
        {"layers": names},
        f"{len(names)} layer{'s' if len(names) > 1 else ''} cannot be trained ({listed(names)})"
        + (", the last one too" if last else "")
        + ": they keep their random weights.",
        "Set trainable = True (requires_grad in PyTorch), or load trained weights into them first.",
        line=frozen[0].line,
        weight=0.8 if last else 0.5,
        severity="severe" if last else "warning",
    )


def _prefix(layers: list[LayerFacts]) -> bool:
    """Whether only first layers are frozen, as after loading trained ones."""
    open_ones = [place for place, layer in enumerate(layers) if layer.is_trainable is not False]
    return bool(open_ones) and all(layer.is_trainable is not False for layer in layers[open_ones[0] :])


def constant_initialisation(record: Record) -> Suspicion | None:
    """All weights of a layer begin alike, or far too large."""
    if starts_from_trained_weights(record):
        return None
    weighted = [layer for layer in used_layers(record) if layer.kind in WEIGHTED]
    named = [
        layer
        for layer in weighted[:-1] or weighted  # a last layer of zeros is a known way to begin
        if (layer.initializer or "").split("(")[0].split(":")[0] in _CONSTANT
    ]
    alike = [layer.name for layer in named] or [
        signals.name for signals in record.batch.first[:-1] if signals.is_constant or signals.weight_std == 0
    ]
    if not alike:
        return None
    return Suspicion(
        {"layers": alike, "initializers": sorted({layer.initializer or "" for layer in named})},
        f"All weights of a layer begin with one value ({listed(alike)}): its units stay copies of each other"
        f"{reached(record)}.",
        "Use he_normal with relu, or the default glorot_uniform.",
        {"initializer": "he_normal"} if is_ours(record) else None,
        named[0].line if named else None,
        0.9,
    )


def dropout_misuse(record: Record) -> Suspicion | None:
    """Dropout that takes too much, or stands on the answers."""
    layers = [layer for layer in used_layers(record) if layer.kind != "activation"]
    weighted = [place for place, layer in enumerate(layers) if layer.kind in WEIGHTED]
    if not weighted:
        return None
    for place, layer in enumerate(layers):
        if layer.kind not in _DROPOUTS or not layer.rate:
            continue
        before = [layer.kind for layer in layers[:place] if layer.kind in WEIGHTED or layer.kind in _ENDS_OF_MAPS]
        limit = 0.5 if before and before[-1] not in ("dense", "linear", *_ENDS_OF_MAPS) else 0.7
        on_answers = place > weighted[-1] and record.net.is_complete is not False
        if not on_answers and layer.rate <= limit + _MARGIN:
            continue
        said = "stands after the last layer and deletes answers" if on_answers else f"drops {layer.rate:.0%}"
        return Suspicion(
            {"layer": layer.name, "rate": layer.rate},
            f"Dropout {said}"
            + (": rate is the share dropped, not the share kept." if not on_answers else "; it belongs before it."),
            "Use .1 to .3 after convolutions, up to .5 before dense layers, none after the last.",
            line=layer.line,
            weight=0.6,
            severity="severe" if on_answers or layer.rate >= 0.85 else "warning",
        )
    return None


def filters_shrink(record: Record) -> Suspicion | None:
    """Most filters stand where the map is largest."""
    units = [layer.units for layer in used_layers(record) if layer.kind in ("conv2d", "convolution2d") and layer.units]
    if len(units) < 2 or units[0] < 128 or min(units[1:]) >= units[0]:
        return None
    return Suspicion(
        {"filters": units},
        f"The first convolution has {units[0]} filters on the largest map, later ones fewer: most of the time goes "
        "where there is least to tell.",
        "Begin with 32 or 64 filters and double them after each pooling.",
        line=record.line_of("net.layers"),
        weight=0.2,
    )


LAYER_RULES = (
    Rule(
        "layer-not-connected", "layers made and not used", "warning", "settings", layer_not_connected,
        "a layer that the forward pass never reaches", "branches that depend on the input",
        "own check: what is made against what is used; a published program (docs/programs.md, P0)",
    ),
    Rule(
        "layer-not-in-optimizer", "weights not given to the optimizer", "severe", "settings", layer_not_in_optimizer,
        "a layer that can be trained and is not in the optimizer", "frozen layers, said on purpose",
        "own check: what is made against what is used",
        ("no-gradient", "underfitting"),
    ),
    Rule(
        "frozen-by-mistake", "layers frozen", "warning", "settings", frozen_by_mistake,
        "no trainable weight at all, or the last layer frozen (severe); a frozen layer after an open one",
        "first layers frozen; freezing that the program says; trained weights", "AutoTrainer (ICSE 2021), gradients",
        (*STUCK, "no-gradient"),
    ),
    Rule(
        "constant-initialisation", "constant first weights", "severe", "settings", constant_initialisation,
        "zeros, ones or a constant for the weights of a layer, or a spread of 0 before the first step",
        "biases; scale and shift of normalization; trained weights", "TheDeepChecker, variance of first weights",
        (*STUCK, "dying-relu", "vanishing-gradient", "no-gradient", "learning-rate-too-high", "learning-rate-too-low"),
    ),
    Rule(
        "dropout-misuse", "dropout too strong or on the answers", "warning", "settings", dropout_misuse,
        "rate above .5 after a convolution, above .7 elsewhere (severe from .85); after the last layer (severe)",
        ".5 before dense layers", "UMLAUT, dropout above .5, loosened",
        ("underfitting", "too-few-epochs", "not-learning"),
    ),
    Rule(
        "filters-shrink", "filters shrink with depth", "note", "settings", filters_shrink,
        "128 and more filters in the first convolution and fewer in a later one",
        "64 then 32; bottlenecks of 1x1", "a question on CIFAR-10 (docs/programs.md, P2)",
    ),
)  # fmt: skip
