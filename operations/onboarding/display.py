"""Shows a running onboarding on stderr: a live line on a terminal, a plain one every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from operations.onboarding.run import Meter

_PLAIN_EVERY_S = 10.0


class Display:
    """Devices done, the rate, its share of what the quotas allow, failures, time left; use as a context manager."""

    def __init__(self, task: str, *, ceiling: float | None) -> None:
        """`ceiling` is the devices a second that the quotas allow; None where there are no quotas."""
        self._task = task
        self._ceiling = ceiling
        self._printed = time.monotonic()
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[told]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._id = self._bar.add_task(task, total=None, told="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, meter: Meter) -> None:
        """How far it is now."""
        if self._bar:
            self._bar.update(self._id, completed=meter.done + meter.failed, total=meter.total, told=self.told(meter))
            return
        now = time.monotonic()
        if now - self._printed >= _PLAIN_EVERY_S:
            self._printed = now
            done = meter.done + meter.failed
            print(f"{self._task}: {done:,} of {meter.total:,}, {self.told(meter)}", file=sys.stderr, flush=True)

    def told(self, meter: Meter) -> str:
        """Rate, share of the quota, failures and time left in words."""
        rate = meter.rate
        words = [f"{rate:.1f}/s"]
        if self._ceiling:
            words.append(f"{rate / self._ceiling:.0%} of the quota")
        words.append(f"{meter.failed:,} failed")
        if rate > 0:
            words.append(f"{duration((meter.total - meter.done - meter.failed) / rate)} left")
        return ", ".join(words)


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
