"""Loops: what they go through, and how many rounds tell all."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script.values import UNKNOWN, Data, Function, Thing

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

LONGEST_LOOP = 40
_EPOCHS = ("epoch", "epochs", "ep", "e", "step", "iteration", "fold")
_TRAINING_CALLS = ("fit", "fit_generator", "train_on_batch", "backward", "zero_grad", "apply_gradients")


def is_range(node: ast.expr) -> bool:
    """`range(...)`, also within enumerate or a progress bar."""
    while isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in ("range", "xrange", "trange"):
            return True
        if name not in ("enumerate", "tqdm", "list", "iter") or not node.args:
            return False
        node = node.args[0]
    return False


def elements(over: Any) -> list[Any]:
    """What a loop over a thing, over data or over something unknown gets in its one round."""
    if isinstance(over, Thing):
        if over.kind == "enumerated":
            return [(UNKNOWN, elements(over.values["over"])[0])]
        if over.kind == "feed":
            return [Thing("batch", over.path, over.line, over.values)]
        if over.kind == "net":
            return list(over.items) or [UNKNOWN]
        return [UNKNOWN] if over.kind != "parameters" else [over]
    return [over] if isinstance(over, Data) and over.part != "table" else [UNKNOWN]


def rounds(interpreter: Interpreter, over: Any, target: ast.expr, body: Sequence[ast.stmt]) -> list[Any]:
    """What the target of a loop is, round by round; one round where that is not known or where a training is inside."""
    if isinstance(over, (Thing, Data)) or over is UNKNOWN:
        return elements(over)
    if isinstance(over, dict):
        over = list(over)
    if isinstance(over, list | tuple | range):
        items = list(over[: 1 if len(over) > LONGEST_LOOP else LONGEST_LOOP])
        is_training = (isinstance(target, ast.Name) and target.id in _EPOCHS) or _trains(interpreter, body)
        return items[:1] if len(items) > 1 and is_training else items
    return [UNKNOWN]


def trains(body: Sequence[ast.AST]) -> bool:
    """Whether statements call what trains."""
    nodes = (node for statement in body for node in ast.walk(statement))
    return any(isinstance(node, ast.Attribute) and node.attr in _TRAINING_CALLS for node in nodes)


def _trains(interpreter: Interpreter, body: Sequence[ast.stmt], depth: int = 0) -> bool:
    """Whether a loop's body trains, itself or in a function that it calls: then one round tells all."""
    if trains(body):
        return True
    for node in (node for statement in body for node in ast.walk(statement)):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        called = interpreter.scope.find(name) if name and depth < 2 else None
        inner = called.node.body if isinstance(called, Function) and not isinstance(called.node, ast.Lambda) else []
        if _trains(interpreter, inner, depth + 1):
            return True
    return False
