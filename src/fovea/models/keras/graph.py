"""A graph of layers whose branches part and join again -> nested chains, as a layer list has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fovea.errors import ModelError
from fovea.models.keras.config import KerasLayer

MERGES = {"Add": "residual", "Concatenate": "concat"}


@dataclass(frozen=True)
class Line:
    """A line of our layer list.

    Attributes:
        layer: of Keras, which it stands for.
        modules: how many of its modules hold weights.
    """

    text: str
    layer: KerasLayer
    modules: int = 0


@dataclass(frozen=True)
class Branches:
    """Chains that begin at one point and are added or concatenated where they end."""

    kind: str
    chains: tuple[tuple[Line | Branches, ...], ...]


Chain = tuple[Line | Branches, ...]


def in_order(layers: Mapping[str, KerasLayer]) -> list[KerasLayer]:
    """The layers so that each comes after its inputs.

    Raises:
        ModelError: when they form a ring.
    """
    done: dict[str, KerasLayer] = {}
    waiting = list(layers.values())
    while waiting:
        ready = [layer for layer in waiting if all(name in done for name in layer.inputs)]
        if not ready:
            raise waiting[0].refused("it is among its own inputs")
        done |= {layer.name: layer for layer in ready}
        waiting = [layer for layer in waiting if layer.name not in done]
    return list(done.values())


def as_chain(ordered: list[KerasLayer], output: str, lines: Mapping[str, tuple[Line, ...]]) -> Chain:
    """The lines of a graph as nested chains, from its input to `output`.

    Args:
        ordered: each layer after its inputs; the first takes the images.
        lines: of each layer that does not merge.

    Raises:
        ModelError: when branches do not part and join in pairs.
    """
    layers = {layer.name: layer for layer in ordered}
    parents = _dominators(ordered)
    used: set[str] = set()

    def chain(end: str, start: str) -> Chain:
        items: list[Line | Branches] = []
        while end != start:
            layer = layers[end]
            if end in used or not layer.inputs:
                raise layer.refused(
                    "its output is used by branches that join elsewhere; chains, and branches that begin at one layer "
                    "and end in one Add or Concatenate, are supported"
                )
            used.add(end)
            if layer.class_name not in MERGES:
                items += reversed(lines[end])
                end = layer.inputs[0]
                continue
            begin = parents[end]
            items.append(_merged(layer, [chain(name, begin) for name in layer.inputs]))
            end = begin
        return tuple(reversed(items))

    try:
        return chain(output, ordered[0].name)
    except RecursionError:
        raise ModelError("its branches are nested too deeply.") from None


def _merged(layer: KerasLayer, chains: list[Chain]) -> Branches:
    if layer.class_name == "Concatenate":
        return Branches("concat", tuple(chains))
    chains.sort(key=lambda found: not found)  # the input itself, which is no chain, comes last
    if not chains[0] or len(chains) < 2 or not chains[-2]:
        raise layer.refused("it adds an output to itself, which is not supported")
    merged = Branches("residual", (chains[-2], chains[-1]))
    for found in reversed(chains[:-2]):
        merged = Branches("residual", (found, (merged,)))
    return merged


def _dominators(ordered: list[KerasLayer]) -> dict[str, str]:
    """Layer -> the nearest layer before it that all ways from the input to it lead through."""
    place = {layer.name: number for number, layer in enumerate(ordered)}
    parents = {ordered[0].name: ordered[0].name}
    for layer in ordered[1:]:
        if not layer.inputs:
            raise layer.refused("nothing leads into it")
        parent = layer.inputs[0]
        for other in layer.inputs[1:]:
            while parent != other:
                if place[parent] > place[other]:
                    parent = parents[parent]
                else:
                    other = parents[other]
        parents[layer.name] = parent
    return parents


def as_layer_list(chain: Chain) -> list[Any]:
    """The layer list that config.yaml and `build_layers` know."""
    found: list[Any] = []
    for item in chain:
        if isinstance(item, Line):
            found.append(item.text)
        elif item.kind == "concat":
            found.append({"concat": [as_layer_list(inner) for inner in item.chains]})
        else:
            block, shortcut = (as_layer_list(inner) for inner in item.chains)
            found.append({"residual": block, **({"shortcut": shortcut} if shortcut else {})})
    return found


def weighted_layers(chain: Chain) -> list[tuple[KerasLayer, int]]:
    """The layers that hold weights and how many modules of theirs do, in the order of the net's modules."""
    found: list[tuple[KerasLayer, int]] = []
    for item in chain:
        if isinstance(item, Branches):
            for inner in item.chains:
                found += weighted_layers(inner)
        elif item.modules:
            found.append((item.layer, item.modules))
    return found
