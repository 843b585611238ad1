"""Fovea trains small-image CNN classifiers and says how far to believe them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea.api import load_data, load_run, reproduce, summary, train
    from fovea.comparing import compare
    from fovea.data.imageset import ImageSet
    from fovea.data.preprocess import Preprocessor
    from fovea.data.split import Split
    from fovea.delivery.predictor import Predictor, load_model
    from fovea.diagnosis.kerasdoctor import KerasDoctor
    from fovea.diagnosis.telling import Diagnosis
    from fovea.diagnosis.watching import watch
    from fovea.doctor import diagnose
    from fovea.errors import (
        DataError,
        FoveaError,
        InputWarning,
        ModelError,
        NonFiniteLossError,
        RunFailedError,
        SettingsError,
        UserError,
    )
    from fovea.evaluation.findings import Finding
    from fovea.evaluation.intervals import Score
    from fovea.evaluation.predictions import Predictions
    from fovea.runview import Run
    from fovea.settings import Recipe
    from fovea.studies.reproduce import Reproduction
    from fovea.studies.seeds import FoldStudy, SeedStudy
    from fovea.training.callbacks import Callback

__version__ = "0.1.0"

# Public name -> where it lives; loaded when it is first used, so that importing fovea imports nothing heavy.
_HOMES = {
    "Callback": "fovea.training.callbacks",
    "DataError": "fovea.errors",
    "Diagnosis": "fovea.diagnosis.telling",
    "Finding": "fovea.evaluation.findings",
    "FoveaError": "fovea.errors",
    "ImageSet": "fovea.data.imageset",
    "InputWarning": "fovea.errors",
    "KerasDoctor": "fovea.diagnosis.kerasdoctor",
    "ModelError": "fovea.errors",
    "NonFiniteLossError": "fovea.errors",
    "Predictions": "fovea.evaluation.predictions",
    "Predictor": "fovea.delivery.predictor",
    "Preprocessor": "fovea.data.preprocess",
    "Recipe": "fovea.settings",
    "Reproduction": "fovea.studies.reproduce",
    "Run": "fovea.runview",
    "RunFailedError": "fovea.errors",
    "Score": "fovea.evaluation.intervals",
    "FoldStudy": "fovea.studies.seeds",
    "SeedStudy": "fovea.studies.seeds",
    "SettingsError": "fovea.errors",
    "Split": "fovea.data.split",
    "UserError": "fovea.errors",
    "compare": "fovea.comparing",
    "diagnose": "fovea.doctor",
    "load_data": "fovea.api",
    "load_model": "fovea.delivery.predictor",
    "load_run": "fovea.api",
    "reproduce": "fovea.api",
    "summary": "fovea.api",
    "train": "fovea.api",
    "watch": "fovea.diagnosis.watching",
}

__all__ = [
    "Callback",
    "DataError",
    "Diagnosis",
    "Finding",
    "FoldStudy",
    "FoveaError",
    "ImageSet",
    "InputWarning",
    "KerasDoctor",
    "ModelError",
    "NonFiniteLossError",
    "Predictions",
    "Predictor",
    "Preprocessor",
    "Recipe",
    "Reproduction",
    "Run",
    "RunFailedError",
    "Score",
    "SeedStudy",
    "SettingsError",
    "Split",
    "UserError",
    "compare",
    "diagnose",
    "load_data",
    "load_model",
    "load_run",
    "reproduce",
    "summary",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fovea' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
