"""HDF5 files of Keras -> arrays by layer.

Links, virtual and external data are refused; shapes are checked before anything is read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fovea.data.archives import BOMB_RATIO
from fovea.errors import ModelError, SettingsError
from fovea.models.keras.config import MAX_CONFIG_BYTES, MAX_LAYERS, Graph, KerasLayer

MAGIC = b"\x89HDF\r\n\x1a\n"
_TWICE = "_layer_checkpoint_dependencies"  # the root in Keras 2.12, which counts each layer with weights twice
_ROOTS = ("layers", _TWICE)  # of .weights.h5
STUMBLES = (OSError, KeyError, RuntimeError, TypeError, ValueError)  # what h5py raises at odd or damaged data
_SMALL_BYTES = 2**20  # arrays up to this may be packed however small: equal biases are
_FILTERS = {1, 2, 3}  # deflate, shuffle, checksum: all that Keras could have written
WEIGHTED = {"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "BatchNormalization", "PReLU"}


def h5py_module() -> Any:
    """The package h5py.

    Raises:
        SettingsError: where it is not installed; names the extra.
    """
    try:
        import h5py
    except ImportError:
        raise SettingsError("Keras files need the package h5py: pip install 'fovea-vision[keras]'.") from None
    return h5py


def holds_weights(layer: KerasLayer) -> bool:
    """Whether Keras stores arrays for a layer."""
    adapted = layer.class_name == "Normalization" and (
        layer.config.get("mean") is None or layer.config.get("variance") is None
    )
    return adapted or layer.class_name in WEIGHTED


@dataclass(frozen=True)
class WeightsFile:
    """An open HDF5 file of weights.

    Attributes:
        groups: layer -> (the group its arrays are in, their paths below it).
    """

    groups: dict[str, tuple[Any, list[str]]]

    def arrays(self, layer: KerasLayer, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
        """The arrays of a layer, float32.

        Args:
            shapes: that they must have, in Keras' order.

        Raises:
            ModelError: when they are not there, of other shapes, not finite, or stored in a way that is not read;
                names the layer.
        """
        group, paths = self.groups[layer.name]
        if len(paths) != len(shapes):
            raise layer.refused(f"the file holds {len(paths)} arrays for it, expected {len(shapes)}")
        pairs = zip(paths, shapes, strict=True)
        try:
            return finite(layer, [_array(_below(group, path, layer), shape, layer) for path, shape in pairs])
        except ModelError:
            raise
        except STUMBLES as error:
            raise layer.refused(str(damaged(error)).rstrip(".")) from None


def finite(layer: KerasLayer, arrays: Sequence[Any]) -> list[NDArray[Any]]:
    """The arrays of a layer as float32.

    Raises:
        ModelError: when they are not finite, or too large for float32; names the layer.
    """
    with np.errstate(over="ignore"):
        found = [np.asarray(array, np.float32) for array in arrays]
    if not all(np.isfinite(array).all() for array in found):
        raise layer.refused("its weights are not finite")
    return found


@contextlib.contextmanager
def opened(file: BinaryIO) -> Iterator[Any]:
    """An HDF5 file, read only.

    Raises:
        ModelError: when it is damaged.
    """
    h5py = h5py_module()
    try:
        found = h5py.File(file, "r")
    except STUMBLES as error:
        raise damaged(error) from None
    with found:
        yield found


def damaged(error: Exception) -> ModelError:
    """What is said of HDF5 data that h5py stumbles over."""
    return ModelError(f"its HDF5 data is damaged or cut short ({' '.join(str(error).split())[:200]}).")


def config_of(file: Any) -> tuple[str, str | None] | None:
    """The config and the Keras version of a whole-model file; None where it holds weights only."""
    text = _text(file.attrs.get("model_config"))
    return None if text is None else (text, _text(file.attrs.get("keras_version")))


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value[: MAX_CONFIG_BYTES + 1].decode("utf-8", "replace")
    return value[: MAX_CONFIG_BYTES + 1] if isinstance(value, str) else None


def weights_in(file: Any, graph: Graph) -> WeightsFile:
    """Where the weights of a graph's layers lie in a file of any of Keras' forms.

    Raises:
        ModelError: when the file does not hold these layers.
    """
    layers = [layer for layer in graph.layers if holds_weights(layer)]
    root = _group_below(file, "model_weights", None) if "model_weights" in file else file
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return WeightsFile(_legacy_groups(root, layers))
    for name in _ROOTS:
        if name in file:
            return WeightsFile(_numbered_groups(_group_below(file, name, None), "", graph, layers, name == _TWICE))
        if any(key.startswith(f"{name}\\") for key in file):  # written on Windows
            return WeightsFile(_numbered_groups(file, f"{name}\\", graph, layers, name == _TWICE))
    raise ModelError("its HDF5 data holds no weights of a Keras model.")


def _legacy_groups(root: Any, layers: list[KerasLayer]) -> dict[str, tuple[Any, list[str]]]:
    """save_weights of Keras 1 and 2: one group a layer by name; like Keras, layers are paired in their order."""
    stored = []
    for name in _names(root, "layer_names"):
        group = _group_below(root, name, None)
        paths = _names(group, "weight_names")
        if paths:
            stored.append((name, group, paths))
    if len(stored) != len(layers):
        raise ModelError(
            f"its weights are of {len(stored)} layers, the net has {len(layers)} with weights: they belong to "
            "different models."
        )
    return {layer.name: (group, paths) for layer, (_, group, paths) in zip(layers, stored, strict=True)}


def _names(group: Any, key: str) -> list[str]:
    """A list of names in a group's attributes, which Keras splits where it is long."""
    parts = [group.attrs[key]] if key in group.attrs else []
    while key not in group.attrs and f"{key}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{key}{len(parts)}"])
    found = [_text(name) or str(name) for part in parts for name in np.asarray(part).ravel().tolist()]
    if len(found) > 20 * MAX_LAYERS:
        raise ModelError(f"its HDF5 data names {len(found):,} layers.")
    return found


def _numbered_groups(
    root: Any, prefix: str, graph: Graph, layers: list[KerasLayer], twice: bool
) -> dict[str, tuple[Any, list[str]]]:
    """.weights.h5: one group a layer, by its class and number.

    Args:
        prefix: of the groups' names, where the root is no group of its own.
        twice: whether each layer with weights is counted twice: conv2d, conv2d_2, conv2d_4.
    """
    counts: dict[str, int] = {}
    found: dict[str, tuple[Any, list[str]]] = {}
    names = {layer.name for layer in layers}
    for layer in graph.layers:
        key = snake_case(layer.class_name)
        number = counts.get(key, 0)
        counts[key] = number + (2 if twice and layer.name in names else 1)
        if layer.name not in names:
            continue
        name = prefix + (key if number == 0 else f"{key}_{number}")
        if name not in root:
            raise layer.refused(f"the weights hold no group {name!r} for it: they are not of this model")
        group = _group_below(root, f"{name}/vars", layer)
        found[layer.name] = (group, [str(place) for place in range(len(group))])
    return found


def snake_case(name: str) -> str:
    """Keras' group names: "DepthwiseConv2D" -> "depthwise_conv2d", "PReLU" -> "p_re_lu"."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _below(group: Any, path: str, layer: KerasLayer | None) -> Any:
    """What lies below a group, reached over plain links only.

    Raises:
        ModelError: for what is not there, and for soft and external links; names the layer.
    """
    h5py = h5py_module()
    for part in path.split("/"):
        link = group.get(part, getlink=True) if part and isinstance(group, h5py.Group) and part in group else None
        if not isinstance(link, h5py.HardLink):
            kind = "is missing" if link is None else f"is a {type(link).__name__}, which is not followed"
            reason = f"in its HDF5 data {path!r} {kind}"
            raise ModelError(f"{reason}.") if layer is None else layer.refused(reason)
        group = group[part]
    return group


def _group_below(group: Any, path: str, layer: KerasLayer | None) -> Any:
    """A group below a group, like `_below`."""
    found = _below(group, path, layer)
    if not isinstance(found, h5py_module().Group):
        reason = f"in its HDF5 data {path!r} is an array where a group should be"
        raise ModelError(f"{reason}.") if layer is None else layer.refused(reason)
    return found


def _array(dataset: Any, shape: tuple[int, ...], layer: KerasLayer) -> NDArray[Any]:
    """A dataset's numbers, once it is known to be plain and of the size expected."""
    if not isinstance(dataset, h5py_module().Dataset):
        raise layer.refused("in its HDF5 data a group stands where an array should")
    name = str(dataset.name).rsplit("/", 1)[-1]
    if dataset.is_virtual or dataset.external:
        raise layer.refused(f"its array {name!r} is kept in another file (a virtual or external dataset): not read")
    if dataset.shape != shape:
        raise layer.refused(f"its array {name!r} has the shape {dataset.shape}, expected {shape}")
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
    chunks = dataset.chunks or ()
    if filters - _FILTERS or any(chunk > side for chunk, side in zip(chunks, shape, strict=False)):
        raise layer.refused(f"its array {name!r} is packed in a way that Keras does not use: not read")
    _check_packing(dataset, name, layer)
    if dataset.dtype == np.uint16 and _text(dataset.attrs.get("dtype")) == "bfloat16":
        return (np.asarray(dataset[()], np.uint32) << 16).view(np.float32)
    if dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > 8 or (dataset.dtype.kind != "f" and shape):
        raise layer.refused(f"its array {name!r} holds {dataset.dtype}, expected floating-point numbers")
    return np.asarray(dataset[()])


def _check_packing(dataset: Any, name: str, layer: KerasLayer) -> None:
    """Refuse an array that costs far more memory than the file has bytes for it."""
    stored, size = dataset.id.get_storage_size(), dataset.size * dataset.dtype.itemsize
    if size and not stored:
        raise layer.refused(f"its array {name!r} was never written")
    if size > _SMALL_BYTES and size > BOMB_RATIO * stored:
        raise layer.refused(f"its array {name!r} has {size:,} bytes, packed into {stored:,}: not read")
