"""The Lambda function: archives a Kinesis batch, commits it to the lanes and reports the records that failed.

The story of a batch is `_process`: parse, archive, commit, quarantine, report. Once a minute a schedule invokes it for
a sweep: of lanes and devices that are silent, and of what could not be emitted.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from .adapters import Retry, Unavailable
from .adapters.archive import Archive, ArchiveObject, quarantine_objects, readings_objects
from .adapters.lanes import LaneStore
from .adapters.notifier import Notifier
from .adapters.plants import PlantStore
from .adapters.store import Store, install_json_codec
from .commit import LaneLog, Outcome
from .ingest.batch import Batch, Poison, parse_batch, poison_of
from .ingest.log import PENDING, UNEMITTED, Log, metric_line, plain_line
from .planning.device_cache import DeviceCache
from .planning.lane import LaneMemory
from .planning.planner import Folder
from .settings import Settings, read_settings

RESERVE_S = 8.0
"""Reserved of the function's time, but at most a quarter of it, to report failed records before Lambda stops it.
A call that begins just before lasts at most the two timeouts below."""

WITHOUT_CONTEXT_S = 60.0
"""Time for a batch where the caller gives no Lambda context."""

THREADS = 3
"""Concurrent calls to DynamoDB: a batch makes a dozen, which mostly wait for the network."""

CLIENT = Config(
    connect_timeout=2,
    read_timeout=5,
    # `Retry` retries, within the time that is left.
    retries={"mode": "standard", "total_max_attempts": 1},
    # The tests check the items; botocore's own validation costs as much as the rest of a call.
    parameter_validation=False,
    # botocore would assemble its own from twenty parts for each call.
    user_agent=f"sensor-processor botocore/{botocore.__version__}",
)

NOTIFIER_CLIENT = CLIENT.merge(Config(connect_timeout=1, read_timeout=3))
"""Short timeouts: a topic that hangs must not delay a batch."""

_TRANSIENT = frozenset(
    {
        "InternalServerError",
        "InternalError",
        "KMS.ThrottlingException",
        "KMSInternalException",
        "LimitExceededException",
        "ConditionalRequestConflict",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TransactionInProgressException",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """State of one process, kept between batches; a test passes its own `clock` and `now`, in seconds."""

    settings: Settings
    log: LaneLog
    random: Random
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    write: Callable[[str], object] = print


@cache
def runtime() -> Runtime:
    """Make the settings and clients of this process, once. Raises SettingsError."""
    settings = read_settings(os.environ, default_catalogue=Path(__file__).parent.parent / "catalogue.json")
    session = boto3.session.Session()
    random = SystemRandom()
    dynamodb = install_json_codec(session.client("dynamodb", config=CLIENT))
    s3 = session.client("s3", config=CLIENT)
    process = Runtime(
        settings=settings,
        log=LaneLog(
            lanes=LaneStore(
                dynamodb=dynamodb,
                s3=s3,
                table=settings.lanes_table,
                bucket=settings.state_bucket,
                lanes=settings.lanes,
                random=random,
                threads=THREADS,
            ),
            store=Store(
                client=dynamodb,
                readings_table=settings.readings_table,
                devices_table=settings.devices_table,
                threads=THREADS,
            ),
            archive=Archive(client=s3, bucket=settings.archive_bucket),
            notifier=Notifier(
                topic_arn=settings.anomaly_topic_arn,
                make_client=lambda: session.client("sns", config=NOTIFIER_CLIENT),
                plants=PlantStore(dynamodb=dynamodb, table=settings.lanes_table, random=random),
            ),
            memory=LaneMemory(capacity=settings.state_bytes),
            folder=Folder(catalogue=settings.catalogue, retention=settings.retention, cache=DeviceCache()),
        ),
        random=random,
    )
    gc.freeze()  # modules and clients stay for the life of the process: never scan them again
    return process


def handle(event: Mapping[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """Handle a Lambda event of Kinesis records; return the sequence numbers of those that failed.

    An event `{"sweep": true}` sweeps all lanes and returns no failures; with `at` (ms) as if it were that time.
    """
    return respond(runtime(), event, context)


def respond(process: Runtime, event: Mapping[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """Handle an event in the given process."""
    left_s = WITHOUT_CONTEXT_S if context is None else context.get_remaining_time_in_millis() / 1000
    log = Log(
        level=process.settings.log_level,
        request_id="" if context is None else context.aws_request_id,
        write=process.write,
    )
    retry = Retry(
        deadline=process.clock() + left_s - min(RESERVE_S, left_s / 4),
        is_transient=is_transient,
        clock=process.clock,
        sleep=process.sleep,
        random=process.random,
    )
    settings = process.settings
    with _paused_gc():
        if event.get("sweep") is True:
            _sweep(process, now=int(event.get("at") or _now(process)), log=log, retry=retry)
            return {"batchItemFailures": []}
        # The batch is in no variable here: it must be freed before collection resumes, or all of it would be scanned.
        failed = _process(
            parse_batch(
                event,
                catalogue=settings.catalogue,
                suffix=settings.environment_suffix,
                max_age=settings.retention.max_age,
            ),
            process=process,
            log=log,
            retry=retry,
        )
    return {"batchItemFailures": [{"itemIdentifier": number} for number in sorted(failed, key=int)]}


@contextmanager
def _paused_gc() -> Iterator[None]:
    """Pause cyclic garbage collection.

    A batch makes 100,000 objects that live until its end and have no cycles; scanning them again and again costs
    about 6 % of its CPU. Reference counting frees them as usual.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def is_transient(error: Exception) -> bool:
    """Return whether a call that failed with `error` may succeed later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response.get("Error", {}).get("Code") in _TRANSIENT or status >= 500
    return isinstance(error, HTTPClientError)


def _process(batch: Batch, *, process: Runtime, log: Log, retry: Retry) -> set[str]:
    """Process a batch; return the sequence numbers of records that failed."""
    archive = process.log.archive
    objects = readings_objects(batch.readings, shard=batch.shard) + quarantine_objects(batch.poison, shard=batch.shard)
    failed = _put(objects, archive=archive, log=log, retry=retry)
    outcome = process.log.commit(
        [reading for reading in batch.readings if reading.sequence_number not in failed] if failed else batch.readings,
        retry=retry,
        log=log,
        now=_now(process),
    )
    # By record, which may have several readings.
    rejected = list(
        {
            reading.sequence_number: poison_of(reading, reason, detail) for reading, reason, detail in outcome.rejected
        }.values()
    )
    failed |= _put(
        quarantine_objects(rejected, shard=batch.shard, label="-overflow"), archive=archive, log=log, retry=retry
    )
    quarantined = [poison for poison in (*batch.poison, *rejected) if poison.sequence_number not in failed]
    failed.update(reading.sequence_number for reading in outcome.failed)
    _report(outcome, quarantined=quarantined, failed=failed, batch=batch, process=process, log=log)
    return failed


def _sweep(process: Runtime, *, now: int, log: Log, retry: Retry) -> None:
    """Sweep all lanes, and report for how long anything has waited to be emitted."""
    outcome, is_done = process.log.sweep(retry=retry, log=log, now=now)
    namespace = process.settings.metrics_namespace
    if is_done or outcome.oldest:
        age = (now - outcome.oldest) // 1000 if outcome.oldest else 0
        log.metrics(plain_line(UNEMITTED, age, unit="Seconds", namespace=namespace, timestamp=now))
    _report_outcome(outcome, process=process, log=log)
    log.info("The lanes were swept.", unemitted=outcome.oldest, is_done=int(is_done))


def _now(process: Runtime) -> int:
    return int(process.now() * 1000)


def _put(objects: Sequence[ArchiveObject], *, archive: Archive, log: Log, retry: Retry) -> set[str]:
    failed: set[str] = set()
    for entry in objects:
        try:
            archive.put(entry, retry=retry)
        except Unavailable as error:
            failed.update(entry.sequence_numbers)
            log.error("Writing an archive object failed; Lambda will retry its records.", error=str(error))
    return failed


def _report(
    outcome: Outcome, *, quarantined: Sequence[Poison], failed: set[str], batch: Batch, process: Runtime, log: Log
) -> None:
    reasons: dict[str, int] = {}
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for poison in quarantined:
        reasons[poison.reason] = reasons.get(poison.reason, 0) + 1
        values = counts.setdefault((poison.facility, poison.device_type), {})
        values["ReadingsQuarantined"] = values.get("ReadingsQuarantined", 0) + 1
    for place, tally in outcome.tallies.items():
        counts.setdefault(place, {}).update(
            ReadingsProcessed=tally.processed,
            ReadingsDuplicate=tally.duplicates,
            ReadingsLate=tally.late,
            AnomaliesDetected=tally.anomalies,
        )
    now, namespace = _now(process), process.settings.metrics_namespace
    for (facility, device_type), values in sorted(counts.items()):
        log.metrics(
            metric_line(
                values,
                namespace=namespace,
                facility=facility,
                device_type=device_type,
                timestamp=now,
            )
        )
    _report_outcome(outcome, process=process, log=log)
    if reasons:
        log.warning("Records were quarantined.", reasons=reasons)
    if failed:
        log.error("Records failed and will be retried.", records=len(failed), lowest=min(failed, key=int))
    log.info(
        "A batch was processed.",
        shard=batch.shard,
        readings=len(batch.readings),
        quarantined=len(quarantined),
        failed=len(failed),
        unknown_metrics=sum(tally.unknown_metrics for tally in outcome.tallies.values()),
        conflicts=sum(tally.conflicts for tally in outcome.tallies.values()),
    )


def _report_outcome(outcome: Outcome, *, process: Runtime, log: Log) -> None:
    if outcome.waiting:
        namespace = process.settings.metrics_namespace
        log.metrics(plain_line(PENDING, outcome.waiting, unit="Count", namespace=namespace, timestamp=_now(process)))
    for fault in sorted(outcome.faults):
        log.error("A service call failed; it will be tried again.", error=fault)
    for note in outcome.notes:
        log.warning(note)
