"""The report of one run: its result in a sentence, then what it rests on."""

from __future__ import annotations

import numpy as np

from fovea.data.mosaic import mosaic
from fovea.display import data_uri
from fovea.errors import ModelError
from fovea.evaluation.intervals import Score, percent
from fovea.evaluation.ledger import chose_its_epoch, read_looks
from fovea.evaluation.metrics import class_scores
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import NO_VALIDATION, StoredRun
from fovea.models.summary import Summary, summarize
from fovea.reporting.again import again_blocks, machine_blocks
from fovea.reporting.audit_section import audit_sections
from fovea.reporting.blocks import (
    Block,
    Cell,
    Chart,
    Code,
    Details,
    Matrix,
    Paragraph,
    Picture,
    Pictures,
    Report,
    Section,
    Table,
)
from fovea.reporting.classbars import worst_classes
from fovea.reporting.discipline import discipline_alerts, discipline_blocks
from fovea.reporting.figures import (
    SPLIT_WORDS,
    class_counts_of,
    plot_class_accuracy,
    plot_class_counts,
    plot_confusion,
    plot_history,
)
from fovea.reporting.finding_section import finding_alerts, finding_sections
from fovea.reporting.pictures import mistakes_of, picture_source
from fovea.reporting.style import figure_bytes, shortened
from fovea.reporting.svg import inline_svg
from fovea.reporting.trust_sections import neighbour_blocks, trust_sections
from fovea.settings import LAST_EPOCH, SELECTED
from fovea.training.schedules import describe_length

MAX_MATRIX = 20  # classes, up to which the confusion matrix is a table
_MAX_CONFUSIONS = 10


def run_report(run: StoredRun) -> Report:
    """Everything that the page of a run shows.

    Raises:
        DataError: when a file of the run is missing or damaged.
    """
    found = run.predictions(run.judged_by)
    score = run.score
    return Report(
        title=run.path.resolve().name,
        headline=f"{score.value:.2%}",
        interval=interval_words(score),
        sentence=_sentence(run, score, found),
        facts=_facts(run),
        alerts=[*alerts_of(run), *discipline_alerts(run)],
        sections=[
            *finding_sections(run),
            Section("curves", "Learning curves", _curves(run)),
            Section("confusion", "Confusion matrix", _confusion(run, found)),
            Section("mistakes", "Worst mistakes", _mistakes(run, found)),
            Section("classes", "Classes", _classes(run, found)),
            *trust_sections(run),
            Section("data", "Data", _data(run)),
            *audit_sections(run),
            Section("test-set", "The test set", discipline_blocks(run)),
            Section("model", "Model", _model(run)),
            Section("settings", "Settings", _settings(run)),
            Section("machine", "Machine and versions", machine_blocks(run)),
            Section("again", "Make it again", again_blocks(run)),
        ],
        footer=f"Made by Fovea {_version(run)}. This page needs no network and no other file.",
    )


def interval_words(score: Score) -> str:
    """The ends of an interval, or that there is none."""
    return "no interval" if score.low is None else f"{score.low:.2%} to {score.high:.2%}"


def _sentence(run: StoredRun, score: Score, found: Predictions) -> str:
    split, right = SPLIT_WORDS[run.judged_by], int(found.correct.sum())
    level = percent(run.recipe.evaluation.confidence)
    text = (
        f"The net “{run.recipe.model.name}” answered {right:,} of {len(found):,} {split} images rightly. Of other "
        f"images of the same kind it would get {interval_words(score)} right ({level} interval, from their number)."
    )
    if run.views.words:
        text += f" It answered with {run.views.words}."
    return f"{text} {caveat_of(run.judged_by, looks_at_test(run), run.mark, chose_its_epoch(run))}".rstrip()


def caveat_of(split: str, looks: int, mark: str | None = None, chose: bool = True) -> str:
    """Why a figure on this split is too good; nothing where the test was opened once.

    Args:
        mark: what stands beside figures of test images that were the validation images too.
        chose: whether validation images chose the epoch.
    """
    if mark is not None:
        return f"The test images were the validation images: {mark}."
    if split == "val" and not chose:
        return "The test stayed closed."
    if split == "val":
        return "These images chose the epoch, which makes the figure slightly too good; the test stayed closed."
    if looks > 1:
        return f"This test set has been opened {looks} times from this folder: choosing by it flatters the figure."
    return ""


def looks_at_test(run: StoredRun) -> int:
    """How often the test set of a run has been opened from its folder of runs, by any run."""
    return len(read_looks(run))


def alerts_of(run: StoredRun) -> list[Paragraph]:
    """What was found wrong with a run, and what had changed when it was gone on with by force."""
    alerts = finding_alerts(run)
    if run.mark == SELECTED:
        text = "Selected on test: its validation images were its test images, which flatters every figure of them."
        alerts.append(Paragraph(text, "warning"))
    changes = run.result.get("changed_on_the_way", [])
    return [*alerts, *(Paragraph(f"The run was gone on with by force: {change}.", "warning") for change in changes)]


def _facts(run: StoredRun) -> list[tuple[str, str]]:
    result = run.result
    facts = []
    if run.has_test and run.mark is None:  # else it is the headline
        val = run.val_accuracy
        facts.append(("validation accuracy", NO_VALIDATION if val is None else accuracy_text(val)))
    facts.append(("epoch kept", f"{result['best_epoch']} of {result['epochs']}, by {result['chosen_by']}"))
    train = run.history["train_accuracy"][result["best_epoch"] - 1]
    facts.append(("training accuracy", f"{train:.2%} in that epoch"))
    facts.append(("parameters", f"{result['parameters']:,}"))
    facts.append(("training time", f"{duration(result['train_seconds'])}, {result['images_per_second']:,.0f} images/s"))
    return facts


def accuracy_text(score: Score, mark: str | None = None) -> str:
    """A score for a fact: value and interval, and its mark."""
    return f"{score.value:.2%} ({interval_words(score)})" + ("" if mark is None else f", {mark}")


def duration(seconds: float) -> str:
    """ "2 min 17 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _curves(run: StoredRun) -> list[Block]:
    history, result = run.history, run.result
    best = int(result["best_epoch"])
    last = [
        f"{word} accuracy {history[f'{split}_accuracy'][-1]:.2%} and loss {history[f'{split}_loss'][-1]:.3f}"
        for split, word in (("train", "training"), ("val", "validation" if run.mark is None else "test"))
        if f"{split}_loss" in history
    ]
    alt = f"Loss and accuracy over {result['epochs']} epochs. In the last epoch {', '.join(last)}."
    reason = "the last" if result["chosen_by"] == LAST_EPOCH else f"the best {result['chosen_by']}"
    chosen = f"The weights of epoch {best} were kept: {reason}."
    stopped = f" Training stopped early: {result['stop_reason']}." if result["stop_reason"] else ""
    epochs = range(1, len(history["train_loss"]) + 1)
    names = [name for name in history if name not in ("epoch", "time")]
    rows = [[str(epoch), *(_metric(name, history[name][epoch - 1]) for name in names)] for epoch in epochs]
    measured = (
        "Training is measured as validation is: without augmentation, in evaluation mode, on as many images; the "
        "dotted running figures come from the batches as they were trained on."
    )
    if not run.has_val:
        measured = (
            "There were no validation images: these figures are of images that were trained on, so that they cannot "
            "tell overfitting. Training is measured without augmentation, in evaluation mode; the dotted running "
            "figures come from the batches as they were trained on."
        )
    if run.mark is not None:
        measured += " What the curves call validation is the test images."
    if run.views.words:
        measured += f" All curves are without {run.views.words}, which the accuracies at the top are measured with."
    return [
        Chart(inline_svg(plot_history(run), "curves", alt)),
        Paragraph(chosen + stopped),
        Paragraph(measured, "note"),
        Details(
            "Every epoch as a table",
            [Table("Metrics of each epoch", ["epoch", *(name.replace("_", " ") for name in names)], rows)],
        ),
    ]


def _metric(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.3g}" if name == "lr" else f"{value:.4f}"


def _confusion(run: StoredRun, found: Predictions) -> list[Block]:
    matrix, classes = run.confusion_matrix, run.classes
    split = SPLIT_WORDS[run.judged_by]
    caption = f"Counts over {len(found):,} {split} images; colours show the share of the true class"
    blocks: list[Block] = []
    if len(classes) <= MAX_MATRIX:
        totals = np.maximum(matrix.sum(axis=1), 1)
        rows = [
            [Cell(int(n), float(n / totals[true]), true == column) for column, n in enumerate(counts)]
            for true, counts in enumerate(matrix.tolist())
        ]
        blocks.append(Matrix(caption, [shortened(name, 24) for name in classes], rows))
    else:
        png = data_uri(figure_bytes(plot_confusion(run), "png"))
        alt = f"Confusion matrix of {len(classes)} classes; the most frequent confusions are listed below."
        blocks.append(Pictures("whole", [Picture(png, alt)], caption))
    confusions = _frequent_confusions(run)
    if confusions:
        blocks.append(Table("Most frequent confusions", ["true", "predicted", "images", "of the class"], confusions))
    return blocks


def _frequent_confusions(run: StoredRun) -> list[list[str]]:
    matrix, classes = run.confusion_matrix, run.classes
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MAX_CONFUSIONS]
    pairs = [divmod(int(place), len(matrix)) for place in order]
    totals = matrix.sum(axis=1)
    return [
        [shortened(classes[t], 40), shortened(classes[p], 40), f"{wrong[t, p]:,}", f"{wrong[t, p] / totals[t]:.1%}"]
        for t, p in pairs
        if wrong[t, p]
    ]


def _mistakes(run: StoredRun, found: Predictions) -> list[Block]:
    wrong = int((~found.correct).sum())
    if not wrong:
        return [Paragraph(f"All {len(found):,} images were answered rightly.")]
    items = mistake_pictures(run, found)
    caption = f"The {len(items)} of {wrong:,} mistakes with the highest loss: true class → answer, probability, image."
    return [Pictures("tiles", items, caption), *neighbour_blocks(run, found)]


def mistake_pictures(run: StoredRun, found: Predictions) -> list[Picture]:
    """The worst mistakes of a run: the image, what it is, what was answered, how surely, what it is called."""
    pictures = []
    for image, mistake in zip(run.gallery.mistakes, mistakes_of(run.gallery, found), strict=True):
        alt = f"{shortened(mistake.image, 80)}: {mistake.pair}, {mistake.probability:.0%}"
        caption = [mistake.pair, f"{mistake.probability:.0%}, {shortened(mistake.image, 30)}"]
        pictures.append(Picture(picture_source(image), alt, caption))
    return pictures


def _classes(run: StoredRun, found: Predictions) -> list[Block]:
    confidence = run.recipe.evaluation.confidence
    scores = class_scores(found, confidence)
    alt = "Accuracy of each class with its interval; the table below holds the same figures."
    rows = [
        [
            shortened(score.name, 60),
            f"{score.count:,}",
            f"{score.recall.value:.1%}",
            f"{score.recall.low:.1%} to {score.recall.high:.1%}",
            f"{score.precision:.1%}",
            f"{score.f1:.3f}",
        ]
        for score in worst_classes(scores, len(scores))
        if score.recall is not None
    ]
    rows += [[shortened(score.name, 60), "0", "", "", "", ""] for score in scores if score.recall is None]
    head = ["class", "images", "accuracy", f"{percent(confidence)} interval", "precision", "F1"]
    return [
        Chart(inline_svg(plot_class_accuracy(run), "classes", alt)),
        Details("Every class as a table", [Table(f"Classes on the {SPLIT_WORDS[run.judged_by]} split", head, rows)]),
    ]


def _data(run: StoredRun) -> list[Block]:
    gallery, classes, images = run.gallery, run.classes, run.record.get("images", {})
    height, width, channels = run.record["image_shape"]
    shown = [name for name in SPLIT_WORDS if name in images and not (name == "val" and run.mark)]
    counts = ", ".join(f"{images[name]:,} {SPLIT_WORDS[name]}" for name in shown)
    colour = "grey" if channels == 1 else "colour"
    source = run.recipe.data.source
    where = f" of {source}" if source else ""
    blocks: list[Block] = [
        Paragraph(f"{counts} images{where}; {len(classes)} classes; {height}x{width} pixels, {colour}."),
    ]
    log = run.log
    notes = [note for entry in log[:1] for note in entry.get("notes", [])]
    blocks += [Paragraph(note, "note") for note in notes]
    parts = "training, validation and test" if run.mark is None else "training and test"
    alt = f"Images of each class in {parts}: {_counts_in_words(run)}"
    blocks.append(Chart(inline_svg(plot_class_counts(run), "counts", alt)))
    strips = [
        Picture(
            picture_source(mosaic(gallery.samples[gallery.sample_labels == label], 10, gap=1)),
            f"Training images of the class {shortened(classes[label], 40)}",
            [shortened(classes[label], 24)],
        )
        for label in np.unique(gallery.sample_labels).tolist()
    ]
    blocks.append(Pictures("strips", strips, f"Training images, {len(strips)} of {len(classes)} classes"))
    blocks += _augmented(run)
    fingerprints = run.record.get("fingerprints", {})
    rows = [[SPLIT_WORDS[name], value] for name, value in fingerprints.items() if name in SPLIT_WORDS]
    table = Table("sha256 of images, labels and class names", ["split", "fingerprint"], rows, figures=False)
    return [*blocks, Details("Fingerprints of the data", [table])]


def _counts_in_words(run: StoredRun) -> str:
    totals = class_counts_of(run).sum(axis=0)
    least, most = int(totals.argmin()), int(totals.argmax())
    return (
        f"between {totals[least]:,} ({shortened(run.classes[least], 40)}) and {totals[most]:,} "
        f"({shortened(run.classes[most], 40)}) a class."
    )


def _augmented(run: StoredRun) -> list[Block]:
    variants = run.gallery.augmented
    if not len(variants):
        return [Paragraph("Nothing was augmented: the net saw the training images as they are.", "note")]
    strips = [
        Picture(
            picture_source(mosaic(row, len(row), gap=1)),
            f"A training image and {len(row) - 1} augmented forms of it",
            ["image, then augmented"] if number == 0 else [""],
        )
        for number, row in enumerate(variants)
    ]
    return [Pictures("strips", strips, "What augmentation made of six training images in the first epochs")]


def _model(run: StoredRun) -> list[Block]:
    try:
        model = run.model
    except ModelError as error:  # a module of the user's own, which no folder holds
        return [Paragraph(f"{run.recipe.model.name}, {run.result['parameters']:,} parameters. {error}")]
    summary: Summary = summarize(model.net, model.preprocessor.image_shape)
    rows = [[row.layer, row.output, f"{row.parameters:,}", f"{row.multiply_adds:,}"] for row in summary.rows]
    rows.append(["total", "", f"{summary.parameters:,}", f"{summary.multiply_adds:,}"])
    text = (
        f"{run.recipe.model.name}: {summary.parameters:,} parameters, {summary.multiply_adds / 1e6:,.1f} million "
        "multiply-adds an image."
    )
    table = Table("Layers in the order in which they run", ["layer", "output", "parameters", "multiply-adds"], rows)
    return [Paragraph(text), Details("Every layer", [table])]


def _settings(run: StoredRun) -> list[Block]:
    training, optimizer, schedule = run.recipe.training, run.recipe.optimizer, run.recipe.schedule
    derived = run.record.get("derived", [])
    text = (
        f"{describe_length(training)}, batch size {training.batch_size}, "
        f"{optimizer.name} with lr {optimizer.lr:g}, {schedule.name} schedule, augmentation "
        f"{run.recipe.augmentation.preset}, seed {training.seed}, split seed {run.recipe.data.split_seed}."
    )
    if run.views.words:
        text += f" Answers with {run.views.words}."
    config = run.file("config.yaml").read_text(encoding="utf-8")
    return [
        Paragraph(text),
        *(Paragraph(line, "note") for line in derived),
        Details("config.yaml: every setting", [Code(config, "config.yaml")]),
    ]


def _version(run: StoredRun) -> str:
    return str(run.environment["packages"].get("fovea-vision") or "")
