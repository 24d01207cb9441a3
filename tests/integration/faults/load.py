"""The messages of a run and what is true of them: devices, clocks, repeats, conflicts, late ones, poison, by seed."""

from __future__ import annotations

import base64
import gzip
import heapq
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.integration.faults.chaos import HOT_KEY, Chaos

DEVICES = 200
SPACING_MS = 10
"""Between two messages of the fleet; a device sends every two seconds."""

CATALOGUE = {
    "application": "mfg",
    "device_types": {
        "press-monitor": {
            "metrics": {
                "temperature": {"unit": "celsius", "min": -10, "max": 95, "detector": "context"},
                "vibration": {"unit": "mm/s", "max": 11.2, "detector": "limits"},
            }
        }
    },
}
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message as the topic rule passes it on, and the truth about it; times are in ms, values in thousandths.

    `reasons` are the reasons for which it may be quarantined; a good message has none.
    """

    thing: str
    raw: str
    payload: bytes
    received_at: int
    time: int = 0
    sequence: int | None = None
    values: tuple[tuple[str, int], ...] = ()
    reasons: frozenset[str] = frozenset()
    facility: str = "sg-01"
    principal: str = ""

    def envelope(self) -> bytes:
        """The record's data."""
        return json.dumps(
            {
                "raw": self.raw,
                "facility": self.facility,
                "device_type": "press-monitor",
                "thing": self.thing,
                "client_id": self.thing,
                "principal": self.principal,
                "received_at": self.received_at,
                "trace_id": "00000000-0000-0000-0000-000000000000",
            },
            separators=(",", ":"),
        ).encode()


def thing_of(device: int) -> str:
    """A device's name; every third is of the second plant."""
    return f"{facility_of(device)}-press-monitor-{device:04d}-dev"


def facility_of(device: int) -> str:
    """A device's plant."""
    return "my-jb-01" if device % 3 == 0 else "sg-01"


class Load:
    """`readings` messages by seed, in the order of their arrival; repeats come on top."""

    def __init__(self, chaos: Chaos, *, readings: int) -> None:
        self._chaos = chaos
        self._readings = readings
        self._random = random.Random(f"{chaos.seed}:load")
        self._start = int(chaos.begins * 1000)
        self._sequences = dict.fromkeys(range(1, DEVICES + 1), 0)
        self._held: list[tuple[int, int, Sent]] = []

    def messages(self) -> Iterator[Sent]:
        """Each as it arrives; `received_at` says when."""
        for place in range(self._readings):
            now = self._start + place * SPACING_MS
            sent = self._one(place, now)
            if sent.reasons or not self._chaos.strikes("out_of_order"):
                yield self._arriving(sent, now)
            else:
                self._hold(sent, place + self._random.randrange(1, 2_000))
            if not sent.reasons:
                self._repeat(sent, place)
            while self._held and self._held[0][0] <= place:
                yield self._arriving(heapq.heappop(self._held)[2], now)
        end = self._start + self._readings * SPACING_MS
        while self._held:
            yield self._arriving(heapq.heappop(self._held)[2], end)

    def farewell(self, now: int) -> Iterator[Sent]:
        """One more good message of each device, at `now` (ms), when all faults are over."""
        for device in range(1, DEVICES + 1):
            self._sequences[device] += 1
            values = (("temperature", 70_000),)
            sent = self._good(
                thing_of(device), f"{device:064x}", facility_of(device), now, self._sequences[device], values
            )
            yield self._arriving(sent, now)

    def _repeat(self, sent: Sent, place: int) -> None:
        if self._chaos.strikes("duplicate"):
            self._hold(sent, place + self._random.randrange(1, 3_000))
        if sent.sequence is not None and self._chaos.strikes("conflict"):
            other = tuple((name, value + 1_000) for name, value in sent.values)
            self._hold(
                self._good(sent.thing, sent.principal, sent.facility, sent.time, sent.sequence, other), place + 2_500
            )

    def _hold(self, sent: Sent, until: int) -> None:
        heapq.heappush(self._held, (until, self._random.getrandbits(62), sent))

    def _arriving(self, sent: Sent, now: int) -> Sent:
        return Sent(
            **{name: getattr(sent, name) for name in sent.__slots__ if name != "received_at"}, received_at=now + 5
        )

    def _one(self, place: int, now: int) -> Sent:
        device = place % DEVICES + 1
        if HOT_KEY[0] * self._readings <= place < HOT_KEY[1] * self._readings and place % 2:
            device = 1
            self._chaos.struck["hot_key"] += 1
        thing, facility, principal = thing_of(device), facility_of(device), f"{device:064x}"
        if self._chaos.strikes("poison"):
            return self._poison(thing, facility, principal, now)
        self._sequences[device] += 1
        time, sequence = now, self._sequences[device] if device % 20 else None
        if self._chaos.strikes("future"):
            time += self._random.randrange(5 * MINUTE + 1_000, DAY)
            payload = message(time, sequence, ())
            return Sent(
                thing=thing,
                facility=facility,
                principal=principal,
                payload=payload,
                raw=base64.b64encode(payload).decode(),
                received_at=now,
                reasons=frozenset({"future", "metrics"}),
            )
        if self._chaos.strikes("late"):
            time -= self._random.randrange(DAY, 7 * DAY)
        elif self._chaos.strikes("skewed"):
            time += self._random.randrange(-50 * MINUTE, 4 * MINUTE)
        is_hot = self._chaos.strikes("hot")
        values = [
            (
                "temperature",
                self._random.randrange(97_000, 120_000) if is_hot else 60_000 + self._random.randrange(20_000),
            ),
            ("vibration", self._random.randrange(9_000)),
        ]
        if place % 101 == 0:
            values.append(("humidity", 40_000))
        return self._good(thing, principal, facility, time, sequence, tuple(values))

    def _good(
        self,
        thing: str,
        principal: str,
        facility: str,
        time: int,
        sequence: int | None,
        values: tuple[tuple[str, int], ...],
    ) -> Sent:
        payload = message(time, sequence, values)
        return Sent(
            thing=thing,
            facility=facility,
            principal=principal,
            payload=payload,
            raw=base64.b64encode(payload).decode(),
            received_at=0,
            time=time,
            sequence=sequence,
            values=values,
        )

    def _poison(self, thing: str, facility: str, principal: str, now: int) -> Sent:
        kind = self._random.choice(list(POISON))
        if kind == "too_large" and self._random.random() < 0.9:
            kind = "nan"
        self._chaos.struck[f"poison_{kind}"] += 1
        payload, reasons = POISON[kind](now)
        raw = "!" + "junk" if kind == "base64_junk" else base64.b64encode(payload).decode()
        if kind == "base64_junk":
            payload = raw.encode()
        return Sent(
            thing=thing,
            facility="../../etc" if kind == "path_traversal" else facility,
            principal="000000000000" if kind == "no_certificate" else principal,
            payload=payload,
            raw=raw,
            received_at=now,
            reasons=frozenset(reasons),
        )


def message(time: int, sequence: int | None, values: tuple[tuple[str, int], ...]) -> bytes:
    """A device's message; thousandths are written with as many digits as they need."""
    metrics = ",".join(f'"{name}":{value // 1000}.{value % 1000:03d}' for name, value in values)
    number = "" if sequence is None else f'"sequence":{sequence},'
    return f'{{"time":{time},{number}"metrics":{{{metrics}}}}}'.encode()


def _with(text: str) -> Callable[[int], tuple[bytes, set[str]]]:
    return lambda now: (text.replace("TIME", str(now)).encode(), {"malformed"})


def _because(payload: bytes, *reasons: str) -> Callable[[int], tuple[bytes, set[str]]]:
    return lambda now: (payload.replace(b"TIME", str(now).encode()), set(reasons))


POISON: dict[str, Callable[[int], tuple[bytes, set[str]]]] = {
    "empty": _because(b"", "empty"),
    "bad_utf8": _because(b'{"time":TIME,"metrics":{"temperature":1},"note":"\xff\xfe"}', "utf8"),
    "nan": _with('{"time":TIME,"metrics":{"temperature":NaN}}'),
    "infinity": _with('{"time":TIME,"metrics":{"temperature":-Infinity}}'),
    "beyond_double": _with('{"time":TIME,"metrics":{"temperature":1e400}}'),
    "wrong_types": _with('{"time":TIME,"metrics":{"temperature":"hot"}}'),
    "text_for_time": _with('{"time":"now","metrics":{"temperature":1}}'),
    "missing_keys": _with('{"time":TIME}'),
    "deep_nesting": _because(
        b'{"time":TIME,"metrics":{"temperature":1},"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "too_deep", "malformed"
    ),
    "gzip_junk": _because(gzip.compress(b'{"time":1}', mtime=0), "utf8", "malformed", "hostile_text"),
    "base64_junk": _because(b"", "base64"),
    "too_large": _because(b" " * (129 * 1024), "too_large"),
    "path_traversal": _because(b'{"time":TIME,"metrics":{"temperature":1}}', "ids"),
    "no_certificate": _because(b'{"time":TIME,"metrics":{"temperature":1}}', "identity"),
    "bidi": _because('{"time":TIME,"metrics":{"temp\u202eerature":1}}'.encode(), "hostile_text"),
    "nul": _because(b'{"time":TIME,"metrics":{"temp\\u0000":1}}', "hostile_text"),
    "huge_value": _because(b'{"time":TIME,"metrics":{"temperature":1e13}}', "value"),
    "no_metrics": _because(b'{"time":TIME,"metrics":{}}', "metrics"),
}
"""By kind, the payload at a time (ms), and the reasons that its quarantine may give."""
