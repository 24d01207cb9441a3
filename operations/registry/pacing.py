"""Paces calls below the account's quotas: one rate for each API, by GCRA, shared by all runs on this machine.

GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm) spaces calls evenly and lets no burst through; a
limiter that fills a bucket lets twice the quota through in its first second. What an API may do next lies in a small
SQLite file beside the journals, so that parallel runs on one account share its quotas.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from fleet_iot.operations.sqlite import connect

AHEAD_S = 0.05
"""How far calls may run ahead of an even pace: makes up for a thread that woke up late, far from a second's burst."""
_TICK_S = 1e-6
"""What the clock cannot tell apart from nothing."""
SLOWER = 0.8
SLOWEST = 0.1
RECOVERY_PER_S = 0.01
"""After a throttle an API goes at 80 % of its pace, at most once a second, and comes back by a hundredth a second."""

_SCHEMA = """CREATE TABLE IF NOT EXISTS rates
    (account TEXT, api TEXT, next REAL, factor REAL, since REAL, PRIMARY KEY (account, api)) WITHOUT ROWID"""


class Pacer:
    """Lets calls through at their pace. APIs that `rates` (calls a second) does not name are not held up."""

    def __init__(
        self,
        path: Path | None,
        *,
        account: str,
        rates: Mapping[str, float],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`path` of the shared file; None keeps the pace within this process."""
        self.rates = dict(rates)
        self.calls: Counter[str] = Counter()
        self.throttles: Counter[str] = Counter()
        self._account, self._clock, self._sleep = account, clock, sleep
        # A pace that is lost with the machine is lost after more than a second: nothing is owed then.
        self._db = connect(path, synchronous="OFF", schema=_SCHEMA)
        self._writing = threading.Lock()
        self._turns = {api: threading.Lock() for api in rates}

    def close(self) -> None:
        self._db.close()

    def acquire(self, api: str) -> None:
        """Returns when the API may be called. Threads wait in line: only the first of an API looks at the clock."""
        if api in self.rates:
            with self._turns[api]:
                while (wait := self._take(api)) > 0:
                    self._sleep(wait)
        with self._writing:
            self.calls[api] += 1

    def throttled(self, api: str) -> None:
        """Slows the API down, for all runs that share its pace."""
        now = self._clock()
        with self._writing:
            self.throttles[api] += 1
            if api not in self.rates:
                return
            self._db.execute("BEGIN IMMEDIATE")
            _, factor, since = self._row(api)
            if now - since >= 1 or since == 0:
                slower = max(SLOWEST, self._recovered(factor, since, now) * SLOWER)
                self._db.execute(
                    "UPDATE rates SET factor = ?, since = ?, next = max(next, ?) WHERE account = ? AND api = ?",
                    (slower, now, now, self._account, api),
                )
            self._db.execute("COMMIT")

    def _take(self, api: str) -> float:
        """Takes the next place of the API and returns 0, or returns the seconds until one is free."""
        with self._writing:
            self._db.execute("BEGIN IMMEDIATE")
            next_, factor, since = self._row(api)
            now = self._clock()
            ahead = next_ - now - AHEAD_S
            # A clock that was set back must not stop a run for as long.
            if _TICK_S < ahead < 60:
                self._db.execute("ROLLBACK")
                return ahead
            interval = 1 / (self.rates[api] * self._recovered(factor, since, now))
            start = next_ if now < next_ < now + 60 else now
            self._db.execute(
                "UPDATE rates SET next = ? WHERE account = ? AND api = ?", (start + interval, self._account, api)
            )
            self._db.execute("COMMIT")
            return 0

    def _row(self, api: str) -> tuple[float, float, float]:
        query = "SELECT next, factor, since FROM rates WHERE account = ? AND api = ?"
        found: tuple[float, float, float] | None = self._db.execute(query, (self._account, api)).fetchone()
        if found is None:
            self._db.execute("INSERT INTO rates VALUES (?, ?, 0, 1, 0)", (self._account, api))
            return 0.0, 1.0, 0.0
        return found

    @staticmethod
    def _recovered(factor: float, since: float, now: float) -> float:
        return min(1.0, factor + max(0.0, now - since) * RECOVERY_PER_S)
