"""The function as it is deployed: its environment, and processes of it on clients in memory.

All that benchmarks and fault tests use of the handler is here: environment variables, `runtime`, `respond`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from fleet_iot.sensor_processor import handler

REGION = "ap-southeast-1"
READINGS, DEVICES, LANES = "table-readings-dev", "table-devices-dev", "table-lanes-dev"
TABLES = {READINGS: ("device", "bucket"), DEVICES: ("device",), LANES: ("lane",)}
BUCKET, STATES = "bucket-mfg-raw-archive-dev", "bucket-mfg-lanes-dev"
BUCKETS = (BUCKET, STATES)
TOPIC = "arn:aws:sns:ap-southeast-1:000000000000:topic-anomalies-dev"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "READINGS_TABLE": READINGS,
    "DEVICES_TABLE": DEVICES,
    "LANES_TABLE": LANES,
    "STATE_BUCKET": STATES,
    "ARCHIVE_BUCKET": BUCKET,
    "ENVIRONMENT_SUFFIX": "dev",
    "NO_PROXY": "127.0.0.1",
    "POWERTOOLS_DEV": "0",
}
"""Of the function; each program adds its own."""


_folder = TemporaryDirectory(prefix="fleet-function-")  # removed when this process ends


@cache
def _catalogue_file(text: str) -> str:
    file = Path(_folder.name) / f"catalogue-{_catalogue_file.cache_info().currsize}.json"
    file.write_text(text)
    return str(file)


@contextmanager
def environment(catalogue: Mapping[str, Any], **more: str) -> Iterator[None]:
    """Set the function's environment, with the catalogue in a file."""
    before = dict(os.environ)
    os.environ.pop("AWS_ENDPOINT_URL", None)
    os.environ |= ENVIRONMENT | {"CATALOGUE_FILE": _catalogue_file(json.dumps(catalogue))} | more
    handler.runtime.cache_clear()
    try:
        yield
    finally:
        handler.runtime.cache_clear()
        os.environ.clear()
        os.environ |= before


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Clients in memory, in place of boto3's."""

    dynamodb: Any
    s3: Any
    sns: Any

    def client(self, service: str, **_: Any) -> Any:
        """Return the client of a service; boto3's event hooks do nothing here."""
        found = getattr(self, service)
        found.meta = SimpleNamespace(events=_NoEvents())
        return found


class _NoEvents:
    def register(self, *_: Any) -> None:
        pass

    register_first = register_last = register


def new_process(
    clients: Clients, *, dice: Random, clock: Callable[[], float], sleep: Callable[[float], None]
) -> handler.Runtime:
    """Start a process that remembers nothing, within `environment`, on one thread, with this time and these dice."""
    with (
        patch("boto3.session.Session", lambda: clients),
        patch.object(handler, "THREADS", 1),
        patch.object(handler, "SystemRandom", lambda: dice),
        patch("gc.freeze"),
    ):
        process = handler.runtime.__wrapped__()
    return replace(process, clock=clock, now=clock, sleep=sleep, write=lambda line: None)


@dataclass(frozen=True, kw_only=True)
class Context:
    """Lambda's context."""

    aws_request_id: str = "request"
    remaining_ms: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        """A minute, at the start."""
        return self.remaining_ms


def failed(process: handler.Runtime, event: Mapping[str, Any]) -> set[str]:
    """Handle an event in a process; return the sequence numbers of the records that failed."""
    return {entry["itemIdentifier"] for entry in handler.respond(process, event, Context())["batchItemFailures"]}


@dataclass(kw_only=True)
class Clock:
    """Simulated time, in seconds since the epoch; sleeping moves it on."""

    now: float

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
