"""Processes that decode small image files; for these are mostly Python, which threads cannot share.

A worker is this module, started as a program. It is told a target, then file names by the chunk, and answers each
chunk with a line of JSON and the pixels. It ends when its input does, so that none outlives its parent.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fovea.data.decode import Header, strict_pillow
from fovea.data.decoding import Block, Target, decode_block, read_content
from fovea.data.parallel import in_order
from fovea.data.tree import Tree

_LARGE_BYTES = 2**20  # files that are better read with care


class _NotForWorkersError(Exception):
    """A chunk that is better read here: there is no worker, a file is large, or something is to be reported."""


def worker_blocks(tree: Tree, chunks: Iterator[list[str]], target: Target, count: int) -> Iterator[Block]:
    """One block a chunk, in order, decoded by `count` processes; here where these cannot be had.

    Raises:
        DataError: when a file is there but cannot be read.
    """
    with ExitStack() as stack:
        idle: queue.Queue[subprocess.Popen[bytes] | None] = queue.Queue()
        for _ in range(count):
            idle.put(_start(target, stack))
        pool = stack.enter_context(ThreadPoolExecutor(count))

        def work(chunk: list[str]) -> Block:
            worker = idle.get()
            try:
                return _ask(worker, tree, chunk, target)
            except _NotForWorkersError:
                pass
            except (OSError, ValueError, EOFError, KeyError, TypeError):
                worker = None  # it died, or said something else: what it says next could be taken for another chunk
            finally:
                idle.put(worker)
            return decode_block((read_content(tree, name) for name in chunk), len(chunk), target)

        yield from in_order(pool, work, chunks, ahead=2 * count)


def _start(target: Target, stack: ExitStack) -> subprocess.Popen[bytes] | None:
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path)
    try:
        worker = subprocess.Popen(
            [sys.executable, "-m", "fovea.data.decode_workers", json.dumps(asdict(target))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except (OSError, ValueError):
        return None
    stack.callback(_stop, worker)
    return worker


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()  # its work was taken, or is not wanted any more
    worker.communicate()


def _ask(worker: subprocess.Popen[bytes] | None, tree: Tree, chunk: list[str], target: Target) -> Block:
    if worker is None or worker.stdin is None or worker.stdout is None or max(map(tree.size, chunk)) > _LARGE_BYTES:
        raise _NotForWorkersError
    paths = [os.path.join(tree.place, name) for name in chunk]  # noqa: PTH118 (many)
    worker.stdin.write(json.dumps(paths).encode() + b"\n")
    worker.stdin.flush()
    answer = json.loads(worker.stdout.readline())
    if "error" in answer:
        raise _NotForWorkersError  # it is met again, and reported, where the chunk is read here
    digests, headers = bytes.fromhex(answer["digests"]), [Header(*header) for header in answer["headers"]]
    bad = {int(row): reason for row, reason in answer["bad"].items()}
    shape = (len(chunk), *target.shape)
    size = int(np.prod(shape)) * target.dtype.itemsize
    content = worker.stdout.read(size)
    if len(content) < size:
        raise EOFError
    return Block(np.frombuffer(content, target.dtype).reshape(shape), digests, headers, bad)


def answer_chunks(asked: BinaryIO, answers: BinaryIO, target: Target) -> None:
    """The work of a worker, until its input ends."""
    for line in asked:
        paths = json.loads(line)
        try:
            block = decode_block(map(_content, paths), len(paths), target)
        except OSError as error:
            answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        else:
            facts: dict[str, Any] = {"digests": block.digests.hex(), "bad": block.bad}
            facts["headers"] = [[header.height, header.width, header.kind] for header in block.headers]
            answers.write(json.dumps(facts).encode() + b"\n")
            answers.write(block.pixels.data)
        answers.flush()


def _content(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 (many)
        return file.read()


def main() -> None:
    """A worker as a program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    with strict_pillow():
        answer_chunks(sys.stdin.buffer, sys.stdout.buffer, Target(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
