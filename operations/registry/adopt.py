"""Hand a plant's things over to the registration that its record says: from Terraform to the journal, or back.

No call changes anything in AWS IoT: things, certificates and attachments stay as they are, and with them each device's
key. To bulk, the journal gets each device with its certificate, then Terraform's state forgets what the journal has. To
Terraform, the project gets each device's CSR, the state gets what AWS IoT has, and then the journal releases it.
Terraform's provider has no import of certificates and attachments, hence the entries in its state.

Each step is skipped where it was done, so that an interrupted run is repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.generator.text import counted
from fleet_iot.lib.record.identities import (
    Identity,
    Request,
    Status,
    csrs_file,
    lock_file,
    parse_request,
    read_identities,
    read_lock,
    read_requests,
    write_lock,
)
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.shared.things import certificate_id, logical_id
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.lib.synthesis.output import STACK_FILE
from fleet_iot.operations.pki.csr import write_identities
from fleet_iot.operations.pki.keystore import identities_folder
from fleet_iot.operations.pki.spent import End, spend
from fleet_iot.operations.project import Project, reporting_record_faults
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.device import (
    REVOKED,
    Certificate,
    id_of,
    material_of,
    principals_of,
    read_certificate,
)
from fleet_iot.operations.registry.journal import PLAN_DEVICE, Device, Run, Step, Write, planned_values
from fleet_iot.operations.registry.matching import Pair
from fleet_iot.operations.registry.registered import digest_of
from fleet_iot.operations.registry.steps import THREADS, Work, pem_of
from fleet_iot.operations.terraform import Terraform, terraform_for

State = dict[str, Any]
"""Terraform's state, as `terraform state pull` prints it."""

_GROUP = "aws_iot_thing_group"
_THING = "aws_iot_thing"
_MEMBERSHIP = "aws_iot_thing_group_membership"
_CERTIFICATE = "aws_iot_certificate"
_POLICY = "aws_iot_policy_attachment"
_PRINCIPAL = "aws_iot_thing_principal_attachment"
_BY = "device adopt"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """Terraform's state of a stack, as it was synthesised and applied last, wherever its backend keeps it."""

    folder: Path
    environment: Mapping[str, str]
    logs: Path

    def pull(self) -> State:
        """Return it; without `resources` where there is none. Raises EnvironmentFault."""
        if not (self.folder / STACK_FILE).is_file():
            raise EnvironmentFault(
                f"{self.folder} has no stack", hint="synthesise it, as it was applied last; or set FLEET_OUTDIR"
            )
        terraform = self._terraform()
        terraform.init(self.folder)
        return terraform.pull_state(self.folder)

    def push(self, state: State) -> None:
        """Replace it. Raises EnvironmentFault where it was changed since."""
        self._terraform().push_state(self.folder, state)

    def _terraform(self) -> Terraform:
        return terraform_for(environment=self.environment, logs=self.logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Counts of a hand-over, done or forecast: devices with their certificate, and things without one."""

    facility: str
    registration: str
    devices: int
    without_certificate: int


def adopt(
    project: Project, facility: FacilitySpec, work: Work, state: StackState, *, reason: str, is_dry: bool
) -> Adopted:
    """Hand the plant's things over to the registration of its record.

    Raises:
        RequestError: A device is between two keys or plants, or is one that the other registration cannot have;
            nothing was changed.
        EnvironmentFault: A file, the state or AWS IoT is not as expected.
    """
    path = csrs_file(identities_folder(project), suffix=project.environment_suffix, facility=facility.id)
    with reporting_record_faults():
        plant = _Plant(project=project, facility=facility, work=work, reason=reason, path=path)
        hand_over = _to_bulk if facility.registration == "bulk" else _to_terraform
        return hand_over(plant, state, is_dry=is_dry)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plant:
    project: Project
    facility: FacilitySpec
    work: Work
    reason: str
    path: Path

    def id_of(self, thing: ThingRow) -> str:
        """Return the Terraform identifier of a thing."""
        return logical_id(thing.name.removesuffix(f"-{self.project.environment_suffix}"))

    def described(self, arns: Iterable[str]) -> dict[str, Certificate | None]:
        """Describe certificates, by ARN; None where one is gone."""
        asked = list(arns)
        with ThreadPoolExecutor(THREADS) as pool:
            return dict(zip(asked, pool.map(lambda arn: read_certificate(self.work.calls, arn), asked), strict=True))

    def note(self, thing: str, what: str, certificate: str | None) -> Write:
        return entries.history(thing, what, at=self.work.clock(), certificate_id=certificate, reason=self.reason)


def _to_bulk(plant: _Plant, file: StackState, *, is_dry: bool) -> Adopted:
    state, requests = file.pull(), read_requests(plant.path)
    held = {(each["type"], each["name"]): each for each in state.get("resources", ())}
    things = [thing for thing in plant.project.planned(plant.facility) if (_THING, plant.id_of(thing)) in held]
    if rotated := [thing.name for thing in things if len(_used(requests.get(thing.name, ()))) > 1]:
        raise RequestError(f"{rotated[0]} is being rotated", hint="finish that first: fleet device rotate --finish")
    devices: list[tuple[ThingRow, Request, dict[str, Any]]] = []
    for thing in things:
        for request in reversed(requests.get(thing.name, ())):
            resource = held.get((_CERTIFICATE, certificate_id(plant.id_of(thing), request.generation)))
            if resource is not None:
                devices.append((thing, request, resource["instances"][0]["attributes"]))
                break
    done = Adopted(
        facility=plant.facility.id,
        registration="bulk",
        devices=len(devices),
        without_certificate=len(things) - len(devices),
    )
    found = plant.described(attributes["arn"] for _, _, attributes in devices)
    handed_over = {thing.name: id_of(made["arn"]) for thing, _, made in devices}
    _refuse_others(plant, {thing.name: handed_over.get(thing.name) for thing in things})
    if is_dry:
        return done
    _into_journal(plant, requests, [(thing, request, found[made["arn"]]) for thing, request, made in devices])
    if things:
        gone = {
            certificate_id(plant.id_of(thing), generation)
            for thing in things
            for generation in {1, *(each.generation for each in requests.get(thing.name, ()))}
        }
        kinds = (_THING, _MEMBERSHIP, _CERTIFICATE, _POLICY, _PRINCIPAL)
        kept = [each for each in state["resources"] if each["type"] not in kinds or each["name"] not in gone]
        file.push({**state, "resources": kept})
    # Last: while the lock is there, no stack without the things is synthesised.
    if lock_file(plant.path).exists():
        lines = {line.thing: line for line in sorted(read_identities(plant.path), key=lambda line: line.generation)}
        write_identities(plant.path, (Identity(thing=it.thing, csr=it.csr) for it in lines.values() if not it.status))
        lock_file(plant.path).unlink()
    return done


def _used(requests: Iterable[Request]) -> list[Request]:
    return [each for each in requests if each.status is None]


def _into_journal(
    plant: _Plant,
    requests: Mapping[str, tuple[Request, ...]],
    devices: list[tuple[ThingRow, Request, Certificate | None]],
) -> None:
    """Record the devices as onboarded, in one transaction, and the keys that were revoked or retired."""
    work, facility = plant.work, plant.facility.id
    journal, at = work.journal, work.clock()
    run = Run(
        facility=facility,
        source=str(plant.path),
        format="jsonl",
        bundle=None,
        signers=None,
        mark="",
        reason=plant.reason,
        is_staged=False,
        # As Terraform attached it.
        policy_on="certificate",
    )
    new = []
    for thing, request, certificate in devices:
        if certificate is None:
            raise EnvironmentFault(
                f"Terraform's state has a certificate of {thing.name} that AWS IoT has not",
                hint=f"apply the stack of {facility} with its former registration first",
            )
        known = journal.find_device(thing.name)
        if known is None or known.state != "done" or known.certificate_id != certificate.id:
            new.append((thing, request, certificate))
    ended = {Status.REVOKED: End.REVOKED, Status.RETIRED: End.RETIRED}
    writes = [
        spend(
            ended[each.status],
            key=digest_of(each),
            certificate_id=None,
            thing=thing,
            at=at,
            by=_BY,
            reason="marked in the project's CSRs",
        )
        for thing, held in requests.items()
        for each in held
        if each.status is not None and journal.spent(digest_of(each), None) is None
    ]
    if new:
        begun = journal.unfinished(facility)  # by a run that was killed just after this
        is_empty = begun is not None and not journal.count(begun.id)
        id_ = begun.id if begun is not None and is_empty else journal.start_run(run, [], [], now=at)
        writes.append(entries.finished(id_, at=at))
    for row, (thing, request, certificate) in enumerate(new, start=1):
        pair = Pair(thing=thing, row=row, place=f"line {request.line}", material=material_of(request.csr))
        assert certificate.der is not None  # noqa: S101 - read_certificate gives it
        expires = x509.load_der_x509_certificate(certificate.der).not_valid_after_utc.timestamp()
        writes += [
            (PLAN_DEVICE, planned_values(facility, id_, pair)),
            entries.certificate(
                thing.name,
                certificate_id=certificate.id,
                arn=certificate.arn,
                status=certificate.status,
                expires=expires,
            ),
            entries.done(thing.name),
            plant.note(thing.name, "handed over by Terraform", certificate.id),
        ]
    if writes:
        journal.write(*writes)


def _to_terraform(plant: _Plant, file: StackState, *, is_dry: bool) -> Adopted:
    journal, facility = plant.work.journal, plant.facility.id
    things = {thing.name: thing for thing in plant.project.planned(plant.facility)}
    devices = list(journal.onboarded(facility))
    _refuse_what_stays(plant, devices, things)
    done = Adopted(
        facility=facility,
        registration="terraform",
        devices=len(devices),
        without_certificate=len(things) - len(devices),
    )
    state = file.pull()
    _refuse_unknown(plant, things.keys() - {device.thing for device in devices} - _names(state))
    _refuse_second(plant, devices, state, things)
    _refuse_others(plant, {device.thing: device.certificate_id for device in devices})
    if is_dry or not devices:
        return done
    groups = (each for each in state.get("resources", ()) if each["type"] == _GROUP)
    provider = next((each["provider"] for each in groups), None)
    if provider is None:
        raise EnvironmentFault(f"the stack of {facility} has no state", hint="apply it first")
    found = plant.described(str(device.certificate_arn) for device in devices)
    if lost := [device.thing for device in devices if found[str(device.certificate_arn)] is None]:
        raise EnvironmentFault(
            f"AWS IoT has no certificate of {lost[0]}",
            hint="retire it first: fleet device retire, with the plant in bulk",
        )
    added = {device.thing: _line(device, found[str(device.certificate_arn)]) for device in devices}
    write_identities(
        plant.path, [*(line for line in read_identities(plant.path) if line.thing not in added), *added.values()]
    )
    requests = {name: parse_request(line, 0) for name, line in added.items()}
    lock = read_lock(lock_file(plant.path), ())
    lock |= {name: (request.locked,) for name, request in requests.items()}
    write_lock(lock_file(plant.path), (line for lines in lock.values() for line in lines))
    held = {(each["type"], each["name"]) for each in state["resources"]}
    made = (
        {"mode": "managed", "type": kind, "name": name, "provider": provider, "instances": [instance]}
        for device in devices
        for kind, name, instance in _resources(plant, things[device.thing], device, requests[device.thing].csr)
        if (kind, name) not in held
    )
    file.push({**state, "resources": [*state["resources"], *made]})
    journal.write(
        *(write for device in devices for write in (entries.retired(device.thing), entries.forget_all(device.thing))),
        *(plant.note(device.thing, "handed over to Terraform", device.certificate_id) for device in devices),
    )
    return done


def _names(state: State) -> set[str]:
    """Return the things that are in the state."""
    instances = (each for it in state.get("resources", ()) if it["type"] == _THING for each in it["instances"])
    return {str(each["attributes"]["name"]) for each in instances}


def _refuse_unknown(plant: _Plant, names: Iterable[str]) -> None:
    """Raise RequestError where AWS IoT has one of these things: Terraform would make another certificate for it."""
    asked = sorted(names)

    def is_registered(name: str) -> bool:
        return plant.work.calls.call_if_exists("DescribeThing", thingName=name) is not None

    with ThreadPoolExecutor(THREADS) as pool:
        found = [name for name, is_there in zip(asked, pool.map(is_registered, asked), strict=True) if is_there]
    if found:
        raise RequestError(
            f"{counted(len(found), 'thing')} of {plant.facility.id}, such as {found[0]}, "
            "are in AWS IoT, and in neither this journal nor Terraform's state",
            hint="run it where they were onboarded (FLEET_JOURNAL_DIR names the journals' folder), or retire them",
        )


def _refuse_second(plant: _Plant, devices: list[Device], state: State, things: Mapping[str, ThingRow]) -> None:
    """Raise EnvironmentFault where Terraform's state has another certificate of a device than the journal: an apply of
    the new registration made it before this."""
    requests, arns = read_requests(plant.path), {_CERTIFICATE: "arn", _POLICY: "target", _PRINCIPAL: "principal"}
    held: dict[str, set[str]] = {}
    for each in (it for it in state.get("resources", ()) if it["type"] in arns):
        attributes = (instance["attributes"] for instance in each["instances"])
        held.setdefault(each["name"], set()).update(str(it[arns[each["type"]]]) for it in attributes)
    second = []
    for device in devices:
        generations = {1, *(each.generation for each in requests.get(device.thing, ()))}
        for id_ in (certificate_id(plant.id_of(things[device.thing]), each) for each in sorted(generations)):
            others = held.get(id_, set()) - {str(device.certificate_arn)}
            second += [(device, id_, arn) for arn in sorted(others)]
    if second:
        device, id_, other = second[0]
        addresses = " ".join(f"{kind}.{id_}" for kind in arns)
        raise EnvironmentFault(
            f"{device.thing} has two certificates: {device.certificate_id} of the journal, which its device uses, and "
            f"{id_of(other)} of Terraform's state{_and_others(len({each.thing for each, _, _ in second}))}",
            hint=f"have Terraform forget the second: terraform state rm {addresses}; {_remove(device.thing, other)}",
        )


def _refuse_others(plant: _Plant, handed_over: Mapping[str, str | None]) -> None:
    """Raise EnvironmentFault where AWS IoT has an active certificate of a thing beside the one that is handed over:
    nothing here would have it afterwards."""
    calls = plant.work.calls

    def others(thing: str) -> list[str]:
        arns = [each for each in principals_of(calls, thing) if id_of(each) != handed_over[thing]]
        found = (read_certificate(calls, arn) for arn in arns)
        return [each.arn for each in found if each is not None and each.status == "ACTIVE"]

    with ThreadPoolExecutor(THREADS) as pool:
        found = [
            (thing, arns[0]) for thing, arns in zip(handed_over, pool.map(others, handed_over), strict=True) if arns
        ]
    if found:
        thing, other = found[0]
        raise EnvironmentFault(
            f"{thing} has an active certificate {id_of(other)} in AWS IoT that is not handed over: handed over is "
            f"{handed_over[thing] or 'none'}{_and_others(len(found))}",
            hint=f"remove the one that its device does not use: {_remove(thing, other)}",
        )


def _and_others(count: int) -> str:
    return f"; and so have {counted(count - 1, 'other thing')}" if count > 1 else ""


def _remove(thing: str, arn: str) -> str:
    """Return how to remove one of a thing's certificates; `fleet device` would end all of them."""
    return (
        f"aws iot update-certificate --certificate-id {id_of(arn)} --new-status INACTIVE; "
        f"aws iot detach-thing-principal --thing-name {thing} --principal {arn}; then run this again"
    )


def _refuse_what_stays(plant: _Plant, devices: list[Device], things: Mapping[str, ThingRow]) -> None:
    """Raise RequestError where a device cannot be handed over to Terraform."""
    journal, facility = plant.work.journal, plant.facility.id
    if journal.unfinished(facility) is not None:
        raise RequestError(f"{facility} is being onboarded", hint=f"fleet onboard --facility {facility} --resume")
    for device in devices:
        name = device.thing
        if name not in things:
            raise RequestError(f"{name} left the record", hint="take it out of AWS IoT: fleet device retire")
        if device.is_certificate:
            raise RequestError(
                f"{name} brought its own certificate: Terraform makes certificates of CSRs only",
                hint="leave the plant in bulk, or rotate the device to a key with a CSR first",
            )
        if device.state == "moving" or Step.ROTATE in journal.steps(name):
            raise RequestError(f"{name} is being moved or rotated", hint="finish that first")


def _line(device: Device, certificate: Certificate | None) -> Identity:
    status = Status.REVOKED if certificate is not None and certificate.status == REVOKED else None
    return Identity(thing=device.thing, csr=pem_of(device.der, "CERTIFICATE REQUEST"), status=status)


def _resources(plant: _Plant, thing: ThingRow, device: Device, csr: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield type, identifier and instance of what the stack has of a device; Terraform reads the rest from AWS IoT."""
    id_, name, arn = plant.id_of(thing), thing.name, device.certificate_arn
    group = plant.work.groups[thing.device_type]
    on_thing, on_certificate = [f"{_THING}.{id_}"], [f"{_CERTIFICATE}.{id_}"]
    yield _THING, id_, _instance({"id": name, "name": name})
    membership = {"id": f"{group.thing_group}/{name}", "thing_group_name": group.thing_group, "thing_name": name}
    yield _MEMBERSHIP, id_, _instance(membership, on_thing)
    certificate = {"id": device.certificate_id, "arn": arn, "csr": csr, "active": device.certificate_status == "ACTIVE"}
    yield _CERTIFICATE, id_, _instance(certificate)
    policy = {"id": f"{group.policy}|{arn}", "policy": group.policy, "target": arn}
    yield _POLICY, id_, _instance(policy, on_certificate)
    principal = {"id": f"{name}|{arn}", "thing": name, "principal": arn}
    yield _PRINCIPAL, id_, _instance(principal, [*on_thing, *on_certificate])


def _instance(attributes: Mapping[str, Any], depends_on: Iterable[str] = ()) -> dict[str, Any]:
    return {"schema_version": 0, "attributes": dict(attributes), "dependencies": list(depends_on)}
