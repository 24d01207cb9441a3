"""Reads one shard of a stream in order, from where its event source has got to, and tells when it is at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from fleet_iot.operations.local.event_source import EventSource
from fleet_iot.operations.local.event_source_values import StreamRecord


def readable_shards(shards: Iterable[Mapping[str, Any]], *, finished: set[str]) -> list[str]:
    """The shards that may be read now: a shard waits until those that it was split or merged from are finished."""
    listed = {shard["ShardId"]: shard for shard in shards}

    def may_be_read(shard: Mapping[str, Any]) -> bool:
        parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
        return all(parent is None or parent not in listed or parent in finished for parent in parents)

    return [name for name, shard in sorted(listed.items()) if may_be_read(shard)]


class ShardReader:
    """One shard, its place in the stream and its event source."""

    def __init__(self, client: Any, stream_arn: str, shard: str, *, source: EventSource, starts_at: str) -> None:
        self.shard = shard
        self.source = source
        self.last_failure: str | None = None
        self.is_closed = False
        self._client = client
        self._stream_arn = stream_arn
        self._starts_at = starts_at
        self._iterator: str | None = None
        self._last_read = source.checkpoint
        self._millis_behind: int | None = None

    @property
    def is_drained(self) -> bool:
        """Whether the end of the shard was reached and all that was read is done with."""
        return self.source.is_idle and (self.is_closed or self._millis_behind == 0)

    def read(self, *, limit: int) -> int:
        """Hands the next records to the event source; how many there were."""
        if self.is_closed:
            return 0
        if self._iterator is None:
            self._iterator = self._new_iterator()
        try:
            # The stream is named too: the emulator looks for it there when it asks whether the role may read.
            answer = self._client.get_records(
                ShardIterator=self._iterator, StreamARN=self._stream_arn, Limit=min(limit, 10_000)
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ExpiredIteratorException":
                raise
            # After five minutes without reading (a long batch): go on from where reading had got to.
            self._iterator = None
            return 0
        records = [
            StreamRecord(
                sequence=record["SequenceNumber"],
                partition_key=record["PartitionKey"],
                data=record["Data"],
                arrived=record["ApproximateArrivalTimestamp"].timestamp(),
            )
            for record in answer["Records"]
        ]
        self._iterator = answer.get("NextShardIterator")
        self.is_closed = self._iterator is None
        self._millis_behind = answer.get("MillisBehindLatest", 0)
        if records:
            self._last_read = records[-1].sequence
            self.source.receive(records, now=time.time())
        return len(records)

    def facts(self) -> dict[str, Any]:
        """For the statistics file."""
        return {
            "checkpoint": self.source.checkpoint,
            "millis_behind": self._millis_behind,
            "is_idle": self.source.is_idle,
            **self.source.counts.as_dict(),
        }

    def _new_iterator(self) -> str:
        position: dict[str, Any] = {"ShardIteratorType": self._starts_at}
        if self._last_read is not None:
            position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": self._last_read}
        iterator: str = self._client.get_shard_iterator(StreamARN=self._stream_arn, ShardId=self.shard, **position)[
            "ShardIterator"
        ]
        return iterator
