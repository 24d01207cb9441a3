"""Show progress on stderr, and notice when a wait has made none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

_PLAIN_EVERY_S = 10.0


class Progress:
    """Show the progress of a task on stderr: a bar on a terminal, else a plain line every ten seconds.

    Use as a context manager and call `advance(done, total)`.
    """

    def __init__(self, task: str, *, last: ProgressColumn | None = None) -> None:
        """`last` is the bar's last column, the elapsed time by default; it may show the field `text`."""
        self._task = task
        self._bar: Bar | None = None
        self._id = None
        self._printed: float | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), last or TimeElapsedColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._id = self._bar.add_task(task, total=None, text="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar while a question is asked."""
        if self._bar:
            self._bar.stop()
        yield
        if self._bar:
            self._bar.start()

    def advance(self, done: int, total: int) -> None:
        """Show `done` of about `total`."""
        self.update(f"{done} of about {total}", done=done, total=max(done, total))

    def update(self, plain: str, *, done: int, total: int, text: str = "") -> None:
        """Show `text` in the bar's last column; without a terminal, print `plain` every ten seconds."""
        if self._bar and self._id is not None:
            self._bar.update(self._id, completed=done, total=total, text=text)
            return
        now = time.monotonic()
        if self._printed is None:
            self._printed = now
        elif now - self._printed > _PLAIN_EVERY_S:
            self._printed = now
            print(f"{self._task}: {plain}", file=sys.stderr, flush=True)


_NOTHING = object()


class Patience:
    """Detect a wait without progress: what it is shown has not changed for `seconds`.

    A fixed timeout would end good work on a slow machine, and keep a person waiting on a fast one.
    """

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._seen: object = _NOTHING
        self._moved_at = now()

    def is_over(self, seen: object) -> bool:
        """Return whether `seen`, any value that changes with progress, has been the same for too long."""
        if seen != self._seen:
            self._seen = seen
            self._moved_at = self._now()
        return self._now() - self._moved_at >= self._seconds
