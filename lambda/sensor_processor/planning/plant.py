"""A plant's notifications: one message for one trouble of several machines, and none while it is shelved; no I/O.

Events of a few machines within ten minutes are notified one by one: of as many as is usual in the plant, and some more.
More machines are a flood: one message when it starts, further ones only as it grows tenfold or becomes critical, one
when it is over. `Plant` is the state from which this is decided, by the identity of events, so that a decision that is
made again is the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import exp, sqrt
from typing import Any

import msgspec

from ..detection import BEGIN, CRITICAL, END, ESCALATED, WARNING
from .items import Notice, iso

WINDOW_MS = 10 * 60_000
"""Events that begin within so long belong together; a flood is over after so long without a begin or an end."""

MACHINES, FIRST = 3, 3
"""Machines whose events are notified one by one within the window, where few are usual; more are a flood. Events of a
flood that are notified by themselves, where it comes in one batch."""

USUAL_MS = 7 * 24 * 60 * 60_000
"""Time that the usual number of machines in a window is learned from."""

FIRST_WINDOWS = 24 * 60 * 60_000 / WINDOW_MS
"""Windows without an event that count as learned before a plant's first one: a day."""

BEGUN, MOST_USUAL = 500, 400
"""Latest machines of the window that are counted, and most that count as usual."""

RECENT = 50
"""Latest events that were notified one by one, which a flood that starts takes along."""

GROWTH = 10
"""Factor by which the number of machines has grown when a flood is notified again."""

STRAGGLERS = 10
"""A flood counts as over while one in so many of its machines, or MACHINES, are still on; those get a message more."""

FLOODS = 4
FOLLOWED_MS = 7 * 24 * 60 * 60_000
"""Floods of a plant that are followed at once, and for how long; an older one is closed with what is still on."""

ON, OVER = 5_000, 500
"""Events of a plant's floods that are followed while they last, machines of a flood that are counted, and events of one
that are over: the item has at most 400 kB. Of a flood that has more, ends are not notified."""

HELD, SILENT = 50, 200
"""Events that wait for the end of a shelf, beyond which further ones are notified; and that were over before it."""

FLOOD, SEVERAL = "flood", "several"
"""Detector of a flood's message, and its device type where machines of several are in it."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


PLANT, INDEX = "plant#", "plants"
"""Key of a plant's item in the lanes table before its id, and of the item that lists the plants."""

LISTED, SHELF, MESSAGE = "plant ", "shelf ", "message "
"""Prefixes of attributes of the list and of a plant's item: ids by themselves could be names of other attributes."""

MOST_SHELF_MS = 7 * 24 * 60 * 60_000
"""No shelf lasts longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Events of a thing, or of one metric of it, are not notified until `until` (ms). `at` is when it was set."""

    thing: str
    metric: str | None = None
    until: int
    by: str = ""
    at: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """Return the attribute's name."""
        return f"{SHELF}{self.thing}" if self.metric is None else f"{SHELF}{self.thing} {self.metric}"

    def attribute(self) -> dict[str, Any]:
        """Return the attribute, as DynamoDB JSON."""
        texts = {"by": self.by, "at": self.at, "note": self.note}
        return {"M": {"until": {"N": str(self.until)}, **{name: {"S": text} for name, text in texts.items()}}}

    def covers(self, known: Known, *, now: int) -> bool:
        """Return whether a notification waits."""
        return now < self.until and self.thing == known.thing and self.metric in (None, known.metric)


def shelf_of(name: str, value: Mapping[str, Any]) -> Shelf:
    """Read a shelf from an attribute of a plant's item."""
    thing, _, metric = name.removeprefix(SHELF).partition(" ")
    content = value["M"]
    texts = {text: content[text]["S"] for text in ("by", "at", "note") if text in content}
    return Shelf(thing=thing, metric=metric or None, until=int(content["until"]["N"]), **texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A notification as far as it is decided upon; `key` identifies its event."""

    message: str
    facility: str
    kind: str
    key: bytes
    thing: str
    metric: str
    device_type: str
    began: str
    is_critical: bool
    is_over: bool


def event_key(thing: str, anomaly_id: str) -> bytes:
    """Return 8 bytes that identify an event, of which the first 3 identify its machine."""
    machine = blake2b(thing.encode(), digest_size=3).digest()
    return machine + blake2b(f"{thing}#{anomaly_id}".encode(), digest_size=5).digest()


def machine_of(key: bytes) -> bytes:
    """Return the part of an event's key that identifies its machine."""
    return key[:3]


def known_of(message: str) -> Known | None:
    """Read a notification; None where another version wrote it and it lacks what is needed."""
    content = _content(message)
    try:
        thing, anomaly, metric = content["thing"], content["anomaly_id"], content["metric"]
        return Known(
            message=message,
            facility=content["facility"],
            kind=content["kind"],
            key=event_key(thing, anomaly),
            thing=thing,
            metric=metric,
            device_type=content["device_type"],
            began=content["began_at"],
            is_critical=content["severity"] == CRITICAL,
            is_over=bool(content.get("ended_at")),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def flood_of(message: str) -> tuple[str, str] | None:
    """Return id and kind of a flood's message; None for another one."""
    content = _content(message)
    return (content["anomaly_id"], content["kind"]) if content.get("detector") == FLOOD else None


def _content(message: str) -> dict[str, Any]:
    try:
        return _decode(message)
    except msgspec.MsgspecError:
        return {}


class Begun(msgspec.Struct, kw_only=True):
    """An event that was notified by itself at `at` (ms), within the window."""

    key: bytes
    at: int
    thing: str
    metric: str
    device_type: str
    began: str
    is_critical: bool
    is_on: bool


class Held(msgspec.Struct, kw_only=True):
    """A notification that waits for the end of a shelf. `has_begin`: nothing of its event was published before."""

    key: bytes
    message: str
    has_begin: bool


class Flood(msgspec.Struct, kw_only=True):
    """Events of several machines that are notified together; times in ms.

    `at` is its last begin or end, `grown` its last begin. `told` are events that were notified by themselves.
    `machines` are those of all events so far, `criticals` counts the critical events, of which `critical` are the
    latest and `worst` the first machines since the last message. `is_full`: it has more events than are followed.
    """

    started: int
    at: int
    grown: int
    began: str
    on: set[bytes] = set()
    over: list[bytes] = []
    told: set[bytes] = set()
    machines: set[bytes] = set()
    critical: list[bytes] = []
    criticals: int = 0
    is_full: bool = False
    metrics: dict[str, int] = {}
    device_type: str = ""
    first: list[str] = []
    worst: list[str] = []
    messages: int = 0
    told_at: int = 0
    told_machines: int = 0
    told_critical: int = 0
    is_told_over: bool = False

    def has(self, key: bytes) -> bool:
        """Return whether an event is in it."""
        return key in self.on or key in self.over

    def add(self, event: Begun | Known, *, is_on: bool, is_told: bool, now: int) -> None:
        """Add an event that begins."""
        self.at = self.grown = now
        self.began = min(self.began, event.began)
        if len(self.machines) < ON:
            self.machines.add(machine_of(event.key))
        if len(self.first) < FIRST and event.thing not in self.first:
            self.first.append(event.thing)
        if event.metric in self.metrics or len(self.metrics) < 50:
            self.metrics[event.metric] = self.metrics.get(event.metric, 0) + 1
        self.device_type = event.device_type if self.device_type in ("", event.device_type) else SEVERAL
        if is_told:
            self.told.add(event.key)
        if is_on and not self.is_full:
            self.on.add(event.key)
        else:
            self._ended(event.key)
        if event.is_critical:
            self.worsen(event)

    def worsen(self, event: Begun | Known) -> bool:
        """Note that an event is critical; return whether that is new."""
        if event.key in self.critical:
            return False
        self.critical = [*self.critical, event.key][-OVER:]
        self.criticals += 1
        if len(self.worst) < FIRST and event.thing not in self.worst:
            self.worst.append(event.thing)
        return True

    def end(self, key: bytes, *, now: int) -> None:
        """Note that an event of it is over."""
        self.on.discard(key)
        self._ended(key)
        self.at = now

    def _ended(self, key: bytes) -> None:
        self.over = [*self.over, key][-OVER:]

    @property
    def machines_on(self) -> int:
        """Return the machines with an event that lasts."""
        return len({machine_of(key) for key in self.on})


class Plant(msgspec.Struct, kw_only=True):
    """State of a plant's notifications. `made` numbers the messages that it made.

    `begun` are the machines with an event that began within the window, after its time (ms). What is usual: `learned`
    windows had `machines` machines, older ones counting for less; until `at` (ms), whose window has `tally` so far.
    """

    begun: list[tuple[int, bytes]] = []
    machines: float = 0.0
    learned: float = FIRST_WINDOWS
    at: int = 0
    tally: int = 0
    recent: list[Begun] = []
    floods: list[Flood] = []
    held: list[Held] = []
    silent: list[bytes] = []
    made: int = 0

    @property
    def most(self) -> float:
        """Return the number of machines within the window above which they are a flood."""
        usual = min(self.machines / self.learned, MOST_USUAL)
        return max(MACHINES, usual + 3 * sqrt(usual) + 3)

    def count(self, machines: Collection[bytes], *, now: int) -> bool:
        """Count machines with an event that begins; return whether those of the window are a flood."""
        self._pass(now)
        begun = {machine: at for at, machine in self.begun if now - at < WINDOW_MS}
        most, tally = self.most, self.tally
        self.tally += sum(machine not in begun for machine in machines)
        # No window counts for more than is no flood: so a flood hardly changes what is usual; one of days does.
        self.machines += min(self.tally, most) - min(tally, most)
        begun |= dict.fromkeys(machines, now)
        self.begun = sorted((at, machine) for machine, at in begun.items())[-BEGUN:]
        return len(begun) > most

    def _pass(self, now: int) -> None:
        """Let time pass in what is learned."""
        if now <= self.at:
            return
        if self.at:
            left = exp((self.at - now) / USUAL_MS)
            self.machines *= left
            self.learned = self.learned * left + (1 - left) * USUAL_MS / WINDOW_MS
        if self.at // WINDOW_MS != now // WINDOW_MS:
            self.tally = 0
        self.at = now


@dataclass(slots=True, kw_only=True)
class Decision:
    """Decide notifications of one plant at `now` (ms): changes `plant`, which has to be stored if `is_changed`.

    `made` are messages that the plant makes, in order; with the state they are stored until they are published.
    """

    facility: str
    plant: Plant
    shelves: Sequence[Shelf]
    now: int
    is_changed: bool = False
    made: list[str] = field(default_factory=list)
    _joined: set[bytes] = field(default_factory=set)

    def decide(self, notices: Sequence[Known]) -> list[bool]:
        """Return for each notification whether to publish it by itself; the others are in a flood, or wait."""
        waits = [self._waits(each) for each in notices]
        fresh = [
            each
            for each, is_waiting in zip(notices, waits, strict=True)
            if not is_waiting and each.kind == BEGIN and not self._is_known(each.key)
        ]
        self._begin({each.key: each for each in fresh})
        alone = [not waiting and self._is_alone(each) for each, waiting in zip(notices, waits, strict=True)]
        self._update()
        return alone

    def sweep(self) -> None:
        """Notify what is over, and what waited for shelves that are over."""
        self._release()
        self._update()

    # Begins.

    def _is_known(self, key: bytes) -> bool:
        return self._flood_of(key) is not None or any(each.key == key for each in self._recent())

    def _recent(self) -> list[Begun]:
        return [each for each in self.plant.recent if self.now - each.at < WINDOW_MS]

    def _flood_of(self, key: bytes) -> Flood | None:
        return next((each for each in self.plant.floods if each.has(key)), None)

    def _begin(self, fresh: Mapping[bytes, Known]) -> None:
        """Add events that begin: to the running flood, to those that are notified one by one, or to a new flood."""
        if not fresh:
            return
        self.is_changed = True
        plant, now = self.plant, self.now
        recent = plant.recent = self._recent()
        flood = plant.floods[-1] if plant.floods else None
        is_flood = plant.count({machine_of(key) for key in fresh}, now=now)
        if is_flood and flood is not None and now - flood.grown < WINDOW_MS:
            self._join(flood, fresh.values())
            return
        # Critical ones first, where only some can be notified by themselves.
        ordered = sorted(fresh.values(), key=lambda each: not each.is_critical)
        alone = ordered[: max(0, FIRST - len(recent))] if is_flood else ordered
        recent += [
            Begun(
                key=each.key,
                at=now,
                thing=each.thing,
                metric=each.metric,
                device_type=each.device_type,
                began=each.began,
                is_critical=each.is_critical,
                is_on=not each.is_over,
            )
            for each in alone
        ]
        if not is_flood:
            plant.recent = recent[-RECENT:]
            return
        flood = Flood(started=now, at=now, grown=now, began=ordered[0].began)
        for told in recent:
            flood.add(told, is_on=told.is_on, is_told=True, now=now)
        plant.recent = []
        plant.floods.append(flood)
        self._join(flood, ordered[len(alone) :])

    def _join(self, flood: Flood, events: Iterable[Known]) -> None:
        followed = sum(len(each.on) for each in self.plant.floods)
        for event in events:
            flood.is_full |= followed >= ON
            flood.add(event, is_on=not event.is_over, is_told=False, now=self.now)
            self._joined.add(event.key)
            followed += 1

    # What follows.

    def _is_alone(self, known: Known) -> bool:
        """Return whether to publish a notification by itself, after all begins with it are added."""
        flood = self._flood_of(known.key)
        if flood is None:
            for recent in self.plant.recent:
                if recent.key == known.key and known.kind != BEGIN:
                    self._follow(recent, known)
                    return True
            flood = next((each for each in self.plant.floods if each.is_full), None)
            if flood is None or known.kind == BEGIN:
                return known.key not in self._joined
        if known.kind == BEGIN:
            return known.key in flood.told
        if known.kind == END and known.key in flood.on:
            flood.end(known.key, now=self.now)
            self.is_changed = True
        elif known.kind == ESCALATED and known.is_critical and flood.worsen(known):
            self.is_changed = True
        return False

    def _follow(self, recent: Begun, known: Known) -> None:
        """Keep how an event goes on that was notified by itself: it may become one of a flood."""
        is_on, is_critical = recent.is_on and known.kind != END, recent.is_critical or known.is_critical
        if (is_on, is_critical) != (recent.is_on, recent.is_critical):
            recent.is_on, recent.is_critical = is_on, is_critical
            self.is_changed = True

    # Floods.

    def _update(self) -> None:
        """Make the messages of floods that are due, and forget floods that are over."""
        floods, now = self.plant.floods, self.now
        followed = []
        for place, flood in enumerate(floods):
            on, machines = flood.machines_on, len(flood.machines)
            is_quiet = now - flood.at >= WINDOW_MS
            is_over = (is_quiet and not on) or now - flood.started >= FOLLOWED_MS or place < len(floods) - FLOODS
            is_mostly_over = is_quiet and on < machines and on <= max(MACHINES, machines // STRAGGLERS)
            ends = is_over or (is_mostly_over and not flood.is_told_over)
            is_due = ends or not flood.told_critical or now - flood.told_at >= WINDOW_MS
            if not flood.messages:
                self._notify(flood, BEGIN)
            elif machines >= GROWTH * flood.told_machines or (flood.criticals > flood.told_critical and is_due):
                self._notify(flood, ESCALATED)
            if ends:
                flood.is_told_over = True
                self._notify(flood, END)
            if not is_over:
                followed.append(flood)
        self.plant.floods = followed

    def _notify(self, flood: Flood, kind: str) -> None:
        """Make a message of a flood, of which its number and the state make all."""
        flood.messages += 1
        metric = min(flood.metrics, key=lambda name: (-flood.metrics[name], name))
        flood_id = f"{FLOOD}#{iso(flood.started)}"
        self._make(
            _encode(
                Notice(
                    event_id=f"{self.facility}#{flood_id}#{flood.messages}",
                    kind=kind,
                    severity=CRITICAL if flood.criticals else WARNING,
                    text=_text(flood, kind, metric, self.facility),
                    facility=self.facility,
                    device_type=flood.device_type,
                    thing=self.facility,
                    metric=metric,
                    detector=FLOOD,
                    value=float(len(flood.machines)),
                    unit="machines",
                    anomaly_id=flood_id,
                    began_at=flood.began,
                    ended_at=iso(flood.at) if kind == END and not flood.machines_on else None,
                    machines=len(flood.machines),
                )
            ).decode()
        )
        flood.told_at, flood.told_machines = self.now, len(flood.machines)
        flood.told_critical, flood.worst = flood.criticals, []

    def _make(self, message: str) -> None:
        self.made.append(message)
        self.plant.made += 1
        self.is_changed = True

    # Shelves.

    def _is_shelved(self, known: Known) -> bool:
        return any(shelf.covers(known, now=self.now) for shelf in self.shelves)

    def _waits(self, known: Known) -> bool:
        """Return whether a notification is not published while a shelf lasts; keep what to say at its end."""
        held = next((each for each in self.plant.held if each.key == known.key), None)
        if not self._is_shelved(known):
            if held is not None and self._is_held(held):
                self._pass(known, held)
                return False
            if held is not None and known.kind != BEGIN:
                self._hold(known, held)  # the shelf is over, which no sweep has seen yet
                return True
            return held is not None
        if self._flood_of(known.key) is not None or (known.kind == BEGIN and self._is_known(known.key)):
            return False  # it is part of a flood, or was notified before the shelf and comes again
        if held is None and len(self.plant.held) >= HELD:
            return False
        self._hold(known, held)
        return True

    def _is_held(self, held: Held) -> bool:
        """Return whether a shelf lasts for which a notification waits."""
        known = known_of(held.message)
        return known is not None and self._is_shelved(known)

    def _pass(self, known: Known, held: Held) -> None:
        """Note that a notification is published of another metric than the shelved one that has joined its event."""
        if known.kind == END:
            self.plant.held.remove(held)
            self.plant.silent = [*self.plant.silent, known.key][-SILENT:]
            self.is_changed = True
        elif held.has_begin:
            held.has_begin, self.is_changed = False, True

    def _hold(self, known: Known, held: Held | None) -> None:
        plant = self.plant
        if known.key in plant.silent or (held is not None and held.message == known.message):
            return
        if known.kind == BEGIN:
            if known.is_over or held is not None:
                return
        elif held is not None:
            plant.held.remove(held)
        self.is_changed = True
        for recent in plant.recent:
            if recent.key == known.key:
                self._follow(recent, known)
        has_begin = known.kind == BEGIN or (held is not None and held.has_begin)
        if known.kind == END and has_begin:
            plant.silent = [*plant.silent, known.key][-SILENT:]
        else:
            plant.held.append(Held(key=known.key, message=known.message, has_begin=has_begin))

    def _release(self) -> None:
        """Decide what waited for shelves that are over as if it had come now."""
        plant, due = self.plant, []
        for held in list(plant.held):
            if not self._is_held(held):
                plant.held.remove(held)
                self.is_changed = True
                if known := known_of(held.message):
                    due.append(known)
        # An event that has escalated since begins with what was said last.
        self._begin({each.key: each for each in due if each.kind != END and not self._is_known(each.key)})
        for known in due:
            flood = self._flood_of(known.key)
            if flood is None or known.key in flood.told:
                self._make(known.message)  # in no lane's outbox any more
        if plant.silent and not any(self.now < shelf.until for shelf in self.shelves):
            plant.silent, self.is_changed = [], True


def _text(flood: Flood, kind: str, metric: str, facility: str) -> str:
    """Say what is on: `power and 1 other metric: 14 machines of sg-01 since 2026-11-23 14:03 UTC, first …`."""
    others = len(flood.metrics) - 1
    what = metric if not others else f"{metric} and {others} other metric{'s' if others > 1 else ''}"
    count, on = len(flood.machines), flood.machines_on
    machines = f"{count} machine{'s' if count != 1 else ''} of {facility}"
    since = f"since {flood.began[:10]} {flood.began[11:16]} UTC"
    command = f"fleet anomalies list --facility {facility}"
    if kind == END:
        if not on:
            return f"{what}: over on {'all ' if count > 1 else ''}{machines}, {since}"
        return f"{what}: over on {count - on} of {machines}, {since}; still on: {on}; list them: {command}"
    count, new = flood.criticals, flood.criticals - flood.told_critical
    critical = f"; {count} critical event{'s' if count != 1 else ''}" if count else ""
    if new:
        critical += f"{f', {new} of them new' if new < count else ''}, first on {_listed(flood.worst)}"
    return f"{what}: {machines} {since}, first {_listed(flood.first)}{critical}; list them: {command}"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def pack_plant(plant: Plant) -> bytes:
    """Pack a plant's state: MessagePack, by name, so that programs of other versions can read it."""
    return msgspec.msgpack.encode(plant, order="deterministic")


def unpack_plant(packed: bytes) -> Plant:
    """Unpack a plant's state. Raises ValueError."""
    return msgspec.msgpack.decode(packed, type=Plant)
