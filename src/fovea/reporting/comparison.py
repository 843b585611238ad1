"""The report of several runs: what can be told apart, and what cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fovea.errors import DataError
from fovea.evaluation.intervals import Score, mean_score, percent, standard_deviation
from fovea.evaluation.ledger import chose_its_epoch, read_looks
from fovea.evaluation.metrics import accuracy, class_scores, cross_entropy
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.runs_compared import RunComparison, RunPair, compare_runs, p_text
from fovea.evaluation.stored import StoredRun
from fovea.reporting.again import call_of, machine_blocks
from fovea.reporting.blocks import Block, Chart, Code, Details, Paragraph, Pictures, Report, Section, Table
from fovea.reporting.curves import draw_curves_of_runs
from fovea.reporting.discipline import ledger_blocks
from fovea.reporting.figures import SPLIT_WORDS
from fovea.reporting.sections import (
    accuracy_text,
    alerts_of,
    caveat_of,
    duration,
    interval_words,
    looks_at_test,
    mistake_pictures,
)
from fovea.reporting.style import shortened
from fovea.reporting.svg import inline_svg
from fovea.settings import flat_settings
from fovea.studies.seeds import AnyRun, FoldStudy, SeedStudy

Runs = Mapping[str, StoredRun]  # name -> run
_MOST_CHANGED = 200
_FOOTER = "Made by Fovea. This page needs no network and no other file."


def comparison_report(runs: Runs) -> Report:
    """The page of two or more runs.

    Raises:
        DataError: when a file of a run is missing or damaged.
    """
    split, found = _judged(runs)
    comparison, alerts = _compared(runs)
    if comparison is not None and len(runs) == 2:
        headline, interval, sentence = _two(comparison)
    else:
        headline, interval, sentence = _many(found, split)
    return Report(
        title=" and ".join(runs) if len(runs) <= 3 else f"{len(runs)} runs",
        headline=headline,
        interval=interval,
        sentence=f"{sentence} {_caveat(runs, split)}".rstrip(),
        facts=_facts(runs, found, full_names=False),
        alerts=[*alerts, *_alerts(runs)],
        sections=_sections(runs, found, split, comparison),
        footer=_FOOTER,
    )


def study_report(study: SeedStudy[AnyRun]) -> Report:
    """The page of a study of seeds: mean, interval and spread first, then its runs."""
    runs = {f"{study.unit} {seed}": run for seed, run in zip(study.seeds, study.runs, strict=True)}
    split, found = _judged(runs)
    accuracies = [accuracy(each).value for each in found.values()]
    score, spread = mean_score(accuracies, study.confidence), standard_deviation(accuracies) * 100
    if isinstance(study, FoldStudy):
        return _fold_report(study, runs, found)
    sentence = (
        f"Mean {SPLIT_WORDS[split]} accuracy of {len(runs)} trainings that differ in their seed alone, with its "
        f"{percent(study.confidence)} interval. From seed to seed the accuracy varies by {spread:.2f} points (standard "
        "deviation). The best of the seeds is no figure to report."
        if len(runs) > 1
        else f"The {SPLIT_WORDS[split]} accuracy of one training: a spread needs more seeds."
    )
    return Report(
        title=study.path.resolve().name,
        headline=f"{score.value:.2%}",
        interval=interval_words(score),
        sentence=f"{sentence} {_caveat(runs, split)}".rstrip(),
        facts=_facts(runs, found, full_names=True, confidence=study.confidence),
        alerts=_alerts(runs),
        sections=_sections(runs, found, split, confidence=study.confidence),
        footer=_FOOTER,
    )


def _fold_report(study: FoldStudy[AnyRun], runs: Runs, found: Mapping[str, Predictions]) -> Report:
    """The page of a study of folds: the pooled answers first, then each fold."""
    score, test = study.out_of_fold, study.test_accuracy
    chose = any(map(chose_its_epoch, runs.values()))
    sentence = (
        f"Each of {score.count:,} training images was answered by the one of {len(runs)} nets that was trained without "
        f"it; the {percent(study.confidence)} interval speaks of other images, answered by these nets. "
        f"From fold to fold the {SPLIT_WORDS[_judged(runs)[0]]} accuracy varies by "
        f"{study.standard_deviation * 100:.2f} points (standard deviation). The folds share most of their training "
        "images: no error of their mean follows from that spread."
    )
    sentence += " Each fold chose the epoch of its net, which makes the figure slightly too good." if chose else ""
    facts = [] if test is None else [("test accuracy, mean over folds", f"{test.value:.2%}")]
    held_out = [(name, run.val_accuracy) for name, run in list(runs.items())[:8]]
    return Report(
        title=study.path.resolve().name,
        headline=f"{score.value:.2%}",
        interval=interval_words(score),
        sentence=sentence,
        facts=[*facts, *((f"{name}, held out", accuracy_text(each)) for name, each in held_out if each is not None)],
        alerts=_alerts(runs),
        sections=_sections(runs, found, _judged(runs)[0], confidence=study.confidence),
        footer=_FOOTER,
    )


def _facts(
    runs: Runs, found: Mapping[str, Predictions], full_names: bool, confidence: float = 0.95
) -> list[tuple[str, str]]:
    return [
        (name if full_names else shortened(name, 40), accuracy_text(accuracy(each, confidence), runs[name].mark))
        for name, each in list(found.items())[:8]
    ]


def _caveat(runs: Runs, split: str) -> str:
    marks = {run.mark for run in runs.values()}
    looks = max(looks_at_test(run) for run in runs.values()) if split == "test" else 0
    return caveat_of(split, looks, marks.pop() if len(marks) == 1 else None, any(map(chose_its_epoch, runs.values())))


def _alerts(runs: Runs) -> list[Paragraph]:
    return [
        Paragraph(f"{shortened(name, 40)}: {alert.text}", alert.tone)
        for name, run in runs.items()
        for alert in alerts_of(run)
    ]


def _judged(runs: Runs) -> tuple[str, dict[str, Predictions]]:
    """The split that all runs can be judged by, and their predictions of it."""
    split = "test" if all(run.has_test for run in runs.values()) else "val"
    if split == "val" and not all(run.has_val for run in runs.values()):
        raise DataError("Some of these runs have no validation images and others left their test split closed.")
    return split, {name: run.predictions(split) for name, run in runs.items()}


def _compared(runs: Runs) -> tuple[RunComparison | None, list[Paragraph]]:
    """The runs held against the first, or why they cannot be; and what stands against their figures."""
    try:
        found = compare_runs(runs)
    except DataError as error:
        return None, [Paragraph(f"The runs cannot be held against each other: {error}", "warning")]
    return found, [Paragraph(text, "warning") for text in found.warnings]


def _two(comparison: RunComparison) -> tuple[str, str, str]:
    (pair,) = comparison.pairs
    difference = pair.test.difference
    first, second = (shortened(name, 40) for name in comparison.runs)
    text = (
        f"{pair.sentence(first, second)} {pair.test.only_second:,} images are answered rightly only by {second}, "
        f"{pair.test.only_first:,} only by {first}."
    )
    return f"{difference.value * 100:+.2f} points", _points(difference), text


def _points(difference: Score) -> str:
    assert difference.low is not None
    assert difference.high is not None
    return f"{difference.low * 100:+.2f} to {difference.high * 100:+.2f}"


def _many(found: Mapping[str, Predictions], split: str) -> tuple[str, str, str]:
    values = [accuracy(each).value for each in found.values()]
    span = f"lowest {min(values):.2%}, highest {max(values):.2%}"
    return f"{len(found)} runs", span, f"Accuracy on the {SPLIT_WORDS[split]} images, each with its interval below."


def _sections(
    runs: Runs,
    found: Mapping[str, Predictions],
    split: str,
    comparison: RunComparison | None = None,
    confidence: float = 0.95,
) -> list[Section]:
    sections = [
        Section("scores", "Scores", _scores(runs, found, split, comparison, confidence)),
        Section("curves", "Learning curves", _curves(runs)),
        Section("settings", "Settings that differ", settings_blocks(runs)),
        Section("classes", "Classes", _classes(found, split, confidence)),
    ]
    if comparison is not None:
        pictures = _disagreements(runs, found, split) if len(runs) == 2 else []
        sections.append(Section("images", "Images that changed sides", [*_changed(comparison), *pictures]))
    if split == "test":
        sections.append(Section("test-set", "The test set", ledger_blocks(read_looks(next(iter(runs.values()))))))
    sections.append(Section("machine", "Machine and versions", _machines(runs)))
    again = [Code(call_of(run), f"What trains {name} again") for name, run in runs.items()]
    return [*sections, Section("again", "Make them again", again)]


def _scores(
    runs: Runs, found: Mapping[str, Predictions], split: str, comparison: RunComparison | None, confidence: float
) -> list[Block]:
    pairs = {} if comparison is None else {pair.second_name: pair for pair in comparison.pairs}
    head = ["run", "accuracy", f"{percent(confidence)} interval", "right", "loss"]
    head += ["against the first", "95% interval", "p", "mid-p"] if pairs else []
    head += ["p, Holm"] if len(pairs) > 1 else []
    rows, trainings = [], []
    for name, each in found.items():
        run, score = runs[name], accuracy(each, confidence)
        row = [
            shortened(name, 40),
            f"{score.value:.2%}" + (f", {run.mark}" if run.mark else ""),
            interval_words(score),
            f"{int(each.correct.sum()):,} of {len(each):,}",
            f"{cross_entropy(each, run.recipe.training.loss_clip):.4f}",
        ]
        training = [
            shortened(name, 40),
            f"{run.result['best_epoch']} of {run.result['epochs']}",
            f"{run.result['parameters']:,}",
            duration(run.result["train_seconds"]),
        ]
        if pairs:
            figures = _against(pairs[name]) if name in pairs else [""] * 5
            row += figures if len(pairs) > 1 else figures[:-1]
        rows.append(row)
        trainings.append(training)
    note = (
        "Intervals and p speak of other images of the same kind. Each run is one training: another seed would give "
        "another net, which these intervals do not hold. To compare settings, train several seeds of each."
    )
    note += "".join(
        f" {shortened(name, 40)} answers with {run.views.words}." for name, run in runs.items() if run.views.words
    )
    return [
        Table(f"On the {SPLIT_WORDS[split]} images", head, rows),
        Paragraph(note, "note"),
        *(Paragraph(line, "note") for line in ([] if comparison is None else [*comparison.limits, *comparison.notes])),
        Table("Trainings", ["run", "epoch kept", "parameters", "time"], trainings),
    ]


def _against(pair: RunPair) -> list[str]:
    test = pair.test
    p_values = [p_text(p).removeprefix("= ") for p in (test.p_value, test.mid_p_value, pair.adjusted_p)]
    return [f"{test.difference.value * 100:+.2f}", _points(test.difference), *p_values]


def _changed(comparison: RunComparison) -> list[Block]:
    """The images that one of two runs alone answers rightly, as tables."""
    blocks: list[Block] = []
    for pair in comparison.pairs:
        first, second = (shortened(name, 24) for name in (pair.first_name, pair.second_name))
        if not pair.changed:
            blocks.append(Paragraph(f"Between {first} and {second} no image changed sides."))
            continue
        head = ["image", "true", first, second]
        for is_gained, right in ((False, first), (True, second)):
            images = [image for image in pair.changed if image.is_gained == is_gained]
            rows = [
                [shortened(text, 40) for text in (image.id, image.true, image.first, image.second)]
                for image in images[:_MOST_CHANGED]
            ]
            shown = "" if len(images) <= _MOST_CHANGED else f"; the first {_MOST_CHANGED} are shown"
            title = f"{len(images):,} images that only {right} answers rightly{shown}"
            blocks.append(Details(title, [Table(title, head, rows, figures=False)]) if rows else Paragraph(f"{title}."))
    return blocks


def _curves(runs: Runs) -> list[Block]:
    validated = [(name, run) for name, run in runs.items() if run.has_val][:8]
    last = [f"{name} ends at {run.history['val_accuracy'][-1]:.2%}" for name, run in validated] or ["none"]
    alt = f"Loss and accuracy of {len(runs)} runs. Validation accuracy: {', '.join(last)}."
    figure = draw_curves_of_runs({name: run.history for name, run in runs.items()})
    return [Chart(inline_svg(figure, "curves", alt), "Solid: validation. Dashed: training, measured alike.")]


def settings_blocks(runs: Runs, left_out: Collection[str] = ()) -> list[Block]:
    """The settings that are not the same in all runs, as a table.

    Args:
        left_out: full names of settings to pass over.
    """
    every = {name: flat_settings(run.recipe) for name, run in runs.items()}
    keys = list(dict.fromkeys(key for settings in every.values() for key in settings))
    rows = [
        [key, *(shortened(str(settings.get(key)), 60) for settings in every.values())]
        for key in keys
        if key not in left_out and len({str(settings.get(key)) for settings in every.values()}) > 1
    ]
    if not rows:
        return [Paragraph("None: all settings are the same.")]
    return [Table("Settings", ["setting", *(shortened(name, 40) for name in runs)], rows, figures=False)]


def _classes(found: Mapping[str, Predictions], split: str, confidence: float) -> list[Block]:
    scores = {name: {score.name: score for score in class_scores(each, confidence)} for name, each in found.items()}
    classes = list(next(iter(scores.values())))
    rows = []
    for label in classes:
        cells = []
        for of_run in scores.values():
            recall = of_run[label].recall if label in of_run else None
            cells.append("" if recall is None else f"{recall.value:.1%} ({recall.low:.1%} to {recall.high:.1%})")
        rows.append([shortened(label, 40), *cells])
    head = ["class", *(shortened(name, 40) for name in found)]
    caption = f"Accuracy of each class on the {SPLIT_WORDS[split]} images, with its {percent(confidence)} interval"
    table = Table(caption, head, rows)
    return [table] if len(classes) <= 20 else [Details("Every class as a table", [table])]


def _disagreements(runs: Runs, found: Mapping[str, Predictions], split: str) -> list[Block]:
    """Of the worst mistakes of each run those that the other one gets right."""
    blocks: list[Block] = []
    for name, other in zip(runs, reversed(list(runs)), strict=True):
        run, each = runs[name], found[name]
        if run.judged_by != split:
            continue
        pictures = mistake_pictures(run, each)
        answered = dict(zip(found[other].ids.astype(str).tolist(), found[other].correct.tolist(), strict=True))
        right = [answered.get(str(each.ids[row]), False) for row in run.gallery.mistake_rows.tolist()]
        items = [picture for picture, is_right in zip(pictures, right, strict=True) if is_right]
        caption = (
            f"Of the {len(pictures)} worst mistakes of {shortened(name, 40)} these {len(items)} are right in "
            f"{shortened(other, 40)}."
        )
        blocks.append(Pictures("tiles", items, caption))
    return blocks


def _machines(runs: Runs) -> list[Block]:
    return [Details(shortened(name, 60), machine_blocks(run)) for name, run in runs.items()]
