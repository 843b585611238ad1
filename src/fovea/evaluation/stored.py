"""StoredRun: a finished run folder, read back."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fovea.data.imageset import ImageSet
from fovea.data.preprocess import ImageFunction
from fovea.data.split import Split, split_from_json
from fovea.data.tree import listed
from fovea.display import table_html
from fovea.errors import DataError
from fovea.evaluation.answer import answer_array
from fovea.evaluation.bymetric import History
from fovea.evaluation.calibration import CALIBRATION
from fovea.evaluation.gallery import GALLERY, Gallery, read_gallery
from fovea.evaluation.intervals import Score
from fovea.evaluation.metrics import accuracy, confusion_matrix
from fovea.evaluation.modelfile import LoadedModel, read_model, temperature_from_json
from fovea.evaluation.power import SetLimits, limits_of
from fovea.evaluation.predictions import Device, Predictions, cpu_has_bf16, predict, read_predictions
from fovea.evaluation.slices import SLICES
from fovea.evaluation.timeprofile import TIME_PROFILE, TimeProfile, time_profile_from_json
from fovea.evaluation.views import Views, views_from_json
from fovea.files import read_json, read_json_lines
from fovea.recipefile import read_recipe, read_record
from fovea.runfolder import DIAGNOSIS, SEEDS, check_file, is_finished, read_manifest, resume_command
from fovea.settings import Recipe, flat_settings, mark_as_json, test_mark

NO_VALIDATION = "none: val_split 0, all training images trained"
AUDIT, AUDIT_PAIRS = "audit.json", "audit-pairs.npz"  # what the data audit found, and pairs of images to show


class StoredRun:
    """What a run folder holds, loaded when it is asked for.

    Args:
        path: the run folder.
        net: the module that the run was trained with, where it was the user's own.
        function: the preprocessing_function that it was trained with.

    Raises:
        DataError: when the folder is no run or was not finished.
    """

    def __init__(self, path: str | Path, net: nn.Module | None = None, function: ImageFunction | None = None) -> None:
        self.path = Path(path)
        self._net, self._function = net, function
        if (self.path / SEEDS).is_file():
            each = sorted(path.name for path in self.path.glob("[sf]*-*"))
            raise DataError(
                f"{self.path} holds one run a seed or fold: name one of them ({', '.join(each) or 'none yet'})."
            )
        if not (self.path / "config.yaml").is_file():
            raise DataError(f"{self.path} is no run folder: it has no config.yaml.")
        if is_finished(self.path):
            read_manifest(self.path)  # refuses another version
            gone = [name for name in ("best.safetensors", "result.json") if not (self.path / name).is_file()]
            if gone:
                raise DataError(f"The run {self.path} was finished, but {' and '.join(gone)} has been removed since.")
        if not (self.path / "best.safetensors").is_file():
            raise DataError(
                f"The run {self.path} has no best.safetensors: it stopped before its first epoch ended. "
                f"To go on: {resume_command(self.path)}"
            )
        if not (self.path / "result.json").is_file():
            raise DataError(
                f"The run {self.path} was broken off (see its log.jsonl); best.safetensors holds the best weights up "
                f"to then, but there are no results. To go on: {resume_command(self.path)}"
            )

    def __fspath__(self) -> str:
        """A run stands for its folder wherever a path is taken."""
        return str(self.path)

    def file(self, name: str) -> Path:
        """A file of the run, held against the manifest once the run is finished.

        Raises:
            DataError: when it is missing, or not the file that the run wrote.
        """
        if name not in self._proven:
            if not (self.path / name).is_file():
                raise DataError(f"The run {self.path} lacks {name}: it is no whole run folder any more.")
            check_file(self.path, name)
            self._proven.add(name)
        return self.path / name

    @cached_property
    def _proven(self) -> set[str]:
        return set()

    @cached_property
    def recipe(self) -> Recipe:
        """Every setting of the run."""
        return read_recipe(self.file("config.yaml"))

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting but where the data lies, by its full name: `fovea.train(data, **run.settings)` trains again."""
        left_out = {"description", "data.source", "data.val_data", "data.test_data"}
        own = "model." if self.has_own_net else None  # the module is passed again
        return {
            name: value
            for name, value in flat_settings(self.recipe).items()
            if name not in left_out and not (own and name.startswith(own))
        }

    @property
    def has_own_net(self) -> bool:
        """Whether the run was trained with a module of the user's own, which no folder holds."""
        return self.recipe.model.layers is None

    @cached_property
    def record(self) -> dict[str, Any]:
        """What was derived and chosen, with reasons: the `record` of config.yaml."""
        return read_record(self.file("config.yaml"))

    @cached_property
    def result(self) -> dict[str, Any]:
        """result.json: scores, chosen epoch, seconds."""
        return dict(read_json(self.file("result.json")))

    @cached_property
    def profile(self) -> TimeProfile | None:
        """Where the time of the run went; None where it was not measured (`fovea train --profile`)."""
        if not (self.path / TIME_PROFILE).is_file():
            return None
        return time_profile_from_json(read_json(self.file(TIME_PROFILE)))

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json: versions, processor, command."""
        return dict(read_json(self.file("environment.json")))

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl."""
        return read_json_lines(self.file("log.jsonl"))

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What is wrong, as plain values: by diagnosis.json once the doctor has looked, before by findings.json."""
        found = self.diagnosis
        return list(read_json(self.file("findings.json")) if found is None else found["findings"])

    @property
    def diagnosis(self) -> dict[str, Any] | None:
        """diagnosis.json: what `fovea doctor` found, tried and withdrew; None before it has looked.

        Raises:
            DataError: when the file is damaged.
        """
        path = self.path / DIAGNOSIS
        if not path.is_file():
            return None
        found = read_json(path)  # made after the run, and made again at will: no manifest proves it
        if not isinstance(found, dict) or not isinstance(found.get("findings"), list):
            raise DataError(f"{path} is no diagnosis: remove it, or let `fovea doctor {self.path}` make it again.")
        return found

    @cached_property
    def audit(self) -> dict[str, Any] | None:
        """audit.json: what the data audit looked at and found; None where it was switched off."""
        if not (self.path / AUDIT).is_file():
            return None
        return dict(read_json(self.file(AUDIT)))

    @cached_property
    def history(self) -> History:
        """The columns of metrics.csv, one value an epoch, and from the log `time`, the seconds of training so far."""
        try:
            with self.file("metrics.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            history = History({name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path / 'metrics.csv'} cannot be read: {error}.") from None
        log = self.log
        times = {entry.get("epoch"): entry.get("seconds") for entry in log if entry.get("event") == "epoch"}
        history["time"] = [float(times.get(epoch) or math.nan) for epoch in range(1, len(rows) + 1)]
        return history

    @cached_property
    def model(self) -> LoadedModel:
        """The net with the chosen weights, its preprocessing and its classes.

        Raises:
            DataError: when the file is not the one that the run's manifest describes.
            ModelError: when a module or a preprocessing_function of the user's own has not been passed again.
        """
        return read_model(self.file("best.safetensors"), self._net, self._function)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names in label order."""
        return tuple(read_json(self.file("classes.json")))

    @cached_property
    def split(self) -> Split:
        """Which images trained, which chose, which were kept for the test."""
        return split_from_json(read_json(self.file("split.json")))

    def predictions(self, split: str = "test") -> Predictions:
        """The stored predictions of "val" or "test": raw logits, and the temperature beside them.

        Raises:
            DataError: when there are none, as after --no-test.
        """
        if split not in self.result["splits"]:
            raise DataError(f"The run {self.path} has no predictions of the {split} split.")
        if split not in self._predictions:
            found = read_predictions(self.file(f"predictions-{split}.npz"))
            self._predictions[split] = replace(found, temperature=self.temperature)
        return self._predictions[split]

    @cached_property
    def _predictions(self) -> dict[str, Predictions]:
        return {}

    @cached_property
    def gallery(self) -> Gallery:
        """The images that the run keeps to show.

        Raises:
            DataError: when they are missing or damaged.
        """
        return read_gallery(self.file(GALLERY))

    @property
    def judged_by(self) -> str:
        """The split that the run is judged by: "test", or "val" where test stayed closed."""
        return "test" if self.has_test else "val"

    @property
    def has_test(self) -> bool:
        """Whether the test split was opened in this run."""
        return "test" in self.result["splits"]

    @property
    def mark(self) -> str | None:
        """What stands beside the figures where the test images were the validation images too; None elsewhere."""
        return test_mark(self.recipe)

    @property
    def views(self) -> Views:
        """The test-time augmentation that predictions and their scores were made with; `history` knows none."""
        try:
            return views_from_json(self.result.get("tta"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.path / 'result.json'} is damaged: its tta cannot be read ({error}).") from None

    @property
    def temperature(self) -> float:
        """What logits are divided by before they become probabilities; 1 where none was fitted."""
        try:
            return temperature_from_json(self.result.get("temperature", 1.0))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.path / 'result.json'} is damaged: {error}.") from None

    @cached_property
    def calibration(self) -> dict[str, Any] | None:
        """calibration.json: how far the probabilities can be believed, and what leaving out unsure answers gains.

        None in a run of a Fovea that did not measure it.
        """
        return self._later(CALIBRATION)

    @cached_property
    def slices(self) -> dict[str, Any] | None:
        """slices.json: kinds of images that are answered rightly less often (`weak`); None as above."""
        return self._later(SLICES)

    def _later(self, name: str) -> dict[str, Any] | None:
        """A file that older runs lack; one that the manifest names must be there."""
        listed = is_finished(self.path) and name in read_manifest(self.path)
        return dict(read_json(self.file(name))) if listed or (self.path / name).is_file() else None

    @property
    def has_val(self) -> bool:
        """Whether there were validation images; none with val_split 0."""
        return "val" in self.result["splits"]

    @property
    def val_accuracy(self) -> Score | None:
        """Accuracy on the validation split, which chose the weights: slightly optimistic; None where there is none."""
        return accuracy(self.predictions("val"), self.recipe.evaluation.confidence) if self.has_val else None

    @property
    def score(self) -> Score:
        """The accuracy that the run is judged by: on test, or on validation where test stayed closed."""
        return accuracy(self.predictions(self.judged_by), self.recipe.evaluation.confidence)

    @property
    def test_accuracy(self) -> Score | None:
        """Accuracy on the test split; None where it stayed closed."""
        return accuracy(self.predictions("test"), self.recipe.evaluation.confidence) if self.has_test else None

    @property
    def test_limits(self) -> SetLimits | None:
        """What the run's test images cannot show; None where the test stayed closed."""
        if not self.has_test:
            return None
        found = self.predictions("test")
        return limits_of(int(found.correct.sum()), len(found), self.record.get("wrong_test_labels"))

    @property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """Counts [K, K] (true class, predicted class) of the test split, or of validation where test stayed closed."""
        return confusion_matrix(self.predictions(self.judged_by))

    def predict(self, images: Any, adapt: bool = False) -> Predictions:
        """Answer for new images with the preprocessing of the training.

        Images that are unlike the training images (inverted, of another size, blank ...) raise an InputWarning.

        Args:
            images: one image [H, W] or [H, W, C], or many [N, H, W] or [N, H, W, C], raw values as in training.
                Other sizes and channel counts are fitted as the training images were.
            adapt: make images that are unlike the training images like them: inverted ones are inverted, small or
                off-centre ones cut out and centred where training images stand on a plain background.

        Raises:
            DataError: for arrays that are no such images.
        """
        return answer_array(self.model, images, self.device, self.recipe.evaluation.eval_batch_size, adapt)

    def evaluate(self, images: ImageSet) -> Predictions:
        """Predictions for a prepared set, made as the run's own: its device (or the CPU), precision and views.

        Raises:
            DataError: for anything but an ImageSet of the run's size and classes, in their order.
        """
        own = self.model.preprocessor.image_shape
        if not isinstance(images, ImageSet):
            raise DataError(
                f"evaluate takes an ImageSet, such as fovea.load_data(...)['test'], not a {type(images).__name__}: "
                "for arrays predict(images), for other data `fovea evaluate RUN --data DATA`."
            )
        if images.classes != self.classes or images.image_shape != own:
            raise DataError(
                f"The set has the classes {listed(images.classes)} and images of {images.image_shape}, the run "
                f"{listed(self.classes)} and {own}: `fovea evaluate RUN --data DATA` brings them together."
            )
        model, device = self.model, self.device
        net, batch_size = model.net.to(device.name), self.recipe.evaluation.eval_batch_size
        found = predict(net, images, model.preprocessor, device, batch_size, model.card.views)
        return replace(found, temperature=model.card.temperature)

    def as_json(self) -> dict[str, Any]:
        """The run as plain values: what `fovea train --json` prints."""
        test, val = self.test_accuracy, self.val_accuracy
        facts = {name: value for name, value in self.result.items() if name != "splits"}
        return {
            "run": str(self.path),
            "test_accuracy": None if test is None else test.as_json(),
            "val_accuracy": None if val is None else val.as_json(),
            **mark_as_json(self.mark),
            **({} if self.test_limits is None else {"test_limits": self.test_limits.as_json()}),
            **facts,
            **self._trust_as_json(),
            "findings": self.findings,
            **({} if self.profile is None else {"profile": self.profile.as_json()}),
        }

    def _trust_as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.calibration is not None:
            judged = self.calibration["splits"][self.judged_by]
            found["ece"] = {"value": judged["ece"], "expected": judged["expected"], "count": judged["count"]}
        if self.slices is not None:
            found["weak_slices"] = self.slices["weak"]
        return found

    @property
    def device(self) -> Device:
        """The run's own device and precision, or the CPU and float32 where they are not to be had here."""
        training = self.recipe.training
        wanted = torch.device(training.device)
        name = training.device
        if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
            name = "cpu"
        if wanted.type == "mps" and not torch.backends.mps.is_available():
            name = "cpu"
        slow = name == "cpu" and cpu_has_bf16() is None
        return Device(name, "fp32" if slow else training.precision, training.memory_format)

    def _repr_html_(self) -> str:
        result = self.result
        rows = [("validation accuracy", str(self.val_accuracy or NO_VALIDATION))]
        if self.mark is not None:
            rows = [("test accuracy", f"{self.val_accuracy}, {self.mark}")]
        elif self.test_accuracy is not None:
            rows.insert(0, ("test accuracy", str(self.test_accuracy)))
        if self.views.words:
            rows.append(("both with" if len(rows) == 2 else "with", self.views.words))
        rows += [
            ("model", f"{self.recipe.model.name}, {result['parameters']:,} parameters"),
            ("epoch kept", f"{result['best_epoch']} of {result['epochs']}, by {result['chosen_by']}"),
            ("training", f"{result['train_seconds']:.1f} s, {result['images_per_second']:,.0f} images/s"),
            *((finding["severity"], f"{finding['cause']} {finding['cure']}") for finding in self.findings),
            ("folder", str(self.path)),
        ]
        return table_html(rows, self.path.resolve().name)

    def __repr__(self) -> str:
        score = f"{'test' if self.has_test else 'validation'} accuracy {self.score}"
        words = "".join(f", {part}" for part in (self.views.words, self.mark) if part)
        return f"{type(self).__name__}({str(self.path)!r}: {score}{words})"
