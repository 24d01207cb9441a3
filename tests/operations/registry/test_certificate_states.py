"""A certificate is described before its status is changed, in each of the states that AWS IoT has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.pki.spent import End, SpentKeys
from fleet_iot.operations.registry.bundle import Certificates, MissingError
from fleet_iot.operations.registry.device import Registered, activate, retire, revoke, show_device
from fleet_iot.operations.registry.entries import failed
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.preparation import Refusals, RevocationLists
from fleet_iot.operations.registry.steps import activate_devices
from tests.operations.registry.test_rotate import Case, facility


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield Case(journal, tmp_path)


def device(case: Case) -> Registered:
    ((key,),) = case.journal.read("SELECT key FROM devices")
    return replace(case.device, facility=replace(facility(), registration="bulk"), key=bytes(key))


def put(case: Case, status: str) -> str:
    """Gives the device's certificate a status, as if somebody else had done that; returns its id."""
    (certificate_id,) = case.iot.kept.certificates
    case.iot.kept.certificates[certificate_id]["status"] = status
    return certificate_id


def quiet(_: float) -> None:
    """No pause."""


@pytest.mark.slow
@pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "REVOKED", "REGISTER_INACTIVE", "PENDING_ACTIVATION"])
def test_a_device_is_retired_from_each_state(case: Case, status: str) -> None:
    """Only what may let it in is made INACTIVE; a revoked one is deleted as it is, and its key is spent as revoked."""
    certificate_id = put(case, status)
    assert [certificate_id] == retire(case.work, device(case), reason="scrapped", sleep=quiet)
    assert ({}, {}) == (case.iot.kept.certificates, case.iot.kept.things)
    assert (status in ("ACTIVE", "PENDING_ACTIVATION")) == ("update_certificate" in case.iot.asked)
    spent = case.journal.spent(None, certificate_id)
    assert spent is not None
    assert (End.REVOKED if status == "REVOKED" else End.RETIRED) == spent.what


@pytest.mark.slow
@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED", "PENDING_TRANSFER", "PENDING_ACTIVATION"])
def test_a_device_is_activated_from_each_state(case: Case, status: str) -> None:
    """Or is not, which is said before anything is changed."""
    certificate_id = put(case, status)
    refused = {"REVOKED": "t-1 is revoked: its key was revoked on", "PENDING_TRANSFER": "is being transferred"}
    if status not in refused:
        assert 1 == activate(case.work, device(case), reason="site acceptance")
        assert "ACTIVE" == case.iot.kept.certificates[certificate_id]["status"]
        return
    with pytest.raises(RequestError, match=refused[status]):
        activate(case.work, device(case), reason="site acceptance")
    assert "update_certificate" not in case.iot.asked
    assert status == case.iot.kept.certificates[certificate_id]["status"]


@pytest.mark.slow
def test_a_certificate_in_transfer_is_neither_revoked_nor_retired(case: Case) -> None:
    """With the command that cancels the transfer; its key is spent all the same."""
    put(case, "PENDING_TRANSFER")
    with pytest.raises(RequestError, match="is being transferred to another account") as told:
        revoke(case.work, device(case), reason="stolen")
    assert "cancel-certificate-transfer" in str(told.value.hint)
    with pytest.raises(RequestError, match="is being transferred"):
        retire(case.work, device(case), reason="stolen", sleep=quiet)
    found = case.journal.spent(device(case).key, None)
    assert found is not None and found.what is End.REVOKED


@pytest.mark.slow
def test_a_revocation_that_was_cut_off_is_not_forgotten(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is spent before AWS IoT is asked: whether it heard of it or not, the device is not activated any more."""
    monkeypatch.setattr("fleet_iot.operations.registry.calls.TRIES", 1)
    case.iot.fails = ["update_certificate"]
    with pytest.raises(EnvironmentFault):
        revoke(case.work, device(case), reason="stolen")
    with pytest.raises(RequestError, match=r"is revoked: .*stolen"):
        activate(case.work, device(case), reason="x")
    assert 1 == revoke(case.work, device(case), reason="stolen")
    assert ["REVOKED"] == [each["status"] for each in case.iot.kept.certificates.values()]


@pytest.mark.slow
def test_an_attachment_that_is_listed_late_is_revoked_all_the_same(case: Case) -> None:
    """The journal knows of the certificate before AWS IoT lists it for the thing."""
    (thing,) = case.iot.kept.things.values()
    thing["principals"] = []
    assert 1 == revoke(case.work, device(case), reason="stolen")
    assert ["REVOKED"] == [each["status"] for each in case.iot.kept.certificates.values()]


@pytest.mark.slow
def test_what_was_staged_and_revoked_is_not_activated(case: Case) -> None:
    """Neither what AWS IoT has REVOKED, nor what is gone; the rest of the plant is."""
    case.journal.write(("UPDATE devices SET certificate_status = 'INACTIVE'", ()))
    certificate_id = put(case, "REVOKED")
    done = activate_devices(case.work, "sg-01", on_progress=lambda _: None, threads=1)
    assert (0, ["t-1"]) == (done.count, [thing for thing, _ in done.refused])
    case.journal.write(("UPDATE devices SET certificate_status = 'INACTIVE'", ()), ("DELETE FROM spent", ()))
    del case.iot.kept.certificates[certificate_id]
    done = activate_devices(case.work, "sg-01", on_progress=lambda _: None, threads=1)
    assert (("t-1", "has a certificate that is gone from AWS IoT"),) == done.refused


@pytest.mark.slow
def test_the_service_obeys_that_a_revocation_is_final(case: Case) -> None:
    """So that these tests could fail: its registry refuses what AWS IoT refuses."""
    certificate_id = put(case, "REVOKED")
    with pytest.raises(ClientError, match="CertificateStateException"):
        case.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")


@pytest.mark.slow
def test_a_device_that_was_moved_is_revoked_under_its_new_name(case: Case) -> None:
    """Under its former one, the new one is told: whoever reports it stolen may know only that."""
    retire(case.work, device(case), reason="moved", sleep=quiet)
    query = "INSERT INTO moves (former, thing, begun, ended) VALUES ('t-1', 't-2', 1, 2)"
    case.journal.write((query, ()))
    gone = replace(case.device, is_in_journal=False, certificate_id=None, certificate_arn=None)
    with pytest.raises(RequestError, match="its device was moved to t-2"):
        revoke(case.work, gone, reason="stolen")


def test_a_device_that_is_being_onboarded_is_shown_with_its_steps(case: Case) -> None:
    assert show_device(case.work, case.device).onboarding is None
    case.journal.write(
        ("UPDATE devices SET state = 'planned'", ()), ("UPDATE steps SET ended = NULL WHERE step = 'attach'", ())
    )
    shown = show_device(case.work, case.device).onboarding
    assert shown is not None and "thing, certificate" in shown and "attach begun" in shown and "--resume" in shown
    case.journal.write(failed("t-1", reason="its name is taken", remedy="choose another"))
    assert "onboarding failed: its name is taken; choose another" == show_device(case.work, case.device).onboarding


def test_a_certificate_that_was_revoked_in_aws_iot_is_not_bundled(case: Case, tmp_path: Path) -> None:
    """Its status is read with its text; its key is spent from then on."""
    refusals = Refusals(case.journal, ledger=SpentKeys([]), lists=RevocationLists([], []))
    certificates = Certificates(case.journal, case.work.calls, refusals=refusals, cache=tmp_path / "cache.sqlite")
    with closing(certificates):
        put(case, "REVOKED")
        with pytest.raises(MissingError) as refused:
            certificates.of("t-1")
    assert "its certificate is REVOKED" == refused.value.reason
    spent = case.journal.spent(case.journal.device("t-1").key, None)
    assert spent is not None and End.REVOKED == spent.what
