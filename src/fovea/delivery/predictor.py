"""Predictor: a model file that answers for images, in any process, without training code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fovea.data.new_images import NewImages
from fovea.data.preprocess import ImageFunction, Preprocessor
from fovea.errors import DataError
from fovea.evaluation.answer import Answer, answer, answer_array
from fovea.evaluation.modelfile import LoadedModel, ModelCard, read_model
from fovea.evaluation.predictions import Device, Predictions, cpu_has_bf16
from fovea.runfolder import SEEDS, check_file

MODEL_FILE = "best.safetensors"
BATCH_SIZE = 1000


@dataclass(frozen=True, eq=False)
class Predictor:
    """A net with the preprocessing, the classes and the input profile of its training.

    Attributes:
        path: the model file.
        model: the net and its card.
        device: where and how precisely it computes: the CPU, in the precision of the training where the CPU has it.
    """

    path: Path
    model: LoadedModel
    device: Device

    @property
    def card(self) -> ModelCard:
        """What the file says besides the weights: settings, metrics, fingerprints."""
        return self.model.card

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of the logits."""
        return self.model.classes

    @property
    def preprocessor(self) -> Preprocessor:
        """Raw image -> the net's input."""
        return self.model.preprocessor

    def predict(self, images: Any, adapt: bool = False) -> Predictions:
        """Answer for arrays; an InputWarning says where they are unlike the training images.

        Args:
            images: one image [H, W] or [H, W, C], or many [N, H, W] or [N, H, W, C], raw values as in training.
            adapt: make images that are unlike the training images like them, see `Run.predict`.

        Raises:
            DataError: for arrays that are no such images.
        """
        return answer_array(self.model, images, self.device, BATCH_SIZE, adapt)

    def answers(self, batches: Iterable[NewImages], adapt: bool = False) -> Iterator[Answer]:
        """Answer for one batch after the other; nothing is warned of, the answers hold what the guard found."""
        for new in batches:
            yield answer(self.model, new, self.device, BATCH_SIZE, adapt)

    def __repr__(self) -> str:
        height, width, channels = self.preprocessor.image_shape
        words = f", {self.card.views.words}" if self.card.views.words else ""
        return f"Predictor({str(self.path)!r}: {len(self.classes)} classes, {height}x{width}x{channels} images{words})"


def load_model(
    path: str | Path, model: nn.Module | None = None, preprocessing_function: ImageFunction | None = None
) -> Predictor:
    """Load a model to predict with: needs no run folder and imports no training code.

    Args:
        path: a model file, or a run folder, against whose manifest the file in it is held.
        model: the module that it was trained with, where it was your own.
        preprocessing_function: the one that it was trained with.

    Raises:
        DataError: when there is no model, or it is damaged or of another version.
        ModelError: when the weights do not fit the net, or the function is not that of the training.
    """
    file = model_file(Path(path))
    loaded = read_model(file, model, preprocessing_function)
    precision = loaded.card.precision if cpu_has_bf16() else "fp32"
    return Predictor(file, loaded, Device("cpu", precision, loaded.card.memory_format))


def model_file(path: Path) -> Path:
    """The model file that a path names: itself, or that of a run folder, held against the folder's manifest.

    Raises:
        DataError: when there is none.
    """
    file = _model_in(path) if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"There is no model {path}: name a run folder or a {MODEL_FILE}.")
    return file


def _model_in(folder: Path) -> Path:
    if (folder / SEEDS).is_file():
        runs = ", ".join(sorted(path.name for path in folder.glob("[sf]*-*")))
        raise DataError(f"{folder} holds one run a seed or fold: name one of them ({runs or 'none yet'}).")
    file = folder / MODEL_FILE
    if not file.is_file():
        raise DataError(f"{folder} is no run folder with a model: it has no {MODEL_FILE}.")
    check_file(folder, MODEL_FILE)
    return file
