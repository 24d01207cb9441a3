"""Progress of long work on stderr: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

_PLAIN_EVERY_S = 10.0


class Progress:
    """Shows how far a task is; use as a context manager and call `advance(done, total)`."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._bar: Bar | None = None
        self._id = None
        self._printed: float | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._id = self._bar.add_task(task, total=None)

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, done: int, total: int) -> None:
        """Show `done` of about `total`."""
        if self._bar and self._id is not None:
            self._bar.update(self._id, completed=done, total=max(done, total))
            return
        now = time.monotonic()
        if self._printed is None:
            self._printed = now
        elif now - self._printed > _PLAIN_EVERY_S:
            self._printed = now
            print(f"{self._task}: {done} of about {total}", file=sys.stderr, flush=True)
