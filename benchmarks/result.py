"""What a benchmark measured: ours, its peers and the limit, from the same run."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Rates in `unit` (more is better); `limit` is the rate that nothing doing the same work can pass."""

    benchmark: str
    unit: str
    ours: float
    peers: Mapping[str, float]
    limit: float | None
    peak_memory_mb: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The one JSON object that is printed."""
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
        """The same for a person."""
        lines = [f"{self.benchmark}: {self.ours:,.0f} {self.unit}"]
        lines += [f"  {self.ours / rate:.1f} times {name} ({rate:,.0f})" for name, rate in self.peers.items()]
        if self.limit is not None:
            lines.append(f"  {self.ours / self.limit:.0%} of the limit ({self.limit:,.0f})")
        lines.append(f"  peak memory {self.peak_memory_mb:.0f} MB")
        lines += [f"  {name}: {value}" for name, value in self.details.items()]
        return "\n".join(lines)


def peak_memory_mb() -> float:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1_000_000 if sys.platform == "darwin" else 1_000)


def _short(rate: float) -> float:
    return float(f"{rate:.4g}")
