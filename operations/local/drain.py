"""Waits until everything that devices have published has passed rules engine, stream and function."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local import event_source_process, rules_engine
from fleet_iot.operations.local.aws import LocalAws, load, read_statistics, require_running
from fleet_iot.operations.local.overrides import REPUBLISH_TOPIC
from fleet_iot.operations.progress import Patience

STILL_SECONDS = 120.0
"""Seconds without progress before giving up: the function may need a minute for one batch."""

LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What the services have done so far, in messages (`put`, `errors`) and records."""

    put: int
    errors: int
    read: int
    done: int
    redelivered: int
    discarded: int
    failures: int
    invocations: int


def wait_until_drained(local: LocalAws, *, seconds: float = STILL_SECONDS) -> Drained:
    """Wait until all that was published before the call is processed, for as long as there is progress.

    A probe follows the messages through the rules engine. Then the event source must find the stream at its end, with
    every batch done, in a look that began after the probe came through.

    Args:
        local: Where rules engine and event source run.
        seconds: How long there may be no progress.

    Returns:
        The totals of both.

    Raises:
        EnvironmentFault: One of them has ended, or there was no progress for too long.
    """
    patience = Patience(seconds)
    local = load(local.folder)
    nonce = str(uuid.uuid4())
    local.client("iot-data").publish(topic=f"{REPUBLISH_TOPIC}/{rules_engine.PROBE}", qos=1, payload=nonce.encode())
    passed_at: float | None = None
    while True:
        engine = _statistics(local, rules_engine.NAME, rules_engine.STATISTICS)
        source = _statistics(local, event_source_process.NAME, event_source_process.STATISTICS)
        if passed_at is None and engine.get("probe") == nonce and not engine["outstanding"]:
            # The source's statistics may be older: only a look after this moment counts.
            passed_at = time.time()
        elif passed_at is not None and source.get("idle_at", 0.0) > passed_at:
            return Drained(put=engine["put"], errors=engine["errors"], **source["totals"])
        if patience.is_over(_moved(engine, source)):
            what = (
                f"the rules engine still has {engine.get('outstanding', 'all')} messages to forward"
                if passed_at is None
                else f"the event source has not reached the stream's end{_last_error(source)}"
            )
            raise EnvironmentFault(
                f"the local AWS made no progress for {seconds:.0f} seconds: {what}", hint=f"look into {local.logs}"
            )
        time.sleep(LOOK_SECONDS)


def _moved(engine: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what changes while messages advance. Retries and failures do not count: they can go on for ever."""
    totals = source.get("totals", {})
    return (
        *(engine.get(name) for name in ("received", "put", "errors", "outstanding", "probe")),
        *(totals.get(name) for name in ("read", "done", "discarded")),
    )


def _statistics(local: LocalAws, name: str, file: str) -> dict[str, Any]:
    require_running(local.child(name), name=name)
    return read_statistics(local.folder / file)


def _last_error(source: Mapping[str, Any]) -> str:
    return f" (last error: {source['last_error']})" if source.get("last_error") else ""
