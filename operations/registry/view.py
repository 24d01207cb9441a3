"""What there is to say of a device, and of all certificates: read, never changed."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.registered import Registered, id_of, principals_of
from fleet_iot.operations.registry.steps import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """A certificate that AWS IoT has attached to the thing."""

    id: str
    status: str
    not_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a device's history; `at` in UTC, `thing` is the name that it had then."""

    at: str
    thing: str
    what: str
    certificate_id: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device as AWS IoT and the journal have it; `came_from` are the names that it had before, the last one first."""

    name: str
    facility: str
    device_type: str
    serial: str
    is_in_journal: bool
    came_from: tuple[str, ...]
    certificates: tuple[CertificateView, ...]
    history: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """A certificate and its last day."""

    thing: str
    facility: str
    certificate_id: str
    status: str
    not_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """All certificates of the journal: how many expire in which month (`2027-05`), and which do so soon."""

    certificates: int
    months: dict[str, int]
    expiring: tuple[Expiring, ...]


def show_device(work: Work, device: Registered) -> DeviceView:
    """Asks AWS IoT for the thing's certificates."""
    found = []
    for arn in principals_of(work.calls, device.thing.name):
        described = work.calls.call("DescribeCertificate", certificateId=id_of(arn))["certificateDescription"]
        validity = described.get("validity", {})
        found.append(
            CertificateView(
                id=described["certificateId"], status=described["status"], not_after=str(validity.get("notAfter", ""))
            )
        )
    former, events = _history(work.journal, device.thing.name)
    return DeviceView(
        name=device.thing.name,
        facility=device.facility.id,
        device_type=device.thing.device_type,
        serial=device.thing.serial,
        is_in_journal=device.is_in_journal,
        came_from=tuple(former),
        certificates=tuple(found),
        history=tuple(
            Event(at=_time(at), thing=thing, what=what, certificate_id=certificate_id, reason=reason)
            for _, at, thing, what, certificate_id, reason in events
        ),
    )


def _history(journal: Journal, name: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The device's former names, and what happened to it under all of them; only until it left each."""
    rows = "SELECT id, at, thing, what, certificate_id, reason FROM history WHERE thing = ? AND at <= ?"
    query = """SELECT id, former, ended FROM moves
        WHERE thing = ? AND id < ? AND ended IS NOT NULL ORDER BY id DESC LIMIT 1"""
    former: list[str] = []
    events, move_id = journal.read(rows, name, math.inf), 1 << 62
    while found := journal.read(query, former[-1] if former else name, move_id):
        move_id, before, until = found[0]
        former.append(before)
        events += journal.read(rows, before, until)
    return former, sorted(set(events), key=lambda event: event[0])


def expiry(journal: Journal, *, now: float, days: float, facility: str | None) -> Expiry:
    """What expires when, from the journal alone: no call is made."""
    where = "certificate_id IS NOT NULL AND (?1 IS NULL OR facility = ?1)"
    months = journal.read(
        f"""SELECT strftime('%Y-%m', expires, 'unixepoch'), count(*) FROM devices WHERE {where}
        GROUP BY 1 ORDER BY 1""",  # noqa: S608 - our own words
        facility,
    )
    expiring = journal.read(
        f"""SELECT thing, facility, certificate_id, certificate_status, expires FROM devices
        WHERE {where} AND expires < ?2 ORDER BY expires, thing""",  # noqa: S608 - our own words
        *(facility, now + days * 86_400),
    )
    return Expiry(
        certificates=sum(int(count) for _, count in months),
        months={str(month): int(count) for month, count in months},
        expiring=tuple(
            Expiring(thing=thing, facility=of, certificate_id=certificate_id, status=status, not_after=_time(at))
            for thing, of, certificate_id, status, at in expiring
        ),
    )


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
