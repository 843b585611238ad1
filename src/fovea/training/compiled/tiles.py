"""The matrix unit of a CPU with AMX, as instructions for kernels that numba compiles.

The unit has eight tiles of 16 rows of 64 bytes. One instruction multiplies a tile of 16 x 32 bf16 by one of 32 x 16
and adds to 16 x 16 float32 (Intel's Architecture Instruction Set Extensions Programming Reference, chapter 3). Of the
second factor two rows lie together: row r holds for each column the pair (2r, 2r + 1).

Kernels here work with at most five tiles. On a rented machine, in its slow hours, a loop over five was measured to run
twice as fast as one over all eight, and in fast hours as fast: as if another tenant of the core held some registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing import signature

from fovea.training.compiled.compiler import instruction
from fovea.training.compiled.plans import TILE_BYTES

MOST_SUMS = 3  # a loop keeps them in tiles 0 to 2; tiles 3 and 4 hold factors
_FIXED, _MOVING = 3, 4
_LOAD = "llvm.x86.tileloadd64"

_BYTE, _LONG = ir.IntType(8), ir.IntType(64)


def tile_configuration() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The 64 bytes that `start_tiles` reads: five tiles of 16 rows of 64 bytes."""
    found = np.zeros(64, np.uint8)
    found[0] = 1
    found[16:26].view(np.uint16)[:] = 64
    found[48:53] = 16
    return found


def _instruction(builder: Any, name: str, kinds: Any, values: Any) -> None:
    known = builder.module.globals.get(name)
    builder.call(known or ir.Function(builder.module, ir.FunctionType(ir.VoidType(), kinds), name), values)


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _BYTE.as_pointer())


def _move(builder: Any, name: str, tile: int, address: Any) -> None:
    kinds = [_BYTE, _BYTE.as_pointer(), _LONG]
    _instruction(builder, name, kinds, [ir.Constant(_BYTE, tile), _pointer(builder, address), ir.Constant(_LONG, 64)])


@instruction
def start_tiles(_: Any, configuration: Any) -> Any:
    """Make the tiles of this thread ready; `configuration` is the address of `tile_configuration`."""

    def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
        _instruction(builder, "llvm.x86.ldtilecfg", [_BYTE.as_pointer()], [_pointer(builder, values[0])])
        return context.get_dummy_value()

    return signature(types.void, types.int64), code


@instruction
def end_tiles(_: Any) -> Any:
    """Give the tiles back."""

    def code(context: Any, builder: Any, __: Any, ___: Any) -> Any:
        _instruction(builder, "llvm.x86.tilerelease", [], [])
        return context.get_dummy_value()

    return signature(types.void), code


def _for_each_sum(count: int, name: str) -> Any:
    """Load, store or clear the first `count` sums, whose 1024 bytes lie one after the other in memory."""

    @instruction
    def instructions(_: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
            for tile in range(count):
                if name == "llvm.x86.tilezero":
                    _instruction(builder, name, [_BYTE], [ir.Constant(_BYTE, tile)])
                else:
                    _move(builder, name, tile, builder.add(values[0], ir.Constant(_LONG, tile * TILE_BYTES)))
            return context.get_dummy_value()

        return signature(types.void, types.int64), code

    return instructions


def _products(count: int, fixed_is_first: bool) -> Any:
    """Add to each of `count` sums the product of one fixed tile and of another of its own; by their addresses."""
    first, second = (_FIXED, _MOVING) if fixed_is_first else (_MOVING, _FIXED)

    @instruction
    def instructions(_: Any, fixed: Any, one: Any, two: Any, three: Any) -> Any:
        def code(context: Any, builder: Any, __: Any, values: Any) -> Any:
            _move(builder, _LOAD, _FIXED, values[0])
            for tile in range(count):
                _move(builder, _LOAD, _MOVING, values[1 + tile])
                numbers = [ir.Constant(_BYTE, each) for each in (tile, first, second)]
                _instruction(builder, "llvm.x86.tdpbf16ps", [_BYTE] * 3, numbers)
            return context.get_dummy_value()

        return signature(types.void, *[types.int64] * 4), code

    return instructions


load_sums = [_for_each_sum(count, _LOAD) for count in range(MOST_SUMS + 1)]
store_sums = [_for_each_sum(count, "llvm.x86.tilestored64") for count in range(MOST_SUMS + 1)]
clear_sums = [_for_each_sum(count, "llvm.x86.tilezero") for count in range(MOST_SUMS + 1)]
fixed_times_each = [_products(count, fixed_is_first=True) for count in range(MOST_SUMS + 1)]
each_times_fixed = [_products(count, fixed_is_first=False) for count in range(MOST_SUMS + 1)]
