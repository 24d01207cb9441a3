"""The journal: runs, devices, and the steps begun and done for each; in SQLite, on disk before each call.

A step's intent is written before its call and its end after it, so that a run killed anywhere can be resumed. Writes
of many threads share a transaction (one fsync for all that wait). Private keys never enter it.
"""

from __future__ import annotations

import math
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
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.lists.record import Fault
from fleet_iot.operations.pki.spent import SCHEMA as SPENT_SCHEMA
from fleet_iot.operations.pki.spent import End, Spent, decisive, last_end, spend
from fleet_iot.operations.registry.matching import KeyOwner, Pair
from fleet_iot.operations.storage import FormatError, Kept, connect, located, transaction

FORMAT = 2
"""1 had no spent keys: see `from_format_1`."""
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
    """The steps of a device. Only CERTIFICATE is not idempotent: each call makes another certificate."""

    THING = "thing"
    CERTIFICATE = "certificate"
    ATTACH = "attach"
    GROUP = "group"
    POLICY = "policy"
    ACTIVATE = "activate"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One onboarding of a list; `mark` changes with its file; `is_bulk`: by AWS IoT's own task."""

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
        """Return the same run under the id that the journal gave it."""
        return replace(self, id=run_id)


@dataclass(frozen=True, slots=True)
class Device:
    """One device that is to be onboarded, or was. `line` is its planned thing as JSON; `state` is planned, done,
    failed, moving or retired; `reason` and `remedy` are those of a failure; `expires` in seconds since 1970."""

    thing: str
    facility: str
    run: int
    row: int
    place: str
    line: bytes
    is_certificate: bool
    der: bytes
    fingerprint: bytes
    key: bytes
    state: str
    reason: str | None
    remedy: str | None
    certificate_id: str | None
    certificate_arn: str | None
    certificate_status: str | None
    expires: float | None

    @property
    def planned(self) -> ThingRow:
        """The thing as it was planned when the device was onboarded or last updated."""
        return msgspec.json.decode(self.line, type=ThingRow)

    @property
    def certificate(self) -> bytes | None:
        """The DER of the certificate that the device has brought; None where it has a CSR."""
        return self.der if self.is_certificate else None


@dataclass(frozen=True, slots=True)
class Move:
    """One move: `certificate_arn` and `status` are those that the device had before; `is_rotated`: it gets others."""

    id: int
    former: str
    thing: str
    certificate_arn: str
    status: str
    is_rotated: bool
    ended: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """One row that was not onboarded; `certificate_id` where AWS IoT has a certificate for it all the same."""

    row: int
    place: str
    reason: str
    remedy: str
    thing: str | None
    certificate_id: str | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of a device's history; `at` in seconds since 1970, `thing` is the name that it had then."""

    id: int
    at: float
    thing: str
    what: str
    certificate_id: str | None
    reason: str


RUN = "facility, source, format, bundle, signers, mark, reason, is_staged, policy_on"
PLAN_DEVICE = """INSERT INTO devices VALUES
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'planned', NULL, NULL, NULL, NULL, NULL, NULL)
ON CONFLICT (thing) DO UPDATE SET run = excluded.run, row = excluded.row, place = excluded.place, line = excluded.line,
    is_certificate = excluded.is_certificate, der = excluded.der, fingerprint = excluded.fingerprint,
    key = excluded.key, state = 'planned', reason = NULL, remedy = NULL"""
DEVICE = ", ".join(Device.__slots__)
_LEAN = ", ".join("x''" if name in ("line", "der") else name for name in Device.__slots__)
"""Without the columns that are a kilobyte each."""


def planned_values(facility: str, run: int, pair: Pair) -> tuple[Any, ...]:
    """Return the values of `PLAN_DEVICE`."""
    material = pair.material
    line = msgspec.json.encode(pair.thing)
    values = (pair.thing.name, facility, run, pair.row, pair.place, line, material.is_certificate)
    return (*values, material.der, material.fingerprint, material.key)


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
"""The end of the thing's last device, not an earlier device of the thing."""


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
"""Most writes in one transaction: more are no faster (docs/benchmarks.md)."""


_REUSE = f"""INSERT INTO spent (key, certificate_id, thing, what, at, by, reason)
    SELECT key, iif(is_certificate, lower(hex(fingerprint)), NULL), thing, '{End.REUSED}', ?2, 'onboard', ?3
    FROM devices WHERE run = ?1 AND (EXISTS (SELECT 1 FROM spent WHERE spent.key = devices.key) OR EXISTS
    (SELECT 1 FROM spent WHERE is_certificate AND spent.certificate_id = lower(hex(fingerprint))))"""  # noqa: S608
"""Record as reused the spent keys that the run accepted; one revoked meanwhile stays revoked."""
_FAILURES = """SELECT row, place, reason, remedy, NULL AS thing, NULL AS certificate_id FROM faults WHERE run = ?1
UNION ALL SELECT row, place, reason, remedy, thing, certificate_id FROM devices WHERE run = ?1 AND state = 'failed'
ORDER BY row"""
_REFUSE_SHARED = """UPDATE devices SET state = 'failed', remedy = 'two devices would share it: give this one its own',
    reason = (SELECT 'its key is that of ' || min(other.thing) || ' already' FROM devices AS other
        WHERE other.key = devices.key AND other.thing <> devices.thing AND other.state <> 'retired')
    WHERE run = ? AND state = 'planned' AND EXISTS (SELECT 1 FROM devices AS other
        WHERE other.key = devices.key AND other.thing <> devices.thing AND other.state <> 'retired')"""
"""Two plants' lists may be matched concurrently; the run recorded second does not get the key."""


class Elsewhere(Protocol):
    """Other files of the machine and the project that have spent keys and revoked certificates."""

    def ends(self, key: bytes | None, certificate_id: str | None, der: bytes | None) -> list[Spent]:
        """Return what each file has on the key, or on the certificate with this id or DER."""


class Journal:
    """The journal of one application, environment and account; use it as a context manager."""

    def __init__(self, path: Path, *, elsewhere: Elsewhere | None = None) -> None:
        """Open or found it. Raises EnvironmentFault where the file is none of ours, or cannot be read and written.

        `elsewhere` has further spent keys.
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
        """Write all or nothing; return when it is on disk."""
        done: Future[None] = Future()
        self._queue.put((writes, done))
        done.result()

    def read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query with few."""
        with self._reading, located(self.path, kept=JOURNAL):
            return self._reader.execute(query, values).fetchall()

    def start_run(self, run: Run, pairs: Iterable[Pair], faults: Iterable[Fault], *, now: float) -> int:
        """Record the run with all its devices and the list's faults, in one transaction; return its id."""
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
        """Record as reused the keys that other files have as spent."""
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
        """Return the facility's last run, if it is not finished."""
        query = f"SELECT id, {RUN} FROM runs WHERE facility = ? AND finished IS NULL ORDER BY id DESC LIMIT 1"  # noqa: S608
        found = self.read(query, facility)
        if not found:
            return None
        names = [name.strip() for name in f"id, {RUN}".split(",")]
        values = dict(zip(names, found[0], strict=True))
        is_bulk = bool(self.read("SELECT 1 FROM bulk_runs WHERE run = ?", values["id"]))
        return Run(**values | {"is_staged": bool(values["is_staged"]), "is_bulk": is_bulk})

    def find_device(self, thing: str) -> Device | None:
        """Return the device that has this name, or had it last."""
        return next(iter(self._select("thing = ?", thing)), None)

    def device(self, thing: str) -> Device:
        """Return the device that has this name. Raises KeyError for one that was never in the journal."""
        found = self.find_device(thing)
        if found is None:
            raise KeyError(thing)
        return found

    def devices(self, run: int, state: str) -> Iterator[Device]:
        """Return the run's devices in a state, by name, a slice at a time; those that leave it meanwhile are not
        missed."""
        return self._slices("run = ? AND state = ?", run, state)

    def staged(self, facility: str) -> Iterator[Device]:
        """Return the facility's onboarded devices with an INACTIVE certificate, by name, a slice at a time."""
        return self._slices("facility = ? AND state = 'done' AND certificate_status = 'INACTIVE'", facility)

    def onboarded(self, facility: str) -> Iterator[Device]:
        """Return the facility's onboarded devices, also those that are being moved, by name, a slice at a time."""
        return self._slices("facility = ? AND state IN ('done', 'moving') AND certificate_id IS NOT NULL", facility)

    def count_staged(self, facility: str) -> int:
        query = """SELECT count(*) FROM devices
            WHERE facility = ? AND state = 'done' AND certificate_status = 'INACTIVE'"""
        return int(self.read(query, facility)[0][0])

    def onboarded_with(self, key: bytes) -> list[Device]:
        """Return onboarded devices with this key that have a certificate."""
        return self._select("key = ? AND certificate_id IS NOT NULL AND state = 'done'", key)

    def _select(self, where: str, *values: Any, columns: str = DEVICE) -> list[Device]:
        rows = self.read(f"SELECT {columns} FROM devices WHERE {where}", *values)  # noqa: S608 - our own words
        return [Device(*(*row[:6], bool(row[6]), *row[7:])) for row in rows]

    def _slices(self, where: str, *values: Any) -> Iterator[Device]:
        last = ""
        while found := self._select(f"{where} AND thing > ? ORDER BY thing LIMIT 500", *values, last):
            yield from found
            last = found[-1].thing

    def moving(self) -> set[str]:
        """Return all names that a device is leaving or moving to."""
        return {thing for (thing,) in self.read("SELECT thing FROM devices WHERE state = 'moving'")}

    def taken(self, facility: str) -> set[str]:
        """Return the plant's things that have a certificate, or are about to get one."""
        query = """SELECT thing FROM devices
            WHERE facility = ? AND (certificate_id IS NOT NULL OR state IN ('planned', 'moving'))"""
        return {thing for (thing,) in self.read(query, facility)}

    def device_types(self, run: int) -> list[str]:
        """Return the device types of the run's planned devices."""
        query = "SELECT DISTINCT json_extract(line, '$.device_type') FROM devices WHERE run = ? AND state = 'planned'"
        return [device_type for (device_type,) in self.read(query, run)]

    def unsettled(self, run: int) -> list[tuple[str, bytes, float]]:
        """Return thing, key and time of each certificate that was requested for a CSR, and has no known outcome."""
        query = """SELECT thing, key, begun FROM steps JOIN devices USING (thing)
            WHERE run = ? AND step = ? AND ended IS NULL AND NOT is_certificate AND state = 'planned'"""
        return self.read(query, run, Step.CERTIFICATE)

    def knows_certificate(self, certificate_id: str) -> bool:
        """Return whether a device has the certificate."""
        return bool(self.read("SELECT 1 FROM devices WHERE certificate_id = ?", certificate_id))

    def failures(self, run: int) -> list[Failure]:
        """Return the run's failures in the list's order."""
        return [Failure(*row) for row in self.read(_FAILURES, run)]

    def orphans(self, run: int) -> tuple[str, ...]:
        """Return certificates that were made for the run's devices, which have others."""
        query = "SELECT orphans.certificate_id FROM orphans JOIN devices USING (thing) WHERE run = ?"
        return tuple(certificate_id for (certificate_id,) in self.read(query, run))

    def policy_on(self, thing: str) -> str:
        """Return whether the device has its policy from its `group` or its `certificate`."""
        return str(self.read("SELECT policy_on FROM runs JOIN devices ON run = id WHERE thing = ?", thing)[0][0])

    def history(self, thing: str, *, until: float = math.inf) -> list[HistoryEntry]:
        """Return the history under this name, up to a time in seconds since 1970, with each reuse of a retired key."""
        query = """SELECT id, at, thing, what, certificate_id, reason FROM history WHERE thing = ?1 AND at <= ?2
            UNION ALL SELECT 0, at, thing, what, certificate_id, reason FROM spent
            WHERE thing = ?1 AND at <= ?2 AND what = 'reused' ORDER BY at, id"""
        return [HistoryEntry(*row) for row in self.read(query, thing, until)]

    def moved_from(self, former: str) -> Move | None:
        """Return the last move of a device away from this name, whether it came to its end or not."""
        return self._move("former = ?", former)

    def moved_to(self, thing: str, *, before: int) -> Move | None:
        """Return the last finished move of a device to this name, of those with an id below `before`."""
        return self._move("thing = ? AND id < ? AND ended IS NOT NULL", thing, before)

    def _move(self, where: str, *values: Any) -> Move | None:
        query = f"SELECT {', '.join(Move.__slots__)} FROM moves WHERE {where} ORDER BY id DESC LIMIT 1"  # noqa: S608
        row = next(iter(self.read(query, *values)), None)
        return Move(*(*row[:5], bool(row[5]), row[6])) if row else None

    def months_of_expiry(self, facility: str | None) -> dict[str, int]:
        """Count certificates by month of expiry (`2027-05`)."""
        query = """SELECT strftime('%Y-%m', expires, 'unixepoch'), count(*) FROM devices
            WHERE certificate_id IS NOT NULL AND (?1 IS NULL OR facility = ?1) GROUP BY 1 ORDER BY 1"""
        return dict(self.read(query, facility))

    def expiring(self, facility: str | None, *, before: float) -> list[Device]:
        """Return devices whose certificates expire before a time, first to expire first; without `line` and `der`."""
        where = "certificate_id IS NOT NULL AND (?1 IS NULL OR facility = ?1) AND expires < ?2 ORDER BY expires, thing"
        return self._select(where, facility, before, columns=_LEAN)

    def steps(self, thing: str) -> dict[str, tuple[float, float | None, str | None]]:
        """Return the device's steps: when begun, when ended (None: unknown), and a note."""
        rows = self.read("SELECT step, begun, ended, detail FROM steps WHERE thing = ?", thing)
        return {step: (begun, ended, detail) for step, begun, ended, detail in rows}

    def key_owner(self, key: bytes) -> KeyOwner | None:
        """Return the device with this key."""
        for thing, fingerprint, state in self.read("SELECT thing, fingerprint, state FROM devices WHERE key = ?", key):
            return KeyOwner(thing=thing, fingerprint=fingerprint, is_done=state in DONE)
        return None

    def spent(self, key: bytes | None, certificate_id: str | None, der: bytes | None = None) -> Spent | None:
        """Return how the key or the certificate ended, here or elsewhere; None where it may be used.

        Every command that makes or activates a certificate calls this. A certificate's DER is checked against
        revocation lists too.
        """
        return decisive(self.ends(key, certificate_id, der))

    def ends(self, key: bytes | None, certificate_id: str | None, der: bytes | None = None) -> list[Spent]:
        """Return what the journal and each other file have on the key or the certificate."""
        with self._reading:
            with located(self.path, kept=JOURNAL):
                own = last_end(self._reader, key, certificate_id)
            there = self._elsewhere.ends(key, certificate_id, der) if self._elsewhere is not None else []
        return there if own is None else [own, *there]

    def has_certificate(self, thing: str) -> bool:
        """Return whether a certificate was made or registered for the thing, or a device is being moved there."""
        query = "SELECT 1 FROM devices WHERE thing = ? AND (certificate_id IS NOT NULL OR state = 'moving')"
        return bool(self.read(query, thing))

    def count(self, run: int) -> dict[str, int]:
        """Count the run's devices by state."""
        return dict(self.read("SELECT state, count(*) FROM devices WHERE run = ? GROUP BY state", run))

    def count_certificates(self, run: int) -> tuple[int, int]:
        """Count the run's devices, and those of them that bring a certificate."""
        query = "SELECT count(*), coalesce(sum(is_certificate), 0) FROM devices WHERE run = ?"
        ((devices, certificates),) = self.read(query, run)
        return devices, certificates

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
