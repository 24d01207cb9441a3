"""Shares batches out among processes, each a copy of this one, and gives what comes of them in the batches' order."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from fleet_iot.generator.diagnostics import EnvironmentFault

Item = TypeVar("Item")
Batch = TypeVar("Batch")
Result = TypeVar("Result")

WORKERS = min(4, os.cpu_count() or 1)
_FEW = 2
"""So many batches are done sooner here than processes start."""


def batches_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def in_order(
    batches: Iterable[Batch], work: Callable[[Batch], Result], *, workers: int = WORKERS, few: int = _FEW
) -> Iterator[Result]:
    """What `work` gives for each batch, in order; no more than one batch a worker is under way.

    Up to `few` batches are done in this process. What `work` raises is raised here, at its batch. Raises
    EnvironmentFault where a worker was killed. Workers end with the iteration, and when this process is gone.
    """
    iterator = iter(batches)
    first = list(itertools.islice(iterator, few + 1))
    if len(first) <= few or workers < 2:
        yield from map(work, itertools.chain(first, iterator))
        return
    with ExitStack() as stack:
        others: list[_Worker[Batch, Result]] = []
        for _ in range(workers):
            others.append(stack.enter_context(_started(work, others)))
        under_way: list[_Worker[Batch, Result]] = []
        for number, batch in enumerate(itertools.chain(first, iterator)):
            if number < workers:
                others[number].send(batch)
                under_way.append(others[number])
                continue
            worker = under_way.pop(0)
            result = worker.receive()
            worker.send(batch)  # it goes on while this process deals with its result
            under_way.append(worker)
            yield result
        for worker in under_way:
            yield worker.receive()


class _Worker(Generic[Batch, Result]):
    """This process's end of a pipe to another one."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def send(self, batch: Batch) -> None:
        try:
            self.pipe.send(batch)
        except OSError:
            raise _killed() from None

    def receive(self) -> Result:
        try:
            result, error = self.pipe.recv()
        except (EOFError, OSError):
            raise _killed() from None
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


def _killed() -> EnvironmentFault:
    return EnvironmentFault(
        "a worker process was killed, for want of memory perhaps", hint="run the command again: what is done stays"
    )


@contextmanager
def _started(work: Callable[[Batch], Result], before: list[_Worker[Batch, Result]]) -> Iterator[_Worker[Batch, Result]]:
    """A process that does the work for what is sent to it; it ends with the context."""
    context = multiprocessing.get_context("fork")  # what `work` holds (keys, ciphers) goes over without a copy
    here, there = context.Pipe()
    strangers = [*(worker.pipe for worker in before), here]
    # A handler of this process's that raises must not run in the child before it serves: it would go on as its parent.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process = context.Process(target=_serve, args=(work, there, strangers, mask), daemon=True)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    there.close()
    try:
        yield _Worker(here)
    finally:
        here.close()
        process.terminate()
        process.join()


def _serve(
    work: Callable[[Batch], Result], pipe: Connection, strangers: list[Connection], mask: set[signal.Signals]
) -> None:
    """The life of the other process, until the pipe is closed: by its user, or because that one is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its user's to deal with
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for stranger in strangers:
        stranger.close()  # else the pipes would stay open for as long as any worker lives
    try:
        while True:
            batch = pipe.recv()
            try:
                answer: tuple[Result | None, Exception | None] = work(batch), None
            except Exception as error:
                answer = None, _portable(error)
            pipe.send(answer)
    except (EOFError, OSError):
        return


def _portable(error: Exception) -> Exception:
    """An error that can go over a pipe, which takes no traceback: that is noted in it."""
    told = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        error = RuntimeError(str(error))
    error.add_note(f"in a worker process:\n{told}")
    return error
