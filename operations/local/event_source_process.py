"""The event source's program: polls the stream's shards and invokes the function."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError
from fleet_iot.operations.local.aws import LocalAws, RoleSession, load, read_statistics, write_statistics
from fleet_iot.operations.local.event_source import (
    Discard,
    EventSource,
    Invoke,
    Redelivery,
    SourceSettings,
    StreamRecord,
    failure_message,
    kinesis_event,
)
from fleet_iot.operations.local.function_host import (
    FunctionFailedError,
    FunctionHost,
    deployed_function,
    unpack_function,
)


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
        """Whether the end of the shard was reached and everything that was read is processed."""
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
"""How often the stream is checked for a reshard."""

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

    def run(self) -> None:
        """Work until the process is ended."""
        looked_at = 0.0
        earlier = read_statistics(self._local.folder / STATISTICS).get("shards", {})
        while True:
            try:
                if time.monotonic() - looked_at > SHARDS_SECONDS or not self._readers:
                    self._look_for_shards(earlier)
                    looked_at = time.monotonic()
                started = time.time()
                is_busy = [self._work_on(reader) for reader in list(self._readers.values())]
                if not any(is_busy):
                    if all(reader.is_drained for reader in self._readers.values()):
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
            reader.source.answered(answer, now=time.time())

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
    """`python -m fleet_iot.operations.local.event_source_process --dir FOLDER [--redeliver P --seed K]`"""
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
