"""The handler end to end on in-process AWS: effects, redelivery, poison."""

from __future__ import annotations

from typing import Any

DEVICE = "sg-01-press-monitor-0001-dev"


def test_a_reading_becomes_a_minute_a_device_and_an_archive_line(platform: Any, event: Any, record: Any) -> None:
    """One reading makes its minute item, its device item and one line in the archive, and is acknowledged."""
    failed = platform.handle(event(record(sequence_number="100")))

    assert failed == []
    (minute,) = platform.minutes()
    assert minute["bucket"]["S"] == "minute#2026-11-23T14:49Z"
    assert minute["messages"] == {"N": "1"}
    assert minute["metrics"]["M"]["temperature"] == {
        "M": {name: {"N": "1" if name == "count" else "71.25"} for name in ("count", "sum", "min", "max", "last")}
    }
    (device,) = platform.devices()
    assert (device["device"]["S"], device["version"]["N"], device["messages"]["N"]) == (DEVICE, "1", "1")
    assert device["first_contact"]["S"] == "2026-11-23T14:49:03.250Z"
    assert platform.keys() == [
        "raw/facility=sg-01/device_type=press-monitor/date=2026-11-23/shardId-000000000000-100-100-1.ndjson.gz"
    ]


def test_a_redelivered_batch_changes_nothing(platform: Any, event: Any, record: Any, payload: Any) -> None:
    """The second delivery of a batch leaves every item and every key as the first one left it."""
    batch = event(*(record(payload=payload(sequence=number, metrics={"temperature": 99.5})) for number in range(20)))
    platform.handle(batch)
    before = platform.items(), platform.devices(), platform.keys()

    failed = platform.handle(batch)

    assert failed == []
    assert (platform.items(), platform.devices(), platform.keys()) == before


def test_poison_is_quarantined_and_does_not_block(platform: Any, event: Any, record: Any) -> None:
    """A poisonous record goes to quarantine with its reason and the good ones beside it are counted."""
    failed = platform.handle(event(record(payload=b"{"), record(), record(data=b"\xff")))

    assert failed == []
    assert [item["messages"]["N"] for item in platform.minutes()] == ["1"]
    assert sorted((line["facility"], line["reason"]) for line in platform.lines("quarantine/")) == [
        ("sg-01", "malformed"),
        ("unknown", "envelope"),
    ]
