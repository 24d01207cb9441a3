"""The raw archive in S3: gzip NDJSON objects of readings and of quarantined records.

The same records give the same bytes, so a repeated write changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec.structs import asdict

from ..ingest.batch import Poison
from ..ingest.codec import encode_base64, gzip_bytes
from ..ingest.reading import Reading
from . import Retry, Unavailable

_HOUR_MS = 60 * 60 * 1000
_DAY_MS = 24 * _HOUR_MS
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveObject:
    """An object to be written, and the records that it has."""

    key: str
    body: bytes
    sequence_numbers: tuple[str, ...]


def readings_objects(readings: Sequence[Reading], *, shard: str) -> list[ArchiveObject]:
    """Make one object for each UTC hour in which the stream took the records: nearly always one for a batch.

    The hour is the record's own, so that a redelivered record is in the same hour again, whatever batch it is in.
    """
    groups: defaultdict[int, list[Reading]] = defaultdict(list)
    last = ""
    for reading in readings:
        # A record of several readings is one line.
        if reading.sequence_number != last:
            last = reading.sequence_number
            groups[reading.arrived_at // _HOUR_MS].append(reading)
    return [
        _object(
            f"raw/date={_date(hour // 24)}/hour={hour % 24:02d}",
            shard=shard,
            numbers=[reading.sequence_number for reading in group],
            lines=map(_archive_line, group),
        )
        for hour, group in groups.items()
    ]


def quarantine_objects(poison: Sequence[Poison], *, shard: str, label: str = "") -> list[ArchiveObject]:
    """Make one object for each facility and UTC date of arrival; `label` distinguishes a second one of a batch."""
    groups: dict[str, list[Poison]] = {}
    for record in poison:
        prefix = f"quarantine/facility={record.facility}/date={_date(record.received_at // _DAY_MS)}"
        groups.setdefault(prefix, []).append(record)
    return [
        _object(
            prefix,
            shard=shard,
            numbers=[record.sequence_number for record in group],
            lines=[_quarantine_line(record, shard=shard) for record in group],
            label=label,
        )
        for prefix, group in groups.items()
    ]


def refused_object(item: bytes, *, why: str, now: int) -> ArchiveObject:
    """Make the quarantine object of an item that DynamoDB refuses for ever, at `now` (ms)."""
    content = msgspec.json.decode(item)
    place = content["facility"]["S"], content["device_type"]["S"]
    (entry,) = quarantine_objects([_left(item, place, "refused", why, raw_of="item", now=now)], shard="outbox")
    return entry


def unpublished_objects(notices: Iterable[str], *, now: int) -> list[ArchiveObject]:
    """Make the quarantine objects of notifications that no topic took in time, at `now` (ms)."""
    records = []
    for notice in notices:
        content = msgspec.json.decode(notice)
        place = content["facility"], content["device_type"]
        why = "the topic took nothing, and too many wait"
        records.append(_left(notice.encode(), place, "unpublished", why, raw_of="notice", now=now))
    return quarantine_objects(records, shard="outbox")


def _left(body: bytes, place: tuple[str, str], reason: str, why: str, *, raw_of: str, now: int) -> Poison:
    """Make the record of something of an outbox, which has no record of the stream."""
    return Poison(
        sequence_number=str(int.from_bytes(sha256(body).digest()[:8])),
        facility=place[0],
        device_type=place[1],
        reason=reason,
        detail=why[:500],
        raw=encode_base64(body),
        raw_of=raw_of,
        received_at=now,
        envelope=None,
    )


class Archive:
    """The archive's bucket; encryption and versioning are set on the bucket."""

    def __init__(self, *, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, entry: ArchiveObject, *, retry: Retry) -> None:
        """Write one object. Raises Unavailable."""
        try:
            retry.run(
                lambda: self._client.put_object(
                    Bucket=self._bucket,
                    Key=entry.key,
                    Body=entry.body,
                    ContentType="application/gzip",
                    ChecksumAlgorithm="CRC32",  # required with Object Lock; older boto3 sends none
                )
            )
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"writing {entry.key}: {error}") from error


def _object(
    prefix: str, *, shard: str, numbers: Sequence[str], lines: Iterable[dict[str, Any]], label: str = ""
) -> ArchiveObject:
    return ArchiveObject(
        key=f"{prefix}/{shard}-{numbers[0]}-{numbers[-1]}-{len(numbers)}{label}.ndjson.gz",
        body=gzip_bytes(_encoder.encode_lines(lines)),
        sequence_numbers=tuple(numbers),
    )


_encoder = msgspec.json.Encoder()


def _archive_line(reading: Reading) -> dict[str, Any]:
    """Make the line of a record; readers remove duplicates by `sequence_number`, which is unique in the stream."""
    stamps = asdict(reading.envelope)
    raw = stamps.pop("raw")
    return {"sequence_number": reading.sequence_number, "arrived_at": reading.arrived_at, **stamps, "raw": raw}


def _quarantine_line(record: Poison, *, shard: str) -> dict[str, Any]:
    """Make the line of a quarantined record; `envelope` is the rule's, if it could be read, without the payload."""
    stamps = None if record.envelope is None else asdict(record.envelope)
    if stamps is not None:
        del stamps["raw"]
    return {
        "sequence_number": record.sequence_number,
        "shard": shard,
        "reason": record.reason,
        "detail": record.detail,
        "facility": record.facility,
        "device_type": record.device_type,
        "received_at": record.received_at,
        "envelope": stamps,
        "raw_of": record.raw_of,
        "raw": record.raw,
    }


def _date(day: int) -> str:
    return str(_EPOCH + timedelta(days=day))
