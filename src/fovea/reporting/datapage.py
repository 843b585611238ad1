"""The page of `fovea data`: what is in data and what is wrong with it, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fovea.data.audit import DataFacts
from fovea.data.duplicates import labels_of_pair
from fovea.data.imageset import ImageSet
from fovea.data.mosaic import mosaic
from fovea.data.near import NearDuplicates, Pair
from fovea.evaluation.findings import Finding
from fovea.evaluation.gallery import MAX_CLASSES, SAMPLES_A_CLASS, shrink, spread_over_classes
from fovea.reporting.blocks import Block, Details, Paragraph, Picture, Pictures, Report, Section, Table
from fovea.reporting.dataview import data_findings, part_line, searched
from fovea.reporting.pictures import picture_source
from fovea.reporting.style import shortened

SHOWN_PAIRS = 50
_SHOWN_CLASSES = 50
_WORDS = {0: "Nothing was found wrong with it.", 1: "One thing was found that is worth knowing."}


def data_report(facts: DataFacts) -> Report:
    """Everything that the page of data shows."""
    total = sum(found.count for found in facts.parts.values())
    findings = data_findings(facts)
    worst = [finding for finding in findings if finding.severity != "note"]
    sentence = _WORDS.get(len(findings), f"{len(findings)} things were found that are worth knowing.")
    if worst:
        severe = sum(finding.severity == "severe" for finding in worst)
        sentence += f" {severe} of them severe: figures of these splits cannot be believed." if severe else ""
    if facts.known is not None:
        sentence += " The content is the published one." if facts.known else " The content is not the published one."
    sections = [Section("parts", "What is in it", _parts(facts))]
    if findings:
        sections.append(Section("findings", "What was found", [finding_block(found) for found in findings]))
    if facts.near is not None:
        sections.append(Section("pairs", "Near-duplicates", _pairs(facts)))
    sections.append(Section("samples", "Images", _samples(facts)))
    return Report(
        title=facts.name,
        headline=f"{total:,}",
        interval=f"images, {len(facts.classes)} classes" if facts.classes else "images without labels",
        sentence=sentence,
        facts=[("form", facts.form), *((part, part_line(found)) for part, found in facts.parts.items())],
        alerts=[_alert(finding) for finding in worst],
        sections=sections,
        footer="Made by Fovea. This page needs no network and no other file.",
    )


def _alert(finding: Finding) -> Paragraph:
    return Paragraph(f"{finding.cause} {finding.cure}", "severe" if finding.severity == "severe" else "warning")


def finding_block(finding: Finding) -> Block:
    """A finding with the numbers that show it, folded away."""
    rows = evidence_rows(finding)
    table = Table("The numbers behind it", ["what", "value"], rows, figures=False)
    text = Paragraph(f"{finding.cause} {finding.cure}", "note")
    return Details(f"{finding.severity}: {finding.id}", [text, *([table] if rows else [])])


def evidence_rows(finding: Finding) -> list[list[str]]:
    """The numbers that show a finding: name, value."""
    known = [(name, value) for name, value in finding.evidence.items() if value is not None]
    return [[name.replace("_", " "), _shown(value)] for name, value in known]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _parts(facts: DataFacts) -> list[Block]:
    blocks: list[Block] = [Paragraph(note, "note") for note in facts.notes]
    counted = {part: found.class_counts for part, found in facts.parts.items() if found.class_counts}
    if counted:
        names = list(facts.classes)[:_SHOWN_CLASSES]
        rows = [[shortened(name, 40), *(f"{counts[name]:,}" for counts in counted.values())] for name in names]
        left_out = len(facts.classes) - len(names)
        caption = "Images of each class" + (f", the first {len(names)} of {len(facts.classes)}" if left_out else "")
        blocks.append(Details("Images of each class", [Table(caption, ["class", *counted], rows)]))
    means = [
        Picture(picture_source(shrink(mean[None])[0]), f"The mean of the {part} images", [part])
        for part, mean in facts.mean_images.items()
    ]
    if means:
        blocks.append(Pictures("tiles", means, "The mean image of each part"))
    return blocks


def _pairs(facts: DataFacts) -> list[Block]:
    assert facts.near is not None
    text = searched(facts.near)
    blocks: list[Block] = [Paragraph(text[0].upper() + text[1:] + ".", "note")]
    pairs = facts.near.pairs
    if not pairs:
        return [*blocks, Paragraph("No pair was found.")]
    shown = shown_pairs(facts.near)
    items = [pair_picture(facts.sets, pair, bool(facts.classes)) for pair in shown]
    caption = f"The {len(items)} most similar of {len(pairs):,} pairs, those across splits first."
    return [*blocks, Pictures("tiles", items, caption)]


def shown_pairs(near: NearDuplicates) -> list[Pair]:
    """The pairs that the page shows, in its order: those across splits first, the most similar first."""
    return sorted(near.pairs, key=lambda pair: pair.part == pair.other_part)[:SHOWN_PAIRS]


def pair_picture(sets: Mapping[str, ImageSet], pair: Pair, labelled: bool) -> Picture:
    """Both images of a pair side by side, with where they stand and their classes."""
    images = [sets[pair.part].images[pair.row], sets[pair.other_part].images[pair.other_row]]
    one, two = labels_of_pair(sets, pair)
    names = [str(sets[pair.part].ids[pair.row]), str(sets[pair.other_part].ids[pair.other_row])]
    places = (pair.part, pair.other_part)
    return picture_of_pair(shrink(np.stack(images)), places, (one, two) if labelled else None, names, pair.similarity)


def picture_of_pair(
    images: NDArray[np.uint8],
    parts: tuple[str, str],
    labels: tuple[str, str] | None,
    names: Sequence[str],
    similarity: float,
) -> Picture:
    """Two images [2, h, w, C] side by side, with where they stand, their classes and how alike they are."""
    where = " | ".join(parts)
    caption = [where, *([] if labels is None else [" | ".join(shortened(label, 12) for label in labels)])]
    alt = f"{parts[0]} {shortened(names[0], 60)} and {parts[1]} {shortened(names[1], 60)}, similarity {similarity:.2f}"
    return Picture(picture_source(mosaic(images, 2, gap=2)), alt, [*caption, f"{similarity:.3f}"])


def _samples(facts: DataFacts) -> list[Block]:
    part, images = next(iter(facts.sets.items()))
    rows = spread_over_classes(images, MAX_CLASSES, SAMPLES_A_CLASS)
    labels = images.labels[rows]
    small = shrink(images.images[rows])
    strips = [
        Picture(
            picture_source(mosaic(small[labels == label], 10, gap=1)),
            f"Images of the class {shortened(images.classes[label], 40)}",
            [shortened(images.classes[label], 24)],
        )
        for label in np.unique(labels).tolist()
    ]
    return [Pictures("strips", strips, f"Images of the part {part}")]
