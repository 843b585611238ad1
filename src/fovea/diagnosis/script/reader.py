"""read_program: a training program as text becomes records that the doctor's rules read. Nothing of it is executed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fovea.diagnosis.examine import examine
from fovea.diagnosis.record import Record
from fovea.diagnosis.script import mentions, netfacts, trainings
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.facts import Training, dataset_of, split_facts, training_facts
from fovea.diagnosis.script.interpreter import Interpreter, TooLong
from fovea.diagnosis.script.library import instantiate
from fovea.diagnosis.script.loops import trains
from fovea.diagnosis.script.source import Program, read_source
from fovea.diagnosis.script.values import Class, Data, Thing
from fovea.evaluation.findings import Finding

_NO_TRAINING = "a training: there is no fit, and no loop with backward"
_NO_FIT = "a training: there is no fit; what is compiled was judged"
_GRAVITY = {"severe": 0, "warning": 1, "note": 2}


def read_program(path: Path) -> Record:
    """The record of a program; of several trainings the one with the gravest findings.

    Raises:
        DataError: the file cannot be opened or is no program.
    """
    return examine_program(path)[0]


def read_trainings(path: Path) -> tuple[Record, ...]:
    """A record for each training of a program, in their order; one without a training if none was found."""
    program = read_source(Path(path))
    interpreter, notes = followed(program)
    found = trainings.trainings_of(interpreter)
    missing = [] if any(training.fits for training in found) else [_NO_FIT if found else _NO_TRAINING]
    unseen = (*program.unseen, *notes, *missing)
    said = mentions.mentions_of(interpreter, found, program.tree, is_whole=not program.unseen and not notes)
    empty = Record("script", Path(path).name, mentions=said, unseen=unseen, cell_starts=program.cell_starts)
    if not found:
        return (empty,)
    return tuple(_record(interpreter, training, empty) for training in found)


def examine_program(path: Path) -> tuple[Record, list[Finding]]:
    """The record of a program and the findings of all its trainings, each kind once, the gravest first.

    Of several trainings the record is the one with the gravest findings.

    Raises:
        DataError: the file cannot be opened or is no program.
    """
    records = read_trainings(path)
    examined = [examine(record) for record in records]
    found: dict[str, Finding] = {}
    for finding in (finding for findings in examined for finding in findings):
        if finding.id not in found or _GRAVITY[finding.severity] < _GRAVITY[found[finding.id].severity]:
            found[finding.id] = finding
    chosen = records[min(range(len(records)), key=lambda place: _gravity(examined[place]))]
    return chosen, sorted(found.values(), key=lambda finding: _GRAVITY[finding.severity])


def followed(program: Program) -> tuple[Interpreter, list[str]]:
    """A program followed to its end, and what could not be followed. Functions that nothing calls are followed last,
    if no training was seen before."""
    interpreter, notes = Interpreter(), []
    try:
        interpreter.run(program.tree.body)
        if not _has_training(interpreter):
            _follow_the_rest(interpreter)
    except TooLong:
        notes.append("the end of the program, which is too intricate to be followed")
    except RecursionError:
        notes.append("the end of the program, which nests too deeply")
    if interpreter.not_followed:
        notes.append(f"what line {', '.join(map(str, sorted(set(interpreter.not_followed))[:8]))} does")
    kinds = {event.kind for event in interpreter.events}
    if "own_loop" in kinds and "forward" not in kinds:
        notes.append("a training loop of the program's own in TensorFlow")
    return interpreter, notes


def _has_training(interpreter: Interpreter) -> bool:
    return any(event.kind in trainings.TRAINING_EVENTS for event in interpreter.events)


def _follow_the_rest(interpreter: Interpreter) -> None:
    """Functions that nothing calls, then the methods of classes in which something is trained."""
    for function in list(interpreter.functions):
        if not function.is_called:
            interpreter.follow(function, [], {})
    for made in list(interpreter.classes):
        if _has_training(interpreter):
            return
        if any(base.endswith("LightningModule") for base in made.library_bases()) and made.method("training_step"):
            _as_if_fitted(interpreter, made)
            continue
        training = [name for name, method in made.methods.items() if name != "__init__" and trains([method.node])]
        if training:
            thing = _object_of(interpreter, made)
            for name in training if thing.kind == "object" else ():
                interpreter.follow(replace(made.methods[name], owner=thing), [], {})


def _object_of(interpreter: Interpreter, made: Class) -> Thing:
    """An object of a class: one that the program made, else one of unknown arguments."""
    known = [thing for thing in interpreter.things if thing.values.get("class") is made]
    was_made = made.is_made
    thing = known[0] if known else instantiate(interpreter, made, Call(made.node.lineno, [], {}))
    made.is_made = was_made
    return thing


def _as_if_fitted(interpreter: Interpreter, made: Class) -> None:
    """A Lightning net that another file, or Lightning's command line, trains."""
    line = made.node.lineno
    trainer = interpreter.make("trainer", "lightning.Trainer", line, call=Call(line, [], {}))
    net = _object_of(interpreter, made)
    interpreter.note("trainer_fit", line, trainer=trainer, args=[net], keywords={})


def _record(interpreter: Interpreter, training: Training, empty: Record) -> Record:
    tensor = trainings.tensor_of(interpreter, training)
    factor, offset, _ = netfacts.rescaling_of(tensor.layers)
    net = netfacts.net_facts(interpreter, training, tensor)
    splits = {}
    for name in ("train", "val", "test"):
        facts = split_facts(training, name, (factor, offset)) if name in training.sources else None
        if facts is not None:
            splits[name] = facts
    inference = None
    if training.inference is not None:
        training.sources["inference"] = training.inference
        inference = split_facts(training, "inference", (factor, offset))
    if any(layer.values.get("layer_kind") == "application" for layer in tensor.layers):
        splits = {
            name: replace(facts, minimum=None, maximum=None, mean=None, std=None) for name, facts in splits.items()
        }
    settings = training_facts(interpreter, training)
    parts: dict[str, object] = {"the net": net.layers, "its loss": settings.loss, "its optimizer": settings.optimizer}
    parts["the images"] = splits or training.is_one_batch
    hidden = [name for name, known in parts.items() if not known]
    if hidden and training.fits:
        unseen = f"{', '.join(hidden)}: not in this file, or not to be followed"
        empty = replace(empty, unseen=(*empty.unseen, unseen))
    target = training.labels.get("train")
    if isinstance(target, Data) and target.part == "images":
        empty = replace(empty, unseen=(*empty.unseen, "labels: the net learns images, it is no classifier"))
    return replace(
        empty,
        splits=splits,
        inference=inference,
        net=net,
        training=settings,
        lines=dict(training.lines),
        dataset=dataset_of(training),
    )


def _gravity(findings: list[Finding]) -> tuple[int, int]:
    graves = [-sum(finding.severity == severity for finding in findings) for severity in ("severe", "warning")]
    return graves[0], graves[1]
