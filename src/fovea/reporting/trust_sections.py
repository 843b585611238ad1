"""Sections of the report on how far to believe single answers: calibration, weak slices, nearest training images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fovea.data.mosaic import mosaic
from fovea.evaluation.calibration import ece_words
from fovea.evaluation.intervals import percent
from fovea.evaluation.predictions import Predictions
from fovea.evaluation.stored import StoredRun
from fovea.reporting.blocks import Block, Chart, Details, Paragraph, Picture, Pictures, Section, Table
from fovea.reporting.pictures import mistakes_of, picture_source
from fovea.reporting.style import shortened
from fovea.reporting.svg import inline_svg
from fovea.reporting.trust_figures import plot_calibration, plot_coverage

_SPLITS = {"val": "validation", "test": "test"}


def trust_sections(run: StoredRun) -> list[Section]:
    """Where the net is weak, if anywhere, and its calibration; nothing for what an older run has not measured."""
    sections = []
    if run.slices is not None and run.slices["weak"]:
        sections.append(Section("weak", "Where it is weak", _weak(run.slices, run.recipe.evaluation.confidence)))
    if run.calibration is not None:
        sections.append(Section("calibration", "Calibration", _calibration(run, run.calibration)))
    return sections


def _weak(found: Mapping[str, Any], confidence: float) -> list[Block]:
    weak, tested = found["weak"], len(found["tested"])
    split = _SPLITS[found["split"]]
    text = (
        f"Of {tested} slices of the {split} images by what they look like, {len(weak)} "
        f"{'is' if len(weak) == 1 else 'are'} answered rightly less often than all other images, and not by chance "
        "(Fisher's exact test, Holm over all slices, 5%)."
    )
    rows = [
        [
            each["words"],
            f"{each['accuracy']['value']:.2%}",
            f"{each['others']:.2%}",
            f"{each['expected']:.2%}",
            f"{each['accuracy']['count']:,}",
            f"{each['accuracy']['low']:.2%} to {each['accuracy']['high']:.2%}",
        ]
        for each in weak
    ]
    head = ["slice", "accuracy", "all others", "by its classes", "images", f"{percent(confidence)} interval"]
    note = (
        "By its classes: what the accuracy of each class would make of the slice's mixture of classes. Where that is "
        "as low, the classes are the reason, not the look."
    )
    return [Paragraph(text), Table("The weak slices, the surest first", head, rows), Paragraph(note, "note")]


def _calibration(run: StoredRun, found: Mapping[str, Any]) -> list[Block]:
    split, judged = _SPLITS[run.judged_by], found["splits"][run.judged_by]
    before = judged["without_temperature"]
    alt = (
        f"Reliability diagram of {judged['count']:,} {split} images in 15 bins: {ece_words(judged)}, mean probability "
        f"{judged['confidence']:.2%}, accuracy {judged['accuracy']:.2%}."
    )
    blocks: list[Block] = [Paragraph(_verdict(judged)), Chart(inline_svg(plot_calibration(run), "reliability", alt))]
    if found["fitted_on"]:
        text = (
            f"The logits are divided by a temperature of {found['temperature']:.3g}, fitted on {found['fitted_on']:,} "
            f"validation images, which changes no answer. Without it the ECE would be {before['ece']:.2%} instead of "
            f"{judged['ece']:.2%}, the loss {before['loss']:.4f} instead of {judged['loss']:.4f}."
        )
        if run.judged_by == "val":
            text += " It was fitted on the same images, which flatters these figures."
    else:
        text = f"Probabilities are as the net gives them, without a temperature: {found['reason']}."
    blocks.append(Paragraph(text, "note"))
    return [*blocks, *_reject(run, found["reject"])]


def _verdict(judged: Mapping[str, Any]) -> str:
    ece, expected = judged["ece"], judged["expected"]
    gap = judged["confidence"] - judged["accuracy"]
    text = (
        f"On average an answer's probability is {ece * 100:.2f} points away from how often such answers are right "
        f"(ECE, 15 bins); of perfectly calibrated answers it would be {expected['low'] * 100:.2f} to "
        f"{expected['high'] * 100:.2f} points, by chance alone."
    )
    if ece <= expected["high"]:
        return f"{text} These images show nothing wrong with the probabilities."
    error = math.sqrt(judged["accuracy"] * (1 - judged["accuracy"]) / judged["count"])
    if abs(gap) <= 2 * error:
        return f"{text} The net is too sure of some answers and not sure enough of others."
    return f"{text} The net is {'too sure of itself' if gap > 0 else 'less sure than it could be'}."


def _reject(run: StoredRun, reject: Mapping[str, Any]) -> list[Block]:
    """What is gained where unsure answers are left to a person."""
    thresholds = reject["thresholds"]
    alt = f"Accuracy against coverage; the mean share of mistakes over all coverages (AURC) is {reject['area']:.5f}."
    chart = Chart(inline_svg(plot_coverage(run), "coverage", alt))
    if not thresholds:
        text = "Thresholds would have to be chosen on validation images, of which there are none."
        return [Details("If unsure answers are left out", [chart, Paragraph(text, "note")])]
    shown = next((each for each in thresholds if each["share"] == 0.95), thresholds[0])
    rows = [
        [
            f"{each['threshold']:.6f}".rstrip("0").rstrip("."),
            f"{each['coverage']['value']:.1%}",
            "none answered" if each["accuracy"] is None else f"{each['accuracy']['value']:.2%}",
            "" if each["accuracy"] is None else f"{each['accuracy']['low']:.2%} to {each['accuracy']['high']:.2%}",
        ]
        for each in thresholds
    ]
    level = percent(run.recipe.evaluation.confidence)
    table = Table(
        "If only answers of at least this probability are given",
        ["probability", "answered", "of those right", f"{level} interval"],
        rows,
    )
    measured = f"measured on {_SPLITS[reject['split']]}"
    where = f"The thresholds were chosen on validation and {measured}."
    if reject["chosen_on_the_same_images"]:
        where = f"The thresholds were chosen and {measured}, on the same images, which flatters them."
    note = f"{where} In use: fovea predict RUN INPUT --min-confidence P."
    score = shown["accuracy"]
    summary = "If unsure answers are left out"
    if score is not None:
        summary += f": {shown['coverage']['value']:.1%} answered, {score['value']:.2%} of them right"
    return [Details(summary, [chart, table, Paragraph(note, "note")])]


def neighbour_blocks(run: StoredRun, found: Predictions) -> list[Block]:
    """The worst mistakes beside the training images that are nearest to them."""
    gallery = run.gallery
    if not len(gallery.neighbours):
        return []
    items = []
    for number, mistake in enumerate(mistakes_of(gallery, found)):
        near = gallery.neighbour_labels[number].tolist()
        names = ", ".join(shortened(found.classes[label], 12) for label in near)
        images = np.concatenate([gallery.mistakes[number : number + 1], gallery.neighbours[number]])
        alt = f"The mistake {mistake.pair}, then its nearest training images: {names}"
        items.append(Picture(picture_source(mosaic(images, len(images), gap=2)), alt, [mistake.pair, f"near: {names}"]))
    caption = "The mistake, then the training images (of up to 5,000) that the net's last layer finds most like it"
    return [Details("What the net was reminded of: the nearest training images", [Pictures("near", items, caption)])]
