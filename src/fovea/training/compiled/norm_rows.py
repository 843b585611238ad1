"""Batch norm with the activation behind it, on rows of 16 channels: loops that numba compiles. Places are addresses.

A position's channels lie one after the other in bf16, `step` bytes from position to position. Sums are float32 over the
rows of one call, which are few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature

from fovea.training.compiled.compiler import instruction
from fovea.training.compiled.vectors import FLOATS, HALVES, WORDS, as_floats, load, rounded, store


def _all(value: float) -> Any:
    return ir.Constant(FLOATS, [value] * 16)


def _whole(value: int) -> Any:
    return ir.Constant(WORDS, [value] * 16)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", one, other), other, one)  # what is not a number stays so


def _smaller(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), other, one)


def _fma(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """one * other + added, rounded once."""
    name = "llvm.fma.v16f32"
    known = builder.module.globals.get(name)
    return builder.call(
        known or ir.Function(builder.module, ir.FunctionType(FLOATS, [FLOATS] * 3), name), [one, other, added]
    )


def _sigmoid(builder: Any, z: Any) -> Any:
    """1 / (1 + 2**y), y = -z / ln 2, to 1e-5: a fortieth of what rounding to bf16 moves.

    2**y is 2**whole, put into the exponent, times the polynomial of degree 4 that is nearest to 2**rest.
    """
    y = builder.fmul(z, _all(-1.4426950408889634))
    y = _smaller(builder, _larger(builder, y, _all(-100.0)), _all(100.0))
    shifted = builder.fadd(y, _all(12582912.0))  # 1.5 * 2**23: the nearest whole number is in the last bits
    rest = builder.fsub(y, builder.fsub(shifted, _all(12582912.0)))
    power = _all(0.00956051)
    for factor in (0.05591704, 0.24024981, 0.69312197, 0.99999919):
        power = _fma(builder, power, rest, _all(factor))
    power = builder.add(builder.bitcast(power, WORDS), builder.shl(builder.bitcast(shifted, WORDS), _whole(23)))
    return builder.fdiv(_all(1.0), builder.fadd(_all(1.0), builder.bitcast(power, FLOATS)))


def _activated(builder: Any, z: Any, activation: str) -> Any:
    if activation == "silu":
        return builder.fmul(z, _sigmoid(builder, z))
    return _larger(builder, z, _all(0.0)) if activation == "relu" else z


def _slope(builder: Any, z: Any, activation: str) -> Any:
    """The derivative of the activation at z."""
    if activation == "silu":
        share = _sigmoid(builder, z)
        rest = builder.fmul(z, builder.fsub(_all(1.0), share))
        return builder.fmul(share, builder.fadd(_all(1.0), rest))
    if activation == "relu":
        return builder.select(builder.fcmp_ordered(">", z, _all(0.0)), _all(1.0), _all(0.0))
    return _all(1.0)


def _row(builder: Any, address: Any) -> Any:
    return as_floats(builder, load(builder, address, HALVES))


def _over_rows(builder: Any, count: Any, step: Any, addresses: list[Any], body: Callable[..., None]) -> None:
    """body(addresses of a row) for each of `count` rows."""
    with cgutils.for_range(builder, count) as loop:
        away = builder.mul(loop.index, step)
        body(*[builder.add(address, away) for address in addresses])


def _sum_up(builder: Any, place: Any, value: Any) -> None:
    builder.store(builder.fadd(builder.load(place), value), place)


@instruction
def add_moments(_: Any, x: Any, count: Any, step: Any, shift: Any, sums: Any, squares: Any) -> Any:
    """Add to 16 float32 at `sums` and at `squares` those of x - shift and of its squares, over `count` rows."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        x, count, step, shift, sums, squares = values
        middle = load(builder, shift, FLOATS)
        totals = [cgutils.alloca_once_value(builder, load(builder, place, FLOATS)) for place in (sums, squares)]

        def body(address: Any) -> None:
            row = builder.fsub(_row(builder, address), middle)
            _sum_up(builder, totals[0], row)
            _sum_up(builder, totals[1], builder.fmul(row, row))

        _over_rows(builder, count, step, [x], body)
        for total, place in zip(totals, (sums, squares), strict=True):
            store(builder, builder.load(total), place)
        return context.get_dummy_value()

    return signature(types.void, *[types.int64] * 6), code


def normalized_rows(activation: str) -> Callable[..., Any]:
    """An instruction: out = activation(x * scale + offset), rounded to bf16, over `count` rows."""

    @instruction
    def rows(_: Any, x: Any, count: Any, step: Any, scale: Any, offset: Any, out: Any) -> Any:
        def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
            x, count, step, scale, offset, out = values
            factor, added = load(builder, scale, FLOATS), load(builder, offset, FLOATS)

            def body(address: Any, place: Any) -> None:
                z = _fma(builder, _row(builder, address), factor, added)
                store(builder, rounded(builder, _activated(builder, z, activation)), place)

            _over_rows(builder, count, step, [x, out], body)
            return context.get_dummy_value()

        return signature(types.void, *[types.int64] * 6), code

    return rows


def activation_gradient_rows(activation: str) -> Callable[..., Any]:
    """An instruction: the gradient behind the activation -> before it, in bf16 at `out`; and, summed up, it and its
    product with x - middle."""

    @instruction
    def rows(
        _: Any, gradient: Any, x: Any, count: Any, step: Any, scale: Any, offset: Any, middle: Any, out: Any,
        sums: Any, products: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
            gradient, x, count, step, scale, offset, middle, out, sums, products = values
            factor, added, mean = (load(builder, place, FLOATS) for place in (scale, offset, middle))
            totals = [cgutils.alloca_once_value(builder, load(builder, place, FLOATS)) for place in (sums, products)]

            def body(behind: Any, address: Any, place: Any) -> None:
                row = _row(builder, address)
                z = _fma(builder, row, factor, added)
                before = builder.fmul(_row(builder, behind), _slope(builder, z, activation))
                _sum_up(builder, totals[0], before)
                _sum_up(builder, totals[1], builder.fmul(before, builder.fsub(row, mean)))
                store(builder, rounded(builder, before), place)

            _over_rows(builder, count, step, [gradient, x, out], body)
            for total, place in zip(totals, (sums, products), strict=True):
                store(builder, builder.load(total), place)
            return context.get_dummy_value()

        return signature(types.void, *[types.int64] * 10), code

    return rows


@instruction
def combine_rows(_: Any, x: Any, count: Any, step: Any, of_out: Any, of_x: Any, offset: Any, out: Any) -> Any:
    """out = out * of_out + x * of_x + offset, in bf16, over `count` rows."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        x, count, step, of_out, of_x, offset, out = values
        first, second, added = (load(builder, place, FLOATS) for place in (of_out, of_x, offset))

        def body(address: Any, place: Any) -> None:
            found = _fma(builder, _row(builder, address), second, _fma(builder, _row(builder, place), first, added))
            store(builder, rounded(builder, found), place)

        _over_rows(builder, count, step, [x, out], body)
        return context.get_dummy_value()

    return signature(types.void, *[types.int64] * 7), code
