"""Read quarantined records from the archive bucket, repair them, and put them into the stream again."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from fleet_iot.generator.diagnostics import RequestError

# A record's identity is what was sent and what the rule stamped on it, however often it went through the stream.
# Sequence numbers of records that were put into the stream again are noted beside them, so that a record that is
# still poison is listed once.

RECORDS = 500
"""One PutRecords: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html"""

RECORDS_BYTES = 4_000_000
ATTEMPTS = 6

REPLAYED = "quarantine/replayed/"
"""Below it lie the sequence numbers of the records that were put into the stream again."""

REASONS = (
    *("base64", "device_type", "empty", "envelope", "environment", "future", "hostile_text", "identity", "ids"),
    *("malformed", "metric_name", "metrics", "minute_full", "old", "readings", "sequence", "too_deep", "too_large"),
    *("unit", "utf8", "value"),
)
"""The reason codes of the sensor processor: docs/message.md says what each means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One quarantined record; `raw` is base64 of what `raw_of` names, `envelope` what the rule stamped.

    `repeats` are further sequence numbers under which the same record is in quarantine.
    """

    sequence_number: str
    shard: str
    reason: str
    detail: str
    facility: str
    received_at: int
    envelope: Mapping[str, Any] | None
    raw_of: str
    raw: str
    repeats: tuple[str, ...] = ()

    @property
    def identity(self) -> bytes:
        """Tells records apart: a digest of what was sent and of what the rule stamped."""
        content = json.dumps([self.raw_of, self.raw, self.envelope], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()

    @property
    def sequence_numbers(self) -> tuple[str, ...]:
        """All sequence numbers of the record."""
        return (self.sequence_number, *self.repeats)

    @property
    def thing(self) -> str:
        """Who sent it, as far as that is known."""
        return "unknown" if self.envelope is None else str(self.envelope.get("thing", "unknown"))

    def content(self) -> bytes:
        """What was sent."""
        return base64.b64decode(self.raw)

    def record(self) -> bytes | None:
        """The stream's record as it was; None where its own encoding was broken."""
        if self.raw_of == "record":
            return self.content()
        if self.envelope is None or self.raw_of == "record_text":
            return None
        raw = self.raw if self.raw_of == "payload" else self.content().decode("utf-8", "surrogatepass")
        return json.dumps({"raw": raw, **self.envelope}, separators=(",", ":")).encode("utf-8", "surrogatepass")


def entries(
    s3: Any, bucket: str, *, facility: str | None = None, date: str | None = None, reason: str | None = None
) -> list[Entry]:
    """The records in quarantine that were not put into the stream again, each once however often it came."""
    replayed = {line["sequence_number"] for _, line in _lines(s3, bucket, REPLAYED)}
    found: dict[bytes, dict[str, Entry]] = {}
    for key, line in _lines(s3, bucket, f"quarantine/facility={facility}/" if facility else "quarantine/facility="):
        if (not date or f"/date={date}/" in key) and line["sequence_number"] not in replayed:
            entry = _entry(line)
            found.setdefault(entry.identity, {})[entry.sequence_number] = entry
    # The latest refusal is that of the manifest and the processor of today.
    latest = [each.pop(max(each, key=int)) for each in found.values()]
    together = zip(latest, found.values(), strict=True)
    return [replace(entry, repeats=tuple(rest)) for entry, rest in together if reason in (None, entry.reason)]


def note_replayed(s3: Any, bucket: str, given: Sequence[Entry], *, now: datetime) -> None:
    """Note that records were put into the stream again: they are in quarantine no longer, unless they come back."""
    numbers = sorted({number for entry in given for number in entry.sequence_numbers})
    lines = [json.dumps({"sequence_number": number, "replayed_at": now.isoformat()}) for number in numbers]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    s3.put_object(
        Bucket=bucket,
        Key=f"{REPLAYED}date={now:%Y-%m-%d}/{digest}.ndjson.gz",
        Body=gzip.compress("\n".join([*lines, ""]).encode(), mtime=0),
        ContentType="application/gzip",
        ChecksumAlgorithm="CRC32",  # S3 asks for one where objects are locked
    )


def _lines(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for held in page.get("Contents", ()):
            body = s3.get_object(Bucket=bucket, Key=held["Key"])["Body"].read()
            for line in gzip.decompress(body).splitlines():
                yield held["Key"], json.loads(line)


def counts(found: Iterable[Entry]) -> Counter[tuple[str, str, str]]:
    """How many records by facility, thing and reason."""
    return Counter((entry.facility, entry.thing, entry.reason) for entry in found)


def put_again(
    found: Iterable[Entry],
    kinesis: Any,
    *,
    stream_arn: str,
    on_given: Callable[[list[Entry]], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[int, int]:
    """Puts records into the stream again; how many, and how many cannot be: their own encoding was broken.

    `on_given` is told of each part once the stream has it.

    Raises TimeoutError where the stream does not take them for long. What was counted before counts once anyway.
    """
    given = broken = 0
    records = ((entry, entry.record()) for entry in found)
    while batch := list(islice(records, RECORDS)):
        waiting = [
            {"Data": data, "PartitionKey": entry.thing, "size": len(data)} for entry, data in batch if data is not None
        ]
        broken += len(batch) - len(waiting)
        given += len(waiting)
        attempt = 0
        while waiting:
            now = _fitting(waiting)
            wanted = [{"Data": each["Data"], "PartitionKey": each["PartitionKey"]} for each in now]
            answer = kinesis.put_records(StreamARN=stream_arn, Records=wanted)
            refused = [each for each, told in zip(now, answer["Records"], strict=True) if told.get("ErrorCode")]
            attempt = attempt + 1 if len(refused) == len(now) else 0
            if attempt >= ATTEMPTS:
                raise TimeoutError(f"the stream did not take {len(refused)} records")
            if refused:
                sleep(0.2 * 2**attempt)
            waiting = refused + waiting[len(now) :]
        if taken := [entry for entry, data in batch if data is not None]:
            on_given(taken)
    return given, broken


def _fitting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size = 0
    for place, record in enumerate(records):
        size += record["size"] + len(record["PartitionKey"])
        if size > RECORDS_BYTES and place:
            return records[:place]
    return records


def _entry(line: Mapping[str, Any]) -> Entry:
    return Entry(**{name: line[name] for name in Entry.__dataclass_fields__ if name != "repeats"})


TIME_UNITS: Mapping[str, Callable[[float], float]] = {
    "s": lambda time: time * 1000,
    "us": lambda time: time / 1000,
    "ns": lambda time: time / 1_000_000,
}
"""How a time in each unit becomes milliseconds."""

_MILLISECONDS = range(500_000_000_000, 4_102_444_800_000)
"""1985 to 2099: a time that is none of these after its conversion was in another unit."""


def with_time_in(unit: str, entry: Entry) -> Entry | None:
    """The record with the times of its readings turned from `unit` into milliseconds.

    None where it is no message of readings, or one of its times is not in that unit.
    """
    readings = _readings_of(entry)
    if not readings:
        return None
    for reading in readings:
        time = _milliseconds(reading.get("time"), unit)
        if time is None:
            return None
        reading["time"] = time
    document: Any = readings if len(readings) > 1 else readings[0]
    return _with_payload(entry, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def with_payloads_of(lines: Iterable[str], entries: Iterable[Entry], *, name: str) -> list[Entry]:
    """The records that `lines` (as `list --json` prints them) hold, each with the payload that it has there.

    What the rule stamped stays as it was. Raises RequestError for a line that is none, or of no such record.
    """
    known = {number: entry for entry in entries for number in entry.sequence_numbers}
    mended = []
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            entry, payload = known[given["sequence_number"]], base64.b64decode(given["raw"], validate=True)
        except (ValueError, TypeError, KeyError):
            raise RequestError(
                f"{name}:{place}: not a record that is in quarantine",
                hint="edit `raw` (base64) in the lines of: fleet quarantine list --json",
            ) from None
        mended.append(_with_payload(entry, payload))
    return mended


def _with_payload(entry: Entry, payload: bytes) -> Entry:
    return replace(entry, raw=base64.b64encode(payload).decode(), raw_of="payload")


def _readings_of(entry: Entry) -> list[dict[str, Any]]:
    if entry.envelope is None or entry.raw_of != "payload":
        return []
    try:
        text = entry.content().decode("utf-8-sig").strip(" \t\r\n\0")
        try:
            document = json.loads(text)
        except ValueError:
            document = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return []
    readings = document if isinstance(document, list) else [document]
    return readings if all(isinstance(reading, dict) for reading in readings) else []


def _milliseconds(time: Any, unit: str) -> int | None:
    try:
        converted = TIME_UNITS[unit](float(time))
        return round(converted) if round(converted) in _MILLISECONDS else None
    except (TypeError, ValueError, OverflowError):
        return None
