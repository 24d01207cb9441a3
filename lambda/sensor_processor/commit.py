"""Writes readings to the tables exactly once: load, plan, write, and again where another writer was first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .adapters import Retry, Unavailable
from .adapters.store import Store, Verdict
from .ingest.catalogue import Catalogue
from .ingest.reading import Reading
from .numbers.minute import Minute, minute_of
from .numbers.period import Level, OpenHour, PeriodKey, closed_periods
from .planning.device_cache import DeviceCache
from .planning.items import Retention
from .planning.planner import Chunk, Plan, Tally, plan_device


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Outcome of a batch.

    `failed` have to come again. `overflow` are readings whose minute is full. `tallies` are by facility and device
    type. `notices`, by device, are to be published. `faults` and `notes` are for the log.
    """

    failed: list[Reading] = field(default_factory=list)
    faults: set[str] = field(default_factory=set)
    overflow: list[Reading] = field(default_factory=list)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    notices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def add_committed(self, chunk: Chunk) -> None:
        """Add a chunk that was written."""
        self.overflow += chunk.overflow
        self.tallies.setdefault((chunk.facility, chunk.device_type), Tally()).add(chunk.tally)
        if chunk.tally.conflicts:
            self.notes.append(f"{chunk.device} sent {chunk.tally.conflicts} messages with the id of an earlier one")


def commit(
    readings: Iterable[Reading],
    *,
    store: Store,
    catalogue: Catalogue,
    retention: Retention,
    cache: DeviceCache,
    retry: Retry,
) -> Outcome:
    """Write what the readings change; those that could not be written in time are in `failed`."""
    by_device: defaultdict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_device[reading.envelope.thing].append(reading)
    pending = dict(by_device)
    outcome = Outcome()
    attempt = 0
    while pending:
        try:
            plans = _plans(pending, store=store, catalogue=catalogue, retention=retention, cache=cache, retry=retry)
        except Unavailable as error:
            outcome.faults.add(str(error))
            break
        for device, plan in plans.items():
            if plan.lost_state is not None:
                outcome.notes.append(f"{device} lost its detectors' state and learns again: {plan.lost_state}")
        _write_rounds(plans, pending=pending, outcome=outcome, store=store, cache=cache, retry=retry)
        attempt += 1
        if pending and not retry.pause(attempt):
            outcome.faults.add(f"{len(pending)} devices were still being written by others after {attempt} attempts")
            break
    for left in pending.values():
        outcome.failed += left
    return outcome


def _plans(
    pending: Mapping[str, Sequence[Reading]],
    *,
    store: Store,
    catalogue: Catalogue,
    retention: Retention,
    cache: DeviceCache,
    retry: Retry,
) -> dict[str, Plan]:
    cached = cache.pop(pending)
    devices = {name: known.device for name, known in cached.items()}
    # Not for devices that are read: another process may have counted more of their current hour.
    open_hours = {name: known.open_hour for name, known in cached.items()}
    devices |= store.load_devices([name for name in pending if name not in devices], retry=retry)
    wanted, wanted_parts = [], []
    for name, readings in pending.items():
        device = devices.get(name)
        last = None if device is None else device.newest_reading
        times = [reading.time for reading in readings]
        # Nearly always nothing: a known device continues in its hour, with its next minute.
        wanted += _minutes_to_load(name, last, times)
        since = retention.kept_since(reading.arrived_at for reading in readings)
        wanted_parts += _parts_to_load(name, last, times, open_hours.get(name), since=since)
    minutes = store.load_minutes(wanted, retry=retry)
    parts = store.load_parts(wanted_parts, retry=retry)
    by_device: dict[str, dict[int, Minute]] = {}
    for (name, start), minute in minutes.items():
        by_device.setdefault(name, {})[start] = minute
    return {
        name: plan_device(
            device=devices.get(name),
            minutes=by_device.get(name, {}),
            parts=parts,
            open_hour=open_hours.get(name),
            readings=readings,
            catalogue=catalogue,
            retention=retention,
            cache=cache,
        )
        for name, readings in pending.items()
    }


def _minutes_to_load(name: str, last: int | None, times: Sequence[int]) -> list[tuple[str, int]]:
    """List the minutes that may be stored: of a known device, none begins after its newest reading, `last` (ms)."""
    return [(name, start) for start in sorted(set(map(minute_of, times))) if last is None or start <= last]


def _parts_to_load(
    name: str, last: int | None, times: Sequence[int], open_hour: OpenHour | None, *, since: int
) -> list[PeriodKey]:
    """List the hours and days that the readings close or change, without those that are cached or cannot be stored."""
    hours, days = closed_periods(last, times, since_ms=since)
    known = None if open_hour is None else open_hour.hour.start
    keys = [(name, Level.HOUR, start) for start in hours if start != known]
    keys += [(name, Level.DAY, start) for start in days]
    return [key for key in keys if last is None or key[2] <= last]


def _write_rounds(
    plans: Mapping[str, Plan],
    *,
    pending: dict[str, list[Reading]],
    outcome: Outcome,
    store: Store,
    cache: DeviceCache,
    retry: Retry,
) -> None:
    """Write the first chunks of all devices, then the second ones, and so on.

    Removes from `pending` what was written or failed; the rest has to be planned again.
    """
    waiting = {name: list(plan.chunks) for name, plan in plans.items()}
    while waiting:
        firsts = {name: chunks.pop(0) for name, chunks in waiting.items()}
        written = store.write(list(firsts.values()), retry=retry)
        for name, chunk in firsts.items():
            verdict = written[name].verdict
            if verdict is Verdict.COMMITTED:
                outcome.add_committed(chunk)
                if len(chunk.readings) == len(pending[name]):
                    pending[name] = []
                else:
                    written_ids = set(map(id, chunk.readings))  # not by record, which may have several
                    pending[name] = [reading for reading in pending[name] if id(reading) not in written_ids]
            elif verdict is Verdict.FAILED:
                outcome.failed += pending.pop(name)
                outcome.faults.add(written[name].detail)
            if verdict is not Verdict.COMMITTED or not waiting[name]:
                del waiting[name]
            if not pending.get(name, True):
                del pending[name]
                device = plans[name].device
                if device is not None:
                    cache.put(device, plans[name].open_hour)
                if plans[name].notices:
                    outcome.notices[name] = plans[name].notices
