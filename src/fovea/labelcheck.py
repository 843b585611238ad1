"""`fovea data --labels`: judge the labels of data, and write down which are probably wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fovea.files import file_name, make_out
from fovea.reporting.labelview import write_label_errors
from fovea.reporting.progress import ProgressBar
from fovea.reporting.terminal import progress_stream
from fovea.settings import with_settings
from fovea.sources import read_all, resolve_data
from fovea.studies.label_errors import Judged, LabelErrors, find_label_errors


def judge_labels(
    data: Any, judged: Judged = "train", out: str | Path = ".", **settings: Any
) -> tuple[LabelErrors, tuple[Path, Path] | None]:
    """Labels that are probably wrong, by confident learning on answers of nets that have not seen the image.

    Args:
        judged: "train", or "test" by a net trained on the training images.
        out: the folder for labels-<name>.csv, in which rows are marked for `label_fixes`, and the page beside it.
        settings: as in a recipe; those of data, preprocessing and hardware count.

    Returns:
        What was found; the CSV and the page, None where nothing is suspect.

    Raises:
        UserError: for data that cannot be used.
    """
    recipe, source = resolve_data(data)
    recipe = with_settings(recipe, settings)
    raw = read_all(recipe, recipe.data.source if source is None else source)
    bar = ProgressBar(progress_stream())
    found = find_label_errors(recipe, raw, judged, lambda number, of: bar("judging labels", number - 1, of))
    bar("judging labels", found.num_trainings, found.num_trainings)
    files = write_label_errors(found, make_out(Path(out)), file_name(raw.name)) if len(found) else None
    return found, files
