"""Call AWS: the tables, the archive bucket and the anomaly topic, each with retries up to a deadline.

Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BASE_S = 0.05
CAP_S = 5.0
ATTEMPTS = 8


class Unavailable(Exception):  # noqa: N818 - a state, not a fault of ours
    """A call did not succeed in time; its records are reported as failed and come again."""


class Again(Exception):  # noqa: N818 - asks for another attempt
    """Raised by a call to be retried, for example for unprocessed keys of a batch."""


class Threads:
    """Run independent calls of one client on up to `number` threads; with one they run in order, as tests need it."""

    def __init__(self, number: int = 1) -> None:
        self._pool = ThreadPoolExecutor(number, thread_name_prefix="calls") if number > 1 else None
        self._has_connected = False

    def map(self, call: Callable[[T], R], values: Collection[T]) -> Iterable[R]:
        """Call with each value; return the results in order."""
        if self._pool is None or len(values) < 2:
            return map(call, values)
        if self._has_connected:
            return self._pool.map(call, values)
        # Two threads that connect first can crash the process: https://github.com/boto/botocore/issues/3164
        first, *others = values
        answer = call(first)
        self._has_connected = True
        return chain([answer], self._pool.map(call, others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """`deadline` is on `clock`, in seconds; `random`, `clock` and `sleep` are passed in so that a test can replay."""

    deadline: float
    is_transient: Callable[[Exception], bool]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    random: Random

    def run(self, call: Callable[[], T]) -> T:
        """Call until it succeeds; return its result.

        Raises:
            Unavailable: no time or attempts are left.
            Exception: of `call`, if it is not transient.
        """
        attempt = 0
        while True:
            if self.clock() >= self.deadline:
                raise Unavailable("no time was left to ask")
            try:
                return call()
            except Exception as error:
                if not isinstance(error, Again) and not self.is_transient(error):
                    raise
                attempt += 1
                if not self.pause(attempt):
                    raise Unavailable(f"after {attempt} attempts: {error}") from error

    def pause(self, attempt: int) -> bool:
        """Wait before attempt `attempt` + 1; return False, without waiting, if no time or attempts are left."""
        wait = self.random.uniform(0.0, min(CAP_S, BASE_S * 2**attempt))
        if attempt >= ATTEMPTS or self.clock() + wait >= self.deadline:
            return False
        self.sleep(wait)
        return True
