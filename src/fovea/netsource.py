"""What MODEL, --from and --weights mean: a name, a layer list, a run, the net of a Keras file, a live Keras model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fovea.errors import SettingsError
from fovea.models.keras.files import KerasModel, is_keras_file, read_keras
from fovea.models.keras.objects import is_keras_object, keras_model_of
from fovea.settings import setting_path
from fovea.training.start import Origin, start_net

# A net that scales the images itself is given them as they are.
_RAW = {
    "preprocessing.rescale": 1.0,
    "preprocessing.featurewise_center": False,
    "preprocessing.featurewise_std_normalization": False,
}


@dataclass(frozen=True, eq=False)
class NetSource:
    """The net that a call asks for.

    Attributes:
        settings: those of the call, with those that follow from the net.
        net: a module of the user's own.
        origin: what is known of a net that was made in Keras.
        notes: what is not as in Keras.
    """

    settings: Mapping[str, Any]
    net: nn.Module | None = None
    origin: Origin | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def has_one_start(self) -> bool:
        """Whether the net comes with its weights: every training of it starts from the same."""
        return self.net is not None or (self.origin is not None and self.origin.weights is not None)


def find_net(model: Any, start_from: str | Path | None, settings: Mapping[str, Any]) -> NetSource:
    """What a call says of its net.

    Args:
        model: a name, a layer list, a Keras file, a Keras model or a module; None: the recipe's.
        start_from: a run folder, a model file or a Keras file whose net is taken with its weights.
        settings: the others; `weights` may name a Keras file.

    Raises:
        UserError: when something cannot be read, holds what is not supported, or contradicts the rest.
    """
    named_too = {setting_path(name) for name in settings} & {"model.name", "model.layers"}
    if start_from is not None and (model is not None or named_too):
        raise SettingsError("--from brings its net along: leave out the model, or give --weights to fill it.")
    keras, rest = _keras_source(model, start_from, settings)
    if keras is not None:
        return _of_keras(keras, rest)
    if start_from is not None:
        return NetSource({**start_net(Path(start_from)), **settings})
    if isinstance(model, torch.jit.ScriptModule):
        raise SettingsError("A TorchScript module cannot be trained here: give the module that it was made from.")
    if isinstance(model, nn.Module):
        return NetSource(rest, model)
    named = {} if model is None else {"model.name" if isinstance(model, str) else "model.layers": model}
    return NetSource({**rest, **named})


def keras_model(model: Any) -> KerasModel | None:
    """The net of a Keras file or of a live Keras model; None for anything else.

    Raises:
        UserError: when it cannot be read or holds what is not supported.
    """
    if isinstance(model, str | Path) and is_keras_file(str(model)):
        return read_keras([model])
    return keras_model_of(model) if is_keras_object(model) else None


def _keras_source(
    model: Any, start_from: str | Path | None, settings: Mapping[str, Any]
) -> tuple[KerasModel | None, Mapping[str, Any]]:
    """The net that comes from Keras, if one does, and the settings without what was read for it."""
    place = next((name for name in settings if setting_path(name) == "model.weights"), None)
    weights = None if place is None or not is_keras_file(str(settings[place])) else settings[place]
    rest = settings if weights is None else {name: value for name, value in settings.items() if name != place}
    if start_from is not None and is_keras_file(str(start_from)):
        found = read_keras([start_from, *([] if weights is None else [weights])])
        if found.weights is None:
            raise SettingsError(f"{start_from} holds no weights: add --weights, or give it as --model.")
        return found, rest
    if isinstance(model, str | Path) and is_keras_file(str(model)):
        found = read_keras([model] if weights in (None, model) else [model, weights])
        return (replace(found, weights=None) if weights is None else found), rest
    if weights is not None:
        raise SettingsError(f"The weights {weights} are of a Keras model: give its net too (--model FILE).")
    return keras_model(model), rest


def _of_keras(keras: KerasModel, settings: Mapping[str, Any]) -> NetSource:
    """A net of Keras as settings; one that scales the images itself is given them as they are."""
    changes: dict[str, Any] = {**settings, "model.layers": keras.layers, "model.name": keras.name}
    notes = [f"{keras.name}: {note}" for note in keras.notes]
    if keras.scales_input:
        notes.append(f"{keras.name}: it scales the images itself ({keras.layers[0]}): it is given 0 to 255")
        changes = {**_RAW, **changes}
    elif keras.weights is not None and not {setting_path(name) for name in settings} & set(_RAW):
        notes.append(
            f"{keras.name}: no Keras file says what its weights were trained on; here images are rescaled, centred and "
            "scaled (preprocess.json). For images divided by 255: featurewise_center and "
            "featurewise_std_normalization false"
        )
    return NetSource(changes, origin=Origin(keras.image_shape, keras.weights), notes=notes)
