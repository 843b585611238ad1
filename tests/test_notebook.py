"""docs/first-steps.ipynb runs from top to bottom in a real kernel, and shows what it promises to show."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.pages
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: make test-pages")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make test-pages")

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "first-steps.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Source of each code cell -> MIME type -> what it showed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    shown: dict[str, dict[str, str]] = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data: dict[str, str] = {}
            for output in cell.outputs:
                assert output.output_type != "error"
                assert output.get("name") != "stderr", output.text
                data |= output.get("data", {}) or {"text/plain": output.get("text", "")}
            shown[cell.source] = data
    return shown


def test_data_runs_scores_and_studies_are_shown_as_tables(cells: dict[str, dict[str, str]]) -> None:
    for end in ("\nsets", "\nrun", "run.test_accuracy", "\nstudy"):
        (shown,) = [data for source, data in cells.items() if source.endswith(end)]
        assert "<" in shown["text/html"]


def test_every_figure_is_shown_as_a_picture(cells: dict[str, dict[str, str]]) -> None:
    plots = [data for source, data in cells.items() if ".plot_" in source]
    assert len(plots) == 6
    assert all("image/png" in data for data in plots)


def test_inverted_images_are_warned_about_and_adapted(cells: dict[str, dict[str, str]]) -> None:
    (shown,) = [data for source, data in cells.items() if "adapt=True" in source]
    assert "['0', '1', '2', '3', '4']" in shown["text/plain"]


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
