"""Weights that training starts from: those of an earlier run or of a model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from fovea.data.prepare import Splits
from fovea.data.preprocess import Preprocessor
from fovea.data.problem import Problem
from fovea.errors import DataError, ModelError, SettingsError
from fovea.evaluation.modelfile import read_contents, tensors_digest
from fovea.evaluation.stored import StoredRun
from fovea.files import read_json
from fovea.settings import Recipe
from fovea.training.checkpoint import Checkpoint, newest_checkpoint, restore_optimizer_states, tensors_of
from fovea.training.records import STATES

MAX_ANCESTORS = 100  # runs that started from runs
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
        classes: what its outputs tell apart; None: not known.
        steps: of its preprocessing, as settings; None: not known.
        source: where the images came from that it was trained on, and trained: part of the data -> indices of those
            images, of earlier runs that it started from too; None: not known.
        lineage: the same as plain values, for config.yaml.
        is_given: the weights came without a file: the run keeps them as start.safetensors.
    """

    weights: Mapping[str, torch.Tensor]
    sha256: str
    line: str
    checkpoint: Checkpoint | None = None
    classes: tuple[str, ...] | None = None
    steps: Mapping[str, Any] | None = None
    source: str | None = None
    trained: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
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


def start_net(path: Path) -> dict[str, Any]:
    """The settings that take over the net of a run folder or a model file, its weights and its steps of preprocessing.

    Raises:
        SettingsError: when there is none, or it is a module of the user's own.
        DataError: when it is damaged.
    """
    if not path.exists():
        raise SettingsError(f"There is no {path} to start from: expected a run folder or a model file.")
    card, _ = read_contents(StoredRun(path).file("best.safetensors") if path.is_dir() else path)
    model = card.model
    if model.layers is None:
        raise SettingsError(
            f"{path} was trained with a module of your own ({model.name}): load its weights into the module "
            "(fovea.load_run(path, module).model.net) and pass it as model=."
        )
    net = {"model.name": model.name, "model.layers": model.layers, "model.initializer": model.initializer}
    return {**net, **card.preprocessor.steps, "model.weights": str(path)}


def _of_file(path: Path, continued: bool) -> Start:
    if continued:
        raise SettingsError(f"{path} holds no optimizer to go on with: optimizer.start continued needs a run folder.")
    card, weights = read_contents(path)
    epoch = (card.metrics or {}).get("epoch")
    words = f"weights of {path}" + (f", epoch {epoch}" if epoch else "")
    digest = tensors_digest(weights)
    lineage = {"weights": str(path), "sha256": digest, "epoch": epoch}
    line = f"{words}; which images they were trained on is not known"
    return Start(weights, digest, line, None, card.classes, card.preprocessor.steps, lineage=lineage)


def _of_run(path: Path, continued: bool) -> Start:
    run = StoredRun(path)
    facts = {
        "weights": str(path),
        "run_id": read_json(run.file("environment.json")).get("run_id"),
        "data": run.recipe.data.source,
    }
    card, kept = read_contents(run.file("best.safetensors"))
    start = Start(
        kept, "", "", None, card.classes, card.preprocessor.steps, run.recipe.data.source, _trained_images(run)
    )
    if not continued:
        epoch, digest = run.result["best_epoch"], tensors_digest(kept)
        lineage = {**facts, "sha256": digest, "epoch": epoch}
        return replace(start, sha256=digest, line=f"weights of epoch {epoch} of {path}", lineage=lineage)
    found = newest_checkpoint(path / STATES)
    if found.checkpoint is None:
        raise DataError(f"{path / STATES} holds no state: the optimizer of this run cannot be gone on with.")
    digest, epoch = tensors_digest(found.checkpoint.tensors), found.checkpoint.facts["epoch"]
    return replace(
        start,
        weights=tensors_of(found.checkpoint, "net"),
        sha256=digest,
        line=f"weights and optimizer as they were at the end of {path}, epoch {epoch}",
        checkpoint=found.checkpoint,
        lineage={**facts, "sha256": digest, "epoch": epoch, "optimizer": "continued"},
    )


def _trained_images(run: StoredRun) -> dict[str, NDArray[np.int64]]:
    """Part of the data -> indices of the images that a run, and those that it started from, were trained on."""
    source, found = run.recipe.data.source, dict[str, NDArray[np.int64]]()
    for _ in range(MAX_ANCESTORS):
        part, indices = run.split.sources["train"], run.split.indices["train"]
        found[part] = np.union1d(found.get(part, indices), indices)
        before = Path(str(run.recipe.model.weights))
        if run.recipe.model.weights is None or not (before / "config.yaml").is_file():
            break
        run = StoredRun(before)
        if run.recipe.data.source != source:
            break
    return found


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


def load_start(net: nn.Module, start: Start, classes: tuple[str, ...]) -> list[str]:
    """Put the weights into a net; a last layer that tells other classes apart keeps its fresh ones.

    Args:
        classes: of the net.

    Returns:
        Lines to show.

    Raises:
        ModelError: when any other weight does not fit.
    """
    fresh, head = net.state_dict(), _head(net)
    of_head = [name for name in fresh if name.rpartition(".")[0] == head]
    other_classes = start.classes not in (None, classes)
    other = [name for name in fresh if name not in start.weights or fresh[name].shape != start.weights[name].shape]
    fits = all(
        name in of_head and name in start.weights and fresh[name].shape[1:] == start.weights[name].shape[1:]
        for name in other
    )
    if not fits or set(start.weights) - set(fresh):
        strangers = [*other, *(set(start.weights) - set(fresh))][:3]
        raise ModelError(
            f"The {start.line} do not fit this net ({', '.join(strangers)}): give the net that they were trained in "
            "(--from takes both) and images of the same size and channels."
        )
    kept = of_head if other or other_classes else []
    net.load_state_dict({**fresh, **{name: start.weights[name] for name in fresh if name not in kept}})
    if not kept:
        return []
    if start.checkpoint is not None:
        raise SettingsError("optimizer.start continued needs the classes of the earlier run; here they are others.")
    return ["the last layer starts fresh: the classes are others than those of the weights"]


def other_steps(start: Start, preprocessor: Preprocessor) -> list[str]:
    """A line where the images are preprocessed otherwise than those that the weights were trained on."""
    if start.steps is None:
        return []
    now = preprocessor.steps
    differing = [f"{name} {before}, here {now[name]}" for name, before in start.steps.items() if now[name] != before]
    if not differing:
        return []
    return [f"warning: the weights were trained on images preprocessed otherwise: {'; '.join(differing)}"]


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
    if source is None or start.source != source:
        return []
    problems = []
    judging = {"val": "validation", "test": "test"}
    for name, words in ((name, words) for name, words in judging.items() if name in splits.sets):
        trained = start.trained.get(splits.split.sources[name], np.empty(0, np.int64))
        count = len(np.intersect1d(splits.split.indices[name], trained))
        if count:
            cause = (
                f"The weights that training starts from have been trained on {count:,} of the "
                f"{len(splits.sets[name]):,} {words} images: what was seen in training is answered too well."
            )
            problems.append(Problem("seen-before", cause, "Keep the split_seed and val_split of the earlier run."))
    return problems
