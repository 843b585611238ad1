"""Rows of 16 numbers, and what kernels do with them at once: instructions that numba compiles. Places are addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing import signature

from fovea.training.compiled.compiler import instruction

_LONG = ir.IntType(64)
HALVES, WORDS = ir.VectorType(ir.IntType(16), 16), ir.VectorType(ir.IntType(32), 16)
FLOATS = ir.VectorType(ir.FloatType(), 16)
_SIXTEEN = ir.Constant(WORDS, [16] * 16)


def load(builder: Any, address: Any, kind: Any) -> Any:
    """The vector of that kind at an address."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=2)


def store(builder: Any, values: Any, address: Any) -> None:
    """Put a vector to an address."""
    builder.store(values, builder.inttoptr(address, values.type.as_pointer()), align=2)


def _plus(builder: Any, address: Any, number: int) -> Any:
    return builder.add(address, ir.Constant(_LONG, number))


def as_floats(builder: Any, halves: Any) -> Any:
    """16 bf16 -> 16 float32."""
    return builder.bitcast(builder.shl(builder.zext(halves, WORDS), _SIXTEEN), FLOATS)


def rounded(builder: Any, floats: Any) -> Any:
    """16 float32 -> 16 bf16, to the nearest even; what is not a number stays so."""
    bits = builder.bitcast(floats, WORDS)
    odd = builder.and_(builder.lshr(bits, _SIXTEEN), ir.Constant(WORDS, [1] * 16))
    half = builder.add(odd, ir.Constant(WORDS, [0x7FFF] * 16))
    rounded = builder.lshr(builder.add(bits, half), _SIXTEEN)
    not_a_number = builder.fcmp_unordered("uno", floats, floats)
    rounded = builder.select(not_a_number, ir.Constant(WORDS, [0x7FC0] * 16), rounded)
    return builder.trunc(rounded, HALVES)


def _paired(builder: Any, one: Any, other: Any) -> Any:
    """16 words, each of a number of the one and of the other."""
    return builder.or_(builder.zext(one, WORDS), builder.shl(builder.zext(other, WORDS), _SIXTEEN))


def _copy(kind: Any) -> Callable[..., Any]:
    """An instruction: one vector of that kind from an address to another."""

    @instruction
    def copy(_: Any, row: Any, out: Any) -> Any:
        def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
            store(builder, load(builder, values[0], kind), values[1])
            return context.get_dummy_value()

        return signature(types.void, types.int64, types.int64), code

    return copy


copy_row, copy_half_row = _copy(WORDS), _copy(HALVES)  # 64 and 32 bytes


@instruction
def pair_rows(_: Any, one: Any, other: Any, out: Any) -> Any:
    """16 bf16 at `one` and at `other` -> 16 pairs at `out`."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        halves = [load(builder, address, HALVES) for address in values[:2]]
        store(builder, _paired(builder, *halves), values[2])
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, types.int64), code


@instruction
def transpose_pairs(_: Any, places: Any, distance: Any, out: Any, sums: Any) -> Any:
    """16 rows of 16 bf16 of one image and of another -> a tile whose row c holds the pairs of column c.

    `places` is where the addresses of the 16 rows of the one stand, then of the other; `distance` bytes are added to
    each. The sums over all rows are added to 16 float32 at `sums`.
    """

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        places, distance, out, sums = values
        rows, total = [], load(builder, sums, FLOATS)
        for number in range(16):
            halves = []
            for image in range(2):
                place = _plus(builder, places, 8 * (16 * image + number))
                address = builder.load(builder.inttoptr(place, _LONG.as_pointer()))
                halves.append(load(builder, builder.add(address, distance), HALVES))
            pair = builder.fadd(*[as_floats(builder, each) for each in halves])
            rows.append(_paired(builder, *halves))
            total = builder.fadd(total, pair)
        store(builder, total, sums)
        for row, words in enumerate(_transposed(builder, rows)):
            store(builder, words, _plus(builder, out, row * 64))
        return context.get_dummy_value()

    return signature(types.void, *[types.int64] * 4), code


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """16 rows of 16 words, transposed: the off-diagonal blocks of 1, 2, 4 and 8 are exchanged."""
    for size in (1, 2, 4, 8):
        upper = ir.Constant(WORDS, [16 + c - size if c & size else c for c in range(16)])
        lower = ir.Constant(WORDS, [16 + c if c & size else c + size for c in range(16)])
        before, rows = rows, list(rows)
        for row in (row for row in range(16) if not row & size):
            rows[row] = builder.shuffle_vector(before[row], before[row + size], upper)
            rows[row + size] = builder.shuffle_vector(before[row], before[row + size], lower)
    return rows


@instruction
def pair_rounded(_: Any, one: Any, other: Any, out: Any) -> Any:
    """16 float32 at `one` and at `other` -> 16 pairs of bf16 at `out`."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        halves = [rounded(builder, load(builder, address, FLOATS)) for address in values[:2]]
        store(builder, _paired(builder, *halves), values[2])
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, types.int64), code


@instruction
def weight_tile(_: Any, first: Any, second: Any, step: Any, second_step: Any, out: Any) -> Any:
    """16 rows of twice 16 float32 -> 16 rows of 16 pairs of bf16: row r holds the numbers 2r and 2r + 1 of each row."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        first, second, step, second_step, out = values
        rows, order = [], ir.Constant(ir.VectorType(ir.IntType(32), 32), list(range(32)))
        for _ in range(16):
            halves = [rounded(builder, load(builder, address, FLOATS)) for address in (first, second)]
            rows.append(builder.bitcast(builder.shuffle_vector(*halves, order), WORDS))
            first, second = builder.add(first, step), builder.add(second, second_step)
        for row, words in enumerate(_transposed(builder, rows)):
            store(builder, words, _plus(builder, out, row * 64))
        return context.get_dummy_value()

    return signature(types.void, *[types.int64] * 5), code


@instruction
def put_rounded(_: Any, sums: Any, bias: Any, least: Any, out: Any) -> Any:
    """16 float32 at `sums` plus 16 at `bias`, at least `least`, to 16 bf16 at `out`, rounded to the nearest even."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        sums, bias, least, out = values
        row, added = (load(builder, address, FLOATS) for address in (sums, bias))
        row = builder.fadd(row, added)
        floor = ir.Constant(FLOATS, ir.Undefined)
        for column in range(16):
            floor = builder.insert_element(floor, least, ir.Constant(ir.IntType(32), column))
        row = builder.select(builder.fcmp_ordered("<", row, floor), floor, row)  # what is not a number stays so
        store(builder, rounded(builder, row), out)
        return context.get_dummy_value()

    return signature(types.void, types.int64, types.int64, types.float32, types.int64), code


@instruction
def at(_: Any, address: Any) -> Any:
    """An address as a pointer, for numba.carray."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return signature(types.voidptr, types.int64), code
