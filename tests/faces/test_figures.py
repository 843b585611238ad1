"""Figures: drawn from plain values, sane with few and many classes and with any class name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fovea.reporting.confusion import draw_confusion
from fovea.reporting.curves import draw_curves
from fovea.reporting.style import save_figure


def history(epochs: int) -> dict[str, list[float]]:
    falling = [1 / (1 + epoch) for epoch in range(epochs)]
    names = [f"{split}_{metric}" for split in ("running", "train", "val") for metric in ("loss", "accuracy")]
    return {name: falling if name.endswith("loss") else [1 - value for value in falling] for name in names}


@pytest.mark.parametrize("epochs", [1, 7, 100])
def test_the_curves_show_loss_above_accuracy_with_the_chosen_epoch(epochs: int) -> None:
    above, below = draw_curves(history(epochs), best_epoch=1).axes
    assert (above.get_ylabel(), below.get_ylabel(), below.get_xlabel()) == ("loss", "accuracy", "epoch")
    assert above.get_yscale() == "log"
    labels = [text.get_text() for text in above.figure.legends[0].get_texts()]
    assert labels == ["training, augmented (running)", "training", "validation", "epoch 1, whose weights are kept"]
    drawn = above.get_lines()[2].get_ydata()
    assert np.array_equal(drawn, history(epochs)["val_loss"])


@pytest.mark.parametrize("count", [2, 10, 100])
def test_the_confusion_matrix_writes_its_counts_where_there_is_room(count: int) -> None:
    matrix = np.eye(count, dtype=np.int64) * 5
    axes = draw_confusion(matrix, tuple(str(i) for i in range(count)), "title").axes[0]
    assert [text.get_text() for text in axes.texts] == (["5"] * count if count <= 30 else [])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert len(axes.get_xticklabels()) <= 50


def test_class_names_are_text_and_never_formulas_or_warnings(tmp_path: Path) -> None:
    names = ("$x^", "a" * 60, "\u9f8d", "<script>")
    figure = draw_confusion(np.ones((4, 4), np.int64), names, "title")
    save_figure(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        assert picture.width > 300
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["$x^", "a" * 9 + "\u2026" + "a" * 8, "\u9f8d", "<script>"]
