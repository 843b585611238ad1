"""What expressions stand for: names, numbers, arithmetic on data, displays, comprehensions and calls."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import library, loops
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.nets import escape, joined
from fovea.diagnosis.script.values import (
    UNKNOWN,
    Class,
    Data,
    Function,
    Method,
    Ref,
    Statistic,
    Tensor,
    Thing,
    guessed_data,
    is_plain,
)

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

_LARGEST_NUMBER = 1e18
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


def other(interpreter: Interpreter, node: ast.expr) -> Any:
    """Any other expression: what is in it is followed, its value is not known."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            interpreter.evaluate(child)
    return UNKNOWN


def _constant(interpreter: Interpreter, node: ast.Constant) -> Any:
    return node.value


def _name(interpreter: Interpreter, node: ast.Name) -> Any:
    value = interpreter.lookup(node.id)
    escape(value, deep=False)
    return value


def _attribute(interpreter: Interpreter, node: ast.Attribute) -> Any:
    return library.attribute(interpreter, interpreter.evaluate(node.value), node.attr, node.lineno)


def _display(interpreter: Interpreter, node: ast.Tuple | ast.List | ast.Set) -> Any:
    hint, items = interpreter.hint, []
    for place, item in enumerate(node.elts):
        if len(node.elts) == len(hint):
            interpreter.hint = (hint[place],)
        value = interpreter.evaluate(item)
        if isinstance(item, ast.Starred):
            items += list(value) if isinstance(value, list | tuple) else [UNKNOWN]
        else:
            items.append(value)
    interpreter.hint = hint
    for value in items:
        escape(value, deep=False)
    return tuple(items) if isinstance(node, ast.Tuple) else items


def _starred(interpreter: Interpreter, node: ast.Starred) -> Any:
    return interpreter.evaluate(node.value)


def _dict(interpreter: Interpreter, node: ast.Dict) -> Any:
    made: dict[Any, Any] = {}
    for key_node, value_node in zip(node.keys, node.values, strict=True):
        value = interpreter.evaluate(value_node)
        key = interpreter.evaluate(key_node) if key_node is not None else None
        if key_node is None and isinstance(value, dict):
            made |= value
        elif is_plain(key):
            made[key] = value
    return made


def _binary(interpreter: Interpreter, node: ast.BinOp) -> Any:
    left, right = interpreter.evaluate(node.left), interpreter.evaluate(node.right)
    return operate(interpreter, left, node.op, right, node.lineno)


def operate(interpreter: Interpreter, left: Any, op: ast.operator, right: Any, line: int) -> Any:
    """`left op right` of plain values, of data and of what flows through a net."""
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return joined([left, right])
    if isinstance(left, Data):
        return _data_operation(interpreter, left, op, right, line)
    if isinstance(right, Data):
        return right.arithmetic(op, left, line, False) if _is_number(left) else right.opaque("arithmetic")
    if isinstance(left, list) and isinstance(right, list) and isinstance(op, ast.Add):
        return left + right
    if isinstance(left, list) and isinstance(right, int) and isinstance(op, ast.Mult) and len(left) * right < 200:
        return left * right
    if not (is_plain(left) or isinstance(left, tuple)) or not (is_plain(right) or isinstance(right, tuple)):
        return UNKNOWN
    return _computed(op, left, right)


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    is_large = (_is_number(left) and abs(left) > _LARGEST_NUMBER) or (_is_number(right) and abs(right) > 1e6)
    if type(op) not in _OPERATORS or (is_large and isinstance(op, ast.Pow | ast.Mult | ast.Mod)):
        return UNKNOWN
    if isinstance(op, ast.Mult) and not (_is_number(left) and _is_number(right)):
        return UNKNOWN  # a text or a tuple, repeated
    try:
        return _OPERATORS[type(op)](left, right)
    except (TypeError, ValueError, ArithmeticError, KeyError, MemoryError):
        return UNKNOWN


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _data_operation(interpreter: Interpreter, data: Data, op: ast.operator, right: Any, line: int) -> Data:
    if _is_number(right):
        return data.arithmetic(op, right, line)
    if isinstance(right, Statistic) and isinstance(op, ast.Sub | ast.Div):
        word = f"{'minus' if isinstance(op, ast.Sub) else 'divided by'} the {right.kind}"
        if data.split in ("val", "test") and right.of.split == data.split:
            interpreter.note("own_statistics", line, data=data, statistic=right.kind)
        is_scaled = data.is_standardised or right.kind in ("std", "max", "maximum")
        return replace(data.with_step(word), is_standardised=is_scaled, scaled_line=line)
    if isinstance(right, tuple | list):
        return data.opaque("arithmetic by channel")
    return data.opaque("arithmetic")


def _unary(interpreter: Interpreter, node: ast.UnaryOp) -> Any:
    value = interpreter.evaluate(node.operand)
    if isinstance(node.op, ast.Not):
        return not value if is_plain(value) else UNKNOWN
    if isinstance(node.op, ast.USub) and _is_number(value):
        return -value
    return value if isinstance(value, Data) or isinstance(node.op, ast.UAdd) else UNKNOWN


def _compare(interpreter: Interpreter, node: ast.Compare) -> Any:
    left, right = interpreter.evaluate(node.left), interpreter.evaluate(node.comparators[0])
    for more in node.comparators[1:]:
        interpreter.evaluate(more)
    if isinstance(left, Data) and left.part == "labels" and is_plain(right) and right is not None:
        return replace(left.opaque("compared"), num_classes=2, label_kind="integer")
    if len(node.ops) != 1 or left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    op = node.ops[0]
    if isinstance(op, ast.Is | ast.IsNot):
        if right is not None:
            return UNKNOWN
        return (left is None) == isinstance(op, ast.Is)
    plain = is_plain(left) and (is_plain(right) or (isinstance(right, list | tuple) and all(map(is_plain, right))))
    try:
        return bool(_COMPARISONS[type(op)](left, right)) if plain else UNKNOWN
    except TypeError:
        return UNKNOWN


def _boolean(interpreter: Interpreter, node: ast.BoolOp) -> Any:
    values = [interpreter.evaluate(value) for value in node.values]
    if not all(is_plain(value) for value in values):
        decisive = isinstance(node.op, ast.Or)
        return decisive if any(is_plain(value) and bool(value) is decisive for value in values) else UNKNOWN
    if isinstance(node.op, ast.And):
        return next((value for value in values if not value), values[-1])
    return next((value for value in values if value), values[-1])


def _conditional(interpreter: Interpreter, node: ast.IfExp) -> Any:
    test = interpreter.evaluate(node.test)
    if is_plain(test):
        return interpreter.evaluate(node.body if test else node.orelse)
    first, second = interpreter.evaluate(node.body), interpreter.evaluate(node.orelse)
    return first if _same(first, second) else second if first is UNKNOWN or first is None else _either(first, second)


def _either(first: Any, second: Any) -> Any:
    if second is UNKNOWN or second is None:
        return first
    return UNKNOWN if is_plain(first) and is_plain(second) else second


def _subscript(interpreter: Interpreter, node: ast.Subscript) -> Any:
    value = interpreter.evaluate(node.value)
    return library.item(interpreter, value, interpreter.evaluate(node.slice), node)


def _slice(interpreter: Interpreter, node: ast.Slice) -> Any:
    ends = [interpreter.evaluate(end) if end is not None else None for end in (node.lower, node.upper, node.step)]
    return slice(*ends)


def _lambda(interpreter: Interpreter, node: ast.Lambda) -> Any:
    return Function(node, interpreter.scope)


def _comprehension(interpreter: Interpreter, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> Any:
    return [interpreter.evaluate(node.elt) for _ in _generated(interpreter, node.generators)]


def _dict_comprehension(interpreter: Interpreter, node: ast.DictComp) -> Any:
    made = {}
    for _ in _generated(interpreter, node.generators):
        key, value = interpreter.evaluate(node.key), interpreter.evaluate(node.value)
        if is_plain(key):
            made[key] = value
    return made


def _generated(interpreter: Interpreter, generators: Sequence[ast.comprehension]) -> Iterable[None]:
    """A round for each element of the first `for`; inner ones are gone through once."""
    over = interpreter.evaluate(generators[0].iter)
    for item in loops.rounds(interpreter, over, generators[0].target, []):
        interpreter.store(generators[0].target, item, generators[0].iter.lineno)
        for inner in generators[1:]:
            values = loops.rounds(interpreter, interpreter.evaluate(inner.iter), inner.target, [])
            first = values[0] if values else UNKNOWN
            interpreter.store(inner.target, first, inner.iter.lineno)
        yield


def _joined_text(interpreter: Interpreter, node: ast.JoinedStr) -> Any:
    parts = []
    for part in node.values:
        value = interpreter.evaluate(part.value if isinstance(part, ast.FormattedValue) else part)
        parts.append(str(value) if is_plain(value) else "?")
    return "".join(parts)


def _call(interpreter: Interpreter, node: ast.Call) -> Any:
    hint = interpreter.hint
    function = _callee(interpreter, node.func)
    args: list[Any] = []
    for item in node.args:
        value = interpreter.evaluate(item)
        if isinstance(item, ast.Starred):
            args += list(value) if isinstance(value, list | tuple) else [UNKNOWN]
        else:
            args.append(value)
    keywords: dict[str, Any] = {}
    for keyword in node.keywords:
        value = interpreter.evaluate(keyword.value)
        if keyword.arg is not None:
            keywords[keyword.arg] = value
        elif isinstance(value, dict):
            keywords |= {str(key): part for key, part in value.items()}
    interpreter.hint = hint
    return call_value(interpreter, function, Call(node.lineno, args, keywords, hint, node))


def _callee(interpreter: Interpreter, node: ast.expr) -> Any:
    """What is called; a method of something unknown keeps its name."""
    if not isinstance(node, ast.Attribute):
        return interpreter.evaluate(node)
    owner = interpreter.evaluate(node.value)
    return (
        Method(UNKNOWN, node.attr)
        if owner is UNKNOWN
        else library.attribute(interpreter, owner, node.attr, node.lineno)
    )


def call_value(interpreter: Interpreter, function: Any, call: Call) -> Any:
    """Call whatever this is."""
    if isinstance(function, Function):
        return interpreter.follow(function, call.args, call.keywords)
    if isinstance(function, Class):
        return library.instantiate(interpreter, function, call)
    if isinstance(function, Ref):
        return library.call_reference(interpreter, function, call)
    if isinstance(function, Method):
        return library.call_method(interpreter, function, call)
    if isinstance(function, Thing):
        return library.call_thing(interpreter, function, call)
    return library.call_unknown(interpreter, "", call)


def bound_arguments(
    interpreter: Interpreter, function: Function, args: Sequence[Any], keywords: dict[str, Any]
) -> dict[str, Any]:
    """The parameters of a function and what they are for this call; unknown ones are guessed by their names."""
    spec = function.node.args
    names = [parameter.arg for parameter in (*spec.posonlyargs, *spec.args)]
    given = [function.owner, *args] if function.owner is not None else list(args)
    bound: dict[str, Any] = dict(zip(names, given, strict=False))
    if spec.vararg is not None:
        bound[spec.vararg.arg] = tuple(given[len(names) :])
    scope, interpreter.scope = interpreter.scope, function.scope
    defaults = dict(zip(names[len(names) - len(spec.defaults) :], spec.defaults, strict=True))
    defaults |= {item.arg: value for item, value in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if value}
    names += [parameter.arg for parameter in spec.kwonlyargs]
    for name in names:
        if name in keywords:
            bound[name] = keywords[name]
        elif name not in bound:
            bound[name] = interpreter.evaluate(defaults[name]) if name in defaults else UNKNOWN
        if bound[name] is UNKNOWN:
            guessed = guessed_data(name, f"line {function.node.lineno}", function.node.lineno)
            bound[name] = guessed if guessed is not None else UNKNOWN
    interpreter.scope = scope
    if spec.kwarg is not None:
        bound[spec.kwarg.arg] = {name: value for name, value in keywords.items() if name not in names}
    return bound


def merged(before: dict[str, Any], body: dict[str, Any], orelse: dict[str, Any]) -> dict[str, Any]:
    """The names after a condition that is not known."""
    after = {}
    for name in {**orelse, **body}:
        if name not in body or name not in orelse:
            after[name] = body.get(name, orelse.get(name))
            continue
        first, second = body[name], orelse[name]
        if _same(first, second):
            after[name] = second
        elif isinstance(first, Data) and isinstance(second, Data):
            after[name] = second.opaque("under a condition")
        elif is_plain(first) and is_plain(second):
            after[name] = UNKNOWN
        else:
            after[name] = first if _same(second, before.get(name, UNKNOWN)) or second is UNKNOWN else second
    return after


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Data) and isinstance(second, Data):
        return first.preprocessing == second.preprocessing and first.base == second.base and first.split == second.split
    return first is second or (is_plain(first) and is_plain(second) and first == second)


EXPRESSIONS: dict[type[ast.expr], Callable[[Any, Any], Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Tuple: _display,
    ast.List: _display,
    ast.Set: _display,
    ast.Starred: _starred,
    ast.Dict: _dict,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.IfExp: _conditional,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.Lambda: _lambda,
    ast.ListComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _dict_comprehension,
    ast.JoinedStr: _joined_text,
    ast.Call: _call,
}
