"""Every rule speaks where its cause is, names the cause first, and is silent on healthy trainings."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fovea.diagnosis.examine import as_finding, examination, examine, most_important, suspicions
from fovea.diagnosis.record import CurveFacts, LayerFacts, Mention, Record, SplitFacts
from fovea.diagnosis.rules import RULES
from fovea.diagnosis.rulesdoc import rewritten
from tests.diagnosis.records import (
    CIFAR,
    HEALTHY,
    LAYERS,
    MNIST,
    SIGNALS,
    changed,
    with_broken_rule,
    without_curves,
)

STUCK_CURVES = {
    "running_loss": (2.31,) * 5,
    "running_accuracy": (0.101, 0.1, 0.099, 0.102, 0.1),
    "val_loss": (2.31,) * 5,
    "val_accuracy": (0.1,) * 5,
}
STUCK_END = {
    "accuracy": 0.1,
    "stored_accuracy": 0.1,
    "loss": 2.31,
    "class_accuracies": (1.0, *(0.0,) * 9),
    "predicted_counts": (10_000, *(0,) * 9),
}
STUCK = changed(
    curves=STUCK_CURVES, evaluation=STUCK_END, training={"epochs": 5}, batch={"real_loss": 2.31, "zeroed_loss": 2.31}
)
SCRIPT = without_curves(MNIST)
TINY = {"maximum": 0.0039, "std": 0.0012, "mean": 5e-4, "preprocessing": ("/255", "/255")}
RAW = {"maximum": 255.0, "mean": 33.0, "std": 78.0, "preprocessing": ()}


def layers(**changes: dict[str, Any]) -> tuple[LayerFacts, ...]:
    return tuple(replace(layer, **changes.get(layer.name, {})) for layer in LAYERS)


def curves(**values: Any) -> dict[str, Any]:
    return dict.fromkeys(("running_loss", "running_accuracy", "val_loss", "val_accuracy"), ()) | values


P2_FIRST = {
    "running_accuracy": (0.3584, 0.5131, 0.5721, 0.6080, 0.6385),
    "running_loss": (1.77, 1.38, 1.2, 1.1, 1.0),
    "val_accuracy": (0.4489, 0.4365, 0.5118, 0.4997, 0.5321),
    "val_loss": (8.68, 8.97, 7.73, 7.96, 7.44),
}

# id -> a record with that fault; the rule's finding must come first.
SICK: dict[str, Record] = {
    "inputs-not-scaled": changed(STUCK, train=RAW, val=RAW, test=RAW),
    "inputs-scaled-twice": changed(STUCK, train=TINY, val=TINY, test=TINY),
    "inputs-constant": changed(STUCK, train={"std": 0.0, "minimum": 0.0, "maximum": 0.0, "num_values": 1}),
    "preparation-differs": changed(val=RAW, curves=P2_FIRST),
    "validation-augmented": changed(val={"is_augmented": True}),
    "data-sorted": changed(STUCK, train={"is_shuffled": False, "longest_run": 5_400}),
    "not-shuffled": changed(SCRIPT, train={"is_shuffled": False, "longest_run": None}),
    "class-missing": changed(train={"class_counts": (6_000,) * 9 + (0,)}),
    "imbalance": changed(
        train={"class_counts": (50_000, *(440,) * 9)},
        evaluation={"class_accuracies": (0.999, *(0.3,) * 9), "majority_share": 0.9},
    ),
    "leakage-duplicates": changed(
        data_findings=(
            {
                "id": "shared-images",
                "severity": "warning",
                "evidence": {},
                "cause": "12 of 100 test images are training images.",
                "cure": "-",
            },
        )
    ),
    "too-little-data": changed(
        train={"count": 80, "class_counts": (8,) * 10},
        curves=curves(running_accuracy=(0.3, 0.5, 0.6, 0.62, 0.62), val_accuracy=(0.3, 0.4, 0.5, 0.55, 0.55)),
        evaluation={"accuracy": 0.5, "stored_accuracy": 0.5, "class_accuracies": None},
        training={"batch_size": 8, "epochs": 60},
    ),
    "blank-images": changed(train={"constant_images": 900}),
    "class-names-sorted-as-text": changed(
        Record("script", "folders.py", splits={"train": SplitFacts(count=9_000)}),
        classes=tuple(sorted(str(number) for number in range(12))),
    ),
    "learning-rate-too-high": changed(STUCK, training={"optimizer": "adam", "learning_rate": 0.1}),
    "learning-rate-too-low": changed(STUCK, training={"optimizer": "sgd", "learning_rate": 1e-6}),
    "batch-too-large": changed(
        CIFAR,
        training={"batch_size": 2_000, "epochs": 3},
        curves=curves(running_accuracy=(0.15, 0.25, 0.32), val_accuracy=(0.2, 0.28, 0.34)),
        evaluation={"accuracy": 0.34, "stored_accuracy": 0.34},
    ),
    "batch-too-small": changed(
        CIFAR,
        training={"batch_size": 2},
        net={"layers": (*LAYERS[:1], LayerFacts("b", "batchnormalization"), *LAYERS[1:])},
    ),
    "too-few-updates": changed(
        SCRIPT, train={"count": 3_000, "class_counts": (300,) * 10}, training={"epochs": 1, "batch_size": 32}
    ),
    "weight-decay-too-high": changed(STUCK, training={"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.5}),
    "augmentation-extreme": changed(CIFAR, training={"augmentation": {"zoom_range": (2.0, 0.1)}}),
    "augmentation-in-radians": changed(training={"augmentation": {"rotation_range": 0.26}}),
    "augmentation-breaks-labels": changed(training={"augmentation": {"horizontal_flip": True}}, dataset="mnist"),
    "test-set-chooses": changed(training={"validation_source": "test", "monitors": ("val_accuracy",)}),
    "fit-twice": changed(training={"num_fits": 2}),
    "callback-not-passed": changed(SCRIPT, training={"callbacks_made": ("early_stop",), "callbacks_passed": ()}),
    "monitor-matches-nothing": changed(SCRIPT, training={"monitors": ("val_acc",)}),
    "label-smoothing-too-high": changed(training={"label_smoothing": 0.9}),
    "doubled-softmax": changed(CIFAR, training={"loss": "crossentropy", "from_logits": True, "framework": "torch"}),
    "missing-softmax": changed(STUCK, net={"last_activation": "linear"}),
    "wrong-last-activation": changed(STUCK, net={"last_activation": "relu"}),
    "wrong-output-units": changed(STUCK, net={"output_units": 1}),
    "labels-out-of-range": changed(STUCK, train={"label_minimum": 1, "label_maximum": 10}),
    "loss-mismatch": changed(STUCK, train={"label_kind": "one_hot", "label_width": 10}),
    "metric-mismatch": changed(training={"metrics": ("binary_accuracy",)}),
    "missing-activation": changed(
        CIFAR,
        net={
            "layers": layers(
                conv1={"activation": "linear"},
                conv2={"activation": "linear"},
                dense1={"activation": "linear"},
                pool1={"kind": "flatten"},
                pool2={"kind": "dropout", "rate": 0.1},
            )
        },
    ),
    "hidden-softmax": changed(STUCK, net={"layers": layers(dense1={"activation": "softmax"})}),
    "layer-not-connected": changed(
        net={"layers": (*LAYERS, LayerFacts("norm", "batchnormalization", is_connected=False, line=12))}
    ),
    "layer-not-in-optimizer": changed(CIFAR, net={"layers": layers(conv1={"in_optimizer": False})}),
    "frozen-by-mistake": changed(CIFAR, net={"layers": layers(dense2={"is_trainable": False})}),
    "constant-initialisation": changed(STUCK, net={"layers": layers(conv1={"initializer": "zeros"})}),
    "dropout-misuse": changed(CIFAR, net={"layers": layers(dropout={"rate": 0.95})}),
    "filters-shrink": changed(net={"layers": layers(conv1={"units": 256})}),
    "initial-loss-too-high": changed(STUCK, batch={"initial_loss": 140.0}),
    "dying-relu": changed(CIFAR, batch={"last": tuple(replace(s, dead_fraction=0.97) for s in SIGNALS)}),
    "vanishing-gradient": changed(STUCK, batch={"first": (replace(SIGNALS[0], gradient_norm=1e-7), *SIGNALS[1:])}),
    "exploding-gradient": changed(STUCK, batch={"first": (replace(SIGNALS[0], gradient_norm=1e6), *SIGNALS[1:])}),
    "no-gradient": changed(STUCK, batch={"first": (replace(SIGNALS[0], gradient_norm=0.0), *SIGNALS[1:])}),
    "missing-eval-mode": changed(batch={"evaluation_repeats": False}),
    "gradients-never-cleared": changed(STUCK, training={"gradients_cleared": False}),
    "input-ignored": changed(
        CIFAR,
        curves=curves(),
        evaluation={"accuracy": None, "stored_accuracy": None},
        batch={"zeroed_loss": 1.5, "real_loss": 1.5},
    ),
    "loss-not-finite": changed(STUCK, curves={"running_loss": (2.3, math.nan)}),
    "saturated-softmax": changed(curves=P2_FIRST),
    "not-learning": changed(STUCK, evaluation={"predicted_counts": None}, batch={"zeroed_loss": None}),
    "training-unstable": changed(
        CIFAR,
        curves={"running_accuracy": (0.4, 0.6, 0.3, 0.62, 0.35, 0.6, 0.33, 0.5, 0.2, 0.3), "val_accuracy": (0.4,) * 10},
    ),
    "too-few-epochs": changed(
        CIFAR,
        training={"epochs": 4},
        curves=curves(running_accuracy=(0.2, 0.3, 0.4, 0.5), val_accuracy=(0.25, 0.34, 0.43, 0.52)),
    ),
    "underfitting": changed(
        CIFAR,
        curves={
            "running_accuracy": (0.3, 0.33, 0.34, 0.345, 0.346),
            "val_accuracy": (0.3, 0.33, 0.34, 0.34, 0.34),
            "val_loss": (2.0, 1.9, 1.85, 1.84, 1.84),
        },
        evaluation={"accuracy": 0.34, "stored_accuracy": 0.34, "class_accuracies": None},
    ),
    "overfitting": changed(
        CIFAR,
        curves={
            "running_accuracy": (0.5, 0.7, 0.85, 0.93, 0.97, 0.99),
            "val_accuracy": (0.55, 0.66, 0.69, 0.68, 0.67, 0.66),
            "val_loss": (1.3, 1.0, 0.95, 1.1, 1.4, 1.8),
        },
        evaluation={"accuracy": 0.66, "stored_accuracy": 0.66},
    ),
    "validation-above-train": changed(curves={"train_accuracy": (0.5, 0.6, 0.7, 0.75, 0.78, 0.8, 0.8, 0.8)}),
    "suspicious-success": changed(curves={"val_accuracy": (1.0,) * 8, "val_loss": (0.001,) * 8}),
    "constant-predictor": changed(STUCK, curves=curves(), batch={"zeroed_loss": None}),
    "no-better-than-constant": changed(
        STUCK, curves=curves(), batch={"zeroed_loss": None}, evaluation={"predicted_counts": (1_000,) * 10}
    ),
    "test-at-chance": changed(
        evaluation={**STUCK_END, "predicted_counts": (1_000,) * 10, "class_accuracies": (0.1,) * 10}
    ),
    "order-mismatch": changed(evaluation={"stored_accuracy": 0.1}),
    "validation-test-gap": changed(evaluation={"accuracy": 0.7, "stored_accuracy": 0.7}),
    "test-too-small": changed(test={"count": 20}, evaluation={"count": 20, "accuracy": 0.85, "stored_accuracy": 0.85}),
    "class-never-recognised": changed(
        evaluation={"class_accuracies": (*(0.99,) * 9, 0.0), "accuracy": 0.95, "stored_accuracy": 0.95}
    ),
    "unstable-over-seeds": changed(evaluation={"seed_accuracies": (0.1, 0.97, 0.96)}),
    "test-opened-often": changed(evaluation={"test_looks": 60}),
}


SMALL_STEPS = tuple(replace(signals, update_ratio=4e-4) for signals in SIGNALS)
FEW = {"count": 1_200, "class_counts": (120,) * 10}
# what is unusual -> (the finding that must come first, a record): milder forms, and causes that look like others.
MILD: dict[str, tuple[str, Record]] = {
    "a small rate that adapts and still gets nowhere": (
        "learning-rate-too-low",
        changed(
            train=FEW,
            training={"learning_rate": 2e-5},
            batch={"first": SMALL_STEPS, "last": SMALL_STEPS},
            curves=curves(running_accuracy=(0.1, 0.13, 0.18), val_accuracy=(0.12, 0.16, 0.2), steps=300),
            evaluation={"accuracy": 0.2, "stored_accuracy": 0.2},
        ),
    ),
    "two epochs, the second far better": (
        "too-few-epochs",
        changed(
            train=FEW,
            training={"epochs": 2},
            curves=curves(running_accuracy=(0.45, 0.78), val_accuracy=(0.7, 0.82), steps=76),
            evaluation={"accuracy": 0.82, "stored_accuracy": 0.82},
        ),
    ),
    "one epoch of nineteen steps": (
        "too-few-updates",
        changed(
            train=FEW,
            training={"epochs": 1},
            curves=curves(running_accuracy=(0.5,), val_accuracy=(0.77,), steps=19),
            evaluation={"accuracy": 0.77, "stored_accuracy": 0.77},
        ),
    ),
    "large batches, still rising at 84 %": (
        "batch-too-large",
        changed(
            train=FEW,
            training={"batch_size": 512, "epochs": 12},
            curves=curves(running_accuracy=(0.6, 0.76, 0.80), val_accuracy=(0.7, 0.8, 0.84), steps=36),
            evaluation={"accuracy": 0.84, "stored_accuracy": 0.84},
        ),
    ),
    "a strong pull to zero at 87 %": (
        "weight-decay-too-high",
        changed(
            training={"weight_decay": 0.05},
            curves=curves(running_accuracy=(0.7, 0.84, 0.85), val_accuracy=(0.8, 0.86, 0.87)),
            evaluation={"accuracy": 0.87, "stored_accuracy": 0.87},
        ),
    ),
    "rare classes 14 points behind": (
        "imbalance",
        changed(
            train={"class_counts": (1_000,) * 5 + (40,) * 5},
            evaluation={"class_accuracies": (0.99,) * 5 + (0.85,) * 5},
        ),
    ),
    "few images, hence few steps": (
        "too-little-data",
        changed(
            train={"count": 100, "class_counts": (10,) * 10},
            training={"epochs": 10},
            curves=curves(running_accuracy=(0.3, 0.5, 0.6), val_accuracy=(0.3, 0.4, 0.5), steps=40),
            evaluation={"accuracy": 0.5, "stored_accuracy": 0.5},
        ),
    ),
    "a first loss that fits the three thousand outputs": (
        "wrong-output-units",
        changed(net={"output_units": 3_010}, batch={"initial_loss": 8.1}, evaluation={"predicted_counts": None}),
    ),
}


@pytest.mark.parametrize("name", MILD)
def test_milder_forms_are_told_too(name: str) -> None:
    rule, record = MILD[name]
    assert [finding.id for finding in examine(record)][:1] == [rule]


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_trainings_are_left_alone(name: str) -> None:
    assert [str(finding) for finding in examine(HEALTHY[name])] == []


@pytest.mark.parametrize("name", SICK)
def test_the_cause_comes_first(name: str) -> None:
    found = examine(SICK[name])
    assert found
    assert found[0].id == name, [(finding.id, finding.severity) for finding in found]
    assert found[0].cause
    assert found[0].cure


def test_a_test_set_is_at_chance_where_it_is_surely_below_validation() -> None:
    for val, test, speaks in ((6, 16, False), (600, 1_600, True)):
        end = {"count": test, "accuracy": 0.12, "stored_accuracy": 0.12, "predicted_counts": (test // 10,) * 10}
        rises = curves(val_accuracy=(0.3, 0.4, 0.5), train_accuracy=(0.3, 0.4, 0.5))
        record = changed(val={"count": val}, test={"count": test}, curves=rises, evaluation=end)
        assert ("test-at-chance" in {finding.id for finding in examine(record)}) is speaks


def test_a_small_test_that_stayed_closed_is_told_by_its_own_count() -> None:
    record = changed(test={"count": 30}, evaluation={"split": "val", "count": 12, "accuracy": 0.5})
    found = RULES["test-too-small"].check(record)
    assert found is not None
    assert found.cause.startswith("30 test images: 50% right means anything from 33% to 67%")


def test_every_rule_is_tried() -> None:
    said = {name for name, rule in RULES.items() if rule.stage == "program"}
    assert set(SICK) | said == set(RULES)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.stage == "program"])
def test_a_mention_is_told_with_its_line(name: str) -> None:
    word = RULES[name].threshold.split("mention ")[1].rstrip(")")
    record = changed(SCRIPT, mentions=(Mention(f"{word}-x:y", 7, "this", "that"),))
    found = examine(record)
    assert [finding.id for finding in found] == [name]
    assert found[0].line == 7
    assert "{" not in found[0].cause + found[0].cure


def test_one_epoch_of_a_few_steps_is_short_even_where_most_is_right() -> None:
    one = curves(running_accuracy=(0.55,), running_loss=(1.4,), val_accuracy=(0.77,), val_loss=(0.8,), steps=19)
    end = {"accuracy": 0.77, "stored_accuracy": 0.77, "class_accuracies": None, "predicted_counts": None}
    found = examine(changed(training={"epochs": 1}, curves=one, evaluation=end))
    assert [finding.id for finding in found] == ["too-few-updates"]
    assert "19 steps" in found[0].cause


def test_a_rule_that_fails_silences_no_other_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fovea.diagnosis.examine.RULES", with_broken_rule("overfitting"))
    found = examination(STUCK)
    assert [finding.id for finding in found.findings] == [finding.id for finding in examine(STUCK)]
    assert "not-learning" in {finding.id for finding in found.findings}
    (said,) = found.unjudged
    assert said == "The rule overfitting could not be judged (ZeroDivisionError: no luck); the others were."


def test_what_explains_others_silences_them() -> None:
    found = {finding.id for finding in examine(SICK["inputs-not-scaled"])}
    assert found == {"inputs-not-scaled"}
    alone = {rule.id for rule, _ in suspicions(STUCK)}
    assert "not-learning" in alone


def test_a_note_explains_nothing() -> None:
    record = changed(STUCK, training={"validation_source": "test"})
    assert {"test-set-chooses", "not-learning"} <= {finding.id for finding in examine(record)}


def test_known_explanations_exist_and_are_not_mutual() -> None:
    for rule in RULES.values():
        assert set(rule.explains) <= set(RULES), rule.id
        assert rule.id not in rule.explains


def test_an_empty_record_is_silent_whoever_filled_it() -> None:
    for origin in ("run", "data", "keras", "torch", "script"):
        assert examine(Record(origin, "nothing")) == []  # type: ignore[arg-type]


def test_findings_of_earlier_checks_are_kept_once() -> None:
    other = {"id": "seen-before", "severity": "severe", "evidence": {}, "cause": "c.", "cure": "d.", "confirmed": None}
    found = examine(changed(SICK["overfitting"], data_findings=(other,)))
    assert [finding.id for finding in found] == ["seen-before", "overfitting"]


def test_severe_findings_are_never_cut_off() -> None:
    rule, suspicion = next(pair for pair in suspicions(STUCK) if pair[0].severity == "severe")
    severe = as_finding(rule, suspicion)
    notes = [replace(severe, severity="note")] * 9
    assert len(most_important([*notes, severe])) == 6
    assert most_important([replace(severe, status="withdrawn")]) == []


def test_rules_of_scale_do_not_see_rounding() -> None:
    scaled = changed(val={"preprocessing": ("*0.003921569",)})
    assert examine(scaled) == []  # the same range in other words


def test_curves_that_are_too_short_or_broken_do_not_break_rules() -> None:
    for values in ((), (0.5,), (math.nan,), (math.inf, 0.1), (0.1, math.nan, 0.3)):
        every = dict.fromkeys(
            ("train_loss", "train_accuracy", "running_loss", "running_accuracy", "val_loss", "val_accuracy"), values
        )
        examine(replace(MNIST, curves=CurveFacts(**every)))
    examine(replace(MNIST, splits={"train": SplitFacts(count=0, class_counts=())}))


def test_the_page_lists_every_rule_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert rewritten(page) == page  # else: python -m fovea.diagnosis.rulesdoc docs/doctor.md
    assert all(f"`{name}`" in page for name in RULES)
