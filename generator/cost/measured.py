"""Predict the units of a run from its parameters, and compare them with those that were counted.

A run is short, and its devices' clocks run faster than the wall's: `RunLoad` counts readings, minutes that end,
windows and sweeps, and the terms of `fleet cost` make the units of these. What happens once is added once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet_iot.generator.cost import terms
from fleet_iot.generator.cost.terms import Fleet
from fleet_iot.generator.manifest import rates
from fleet_iot.generator.manifest.rates import Group, Load

TOLERANCE = 0.1
TOLERANCES = {"item_writes": 0.15, "metadata_writes": 0.25, "pointer_writes": 0.25}
"""Of the parts of a unit."""
TOO_SHORT = "the run is too short: when something happens changes it by more than is tolerated"

PER_READING = ("write_units", "read_units", "s3_puts", "s3_gets")
"""Names of the units, as `python -m benchmarks units` has them."""


def units_a_reading(load: Load) -> dict[str, float]:
    """Return what a reading of a steady load costs, by the names of `PER_READING`."""
    units = (load.writes, load.reads, load.state_puts + load.batches, load.state_gets)
    return {name: value / load.readings for name, value in zip(PER_READING, units, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of devices on one shard, each of which sends as many readings, a sample interval of its clock apart.

    Args:
        load: The devices, at their sample intervals.
        samples: Readings of each device.
        ends_ms: The time of each device's last reading, by its clock.
        wall_s: Seconds that it took, by the wall clock.
        batches: Batches of records, each counted once.
        redelivered: Invocations with records that had been processed.
        sweeps: Sweeps of all lanes.
        lanes: Lanes that have any of the devices.
        repeats: Messages sent again, as a share of readings.
        poison: Messages that cannot be read, as a share of readings.
        basic_ingest: Messages through Basic Ingest, as a share of all.
        anomalies: Anomalies in the readings.
        array: Readings of a message.
        bursts: Bursts of readings, each within a minute; 0 where all are an interval apart.
        bursts_s: Seconds in which these are spread.
    """

    load: Load
    samples: int
    ends_ms: int
    wall_s: float
    batches: int
    redelivered: int = 0
    sweeps: int = 1
    lanes: int = rates.LEAST_LANES
    repeats: float = 0
    poison: float = 0
    basic_ingest: float = 0
    anomalies: int = 0
    array: int = 1
    bursts: int = 0
    bursts_s: float = 0

    @property
    def readings(self) -> int:
        """Readings of all devices."""
        return self.load.devices * self.samples

    @property
    def messages(self) -> float:
        """Messages: readings, repeats and poison."""
        return self.readings / self.array * (1 + self.repeats + self.poison)

    def span_s(self, group: Group) -> float:
        """Return the seconds from the first to the last reading of a device of a group."""
        return self.bursts_s or (self.samples - 1) * group.interval_s

    def periods(self, group: Group, seconds: int) -> int:
        """Return the periods of so many seconds in which a device of a group has readings."""
        last, first = self.ends_ms, self.ends_ms - round(self.span_s(group) * 1000)
        return min(self.bursts or self.samples, last // (seconds * 1000) - first // (seconds * 1000) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLoad(Load):
    """A run as a load, the whole of which is the unit of time: what a `Load` has by the second, it has in all."""

    run: Run

    @property
    def shards(self) -> int:
        """A run has one."""
        return 1

    @property
    def lanes(self) -> int:
        """Those that have any of the devices."""
        return self.run.lanes

    @property
    def windows(self) -> float:
        """Those that the event source filled: the pace of the machine decides."""
        return self.run.batches

    @property
    def sweeps(self) -> float:
        """Those that there were."""
        return self.run.sweeps

    @property
    def events(self) -> float:
        """Anomalies that were put into the readings."""
        return self.run.anomalies

    @property
    def reconnects(self) -> float:
        """Each device connects once."""
        return self.devices * rates.RECONNECTS_A_DEVICE_DAY

    def readings_of(self, group: Group) -> float:
        """Return the readings of a group."""
        return group.devices * self.run.samples

    def readings_a_message(self, group: Group) -> int:
        """Return those of the run."""
        return self.run.array

    def messages_of(self, group: Group, readings: int) -> float:
        """Return the messages of a group, with repeats and poison."""
        return self.readings_of(group) / readings * (1 + self.run.repeats + self.run.poison)

    def ended(self, group: Group, seconds: int) -> float:
        """Return the hours and days that end, and all minutes: the last sweep closes those that are open."""
        return group.devices * (self.run.periods(group, seconds) - (seconds > rates.MINUTE_S))

    def described(self, group: Group) -> float:
        """Return the writes of metadata: those of a new device, and others by the wall clock."""
        return group.devices * (1 + self.run.wall_s / rates.METADATA_S)

    def batch_s_of(self, group: Group) -> float:
        """Return the seconds between two batches, by the devices' clocks."""
        return self.run.span_s(group) / max(1, self.run.batches)


def units_of_run(run: Run) -> dict[str, float]:
    """Return the units that a run should cost, by the names under which they are counted.

    They are the terms' that `fleet cost` multiplies by prices, and what only a run has: records that come again, tables
    that have no device yet, and a last sweep that closes all.
    """
    load = RunLoad(groups=run.load.groups, run=run)
    fleet = Fleet(load=load, plants=0, pairs=0)

    def of(term: Callable[[Fleet], float]) -> float:
        return term(fleet) / terms.MONTH_S

    writes = of(terms.write_units)
    return {
        "messages": of(terms.messages) * (1 - run.basic_ingest),
        "rules": of(terms.rules),
        "actions": of(terms.actions),
        "ingested_bytes": of(terms.ingested_gb) * terms.GB,
        "retrieved_bytes": of(terms.retrieved_gb) * terms.GB,
        "write_units": writes + 2 * run.lanes,
        "item_writes": writes - load.metadata_writes - load.pointer_writes,
        "metadata_writes": load.metadata_writes,
        "pointer_writes": load.pointer_writes + 2 * run.lanes,
        "read_units": of(terms.read_units) + load.commits * run.redelivered / max(1, run.batches) + load.devices,
        "reread_units": _reread(run),
        "s3_puts": of(terms.processor_puts) + run.redelivered + run.lanes,
        "quarantine_puts": _poisoned(run) * (run.batches + run.redelivered),
        "s3_gets": of(terms.processor_gets),
        "notifications": of(terms.notifications),
    }


def _reread(run: Run) -> float:
    """The minutes of records that come again, but for those in memory: an estimate."""
    a_batch = run.samples / run.batches if run.batches else 0.0
    minutes = sum(
        group.devices * max(0.0, min(a_batch, a_batch * group.interval_s / rates.MINUTE_S) - rates.RECENT_MINUTES)
        for group in run.load.groups
    )
    return run.redelivered * minutes


def _poisoned(run: Run) -> float:
    """Return the share of batches with any poison."""
    if not run.batches:
        return 0.0
    share = run.poison / (1 + run.repeats + run.poison)
    return 1.0 - math.pow(1.0 - share, run.messages / run.batches)


def margins_of(run: Run) -> dict[str, float]:
    """Return by how much a unit may differ because of when something happens.

    A batch that is cut short may touch no lane but one, and be delivered again, which costs reads. The last sweep
    commits the lanes of which something is open, and each before it those of which something is over by then, or none.
    Metadata are written at times of each device's own.
    """
    commits = run.lanes * max(run.sweeps - 1, 1)
    metadata = 2 * math.sqrt(run.load.devices * run.wall_s / rates.METADATA_S)
    return {
        "write_units": 2 * commits,
        "metadata_writes": metadata,
        "pointer_writes": 2 * commits,
        "read_units": 2 * run.lanes,
        "s3_puts": commits,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A unit as it was expected and as it was counted.

    Args:
        tolerance: The share by which it may differ.
        margin: What the moment of something adds or not; where it exceeds the tolerance, the run is too short to judge.
        why_not: Why it is shown and not judged.
    """

    unit: str
    expected: float
    measured: float
    tolerance: float = TOLERANCE
    margin: float = 0
    why_not: str = ""

    @property
    def deviation(self) -> float:
        """Return the measured count in relation to the expected one, less 1; infinite where none was expected."""
        if self.expected:
            return self.measured / self.expected - 1
        return math.inf if self.measured else 0.0

    @property
    def is_off(self) -> bool:
        """Return whether it is judged, and differs by more than the tolerance."""
        return not self.why_not and abs(self.measured - self.expected) > self.tolerance * self.expected

    def __str__(self) -> str:
        share = f"{self.deviation:+.1%}" if self.expected else "none expected"
        return f"{self.unit}: {self.measured:,.0f} measured, {self.expected:,.0f} expected ({share})"


def compare(
    expected: Mapping[str, float],
    measured: Mapping[str, float],
    *,
    margins: Mapping[str, float] | None = None,
    why_not: Mapping[str, str] | None = None,
) -> tuple[Comparison, ...]:
    """Compare each expected unit with its count, which is 0 where nothing was counted.

    Args:
        margins: By how much units may differ because of when something happens.
        why_not: Units that are not judged, and why.
    """

    def one(unit: str, count: float) -> Comparison:
        tolerance, margin = TOLERANCES.get(unit, TOLERANCE), (margins or {}).get(unit, 0.0)
        return Comparison(
            unit=unit,
            expected=count,
            measured=measured.get(unit, 0.0),
            tolerance=tolerance,
            margin=margin,
            why_not=(why_not or {}).get(unit, "") or (TOO_SHORT if margin > tolerance * count else ""),
        )

    return tuple(one(unit, count) for unit, count in expected.items())
