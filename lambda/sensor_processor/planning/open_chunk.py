"""The chunk that readings are being put into, and whether another one still fits."""

from __future__ import annotations

import msgspec

from ..ingest.reading import Reading
from ..numbers.minute import Minute
from ..numbers.period import hour_of
from .attributes import Item
from .chunk import Tally
from .sizes import size_of_minute, size_of_period

CHUNK_ITEMS = 90
"""Items of one device in a transaction, below DynamoDB's 100 for a call."""

CHUNK_BYTES = 1_000_000
"""Bytes of one device's items in a transaction, well below DynamoDB's 4 MB for a call."""

FEW_MINUTES = 15
"""With the hours and days that they may end, they leave room for a reading's anomalies in a chunk."""

MAX_FINDINGS = 40
"""Anomalies of one reading; a message with more metrics out of order than this says nothing new with the rest."""


class OpenChunk(msgspec.Struct):
    """What was taken since the last chunk: all `readings`, and of them those that are `fresh` or had no room."""

    readings: list[Reading] = []
    overflow: list[Reading] = []
    fresh: list[Reading] = []
    touched: dict[int, Minute] = {}
    anomalies: dict[str, Item] = {}
    notices: list[str] = []
    tally: Tally = msgspec.field(default_factory=Tally)

    def takes(self, reading: Reading, minute: Minute, *, metrics: int) -> bool:
        """Whether what the reading may make fits in, too; its device type has so many metrics."""
        touched, is_other = self.touched, minute.start not in self.touched
        # Whatever a reading makes fits into a chunk that has little in it yet.
        if not touched or not (is_other or self.anomalies or len(touched) > FEW_MINUTES):
            return True
        periods = 2 * len({hour_of(start) for start in (minute.start, *touched)}) + 2
        items = 1 + len(touched) + len(self.anomalies) + is_other + periods
        if items + min(4 * len(reading.metrics) + 4, MAX_FINDINGS) > CHUNK_ITEMS:
            return False
        if not is_other:
            return True
        size = periods * size_of_period(metrics)
        size += sum([size_of_minute(of, metrics) for of in (*touched.values(), minute)])
        return size <= CHUNK_BYTES
