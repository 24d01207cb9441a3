"""Mends quarantined payloads before they are put into the stream again; their originals stay in the archive."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.telemetry.quarantine import Entry

TIME_UNITS: Mapping[str, Callable[[float], float]] = {
    "s": lambda time: time * 1000,
    "us": lambda time: time / 1000,
    "ns": lambda time: time / 1_000_000,
}
"""How a time in each unit becomes milliseconds."""

_MILLISECONDS = range(500_000_000_000, 4_102_444_800_000)
"""1985 to 2099: a time that is none of these after its conversion was in another unit."""


def with_time_in(unit: str, entry: Entry) -> Entry | None:
    """The record with the times of its readings turned from `unit` into milliseconds.

    None where it is no message of readings, or one of its times is not in that unit.
    """
    readings = _readings_of(entry)
    if not readings:
        return None
    for reading in readings:
        time = _milliseconds(reading.get("time"), unit)
        if time is None:
            return None
        reading["time"] = time
    document: Any = readings if len(readings) > 1 else readings[0]
    return _with_payload(entry, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def with_payloads_of(lines: Iterable[str], entries: Iterable[Entry], *, name: str) -> list[Entry]:
    """The records that `lines` (as `list --json` prints them) hold, each with the payload that it has there.

    What the rule stamped stays as it was. Raises RequestError for a line that is none, or of no such record.
    """
    known = {number: entry for entry in entries for number in entry.sequence_numbers}
    mended = []
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            entry, payload = known[given["sequence_number"]], base64.b64decode(given["raw"], validate=True)
        except (ValueError, TypeError, KeyError):
            raise RequestError(
                f"{name}:{place}: not a record that is in quarantine",
                hint="edit `raw` (base64) in the lines of: fleet quarantine list --json",
            ) from None
        mended.append(_with_payload(entry, payload))
    return mended


def _with_payload(entry: Entry, payload: bytes) -> Entry:
    return replace(entry, raw=base64.b64encode(payload).decode(), raw_of="payload")


def _readings_of(entry: Entry) -> list[dict[str, Any]]:
    if entry.envelope is None or entry.raw_of != "payload":
        return []
    try:
        text = entry.content().decode("utf-8-sig").strip(" \t\r\n\0")
        try:
            document = json.loads(text)
        except ValueError:
            document = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return []
    readings = document if isinstance(document, list) else [document]
    return readings if all(isinstance(reading, dict) for reading in readings) else []


def _milliseconds(time: Any, unit: str) -> int | None:
    try:
        converted = TIME_UNITS[unit](float(time))
        return round(converted) if round(converted) in _MILLISECONDS else None
    except (TypeError, ValueError, OverflowError):
        return None
