"""Quarantined records: read from the archive's bucket, told, and put into the stream again as they came."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

RECORDS = 500
"""One PutRecords: https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html"""

RECORDS_BYTES = 4_000_000
ATTEMPTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One quarantined record; `raw` is base64 of what `raw_of` names, `envelope` what the rule stamped."""

    sequence_number: str
    shard: str
    reason: str
    detail: str
    facility: str
    received_at: int
    envelope: Mapping[str, Any] | None
    raw_of: str
    raw: str

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
) -> Iterator[Entry]:
    """What is in quarantine, each record once however often it was delivered."""
    prefix = "quarantine/" + (f"facility={facility}/" if facility else "")
    seen: set[str] = set()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for held in page.get("Contents", ()):
            if date and f"/date={date}/" not in held["Key"]:
                continue
            body = s3.get_object(Bucket=bucket, Key=held["Key"])["Body"].read()
            for line in gzip.decompress(body).splitlines():
                entry = _entry(json.loads(line))
                if entry.sequence_number not in seen and reason in (None, entry.reason):
                    seen.add(entry.sequence_number)
                    yield entry


def counts(found: Iterable[Entry]) -> Counter[tuple[str, str, str]]:
    """How many records by facility, thing and reason."""
    return Counter((entry.facility, entry.thing, entry.reason) for entry in found)


def put_again(
    found: Iterable[Entry], kinesis: Any, *, stream_arn: str, sleep: Callable[[float], None] = time.sleep
) -> tuple[int, int]:
    """Puts records into the stream again; how many, and how many cannot be: their own encoding was broken.

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
    return given, broken


def _fitting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    size = 0
    for place, record in enumerate(records):
        size += record["size"] + len(record["PartitionKey"])
        if size > RECORDS_BYTES and place:
            return records[:place]
    return records


def _entry(line: Mapping[str, Any]) -> Entry:
    return Entry(**{name: line[name] for name in Entry.__dataclass_fields__})
