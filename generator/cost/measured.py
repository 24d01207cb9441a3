"""Predict the units of a run from its parameters, and compare them with those that were counted.

A run is short, and its devices' clocks run faster than the wall's: the terms of a month are taken for what they are
proportional to (readings, minutes that end, batches, commits), and what happens once is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleet_iot.generator.manifest import rates
from fleet_iot.generator.manifest.rates import Group, Load

TOLERANCE = 0.1

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

    @property
    def readings(self) -> int:
        """Readings of all devices."""
        return self.load.devices * self.samples

    @property
    def messages(self) -> float:
        """Messages: readings, repeats and poison."""
        return self.readings * (1 + self.repeats + self.poison)

    def periods(self, group: Group, seconds: int) -> int:
        """Return the periods of so many seconds in which a device of a group has readings."""
        span_ms = round((self.samples - 1) * group.interval_s * 1000)
        last, first = self.ends_ms, self.ends_ms - span_ms
        return min(self.samples, last // (seconds * 1000) - first // (seconds * 1000) + 1)


def units_of_run(run: Run) -> dict[str, float]:
    """Return the units that a run should cost, by the names under which they are counted."""
    load = run.load
    parts = sum(_each(group).message_parts / _each(group).messages * group.devices for group in load.groups)
    sizes = sum(_each(group).metered_bytes / _each(group).messages * group.devices for group in load.groups)
    a_device = run.messages / load.devices
    presence = load.devices * rates.RECONNECTS_A_DEVICE_DAY * 2
    ingested = sizes * a_device
    return {
        "messages": parts * a_device * (1 - run.basic_ingest),
        "rules": parts * a_device + presence,
        "actions": parts * a_device + presence,
        "ingested_bytes": ingested,
        "retrieved_bytes": ingested,
        "write_units": _writes(run),
        "read_units": _reads(run),
        "reread_units": _reread(run),
        "s3_puts": run.batches + run.redelivered + _commits(run) + run.lanes,
        "quarantine_puts": _poisoned(run) * (run.batches + run.redelivered),
        "s3_gets": 0.0,  # one environment, which has everything in memory
        "notifications": float(run.anomalies * rates.NOTICES_AN_EVENT),
    }


def _each(group: Group) -> Load:
    return Load(groups=(replace(group, devices=1),))


def _commits(run: Run) -> float:
    """Return the commits of batches: those of each lane that a batch touches."""
    readings = run.readings / run.batches if run.batches else 0.0
    return run.batches * run.lanes * (1 - (1 - 1 / run.lanes) ** readings) if run.lanes > 1 else float(run.batches)


def _writes(run: Run) -> float:
    """Minutes, hours and days that end, metadata, pointers of lanes and anomalies."""
    total = 0.0
    for group in run.load.groups:
        ended = sum(run.periods(group, seconds) - 1 for seconds in (rates.HOUR_S, rates.DAY_S))
        minutes = run.periods(group, rates.MINUTE_S) * group.minute_units
        total += group.devices * (minutes + ended * math.ceil(group.hour_bytes / rates.UNIT_BYTES))
        total += group.devices * (1 + run.wall_s / rates.METADATA_S)
    # The last sweep closes the minutes that are open, in one commit a lane.
    commits = _commits(run) * (1 + _acknowledged(run)) + 2 * run.lanes
    return total + commits + run.anomalies * rates.WRITES_AN_EVENT


def _acknowledged(run: Run) -> float:
    """Return the share of commits from which something follows, as `Load.acknowledged`, at the run's pace."""
    ending = sum(
        group.devices
        * min(1.0, (min(group.interval_s, rates.MINUTE_S) * (1 + run.samples / run.batches)) / rates.MINUTE_S)
        for group in run.load.groups
    )
    return ending / run.load.devices if run.batches else 0.0


def _reads(run: Run) -> float:
    """The lanes of each invocation and sweep, and once each device, which no table has yet."""
    return _commits(run) * (1 + run.redelivered / max(1, run.batches)) + run.sweeps * run.lanes + run.load.devices


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
    """Return by how much a unit may differ in a short run.

    A batch that is cut short may touch no lane but one, and be delivered again, which costs reads. Each sweep commits
    the lanes of which something is over by then, or none.
    """
    commits = run.lanes * max(run.sweeps, 1)
    return {"write_units": 2 * commits, "read_units": 2 * run.lanes, "s3_puts": commits}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A unit as it was expected and as it was counted.

    Args:
        margin: How much more or less is right in any case.
        why_not: Why it is shown and not judged.
    """

    unit: str
    expected: float
    measured: float
    margin: float = 0
    why_not: str = ""

    @property
    def deviation(self) -> float:
        """The measured count in relation to the expected one, less 1; infinite where none was expected."""
        if self.expected:
            return self.measured / self.expected - 1
        return math.inf if self.measured else 0.0

    @property
    def is_off(self) -> bool:
        """Whether it is judged, and differs by more than the tolerance and the margin."""
        allowed = max(TOLERANCE * self.expected, self.margin)
        return not self.why_not and abs(self.measured - self.expected) > allowed

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
        margins: By how much units may differ in any case.
        why_not: Units that are not judged, and why.
    """
    return tuple(
        Comparison(
            unit=unit,
            expected=count,
            measured=measured.get(unit, 0.0),
            margin=(margins or {}).get(unit, 0.0),
            why_not=(why_not or {}).get(unit, ""),
        )
        for unit, count in expected.items()
    )
