"""Rules on single batches: the first loss, gradients, units that are always zero, what repeats and what does not."""

from __future__ import annotations

import math

from fovea.diagnosis.reading import (
    BLOWN,
    CROSS_ENTROPIES,
    STUCK,
    has_layer,
    learns_well,
    listed,
    mentioned,
    num_classes,
    starts_from_trained_weights,
)
from fovea.diagnosis.record import Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.findings import Severity


def initial_loss_too_high(record: Record) -> Suspicion | None:
    """Before the first step, the net is sure of wrong answers."""
    loss, classes, training = record.batch.initial_loss, num_classes(record), record.training
    if loss is None or not classes or classes < 2 or not math.isfinite(loss):
        return None
    if training.loss not in CROSS_ENTROPIES or training.loss_reduction == "sum" or training.class_weights:
        return None
    units = max(classes, record.net.output_units or 0)  # guessing among more answers than there are costs more
    expected = math.log(units)
    if starts_from_trained_weights(record) or loss <= 3 * expected + 1:
        return None
    return Suspicion(
        {"initial_loss": loss, "expected_loss": expected},
        f"Before the first step the loss is {loss:.3g}; guessing gives ln {units} = {expected:.2f}. The first "
        "weights or the inputs are too large.",
        "Scale the inputs; use he_normal or glorot_uniform for the first weights.",
        weight=0.75,
        severity="warning" if learns_well(record) else "severe",
    )


def dying_relu(record: Record) -> Suspicion | None:
    """Units that are zero for every image."""
    dead = {
        signals.name: signals.dead_fraction
        for signals in record.batch.last
        if signals.dead_fraction is not None and signals.dead_fraction > 0.5
    }
    if not dead:
        return None
    worst = max(dead.values())
    severity: Severity = "severe" if worst > 0.9 and not learns_well(record) else "warning"
    return Suspicion(
        {"dead_fraction": dead},
        f"In {listed(list(dead))} up to {worst:.0%} of the units are zero for every image: they learn no more.",
        "Lower the learning rate, check the scale of the inputs, use he_normal, or LeakyReLU.",
        weight=0.6,
        severity=severity,
    )


def vanishing_gradient(record: Record) -> Suspicion | None:
    """The first layers get next to no gradient at the beginning."""
    norms = [
        (signals.name, signals.gradient_norm)
        for signals in record.batch.first
        if signals.gradient_norm is not None and math.isfinite(signals.gradient_norm)
    ]
    frozen = {layer.name for layer in record.net.layers if layer.is_trainable is False}
    norms = [(name, norm) for name, norm in norms if name not in frozen]
    if len(norms) < 3 or learns_well(record):
        return None
    (name, first), (_, last) = norms[0], norms[-1]
    if not 0 < first < 1e-4 or last <= 0 or first / last >= 1e-3:
        return None
    return Suspicion(
        {"first_gradient_norm": first, "last_gradient_norm": last},
        f"The gradient of {name} is {first / last:.1e} of the last layer's: the first layers hardly learn.",
        "Use relu instead of sigmoid or tanh, he_normal, batch normalization, or fewer layers.",
        weight=0.7,
    )


def exploding_gradient(record: Record) -> Suspicion | None:
    """Gradients that no step survives."""
    bad = [
        signals
        for signals in (*record.batch.first, *record.batch.last)
        if signals.gradient_norm is not None
        and (not math.isfinite(signals.gradient_norm) or signals.gradient_norm > 1e4)
    ]
    if not bad or learns_well(record) or record.training.loss_reduction == "sum":
        return None
    worst = max(bad, key=lambda signals: abs(signals.gradient_norm or 0))
    return Suspicion(
        {"layer": worst.name, "gradient_norm": worst.gradient_norm},
        f"The gradient of {worst.name} has the norm {worst.gradient_norm:.2g}: one step throws the weights far away.",
        "Scale the inputs, lower the learning rate, clip gradients (clip_norm 1), use he_normal.",
        weight=0.6,
    )


def no_gradient(record: Record) -> Suspicion | None:
    """Layers that are to be trained and that get no gradient at all."""
    frozen = {layer.name for layer in record.net.layers if layer.is_trainable is False}
    seen = [
        signals for signals in record.batch.first if signals.gradient_norm is not None and signals.name not in frozen
    ]
    cut = [signals.name for signals in seen if signals.gradient_norm == 0 and (signals.dead_fraction or 0) < 1]
    if not cut or learns_well(record) or record.batch.first[-1].is_constant:  # a last layer of zeros lets none through
        return None
    return Suspicion(
        {"layers": cut},
        f"No gradient reaches {listed(cut)}: the loss does not depend on "
        f"{'these layers' if len(cut) > 1 else 'this layer'}, or the way back is cut.",
        "Look for detach(), .data, numpy(), argmax or no_grad on the way, or all-zero weights.",
        weight=0.8,
    )


def missing_eval_mode(record: Record) -> Suspicion | None:
    """The net is judged as it is trained: dropout and batch normalization change the answers."""
    said = mentioned(record, "missing-eval-mode")
    repeats, left = record.batch.evaluation_repeats, record.training.evaluates_in_training_mode
    kinds = ("dropout", "dropout2d", "spatialdropout2d", "batchnormalization", "batchnorm2d")
    harmless = record.net.is_complete is True and not has_layer(record, *kinds)
    if repeats is not False and (harmless or not (left or said)):
        return None
    seen = "two passes over the same images gave different answers" if repeats is False else "eval() was not called"
    return Suspicion(
        {"evaluation_repeats": repeats, "evaluates_in_training_mode": left},
        f"The net is evaluated in training mode ({seen}): dropout and batch normalization change its answers.",
        "Call model.eval() before validation, test and prediction and model.train() after it; in Keras training=False.",
        line=said[0].line if said else None,
        weight=0.8 if repeats is False else 0.6,
        severity="severe" if repeats is False else "warning",
    )


def gradients_never_cleared(record: Record) -> Suspicion | None:
    """Each step is made with the gradients of all steps before it."""
    said = mentioned(record, "missing-zero-grad")
    if record.training.gradients_cleared is not False and not said:
        return None
    return Suspicion(
        {"gradients_cleared": False},
        "The training loop never clears the gradients: each step is made with the sum of all earlier ones.",
        "Call optimizer.zero_grad() before loss.backward().",
        line=said[0].line if said else None,
        weight=0.9,
    )


def input_ignored(record: Record) -> Suspicion | None:
    """The trained net does as well on blank images."""
    zeroed, real = record.batch.zeroed_loss, record.batch.real_loss
    if zeroed is None or real is None or learns_well(record) or zeroed > 1.02 * real:
        return None
    if record.curves.steps is not None and record.curves.steps < 100:  # it has not begun to use it
        return None
    return Suspicion(
        {"zeroed_loss": zeroed, "real_loss": real},
        f"On blank images the loss is {zeroed:.3g}, on real ones {real:.3g}: the net does not use its input.",
        "Look at a batch right before it enters the net; check that labels and images belong together.",
        weight=0.5,
    )


BATCH_RULES = (
    Rule(
        "initial-loss-too-high", "first loss too high", "severe", "batch", initial_loss_too_high,
        "loss before the first step > 3 ln C + 1, C the outputs of the net; a warning where the net learned",
        "summed losses, class weights, trained weights", "Karpathy, A Recipe for Training Neural Networks (2019)",
        (*STUCK, *BLOWN[:4]),
    ),
    Rule(
        "dying-relu", "units always zero", "warning", "batch", dying_relu,
        "in one layer more than half of the units are 0 for every image of the sample; severe above 90 %",
        "50 to 70 % zeros among all outputs, which is normal after relu", "TheDeepChecker (TOSEM 2022), dead units",
        ("no-gradient",),
    ),
    Rule(
        "vanishing-gradient", "gradients fade", "severe", "batch", vanishing_gradient,
        "at the beginning, first layer's gradient < 1e-4 and < .001 of the last layer's, not learned well",
        "frozen layers; the end of a training that converged", "AutoTrainer (ICSE 2021)",
        STUCK,
    ),
    Rule(
        "exploding-gradient", "gradients explode", "severe", "batch", exploding_gradient,
        "a gradient's norm above 1e4 or not finite, not learned well", "summed losses",
        "TheDeepChecker (1e6), lowered", BLOWN[:1] + STUCK,
    ),
    Rule(
        "no-gradient", "no gradient reaches a layer", "severe", "batch", no_gradient,
        "a gradient of exactly 0 in a layer that is not frozen and not all dead, not learned well",
        "frozen layers", "AutoTrainer (ICSE 2021), gradients", STUCK,
    ),
    Rule(
        "missing-eval-mode", "evaluation in training mode", "severe", "batch", missing_eval_mode,
        "two passes over the same images in evaluation differ; or (a warning) eval() is never called",
        "nets without dropout and batch normalization; differences of rounding",
        "PyTorch's documentation of Module.eval",
    ),
    Rule(
        "gradients-never-cleared", "gradients add up over the steps", "severe", "batch", gradients_never_cleared,
        "no zero_grad between steps", "gradients gathered over some batches on purpose and cleared then",
        "PyTorch's documentation of Optimizer.zero_grad", ("training-unstable", "exploding-gradient", "not-learning"),
    ),
    Rule(
        "input-ignored", "the input makes no difference", "severe", "batch", input_ignored,
        "loss on zeroed images <= 1.02 times that on real ones after 100 steps, not learned well",
        "nets that learned", "TheDeepChecker (TOSEM 2022), zeroed inputs", STUCK[:3],
    ),
)  # fmt: skip
