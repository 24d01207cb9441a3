"""Lambda's event source for one shard of a stream, as a state machine without effects: records in, next action out."""

from __future__ import annotations

import base64
import datetime
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """One record of the stream; `arrived` is when the stream stored it, in seconds since the epoch."""

    sequence: str
    partition_key: str
    data: bytes
    arrived: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """An event source mapping's settings; None is Lambda's -1, without limit."""

    batch_size: int = 100
    window_s: float = 0.0
    retries: int | None = None
    age_s: float | None = None
    bisects: bool = False
    reports_items: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoke:
    """Invoke the function with these records, then call `answered` or `failed`."""

    records: tuple[StreamRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Report these records to the on-failure destination, then call `discarded`."""

    records: tuple[StreamRecord, ...]
    condition: str
    invocations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do before `until`, or before more records come where it is None."""

    until: float | None


Action = Invoke | Discard | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """Which answers get lost, as if Lambda had crashed before its checkpoint: the same for the same seed.

    The first answer is always lost (where `probability` is not 0), so that a run that wants redelivery has some.
    """

    probability: float = 0.0
    seed: int = 0

    def forgets(self, ordinal: int) -> bool:
        """Whether the answer with this number, from 0, is lost."""
        if self.probability <= 0:
            return False
        return ordinal == 0 or random.Random(f"{self.seed}:{ordinal}").random() < self.probability  # noqa: S311


@dataclass(slots=True, kw_only=True)
class Counts:
    """Totals of one shard, in records except for the invocations and failures."""

    read: int = 0
    invocations: int = 0
    failures: int = 0
    done: int = 0
    redelivered: int = 0
    discarded: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counts for the statistics file."""
        return asdict(self)


# The rules are those of https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-errors.html: batches in order,
# one at a time; the lowest reported sequence number is the checkpoint; an answer that cannot be understood fails the
# whole batch; a failed batch is split before it is retried, which costs no retry; records that ran out of retries or
# are too old go to the on-failure destination.

PAYLOAD_BYTES = 6_000_000
"""The payload limit of one synchronous invocation."""

RECORD_OVERHEAD_BYTES = 500
"""The size of a record in an event, without its data."""

RETRY_DELAYS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before a failed batch is retried; AWS gives no figures, and a local run should not wait for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    records: tuple[StreamRecord, ...]
    retries: int = 0
    invocations: int = 0
    failures: int = 0
    not_before: float = 0.0
    is_exhausted: bool = False


class EventSource:
    """One shard's event source. The caller passes the time in, and does every effect."""

    def __init__(self, settings: SourceSettings, *, redelivery: Redelivery | None = None) -> None:
        self._settings = settings
        self._redelivery = redelivery or Redelivery()
        self._buffer: deque[StreamRecord] = deque()
        self._buffered_at: float | None = None
        self._batches: deque[_Batch] = deque()
        self._answers = 0
        self.checkpoint: str | None = None
        self.counts = Counts()

    @property
    def is_idle(self) -> bool:
        """Whether every received record is processed."""
        return not self._buffer and not self._batches

    @property
    def wants_records(self) -> bool:
        """Whether to read more records: no batch is in progress, and the buffer holds less than one."""
        return not self._batches and len(self._buffer) < self._settings.batch_size

    def receive(self, records: Iterable[StreamRecord], *, now: float) -> None:
        """Accept records in the stream's order."""
        before = len(self._buffer)
        self._buffer.extend(records)
        self.counts.read += len(self._buffer) - before
        if self._buffer and self._buffered_at is None:
            self._buffered_at = now

    def next_action(self, *, now: float) -> Action:
        """Return what to do now; the same again until something is reported."""
        if not self._batches:
            self._form_batch(now)
        if not self._batches:
            return Wait(until=None if self._buffered_at is None else self._buffered_at + self._settings.window_s)
        head = self._batches[0]
        expired = self._expired(head, now)
        if expired:
            return Discard(records=expired, condition="RecordAgeExceeded", invocations=head.invocations)
        if head.is_exhausted:
            return Discard(records=head.records, condition="RetryAttemptsExhausted", invocations=head.invocations)
        return Wait(until=head.not_before) if head.not_before > now else Invoke(records=head.records)

    def answered(self, answer: object, *, now: float) -> None:
        """Report that the function returned `answer` (decoded JSON) for the batch that was invoked."""
        head = self._batches.popleft()
        self.counts.invocations += 1
        head = replace(head, invocations=head.invocations + 1)
        first_failed = _first_failed(answer, head.records) if self._settings.reports_items else len(head.records)
        ordinal, self._answers = self._answers, self._answers + 1
        if first_failed is not None and self._redelivery.forgets(ordinal):
            self.counts.redelivered += len(head.records)
            self._batches.appendleft(replace(head, not_before=now))
            return
        if first_failed is None:
            self._fail(head, now)
            return
        self._finish(head.records[:first_failed])
        self.counts.done += first_failed
        rest = replace(head, records=head.records[first_failed:])
        if rest.records:
            self.counts.failures += 1
            # Split where the function said, which costs no retry; but at its first record nothing was split off.
            self._retry(rest, now, is_split=self._settings.bisects and first_failed > 0)

    def failed(self, *, now: float) -> None:
        """Report that the function raised, timed out or died on the batch that was invoked."""
        self.counts.invocations += 1
        head = self._batches.popleft()
        self._fail(replace(head, invocations=head.invocations + 1), now)

    def discarded(self, records: tuple[StreamRecord, ...]) -> None:
        """Report that the on-failure destination has `records`, the first of the current batch."""
        head = self._batches.popleft()
        self._finish(records)
        self.counts.discarded += len(records)
        rest = head.records[len(records) :]
        if rest:
            self._batches.appendleft(replace(head, records=rest))

    def _form_batch(self, now: float) -> None:
        taken: list[StreamRecord] = []
        size = 0
        is_full = False
        for record in self._buffer:
            size += len(record.data) * 4 // 3 + len(record.partition_key) + RECORD_OVERHEAD_BYTES
            is_full = len(taken) == self._settings.batch_size or (size > PAYLOAD_BYTES and bool(taken))
            if is_full:
                break
            taken.append(record)
        is_full = is_full or len(taken) == self._settings.batch_size
        is_due = self._buffered_at is not None and now >= self._buffered_at + self._settings.window_s
        if not taken or not (is_full or is_due):
            return
        for _ in taken:
            self._buffer.popleft()
        self._buffered_at = now if self._buffer else None
        self._batches.append(_Batch(records=tuple(taken)))

    def _expired(self, batch: _Batch, now: float) -> tuple[StreamRecord, ...]:
        if self._settings.age_s is None:
            return ()
        oldest = now - self._settings.age_s
        count = next((i for i, record in enumerate(batch.records) if record.arrived >= oldest), len(batch.records))
        return batch.records[:count]

    def _fail(self, batch: _Batch, now: float) -> None:
        self.counts.failures += 1
        middle = len(batch.records) // 2
        if self._settings.bisects and middle:
            self._batches.appendleft(replace(batch, records=batch.records[middle:]))
            self._retry(replace(batch, records=batch.records[:middle]), now, is_split=True)
        else:
            self._retry(batch, now, is_split=False)

    def _retry(self, batch: _Batch, now: float, *, is_split: bool) -> None:
        limit = self._settings.retries
        is_exhausted = not is_split and limit is not None and batch.retries >= limit
        delay = RETRY_DELAYS_S[min(batch.failures, len(RETRY_DELAYS_S) - 1)]
        again = replace(
            batch,
            retries=batch.retries + (not is_split),
            failures=batch.failures + 1,
            not_before=now + delay,
            is_exhausted=is_exhausted,
        )
        self._batches.appendleft(again)

    def _finish(self, records: tuple[StreamRecord, ...]) -> None:
        if records:
            self.checkpoint = records[-1].sequence


def _first_failed(answer: object, records: tuple[StreamRecord, ...]) -> int | None:
    """Return the index of the first failed record, their number where all are done, None for an invalid answer."""
    if not answer:
        return len(records)
    failures: Any = answer.get("batchItemFailures") if isinstance(answer, dict) else answer
    if not isinstance(answer, dict) or not isinstance(failures, list | None):
        return None
    places = {record.sequence: index for index, record in enumerate(records)}
    first = len(records)
    for failure in failures or ():
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        place = places.get(identifier) if isinstance(identifier, str) else None
        if place is None:
            return None
        first = min(first, place)
    return first


def kinesis_event(
    records: tuple[StreamRecord, ...], *, shard: str, stream_arn: str, role_arn: str, region: str
) -> dict[str, Any]:
    """Build the event that a function gets for these records.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key,
                    "sequenceNumber": record.sequence,
                    "data": base64.b64encode(record.data).decode(),
                    "approximateArrivalTimestamp": record.arrived,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{shard}:{record.sequence}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": role_arn,
                "awsRegion": region,
                "eventSourceARN": stream_arn,
            }
            for record in records
        ]
    }


def failure_message(
    discard: Discard,
    *,
    shard: str,
    stream_arn: str,
    function_arn: str,
    request_id: str,
    error: str | None,
    now: float,
) -> dict[str, Any]:
    """Build the message to the on-failure destination: the records' positions in the stream, not their data.

    https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
    """
    message: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.invocations,
        },
        "version": "1.0",
        "timestamp": _instant(now),
        "KinesisBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": discard.records[0].sequence,
            "endSequenceNumber": discard.records[-1].sequence,
            "approximateArrivalOfFirstRecord": _instant(discard.records[0].arrived),
            "approximateArrivalOfLastRecord": _instant(discard.records[-1].arrived),
            "batchSize": len(discard.records),
            "streamArn": stream_arn,
        },
    }
    if discard.invocations:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}
        message["responseContext"] = context
    return message


def _instant(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
