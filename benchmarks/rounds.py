"""Times contestants in turn, round by round, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of one contestant, a round each."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The round that the machine disturbed least."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """The round in the middle."""
        return statistics.median(self.rounds)


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, Times]:
    """Runs every contestant once a round; each gives the seconds that count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant())
    return {name: Times(rounds=tuple(values)) for name, values in seconds.items()}
