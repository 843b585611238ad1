"""Weights that training starts from: those of an earlier run or of a model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from fovea.data.prepare import Problem, Splits
from fovea.data.split import Split
from fovea.errors import DataError, ModelError, SettingsError
from fovea.evaluation.modelfile import read_contents, tensors_digest
from fovea.evaluation.stored import StoredRun
from fovea.files import read_json
from fovea.settings import ModelSettings, Recipe
from fovea.training.checkpoint import Checkpoint, newest_checkpoint, restore_optimizer_states, tensors_of
from fovea.training.records import STATES

GIVEN_WEIGHTS = "start.safetensors"  # of a run folder: weights that came without a file of ours


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a net comes from that was not made here.

    Attributes:
        image_shape: height, width, channels that it was made for.
        weights: state_dict that training begins with; None: fresh ones.
    """

    image_shape: tuple[int, int, int]
    weights: Mapping[str, torch.Tensor] | None = None

    def check_shape(self, found: tuple[int, int, int]) -> None:
        """Refuse images of another shape.

        Raises:
            ModelError: names both, and what to do.
        """
        if self.image_shape == found:
            return
        shown = ["x".join(map(str, shape)) for shape in (self.image_shape, found)]
        remedy = f"set image_size=[{self.image_shape[0]},{self.image_shape[1]}], which resizes them"
        if self.image_shape[2] != found[2]:
            remedy = f"they differ in their channels ({self.image_shape[2]} and {found[2]}), which no setting changes"
        raise ModelError(f"The model takes images of {shown[0]}, the data has {shown[1]}: {remedy}.")


@dataclass(frozen=True, eq=False)
class Start:
    """Where training starts, in place of fresh weights.

    Attributes:
        weights: by the names of the net's state_dict.
        sha256: of the weights and, where it goes on, of what the optimizer had gathered.
        line: what they are, for the user.
        checkpoint: the state whose optimizer goes on; None: it starts fresh.
        source: where the earlier run's images came from, and split: which of them it trained on; None: not known.
        lineage: the same as plain values, for config.yaml.
        is_given: the weights came without a file: the run keeps them as start.safetensors.
    """

    weights: Mapping[str, torch.Tensor]
    sha256: str
    line: str
    checkpoint: Checkpoint | None = None
    source: str | None = None
    split: Split | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    is_given: bool = False


def read_start(recipe: Recipe) -> Start | None:
    """What the settings name as the place to start from; None where they name none.

    Raises:
        SettingsError: when it holds no weights, or others than when the settings were written.
        DataError: when it is damaged.
    """
    continued = recipe.optimizer.start == "continued"
    if recipe.model.weights is None:
        if continued:
            raise SettingsError(
                "optimizer.start continued goes on with the optimizer of an earlier run: name the run with --from."
            )
        return None
    path = Path(recipe.model.weights).expanduser()
    if not path.exists():
        raise SettingsError(f"There are no weights {path} (model.weights): expected a run folder or a model file.")
    start = _of_run(path, continued) if path.is_dir() else _of_file(path, continued)
    if recipe.model.weights_sha256 not in (None, start.sha256):
        raise SettingsError(
            f"The weights {path} are not those that these settings were written with: their sha256 has changed. "
            "Name them anew (--weights or --from) to start from them as they are now."
        )
    return start


def start_net(path: Path) -> ModelSettings:
    """The net of a run folder or a model file.

    Raises:
        SettingsError: when there is none, or it is a module of the user's own.
        DataError: when it is damaged.
    """
    if not path.exists():
        raise SettingsError(f"There is no {path} to start from: expected a run folder or a model file.")
    model = StoredRun(path).recipe.model if path.is_dir() else read_contents(path)[0].model
    if model.layers is None:
        raise SettingsError(
            f"{path} was trained with a module of your own ({model.name}): load its weights into the module "
            "(fovea.load_run(path, module).model.net) and pass it as model=."
        )
    return model


def _of_file(path: Path, continued: bool) -> Start:
    if continued:
        raise SettingsError(f"{path} holds no optimizer to go on with: optimizer.start continued needs a run folder.")
    card, weights = read_contents(path)
    epoch = (card.metrics or {}).get("epoch")
    words = f"weights of {path}" + (f", epoch {epoch}" if epoch else "")
    digest = tensors_digest(weights)
    return Start(weights, digest, words, lineage={"weights": str(path), "sha256": digest, "epoch": epoch})


def _of_run(path: Path, continued: bool) -> Start:
    run = StoredRun(path)
    facts = {
        "weights": str(path),
        "run_id": read_json(run.file("environment.json")).get("run_id"),
        "data": run.recipe.data.source,
    }
    if not continued:
        _, weights = read_contents(run.file("best.safetensors"))
        epoch, digest = run.result["best_epoch"], tensors_digest(weights)
        line = f"weights of epoch {epoch} of {path}"
        lineage = {**facts, "sha256": digest, "epoch": epoch}
        return Start(weights, digest, line, None, run.recipe.data.source, run.split, lineage)
    found = newest_checkpoint(path / STATES)
    if found.checkpoint is None:
        raise DataError(f"{path / STATES} holds no state: the optimizer of this run cannot be gone on with.")
    digest, epoch = tensors_digest(found.checkpoint.tensors), found.checkpoint.facts["epoch"]
    line = f"weights and optimizer as they were at the end of {path}, epoch {epoch}"
    lineage = {**facts, "sha256": digest, "epoch": epoch, "optimizer": "continued"}
    weights = tensors_of(found.checkpoint, "net")
    return Start(weights, digest, line, found.checkpoint, run.recipe.data.source, run.split, lineage)


def start_of(weights: Mapping[str, torch.Tensor], recipe: Recipe) -> Start:
    """Weights that were given without a file of ours as a place to start from.

    Raises:
        SettingsError: where the settings name others, or go on with an optimizer.
    """
    if recipe.model.weights is not None:
        raise SettingsError("The model brings its own weights along: leave weights out.")
    if recipe.optimizer.start == "continued":
        raise SettingsError("optimizer.start continued needs a run folder: these weights have no optimizer.")
    digest = tensors_digest(weights)
    lineage = {"weights": GIVEN_WEIGHTS, "sha256": digest}
    return Start(weights, digest, "weights that came with the model", lineage=lineage, is_given=True)


def load_start(net: nn.Module, start: Start) -> list[str]:
    """Put the weights into a net; a last layer for other classes keeps its fresh ones.

    Returns:
        Lines to show.

    Raises:
        ModelError: when any other weight does not fit.
    """
    fresh = net.state_dict()
    head = _head(net)
    other = [name for name in fresh if name not in start.weights or fresh[name].shape != start.weights[name].shape]
    if any(name.rpartition(".")[0] != head for name in other) or set(start.weights) - set(fresh):
        strangers = [*other, *(set(start.weights) - set(fresh))][:3]
        raise ModelError(
            f"The {start.line} do not fit this net ({', '.join(strangers)}): give the net that they were trained in "
            "(--from takes both) and images of the same size and channels."
        )
    net.load_state_dict({**fresh, **{name: start.weights[name] for name in fresh if name not in other}})
    if not other:
        return []
    if start.checkpoint is not None:
        raise SettingsError("optimizer.start continued needs the same classes: the last layer has other shapes here.")
    return ["the last layer starts fresh: the classes are others than those of the weights"]


def _head(net: nn.Module) -> str | None:
    """The name of the last layer that has weights."""
    names = [name for name, module in net.named_modules() if next(module.parameters(recurse=False), None) is not None]
    return names[-1] if names else None


def continue_optimizers(start: Start, optimizers: Sequence[Optimizer]) -> None:
    """Give optimizers what those of the earlier run had gathered: moments and step counts, not rates.

    Raises:
        SettingsError: when they are others.
    """
    assert start.checkpoint is not None
    try:
        restore_optimizer_states(start.checkpoint, optimizers)
    except (ValueError, IndexError):
        raise SettingsError(
            "optimizer.start continued needs the optimizer of the earlier run: its name and what it trains differ here."
        ) from None


def seen_before(start: Start, splits: Splits, source: str | None) -> list[Problem]:
    """Whether the earlier run has trained on images that are to judge this one.

    Args:
        source: where this run's images come from.
    """
    if start.split is None or source is None or start.source != source:
        return []
    earlier, problems = start.split, []
    for name, words in (("val", "validation"), ("test", "test")):
        if splits.split.sources[name] != earlier.sources["train"]:
            continue
        count = len(np.intersect1d(splits.split.indices[name], earlier.indices["train"]))
        if count:
            cause = (
                f"The weights that training starts from have been trained on {count:,} of the "
                f"{len(splits.sets[name]):,} {words} images: what was seen in training is answered too well."
            )
            problems.append(Problem("seen-before", cause, "Keep the split_seed and val_split of the earlier run."))
    return problems
