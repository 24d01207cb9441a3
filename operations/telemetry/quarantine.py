"""Read quarantined records from the archive bucket, repair them, and put them into the stream again."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.aws import Aws, reporting_aws_errors
from fleet_iot.operations.telemetry.archive import object_keys, stored_lines

# A record's identity is what was sent and what the rule stamped on it, however often it went through the stream.
# Sequence numbers of records that were put into the stream again are noted beside them, so that a record that is
# still poison is listed once.

RECORDS = 500
"""One PutRecords: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html"""

RECORDS_BYTES = 4_000_000
ATTEMPTS = 6

REPLAYED = "quarantine/replayed/"
"""Prefix of the sequence numbers of records that were put into the stream again."""


UNDELIVERED = "iot-rule-errors/"
"""Prefix of the messages that the stream did not accept from a topic rule, as the rule's error action writes them:
https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html"""

_TOPIC = re.compile(r"(?:.*/)?dt/[^/]+/(?P<facility>[^/]+)/(?P<device_type>[^/]+)/(?P<thing>[^/]+)/telemetry")
_ERROR_TIME = re.compile(r"/(\d{13})-[^/]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """The bucket that the deployed processor writes quarantined records to, and the stream that it reads."""

    s3: Any
    kinesis: Any
    bucket: str
    stream_arn: str


def open_quarantine(aws: Aws, function: str) -> Quarantine:
    """Find bucket and stream of the deployed processor. Raises EnvironmentFault where it is not deployed."""
    with reporting_aws_errors(f"cannot read the configuration of {function}", hint="apply the platform first"):
        client = aws.client("lambda")
        variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        mappings = client.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    streams = [arn for mapping in mappings if ":kinesis:" in (arn := mapping.get("EventSourceArn", ""))]
    if not streams:
        raise EnvironmentFault(f"{function} reads no stream", hint="apply the platform first")
    return Quarantine(
        s3=aws.client("s3"),
        kinesis=aws.client("kinesis"),
        bucket=variables["ARCHIVE_BUCKET"],
        stream_arn=streams[0],
    )


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
        """Identify the record: a digest of what was sent and of what the rule stamped."""
        content = json.dumps([self.raw_of, self.raw, self.envelope], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()

    @property
    def sequence_numbers(self) -> tuple[str, ...]:
        """Return all sequence numbers of the record."""
        return (self.sequence_number, *self.repeats)

    @property
    def thing(self) -> str:
        """Return the thing that sent it, or `unknown`."""
        return "unknown" if self.envelope is None else str(self.envelope.get("thing", "unknown"))

    def content(self) -> bytes:
        """Return the bytes that were sent."""
        return base64.b64decode(self.raw)

    def record(self) -> bytes | None:
        """Rebuild the stream's record; None where its own encoding was broken."""
        if self.raw_of == "record":
            return self.content()
        if self.envelope is None or self.raw_of == "record_text":
            return None
        raw = self.raw if self.raw_of == "payload" else self.content().decode("utf-8", "surrogatepass")
        return json.dumps({"raw": raw, **self.envelope}, separators=(",", ":")).encode("utf-8", "surrogatepass")


def entries(
    quarantine: Quarantine, *, facility: str | None = None, date: str | None = None, reason: str | None = None
) -> list[Entry]:
    """Read the records that are in quarantine and were not put into the stream again, each once however often it came.

    Args:
        quarantine: Where to read.
        facility: Only records of this facility.
        date: Only records that arrived on this day (UTC), as in 2026-11-23.
        reason: Only records with this reason code.
    """
    s3, bucket = quarantine.s3, quarantine.bucket
    replayed = _replayed(quarantine)
    found: dict[bytes, dict[str, Entry]] = {}
    for key, line in stored_lines(
        s3, bucket, f"quarantine/facility={facility}/" if facility else "quarantine/facility="
    ):
        if (not date or f"/date={date}/" in key) and line["sequence_number"] not in replayed:
            entry = _entry(line)
            found.setdefault(entry.identity, {})[entry.sequence_number] = entry
    # The latest refusal is that of the manifest and the processor of today.
    latest = [each.pop(max(each, key=int)) for each in found.values()]
    together = zip(latest, found.values(), strict=True)
    return [replace(entry, repeats=tuple(rest)) for entry, rest in together if reason in (None, entry.reason)]


def _replayed(quarantine: Quarantine) -> set[str]:
    return {line["sequence_number"] for _, line in stored_lines(quarantine.s3, quarantine.bucket, REPLAYED)}


def undelivered_messages(
    quarantine: Quarantine, *, facility: str | None = None, date: str | None = None, reason: str | None = None
) -> list[Entry]:
    """Read the messages that topic rules could not deliver and that were not put into the stream since.

    An entry's sequence number is the key of its object. Its envelope has no principal: see `with_principals`.

    Args:
        quarantine: Where to read.
        facility: Only messages of this facility.
        date: Only messages that arrived on this day (UTC).
        reason: Only messages whose action failed, of that name.
    """
    s3, bucket, replayed = quarantine.s3, quarantine.bucket, _replayed(quarantine)
    found = []
    for key in object_keys(s3, bucket, f"{UNDELIVERED}facility={facility}/" if facility else UNDELIVERED):
        if key not in replayed and not key.endswith("/"):
            entry = _undelivered_entry(key, s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            day = f"{datetime.fromtimestamp(entry.received_at / 1000, UTC):%Y-%m-%d}"
            if date in (None, day) and reason in (None, entry.reason):
                found.append(entry)
    return found


def _undelivered_entry(key: str, body: bytes) -> Entry:
    """Parse what a rule's error action wrote; what cannot be read is an entry that cannot be put into the stream."""
    time = _ERROR_TIME.search(key)
    entry = Entry(
        sequence_number=key,
        shard="",
        reason="undelivered",
        detail="the rule's error action wrote something else",
        facility=key.removeprefix(UNDELIVERED).partition("/")[0].removeprefix("facility="),
        received_at=int(time[1]) if time else 0,
        envelope=None,
        raw_of="record_text",
        raw=base64.b64encode(body).decode(),
    )
    try:
        document = json.loads(body)
        topic = _TOPIC.fullmatch(document["topic"])
        stamps = {"client_id": str(document["clientId"]), "trace_id": str(document.get("cloudwatchTraceId") or "")}
        raw = str(document["base64OriginalPayload"])
        failures = "; ".join(str(each["errorMessage"]) for each in document["failures"])
    except (ValueError, KeyError, TypeError):
        return entry
    if topic is None or time is None:
        return entry
    envelope = {**topic.groupdict(), **stamps, "principal": "", "received_at": entry.received_at}
    return replace(
        entry, detail=failures[:500], facility=topic["facility"], envelope=envelope, raw_of="payload", raw=raw
    )


def with_principals(iot: Any, found: Iterable[Entry]) -> list[Entry]:
    """Stamp undelivered messages with a certificate of their thing that is active now; leave out those without one.

    The error action's document lacks the rule's `principal()`. AWS IoT accepted the message from a client whose
    certificate's policy allows only the topic of the thing that is its client id, which the document has.
    """
    principals: dict[str, str] = {}
    stamped = []
    for entry in found:
        if entry.envelope is None:
            continue
        if entry.thing not in principals:
            principals[entry.thing] = _active_certificate(iot, entry.thing)
        if principals[entry.thing]:
            stamped.append(replace(entry, envelope={**entry.envelope, "principal": principals[entry.thing]}))
    return stamped


def _active_certificate(iot: Any, thing: str) -> str:
    """Return the id of an active certificate of a thing, the first in order where it has two; empty where none is."""
    try:
        arns = iot.list_thing_principals(thingName=thing)["principals"]
    except iot.exceptions.ResourceNotFoundException:
        return ""
    ids = sorted(arn.rpartition("/")[2] for arn in arns if ":cert/" in arn)
    described = (iot.describe_certificate(certificateId=each)["certificateDescription"] for each in ids)
    return next((str(each["certificateId"]) for each in described if each["status"] == "ACTIVE"), "")


def note_replayed(quarantine: Quarantine, given: Sequence[Entry], *, now: datetime) -> None:
    """Note that records were put into the stream again: they are no longer in quarantine, unless they come back."""
    numbers = sorted({number for entry in given for number in entry.sequence_numbers})
    lines = [json.dumps({"sequence_number": number, "replayed_at": now.isoformat()}) for number in numbers]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    quarantine.s3.put_object(
        Bucket=quarantine.bucket,
        Key=f"{REPLAYED}date={now:%Y-%m-%d}/{digest}.ndjson.gz",
        Body=gzip.compress("\n".join([*lines, ""]).encode(), mtime=0),
        ContentType="application/gzip",
        ChecksumAlgorithm="CRC32",  # S3 asks for one where objects are locked
    )


def counts(found: Iterable[Entry]) -> Counter[tuple[str, str, str]]:
    """Count records by facility, thing and reason."""
    return Counter((entry.facility, entry.thing, entry.reason) for entry in found)


def put_again(
    found: Iterable[Entry],
    quarantine: Quarantine,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[int, int]:
    """Put records into the stream again, and note each part of them once the stream has it.

    Returns:
        How many were put, and how many cannot be because their own encoding is broken.

    Raises:
        TimeoutError: The stream did not accept them in several attempts. A second replay counts no reading twice.
    """
    given = broken = 0
    records = ((entry, entry.record()) for entry in found)
    while batch := list(islice(records, RECORDS)):
        waiting: list[dict[str, Any]] = [
            {"Data": data, "PartitionKey": entry.thing, "size": len(data), "entry": entry}
            for entry, data in batch
            if data is not None
        ]
        broken += len(batch) - len(waiting)
        given += len(waiting)
        attempt = 0
        while waiting:
            part = _fitting(waiting)
            wanted = [{"Data": each["Data"], "PartitionKey": each["PartitionKey"]} for each in part]
            answer = quarantine.kinesis.put_records(StreamARN=quarantine.stream_arn, Records=wanted)
            refused = [each for each, result in zip(part, answer["Records"], strict=True) if result.get("ErrorCode")]
            attempt = attempt + 1 if len(refused) == len(part) else 0
            accepted = [
                each["entry"]
                for each, result in zip(part, answer["Records"], strict=True)
                if not result.get("ErrorCode")
            ]
            if accepted:
                note_replayed(quarantine, accepted, now=now())
            if attempt >= ATTEMPTS:
                raise TimeoutError(f"the stream did not accept {len(refused)} records")
            if refused:
                sleep(0.2 * 2**attempt)
            waiting = refused + waiting[len(part) :]
    return given, broken


def _fitting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size = 0
    for place, record in enumerate(records):
        size += record["size"] + len(record["PartitionKey"])
        if size > RECORDS_BYTES and place:
            return records[:place]
    return records


def check_sequence_number(text: str) -> None:
    """Raise RequestError for what is no sequence number."""
    if not re.fullmatch("[0-9]+", text, re.ASCII):
        raise RequestError(f"{text!r} is no sequence number", hint="see: fleet quarantine list")


def find_entry(found: Iterable[Entry], sequence_number: str) -> Entry | None:
    """Return the record with a sequence number; None where there is none."""
    return next((entry for entry in found if sequence_number in entry.sequence_numbers), None)


def last_of(found: Iterable[Entry]) -> Entry | None:
    """Return the record that arrived last; None where there is none."""
    return max(found, key=lambda entry: entry.received_at, default=None)


def _entry(line: Mapping[str, Any]) -> Entry:
    return Entry(**{name: line[name] for name in Entry.__dataclass_fields__ if name != "repeats"})


TIME_UNITS: Mapping[str, Callable[[float], float]] = {
    "s": lambda time: time * 1000,
    "us": lambda time: time / 1000,
    "ns": lambda time: time / 1_000_000,
}
"""Convert a time in each unit to milliseconds."""

_MILLISECONDS = range(500_000_000_000, 4_102_444_800_000)
"""1985 to 2099: a time that is none of these after its conversion was in another unit."""


def with_time_in(unit: str, entry: Entry) -> Entry | None:
    """Convert the times of the record's readings from `unit` to milliseconds.

    Returns None where the record is no message of readings, or one of its times is not in that unit.
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
    """Replace records' payloads by those in `lines`, which are lines of `list --json` that somebody edited.

    Only the payload is read from a line: what the rule stamped stays. Raises RequestError for a line of no such record.
    """
    known = {number: entry for entry in entries for number in entry.sequence_numbers}
    repaired = []
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
        repaired.append(_with_payload(entry, payload))
    return repaired


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
