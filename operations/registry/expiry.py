"""Count certificates by their last day: from the journal of plants in bulk, from AWS IoT for those of Terraform."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.calls import IotCalls
from fleet_iot.operations.registry.device import id_of, principals_of
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.steps import THREADS, Work, expiry_of

OnProgress = Callable[[int, int], None]
"""Called with the things that were looked up, and all that will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiring:
    """A certificate and its last day."""

    thing: str
    facility: str
    certificate_id: str
    status: str
    not_after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantCertificates:
    """The certificates of a plant, and where they were read; `certificates` is None where they are unknown: nothing of
    a plant in bulk was onboarded from this machine."""

    facility: str
    registration: str
    source: str
    things: int
    certificates: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """All certificates that are known: how many expire in which month (`2027-05`), and which do so soon."""

    certificates: int
    months: dict[str, int]
    expiring: tuple[Expiring, ...]
    plants: tuple[PlantCertificates, ...]


def expiry(
    project: Project, work: Work, *, now: float, days: float, facility: str | None, on_progress: OnProgress
) -> Expiry:
    """Count certificates by month of expiry. Things that Terraform registers take two calls each."""
    chosen = [each for each in project.facilities if facility in (None, each.id)]
    of_terraform = [each for each in chosen if each.registration == "terraform"]
    before = now + days * 86_400
    read = list(_registered(project, work.calls, of_terraform, on_progress))
    months: Counter[str] = Counter(_month(expires) for _, expires in read)
    soon = [(expires, row) for row, expires in read if expires < before]
    plants = Counter(row.facility for row, _ in read)
    if len(of_terraform) < len(chosen) or facility is None:
        months.update(work.journal.months_of_expiry(facility))
        soon += _expiring(work.journal, facility, before)
    return Expiry(
        certificates=sum(months.values()),
        months=dict(sorted(months.items())),
        expiring=tuple(row for _, row in sorted(soon, key=lambda it: (it[0], it[1].thing))),
        plants=tuple(_plant(work.journal, each, plants) for each in chosen),
    )


def _plant(journal: Journal, facility: FacilitySpec, registered: Counter[str]) -> PlantCertificates:
    is_bulk = facility.registration == "bulk"
    count = sum(journal.months_of_expiry(facility.id).values()) if is_bulk else registered[facility.id]
    return PlantCertificates(
        facility=facility.id,
        registration=facility.registration,
        source="journal" if is_bulk else "AWS IoT",
        things=facility.thing_count,
        certificates=None if is_bulk and not count and facility.thing_count else count,
    )


def _expiring(journal: Journal, facility: str | None, before: float) -> Iterator[tuple[float, Expiring]]:
    for each in journal.expiring(facility, before=before):
        expires = each.expires or 0
        yield (
            expires,
            Expiring(
                thing=each.thing,
                facility=each.facility,
                certificate_id=str(each.certificate_id),
                status=str(each.certificate_status),
                not_after=_time(expires),
            ),
        )


def _registered(
    project: Project, calls: IotCalls, facilities: Iterable[FacilitySpec], on_progress: OnProgress
) -> Iterator[tuple[Expiring, float]]:
    """Yield the certificates that AWS IoT has attached to the facilities' things, each with its last second."""
    things = [thing for facility in facilities for thing in project.things(facility)]

    def certificates(facility: str, name: str) -> list[tuple[Expiring, float]]:
        found = []
        for arn in principals_of(calls, name):
            answer = calls.call_if_exists("DescribeCertificate", certificateId=id_of(arn))
            if answer is not None:
                described = answer["certificateDescription"]
                expires = expiry_of(described["certificatePem"])
                row = Expiring(
                    thing=name,
                    facility=facility,
                    certificate_id=id_of(arn),
                    status=described["status"],
                    not_after=_time(expires),
                )
                found.append((row, expires))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        answers = pool.map(certificates, [each.facility for each in things], [each.name for each in things])
        for done, found in enumerate(answers, start=1):
            on_progress(done, len(things))
            yield from found


def _month(seconds: float) -> str:
    return _time(seconds)[:7]


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
