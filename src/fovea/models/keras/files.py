"""Keras files: which file is what, and what it says as a layer list with weights."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from numpy.typing import NDArray

from fovea.data.archives import BOMB_BYTES, BOMB_RATIO
from fovea.errors import DataError, ModelError, SettingsError
from fovea.models.build import build_net
from fovea.models.keras.config import MAX_CONFIG_BYTES, Graph, KerasLayer, as_keras_writes, parse_config
from fovea.models.keras.convert import Net, convert
from fovea.models.keras.graph import weighted_layers
from fovea.models.keras.layer_lines import Arrays
from fovea.models.keras.slots import weighted_modules
from fovea.models.keras.weights import MAGIC, STUMBLES, config_of, damaged, opened, weights_in
from fovea.settings import ModelSettings

SUFFIXES = (".keras", ".h5", ".hdf5", ".json")
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"  # the members of a .keras
_KINDS = "a .keras, a whole-model .h5, or the .json of model.to_json() with its weights (.h5)"


@dataclass(frozen=True, eq=False)
class KerasModel:
    """A Keras model in our terms.

    Attributes:
        layers: our layer list; it ends in logits.
        image_shape: height, width, channels.
        weights: state_dict of the net that `build_layers` makes of `layers`; None where there were none.
        notes: lines for the user about what is not as in Keras.
        name: what it is called.
    """

    layers: list[Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    weights: dict[str, torch.Tensor] | None
    notes: tuple[str, ...]
    name: str

    @property
    def scales_input(self) -> bool:
        """Whether the net begins by scaling the images itself (Rescaling, Normalization)."""
        first = self.layers[0]
        return isinstance(first, str) and first.split()[0] in ("scale", "normalize")


def is_keras_file(name: str) -> bool:
    """Whether a model's name is that of a Keras file."""
    return name.lower().endswith(SUFFIXES)


def read_keras(paths: Sequence[str | Path]) -> KerasModel:
    """Read a Keras model: one file, or its config and its weights in any order. No code in a file is run.

    Args:
        paths: a .keras, a whole-model .h5, or a .json; beside each, weights of their own (.h5 of any form).

    Raises:
        ModelError: when a file is none of these, is damaged, or holds what is not supported; names the layer.
        DataError: when it is not there.
        SettingsError: when h5py is not installed.
    """
    places = [Path(path) for path in paths]
    if not 1 <= len(places) <= 2:
        raise ModelError(f"{len(places)} files were given: name {_KINDS}.")
    with contextlib.ExitStack() as stack:
        parts = []
        for place in places:
            with _named(place):
                parts.append(_part(place, stack))
        configs = [part for part in parts if part.config is not None]
        if not configs:
            raise ModelError(f"{places[0]} holds weights only: give the .json of model.to_json() too.")
        config = configs[0]
        others = [part for part in parts if part is not config]
        if len(configs) == 2:  # one of them may be a whole model whose weights are wanted
            plain = [part for part in configs if part.weights is None]
            if len(plain) != 1:
                raise ModelError(f"{places[0]} and {places[1]} both say what the net is: give {_KINDS}.")
            config, others = plain[0], [part for part in parts if part is not plain[0]]
        weights = others[0] if others else config
        assert config.config is not None
        with _named(config.path):
            graph = parse_config(*config.config)
        with _named(weights.path):
            source = None if weights.weights is None else weights_in(weights.weights, graph).arrays
        arrays = None if source is None else _named_arrays(source, weights.path)
        with _named(config.path):
            return model_of(graph, arrays, config.path.name.split(".")[0] or "keras")


def model_of(graph: Graph, arrays: Arrays | None, name: str) -> KerasModel:
    """A graph and what reads its weights as a layer list and tensors.

    Raises:
        ModelError: names the layer that is not supported or whose weights do not fit.
    """
    with as_keras_writes():
        net = convert(graph, arrays)
    weights = None if arrays is None else _state(net, arrays)
    return KerasModel(net.layers, net.image_shape, net.num_classes, weights, net.notes, name)


def _state(net: Net, arrays: Arrays) -> dict[str, torch.Tensor]:
    """The state_dict of the net that our layer list makes, with Keras' numbers in it."""
    built = build_net(ModelSettings(layers=net.layers), net.image_shape, net.num_classes, seed=0)
    state = dict(built.state_dict())
    modules = iter(weighted_modules(built))
    for layer, count in weighted_layers(net.chain):
        slots = [slot for _ in range(count) for slot in next(modules)]
        found = arrays(layer, [slot.shape for slot in slots])
        for slot, array in zip(slots, found, strict=True):
            state[slot.key] = slot.to_torch(array)
    return state


@dataclass(frozen=True, eq=False)
class _Part:
    """What one file brings: a config (and the Keras version it names), an open HDF5 file of weights, or both."""

    path: Path
    config: tuple[str | bytes, str | None] | None
    weights: Any | None


class _NamedError(ModelError):
    """A message that names its file."""


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before messages that have none."""
    try:
        yield
    except (_NamedError, DataError, SettingsError):
        raise
    except STUMBLES as error:
        raise _NamedError(f"{path}: {error if isinstance(error, ModelError) else damaged(error)}") from None


def _named_arrays(arrays: Arrays, path: Path) -> Arrays:
    """What reads arrays, its messages naming the file that they are in."""

    def read(layer: KerasLayer, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
        with _named(path):
            return arrays(layer, shapes)

    return read


def _part(path: Path, stack: contextlib.ExitStack) -> _Part:
    try:
        file = stack.enter_context(path.open("rb"))
        head = file.read(64)
    except OSError as error:
        raise DataError(f"The Keras file {path} cannot be read: {error.strerror}.") from None
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _zip_part(path, file, stack)
    if head.startswith(MAGIC):
        weights = stack.enter_context(opened(file))
        return _Part(path, config_of(weights), weights)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _Part(path, (_limited(file, MAX_CONFIG_BYTES), None), None)
    raise ModelError(f"it is no Keras file: expected {_KINDS}.")


def _limited(file: Any, limit: int) -> bytes:
    content: bytes = file.read(limit + 1)
    if len(content) > limit:
        raise ModelError(f"it holds more than {limit:,} bytes where a config should be.")
    return content


def _zip_part(path: Path, file: BinaryIO, stack: contextlib.ExitStack) -> _Part:
    """A .keras: members are read by their names, into memory, and nothing is unpacked to the disk."""
    packed = path.stat().st_size
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        version = _version(_member(archive, METADATA, MAX_CONFIG_BYTES))
        config = _member(archive, CONFIG, MAX_CONFIG_BYTES)
        weights = _member(archive, WEIGHTS, max(BOMB_BYTES, BOMB_RATIO * packed))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"it is damaged or cut short ({' '.join(str(error).split())}).") from None
    if config is None:
        raise ModelError(f"it is a zip without {CONFIG}: no .keras file.")
    inner = None if weights is None else stack.enter_context(opened(cast(BinaryIO, io.BytesIO(weights))))
    return _Part(path, (config, version), inner)


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes | None:
    infos = [info for info in archive.infolist() if info.filename == name]
    if not infos:
        return None
    if len(infos) > 1:
        raise ModelError(f"it holds {name} twice: which of the two is meant cannot be told.")
    if infos[0].file_size > limit:
        raise ModelError(f"its {name} claims {infos[0].file_size:,} bytes, more than the {limit:,} that are read.")
    with archive.open(infos[0]) as member:
        return _limited(member, limit)


def _version(metadata: bytes | None) -> str | None:
    try:
        found = json.loads(metadata or b"{}")
    except (ValueError, RecursionError):
        return None
    version = found.get("keras_version") if isinstance(found, Mapping) else None
    return version if isinstance(version, str) else None
