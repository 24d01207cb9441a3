"""Commits readings to lanes exactly once: load, fold, write the state, move the pointer, emit what follows.

State is committed, effects follow. A lane's pointer moves from one version to the next by a conditional write, so its
committed states are one chain. What leaves the state for the tables is in the outbox of that state until the tables
have answered; any process that finds it there emits it again, with the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .adapters import Retry, Unavailable
from .adapters.archive import Archive, refused_object, unpublished_objects
from .adapters.lanes import LaneStore
from .adapters.notifier import Notifier
from .adapters.store import Store
from .ingest.log import Log
from .ingest.reading import Reading
from .planning.device_state import pack_state, unpack_state
from .planning.lane import (
    Lane,
    LaneError,
    LaneMemory,
    Link,
    Outbox,
    Pointer,
    Resident,
    lane_name,
    lane_of,
    pack_object,
    state_key,
    unpack_objects,
)
from .planning.planner import Folded, Folder, Stored, Tally, Wanted, take_over, wanted_of

TRIES = 5
"""Times that a lane's readings are folded while other processes move the lane."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Outcome of a batch.

    `failed` have to come again. `rejected` are readings for quarantine, with reason and detail. `tallies` are by
    facility and device type. `faults` and `notes` are for the log. `waiting` notifications are not published yet;
    `oldest` (ms) is since when the tables have not taken something that was committed, 0 for nothing.
    """

    failed: list[Reading] = field(default_factory=list)
    faults: set[str] = field(default_factory=set)
    rejected: list[tuple[Reading, str, str]] = field(default_factory=list)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    waiting: int = 0
    oldest: int = 0

    def add_committed(self, name: str, folded: Folded) -> None:
        """Add a device that was committed, or whose readings were all known."""
        self.rejected += [(reading, "minute_full", MINUTE_FULL) for reading in folded.overflow]
        self.tallies.setdefault((folded.facility, folded.device_type), Tally()).add(folded.tally)
        if folded.tally.conflicts:
            self.notes.append(f"{name} sent {folded.tally.conflicts} messages with the id of an earlier one")
        if folded.lost_state is not None:
            self.notes.append(f"{name} lost its detectors' state and learns again: {folded.lost_state}")

    def add_left(self, left: Outbox) -> None:
        """Add what could not be emitted."""
        self.waiting += len(left.notices)
        if left.waits_for_tables:
            self.oldest = min(self.oldest or left.since, left.since)


PRESSING = "lane {} waits for the tables to take what was committed before"

MINUTE_FULL = "its minute has as many messages as fit into one item"


@dataclass(slots=True, kw_only=True)
class _Batch:
    """A batch or a sweep: its readings by lane are folded at `now` (ms)."""

    retry: Retry
    log: Log
    now: int
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLog:
    """The lanes of an environment, and all that commits to them."""

    lanes: LaneStore
    store: Store
    archive: Archive
    notifier: Notifier
    memory: LaneMemory
    folder: Folder

    def commit(self, readings: Iterable[Reading], *, retry: Retry, log: Log, now: int) -> Outcome:
        """Commit readings; those that could not be committed in time are in `failed`. `now` is the clock, in ms."""
        batch = _Batch(retry=retry, log=log, now=now)
        readings = list(readings)
        try:
            lanes = self.lanes.number(fixes=bool(readings), retry=retry)
        except Unavailable as error:
            batch.outcome.faults.add(str(error))
            batch.outcome.failed += readings
            return batch.outcome
        by_lane: defaultdict[str, list[Reading]] = defaultdict(list)
        for reading in readings:
            by_lane[lane_of(reading.envelope.thing, lanes)].append(reading)
        for lane, group in by_lane.items():
            if not self._advance(lane, group, batch):
                batch.outcome.failed += group
        return batch.outcome

    def sweep(self, *, retry: Retry, log: Log, now: int) -> tuple[Outcome, bool]:
        """Emit what no batch has, and close what is over by the clock, in all lanes; return whether all were done."""
        batch = _Batch(retry=retry, log=log, now=now)
        try:
            lanes = self.lanes.number(fixes=False, retry=retry)
        except Unavailable as error:
            batch.outcome.faults.add(str(error))
            return batch.outcome, False
        names = [lane_name(number, lanes) for number in range(lanes)]
        done = [self._advance(name, (), batch) for name in names]
        batch.outcome.waiting += self.notifier.sweep(now=now, retry=retry, log=log)
        return batch.outcome, all(done)

    def _advance(self, name: str, readings: Sequence[Reading], batch: _Batch) -> bool:
        """Commit a lane's readings, and what is over by the clock; return whether that was done."""
        outcome = batch.outcome
        try:
            for attempt in range(1, TRIES + 1):
                lane = self._load(name, batch, may_begin=bool(readings))
                if lane is None:
                    return True
                try:
                    if self._commit(lane, readings, batch):
                        return True
                finally:
                    self.memory.put(lane)  # as it is committed, whatever became of this attempt
                if not batch.retry.pause(attempt):
                    break
        except (Unavailable, LaneError) as error:
            outcome.faults.add(str(error))
            return False
        outcome.faults.add(f"lane {name} was still being moved by other processes after {TRIES} attempts")
        return False

    # Load.

    def _load(self, name: str, batch: _Batch, *, may_begin: bool) -> Lane | None:
        """Return the lane as it is committed, of which memory may have most; None if it has never committed."""
        known = self.memory.pop(name)
        pointer = self.lanes.read(name, retry=batch.retry)
        if pointer is None:
            if not may_begin:
                return None
            # Versions begin with the time, so that those of a lane that was lost are lower.
            return Lane(pointer=Pointer(lane=name, version=batch.now, acked=batch.now, is_stored=False))
        missing = _missing(known, pointer)
        lane = known if known is not None and missing < len(pointer.chain) else Lane(pointer=pointer)
        lane.pointer = pointer
        if missing:
            unpack_objects(self.lanes.fetch(pointer.keys(missing), retry=batch.retry), into=lane)
        if pointer.acked == pointer.version:
            lane.outbox = Outbox()
        return lane

    # Fold and commit.

    def _commit(self, lane: Lane, readings: Sequence[Reading], batch: _Batch) -> bool:
        """Advance a lane once; return False if another process was first."""
        outcome, before = batch.outcome, lane.pointer
        if before.acked < before.version:
            lane.outbox = self._emit(lane.outbox, batch)
        is_pressing = lane.outbox.is_pressing(batch.now)
        if is_pressing and not before.is_base_old(batch.now):
            outcome.add_left(lane.outbox)
            raise Unavailable(PRESSING.format(before.lane))
        rejected: list[tuple[Reading, str, str]] = []
        folded, outbox = ({}, Outbox()) if is_pressing else self._fold(lane, readings, batch, rejected)
        changes = {name: each.resident for name, each in folded.items() if each.resident is not None}
        if not changes and not before.is_base_old(batch.now):
            self._settle(lane, batch)
        else:
            is_base = before.needs_base(batch.now)
            merged = Outbox(
                since=lane.outbox.since,
                items=[*lane.outbox.items],
                begins=[*lane.outbox.begins],
                devices=[*lane.outbox.devices],
                notices=[*lane.outbox.notices],
            )
            for added in (outbox, *(each.outbox for each in folded.values())):
                merged.extend(added)
            merged.since = (lane.outbox.since or batch.now) if merged.waits_for_tables else 0
            body = pack_object({**lane.devices, **changes} if is_base else changes, merged, is_base=is_base)
            link = Link(self.lanes.nonce(), len(body))
            after = before.next(link, is_base=is_base, is_acked=not merged, now=batch.now)
            self.lanes.put(state_key(after.lane, after.version, link.nonce), body, retry=batch.retry)
            if not self.lanes.move(before, after, retry=batch.retry):
                return False
            lane.pointer, lane.outbox = after, merged
            lane.apply(changes)
            if merged:
                lane.outbox = self._emit(merged, batch)
            self._settle(lane, batch)
        if is_pressing:  # only its old base was written again
            outcome.add_left(lane.outbox)
            raise Unavailable(PRESSING.format(before.lane))
        outcome.rejected += rejected
        things = {reading.envelope.thing for reading in readings}
        for name, device_folded in folded.items():
            if name in things:
                outcome.add_committed(name, device_folded)
        outcome.add_left(lane.outbox)
        return True

    def _settle(self, lane: Lane, batch: _Batch) -> None:
        """Acknowledge the lane's version if all that follows from it was emitted."""
        pointer = lane.pointer
        if lane.outbox or pointer.acked == pointer.version:
            return
        try:
            self.lanes.acknowledge(pointer, retry=batch.retry)
        except Unavailable as error:
            batch.outcome.faults.add(str(error))  # it is emitted once more

    def _fold(
        self, lane: Lane, readings: Sequence[Reading], batch: _Batch, rejected: list[tuple[Reading, str, str]]
    ) -> tuple[dict[str, Folded], Outbox]:
        """Fold readings, and close what is over; return the outcome by device, and notices that were taken over."""
        by_device: defaultdict[str, list[Reading]] = defaultdict(list)
        for reading in readings:
            by_device[reading.envelope.thing].append(reading)
        outbox = Outbox()
        residents = self._residents(lane, by_device, outbox, batch)
        wanted: dict[str, Wanted] = {}
        for name, group in by_device.items():
            resident = residents.get(name)
            if resident is not None and (each := wanted_of(unpack_state(resident.packed), group)):
                wanted[name] = each
        stored = self.store.load_stored(wanted, lane.outbox, retry=batch.retry)
        revision = lane.pointer.version + 1
        folded: dict[str, Folded] = {}
        for name, group in by_device.items():

            def fold(some: Sequence[Reading], name: str = name) -> Folded:
                # A fold changes what is stored: after one that raised it is read again.
                known = stored.pop(name, None)
                if known is None and name in wanted:
                    known = self.store.load_stored({name: wanted[name]}, lane.outbox, retry=batch.retry)[name]
                return self.folder.fold(
                    name, residents.get(name), readings=some, stored=known or Stored(), revision=revision
                )

            found = _folded(fold, group, rejected)
            if found is not None:
                folded[name] = found
        now = max([reading.envelope.received_at for reading in readings], default=batch.now)
        for name, resident in lane.devices.items():
            if 0 < resident.due <= now and name not in by_device:
                try:
                    folded[name] = self.folder.close(name, resident, now=now, revision=revision)
                except Exception as error:
                    batch.outcome.notes.append(f"{name} could not be closed: {error!r}")
        return folded, outbox

    def _residents(
        self, lane: Lane, by_device: Mapping[str, Sequence[Reading]], outbox: Outbox, batch: _Batch
    ) -> dict[str, Resident]:
        """Return the packed states; of devices that the lane does not have, from the devices table."""
        residents = {name: lane.devices[name] for name in by_device if name in lane.devices}
        new = [name for name in by_device if name not in residents]
        if new:
            found = self.store.load_devices(new, strange=batch.outcome.notes.append, retry=batch.retry)
            opened = self.store.load_open(list(found.values()), retry=batch.retry)
            for (name, device), (hours, days) in zip(found.items(), opened, strict=True):
                residents[name] = pack_state(name, take_over(device, hours=hours, days=days))
                outbox.notices += device.outbox
        return residents

    # Emit.

    def _emit(self, outbox: Outbox, batch: _Batch) -> Outbox:
        """Emit what follows from a committed state; return what is left of it."""
        retry, outcome = batch.retry, batch.outcome

        def refused(item: bytes, why: str) -> None:
            self.archive.put(refused_object(item, why=why, now=batch.now), retry=retry)
            outcome.notes.append(f"DynamoDB refuses an item for ever; it is in quarantine: {why}")

        begins, begin_faults = self.store.put_events(outbox.begins, refused=refused, retry=retry)
        notices = self.notifier.publish(outbox.notices, now=batch.now, retry=retry, log=batch.log)
        items, item_faults = self.store.put_items(outbox.items, refused=refused, retry=retry)
        devices, device_faults = self.store.put_devices(outbox.devices, refused=refused, retry=retry)
        outcome.faults |= begin_faults | item_faults | device_faults
        left = Outbox(since=outbox.since, items=items, begins=begins, devices=devices, notices=notices)
        if not left.waits_for_tables:
            left.since = 0
        if excess := left.excess_notices():
            try:
                for entry in unpublished_objects(excess, now=batch.now):
                    self.archive.put(entry, retry=retry)
                outcome.notes.append(f"the topic takes nothing: {len(excess)} notifications are in quarantine")
            except Unavailable as error:
                left.notices[:0] = excess
                outcome.faults.add(str(error))
        return left


def _folded(
    fold: Callable[[Sequence[Reading]], Folded], group: Sequence[Reading], rejected: list[tuple[Reading, str, str]]
) -> Folded | None:
    """Fold one device without the readings that raise: its fault must not keep others from being counted."""
    try:
        return fold(group)
    except Unavailable:
        raise
    except Exception as fault:
        good, detail = [], repr(fault)
        for reading in group if len(group) > 1 else ():
            try:
                fold([reading])
                good.append(reading)
            except Unavailable:
                raise
            except Exception as error:
                detail = repr(error)
    if len(good) == len(group) or not good:
        good = []
    rejected += [(reading, "processing", detail[:300]) for reading in group if reading not in good]
    return fold(good) if good else None


def _missing(known: Lane | None, pointer: Pointer) -> int:
    """Return how many objects of the chain memory lacks, from its end."""
    if known is not None and known.pointer.chain:
        last, behind = known.pointer.chain[-1], pointer.version - known.pointer.version
        if 0 <= behind < len(pointer.chain) and pointer.chain[-1 - behind] == last:
            return behind
    return len(pointer.chain)
