"""A live Keras model: its own to_json() and get_weights() say what it is; Keras is not imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import ModelError
from fovea.models.keras.config import KerasLayer, parse_config
from fovea.models.keras.files import KerasModel, model_of
from fovea.models.keras.weights import finite

_PACKAGES = ("keras.", "tf_keras.", "tensorflow.python.keras.")


def is_keras_object(model: Any) -> bool:
    """Whether an object is a Keras model, of whatever backend."""
    origins = [f"{kind.__module__}." for kind in type(model).__mro__]
    return any(origin.startswith(_PACKAGES) for origin in origins) and hasattr(model, "to_json")


def keras_model_of(model: Any) -> KerasModel:
    """A live Keras model in our terms, with the weights that it has now.

    Raises:
        ModelError: when it does not say what it consists of, is not built, or holds what is not supported.
    """
    try:
        text = model.to_json()
        weights = {str(layer.name): [np.asarray(array) for array in layer.get_weights()] for layer in model.layers}
    except Exception as error:  # whatever Keras, or a class of the user's own, raises
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The Keras model does not say what it consists of: {type(error).__name__}: {reason}."
        ) from None

    def arrays(layer: KerasLayer, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
        found = weights.get(layer.name, [])
        if [array.shape for array in found] != list(shapes):
            known = ", ".join(str(array.shape) for array in found) or "none"
            raise layer.refused(f"its weights have the shapes {known}, expected {list(shapes)}: is the model built?")
        return finite(layer, found)

    try:
        return model_of(parse_config(text), arrays, str(getattr(model, "name", "keras")))
    except ModelError as error:
        raise ModelError(f"The Keras model cannot be taken: {error}") from None
