"""Writing reports: of a run or a study into its folder, of several runs beside the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fovea.errors import SettingsError
from fovea.evaluation.stored import StoredRun
from fovea.files import write_text
from fovea.reporting.blocks import Report
from fovea.reporting.comparison import comparison_report, study_report
from fovea.reporting.figures import named_runs
from fovea.reporting.page import render
from fovea.reporting.sections import run_report
from fovea.runfolder import REPORT, update_manifest
from fovea.studies.seeds import AnyRun, SeedStudy


def write_run_report(run: StoredRun, path: Path | None = None) -> Path:
    """Write the page of one run.

    Args:
        path: None: report.html in the run folder, whose manifest then holds its new digest.
    """
    return _write(run_report(run), run.path, path)


def write_study_report(study: SeedStudy[AnyRun], path: Path | None = None) -> Path:
    """Write the page of a study of seeds; `path` as for a run."""
    return _write(study_report(study), study.path, path)


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
    folders = [run.path.resolve().name for run in runs]
    name = f"compare-{'-'.join(folders)}"[:100] + ".html"
    path = path or runs[0].path.resolve().parent / name
    write_text(path, render(comparison_report(named)))
    return path


def _write(report: Report, folder: Path, path: Path | None) -> Path:
    page = render(report)
    if path is not None:
        write_text(path, page)
        return path
    write_text(folder / REPORT, page)
    update_manifest(folder, [REPORT])
    return folder / REPORT
