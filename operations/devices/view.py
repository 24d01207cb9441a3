"""What there is to say of a device, and of all certificates: read, never changed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from operations.devices.registered import Registered, id_of, principals_of
from operations.onboarding.journal import Journal
from operations.onboarding.steps import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateView:
    """A certificate that AWS IoT has attached to the thing."""

    id: str
    status: str
    not_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a device's history; `at` in UTC."""

    at: str
    what: str
    certificate_id: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device as AWS IoT and the journal have it."""

    name: str
    facility: str
    device_type: str
    serial: str
    is_in_journal: bool
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
    query = "SELECT at, what, certificate_id, reason FROM history WHERE thing = ? ORDER BY id"
    return DeviceView(
        name=device.thing.name,
        facility=device.facility.id,
        device_type=device.thing.device_type,
        serial=device.thing.serial,
        is_in_journal=device.is_in_journal,
        certificates=tuple(found),
        history=tuple(
            Event(at=_time(at), what=what, certificate_id=certificate_id, reason=reason)
            for at, what, certificate_id, reason in work.journal.read(query, device.thing.name)
        ),
    )


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
