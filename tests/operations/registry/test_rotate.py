"""A rotation that is stopped anywhere is taken up again: one new certificate, and the key is never lost."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from benchmarks.iot_service import Registry, ServiceError
from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.material import key_digest, read_material
from fleet_iot.operations.pki.csr import read_requests, write_requests
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import load_project
from fleet_iot.operations.registry.calls import IotCalls, Pacer
from fleet_iot.operations.registry.device import Registered
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.matching import Pair
from fleet_iot.operations.registry.rotate import DeviceKeys, begin_rotation, finish_rotation
from fleet_iot.operations.registry.steps import Group, Work, onboard_device
from tests.operations.lists.builders import NOW, make_request, new_key, pem
from tests.operations.registry.test_steps import RUN
from tests.places import SAMPLE

THING = ThingRow(name="t-1", thing_type="type", device_type="press", serial="S", attributes={})


class Iot:
    """The quota service's registry in this process; `fails` names methods that do their work and lose the answer."""

    def __init__(self) -> None:
        self.kept = Registry()
        self.fails: list[str] = []
        self.asked: list[str] = []

    def __getattr__(self, method: str) -> Any:
        def call(**given: Any) -> Any:
            self.asked.append(method)
            try:
                answer = self._answer(method, given)
            except ServiceError as error:
                told = {"Error": {"Code": error.code}, "ResponseMetadata": {"HTTPStatusCode": error.status}}
                raise ClientError(told, method) from None  # type: ignore[arg-type]
            if method in self.fails:
                self.fails.remove(method)
                raise ReadTimeoutError(endpoint_url="x")
            return answer

        return call

    def _answer(self, method: str, given: dict[str, Any]) -> Any:
        kept = self.kept
        match method:
            case "create_thing":
                return kept.create_thing(given["thingName"], given)
            case "create_certificate_from_csr":
                return kept.create_certificate(given["certificateSigningRequest"], is_active=given["setAsActive"])
            case "attach_thing_principal":
                return kept.attach(given["thingName"], given["principal"])
            case "add_thing_to_thing_group":
                return kept.add_to_group(given["thingName"], given["thingGroupName"])
            case "list_certificates":
                page = kept.list_certificates(given["pageSize"], given.get("marker", ""))
                times = (
                    {**each, "creationDate": datetime.datetime.fromtimestamp(each["creationDate"], datetime.UTC)}
                    for each in page["certificates"]
                )
                return page | {"certificates": list(times)}
            case "describe_certificate":
                return kept.describe_certificate(given["certificateId"])
            case "update_certificate":
                return kept.update_certificate(given["certificateId"], given["newStatus"])
            case "attach_policy":
                return kept.attach_policy(given["policyName"], given["target"])
            case "detach_policy":
                return kept.detach_policy(given["policyName"], given["target"])
            case "list_attached_policies":
                return kept.policies_of(given["target"])
            case "detach_thing_principal":
                return kept.detach(given["thingName"], given["principal"])
            case "delete_certificate":
                return kept.delete_certificate(given["certificateId"])
            case "describe_thing":
                return kept.describe_thing(given["thingName"])
            case "list_thing_principals":
                return kept.principals(given["thingName"])
            case "remove_thing_from_thing_group":
                return kept.remove_from_group(given["thingName"], given["thingGroupName"])
            case "delete_thing":
                return kept.delete_thing(given["thingName"])
        raise AssertionError(method)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def facility() -> FacilitySpec:
    return load_project(SAMPLE).facility("sg-01")


class Case:
    """One device, onboarded under a key of the store, and what rotates it."""

    def __init__(self, journal: Journal, folder: Path) -> None:
        self.iot, self.journal = Iot(), journal
        calls = IotCalls(self.iot, Pacer(None, account="1", rates={}), sleep=lambda _: None)
        groups = {"press": Group(thing_group="g", policy="p")}
        self.work = Work(calls=calls, journal=journal, groups=groups, is_staged=False, policy_on="certificate")
        self.store, self.requests = KeyStore(folder / "keys", "words of tests"), folder / "sg-01.csrs.jsonl"
        self.first = new_key()
        self.store.add("sg-01", [("t-1", self.first)])
        request = pem(make_request("t-1", key=self.first))
        write_requests(self.requests, {"t-1": request})
        material = read_material(None, request.encode(), now=NOW)
        run = journal.start_run(RUN, [Pair(thing=THING, row=1, place="", material=material)], [], now=1.0)
        (device,) = journal.devices(run, "planned")
        assert onboard_device(self.work, device)

    def rotate(self) -> Any:
        keys = DeviceKeys(store=self.store, requests=self.requests)
        return begin_rotation(self.work, self.device, keys=keys, request=None, reason="r", sleep=lambda _: None)

    @property
    def device(self) -> Registered:
        found = self.journal.read("SELECT certificate_id, certificate_arn FROM devices")[0]
        return Registered(
            thing=THING, facility=facility(), is_in_journal=True, certificate_id=found[0], certificate_arn=found[1]
        )

    def digest(self) -> bytes:
        """Of the key that the store has for the device."""
        return key_digest(dict(self.store.keys("sg-01", {"t-1"}))["t-1"].public_key())


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["create_certificate_from_csr", "attach_thing_principal"])
def test_a_lost_answer_makes_no_second_certificate(
    journal: Journal, tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate of the same key is found again; until it is attached the old key stays the device's."""
    monkeypatch.setattr("fleet_iot.operations.registry.calls.TRIES", 1)
    case = Case(journal, tmp_path)
    case.iot.fails = [lost]
    with pytest.raises(EnvironmentFault):
        case.rotate()
    assert key_digest(case.first.public_key()) == case.digest()
    rotation = case.rotate()
    assert 2 == len(case.iot.kept.certificates) == case.iot.asked.count("create_certificate_from_csr")
    assert {rotation.old, rotation.new} == set(case.iot.kept.certificates)
    assert [case.digest()] == [key for (key,) in journal.read("SELECT key FROM devices")]
    request = read_requests(case.requests)["t-1"]
    assert case.digest() == read_material(None, request.encode(), now=NOW).key
    finish_rotation(case.work, case.device, reason="r", sleep=lambda _: None)
    assert [rotation.new] == list(case.iot.kept.certificates)
    assert {f"cert/{rotation.new}"} == {arn.rpartition(":")[2] for arn in case.iot.kept.policies["p"]}


@pytest.mark.slow
def test_a_key_that_was_not_handed_over_is(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between AWS IoT and the key store: asked again, the store gets the key, and nothing else is done."""
    case = Case(journal, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(KeyStore, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            case.rotate()
    asked = len(case.iot.asked)
    case.rotate()
    assert asked == len(case.iot.asked)
    assert [case.digest()] == [key for (key,) in journal.read("SELECT key FROM devices")]
    with pytest.raises(RequestError, match="being rotated"):
        case.rotate()


@pytest.mark.slow
def test_a_device_with_a_key_of_its_own_has_to_hand_in_a_csr(journal: Journal, tmp_path: Path) -> None:
    """The store makes no key for it."""
    case = Case(journal, tmp_path)
    keys = DeviceKeys(store=KeyStore(tmp_path / "other", "words of tests"), requests=case.requests)
    with pytest.raises(RequestError, match="not in the key store"):
        begin_rotation(case.work, case.device, keys=keys, request=None, reason="r")
