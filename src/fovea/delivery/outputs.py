"""Answers as text: CSV or JSON lines, into a file that appears whole or not at all, or to stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fovea.errors import RunFailedError, SettingsError
from fovea.evaluation.answer import Answer
from fovea.files import csv_rows, drop_what_is_buffered


def csv_header(top_k: int) -> str:
    """The names of the columns."""
    further = [f"{name}_{rank}" for rank in range(2, top_k + 1) for name in ("label", "probability")]
    return ",".join(["id", "label", "probability", *further, "unlike"]) + "\n"


def csv_lines(answer: Answer, top_k: int, min_confidence: float = 0.0) -> str:
    """One line an image: id, the labels with their probabilities, the most likely first, and how it is unlike.

    The labels are empty where the first is less likely than `min_confidence`.
    """
    classes, shares = _most_likely(answer, top_k)
    names = answer.predictions.classes
    rows: list[list[object]] = []
    for row, (image, best, share) in enumerate(zip(answer.fitted.ids.tolist(), classes, shares, strict=True)):
        shown = [names[index] if share[0] >= min_confidence else "" for index in best]
        pairs = [cell for name, value in zip(shown, share, strict=True) for cell in (name, f"{value:.6f}")]
        rows.append([image, *pairs, " ".join(answer.fitted.still.of_image(row))])
    return csv_rows(rows)


def json_header(top_k: int) -> str:
    """Nothing: each line names its values."""
    return ""


def json_lines(answer: Answer, top_k: int, min_confidence: float = 0.0) -> str:
    """One JSON object an image, a line each; "label" is null where it is less likely than `min_confidence`."""
    classes, shares = _most_likely(answer, top_k)
    names = answer.predictions.classes
    lines = []
    for row, (image, best, share) in enumerate(zip(answer.fitted.ids.tolist(), classes, shares, strict=True)):
        ranked = [{"label": names[i], "probability": round(value, 6)} for i, value in zip(best, share, strict=True)]
        label = ranked[0]["label"] if share[0] >= min_confidence else None
        found = {"id": image, **ranked[0], "label": label, "top_k": ranked, "unlike": answer.fitted.still.of_image(row)}
        lines.append(json.dumps(found, ensure_ascii=False))
    return "\n".join(lines) + "\n"


Form = tuple[Callable[[int], str], Callable[[Answer, int, float], str]]
FORMS: dict[str, Form] = {"csv": (csv_header, csv_lines), "jsonl": (json_header, json_lines)}


def _most_likely(answer: Answer, top_k: int) -> tuple[list[list[int]], list[list[float]]]:
    """The most likely classes of each image and their probabilities, in falling order; of equals the first class."""
    order: NDArray[np.int64] = np.argsort(-answer.predictions.logits, axis=1, kind="stable")[:, :top_k]
    shares = np.take_along_axis(answer.predictions.probabilities, order, axis=1)
    return order.tolist(), shares.tolist()


class Stdout:
    """Text to stdout as UTF-8, whatever the terminal's encoding, for names of files can hold any character.

    Raises:
        SettingsError: when there is no stdout.
    """

    def __init__(self, stream: BinaryIO | None) -> None:
        if stream is None:
            raise SettingsError("stdout is closed: name a file for the answers with --output.")
        self.stream = stream

    def __call__(self, content: bytes) -> None:
        """Write through.

        Raises:
            RunFailedError: when whoever reads has gone, or the disk is full.
        """
        try:
            self.stream.write(content)
            self.stream.flush()
        except OSError as error:
            drop_what_is_buffered(self.stream)
            gone = isinstance(error, BrokenPipeError)
            reason = "whoever read the answers has closed the pipe" if gone else f"{error.strerror or error}"
            raise RunFailedError(f"stdout cannot be written: {reason}.") from None
