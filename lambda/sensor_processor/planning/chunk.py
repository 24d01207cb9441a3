"""What one transaction writes for one device, and what becomes of its readings by that."""

from __future__ import annotations

import msgspec

from ..ingest.reading import Reading
from .attributes import Text


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
