"""Results of a benchmark: rates of ours, of its peers and of the limit, timed in turn in the same run."""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Rates in `unit` (more is better); `limit` is the rate that nothing doing the same work can pass.

    `tables` are the details for a person, where one line each is not enough.
    """

    benchmark: str
    unit: str
    ours: float
    peers: Mapping[str, float]
    limit: float | None
    peak_memory_mb: float
    details: Mapping[str, Any] = field(default_factory=dict)
    tables: str = ""

    def document(self) -> dict[str, Any]:
        """Return the one JSON object that is printed."""
        return {
            "benchmark": self.benchmark,
            "unit": self.unit,
            "ours": _short(self.ours),
            "peers": {name: _short(rate) for name, rate in self.peers.items()},
            "limit": None if self.limit is None else _short(self.limit),
            "ratio_to": {name: round(self.ours / rate, 2) for name, rate in self.peers.items()},
            "share_of_limit": None if self.limit is None else round(self.ours / self.limit, 3),
            "peak_memory_mb": round(self.peak_memory_mb, 1),
            "details": dict(self.details),
        }

    def text(self) -> str:
        """Return the result as text for a person."""
        lines = [f"{self.benchmark}: {self.ours:,.0f} {self.unit}"]
        lines += [f"  {self.ours / rate:.1f} times {name} ({rate:,.0f})" for name, rate in self.peers.items()]
        if self.limit is not None:
            lines.append(f"  {self.ours / self.limit:.0%} of the limit ({self.limit:,.0f})")
        lines.append(f"  peak memory {self.peak_memory_mb:.0f} MB")
        lines += [self.tables] if self.tables else [f"  {name}: {value}" for name, value in self.details.items()]
        return "\n".join(lines)


def peak_memory_mb() -> float:
    """Return the most memory that this process has used so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1_000_000 if sys.platform == "darwin" else 1_000)


def _short(rate: float) -> float:
    return float(f"{rate:.4g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of one contestant, a round each."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        """Return the fastest round, which the machine disturbed least."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """Return the round in the middle."""
        return statistics.median(self.rounds)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, Times]:
    """Run every contestant once a round, in turn, so that other work of the machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant())
    return {name: Times(rounds=tuple(values)) for name, values in seconds.items()}
