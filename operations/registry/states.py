"""List a project's devices with their states, from the record, the CSRs, the journals and, where it is asked, AWS IoT.

AWS IoT is asked by pages of 250: each plant's things, and the account's certificates with their status. That is 800
calls for 100,000 devices, and gives the state of those in a journal. The certificate of any other registered thing
needs two calls a device, at ten a second in an account's default quotas: they are made for the first 2,500 devices.
What is not known is UNKNOWN, never another state.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import Any

from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.calls import IotCalls
from fleet_iot.operations.registry.known import KnownDevice, KnownDevices
from fleet_iot.operations.registry.steps import THREADS

PAGE = 250
"""https://docs.aws.amazon.com/iot/latest/apireference/API_ListThings.html and API_ListCertificates.html there"""
MOST_DESCRIBED = 2_500
"""Devices whose certificates are looked up one by one: four minutes; the most things of a plant that Terraform has."""


class State(StrEnum):
    """The state of a device."""

    PLANNED = "planned"
    """In the record only."""
    KEYED = "keyed"
    """Planned, with a CSR."""
    ONBOARDING = "onboarding"
    """Its onboarding was begun."""
    FAILED = "failed"
    """Its onboarding failed."""
    REGISTERED = "registered"
    """In AWS IoT, without an active certificate."""
    ACTIVE = "active"
    REVOKED = "revoked"
    MOVING = "moving"
    """A move to or from this name was begun."""
    RETIRED = "retired"
    """Its last device was retired, or moved away."""
    MISSING = "missing"
    """Onboarded by the journal, and not in AWS IoT."""
    UNKNOWN = "unknown"
    """Neither AWS IoT nor a journal was asked that would know."""


_OF_JOURNAL = {
    "planned": State.ONBOARDING,
    "failed": State.FAILED,
    "moving": State.MOVING,
    "retired": State.RETIRED,
}
_OF_CERTIFICATE = {"ACTIVE": State.ACTIVE, "REVOKED": State.REVOKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """A device; times are ISO 8601 in UTC, None where they are not known.

    `is_planned`: the record has it; `has_request`: there is a CSR of it in the project.
    """

    name: str
    facility: str
    device_type: str
    serial: str
    state: State
    certificate_id: str | None = None
    expires: str | None = None
    changed: str | None = None
    is_planned: bool
    has_request: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Certificate:
    id: str
    status: str
    expires: float | None


class Registry:
    """AWS IoT's answers, each asked for once."""

    def __init__(self, calls: IotCalls, *, suffix: str, most_described: int = MOST_DESCRIBED) -> None:
        self._calls, self._ending = calls, f"-{suffix}"
        self._statuses: dict[str, str] | None = None
        self._left = most_described

    def things(self, facility: str) -> dict[str, Mapping[str, Any]]:
        """Return the registered things of a facility by name."""
        pages = self._calls.pages("ListThings", maxResults=PAGE, attributeName="facility", attributeValue=facility)
        found = chain.from_iterable(page["things"] for page in pages)
        return {each["thingName"]: each for each in found if each["thingName"].endswith(self._ending)}

    def statuses(self) -> dict[str, str]:
        """Return the status of each certificate of the account by id."""
        if self._statuses is None:
            pages = self._calls.pages("ListCertificates", pageSize=PAGE)
            found = chain.from_iterable(page["certificates"] for page in pages)
            self._statuses = {each["certificateId"]: each["status"] for each in found}
        return self._statuses

    def describe(self, names: Sequence[str]) -> dict[str, _Certificate | None]:
        """Return the certificate of each of the things, of the first that there are calls left for."""
        asked = names[: self._left]
        self._left -= len(asked)
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(asked, pool.map(self._certificate, asked), strict=True))

    def _certificate(self, thing: str) -> _Certificate | None:
        """Return the thing's certificate: of several, an active one, the last to expire."""
        listed = self._calls.call_if_exists("ListThingPrincipals", thingName=thing) or {"principals": []}
        found = []
        for arn in listed["principals"]:
            answer = self._calls.call_if_exists("DescribeCertificate", certificateId=arn.rpartition("/")[2])
            if answer is not None:
                described = answer["certificateDescription"]
                until = described.get("validity", {}).get("notAfter")
                expires = until.timestamp() if isinstance(until, datetime.datetime) else until
                found.append(_Certificate(id=described["certificateId"], status=described["status"], expires=expires))
        return max(found, key=lambda each: (each.status == "ACTIVE", each.expires or 0), default=None)


def list_states(
    project: Project,
    facilities: Iterable[FacilitySpec],
    journals: Sequence[KnownDevices],
    *,
    registry: Registry | None,
    requests_of: Callable[[FacilitySpec], Collection[str]],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[DeviceState]:
    """Yield each device of the facilities: the planned things in the record's order, then devices that left it.

    Args:
        project: The record.
        facilities: Those whose devices to list.
        journals: The journals of the chosen AWS.
        registry: What AWS IoT has; None where it is not asked.
        requests_of: Returns the things that have a CSR.
        on_progress: Called with the facilities' things that are done, and their total.
    """
    for journal in journals:
        journal.collect_changes()
    chosen = list(facilities)
    total, done = sum(facility.thing_count for facility in chosen), 0
    for facility in chosen:
        plant = _Plant.of(project, facility, journals, registry=registry, requests=requests_of(facility))
        rows = plant.rows() if registry is None else plant.described(list(plant.rows()), registry)
        for device in rows:
            yield replace(device, changed=_time(plant.changed(device.name)))
            done += device.is_planned
            if done % 1_000 == 0:
                on_progress(done, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plant:
    """Knowledge of one facility's devices; `things` are those in AWS IoT, None where it was not asked."""

    project: Project
    facility: FacilitySpec
    journals: Sequence[KnownDevices]
    registry: Registry | None
    things: Mapping[str, Mapping[str, Any]] | None
    requests: Collection[str]
    is_covered: bool

    @classmethod
    def of(
        cls,
        project: Project,
        facility: FacilitySpec,
        journals: Sequence[KnownDevices],
        *,
        registry: Registry | None,
        requests: Collection[str],
    ) -> _Plant:
        """Ask for the facility's things, where AWS IoT is asked."""
        covers = facility.registration == "bulk" and any(facility.id in journal.facilities() for journal in journals)
        return cls(
            project=project,
            facility=facility,
            journals=journals,
            registry=registry,
            things=registry.things(facility.id) if registry is not None else None,
            requests=requests,
            is_covered=covers,
        )

    def changed(self, name: str) -> float | None:
        """Return when the device was changed last."""
        return max(filter(None, (journal.changed(name) for journal in self.journals)), default=None)

    def rows(self) -> Iterator[DeviceState]:
        """Yield the devices; certificates that only AWS IoT has are still to be looked up."""
        planned = set()
        for thing in self.project.planned(self.facility) if self.facility.things_file else ():
            planned.add(thing.name)
            yield self._device(thing, self._known(thing.name), is_planned=True)
        left: dict[str, KnownDevice | ThingRow] = {}
        for name, found in (self.things or {}).items():
            device_type = str(found.get("thingTypeName", "")).removeprefix("thing-type-")
            attributes = dict(found.get("attributes") or {})
            left[name] = ThingRow(
                name=name,
                thing_type=str(found.get("thingTypeName", "")),
                device_type=device_type.removesuffix(f"-{self.project.environment_suffix}"),
                serial=attributes.get("serial", ""),
                attributes=attributes,
            )
        for journal in self.journals:
            left |= {device.row.name: device for device in journal.of_facility(self.facility.id)}
        for name in sorted(left.keys() - planned):
            found_row = left[name]
            row = found_row.row if isinstance(found_row, KnownDevice) else found_row
            yield self._device(row, self._known(name), is_planned=False)

    def described(self, rows: Sequence[DeviceState], registry: Registry) -> Iterator[DeviceState]:
        """Yield the rows, those that are UNKNOWN with what AWS IoT answers for their certificates."""
        found = registry.describe([row.name for row in rows if row.state is State.UNKNOWN])
        for row in rows:
            if row.name not in found:
                yield row
            elif (certificate := found[row.name]) is None:
                yield replace(row, state=State.REGISTERED)
            else:
                yield replace(
                    row,
                    state=_OF_CERTIFICATE.get(certificate.status, State.REGISTERED),
                    certificate_id=certificate.id,
                    expires=_time(certificate.expires),
                )

    def _known(self, name: str) -> KnownDevice | None:
        devices = [device for journal in self.journals for device in journal.by_name([name])]
        return min(devices, key=lambda device: device.is_gone, default=None)

    def _device(self, row: ThingRow, known: KnownDevice | None, *, is_planned: bool) -> DeviceState:
        state = self._state(row.name, known)
        has_certificate = known is not None and state in (State.REGISTERED, State.ACTIVE, State.REVOKED, State.MOVING)
        return DeviceState(
            name=row.name,
            facility=self.facility.id,
            device_type=row.device_type,
            serial=known.row.serial if known is not None and not known.is_gone else row.serial,
            state=state,
            certificate_id=known.certificate_id if known is not None and has_certificate else None,
            expires=_time(known.expires) if known is not None and has_certificate else None,
            is_planned=is_planned,
            has_request=row.name in self.requests,
        )

    def _state(self, name: str, known: KnownDevice | None) -> State:
        is_registered = None if self.things is None else name in self.things
        # A device that was handed over to Terraform has left the journal as one that was retired has.
        may_be_there = self.facility.registration == "terraform" if is_registered is None else is_registered
        if known is not None and known.state in _OF_JOURNAL and not (known.is_gone and may_be_there):
            return _OF_JOURNAL[known.state]
        if known is not None and not known.is_gone and known.certificate_id is not None:
            status = known.certificate_status
            if self.registry is not None:
                status = self.registry.statuses().get(known.certificate_id)
                if status is None:  # replaced or deleted in AWS IoT
                    return State.UNKNOWN if is_registered else State.MISSING
            return _OF_CERTIFICATE.get(str(status), State.REGISTERED)
        if is_registered or (is_registered is None and not self.is_covered):
            return State.UNKNOWN
        return State.KEYED if name in self.requests else State.PLANNED


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
