"""Waits for something that takes as long as the machine needs: until nothing has moved for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

_NOTHING = object()


class Patience:
    """Says when a wait is hopeless: what it is shown has been the same for `seconds`, however long it took before.

    A fixed time would end on a slow machine what goes well there, and keep a person waiting on a fast one.
    """

    def __init__(self, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._seen: object = _NOTHING
        self._moved_at = now()

    def is_over(self, seen: object) -> bool:
        """Look at `seen`, whatever tells of progress; whether it has not changed for too long."""
        if seen != self._seen:
            self._seen = seen
            self._moved_at = self._now()
        return self._now() - self._moved_at >= self._seconds
