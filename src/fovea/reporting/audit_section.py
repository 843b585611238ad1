"""The data audit of a run, as a section of its report."""

from __future__ import annotations

import numpy as np

from fovea.errors import DataError
from fovea.evaluation.findings import Finding
from fovea.evaluation.predictions import NPZ_ERRORS
from fovea.evaluation.stored import AUDIT_PAIRS, StoredRun
from fovea.reporting.blocks import Block, Details, Paragraph, Pictures, Section
from fovea.reporting.datapage import finding_block, picture_of_pair

_SPLITS = {"train": "training", "val": "validation", "test": "test"}

# Found when the splits were made, before the audit: it stands under "What was found", not in audit.json.
_TOLD_BEFORE = ("shared-images", "leakage-duplicates", "class-missing", "group-leak")


def audit_sections(run: StoredRun) -> list[Section]:
    """The section "Data audit"; none where the run was not audited."""
    audit = run.audit
    if audit is None:
        return []
    findings = [Finding(**found) for found in audit["findings"]]
    near = audit["near_duplicates"]
    words = " and ".join(_SPLITS[part] for part in audit["splits"] if part in _SPLITS and part != "train")
    if words:
        text = f"The {words} images were held against the training images: copies, values, classes, names"
        text += ", near-duplicates." if near["looked_up"] else "; they are too small for near-duplicates to be told."
    else:
        text = "The training images were looked at: there are no others to hold against them."
    told = [found["id"] for found in run.findings if found["id"] in _TOLD_BEFORE]
    if not findings:
        text += " Nothing was found" + (f" but what stands above: {', '.join(told)}." if told else ".")
    blocks: list[Block] = [Paragraph(text)]
    blocks += [finding_block(finding) for finding in findings]
    if near["count"]:
        pairs = _pictures(run)
        items = [
            picture_of_pair(
                images, (pair["part"], pair["other_part"]), tuple(labels), (pair["id"], pair["other_id"]),
                pair["similarity"],
            )
            for images, pair, labels in zip(pairs, near["pairs"], audit["shown_pairs"], strict=False)
        ]  # fmt: skip
        caption = f"The {len(items)} most similar of {near['count']:,} pairs"
        blocks.append(Details("Near-duplicates side by side", [Pictures("tiles", items, caption)]))
    return [Section("audit", "Data audit", blocks)]


def _pictures(run: StoredRun) -> np.ndarray:
    path = run.file(AUDIT_PAIRS)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive["pairs"], np.uint8)
    except NPZ_ERRORS as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
