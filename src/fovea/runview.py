"""Run: a run folder with its figures and its report, as Python and notebooks see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fovea.errors import DataError
from fovea.evaluation.stored import StoredRun
from fovea.reporting import figures, trust_figures
from fovea.reporting.write import write_run_report
from fovea.runfolder import is_finished, resume_command

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Run(StoredRun):
    """What a run folder holds, loaded when it is asked for; its figures are matplotlib figures."""

    def plot_history(self, *others: StoredRun) -> Figure:
        """Loss above accuracy; with other runs in one figure, validation solid, training dashed."""
        return figures.plot_history(self, *others)

    def plot_confusion(self, normalize: bool = False) -> Figure:
        """The confusion matrix of the test split (of validation, where test stayed closed).

        Args:
            normalize: shares of the true class in percent instead of counts.
        """
        return figures.plot_confusion(self, normalize)

    def plot_class_accuracy(self) -> Figure:
        """The accuracy of each class with its interval, the lowest on top."""
        return figures.plot_class_accuracy(self)

    def plot_mistakes(self) -> Figure:
        """The wrong answers with the highest loss."""
        return figures.plot_mistakes(self)

    def plot_class_counts(self) -> Figure:
        """Images of each class in training, validation and test."""
        return figures.plot_class_counts(self)

    def plot_samples(self) -> Figure:
        """Training images, a row a class."""
        return figures.plot_samples(self)

    def plot_augmented(self) -> Figure:
        """Training images as augmentation changed them."""
        return figures.plot_augmented(self)

    def plot_calibration(self) -> Figure:
        """The reliability diagram: how often answers of each probability are right."""
        return trust_figures.plot_calibration(self)

    def plot_coverage(self) -> Figure:
        """Accuracy of the surest answers against how many are given."""
        return trust_figures.plot_coverage(self)

    def plot_saliency(self) -> Figure:
        """The worst mistakes, and the pixels that spoke for the answer against the truth."""
        return trust_figures.plot_saliency(self)

    def write_report(self, path: str | Path | None = None) -> Path:
        """Write the report of this run, one self-contained HTML page.

        Args:
            path: None: report.html in the run folder.

        Returns:
            Where it was written.

        Raises:
            DataError: when a file of the run is missing or damaged.
            RunFailedError: when it cannot be written.
        """
        return write_run_report(self, None if path is None else Path(path))


def finished_run(path: str | Path) -> Run:
    """Read a run folder back.

    Raises:
        DataError: when the folder is no run, or the run was broken off before its end.
    """
    run = Run(path)
    if not is_finished(run.path):
        raise DataError(f"The run {path} was broken off before its end. To go on: {resume_command(run.path)}")
    return run
