"""The journal: runs, devices, and the steps begun and done for each; in SQLite, on disk before each call.

A step's intent is written before its call and its end after it, so that a run killed anywhere can be resumed. Writes
of many threads share a transaction (one fsync for all that wait). Private keys never enter it.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
from cryptography import x509

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.lists.record import Fault
from fleet_iot.operations.pki.spent import SCHEMA as SPENT_SCHEMA
from fleet_iot.operations.pki.spent import End, Spent, decisive, last_end, spend
from fleet_iot.operations.registry.matching import Held, Pair
from fleet_iot.operations.sqlite import FormatError, connect
from fleet_iot.operations.storage import Kept, located, transaction

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


_BY = "an earlier fleet"
_ENDED = """SELECT history.certificate_id, thing, what, at, history.reason, devices.key, devices.certificate_id
    FROM history LEFT JOIN devices USING (thing)
    WHERE what IN ('REVOKED begun', 'REVOKED', 'retire begun', 'deleted') AND history.certificate_id IS NOT NULL
    ORDER BY history.id"""
_GONE = "SELECT thing, is_certificate, der FROM devices WHERE state = 'retired' AND der IS NOT NULL"
_LAST = """SELECT what, at, reason, certificate_id FROM history WHERE thing = ?1 AND
    what IN ('REVOKED', 'REVOKED begun', 'retired', 'deleted') AND id > coalesce(
    (SELECT id FROM history WHERE thing = ?1 AND what = 'retired' ORDER BY id DESC LIMIT 1 OFFSET 1), 0)
    ORDER BY what LIKE 'REVOKED%' DESC, id DESC LIMIT 1"""
"""How the thing's last device ended; who had the thing before is another device."""


def from_format_1(connection: sqlite3.Connection) -> None:
    """Format 1 had a history and no spent keys, and forgot a retired device's key; its certificate or CSR is there
    until the thing got another device. A device that was moved has its key under its new name, where it is not spent.
    """
    for certificate_id, thing, what, at, reason, key, own in connection.execute(_ENDED).fetchall():
        known = bytes(key) if key and own == certificate_id else None
        write = spend(_end(what), key=known, certificate_id=certificate_id, thing=thing, at=at, by=_BY, reason=reason)
        connection.execute(*write)
    for thing, is_certificate, der in connection.execute(_GONE).fetchall():
        load = x509.load_der_x509_certificate if is_certificate else x509.load_der_x509_csr
        try:
            key = key_digest(load(bytes(der)).public_key())
        except ValueError:
            continue
        is_elsewhere = connection.execute(
            "SELECT 1 FROM devices WHERE key = ? AND state <> 'retired'", (key,)
        ).fetchone()
        last = connection.execute(_LAST, (thing,)).fetchone()
        if is_elsewhere is None and last is not None:
            what, at, reason, certificate_id = last
            end = _end(what)
            connection.execute(
                *spend(end, key=key, certificate_id=certificate_id, thing=thing, at=at, by=_BY, reason=reason)
            )


def _end(what: str) -> End:
    return End.REVOKED if what.startswith("REVOKED") else End.RETIRED


OLDER = {1: from_format_1}


DONE = ("done", "moving")
"""States of devices that onboarding has nothing to do for."""
JOURNAL = Kept(name="journal", restore="restore it from a backup: it knows which devices are done")
_TOGETHER = 500
"""Writes in one transaction at most: beyond, a row costs no less (docs/benchmarks.md)."""


_REUSE = f"""INSERT INTO spent (key, certificate_id, thing, what, at, by, reason)
    SELECT key, iif(is_certificate, lower(hex(fingerprint)), NULL), thing, '{End.REUSED}', ?2, 'onboard', ?3
    FROM devices WHERE run = ?1 AND (EXISTS (SELECT 1 FROM spent WHERE spent.key = devices.key) OR EXISTS
    (SELECT 1 FROM spent WHERE is_certificate AND spent.certificate_id = lower(hex(fingerprint))))"""  # noqa: S608
"""Spent keys that were let into the run; one that was revoked meanwhile stays so."""
_REFUSE_SHARED = """UPDATE devices SET state = 'failed', remedy = 'two devices would share it: give this one its own',
    reason = (SELECT 'its key is that of ' || min(other.thing) || ' already' FROM devices AS other
        WHERE other.key = devices.key AND other.thing <> devices.thing AND other.state <> 'retired')
    WHERE run = ? AND state = 'planned' AND EXISTS (SELECT 1 FROM devices AS other
        WHERE other.key = devices.key AND other.thing <> devices.thing AND other.state <> 'retired')"""
"""Two plants' lists may be matched side by side; whoever is written down second does not get the key."""


class Elsewhere(Protocol):
    """What other files of the machine and the project know of spent keys and revoked certificates."""

    def ends(self, key: bytes | None, certificate_id: str | None, der: bytes | None) -> list[Spent]:
        """What each says that knows the key, or the certificate with this id or DER."""


class Journal:
    """The journal of one application, environment and account; use it as a context manager."""

    def __init__(self, path: Path, *, elsewhere: Elsewhere | None = None) -> None:
        """Open or found it. Raises EnvironmentFault where the file is none of ours, or cannot be read and written.

        `elsewhere` is asked for spent keys too.
        """
        self.path = path
        self._elsewhere = elsewhere
        self._reader = self._connect()
        try:
            # Opened here, so that a thread that cannot write is never waited for.
            writer = self._connect()
        except BaseException:
            self._reader.close()
            raise
        self._reading = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[tuple[Write, ...], Future[None]] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, args=(writer,), name="journal", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._writer.join()
        self._reader.close()

    def write(self, *writes: Write) -> None:
        """Returns when the writes are on disk, all or none."""
        done: Future[None] = Future()
        self._queue.put((writes, done))
        done.result()

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query that gives few."""
        with self._reading, located(self.path, kept=JOURNAL):
            return self._reader.execute(query, values).fetchall()

    def start_run(self, run: Run, pairs: Iterable[Pair], faults: Iterable[Fault], *, now: float) -> int:
        """Writes the run down with all its devices and the list's faults, whole or not at all; returns its id."""
        with self._reading, located(self.path, kept=JOURNAL), transaction(self._reader):
            run_id = self._insert_run(run, now)
            self._reader.executemany(PLAN_DEVICE, (planned_values(run.facility, run_id, pair) for pair in pairs))
            self._reader.executemany(
                "INSERT INTO faults VALUES (?, ?, ?, ?, ?)",
                ((run_id, fault.number, fault.place, fault.reason, fault.remedy) for fault in faults),
            )
            # What was done for a device that failed before is done again: every other step changes nothing then.
            self._reader.execute(
                """DELETE FROM steps WHERE step <> ? AND thing IN (SELECT thing FROM devices WHERE run = ?)""",
                (Step.CERTIFICATE, run_id),
            )
            self._reader.execute(_REUSE, (run_id, now, run.reason))
            self._reuse_elsewhere(run_id, now, run.reason)
            self._reader.execute(_REFUSE_SHARED, (run_id,))
        return run_id

    def _reuse_elsewhere(self, run_id: int, now: float, reason: str) -> None:
        """What `_REUSE` writes, of keys that other files have as spent."""
        if self._elsewhere is None:
            return
        query = "SELECT key, iif(is_certificate, lower(hex(fingerprint)), NULL), thing FROM devices WHERE run = ?"
        for key, certificate_id, thing in self._reader.execute(query, (run_id,)):
            there = self._elsewhere.ends(key, certificate_id, None)
            if there and decisive([last_end(self._reader, key, certificate_id), *there]) is not None:
                values = (key, certificate_id, thing, End.REUSED, now, "onboard", reason)
                self._reader.execute(
                    """INSERT INTO spent (key, certificate_id, thing, what, at, by, reason)
                    VALUES (?, ?, ?, ?, ?, ?, ?)""",
                    values,
                )

    def _insert_run(self, run: Run, now: float) -> int:
        values = (run.facility, run.source, run.format, run.bundle, run.signers, run.mark, run.reason)
        inserted = self._reader.execute(
            f"INSERT INTO runs ({RUN}, started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own words
            (*values, run.is_staged, run.policy_on, now),
        )
        run_id = int(inserted.lastrowid or 0)
        if run.is_bulk:
            self._reader.execute("INSERT INTO bulk_runs VALUES (?)", (run_id,))
        return run_id

    def unfinished(self, facility: str) -> Run | None:
        """The facility's last run, where something of it is not done."""
        query = f"SELECT id, {RUN} FROM runs WHERE facility = ? AND finished IS NULL ORDER BY id DESC LIMIT 1"  # noqa: S608
        found = self.read(query, facility)
        if not found:
            return None
        names = [name.strip() for name in f"id, {RUN}".split(",")]
        values = dict(zip(names, found[0], strict=True))
        is_bulk = bool(self.read("SELECT 1 FROM bulk_runs WHERE run = ?", values["id"]))
        return Run(**values | {"is_staged": bool(values["is_staged"]), "is_bulk": is_bulk})

    def devices(self, run: int, state: str) -> Iterator[Device]:
        """The run's devices in a state, by name, a slice at a time; those that leave it meanwhile are not missed."""
        last = ""
        while found := self.read(
            f"SELECT {DEVICE} FROM devices WHERE run = ? AND state = ? AND thing > ? ORDER BY thing LIMIT 500",  # noqa: S608
            *(run, state, last),
        ):
            for values in found:
                yield read_device(values)
            last = found[-1][0]

    def steps(self, thing: str) -> dict[str, tuple[float, float | None, str | None]]:
        """The device's steps: when begun, when ended (None: nobody knows), and what is noted."""
        rows = self.read("SELECT step, begun, ended, detail FROM steps WHERE thing = ?", thing)
        return {step: (begun, ended, detail) for step, begun, ended, detail in rows}

    def held(self, key: bytes) -> Held | None:
        """The device whose key this is."""
        found = self.read("SELECT thing, fingerprint, state FROM devices WHERE key = ?", key)
        return Held(thing=found[0][0], fingerprint=found[0][1], is_done=found[0][2] in DONE) if found else None

    def spent(self, key: bytes | None, certificate_id: str | None, der: bytes | None = None) -> Spent | None:
        """What ended the key or the certificate, if anything did, here or elsewhere. None where it may be used.

        Every command that makes or activates a certificate asks this. With its DER, a certificate is looked for in
        revocation lists too.
        """
        return decisive(self.ends(key, certificate_id, der))

    def ends(self, key: bytes | None, certificate_id: str | None, der: bytes | None = None) -> list[Spent]:
        """What the journal and each other file say that know the key or the certificate."""
        with self._reading:
            with located(self.path, kept=JOURNAL):
                own = last_end(self._reader, key, certificate_id)
            there = self._elsewhere.ends(key, certificate_id, der) if self._elsewhere is not None else []
        return there if own is None else [own, *there]

    def has_certificate(self, thing: str) -> bool:
        """Whether a certificate was made or registered for the thing, or a device is being moved there."""
        query = "SELECT 1 FROM devices WHERE thing = ? AND (certificate_id IS NOT NULL OR state = 'moving')"
        return bool(self.read(query, thing))

    def count(self, run: int) -> dict[str, int]:
        """How many of the run's devices are in each state."""
        return dict(self.read("SELECT state, count(*) FROM devices WHERE run = ? GROUP BY state", run))

    def _connect(self) -> sqlite3.Connection:
        try:
            with located(self.path, kept=JOURNAL):
                # FULL: an intent has to outlive the machine, not only the process.
                return connect(self.path, synchronous="FULL", schema=SCHEMA, format_=FORMAT, older=OLDER)
        except FormatError as error:
            reason = f"{self.path} is no journal that can be read: {error}"
            raise EnvironmentFault(reason, hint=f"use the fleet that made it, or {JOURNAL.restore}") from None

    def _write_all(self, connection: sqlite3.Connection) -> None:
        is_open = True
        while is_open:
            waiting = [self._queue.get()]
            while len(waiting) < _TOGETHER and not self._queue.empty():
                waiting.append(self._queue.get())
            is_open = None not in waiting
            jobs = [job for job in waiting if job is not None]
            try:
                with located(self.path, kept=JOURNAL), transaction(connection):
                    for writes, _ in jobs:
                        for statement, values in writes:
                            connection.execute(statement, values)
            except Exception as error:
                for _, done in jobs:
                    done.set_exception(error)
            else:
                for _, done in jobs:
                    done.set_result(None)
        connection.close()
