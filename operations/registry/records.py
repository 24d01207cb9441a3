"""What the journal holds: runs, devices and steps, as tables and as values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec

from fleet_iot.operations.pki.spent import SCHEMA as SPENT_SCHEMA
from fleet_iot.operations.registry.matching import Pair

FORMAT = 2
"""1 had no spent keys: see `takeover`."""
SCHEMA = f"""{SPENT_SCHEMA}
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, facility TEXT, source TEXT, format TEXT, bundle TEXT,
    signers TEXT, mark TEXT, reason TEXT, is_staged INTEGER, policy_on TEXT, started REAL, finished REAL);
CREATE TABLE IF NOT EXISTS devices (thing TEXT PRIMARY KEY, facility TEXT, run INTEGER, row INTEGER, place TEXT,
    line BLOB, is_certificate INTEGER, der BLOB, fingerprint BLOB, key BLOB, state TEXT, reason TEXT, remedy TEXT,
    certificate_id TEXT, certificate_arn TEXT, certificate_status TEXT, expires REAL);
CREATE INDEX IF NOT EXISTS devices_by_key ON devices (key);
CREATE INDEX IF NOT EXISTS devices_by_certificate ON devices (certificate_id);
CREATE INDEX IF NOT EXISTS devices_by_state ON devices (facility, state);
CREATE TABLE IF NOT EXISTS steps (thing TEXT, step TEXT, begun REAL, ended REAL, detail TEXT,
    PRIMARY KEY (thing, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (run INTEGER, row INTEGER, place TEXT, reason TEXT, remedy TEXT,
    PRIMARY KEY (run, row)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (id INTEGER PRIMARY KEY, thing TEXT, at REAL, what TEXT, certificate_id TEXT,
    reason TEXT);
CREATE TABLE IF NOT EXISTS orphans (certificate_id TEXT PRIMARY KEY, thing TEXT, found REAL);
CREATE TABLE IF NOT EXISTS bulk_runs (run INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS tasks (run INTEGER, part INTEGER, bucket TEXT, key TEXT, task TEXT, begun REAL, ended REAL,
    PRIMARY KEY (run, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS task_lines (run INTEGER, part INTEGER, line INTEGER, thing TEXT,
    PRIMARY KEY (run, part, line)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS task_lines_by_thing ON task_lines (run, thing);
CREATE TABLE IF NOT EXISTS moves (id INTEGER PRIMARY KEY, former TEXT, thing TEXT, certificate_arn TEXT, status TEXT,
    is_rotated INTEGER, begun REAL, ended REAL);
"""

Write = tuple[str, tuple[Any, ...]]


class Step(StrEnum):
    """What is done for a device, in this order; CERTIFICATE alone makes another thing each time it is called."""

    THING = "thing"
    CERTIFICATE = "certificate"
    ATTACH = "attach"
    GROUP = "group"
    POLICY = "policy"
    ACTIVATE = "activate"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One onboarding of a list; `mark` tells whether its file is still the same; `is_bulk`: by AWS IoT's own task."""

    facility: str
    source: str
    format: str
    bundle: str | None
    signers: str | None
    mark: str
    reason: str
    is_staged: bool
    policy_on: str
    is_bulk: bool = False
    id: int = 0

    def with_id(self, run_id: int) -> Run:
        """The same run under the id that the journal gave it."""
        return replace(self, id=run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device that is to be onboarded, or was: `line` is the planned thing as JSON."""

    thing: str
    row: int
    place: str
    line: bytes
    is_certificate: bool
    der: bytes
    fingerprint: bytes
    key: bytes
    certificate_id: str | None
    certificate_arn: str | None


RUN = "facility, source, format, bundle, signers, mark, reason, is_staged, policy_on"
PLAN_DEVICE = """INSERT INTO devices VALUES
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'planned', NULL, NULL, NULL, NULL, NULL, NULL)
ON CONFLICT (thing) DO UPDATE SET run = excluded.run, row = excluded.row, place = excluded.place, line = excluded.line,
    is_certificate = excluded.is_certificate, der = excluded.der, fingerprint = excluded.fingerprint,
    key = excluded.key, state = 'planned', reason = NULL, remedy = NULL"""
DEVICE = "thing, row, place, line, is_certificate, der, fingerprint, key, certificate_id, certificate_arn"


def planned_values(facility: str, run: int, pair: Pair) -> tuple[Any, ...]:
    """The values of `PLAN_DEVICE`."""
    material = pair.material
    line = msgspec.json.encode(pair.thing)
    values = (pair.thing.name, facility, run, pair.row, pair.place, line, material.is_certificate)
    return (*values, material.der, material.fingerprint, material.key)


def read_device(values: tuple[Any, ...]) -> Device:
    """A device from the columns of `DEVICE`."""
    thing, row, place, line, is_certificate, der, fingerprint, key, certificate_id, certificate_arn = values
    return Device(
        thing=thing,
        row=row,
        place=place,
        line=line,
        is_certificate=bool(is_certificate),
        der=der,
        fingerprint=fingerprint,
        key=key,
        certificate_id=certificate_id,
        certificate_arn=certificate_arn,
    )
