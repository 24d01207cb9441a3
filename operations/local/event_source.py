"""Lambda's event source: a state machine for one shard, and the program that polls shards and invokes the function."""

from __future__ import annotations

import argparse
import base64
import datetime
import json
import logging
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError
from fleet_iot.operations.local.aws import LocalAws, RoleSession, load, read_statistics, write_statistics
from fleet_iot.operations.local.function_host import (
    FunctionFailedError,
    FunctionHost,
    deployed_function,
    unpack_function,
)

# The event source of one shard of a stream, as a state machine without effects: records in, next action out.


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
    """The answers that get lost, as if Lambda had crashed before its checkpoint: the same for the same seed.

    The first answer is always lost (where `probability` is not 0), so that a run that wants redelivery has some.
    """

    probability: float = 0.0
    seed: int = 0

    def forgets(self, ordinal: int) -> bool:
        """Return whether the answer with this number, from 0, is lost."""
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
        """Return whether every received record is processed."""
        return not self._buffer and not self._batches

    @property
    def wants_records(self) -> bool:
        """Return whether to read more records: no batch is in progress, and the buffer has less than one."""
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

    def answered(self, answer: object, *, now: float, is_calm: bool = False) -> None:
        """Report that the function returned `answer` (decoded JSON) for the batch that was invoked.

        While it is calm no answer gets lost, and none is counted.
        """
        head = self._batches.popleft()
        self.counts.invocations += 1
        head = replace(head, invocations=head.invocations + 1)
        first_failed = _first_failed(answer, head.records) if self._settings.reports_items else len(head.records)
        ordinal, self._answers = self._answers, self._answers + (not is_calm)
        if first_failed is not None and not is_calm and self._redelivery.forgets(ordinal):
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


# The program: polls the stream's shards and invokes the function.


def readable_shards(shards: Iterable[Mapping[str, Any]], *, finished: set[str]) -> list[str]:
    """Return the shards that may be read now: a shard waits until its parents are finished."""
    listed = {shard["ShardId"]: shard for shard in shards}

    def may_be_read(shard: Mapping[str, Any]) -> bool:
        parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
        return all(parent is None or parent not in listed or parent in finished for parent in parents)

    return [name for name, shard in sorted(listed.items()) if may_be_read(shard)]


class ShardReader:
    """Reads one shard in order, from its event source's checkpoint."""

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
        """Return whether the end of the shard was reached and everything that was read is processed."""
        return self.source.is_idle and (self.is_closed or self._millis_behind == 0)

    def read(self, *, limit: int) -> int:
        """Pass the next records to the event source; return how many there were."""
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
        """Return what the statistics file says of the shard."""
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


NAME = "event-source"
STATISTICS = "event-source.json"

POLL_SECONDS = 0.2
"""AWS reads each shard at most five times a second."""

SHARDS_SECONDS = 10.0
"""Interval of checks for a reshard."""

SWEEP_SECONDS = 60.0
"""Interval of the schedule that sweeps the lanes."""

CALM = "calm"
"""File in the local AWS's folder: no answer gets lost while it is there."""
SETTLE = "settle"
"""A file by which a program asks for a sweep as of two minutes later, when every minute so far is over."""

SETTLED_MS = 120_000

log = logging.getLogger(NAME)


def settings_of(mapping: Mapping[str, Any]) -> SourceSettings:
    """Read the settings of an event source mapping as Lambda lists it."""
    unsupported = [name for name in ("TumblingWindowInSeconds", "FilterCriteria") if mapping.get(name)]
    if unsupported:
        raise EnvironmentFault(
            f"the event source mapping uses {unsupported[0]}, which the local event source does not support",
            hint="leave it out, or add it to operations/local/event_source.py",
        )
    retries, age = mapping.get("MaximumRetryAttempts", -1), mapping.get("MaximumRecordAgeInSeconds", -1)
    return SourceSettings(
        batch_size=mapping["BatchSize"],
        window_s=mapping.get("MaximumBatchingWindowInSeconds", 0),
        retries=None if retries < 0 else retries,
        age_s=None if age < 0 else age,
        bisects=mapping.get("BisectBatchOnFunctionError", False),
        reports_items="ReportBatchItemFailures" in mapping.get("FunctionResponseTypes", []),
    )


def kinesis_mapping(client: Any) -> dict[str, Any]:
    """Return the deployed mapping of a Kinesis stream; it is disabled, but its settings count."""
    mappings: list[dict[str, Any]] = client.list_event_source_mappings()["EventSourceMappings"]
    found = [mapping for mapping in mappings if ":kinesis:" in mapping.get("EventSourceArn", "")]
    if len(found) != 1:
        raise EnvironmentFault(
            f"{len(found)} event source mappings of a Kinesis stream are deployed, not one",
            hint="apply the platform first: fleet local apply",
        )
    return found[0]


class EventSourceProcess:
    """Connects the shards' state machines with the stream, the function and the failure queue."""

    def __init__(self, local: LocalAws, *, redelivery: Redelivery) -> None:
        client = local.client("lambda")
        mapping = kinesis_mapping(client)
        self._local = local
        self._settings = settings_of(mapping)
        self._starts_at = mapping.get("StartingPosition", "TRIM_HORIZON")
        self._stream_arn: str = mapping["EventSourceArn"]
        self._failures_url = _queue_url(local, mapping)
        self._redelivery = redelivery
        self._function = deployed_function(client, mapping["FunctionArn"])
        self._role = RoleSession(local, self._function.role_arn, session_name=self._function.name)
        self._kinesis = self._role.client("kinesis")
        code = local.folder / "function"
        unpack_function(local.fetch(client.get_function(FunctionName=self._function.name)["Code"]["Location"]), code)
        base = {k: v for k, v in local.environment().items() if k.startswith("AWS_") or k.upper() == "NO_PROXY"}
        self._host = FunctionHost(
            self._function,
            code=code,
            base_environment=base | {"TMPDIR": str(local.folder / "tmp")},
            credentials=self._role.environment,
            log=local.logs / "function.log",
        )
        self._readers: dict[str, ShardReader] = {}
        self._finished: set[str] = set()
        self._error: str | None = None
        self._written = 0.0
        self._idle_at = 0.0
        self._sweeps = 0

    def run(self) -> None:
        """Work until the process is ended."""
        looked_at, swept_at = 0.0, time.monotonic()
        earlier = read_statistics(self._local.folder / STATISTICS).get("shards", {})
        while True:
            try:
                if time.monotonic() - looked_at > SHARDS_SECONDS or not self._readers:
                    self._look_for_shards(earlier)
                    looked_at = time.monotonic()
                if time.monotonic() - swept_at > SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    self._sweep({"sweep": True})
                started = time.time()
                is_busy = [self._work_on(reader) for reader in list(self._readers.values())]
                if not any(is_busy):
                    if all(reader.is_drained for reader in self._readers.values()):
                        self._settle()
                        self._idle_at = started
                    self._write_statistics()
                    time.sleep(POLL_SECONDS)
                self._write_statistics(at_most_every=1.0)
            except (BotoCoreError, ClientError, OSError) as error:
                self._error = f"{type(error).__name__}: {error}"
                log.error("%s", self._error)
                self._write_statistics()
                time.sleep(1.0)

    def _look_for_shards(self, earlier: Mapping[str, Any]) -> None:
        shards = self._kinesis.list_shards(StreamARN=self._stream_arn)["Shards"]
        for shard in readable_shards(shards, finished=self._finished):
            if shard in self._readers:
                continue
            source = EventSource(self._settings, redelivery=self._redelivery)
            source.checkpoint = earlier.get(shard, {}).get("checkpoint")
            self._readers[shard] = ShardReader(
                self._kinesis, self._stream_arn, shard, source=source, starts_at=self._starts_at
            )
            log.info("reading %s after %s", shard, source.checkpoint or self._starts_at)

    def _work_on(self, reader: ShardReader) -> bool:
        """Read and do one step; return whether there was anything to do."""
        source = reader.source
        found = reader.read(limit=self._settings.batch_size) if source.wants_records else 0
        action = source.next_action(now=time.time())
        if isinstance(action, Invoke):
            self._invoke(reader, action)
        elif isinstance(action, Discard):
            self._discard(reader, action)
        elif reader.is_closed and source.is_idle:
            self._finished.add(reader.shard)
        return isinstance(action, Invoke | Discard) or found > 0

    def _invoke(self, reader: ShardReader, action: Invoke) -> None:
        event = kinesis_event(
            action.records,
            shard=reader.shard,
            stream_arn=self._stream_arn,
            role_arn=self._function.role_arn,
            region=self._local.region,
        )
        try:
            answer = self._host.invoke(event)
        except FunctionFailedError as failure:
            self._error = str(failure)
            log.error("invocation %s on %d records: %s", self._host.request_id, len(action.records), failure)
            reader.last_failure = failure.error
            reader.source.failed(now=time.time())
        else:
            reader.last_failure = None
            reader.source.answered(answer, now=time.time(), is_calm=(self._local.folder / CALM).exists())

    def _settle(self) -> None:
        """Sweep as of later where a program asks for it, so that it need not wait until every minute is over."""
        asked = self._local.folder / SETTLE
        if asked.exists():
            self._sweep({"sweep": True, "at": int(time.time() * 1000) + SETTLED_MS})
            asked.unlink()

    def _sweep(self, event: dict[str, Any]) -> None:
        self._sweeps += 1
        try:
            self._host.invoke(event)
        except FunctionFailedError as failure:
            self._error = str(failure)
            log.error("sweep %s: %s", self._host.request_id, failure)

    def _discard(self, reader: ShardReader, action: Discard) -> None:
        message = failure_message(
            action,
            shard=reader.shard,
            stream_arn=self._stream_arn,
            function_arn=self._function.arn,
            request_id=self._host.request_id,
            error=reader.last_failure,
            now=time.time(),
        )
        log.error("discarded: %s", json.dumps(message))
        if self._failures_url:
            self._role.client("sqs").send_message(QueueUrl=self._failures_url, MessageBody=json.dumps(message))
        reader.source.discarded(action.records)

    def _write_statistics(self, *, at_most_every: float = 0.4) -> None:
        if time.monotonic() - self._written < at_most_every:
            return
        self._written = time.monotonic()
        shards = {name: reader.facts() for name, reader in self._readers.items()}
        names = next(iter(self._readers.values())).source.counts.as_dict() if self._readers else {}
        totals = {
            name: sum(reader.source.counts.as_dict()[name] for reader in self._readers.values()) for name in names
        }
        document = {
            "pid": os.getpid(),
            "is_ready": bool(self._readers),
            "idle_at": self._idle_at,
            "sweeps": self._sweeps,
            "totals": totals,
            "shards": shards,
            "last_error": self._error,
        }
        write_statistics(self._local.folder / STATISTICS, document)


def _queue_url(local: LocalAws, mapping: Mapping[str, Any]) -> str | None:
    """Look up the on-failure queue's URL as root: Lambda itself needs no permission for that."""
    arn: str = mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination", "")
    if ":sqs:" not in arn:
        return None
    url: str = local.client("sqs").get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
    return url


def main() -> None:
    """`python -m fleet_iot.operations.local.event_source --dir FOLDER [--redeliver P --seed K]`"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--redeliver", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    redelivery = Redelivery(probability=arguments.redeliver, seed=arguments.seed)
    try:
        EventSourceProcess(load(arguments.dir), redelivery=redelivery).run()
    except FleetError as fault:
        raise SystemExit("\n".join(fault.lines())) from None


if __name__ == "__main__":
    main()
