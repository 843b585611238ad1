"""Writing reports: of a run or a study into its folder, of several runs beside the first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.data.tree import reason_of
from fovea.errors import DataError, FoveaError, SettingsError
from fovea.evaluation.runs_compared import RunComparison
from fovea.evaluation.stored import StoredRun
from fovea.files import write_text
from fovea.reporting.blocks import Report
from fovea.reporting.compared import changed_table
from fovea.reporting.comparison import comparison_report, study_report
from fovea.reporting.curves import draw_curves_of_runs
from fovea.reporting.figures import named_runs
from fovea.reporting.page import render
from fovea.reporting.recipes_page import recipes_report
from fovea.reporting.sections import run_report
from fovea.reporting.style import save_figure
from fovea.runfolder import REPORT, check_target, update_manifest
from fovea.studies.recipes_compared import RecipeComparison
from fovea.studies.seeds import AnyRun, SeedStudy

_MAX_NAME_BYTES = 120


def write_run_report(run: StoredRun, path: Path | None = None) -> Path:
    """Write the page of one run.

    Args:
        path: None: report.html in the run folder, whose manifest then holds its new digest.
    """
    return _write(run_report, run, run.path, path)


def write_study_report(study: SeedStudy[AnyRun], path: Path | None = None) -> Path:
    """Write the page of a study of seeds; `path` as for a run."""
    return _write(study_report, study, study.path, path)


def write_comparison(runs: Sequence[StoredRun], path: Path | None = None) -> Path:
    """Write the page of several runs.

    Args:
        path: None: compare-<run>-<run>.html beside the first run.

    Raises:
        SettingsError: when a run is named twice.
    """
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise SettingsError("A run is named twice: a run cannot be compared with itself.")
    named = named_runs(list(runs))
    path = _beside(runs, ".html") if path is None else check_target(path)
    write_text(path, render(_made(comparison_report, named)))
    return path


def write_recipes_report(found: RecipeComparison, path: Path | None = None) -> Path:
    """Write the page of recipes compared over seeds.

    Args:
        path: None: report.html in the folder of the comparison.

    Raises:
        SettingsError: when there is no such folder, and no path.
    """
    if found.path is None and path is None:
        raise SettingsError("These studies have no folder in common: name the page.")
    return _write(recipes_report, found, found.path or Path(), path)


def write_compared(found: RunComparison | RecipeComparison, folder: Path) -> list[Path]:
    """Write the page of a comparison, and of runs the table of the images that changed sides, into a folder."""
    if isinstance(found, RecipeComparison):
        return [write_recipes_report(found, folder / REPORT)]
    runs = list(found.runs.values())
    page, table = (folder / _beside(runs, ending).name for ending in (".html", ".csv"))
    write_comparison(runs, page)
    write_text(check_target(table), changed_table(found))
    return [page, table]


def write_curves_of_runs(runs: Mapping[str, StoredRun], folder: Path | None, form: str) -> Path:
    """Draw the curves of several runs in one figure; `folder` None: beside the first."""
    place = _beside(list(runs.values()), f"-curves.{form}")
    path = place if folder is None else folder / place.name
    save_figure(draw_curves_of_runs({name: run.history for name, run in runs.items()}), path)
    return path


def _beside(runs: Sequence[StoredRun], ending: str) -> Path:
    """A file beside the first run that is called after all of them; too long a name ends in a digest of the names."""
    names = "-".join(run.path.resolve().name for run in runs)
    if len(names.encode()) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(names.encode()).hexdigest()[:12]
        names = names.encode()[: _MAX_NAME_BYTES - 13].decode("utf-8", "ignore") + "-" + digest
    return runs[0].path.resolve().parent / f"compare-{names}{ending}"


def _made(make: Callable[[Any], Report], what: Any) -> Report:
    """A report; files of an unfinished run are held against nothing, so that what they hold may make none."""
    try:
        return make(what)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, FoveaError):
            raise
        raise DataError(f"A file of the run is damaged: {type(error).__name__} {reason_of(error)}.") from error


def _write(make: Callable[[Any], Report], what: Any, folder: Path, path: Path | None) -> Path:
    """Write a page; where it cannot be written is told before anything is drawn."""
    target = folder / REPORT if path is None else check_target(path)
    write_text(target, render(_made(make, what)))
    if path is None:
        update_manifest(folder, [REPORT])
    return target
