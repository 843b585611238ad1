"""Runs a compiled kernel on the threads that torch already has.

torch computes on the threads of its OpenMP library. A second set of threads would wait in loops for work and take the
cores from the first, so kernels are started by the same library: each thread of it calls the kernel once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llvmlite.binding
import numpy as np
import torch
from numba import types

from fovea.training.compiled.compiler import compiled

_openmp = ctypes.CDLL("libgomp.so.1")  # by its name it is the one that torch has loaded
for _name in ("omp_get_thread_num", "omp_get_num_threads"):
    llvmlite.binding.add_symbol(_name, ctypes.cast(getattr(_openmp, _name), ctypes.c_void_p).value)
thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
num_threads = types.ExternalFunction("omp_get_num_threads", types.int32())
_openmp.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
_openmp.GOMP_parallel.restype = None


@compiled
def share(count: int) -> tuple[int, int]:
    """Of so many pieces of work those of this thread, from one number to another."""
    thread, threads = thread_number(), num_threads()
    return count * thread // threads, count * (thread + 1) // threads


def run(kernel: Any, arguments: Sequence[int], threads: int | None = None) -> None:
    """Call a kernel on every thread of torch, or on so many, with the same 64-bit numbers.

    OpenMP may start fewer (OMP_THREAD_LIMIT, OMP_DYNAMIC): what is summed up over threads begins as zeros.
    """
    numbers = np.array(arguments, np.int64)
    _openmp.GOMP_parallel(kernel.address, numbers.ctypes.data, threads or torch.get_num_threads(), 0)
