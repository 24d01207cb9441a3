"""Shares work out among processes, each a copy of this one: Python keeps no more than one core busy in a process."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import BinaryIO, NoReturn, TypeVar

Item = TypeVar("Item")

WORKERS = min(4, os.cpu_count() or 1)
ITEMS_A_WORKER = 8
"""With less to do, a process of its own costs more than it gives."""


def merged(items: Sequence[Item], work: Callable[[Item], dict[str, str]]) -> dict[str, str]:
    """What `work` gives for each item, in one dictionary; raises the fault of the first item that has one.

    A worker goes through its share in order and ends at a fault. What is left then is done here, in order: all before
    the first fault is done, and `work` raises it once more, with its traceback.
    """
    done: dict[int, dict[str, str]] = {}
    count = min(WORKERS, len(items) // ITEMS_A_WORKER)
    if count > 1:
        gc.freeze()  # else each process looks through all that there is, and so makes a copy of its own of it
        with ExitStack() as stack:
            others = [stack.enter_context(_forked(items[number::count], work)) for number in range(1, count)]
            shares = [_results(items[::count], work), *map(_read, others)]
        for number, share in enumerate(shares):
            done |= zip(range(number, len(items), count), share, strict=False)
    found: dict[str, str] = {}
    for place, item in enumerate(items):
        found |= done[place] if place in done else work(item)
    return found


def _results(
    items: Sequence[Item], work: Callable[[Item], dict[str, str]], *, parent: int | None = None
) -> list[dict[str, str]]:
    """What comes out for the items up to the first fault; nobody waits for it any more when the `parent` is gone."""
    results: list[dict[str, str]] = []
    try:
        for item in items:
            if parent is not None and os.getppid() != parent:
                break
            results.append(work(item))
    except Exception:
        return results
    return results


@contextmanager
def _forked(items: Sequence[Item], work: Callable[[Item], dict[str, str]]) -> Iterator[BinaryIO]:
    """A process that does the work, and the pipe on which its results come as JSON; it ends with the context."""
    reader, writer = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError:  # there may be no more processes: then there are no results
        os.close(reader)
        os.close(writer)
        yield BytesIO()
        return
    if not child:
        _work(items, work, writer, parent)
    os.close(writer)
    try:
        with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor
            yield pipe
    finally:
        os.kill(child, signal.SIGKILL)  # one that has ended stays until it is waited for
        os.waitpid(child, 0)


def _work(items: Sequence[Item], work: Callable[[Item], dict[str, str]], writer: int, parent: int) -> NoReturn:
    """The life of the other process: it must not come back to what the first one does next."""
    try:
        with open(writer, "wb") as pipe:
            pipe.write(json.dumps(_results(items, work, parent=parent)).encode())
    finally:
        os._exit(0)


def _read(pipe: BinaryIO) -> list[dict[str, str]]:
    """The results of another process; none where it was killed, or never was."""
    try:
        results: list[dict[str, str]] = json.loads(pipe.read())
    except ValueError:
        return []
    return results
