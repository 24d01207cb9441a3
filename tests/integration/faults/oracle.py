"""Expected content of tables, archive and quarantine. It shares no code with the processor, only the documents."""

from __future__ import annotations

import base64
import gzip
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from tests.integration.faults.history import Measured, differences, thousandths
from tests.integration.faults.load import CATALOGUE, DAY, HOUR, MINUTE, Sent

METRICS = frozenset(CATALOGUE["device_types"]["press-monitor"]["metrics"])  # type: ignore[index]
SHOWN = 20


def _minute_key(start: int) -> str:
    return f"minute#{datetime.fromtimestamp(start / 1000, UTC).isoformat()[:16]}Z"


Copy = tuple[int, int, tuple[tuple[str, int], ...]]
"""One arrival of a message: its number in the stream, when it arrived (ms), its values in thousandths."""


@dataclass(slots=True, kw_only=True)
class Expected:
    """Expected content of one minute: its counters, and its metrics by name."""

    messages: int = 0
    conflicts: int = 0
    late: int = 0
    metrics: dict[str, list[int]] = field(default_factory=dict)
    """By name: count, sum, minimum, maximum, last; thousandths."""


class Oracle:
    """Is told what was put into the stream, and judges what came of it."""

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, int], dict[Any, list[Copy]]] = defaultdict(lambda: defaultdict(list))
        self._archived: dict[int, int] = {}
        self._poison: dict[int, Sent] = {}
        self.discarded: set[int] = set()
        self.late = 0
        self.periods = 0

    @property
    def poison(self) -> int:
        """Return the number of records that must be in quarantine."""
        return len(self._poison)

    @property
    def unique(self) -> int:
        """Return the number of messages that must be counted."""
        return sum(map(len, self._minutes.values()))

    def minutes_over(self, limit: int) -> set[tuple[str, int]]:
        """Things and starts of minutes (ms) in which a temperature (thousandths) was over its limit, whatever counts
        of a conflict."""
        return {
            place
            for place, identities in self._minutes.items()
            if any(
                all(dict(values)["temperature"] > limit for _, _, values in copies) for copies in identities.values()
            )
        }

    def minutes(self) -> list[tuple[str, str]]:
        """Return thing and key of each minute that has messages."""
        return [(thing, _minute_key(start)) for thing, start in self._minutes]

    def put(self, number: int, sent: Sent) -> None:
        """Notes a record of the stream."""
        if sent.reasons:
            self._poison[number] = sent
            return
        self._archived[number] = crc32(sent.payload)
        identity: Any = sent.payload if sent.sequence is None else (sent.time, sent.sequence)
        minute = self._minutes[sent.thing, sent.time - sent.time % MINUTE]
        minute[identity].append((number, sent.received_at, sent.values))

    def faults(self, *, readings: list[Any], devices: list[Any], objects: dict[str, bytes]) -> list[str]:
        """Everything that is not as it must be, the first of each kind."""
        readings = highest(readings)
        found = [*self._minute_faults(readings), *self._period_faults(readings), *self._device_faults(devices)]
        lines = [
            (key.split("/", 1)[0], json.loads(line))
            for key, body in objects.items()
            for line in gzip.decompress(body).splitlines()
        ]
        return [*found, *self._archive_faults(lines), *self._quarantine_faults(lines)][:SHOWN]

    def _minute_faults(self, items: list[Any]) -> list[str]:
        held = {(i["device"]["S"], i["bucket"]["S"]): i for i in items if i["bucket"]["S"].startswith("minute#")}
        found = []
        for (thing, start), identities in self._minutes.items():
            key = thing, _minute_key(start)
            item = held.pop(key, None)
            if item is None:
                found.append(f"lost: {key}")
                continue
            got = self._got(item)
            expected = self._expected(start, identities)
            self.late += expected.late
            if got != expected and not self._may_differ(identities):
                found.append(f"wrong: {key}: {got} instead of {expected}")
        return [*found, *(f"nobody sent: {key}" for key in held)]

    def _period_faults(self, items: list[Any]) -> list[str]:
        """Hours and days, all of which are over: exact numbers, and quantiles that are right to one per cent."""
        held = {
            (i["device"]["S"], i["bucket"]["S"]): i for i in items if i["bucket"]["S"].startswith(("hour#", "day#"))
        }
        periods: dict[tuple[str, str], list[tuple[int, dict[Any, list[Copy]]]]] = defaultdict(list)
        for (thing, start), identities in self._minutes.items():
            for length, pattern in ((HOUR, "hour#%Y-%m-%dT%HZ"), (DAY, "day#%Y-%m-%d")):
                bucket = datetime.fromtimestamp(start // length * length / 1000, UTC).strftime(pattern)
                periods[thing, bucket].append((start, identities))
        found = []
        for key, minutes in periods.items():
            item = held.pop(key, None)
            if item is None:
                found.append(f"no such period: {key}")
            elif not any(self._may_differ(identities) for _, identities in minutes):
                found += [f"{key}: {fault}" for fault in differences(item, list(map(self._measured, minutes)))]
        self.periods = len(periods)
        return [*found, *(f"a period that is not over: {key}" for key in held)]

    def _measured(self, minute: tuple[int, dict[Any, list[Copy]]]) -> Measured:
        start, identities = minute
        values: dict[str, list[int]] = defaultdict(list)
        for copies in identities.values():
            for name, value in self._first(copies)[2]:
                if name in METRICS:
                    values[name].append(value)
        return Measured(start=start, messages=len(identities), values=values)

    @staticmethod
    def _time_of(identity: Any) -> int:
        return int(identity[0] if isinstance(identity, tuple) else json.loads(identity)["time"])

    def _first(self, copies: list[Copy]) -> Copy:
        """The copy that counts."""
        return min(copies, key=lambda copy: (copy[0] in self.discarded, copy[0]))

    def _may_differ(self, identities: dict[Any, list[Copy]]) -> bool:
        """Of a conflict one side of which ran out of retries, either may be the first one that was processed."""
        return any(
            len({values for _, _, values in copies}) > 1 and any(number in self.discarded for number, _, _ in copies)
            for copies in identities.values()
        )

    def _expected(self, start: int, identities: dict[Any, list[Copy]]) -> Expected:
        expected = Expected(messages=len(identities))
        latest: dict[str, tuple[int, int]] = {}
        for identity, copies in identities.items():
            _, received_at, values = self._first(copies)
            time, sequence = identity if isinstance(identity, tuple) else (self._time_of(identity), -1)
            expected.conflicts += len({other for _, _, other in copies}) - 1
            expected.late += received_at - time > HOUR
            for name, value in values:
                if name not in METRICS:
                    continue
                sums = expected.metrics.setdefault(name, [0, 0, value, value, value])
                sums[0] += 1
                sums[1] += value
                sums[2], sums[3] = min(sums[2], value), max(sums[3], value)
                if (time, sequence) >= latest.get(name, (0, 0)):
                    sums[4], latest[name] = value, (time, sequence)
        return expected

    def _got(self, item: Any) -> Expected:
        return Expected(
            messages=int(item["messages"]["N"]),
            conflicts=int(item["conflicts"]["N"]),
            late=int(item["late"]["N"]),
            metrics={
                name: [int(numbers["M"]["count"]["N"])]
                + [thousandths(numbers["M"][part]["N"]) for part in ("sum", "min", "max", "last")]
                for name, numbers in item["metrics"]["M"].items()
            },
        )

    def _device_faults(self, items: list[Any]) -> list[str]:
        expected: dict[str, int] = defaultdict(int)
        for (thing, _), identities in self._minutes.items():
            expected[thing] += len(identities)
        got = {item["device"]["S"]: int(item["messages"]["N"]) for item in items}
        return [
            f"device {thing} counts {got.get(thing)} messages instead of {expected.get(thing)}"
            for thing in sorted(expected.keys() | got.keys())
            if got.get(thing) != expected.get(thing)
        ]

    def _archive_faults(self, lines: list[tuple[str, Any]]) -> list[str]:
        got = {
            int(line["sequence_number"]): crc32(base64.b64decode(line["raw"])) for root, line in lines if root == "raw"
        }
        missing, extra = self._archived.keys() - got.keys(), got.keys() - self._archived.keys()
        changed = [number for number in got.keys() & self._archived.keys() if got[number] != self._archived[number]]
        return [
            f"the archive {what} {len(numbers)} records, such as {next(iter(numbers))}"
            for what, numbers in (("lacks", missing), ("has", extra), ("changed", changed))
            if numbers
        ]

    def _quarantine_faults(self, lines: list[tuple[str, Any]]) -> list[str]:
        got = {int(line["sequence_number"]): line for root, line in lines if root == "quarantine"}
        found = [f"not in quarantine: {number}" for number in self._poison.keys() - got.keys()]
        found += [
            f"in quarantine without cause: {number}: {got[number]}" for number in got.keys() - self._poison.keys()
        ]
        for number, sent in self._poison.items():
            line = got.get(number)
            if line is None:
                continue
            if line["reason"] not in sent.reasons:
                found.append(f"{number} was quarantined for {line['reason']}, not for {sorted(sent.reasons)}")
            if base64.b64decode(line["raw"]) != sent.payload:
                found.append(f"{number} was quarantined with other bytes")
        return found


def highest(items: list[Any]) -> list[Any]:
    """Keep the highest revision of each minute, hour and day, under the key of the first one."""
    found: dict[Any, Any] = {}
    for item in sorted(items, key=lambda item: str(item["bucket"]["S"])):
        kind, *rest = item["bucket"]["S"].split("#")
        bucket = f"{kind}#{rest[0]}" if kind in ("minute", "hour", "day") else item["bucket"]["S"]
        found[item["device"]["S"], bucket] = item | {"bucket": {"S": bucket}}
    return list(found.values())
