"""A batch: every record ends as a reading or in quarantine, with where it came from."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.sensor_processor.ingest.batch import BatchError, parse_batch
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue


def test_readings_and_poison_are_told_apart(event: Any, record: Any, catalogue: Catalogue) -> None:
    """Good records become readings in the stream's order, the rest poison, none is lost."""
    batch = parse_batch(
        event(record(sequence_number="5"), record(payload=b"{", sequence_number="6"), record(sequence_number="7")),
        catalogue=catalogue,
        suffix="dev",
    )

    assert [reading.sequence_number for reading in batch.readings] == ["5", "7"]
    assert [(poison.sequence_number, poison.reason) for poison in batch.poison] == [("6", "malformed")]
    assert batch.shard == "shardId-000000000000"


def test_a_facility_that_is_no_id_is_unknown(event: Any, record: Any, catalogue: Catalogue) -> None:
    """A facility that could change the quarantine's key stays out of it, and what was sent is kept."""
    batch = parse_batch(event(record(facility="../../raw", payload=b"x")), catalogue=catalogue, suffix="dev")

    (poison,) = batch.poison
    assert (poison.facility, poison.device_type, poison.reason) == ("unknown", "unknown", "ids")
    assert (poison.raw, poison.raw_of) == (base64.b64encode(b"x").decode(), "payload")
    assert poison.envelope is not None
    assert poison.envelope.facility == "../../raw"


def test_a_device_type_that_nobody_declared_is_unknown(event: Any, record: Any, catalogue: Catalogue) -> None:
    """A device type outside the catalogue makes no metric dimension of its own."""
    batch = parse_batch(event(record(device_type="toaster")), catalogue=catalogue, suffix="dev")

    assert [(poison.facility, poison.device_type) for poison in batch.poison] == [("sg-01", "unknown")]


def test_the_bytes_of_a_broken_envelope_are_kept(event: Any, record: Any, catalogue: Catalogue) -> None:
    """Without an envelope the record's own data is what quarantine keeps."""
    batch = parse_batch(event(record(data=b"\x00\xff")), catalogue=catalogue, suffix="dev")

    assert [(poison.raw, poison.raw_of) for poison in batch.poison] == [("AP8=", "record")]


def test_characters_that_are_no_base64_are_kept(event: Any, record: Any, catalogue: Catalogue) -> None:
    """A payload that is no base64 is kept as base64 of its characters and is marked as text."""
    batch = parse_batch(event(record(raw="%%%")), catalogue=catalogue, suffix="dev")

    assert [(poison.raw, poison.raw_of) for poison in batch.poison] == [("JSUl", "payload_text")]


@pytest.mark.slow
@settings(max_examples=200)
@given(data=st.lists(st.binary(max_size=200), max_size=8))
def test_no_record_is_lost(data: list[bytes], event: Any, record: Any, catalogue: Catalogue) -> None:
    """Readings and quarantined records together are the batch, whatever its content."""
    records = [record(data=each) for each in data]

    batch = parse_batch(event(*records), catalogue=catalogue, suffix="dev")

    numbers = [each.sequence_number for each in (*batch.readings, *batch.poison)]
    assert sorted(numbers) == sorted(each["kinesis"]["sequenceNumber"] for each in records)


@pytest.mark.parametrize(
    "event", [{}, {"Records": None}, {"Records": [{}]}, {"Records": [{"kinesis": {"sequenceNumber": "../x"}}]}]
)
def test_an_event_of_another_source_is_an_error(event: dict[str, Any], catalogue: Catalogue) -> None:
    """An event that is no Kinesis batch cannot be acknowledged and is refused as a whole."""
    with pytest.raises(BatchError):
        parse_batch(event, catalogue=catalogue, suffix="dev")


def test_a_shard_name_that_is_none_stays_out_of_keys(event: Any, record: Any, catalogue: Catalogue) -> None:
    """The shard is part of object keys, so only a valid shard id is used."""
    hostile = record() | {"eventID": "../../x:1"}

    assert parse_batch(event(hostile), catalogue=catalogue, suffix="dev").shard == "unknown"
