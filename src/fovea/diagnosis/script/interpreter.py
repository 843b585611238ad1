"""Interpreter: a program is followed statement by statement over abstract values; nothing of it is executed.

Loops run once (over known lists, once an element), both branches of a condition that is not known are followed, calls
of the program's own functions are followed into. What libraries do stands in `library`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from fovea.diagnosis.record import Mention
from fovea.diagnosis.script import expressions, library, loops
from fovea.diagnosis.script.names import canonical
from fovea.diagnosis.script.nets import escape
from fovea.diagnosis.script.values import (
    NEVER,
    UNKNOWN,
    Class,
    Data,
    Event,
    Function,
    Loop,
    Ref,
    Thing,
    guessed_data,
    is_plain,
    split_of_name,
)

MOST_NODES = 150_000
DEEPEST_CALL = 12


class TooLong(Exception):  # noqa: N818 - it ends the reading, it is no error
    """The program is so intricate that following it to its end would take too long."""


@dataclass
class Scope:
    """Names of a function or of the program; parent: where other names are looked up."""

    names: dict[str, Any] = field(default_factory=dict)
    parent: Scope | None = None
    outer_names: set[str] = field(default_factory=set)  # declared global or nonlocal
    returns: list[Any] = field(default_factory=list)
    function: Function | None = None

    def find(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return UNKNOWN


@dataclass
class Copy:
    """Data that was computed and given a name, and whether the name was ever read."""

    name: str
    data: Data
    line: int
    is_read: bool = False


class Interpreter:
    """Follows one program; `events`, `things` and `copies` are what it has seen."""

    def __init__(self) -> None:
        self.world = Scope({"__name__": "__main__"})
        self.scope = self.world
        self.events: list[Event] = []
        self.things: list[Thing] = []
        self.mentions: list[Mention] = []
        self.copies: dict[tuple[int, str], Copy] = {}
        self.unread_copies: list[Copy] = []
        self.functions: list[Function] = []
        self.classes: list[Class] = []
        self.imports: list[tuple[str, int]] = []  # full dotted names as they stand in the program
        self.star_imports: list[str] = []
        self.loops: tuple[Loop, ...] = ()
        self.branches: tuple[tuple[int, bool], ...] = ()  # open conditions that are not known: line, which side
        self.hint: tuple[str, ...] = ()  # names that the value being computed is given
        self.running: list[ast.AST] = []  # functions that are being followed
        self.nodes = 0
        self.not_followed: list[int] = []  # lines of statements that broke the reader
        self.origin = ""  # what a name's value came from, for data that cannot be followed
        self.contexts: tuple[str, ...] = ()  # what the open `with` statements are, as "no_grad"

    # what library code calls

    def note(self, kind: str, line: int, **values: Any) -> None:
        """Add an event."""
        self.events.append(
            Event(kind, line, self.loops, {**values, "contexts": self.contexts, "branches": self.branches})
        )

    def make(self, kind: str, path: str, line: int, **values: Any) -> Thing:
        """Add a thing."""
        thing = Thing(kind, path, line, dict(values), loops=self.loops)
        self.things.append(thing)
        return thing

    def evaluate(self, node: ast.expr | None) -> Any:
        """What an expression stands for."""
        if node is None:
            return UNKNOWN
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise TooLong
        handler = expressions.EXPRESSIONS.get(type(node))
        return handler(self, node) if handler else expressions.other(self, node)

    # statements

    def run(self, body: Sequence[ast.stmt]) -> bool:
        """Follow statements; True: what follows them is not reached."""
        return any(self._statement(statement) for statement in body)

    def _statement(self, node: ast.stmt) -> bool:
        self.nodes += 1
        handler = _STATEMENTS.get(type(node))
        scope, branches = self.scope, self.branches
        try:
            return handler(self, node) if handler else False
        except (TooLong, RecursionError):
            raise
        except Exception:  # a program may do anything; what cannot be followed is said, and the rest is judged
            self.scope, self.branches = scope, branches
            self.not_followed.append(node.lineno)
            return False

    def _expression_statement(self, node: ast.Expr) -> bool:
        self.hint = ()
        value = self.evaluate(node.value)
        return value is NEVER

    def _assign(self, node: ast.Assign) -> bool:
        self._bind(node.targets, node.value, node.lineno)
        return False

    def _annotated(self, node: ast.AnnAssign) -> bool:
        if node.value is not None:
            self._bind([node.target], node.value, node.lineno)
        return False

    def _bind(self, targets: Sequence[ast.expr], value_node: ast.expr, line: int) -> None:
        self.hint = names_of(targets[0])
        value = self.evaluate(value_node)
        self.origin = ast.unparse(value_node.func) if isinstance(value_node, ast.Call) else f"line {line}"
        for target in targets:
            self.store(target, value, line)
        self.hint = ()

    def _augmented(self, node: ast.AugAssign) -> bool:
        load = ast.copy_location(_as_load(node.target), node)
        self.hint = names_of(node.target)
        value = expressions.operate(self, self.evaluate(load), node.op, self.evaluate(node.value), node.lineno)
        self.store(node.target, value, node.lineno)
        self.hint = ()
        return False

    def store(self, target: ast.expr, value: Any, line: int) -> None:
        """Give a value its name, its attribute or its place."""
        if isinstance(target, ast.Name):
            self.store_name(target.id, value, line)
        elif isinstance(target, ast.Starred):
            self.store(target.value, value, line)
        elif isinstance(target, ast.Tuple | ast.List):
            parts = library.unpack(self, value, target, line)
            for item, part in zip(target.elts, parts, strict=True):
                self.store(item, part, line)
        elif isinstance(target, ast.Attribute):
            library.store_attribute(self, self.evaluate(target.value), target.attr, value, line)
        elif isinstance(target, ast.Subscript):
            changed = library.store_item(self, self.evaluate(target.value), self.evaluate(target.slice), value)
            if changed is not None and isinstance(target.value, ast.Name):
                self._set(target.value.id, changed)

    def store_name(self, name: str, value: Any, line: int) -> None:
        """Give a value a name; what a name tells of unknown data is used."""
        if value is UNKNOWN:
            guessed = guessed_data(name, self.origin, line)
            value = guessed if guessed is not None else value
        if isinstance(value, Thing) and not value.label:
            value.label = name
        if isinstance(value, Data):
            value = self._named_data(name, value, line)
        self._set(name, value)

    def _named_data(self, name: str, data: Data, line: int) -> Data:
        split = split_of_name(name)
        if data.split is None and split is not None:
            data = replace(data, split=split)
        elif split in ("test", "val") and data.split == "train":
            self.note("renamed", line, data=data, name=name, split=split)
        key = (id(self.scope), name)
        old = self.copies.get(key)
        if old is not None and not old.is_read:
            self.unread_copies.append(old)
        self.copies[key] = Copy(name, data, line)
        return data

    def _set(self, name: str, value: Any) -> None:
        (self.world if name in self.scope.outer_names else self.scope).names[name] = value

    def lookup(self, name: str) -> Any:
        """The value of a name, which counts as read."""
        scope: Scope | None = self.scope
        while scope is not None:
            if name in scope.names:
                copy = self.copies.get((id(scope), name))
                if copy is not None:
                    copy.is_read = True
                return scope.names[name]
            scope = scope.parent
        return library.undefined_name(self, name)

    def _if(self, node: ast.If) -> bool:
        test = self.evaluate(node.test)
        if is_plain(test):
            return self.run(node.body if test else node.orelse)
        before = dict(self.scope.names)
        branches = self.branches
        self.branches = (*branches, (node.lineno, True))
        ends_body = self.run(node.body)
        after_body = self.scope.names
        self.scope.names = dict(before)
        self.branches = (*branches, (node.lineno, False))
        ends_else = self.run(node.orelse)
        self.branches = branches
        if ends_else and not ends_body:
            self.scope.names = after_body
        elif not ends_body:
            self.scope.names = expressions.merged(before, after_body, self.scope.names)
        return ends_body and ends_else

    def _for(self, node: ast.For | ast.AsyncFor) -> bool:
        over = self.evaluate(node.iter)
        loop = Loop(node.lineno, over, loops.is_range(node.iter))
        with self.inside(loop):
            for item in loops.rounds(self, over, node.target, node.body):
                self.store(node.target, item, node.lineno)
                self.run(node.body)
        return self.run(node.orelse)

    def _while(self, node: ast.While) -> bool:
        if self.evaluate(node.test) in (0, False) and not isinstance(node.test, ast.Name):
            return False
        with self.inside(Loop(node.lineno, None, True)):
            self.run(node.body)
        return False

    @contextmanager
    def inside(self, loop: Loop) -> Iterator[None]:
        """A loop is open."""
        loops, self.loops = self.loops, (*self.loops, loop)
        try:
            yield
        finally:
            self.loops = loops

    def _with(self, node: ast.With | ast.AsyncWith) -> bool:
        contexts = self.contexts
        for item in node.items:
            value = self.evaluate(item.context_expr)
            if isinstance(value, Thing) and value.kind == "context":
                self.contexts = (*self.contexts, value.name)
            if item.optional_vars is not None:
                self.store(item.optional_vars, value, node.lineno)
        ends = self.run(node.body)
        self.contexts = contexts
        return ends

    def _try(self, node: ast.Try) -> bool:
        return self.run(node.body) or self.run(node.orelse) or self.run(node.finalbody)

    def _return(self, node: ast.Return) -> bool:
        value = self.evaluate(node.value) if node.value is not None else None
        escape(value, deep=False)
        self.scope.returns.append(value)
        return True

    def _ends(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Raise) and node.exc is not None:
            self.evaluate(node.exc)
        return True

    def _import(self, node: ast.Import) -> bool:
        for name in node.names:
            self.imports.append((name.name, node.lineno))
            bound = name.asname or name.name.split(".")[0]
            self._set(bound, Ref(canonical(name.name if name.asname else bound)))
        return False

    def _import_from(self, node: ast.ImportFrom) -> bool:
        module = node.module or ""
        for name in node.names:
            self.imports.append((f"{module}.{name.name}", node.lineno))
            if name.name == "*":
                self.star_imports.append(canonical(module))
            elif not node.level:
                self._set(name.asname or name.name, Ref(canonical(f"{module}.{name.name}")))
        return False

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        function = Function(node, self.scope)
        self.functions.append(function)
        self._set(node.name, function)
        return False

    def _class(self, node: ast.ClassDef) -> bool:
        made = Class(node, self.scope, tuple(self.evaluate(base) for base in node.bases))
        made.methods = {
            item.name: Function(item, self.scope) for item in node.body if isinstance(item, ast.FunctionDef)
        }
        self.classes.append(made)
        self._set(node.name, made)
        return False

    def _global(self, node: ast.Global | ast.Nonlocal) -> bool:
        self.scope.outer_names.update(node.names)
        return False

    # functions of the program

    def follow(self, function: Function, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
        """What a function of the program gives back for these arguments."""
        function.is_called = True
        if len(self.running) >= DEEPEST_CALL or function.node in self.running:
            return UNKNOWN
        names = expressions.bound_arguments(self, function, args, keywords)
        saved = (self.scope, self.hint, self.contexts)
        self.scope = Scope(names, function.scope, function=function)
        self.running.append(function.node)
        try:
            if isinstance(function.node, ast.Lambda):
                return self.evaluate(function.node.body)
            self.run(function.node.body)
            return next((value for value in self.scope.returns if value is not UNKNOWN and value is not None), None)
        finally:
            self._close(self.scope)
            self.scope, self.hint, self.contexts = saved
            self.running.pop()

    def _close(self, scope: Scope) -> None:
        """Copies of a function that ends: those never read are kept apart."""
        for key in [key for key in self.copies if key[0] == id(scope)]:
            copy = self.copies.pop(key)
            if not copy.is_read:
                self.unread_copies.append(copy)

    def running_forward(self) -> bool:
        """Whether a net's own forward pass is being followed."""
        return any(getattr(node, "name", "") in ("forward", "call") for node in self.running)


def names_of(target: ast.expr) -> tuple[str, ...]:
    """The names in a target, in order: `(a, b), c.d` -> a, b, d; a place without a name counts as ""."""
    if isinstance(target, ast.Name):
        return (target.id,)
    if isinstance(target, ast.Tuple | ast.List):
        return tuple(name for item in target.elts for name in names_of(item))
    if isinstance(target, ast.Attribute):
        return (target.attr,)
    return names_of(target.value) if isinstance(target, ast.Starred) else ("",)


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Attribute):
        return ast.Attribute(target.value, target.attr, ast.Load())
    assert isinstance(target, ast.Subscript)
    return ast.Subscript(target.value, target.slice, ast.Load())


_STATEMENTS: dict[type[ast.stmt], Callable[[Interpreter, Any], bool]] = {
    ast.Expr: Interpreter._expression_statement,
    ast.Assign: Interpreter._assign,
    ast.AnnAssign: Interpreter._annotated,
    ast.AugAssign: Interpreter._augmented,
    ast.If: Interpreter._if,
    ast.For: Interpreter._for,
    ast.AsyncFor: Interpreter._for,
    ast.While: Interpreter._while,
    ast.With: Interpreter._with,
    ast.AsyncWith: Interpreter._with,
    ast.Try: Interpreter._try,
    ast.Return: Interpreter._return,
    ast.Raise: Interpreter._ends,
    ast.Break: Interpreter._ends,
    ast.Continue: Interpreter._ends,
    ast.Import: Interpreter._import,
    ast.ImportFrom: Interpreter._import_from,
    ast.FunctionDef: Interpreter._function,
    ast.AsyncFunctionDef: Interpreter._function,
    ast.ClassDef: Interpreter._class,
    ast.Global: Interpreter._global,
    ast.Nonlocal: Interpreter._global,
}
