"""A trained net as Keras files: .keras, or JSON with .weights.h5 beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fovea.data.preprocess import STD_EPSILON, Preprocessor
from fovea.delivery.predictor import model_file
from fovea.errors import ModelError, SettingsError
from fovea.evaluation.modelfile import read_contents
from fovea.files import write_bytes
from fovea.models.build import build_net
from fovea.models.keras.layer_lines import number_text
from fovea.models.keras.write import keras_files
from fovea.runfolder import check_target


def export_keras(run: str | Path, out: str | Path, with_preprocessing: bool = True) -> list[str]:
    """Write the net of a run or a model file for Keras 3; its predict gives probabilities.

    Args:
        out: FILE.keras, or FILE.json, beside which FILE.weights.h5 is written.
        with_preprocessing: put it before the net, which then takes images of values 0 to 255.

    Returns:
        Lines for the user: what Keras is to be given, and the files.

    Raises:
        UserError: for a model that is not there, and for what Keras has no layer for.
        RunFailedError: when a file cannot be written.
    """
    out = Path(out)
    if out.suffix not in (".keras", ".json"):
        raise SettingsError(
            f"{out}: expected a name that ends in .keras, or in .json (weights in .weights.h5 beside it)."
        )
    file = model_file(Path(run))
    card, weights = read_contents(file)
    places = [out] if out.suffix == ".keras" else [out, out.with_suffix(".weights.h5")]
    targets = [check_target(place, [file]) for place in places]
    if card.model.layers is None:
        raise ModelError(
            f"{run} was trained with a module of your own: only nets of a layer list are written for Keras."
        )
    front = preprocessing_layers(card.preprocessor) if with_preprocessing else []
    layers: list[Any] = [*front, *_over_temperature(card.model.layers, card.temperature)]
    name = "".join(letter if letter.isalnum() else "_" for letter in card.model.name)
    shape = card.preprocessor.image_shape
    net = build_net(card.model, shape, len(card.classes), seed=0)
    net.load_state_dict(weights)
    initializer = card.model.initializer or "glorot_uniform"
    files = keras_files(layers, shape, len(card.classes), net, name, initializer)
    contents = [files.as_keras()] if len(targets) == 1 else [files.config.encode(), files.weights]
    for target, content in zip(targets, contents, strict=True):
        write_bytes(target, content)
    return [*_notes(card.preprocessor, with_preprocessing, card.views.words), *map(str, places)]


def _over_temperature(layers: list[Any], temperature: float) -> list[Any]:
    """The layer list with the temperature before its softmax: Keras gives the probabilities that Fovea gives."""
    if temperature == 1:
        return layers
    last = layers[-1]
    plain = layers[:-1] if last == "softmax" else layers
    return [*plain, f"scale {number_text(1 / temperature)}"]


def preprocessing_layers(preprocessor: Preprocessor) -> list[str]:
    """Lines that do what stands between an image of values 0 to 255 and the net.

    Raises:
        ModelError: names the step that Keras has no layer for.
    """
    steps = {
        "samplewise_center": preprocessor.samplewise_center,
        "samplewise_std_normalization": preprocessor.samplewise_std,
        "zca_whitening": preprocessor.zca is not None,
        f"preprocessing_function ({preprocessor.function_name})": preprocessor.function_name is not None,
    }
    for step, is_used in steps.items():
        if is_used:
            raise ModelError(f"Keras has no layer for {step}: --without-preprocessing leaves all of it out.")
    lines = [] if preprocessor.rescale == 1 else [f"scale {number_text(preprocessor.rescale)}"]
    if preprocessor.mean is None and preprocessor.std is None:
        return lines
    mean = preprocessor.mean or (0.0,) * preprocessor.image_shape[2]
    std = tuple(value + STD_EPSILON for value in preprocessor.std or (1.0 - STD_EPSILON,) * len(mean))
    variance = ",".join(number_text(value**2) for value in std)
    return [*lines, f"normalize mean {','.join(map(number_text, mean))} variance {variance}"]


def _notes(preprocessor: Preprocessor, with_preprocessing: bool, views: str) -> list[str]:
    height, width, channels = preprocessor.image_shape
    notes = [f"note: it takes images of {height}x{width}x{channels} with values of 0 to 255"]
    if not with_preprocessing:
        notes = [f"note: it takes images of {height}x{width}x{channels} as the net sees them: without preprocessing"]
    if with_preprocessing and preprocessor.input_range is not None:
        low, high = preprocessor.input_range
        notes.append(f"note: raw values of {low:g} to {high:g} became 0 to 255 in training: do the same first")
    if views:
        notes.append(f"note: Keras answers without the test-time augmentation of this model ({views})")
    return notes
