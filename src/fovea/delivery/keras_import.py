"""A Keras model as a model file of ours, with the preprocessing that the user names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fovea.data.preprocess import STD_EPSILON, Preprocessor
from fovea.errors import ModelError, SettingsError
from fovea.evaluation.modelfile import ModelCard, model_as_bytes
from fovea.files import write_bytes
from fovea.models.build import build_net, check_net
from fovea.models.keras.files import KerasModel, read_keras
from fovea.runfolder import check_target
from fovea.settings import ModelSettings


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about a Keras model, as typed: its file does not hold it.

    Attributes:
        scale, offset: value * scale + offset is what the net was trained on, for values of 0 to 255.
        mean, std: then subtracted and divided by; one number, or one a channel.
        classes: names with commas between them, or a file with one a line or a JSON list.
    """

    scale: str | None = None
    offset: str | None = None
    mean: str | None = None
    std: str | None = None
    classes: str | None = None


def import_keras(paths: Sequence[str | Path], given: ImportOptions, out: str | Path) -> list[str]:
    """Write a model file that `load_model` and `fovea predict` take.

    Args:
        paths: one Keras file, or a config and its weights.

    Returns:
        Lines for the user: what is not as in Keras, and the file.

    Raises:
        UserError: for files that are no Keras model with weights, or what the user says of it.
        RunFailedError: when the file cannot be written.
    """
    out = Path(out)
    target = check_target(out, [Path(path) for path in paths])
    if target.suffix != ".safetensors":
        raise SettingsError(f"{out} is to be a model file: name it {out.with_suffix('.safetensors')}.")
    model = read_keras(paths)
    if model.weights is None:
        raise ModelError(f"{paths[0]} holds no weights: give their file too (save_weights of Keras).")
    preprocessor = _preprocessor(model, given)
    classes = _classes(given.classes, model.num_classes)
    settings = ModelSettings(name=model.name, layers=model.layers, initializer="glorot_uniform")
    net = build_net(settings, model.image_shape, model.num_classes, seed=0)
    net.load_state_dict(model.weights)
    check_net(net, model.image_shape, model.num_classes)
    card = ModelCard(
        model=settings,
        preprocessor=preprocessor,
        classes=classes,
        profile=None,
        precision="fp32",
        memory_format="channels_last",
        data={"imported": [Path(path).name for path in paths]},
    )
    write_bytes(target, model_as_bytes(net.state_dict(), card))
    notes = [*model.notes, "no training images are known: the input guard is off"]
    if given.classes is None:
        notes.append(f"its classes have no names (--classes): they are called 0 to {model.num_classes - 1}")
    return [*(f"note: {note}" for note in notes), str(out)]


def _preprocessor(model: KerasModel, given: ImportOptions) -> Preprocessor:
    """The user's preprocessing; nothing is guessed.

    Raises:
        SettingsError: where the scale is left out, or a number is none.
    """
    if given.scale is None:
        inside = ""
        if model.scales_input:
            inside = f" The net scales its input itself ({model.layers[0]}): then it is mostly --scale 1."
        raise SettingsError(
            "--scale is missing: no Keras file says what its net was given. For images divided by 255 it is "
            f"--scale 1/255, for values of 0 to 255 --scale 1, for -1 to 1 --scale 1/127.5 --offset -1.{inside}"
        )
    channels = model.image_shape[2]
    (scale,) = _numbers("--scale", given.scale, 1)
    (offset,) = _numbers("--offset", given.offset or "0", 1)
    mean, std = _numbers("--mean", given.mean or "0", channels), _numbers("--std", given.std or "1", channels)
    if scale <= 0 or min(std) <= 0:
        raise SettingsError("--scale and --std are above 0.")
    shift = tuple(value - offset for value in mean)
    return Preprocessor(
        image_shape=model.image_shape,
        input_range=None,
        rescale=scale,
        samplewise_center=False,
        samplewise_std=False,
        mean=shift if any(shift) else None,
        std=None if given.std is None else tuple(value - STD_EPSILON for value in std),  # which is added again
        zca=None,
    )


def _numbers(option: str, text: str, channels: int) -> list[float]:
    """One number a channel from "a", "a/b" or several of them with commas."""
    values = []
    for piece in text.split(","):
        top, _, bottom = piece.partition("/")
        try:
            values.append(float(top) / float(bottom or 1))
        except (ValueError, ZeroDivisionError):
            raise SettingsError(f"{option} {text}: expected a number such as .5 or 1/255.") from None
    values = values * channels if len(values) == 1 else values
    if len(values) != channels or not torch.isfinite(torch.tensor(values)).all():
        raise SettingsError(f"{option} {text}: expected one number{f' or {channels}' if channels > 1 else ''}.")
    return values


def _classes(text: str | None, count: int) -> tuple[str, ...]:
    if text is None:
        return tuple(map(str, range(count)))
    path = Path(text)
    names = text.split(",")
    if "," not in text and path.is_file():
        try:
            content = path.read_text(encoding="utf-8")
            names = json.loads(content) if content.lstrip().startswith("[") else content.splitlines()
        except (OSError, ValueError) as error:
            raise SettingsError(f"--classes {text} cannot be read: {error}.") from None
    names = [str(name).strip() for name in names if str(name).strip()]
    if len(names) != count or len(set(names)) != count:
        raise SettingsError(f"--classes names {len(set(names))} classes, the net tells {count} apart.")
    return tuple(names)
