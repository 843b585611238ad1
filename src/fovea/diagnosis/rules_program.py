"""Rules on what a program says literally: each reads the mentions that begin with one word."""

from __future__ import annotations

from dataclasses import dataclass

from fovea.diagnosis.record import Mention, Record
from fovea.diagnosis.rule import Check, Rule, Suspicion
from fovea.evaluation.findings import Severity

_MAX_NAMED = 4


@dataclass(frozen=True)
class _Said:
    """A rule whose whole evidence is a mention `prefix:...`.

    Attributes:
        cause: "{details}" stands for what the program says; cure: "{instead}" for what to write.
    """

    prefix: str
    id: str
    title: str
    severity: Severity
    cause: str
    cure: str
    traps: str
    source: str
    weight: float = 0.6
    explains: tuple[str, ...] = ()


_SAID = (
    _Said(
        "missing-step",
        "weights-never-updated",
        "no step of the optimizer",
        "severe",
        "The training loop computes a loss and never changes the weights: {details}.",
        "Call loss.backward() and then optimizer.step() for each batch.",
        "loops of a framework (Lightning, skorch), which step by themselves",
        "PyTorch's documentation of optim",
        1.0,
        ("not-learning", "no-gradient"),
    ),
    _Said(
        "unused-copy",
        "scaled-copy-unused",
        "a prepared copy is made and never used",
        "severe",
        "The images are prepared under a name that training never reads: {details}.",
        "Use it: {instead}.",
        "copies that are only drawn",
        "a published program (docs/programs.md, P4)",
        0.9,
    ),
    _Said(
        "augmented-before-split",
        "leakage-before-split",
        "images are multiplied before they are split",
        "severe",
        "Images are augmented or repeated before they are split: copies of one image stand on both sides ({details}).",
        "Split first; augment or resample the training part alone.",
        "augmentation of the training part only",
        "own check",
        0.8,
        ("suspicious-success",),
    ),
    _Said(
        "fitted-before-split",
        "leakage-statistics",
        "statistics are fitted on all images",
        "note",
        "A scaler or other statistics are fitted on all images, those of validation and test too: {details}.",
        "Split first; fit on the training part and apply to the others.",
        "a division by a constant such as 255",
        "scikit-learn's user guide, common pitfalls",
        0.4,
    ),
    _Said(
        "class-order",
        "class-order-differs",
        "the splits number the classes differently",
        "severe",
        "Training and evaluation do not number the classes alike: {details}.",
        "Give every source the same list of classes: {instead}.",
        "sources that share one list",
        "own check",
        0.8,
        ("test-at-chance",),
    ),
    _Said(
        "missing-backward",
        "gradients-never-computed",
        "no backward pass",
        "severe",
        "The optimizer steps without gradients: {details}. The weights stay as they began.",
        "Call loss.backward() for each batch, before the step.",
        "loops of a framework; programs that could not be read whole",
        "PyTorch's documentation of autograd",
        1.0,
        ("not-learning", "no-gradient"),
    ),
    _Said(
        "left-in-eval-mode",
        "trains-in-evaluation-mode",
        "training goes on in evaluation mode",
        "warning",
        "The net trains in evaluation mode, without dropout and with frozen statistics: {details}.",
        "Call {instead}.",
        "nets that are set back to training in each epoch",
        "PyTorch's documentation of Module.train",
        0.6,
    ),
    _Said(
        "wrong-split",
        "wrong-split-prepared",
        "test images made of training images",
        "severe",
        "The test or validation images are made of the training images: {details}. What is measured on them is memory.",
        "Prepare {instead} from its own images.",
        "a part that is cut off the training images",
        "own; a slip of copying a line",
        0.9,
    ),
    _Said(
        "fitted-on-test",
        "statistics-of-test",
        "test images prepared by their own statistics",
        "warning",
        "Held-back images are prepared by their own statistics, not by those of training: {details}.",
        "Fit on the training images alone and apply that: {instead}.",
        "a division by a constant; one statistic for all splits",
        "scikit-learn's user guide, common pitfalls",
        0.5,
    ),
    _Said(
        "one-hot-twice",
        "labels-one-hot-twice",
        "labels made one-hot twice",
        "severe",
        "The labels are made one-hot twice: {details}.",
        "Call to_categorical once.",
        "labels whose form cannot be read",
        "own",
        0.9,
    ),
    _Said(
        "changed-argument",
        "argument-means-something-else",
        "an argument means something else today",
        "warning",
        "Since Keras 2 this is another net than the one that was meant: {details}.",
        "Write {instead}.",
        "a stride that was meant; sizes that differ",
        "Keras 2.0's release notes",
        0.5,
    ),
    _Said(
        "removed-",
        "removed-in-keras",
        "today's library refuses it",
        "warning",
        "Today's library refuses what the program says: {details}.",
        "Write instead: {instead}.",
        "programs pinned to an old version",
        "Keras' release notes, 1.0 to 3.x; NumPy's and pandas'",
        0.3,
    ),
    _Said(
        "ignored-",
        "ignored-argument",
        "today's library ignores it",
        "warning",
        "Today's library takes this and does nothing with it: {details}.",
        "Write instead: {instead}.",
        "programs pinned to an old version",
        "Keras' release notes, 1.0 to 3.x",
        0.3,
    ),
)


def _check(said: _Said) -> Check:
    def check(record: Record) -> Suspicion | None:
        found = [mention for mention in record.mentions if mention.what.startswith(said.prefix)]
        if not found:
            return None
        details = _listed([mention.detail or mention.what.partition(":")[2] for mention in found])
        instead = _listed([mention.instead for mention in found])
        evidence = {"mentions": [_as_evidence(mention) for mention in found]}
        cause = said.cause.replace("{details}", details)
        cure = said.cure.replace("{instead}", instead or "what the documentation gives today")
        return Suspicion(evidence, cause, cure, line=found[0].line, weight=said.weight)

    return check


def _listed(words: list[str]) -> str:
    each = list(dict.fromkeys(word for word in words if word))
    more = f" and {len(each) - _MAX_NAMED} more" if len(each) > _MAX_NAMED else ""
    return ", ".join(each[:_MAX_NAMED]) + more


def _as_evidence(mention: Mention) -> dict[str, str | int | None]:
    return {"what": mention.what, "line": mention.line, "instead": mention.instead}


PROGRAM_RULES = tuple(
    Rule(
        said.id,
        said.title,
        said.severity,
        "program",
        _check(said),
        f"the program says so (mention {said.prefix.rstrip('-')})",
        said.traps,
        said.source,
        said.explains,
    )
    for said in _SAID
)
