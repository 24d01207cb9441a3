"""Archive objects: deterministic keys and bytes, nothing of a message lost."""

from __future__ import annotations

import base64
import gzip
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_iot.sensor_processor.adapters.archive import quarantine_objects, readings_objects
from fleet_iot.sensor_processor.ingest import codec as compression
from fleet_iot.sensor_processor.ingest.batch import parse_batch
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue

SHARD = "shardId-000000000000"


def test_a_batch_is_one_object_an_hour(reading: Any) -> None:
    """All plants and types share an object, named by its first and last record; each hour of arrival has its own."""
    midnight = 1_795_478_400_000
    readings = [
        reading(sequence_number="1"),
        reading(sequence_number="2", facility="my-jb-01"),
        reading(sequence_number="3", received_at=midnight, time=midnight),
        reading(sequence_number="4"),
        reading(sequence_number="5", arrived_at=midnight + 3_600_000),
    ]

    objects = readings_objects(readings, shard=SHARD)

    assert [(each.key, each.sequence_numbers) for each in objects] == [
        (f"raw/date=2026-11-23/hour=14/{SHARD}-1-4-3.ndjson.gz", ("1", "2", "4")),
        (f"raw/date=2026-11-24/hour=00/{SHARD}-3-3-1.ndjson.gz", ("3",)),
        (f"raw/date=2026-11-24/hour=01/{SHARD}-5-5-1.ndjson.gz", ("5",)),
    ]


def test_the_payload_is_kept_byte_for_byte(reading: Any, payload: Any) -> None:
    """A line has the original bytes, the rule's stamps and the record's sequence number."""
    (entry,) = readings_objects([reading(sequence_number="1")], shard=SHARD)

    (line,) = map(json.loads, gzip.decompress(entry.body).splitlines())
    assert base64.b64decode(line.pop("raw")) == payload()
    assert line == {
        "sequence_number": "1",
        "facility": "sg-01",
        "device_type": "press-monitor",
        "thing": "sg-01-press-monitor-0001-dev",
        "client_id": "sg-01-press-monitor-0001-dev",
        "principal": f"{1:064x}",
        "arrived_at": 1_795_445_343_250,
        "received_at": 1_795_445_343_250,
        "trace_id": "00000000-0000-0000-0000-000000000000",
    }


def test_the_same_readings_give_the_same_bytes(reading: Any) -> None:
    """A redelivered batch overwrites its objects with themselves."""
    readings = [reading(sequence_number=str(number), sequence=number) for number in range(1, 50)]

    assert readings_objects(readings, shard=SHARD) == readings_objects(readings, shard=SHARD)


def test_quarantine_says_reason_and_origin(event: Any, record: Any, catalogue: Catalogue) -> None:
    """A quarantined record keeps its bytes, reason, shard, and what the rule stamped."""
    batch = parse_batch(
        event(record(payload=b"\xff", sequence_number="9"), record(data=b"{", sequence_number="10")),
        catalogue=catalogue,
        suffix="dev",
    )

    objects = quarantine_objects(batch.poison, shard=batch.shard)

    assert [each.key for each in objects] == [
        f"quarantine/facility=sg-01/date=2026-11-23/{SHARD}-9-9-1.ndjson.gz",
        f"quarantine/facility=unknown/date=2026-11-23/{SHARD}-10-10-1.ndjson.gz",
    ]
    known, unknown = (json.loads(gzip.decompress(each.body)) for each in objects)
    assert {name: known[name] for name in ("reason", "raw", "raw_of", "shard", "sequence_number")} == {
        "reason": "utf8",
        "raw": "/w==",
        "raw_of": "payload",
        "shard": SHARD,
        "sequence_number": "9",
    }
    assert known["envelope"]["principal"] == f"{1:064x}"
    assert "raw" not in known["envelope"]
    assert (unknown["reason"], unknown["raw"], unknown["envelope"]) == ("envelope", "ew==", None)


@given(frames=st.lists(st.binary(max_size=5_000), max_size=5), has_isal=st.booleans())
def test_both_compressors_are_read_by_both(frames: list[bytes], has_isal: bool) -> None:
    """What isal packs is unpacked by zlib and vice versa, so a function without isal continues the same state."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "HAS_ISAL", has_isal)
        packed = compression.compress_frames(frames)
        assert gzip.decompress(compression.gzip_bytes(b"".join(frames))) == b"".join(frames)
        patch.setattr(compression, "HAS_ISAL", not has_isal)
        assert list(compression.decompress_frames(packed)) == frames


@pytest.mark.parametrize("cut", [1, 10, 500])
def test_a_cut_stream_is_refused(cut: int) -> None:
    """An object that is not whole is an error, never fewer devices."""
    packed = compression.compress_frames([random.Random(1).randbytes(2_000)])

    with pytest.raises(ValueError, match="compressed data"):
        list(compression.decompress_frames(packed[:-cut]))


def test_the_archive_is_written_without_isal(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive without isal has the same lines, written by zlib and without a time in them."""
    readings = [reading(sequence_number="1")]
    (fast,) = readings_objects(readings, shard=SHARD)
    monkeypatch.setattr(compression, "HAS_ISAL", False)
    (plain,), (again,) = readings_objects(readings, shard=SHARD), readings_objects(readings, shard=SHARD)

    assert gzip.decompress(plain.body) == gzip.decompress(fast.body)
    assert (plain.key, plain.body) == (again.key, again.body)
