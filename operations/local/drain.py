"""Waits until what devices have published went through rules engine, stream and function, and nothing is on its way."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from generator.diagnostics import EnvironmentFault
from operations.local import event_source_process, rules_engine
from operations.local.aws import LocalAws, load
from operations.local.overrides import REPUBLISH_TOPIC
from operations.local.statistics import read_statistics, require_running

DRAIN_SECONDS = 300.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What the services have done so far, in messages (`put`, `errors`) and records; `redelivered` were given anew."""

    put: int
    errors: int
    read: int
    done: int
    redelivered: int
    discarded: int
    failures: int
    invocations: int


def wait_until_drained(local: LocalAws, *, seconds: float = DRAIN_SECONDS) -> Drained:
    """Returns when all that was published before the call is done with; a fault where that takes too long.

    A probe goes the way of the messages through the rules engine, behind them. Then the event source must once have
    found the stream at its end, looking after the probe came through, with every batch done.
    """
    deadline = time.monotonic() + seconds
    local = load(local.folder)
    nonce = str(uuid.uuid4())
    local.client("iot-data").publish(topic=f"{REPUBLISH_TOPIC}/{rules_engine.PROBE}", qos=1, payload=nonce.encode())
    while True:
        engine = _statistics(local, rules_engine.NAME, rules_engine.STATISTICS)
        if engine.get("probe") == nonce and not engine["outstanding"]:
            break
        _pause(deadline, f"the rules engine still has {engine.get('outstanding', 'all')} messages to hand on", local)
    passed_at = time.time()
    while True:
        source = _statistics(local, event_source_process.NAME, event_source_process.STATISTICS)
        if source.get("idle_at", 0.0) > passed_at:
            break
        _pause(deadline, f"the event source has not reached the stream's end{_last_error(source)}", local)
    totals = source["totals"]
    return Drained(put=engine["put"], errors=engine["errors"], **totals)


def _statistics(local: LocalAws, name: str, file: str) -> dict[str, Any]:
    require_running(local.child(name), name=name)
    return read_statistics(local.folder / file)


def _pause(deadline: float, what: str, local: LocalAws) -> None:
    if time.monotonic() > deadline:
        raise EnvironmentFault(f"the local AWS did not drain in time: {what}", hint=f"look into {local.logs}")
    time.sleep(LOOK_SECONDS)


def _last_error(source: dict[str, Any]) -> str:
    return f" (last error: {source['last_error']})" if source.get("last_error") else ""
