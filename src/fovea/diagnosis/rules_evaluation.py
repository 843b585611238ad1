"""Rules on the final figures: chance, order, the size of the test set, seeds."""

from __future__ import annotations

import statistics

from fovea.diagnosis.reading import chance, is_a_look, is_at_chance, mentioned, split, standard_error
from fovea.diagnosis.record import EvaluationFacts, Record
from fovea.diagnosis.rule import Rule, Suspicion
from fovea.evaluation.intervals import accuracy_score


def constant_predictor(record: Record) -> Suspicion | None:
    """Every image is given the same class."""
    final = record.evaluation
    counts = final.predicted_counts
    if not counts or sum(counts) < 20 or max(counts) < 0.99 * sum(counts) or (final.majority_share or 0.5) > 0.95:
        return None
    place = counts.index(max(counts))
    name = record.classes[place] if record.classes and place < len(record.classes) else str(place)
    return Suspicion(
        {"split": final.split, "accuracy": final.accuracy, "share": max(counts) / sum(counts)},
        f"Nearly every {final.split or 'held-back'} image was answered with the class {name!r}: the net has not "
        "learned to tell them apart.",
        "Check that the labels belong to the images; then a lower learning rate, more epochs or another net.",
        weight=0.7,
    )


def no_better_than_constant(record: Record) -> Suspicion | None:
    """The final figure is what a constant answer gives."""
    final, floor = record.evaluation, _final_floor(record)
    if final.accuracy is None or floor is None or not final.count:
        return None
    if final.count < (100 if is_a_look(record) else 20):
        return None
    low = accuracy_score(round(final.accuracy * final.count), final.count).low
    if low is None or low > floor:
        return None
    return Suspicion(
        {"split": final.split, "accuracy": final.accuracy, "constant_predictor_accuracy": floor},
        f"{final.accuracy:.1%} of {final.count:,} {final.split or 'held-back'} images cannot be told from always "
        f"answering the most frequent class ({floor:.1%}).",
        "Train longer, give more images, or judge by the accuracy of each class.",
        weight=0.6,
    )


def _final_floor(record: Record) -> float | None:
    return record.evaluation.majority_share or chance(record)


def test_at_chance(record: Record) -> Suspicion | None:
    """Good on validation, chance on test: the order of labels or their preparation differs."""
    final, floor = record.evaluation, _final_floor(record)
    held = record.curves.val_accuracy
    if final.split != "test" or final.accuracy is None or floor is None or not held or not final.count:
        return None
    if max(held) < floor + 0.3 * (1 - floor) or not is_at_chance(final.accuracy, floor, final.count):
        return None
    if max(held) - final.accuracy <= 3 * _noise(max(held), record):  # so few images tell nothing
        return None
    return Suspicion(
        {"test_accuracy": final.accuracy, "val_accuracy": max(held), "chance": floor},
        f"Validation reached {max(held):.1%}, the test {final.accuracy:.1%}, which is chance: labels and predictions "
        "stand in different order, classes are numbered differently, or the test images are prepared differently.",
        "Predict with shuffle=False, take labels and predictions from one pass, compare class_indices.",
        weight=0.9,
    )


def _noise(held: float, record: Record) -> float:
    """The standard errors of the final accuracy and of validation's, added."""
    final = record.evaluation
    return standard_error(final.accuracy or 0.0, final.count) + standard_error(held, split(record, "val").count)


def order_mismatch(record: Record) -> Suspicion | None:
    """Predictions of a shuffled source, or stored ones that do not give the accuracy that was reported."""
    final, said = record.evaluation, mentioned(record, "shuffled-predictions")
    seen, evidence = "predictions of a shuffled source are held against labels in their stored order", {}
    if final.stored_accuracy is not None and final.accuracy is not None:
        if abs(final.stored_accuracy - final.accuracy) <= max(0.005, 2 / (final.count or 1000)):
            return None
        evidence = {"accuracy": final.accuracy, "stored_accuracy": final.stored_accuracy}
        seen = f"{final.accuracy:.1%} were reported, predictions and labels in order give {final.stored_accuracy:.1%}"
    elif not said:
        return None
    return Suspicion(
        dict(evidence),
        f"Labels and predictions stand in different order: {seen}.",
        "Predict with shuffle=False; take labels and predictions from one pass.",
        line=said[0].line if said else None,
        weight=0.9,
    )


def validation_test_gap(record: Record) -> Suspicion | None:
    """The test falls far below validation."""
    final, held = record.evaluation, record.curves.val_accuracy
    if final.split != "test" or final.accuracy is None or not held:
        return None
    gap = max(held) - final.accuracy
    if gap <= max(0.1, 3 * _noise(max(held), record)):
        return None
    return Suspicion(
        {"test_accuracy": final.accuracy, "val_accuracy": max(held)},
        f"The test ({final.accuracy:.1%}) falls {gap * 100:.0f} points below validation ({max(held):.1%}), more than "
        "chance: training images stand in validation too, or the test images are other images.",
        "Look for duplicates between training and validation; hold scale and source of the test images against them.",
        weight=0.6,
    )


def test_too_small(record: Record) -> Suspicion | None:
    """The interval of the final figure is wider than most differences."""
    final = record.evaluation
    known = EvaluationFacts(split="test", count=split(record, "test").count)
    count = final.count if final.count is not None and final.split == "test" else known.count
    if count is None or count >= 100 or count == 0:
        return None
    right = round((final.accuracy if final.accuracy is not None else 0.8) * count)
    score = accuracy_score(right, count)
    if score.low is None or score.high is None or score.high - score.low <= 0.1:
        return None
    return Suspicion(
        {"count": count, "low": score.low, "high": score.high},
        f"{count} test images: {right / count:.0%} right means anything from {score.low:.0%} to {score.high:.0%}.",
        "Hold back 1,000 images or more, or use cross-validation.",
        line=record.line_of("splits.test.count"),
        weight=0.5,
    )


def class_never_recognised(record: Record) -> Suspicion | None:
    """One class is always taken for others although the rest is learned."""
    final = record.evaluation
    recalls = final.class_accuracies
    if is_a_look(record) or not recalls or len(recalls) < 2 or not final.count or final.count < 10 * len(recalls):
        return None
    never = [place for place, value in enumerate(recalls) if value == 0]
    if not never:
        return None
    named = [record.classes[place] if record.classes else str(place) for place in never]
    return Suspicion(
        {"split": final.split, "classes": named},
        f"Of the class{'es' if len(named) > 1 else ''} {', '.join(named[:4])} not one image is recognised.",
        "Look at these images and their labels; check how many were trained on.",
        weight=0.5,
    )


def unstable_over_seeds(record: Record) -> Suspicion | None:
    """Some seeds learn, others do not; or the shown one is not like the others."""
    values, floor = record.evaluation.seed_accuracies, chance(record)
    if not values or len(values) < 3 or floor is None:
        return None
    shares = [(value - floor) / (1 - floor) for value in values]
    if min(shares) < 0.2 and max(shares) > 0.5:
        failed = sum(share < 0.2 for share in shares)
        return Suspicion(
            {"seed_accuracies": list(values)},
            f"Of {len(values)} seeds {failed} did not learn: the others were lucky.",
            "Lower the learning rate, warm it up, or use he_normal; then train the seeds again.",
            weight=0.8,
        )
    shown = record.evaluation.accuracy
    spread, mean = statistics.stdev(values), statistics.fmean(values)
    if shown is None or len(values) < 5 or abs(shown - mean) <= max(3 * spread, 0.01):
        return None
    return Suspicion(
        {"seed_accuracies": list(values), "accuracy": shown, "mean": mean},
        f"{shown:.2%} is not what this training gives: {len(values)} seeds give {mean:.2%} +- {spread:.2%}.",
        "Report mean and spread over seeds.",
        weight=0.4,
        severity="note",
    )


def test_opened_often(record: Record) -> Suspicion | None:
    """The test set has been looked at so often that it has been chosen by."""
    looks = record.evaluation.test_looks
    if looks is None or looks <= 20:
        return None
    return Suspicion(
        {"test_looks": looks},
        f"{looks} different settings looked at this test set: whichever is best there was chosen by it.",
        "Choose by validation; keep the test closed (--no-test) until the end.",
        weight=0.1,
    )


EVALUATION_RULES = (
    Rule(
        "constant-predictor", "one answer for all", "severe", "evaluation", constant_predictor,
        "99 % of 20 and more held-back images are given one class", "sets of which one class holds 95 %",
        "own bound", ("no-better-than-constant", "class-never-recognised"),
    ),
    Rule(
        "no-better-than-constant", "no better than a constant answer", "warning", "evaluation",
        no_better_than_constant, "Wilson's lower bound <= share of the most frequent class",
        "fewer than 20 images (100 where data alone is looked at)", "Wilson (1927)", ("class-never-recognised",),
    ),
    Rule(
        "test-at-chance", "good on validation, chance on test", "severe", "evaluation", test_at_chance,
        "validation 30 % of the way from chance, the test within 2.5 standard errors + .5 points of chance",
        "nets that validation shows at chance too; gaps of 3 standard errors of both or less", "own check",
        ("validation-test-gap", "no-better-than-constant", "class-never-recognised"),
    ),
    Rule(
        "order-mismatch", "labels and predictions in different order", "severe", "evaluation", order_mismatch,
        "stored predictions give another accuracy (by .5 points and 2 images); or a program predicts a shuffled source",
        "rounding; sources that do not shuffle", "own check",
        ("test-at-chance", "validation-test-gap"),
    ),
    Rule(
        "validation-test-gap", "test far below validation", "warning", "evaluation", validation_test_gap,
        "by 10 points and 3 standard errors of both", "small sets", "Barz and Denzler, arXiv 1902.00423, on duplicates",
    ),
    Rule(
        "test-too-small", "too few test images to tell", "warning", "evaluation", test_too_small,
        "fewer than 100 images and a 95 % interval wider than 10 points", "-",
        "Wilson (1927); a published program (docs/programs.md, P0)",
    ),
    Rule(
        "class-never-recognised", "a class never recognised", "warning", "evaluation", class_never_recognised,
        "accuracy 0 of a class, with 10 images a class on average", "classes without images there",
        "SageMaker Debugger, ClassImbalance",
    ),
    Rule(
        "unstable-over-seeds", "luck of the seed", "severe", "evaluation", unstable_over_seeds,
        "of 3 seeds and more some below 20 % and some above 50 % of the way from chance; a note where the shown figure "
        "is 3 standard deviations and a point from the mean of 5 and more",
        "ordinary spread", "Picard, arXiv 2109.08203; Bouthillier et al., arXiv 2103.03098",
    ),
    Rule(
        "test-opened-often", "test set opened often", "note", "evaluation", test_opened_often,
        "more than 20 different settings in the ledger of looks", "seeds of one setting",
        "Recht et al. (2019), on test sets used again and again",
    ),
)  # fmt: skip
