"""Process batches in forked worker processes, with results in the order of the batches."""

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
"""Up to so many batches are done faster here than in processes that have to start."""


def batches_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def in_order(
    batches: Iterable[Batch], work: Callable[[Batch], Result], *, workers: int = WORKERS, few: int = _FEW
) -> Iterator[Result]:
    """Yield the result of `work` for each batch, in order; each worker has at most one batch at a time.

    Workers end with the iteration, and when this process is gone.

    Args:
        batches: The batches, read as they are needed.
        work: What to do with a batch; its exceptions are raised here, at their batch.
        workers: How many processes.
        few: Up to so many batches are done in this process.

    Raises:
        EnvironmentFault: A worker was killed.
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
            worker.send(batch)  # it works while the caller uses the result
            under_way.append(worker)
            yield result
        for worker in under_way:
            yield worker.receive()


class _Worker(Generic[Batch, Result]):
    """The parent's end of a pipe to a worker."""

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
    """Start a process that does the work for the batches sent to it; it ends with the context."""
    context = multiprocessing.get_context("fork")  # the keys and ciphers in `work` need not be copied
    here, there = context.Pipe()
    strangers = [*(worker.pipe for worker in before), here]
    # A signal handler that raises must not run in the child before it serves: it would continue as its parent.
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
    """Serve batches in the worker process until the pipe is closed, also because the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for stranger in strangers:
        stranger.close()  # else the pipes would stay open as long as any worker lives
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
    """Make an error that can be pickled; its traceback, which cannot, is added as a note."""
    trace = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        error = RuntimeError(str(error))
    error.add_note(f"in a worker process:\n{trace}")
    return error
