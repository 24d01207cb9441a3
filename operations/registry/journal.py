"""The journal: what is to be done for each device, what was begun, what is done; in SQLite, on disk before each call.

A step's intent is written before its call and its end after it, so that a run that is killed anywhere can be taken up
again. Writes of many threads share a transaction (one fsync for all that wait). No private key ever comes in here.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.lists.record import Fault
from fleet_iot.operations.pki.spent import End, Spent, decisive, last_end
from fleet_iot.operations.registry.matching import Held, Pair
from fleet_iot.operations.registry.records import (
    DEVICE,
    FORMAT,
    PLAN_DEVICE,
    RUN,
    SCHEMA,
    Device,
    Run,
    Step,
    Write,
    planned_values,
    read_device,
)
from fleet_iot.operations.registry.takeover import OLDER
from fleet_iot.operations.sqlite import FormatError, connect
from fleet_iot.operations.storage import Kept, located, transaction

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
