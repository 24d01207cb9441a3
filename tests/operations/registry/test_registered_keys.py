"""Keys of things that Terraform registers, stopped anywhere: the files, the key store and AWS IoT agree in the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.onboarding import PLANT, make_onboarding_project
from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.identities import Status
from fleet_iot.lib.shared.things import certificate_id
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.csr import create_missing, csr_path
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.spent import End
from fleet_iot.operations.project import load_project
from fleet_iot.operations.registry import adopt, registered, rotate
from fleet_iot.operations.registry.adopt import Adopted
from fleet_iot.operations.registry.calls import IotCalls, Pacer
from fleet_iot.operations.registry.device import Registered, find_thing, retire, revoke, show_device
from fleet_iot.operations.registry.expiry import expiry
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.rotate import (
    DeviceKeys,
    Rotation,
    begin_rotation,
    check_finish,
    finish_rotation,
    refuse_unseen,
)
from fleet_iot.operations.registry.runner import groups_of
from fleet_iot.operations.registry.steps import Work
from fleet_iot.sensor_processor.planning.items import Device, device_item
from tests.operations.lists.builders import make_request, new_key, pem
from tests.operations.registry.site import thing_name
from tests.operations.registry.test_rotate import Iot

pytestmark = pytest.mark.slow

NAME, OTHER = thing_name(1), thing_name(2)


class Case:
    """A plant of two things that Terraform registers, and an AWS IoT in this process."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.project = load_project(make_onboarding_project(folder / "project", things=2, registration="terraform"))
        self.facility = self.project.facility(PLANT)
        self.journal, self.iot = journal, Iot()
        calls = IotCalls(self.iot, Pacer(None, account="1", rates={}), sleep=quiet)
        groups = groups_of(self.project, self.facility)
        self.work = Work(calls=calls, journal=journal, groups=groups, is_staged=False, policy_on="certificate")
        self.store = KeyStore(folder / "keys", "words of tests")
        self.identities = self.project.root / "identities"
        self.path = csr_path(self.identities, self.project.environment_suffix, PLANT)
        self.made: dict[tuple[str, int], str] = {}
        self.create()
        self.apply()

    def create(self, *renewed: str) -> None:
        create_missing(self.project, self.facility, store=self.store, folder=self.identities, renewed=renewed)

    def apply(self) -> None:
        """Make the certificates that are not there yet, as an apply does."""
        for line in self.lines():
            name, key = line["thing"], (line["thing"], line.get("generation", 1))
            if line.get("status") or key in self.made:
                continue
            if name not in self.iot.kept.things:
                self.iot.create_thing(thingName=name, thingTypeName="t", attributePayload={"attributes": {}})
            made = self.iot.create_certificate_from_csr(certificateSigningRequest=line["csr"], setAsActive=True)
            self.iot.attach_thing_principal(thingName=name, principal=made["certificateArn"])
            self.made[key] = made["certificateId"]

    def lines(self, path: Path | None = None) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (path or self.path).read_text().splitlines()]

    def marks(self) -> list[tuple[str, int, str | None]]:
        """Thing, generation and status of each CSR; the lock has the same."""
        return [(line["thing"], line.get("generation", 1), line.get("status")) for line in self.lines()]

    @property
    def device(self) -> Registered:
        return find_thing(self.project, self.journal, NAME)

    def rotate(self, *, csr: bytes | None = None) -> Rotation:
        keys = DeviceKeys(store=None if csr else self.store, requests=self.path)
        return begin_rotation(self.work, self.device, keys=keys, request=csr, reason="yearly")

    def stored(self) -> str:
        """The digest of the key that the store has for the thing."""
        return key_digest(dict(self.store.keys(PLANT, {NAME}))[NAME].public_key()).hex()

    def status(self, generation: int = 1) -> str:
        return str(self.iot.kept.certificates[self.made[NAME, generation]]["status"])


def quiet(_: float) -> None:
    """No pause."""


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield Case(tmp_path, journal)


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["add_key", "_take_next"])
def test_a_rotation_that_was_stopped_is_continued(case: Case, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One CSR more, of the key that the store has at the end; the old key is reserved until the rotation ends."""
    first = case.stored()
    with monkeypatch.context() as patch:
        patch.setattr(rotate, where, stop)
        with pytest.raises(KeyboardInterrupt):
            case.rotate()
    assert first == case.stored()
    begun = case.rotate()
    assert (case.made[NAME, 1], None, 2) == (begun.old, begun.new, begun.generation)
    assert [(NAME, 1, None), (NAME, 2, None), (OTHER, 1, None)] == case.marks()
    (_, newest) = case.device.unspent
    assert first != newest.locked.key == case.stored()
    spent = case.journal.spent(bytes.fromhex(first), None)
    assert spent is not None and End.ROTATING is spent.what
    with pytest.raises(RequestError, match="is being rotated"):
        case.rotate()
    with pytest.raises(RequestError, match="no certificate in AWS IoT of its key of generation 2"):
        check_finish(case.work, case.device)
    case.create()  # the reserved key is no spent one
    case.apply()
    assert 2 == len(show_device(case.work, case.device).certificates)
    done = finish_rotation(case.work, case.device, reason="yearly")
    assert (case.made[NAME, 1], case.made[NAME, 2]) == (done.old, done.new)
    assert [(NAME, 2, None), (OTHER, 1, None)] == case.marks()
    spent = case.journal.spent(bytes.fromhex(first), None)
    assert spent is not None and End.REPLACED is spent.what
    with pytest.raises(EnvironmentFault, match=f"active certificate {done.old} whose key is none") as refused:
        case.rotate()
    assert f"apply the stack of {PLANT} first" in str(refused.value.hint)
    case.iot.update_certificate(certificateId=done.old, newStatus="INACTIVE")  # as an apply, which deletes it
    assert 3 == case.rotate().generation


def test_a_csr_is_of_the_device_alone(case: Case) -> None:
    """One in another thing's name, or of another thing's key, is refused, and the file stays as it is."""
    before = case.path.read_bytes()
    other = dict(case.store.keys(PLANT, {OTHER}))[OTHER]
    for name, key in ((OTHER, new_key()), (NAME, other)):
        with pytest.raises(EnvironmentFault, match=r"common name of another thing|are of one key"):
            case.rotate(csr=pem(make_request(name, key=key)).encode())
    assert before == case.path.read_bytes()
    case.rotate(csr=pem(make_request(NAME, key=new_key())).encode())
    assert (NAME, 2, None) in case.marks()


def test_commands_on_one_plant_lose_no_line(case: Case) -> None:
    """Each adds its line to what the others have written."""
    found = [case.device, find_thing(case.project, case.journal, OTHER)] * 4
    requests = [pem(make_request(each.thing.name, key=new_key())) for each in found]

    def add(device: Registered, csr: str) -> int:
        assert device.own_keys is not None
        return registered.add_key(device.own_keys, csr).generation

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(add, found, requests))
    assert [2, 2, 3, 3, 4, 4, 5, 5] == sorted(added)
    assert [(name, number, None) for name in (NAME, OTHER) for number in range(1, 6)] == case.marks()


def test_a_revocation_does_not_wait_for_the_files(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS IoT first; where the files cannot be written that is said, and the command is repeated."""
    case.rotate()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(case.path))

    with monkeypatch.context() as patch:
        patch.setattr(registered, "write_identities", full)
        with pytest.raises(EnvironmentFault, match=f"has locked {NAME} out"):
            revoke(case.work, case.device, reason="stolen")
    assert "REVOKED" == case.status()
    assert [(NAME, 1, None), (NAME, 2, None)] == case.marks()[:2]
    assert 1 == revoke(case.work, case.device, reason="stolen")
    # The second key has no certificate: it gets none.
    expected = [(NAME, 1, "revoked"), (NAME, 2, "retired"), (OTHER, 1, None)]
    assert expected == case.marks()
    lock = case.path.with_name(f"{PLANT}.lock.jsonl")
    assert expected == [(line["thing"], line.get("generation", 1), line.get("status")) for line in case.lines(lock)]
    for request in case.device.own_keys.requests if case.device.own_keys else ():
        spent = case.journal.spent(bytes.fromhex(request.locked.key), None)
        assert spent is not None and End.REVOKED is spent.what
    with pytest.raises(RequestError, match="no key in use") as refused:
        case.rotate()
    assert f"--renew {NAME}" in str(refused.value.hint)
    case.create(NAME)
    assert (NAME, 3, None) in case.marks()


def test_a_retired_thing_keeps_its_place(case: Case) -> None:
    """Its certificate is gone, the thing and its line stay; there is nothing to retire again."""
    gone = case.made[NAME, 1]
    assert [gone] == retire(case.work, case.device, reason="scrapped", sleep=quiet)
    assert gone not in case.iot.kept.certificates and NAME in case.iot.kept.things
    assert [(NAME, 1, "retired"), (OTHER, 1, None)] == case.marks()
    with pytest.raises(RequestError, match="no key in use"):
        retire(case.work, case.device, reason="scrapped", sleep=quiet)
    shown = show_device(case.work, case.device)
    assert (True, (), Status.RETIRED) == (shown.is_registered, shown.certificates, shown.keys[0].status)
    assert "retired" in [event.what for event in shown.history]
    found = expiry(case.project, case.work, now=0, days=1, facility=None, on_progress=lambda done, total: None)
    assert [(PLANT, 2, 1), ("th-01", 1, None)] == [(it.facility, it.things, it.certificates) for it in found.plants]


def test_a_device_is_seen_with_its_new_certificate(case: Case) -> None:
    """By its last reading; one of which nothing arrived was not."""

    class Devices:
        """A table with one answer."""

        def __init__(self, **answer: Any) -> None:
            self.answer = answer

        def get_item(self, **_: Any) -> dict[str, Any]:
            return self.answer

    new = "b" * 64
    with pytest.raises(RequestError, match="no reading"):
        refuse_unseen(Devices(), "t", NAME, new)
    for certificate in ("a" * 64, new):
        values = {"first_contact": 1, "last_contact": 1, "version": 1, "messages": 1, "last_sequence": None}
        seen = Device(
            name=NAME, facility=PLANT, device_type="press", certificate_id=certificate, detectors=b"", **values
        )
        devices = Devices(Item={"device": {"S": NAME}, **device_item(seen)})
        if certificate == new:
            refuse_unseen(devices, "t", NAME, new)
        else:
            with pytest.raises(RequestError, match="came with its certificate a"):
                refuse_unseen(devices, "t", NAME, new)


def test_a_finished_rotation_leaves_no_certificate_of_the_former_key(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several of it are removed at once; several of the new key, and one of an unknown key, are refused."""
    (former,) = case.device.unspent

    def attach(csr: str) -> str:
        made = case.iot.create_certificate_from_csr(certificateSigningRequest=csr, setAsActive=True)
        case.iot.attach_thing_principal(thingName=NAME, principal=made["certificateArn"])
        return str(made["certificateId"])

    def refused(match: str) -> None:
        with pytest.raises(EnvironmentFault, match=match):
            check_finish(case.work, case.device)

    second, unknown = attach(former.csr), attach(pem(make_request(NAME, key=new_key())))
    with pytest.raises(EnvironmentFault, match=f"active certificate {unknown} whose key is none"):
        case.rotate()
    case.iot.update_certificate(certificateId=unknown, newStatus="INACTIVE")
    case.rotate()
    case.apply()
    case.iot.update_certificate(certificateId=unknown, newStatus="ACTIVE")
    refused(f"active certificate {unknown} whose key is none")
    case.iot.update_certificate(certificateId=unknown, newStatus="INACTIVE")
    third = attach(case.device.unspent[-1].csr)
    refused("two active certificates of its new key")
    case.iot.update_certificate(certificateId=third, newStatus="INACTIVE")
    remove, removed = rotate.remove_certificate, []

    def stop_at_the_second(*given: Any, **options: Any) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(given)
        remove(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(rotate, "remove_certificate", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            finish_rotation(case.work, case.device, reason="yearly", sleep=quiet)
    done = finish_rotation(case.work, case.device, reason="yearly", sleep=quiet)
    assert case.made[NAME, 2] == done.new and done.old in (case.made[NAME, 1], second)
    assert {case.made[NAME, 1], second}.isdisjoint(case.iot.kept.certificates)
    assert "ACTIVE" == case.status(2)


class Terraform:
    """Terraform's state of the plant's stack, as an apply of its certificates leaves it."""

    def __init__(self, case: Case) -> None:
        group = {"mode": "managed", "type": "aws_iot_thing_group", "name": "g", "provider": "p", "instances": []}
        self.state: dict[str, Any] = {"serial": 1, "resources": [group]}
        for (name, generation), id_ in case.made.items():
            plain = name.removesuffix("-dev")
            own = certificate_id(plain, generation)
            self.add("aws_iot_thing", plain, name=name)
            self.add("aws_iot_thing_group_membership", plain, thing_name=name)
            arn = case.iot.kept.certificates[id_]["certificateArn"]
            self.add("aws_iot_certificate", own, id=id_, arn=arn)
            self.add("aws_iot_policy_attachment", own, target=arn)
            self.add("aws_iot_thing_principal_attachment", own, principal=arn)

    def add(self, kind: str, name: str, /, **attributes: str) -> None:
        resource = {"mode": "managed", "type": kind, "name": name, "instances": [{"attributes": attributes}]}
        if (kind, name) not in self.addresses():
            self.state["resources"].append(resource)

    def addresses(self) -> set[tuple[str, str]]:
        return {(each["type"], each["name"]) for each in self.state["resources"]}

    def pull(self, _: object) -> dict[str, Any]:
        return dict(self.state)

    def push(self, _: object, state: dict[str, Any]) -> None:
        self.state = state


WRITES = ("start_run", "write", "push", "write_identities", "write_lock")


@pytest.mark.parametrize("stopped", [None, *WRITES])
def test_a_plant_changes_its_registration_whatever_stops_it(
    case: Case, stopped: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To bulk and back: each command that was stopped at a write is repeated; certificates and addresses stay."""
    terraform = Terraform(case)
    monkeypatch.setattr(adopt.StackState, "pull", lambda _: terraform.pull(_))
    monkeypatch.setattr(adopt.StackState, "push", lambda _, state: terraform.push(_, state))
    state = adopt.StackState(folder=case.path, environment={}, logs=case.path)
    before, certificates = terraform.addresses(), set(case.iot.kept.certificates)
    place = {"push": adopt.StackState, "write": Journal, "start_run": Journal}.get(stopped or "", adopt)

    def hand_over(registration: str) -> Adopted:
        facility = replace(case.facility, registration=registration)
        project = replace(case.project, facilities=(facility, *case.project.facilities[1:]))
        return adopt.adopt(project, facility, case.work, state, reason="grown", is_dry=False)

    for registration in ("bulk", "terraform"):
        if stopped is not None:
            with monkeypatch.context() as patch:
                patch.setattr(place, stopped, stop)
                with suppress(KeyboardInterrupt):
                    hand_over(registration)
        done = hand_over(registration)
        assert (PLANT, registration) == (done.facility, done.registration)
        assert certificates == set(case.iot.kept.certificates)
        lock = case.path.with_name(f"{PLANT}.lock.jsonl")
        if registration == "bulk":
            assert {("aws_iot_thing_group", "g")} == terraform.addresses()
            assert {NAME: case.made[NAME, 1], OTHER: case.made[OTHER, 1]} == {
                each.thing: each.certificate_id for each in case.journal.onboarded(PLANT)
            }
            assert not lock.exists() and case.journal.unfinished(PLANT) is None
            assert "certificate" == case.journal.policy_on(NAME)
        else:
            assert before == terraform.addresses()
            assert [] == list(case.journal.onboarded(PLANT))
            assert 2 == len(case.lines(lock)) == len(case.marks())
    assert case.stored() == case.device.unspent[0].locked.key
    what = [event.what for event in show_device(case.work, case.device).history]
    assert {"handed over by Terraform", "handed over to Terraform"} <= set(what)


def test_what_cannot_be_handed_over_stays(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation is finished first; a revoked key stays spent and its certificate known on either side."""
    terraform = Terraform(case)
    monkeypatch.setattr(adopt.StackState, "pull", lambda _: terraform.pull(_))
    monkeypatch.setattr(adopt.StackState, "push", lambda _, state: terraform.push(_, state))
    state = adopt.StackState(folder=case.path, environment={}, logs=case.path)
    bulk = replace(case.facility, registration="bulk")
    project = replace(case.project, facilities=(bulk, *case.project.facilities[1:]))
    case.rotate()
    before = terraform.addresses()
    with pytest.raises(RequestError, match="is being rotated"):
        adopt.adopt(project, bulk, case.work, state, reason="grown", is_dry=False)
    assert before == terraform.addresses() and [] == list(case.journal.onboarded(PLANT))
    revoke(case.work, case.device, reason="stolen")
    dry = adopt.adopt(project, bulk, case.work, state, reason="grown", is_dry=True)
    assert (2, 0) == (dry.devices, dry.without_certificate)
    assert dry == adopt.adopt(project, bulk, case.work, state, reason="grown", is_dry=False)
    statuses = {each.thing: each.certificate_status for each in case.journal.onboarded(PLANT)}
    assert {NAME: "REVOKED", OTHER: "ACTIVE"} == statuses
    assert [(OTHER, 1, None)] == case.marks()
    adopt.adopt(case.project, case.facility, case.work, state, reason="shrunk", is_dry=False)
    assert [(NAME, 1, "revoked"), (OTHER, 1, None)] == case.marks()
    terraform.state["resources"] = terraform.state["resources"][:1]
    with pytest.raises(RequestError, match=f"2 things of {PLANT}, such as {NAME}, are in AWS IoT, and in neither"):
        adopt.adopt(case.project, case.facility, case.work, state, reason="elsewhere", is_dry=False)


def test_a_second_certificate_is_refused_before_anything_is_written(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a stack was applied by hand before the hand-over; also once Terraform forgot it, until it is inactive."""
    terraform = Terraform(case)
    monkeypatch.setattr(adopt.StackState, "pull", lambda _: terraform.pull(_))
    monkeypatch.setattr(adopt.StackState, "push", lambda _, state: terraform.push(_, state))
    state = adopt.StackState(folder=case.path, environment={}, logs=case.path)
    bulk = replace(case.facility, registration="bulk")
    project = replace(case.project, facilities=(bulk, *case.project.facilities[1:]))
    adopt.adopt(project, bulk, case.work, state, reason="grown", is_dry=False)
    first = dict(case.made)
    case.made.clear()
    case.apply()  # of the stack with the things, by hand
    terraform.state = Terraform(case).state
    before, files = terraform.addresses(), case.path.read_bytes()

    def refused(match: str, *, back: bool = True, is_dry: bool = False) -> str:
        chosen, facility = (case.project, case.facility) if back else (project, bulk)
        with pytest.raises(EnvironmentFault, match=match) as found:
            adopt.adopt(chosen, facility, case.work, state, reason="shrunk", is_dry=is_dry)
        assert before == terraform.addresses() and files == case.path.read_bytes()
        assert {NAME: first[NAME, 1], OTHER: first[OTHER, 1]} == {
            each.thing: each.certificate_id for each in case.journal.onboarded(PLANT)
        }
        return str(found.value.hint)

    ids = f"{first[NAME, 1]} of the journal.*{case.made[NAME, 1]} of Terraform's state; and so have 1 other thing"
    for is_dry in (True, False):
        hint = refused(f"{NAME} has two certificates: {ids}", is_dry=is_dry)
    plain = NAME.removesuffix("-dev")
    assert f"terraform state rm aws_iot_certificate.{plain} aws_iot_policy_attachment.{plain}" in hint
    refused(f"{NAME} has an active certificate {first[NAME, 1]} in AWS IoT that is not", back=False)
    of_things = ("aws_iot_certificate", "aws_iot_policy_attachment", "aws_iot_thing_principal_attachment")
    terraform.state["resources"] = [each for each in terraform.state["resources"] if each["type"] not in of_things]
    before = terraform.addresses()
    hint = refused(f"{NAME} has an active certificate {case.made[NAME, 1]} in AWS IoT that is not handed over")
    assert f"--certificate-id {case.made[NAME, 1]}" in hint
    for id_ in case.made.values():
        case.iot.update_certificate(certificateId=id_, newStatus="INACTIVE")
    done = adopt.adopt(case.project, case.facility, case.work, state, reason="shrunk", is_dry=False)
    assert 2 == done.devices
    held = {it["instances"][0]["attributes"].get("id") for it in terraform.state["resources"] if it["instances"]}
    assert set(first.values()) <= held


def test_a_rehearsal_does_not_remove_an_accounts_lock(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identities are the account's too, unless the command has others; a plant without a lock has none to lose."""
    bulk = replace(case.facility, registration="bulk")
    warning = registered.shared_identities(case.project)
    assert warning is not None and warning.startswith("note: identities/dev is the account's too")
    with pytest.raises(RequestError, match="which an account's plant has too") as refused:
        registered.refuse_shared_lock(case.project, bulk)
    assert "FLEET_IDENTITIES" in str(refused.value.hint) and "--yes" in str(refused.value.hint)
    registered.refuse_shared_lock(case.project, case.facility)
    with monkeypatch.context() as patch:
        lock = case.path.with_name(f"{PLANT}.lock.jsonl")
        lock.rename(lock.with_suffix(".away"))
        registered.refuse_shared_lock(case.project, bulk)
        lock.with_suffix(".away").rename(lock)
        patch.setenv("FLEET_IDENTITIES", str(case.identities))
        assert registered.shared_identities(case.project) is None
        registered.refuse_shared_lock(case.project, bulk)
