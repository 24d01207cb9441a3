"""Plan a simulation: which things publish what, and when."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle, zip_longest

from fleet_iot.lib.specs import DeviceTypeSpec, FacilitySpec
from fleet_iot.operations.project import Project, Thing
from fleet_iot.operations.rehearsal.simulator.signals import (
    Injection,
    plan_injection,
    poison_payload,
    samples_of,
)


def choose_things(
    project: Project, facilities: tuple[FacilitySpec, ...], count: int | None
) -> list[tuple[Thing, DeviceTypeSpec]]:
    """Choose `count` things (None: all) with their types, one of each facility and device type in turn."""
    types = {device_type.id: device_type for device_type in project.fleet.device_types}
    queues: dict[tuple[str, str], list[Thing]] = {}
    for facility in facilities:
        for thing in project.things(facility):
            queue = queues.setdefault((thing.facility, thing.device_type), [])
            if count is None or len(queue) < count:
                queue.append(thing)
    in_turn = [thing for row in zip_longest(*queues.values()) for thing in row if thing is not None]
    return [(thing, types[thing.device_type]) for thing in in_turn[:count]]


WARM_UP_SAMPLES = 130
"""Samples before an anomaly within the limits: the adaptive detector does not score its first 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One publish. `kind` is `reading`, `poison` or `repeat` (the same bytes again); `metrics` is the truth."""

    thing: Thing
    kind: str
    poison: str | None
    time_ms: int
    sequence: int
    metrics: Mapping[str, float]
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One injected anomaly; times are those of the device's clock, ms since the epoch."""

    thing: str
    metric: str
    within_limits: bool
    first_ms: int
    last_ms: int
    interval_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """Shares (0–1) of things with an anomaly, and of messages that are poison or repeated."""

    anomalies: float
    poison: float
    repeats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ThingSchedule:
    """One thing's whole run."""

    thing: Thing
    device_type: DeviceTypeSpec
    seed: int
    first_ms: int
    interval_ms: int
    samples: int
    injection: Injection | None
    dose: Dose
    recording: tuple[Mapping[str, float], ...] = ()

    def anomaly(self) -> Anomaly | None:
        """Return the injected anomaly, by the device's clock."""
        if self.injection is None:
            return None
        return Anomaly(
            thing=self.thing.name,
            metric=self.injection.metric,
            within_limits=self.injection.within_limits,
            first_ms=self.first_ms + self.injection.first * self.interval_ms,
            last_ms=self.first_ms + self.injection.last * self.interval_ms,
            interval_ms=self.interval_ms,
        )

    def messages(self) -> Iterator[Message]:
        """Generate the messages in the order of sending; the same schedule gives the same bytes."""
        signal: Iterator[Mapping[str, float]]
        if self.recording:
            signal = cycle(self.recording)
        else:
            rng = _rng(self.seed, self.thing.name, "signal")
            signal = samples_of(self.device_type, rng=rng, injection=self.injection)
        chance = _rng(self.seed, self.thing.name, "chance")
        poisoned = chance.randrange(1_000)
        for sequence in range(self.samples):
            metrics = next(signal)
            time_ms = self.first_ms + sequence * self.interval_ms
            reading = _reading(self.thing, time_ms, sequence, metrics)
            yield reading
            if chance.random() < self.dose.repeats:
                yield replace(reading, kind="repeat")
            if chance.random() < self.dose.poison:
                kind, payload = poison_payload(poisoned, time_ms)
                poisoned += 1
                yield Message(
                    thing=self.thing,
                    kind="poison",
                    poison=kind,
                    time_ms=time_ms,
                    sequence=sequence,
                    metrics={},
                    payload=payload,
                )


def schedules(
    things: list[tuple[Thing, DeviceTypeSpec]],
    *,
    seed: int,
    samples: Callable[[DeviceTypeSpec], int],
    end_ms: int,
    dose: Dose,
) -> list[ThingSchedule]:
    """Plan a schedule for each thing: `samples` readings, the last at `end_ms`, a sample interval apart.

    Every second anomaly stays within the limits; things get theirs in a seeded order.
    """
    order = list(range(len(things)))
    _rng(seed, "fleet", "anomalies").shuffle(order)
    chosen = {index: rank for rank, index in enumerate(order[: round(dose.anomalies * len(things))])}
    result = []
    for index, (thing, device_type) in enumerate(things):
        interval_ms = max(1, round(device_type.sample_interval_s * 1000))
        injection, count = None, samples(device_type)
        if index in chosen:
            injection = plan_injection(
                device_type,
                rng=_rng(seed, thing.name, "injection"),
                samples=count,
                warm_up=WARM_UP_SAMPLES,
                within_limits=chosen[index] % 2 == 0,
            )
        result.append(
            ThingSchedule(
                thing=thing,
                device_type=device_type,
                seed=seed,
                first_ms=end_ms - (count - 1) * interval_ms,
                interval_ms=interval_ms,
                samples=count,
                injection=injection,
                dose=dose,
            )
        )
    return result


def _reading(thing: Thing, time_ms: int, sequence: int, metrics: Mapping[str, float]) -> Message:
    payload = json.dumps({"time": time_ms, "sequence": sequence, "metrics": dict(metrics)}).encode()
    return Message(
        thing=thing,
        kind="reading",
        poison=None,
        time_ms=time_ms,
        sequence=sequence,
        metrics=metrics,
        payload=payload,
    )


def _rng(seed: int, *parts: str) -> random.Random:
    return random.Random(":".join((str(seed), *parts)))  # noqa: S311 - signals, not secrets
