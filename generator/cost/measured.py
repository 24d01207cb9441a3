"""Compare units that were counted in a run with those that the estimate expects of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet_iot.generator.manifest.rates import Load

TOLERANCE = 0.1

PER_READING = ("write_units", "read_units", "s3_puts", "s3_gets")
"""Names of the units, as `python -m benchmarks units` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A unit whose count differs from the expected one by more than the tolerance."""

    unit: str
    expected: float
    measured: float

    def __str__(self) -> str:
        share = f"{self.measured / self.expected - 1:+.0%}" if self.expected else "none expected"
        return f"{self.unit}: {self.measured:,.4g} measured, {self.expected:,.4g} expected ({share})"


def units_a_reading(load: Load) -> dict[str, float]:
    """Return what a reading of a steady load costs, by the names of `PER_READING`."""
    units = (load.writes, load.reads, load.state_puts + load.batches, load.state_gets)
    return {name: value / load.readings for name, value in zip(PER_READING, units, strict=True)}


def units_of_run(load: Load, *, readings: int, batches: int, shards: int = 1) -> dict[str, float]:
    """Return the units that a run of the processor should cost, however fast its readings were played.

    Args:
        load: The devices of the run, at their sample intervals.
        readings: Readings that were processed.
        batches: Invocations that they came in.
        shards: Shards of the stream; the local AWS has one, which has the records of all lanes.
    """
    seconds = readings / load.readings  # of the devices' clocks
    lanes = load.lanes / shards
    commits = batches * lanes * (1 - (1 - 1 / lanes) ** (readings / batches)) if lanes > 1 else batches
    writes = (load.minute_writes + load.rollup_writes + load.metadata_writes) * seconds
    return {
        "write_units": writes + commits * (1 + load.acknowledged),
        "read_units": commits,
        "s3_puts": batches + commits,
    }


def compare(
    expected: Mapping[str, float], measured: Mapping[str, float], *, tolerance: float = TOLERANCE
) -> tuple[Difference, ...]:
    """Return the units of both that differ by more than a share of what was expected."""
    return tuple(
        Difference(unit=unit, expected=count, measured=measured[unit])
        for unit, count in expected.items()
        if unit in measured and abs(measured[unit] - count) > tolerance * count
    )
