"""Steps for one device: in this order, in the journal before each call, and never with another's certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.material import read_material
from fleet_iot.operations.registry.calls import TRIES, IotCalls, Pacer, UnknownOutcomeError
from fleet_iot.operations.registry.journal import Device, Journal, Run
from fleet_iot.operations.registry.matching import Pair
from fleet_iot.operations.registry.steps import Group, Work, onboard_device
from tests.operations.lists.builders import NOW, make_certificate, make_request, new_key, pem

THING = ThingRow(name="t-1", thing_type="type", device_type="press", serial="S", attributes={"a": "b"})
RUN = Run(
    facility="sg-01",
    source="list",
    format="csv",
    bundle=None,
    signers=None,
    mark="",
    reason="a test",
    is_staged=False,
    policy_on="certificate",
)


class FakeIot:
    """An AWS IoT that answers what a test says, and notes what it was asked and what the journal held then."""

    def __init__(self, journal: Journal | None = None, **answers: Any) -> None:
        self.asked: list[str] = []
        self.begun: list[set[str]] = []
        self._answers = answers
        self._journal = journal

    def __getattr__(self, method: str) -> Any:
        def answer(**arguments: Any) -> Any:
            self.asked.append(method)
            if self._journal:
                self.begun.append(set(self._journal.steps("t-1")))
            given = self._answers.get(method, {})
            given = given.pop(0) if isinstance(given, list) else given
            if isinstance(given, Exception):
                raise given
            return given(**arguments) if callable(given) else given

        return answer


def error(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "X")


def calls(iot: FakeIot) -> IotCalls:
    return IotCalls(iot, Pacer(None, account="1", rates={}), sleep=lambda _: None)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def planned(journal: Journal, *, key: Any, certificate: str | None = None) -> Device:
    """A device that a run is to onboard, with a CSR of the key or with a certificate."""
    given = (certificate.encode(), None) if certificate else (None, pem(make_request("t-1", key=key)).encode())
    material = read_material(*given, now=NOW)
    run = journal.start_run(RUN, [Pair(thing=THING, row=1, place="line 2", material=material)], [], now=1.0)
    (device,) = journal.devices(run, "planned")
    return device


def work(journal: Journal, iot: FakeIot) -> Work:
    groups = {"press": Group(thing_group="g", policy="p")}
    return Work(calls=calls(iot), journal=journal, groups=groups, is_staged=False, policy_on="certificate")


def made(certificate: str) -> dict[str, str]:
    return {"certificateId": "c" * 64, "certificateArn": "arn:c", "certificatePem": certificate}


def state(journal: Journal) -> tuple[str, str | None]:
    return journal.read("SELECT state, reason FROM devices")[0]  # type: ignore[return-value]


def test_each_intent_is_written_before_its_call(journal: Journal) -> None:
    """The CSR's hash with it; at the end all steps are done."""
    key = new_key()
    device = planned(journal, key=key)
    iot = FakeIot(journal, create_certificate_from_csr=made(pem(make_certificate(key=key))))
    assert onboard_device(work(journal, iot), device)
    assert [
        "create_thing",
        "create_certificate_from_csr",
        "attach_policy",
        "add_thing_to_thing_group",
        "attach_thing_principal",
    ] == iot.asked
    steps = ["thing", "certificate", "policy", "group", "attach"]
    assert [set(steps[:count]) for count in range(1, 6)] == iot.begun
    found = journal.steps("t-1")
    assert device.fingerprint.hex() == found["certificate"][2]
    assert all(ended is not None for _, ended, _ in found.values())
    assert ("done", None) == state(journal)


def test_a_certificate_of_another_key_is_not_attached(journal: Journal) -> None:
    """It is reported as an orphan, and the device fails."""
    iot = FakeIot(create_certificate_from_csr=made(pem(make_certificate())))
    onboard_device(work(journal, iot), planned(journal, key=new_key()))
    assert ["create_thing", "create_certificate_from_csr"] == iot.asked
    assert "has another key" in str(state(journal)[1])
    assert [("c" * 64, "t-1")] == journal.read("SELECT certificate_id, thing FROM orphans")


def test_a_certificate_under_another_id_is_not_attached(journal: Journal) -> None:
    """The id of a maker's certificate is the SHA-256 of its DER: known without a call, and compared."""
    iot = FakeIot(register_certificate_without_ca={"certificateId": "d" * 64, "certificateArn": "arn:d"})
    onboard_device(work(journal, iot), planned(journal, key=None, certificate=pem(make_certificate())))
    assert "attach_thing_principal" not in iot.asked
    assert "its SHA-256 is" in str(state(journal)[1])


@pytest.mark.parametrize(
    "lost", [ReadTimeoutError(endpoint_url="x"), ConnectionClosedError(endpoint_url="x"), error("InternalFailure", 500)]
)
def test_a_certificate_is_never_asked_for_twice_blindly(journal: Journal, lost: Exception) -> None:
    """Its device stays as it is, with the intent in the journal."""
    iot = FakeIot(create_certificate_from_csr=lost)
    assert not onboard_device(work(journal, iot), planned(journal, key=new_key()))
    assert 1 == iot.asked.count("create_certificate_from_csr")
    assert (1.0 < journal.steps("t-1")["certificate"][0], None) == (True, journal.steps("t-1")["certificate"][1])
    assert ("planned", None) == state(journal)


def test_steps_that_are_done_are_not_done_again(journal: Journal) -> None:
    """After an error that stopped the run, only what is left is called for."""
    key = new_key()
    device = planned(journal, key=key)
    iot = FakeIot(
        create_certificate_from_csr=made(pem(make_certificate(key=key))),
        add_thing_to_thing_group=error("AccessDenied", 403),
    )
    with pytest.raises(EnvironmentFault, match="AWS refuses AddThingToThingGroup"):
        onboard_device(work(journal, iot), device)
    again = FakeIot()
    (device,) = journal.devices(1, "planned")
    assert onboard_device(work(journal, again), device)
    assert ["add_thing_to_thing_group", "attach_thing_principal"] == again.asked


def test_throttles_are_waited_for(journal: Journal) -> None:
    """However many there are; they are counted."""
    iot = FakeIot(create_thing=[error("ThrottlingException", 400)] * 20 + [{"thingName": "t"}])
    called = calls(iot)
    assert {"thingName": "t"} == called.call("CreateThing", thingName="t")
    assert 20 == called.pacer.throttles["CreateThing"]


def test_errors_are_told_apart() -> None:
    """Of the service: tried again, so often; of the rights: all stops; of the arguments: the device's own fault."""
    iot = FakeIot(create_thing=[error("ServiceUnavailableException", 503)] * 2 + [{}])
    assert {} == calls(iot).call("CreateThing")
    iot = FakeIot(create_thing=error("InternalFailureException", 500))
    with pytest.raises(EnvironmentFault, match=f"after {TRIES} tries"):
        calls(iot).call("CreateThing")
    with pytest.raises(UnknownOutcomeError):
        calls(FakeIot(create_thing=error("InternalFailureException", 500))).call_once("CreateThing")
    with pytest.raises(EnvironmentFault, match="refuses"):
        calls(FakeIot(create_thing=error("ExpiredTokenException", 403))).call("CreateThing")
    with pytest.raises(ClientError):
        calls(FakeIot(create_thing=error("InvalidRequestException"))).call("CreateThing")


def test_a_failed_device_does_not_stop_the_run(journal: Journal) -> None:
    """The journal records AWS IoT's reason for refusing a device, and nothing is raised."""
    iot = FakeIot(create_thing=error("InvalidRequestException"))
    assert onboard_device(work(journal, iot), planned(journal, key=new_key()))
    assert "InvalidRequestException" in str(state(journal)[1])


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    """Not overwritten: it knows which devices are done."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"this is no SQLite file" * 100)
    with pytest.raises(EnvironmentFault, match="no journal that can be read"):
        Journal(path)
    assert path.read_bytes().startswith(b"this is no SQLite")


def test_a_run_is_written_whole_or_not_at_all(journal: Journal) -> None:
    """A list that breaks off in the middle leaves no run."""

    def breaking() -> Iterator[Pair]:
        material = read_material(None, pem(make_request()).encode(), now=NOW)
        yield Pair(thing=THING, row=1, place="line 1", material=material)
        raise EnvironmentFault("broken")

    with pytest.raises(EnvironmentFault):
        journal.start_run(RUN, breaking(), [], now=1.0)
    assert journal.unfinished("sg-01") is None
    assert [(0, 0)] == journal.read("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM devices)")
