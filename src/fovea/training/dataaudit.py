"""The data audit of a run: made once on its splits before the first step, kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fovea.data.audit import Audit, audit_splits
from fovea.data.duplicates import labels_of_pair
from fovea.data.imageset import ImageSet
from fovea.data.near import NearDuplicates, near_as_json
from fovea.display import Say
from fovea.evaluation.findings import Finding, as_finding
from fovea.evaluation.gallery import shrink
from fovea.evaluation.predictions import arrays_as_npz
from fovea.evaluation.stored import AUDIT, AUDIT_PAIRS
from fovea.files import read_json, write_bytes, write_json
from fovea.settings import Recipe
from fovea.training.hardware import applied
from fovea.training.plan import Plan
from fovea.training.stopwatch import phase

_SHOWN_PAIRS = 24


def audited(plan: Plan, before: Plan | None = None) -> Plan:
    """The plan with what is wrong with its splits: looked for here, so that a budget that is planned next knows of it.

    Args:
        before: a plan on the same images whose audit holds where the splits are the same.
    """
    if before is not None and _looks_at(before.recipe) == _looks_at(plan.recipe):
        return replace(plan, audit=before.audit)
    return replace(plan, audit=_look(plan)) if plan.recipe.data.audit else plan


def _looks_at(recipe: Recipe) -> tuple[Any, ...]:
    """The settings that decide which images are audited."""
    return recipe.data, recipe.preprocessing.image_size, recipe.evaluation.test


def _look(plan: Plan) -> Audit:
    with phase("rest", "data audit"), applied(plan.hardware):
        return audit_splits(_judging_sets(plan), plan.splits.kind)


def audit_run(plan: Plan, folder: Path, say: Say) -> None:
    """Look for what is wrong with the splits of a run, tell it, keep it; nothing where that has been done, or is off.

    Of test images pixels and labels are looked at, for copies and for differences; nothing is chosen by them, and with
    --no-test they are left out.
    """
    if not plan.recipe.data.audit or (folder / AUDIT).is_file():
        return
    audit = plan.audit or _look(plan)
    sets, near = audit.sets, audit.near
    findings = [as_finding(problem) for problem in audit.problems]
    with phase("rest", "data audit"):
        shown = near.pairs[:_SHOWN_PAIRS]
        write_bytes(folder / AUDIT_PAIRS, _pictures(sets, near))
        write_json(
            folder / AUDIT,
            {
                "findings": [finding.as_json() for finding in findings],
                "splits": list(sets),
                "near_duplicates": near_as_json(sets, near),
                "shown_pairs": [list(labels_of_pair(sets, pair)) for pair in shown],
            },
        )
    for finding in findings:
        if finding.severity != "note":
            say("warning", finding.cause)


def _judging_sets(plan: Plan) -> Mapping[str, ImageSet]:
    """The splits that are audited: test images only where the test is opened, and not twice where they validate too."""
    sets = dict(plan.splits.sets)
    if not plan.recipe.evaluation.test:
        sets.pop("test", None)
    if plan.recipe.data.validation == "test" and "test" in sets:
        sets.pop("val", None)
    return sets


def _pictures(sets: Mapping[str, ImageSet], near: NearDuplicates) -> bytes:
    """The content of audit-pairs.npz: the first pairs, uint8 [n, 2, h, w, C]."""
    shape = shrink(sets["train"].images[:1]).shape[1:]
    pairs = [
        shrink(np.stack([sets[pair.part].images[pair.row], sets[pair.other_part].images[pair.other_row]]))
        for pair in near.pairs[:_SHOWN_PAIRS]
    ]
    return arrays_as_npz({"pairs": np.stack(pairs) if pairs else np.empty((0, 2, *shape), np.uint8)})


def audit_findings(folder: Path) -> list[Finding]:
    """What the audit of a run has found; [] where there was none."""
    if not (folder / AUDIT).is_file():
        return []
    kept: dict[str, Any] = read_json(folder / AUDIT)
    return [Finding(**found) for found in kept["findings"]]
