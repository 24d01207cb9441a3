"""One transaction's writes for one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..ingest.reading import Reading
from ..numbers.minute import Minute
from ..numbers.sketch import ITEM_BINS, MINUTE_BINS, PERIOD_BINS
from .items import Device, Text

# @@ What one transaction writes for one device, and what becomes of its readings by that.


class Tally(msgspec.Struct, kw_only=True):
    """What became of a number of readings."""

    processed: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    anomalies: int = 0
    unknown_metrics: int = 0

    def add(self, other: Tally) -> None:
        """Counts another tally in."""
        self.processed += other.processed
        self.duplicates += other.duplicates
        self.conflicts += other.conflicts
        self.late += other.late
        self.anomalies += other.anomalies
        self.unknown_metrics += other.unknown_metrics


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction's share for one device.

    `items` go to the readings table. Where `device_item` is None nothing changes and nothing is written: all
    `readings` were duplicates. `expected_version` None means that the device must have no version yet. `overflow` are
    readings that their minute had no room for.
    """

    device: str
    facility: str
    device_type: str
    expected_version: int | None
    device_item: Text | None
    items: tuple[Text, ...]
    size: int
    readings: tuple[Reading, ...]
    overflow: tuple[Reading, ...]
    tally: Tally


# @@ About the bytes that DynamoDB counts for an item, never less: a transaction takes 4 MB, an item 400 kB.
# @@
# @@ https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html

_DEVICE = 1_000
"""A device item without its detectors and outbox is smaller: a name, three ids, three times and three numbers."""


def size_of_device(device: Device) -> int:
    """A device's."""
    return _DEVICE + len(device.detectors) + sum(len(message.encode()) for message in device.outbox)


def size_of(item: Mapping[str, Any]) -> int:
    """Any item's."""
    total = 0
    for name, value in item.items():
        ((kind, content),) = value.items()
        total += len(name) + 8 + (size_of(content) if kind == "M" else len(content))
    return total


def size_of_minute(minute: Minute, metrics: int) -> int:
    """A minute's, which has so many metrics at most: its parts have known lengths."""
    messages = len(minute.entries) + len(minute.conflicts)
    return 500 + 13 * messages + (400 + 4 * min(messages, MINUTE_BINS)) * metrics


def size_of_period(metrics: int) -> int:
    """The largest that an hour's or a day's with so many metrics can be."""
    return 500 + 400 * metrics + 5 * min(PERIOD_BINS * metrics, ITEM_BINS)
