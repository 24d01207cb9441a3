"""A key that was revoked or retired does not come back by itself, whatever brings it and in whatever order."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from benchmarks.onboarding import OTHER_PLANT, PLANT, SUFFIX, make_csrs
from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki import keystore
from fleet_iot.operations.pki.csr import csr_path, read_requests, write_requests
from fleet_iot.operations.project import load_project
from fleet_iot.operations.registry.journal import FORMAT
from fleet_iot.operations.registry.runner import opened_journal
from fleet_iot.operations.registry.target import Target
from tests.operations.lists.builders import DAY, NOW, make_certificate, make_request, new_key, pem
from tests.operations.registry.site import Site, site, thing_name

PASSPHRASE = "tests of spent keys"
pytestmark = pytest.mark.slow
FIRST, SECOND, THIRD = map(thing_name, (1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A plant, what AWS IoT has of it, and `fleet` in its project."""

    site: Site
    keys: Path
    other: dict[str, str] = field(default_factory=dict)

    def fleet(self, *arguments: str, exit_code: int = 0) -> str:
        """Run a command in this process, which has imported all that it needs, and return what it prints."""
        settings = self.site.environment | {"FLEET_KEYS_DIR": str(self.keys), "FLEET_KEYS_PASSPHRASE": PASSPHRASE}
        steering = dict.fromkeys(name for name in os.environ if name not in settings) | settings | self.other
        with contextlib.chdir(self.site.project):
            run = CliRunner(env=steering).invoke(main, arguments, catch_exceptions=False)
        assert exit_code == run.exit_code, run.output
        return run.output

    def device(self, what: str, *arguments: str, exit_code: int = 0) -> str:
        return self.fleet("device", what, *arguments, "--aws", exit_code=exit_code)

    def onboard(self, path: Path | None = None, *arguments: str, plant: str = PLANT, exit_code: int = 0) -> str:
        source = ("--from", str(path)) if path else ()
        return self.fleet("onboard", "--facility", plant, "--aws", *source, *arguments, exit_code=exit_code)

    def reasons(self) -> dict[str, str]:
        """Place → reason, of the last run that had failures."""
        folder = self.site.project / "build" / "onboarding"
        last = max(folder.rglob("reasons.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        return {row["place"]: row["reason"] for row in map(json.loads, last.read_text().splitlines())}

    @property
    def statuses(self) -> list[str]:
        return sorted(each["status"] for each in self.site.service.state()["certificates"].values())

    @property
    def journal(self) -> Path:
        (path,) = self.site.journals.glob(f"*/bench-{SUFFIX}.sqlite")
        return path

    def spent(self) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.journal) as journal:
            return journal.execute("SELECT what, thing, by, reason FROM spent ORDER BY id").fetchall()


@pytest.fixture(autouse=True, scope="module")
def models() -> Iterator[None]:
    """botocore's models are read once for all commands of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", staticmethod(functools.cache(JSONFileLoader().load_file)))
        yield


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    monkeypatch.setitem(keystore._SCRYPT, "n", 2**10)  # a store keeps the cost that it was founded with
    with site(tmp_path, things=3, csrs=False) as place:
        yield Plant(site=place, keys=tmp_path / "keys")


def csv(path: Path, *rows: tuple[str, Any], header: str = "name,certificate") -> Path:
    """A list of things, each with what it brings."""
    lines = [f'{name},"{pem(material)}"\n' for name, material in rows]
    path.write_text(f"{header}\n{''.join(lines)}")
    return path


def test_a_stolen_device_does_not_come_back(plant: Plant, tmp_path: Path) -> None:
    """Revoked, retired, and the same list again: refused with its history, in any form and for any thing."""
    key, other = new_key(), new_key()
    devices = csv(tmp_path / "list.csv", (FIRST, make_certificate(key=key)), (SECOND, make_certificate(key=other)))
    plant.onboard(devices)
    assert "1 certificate REVOKED" in plant.device("revoke", FIRST, "--reason", "stolen")
    assert "retired" in plant.device("retire", FIRST, "--reason", "stolen")
    assert ["ACTIVE"] == plant.statuses
    told = plant.onboard(devices, exit_code=1)
    assert "0 onboarded, 1 were already, 1 failed" in told
    assert f"as that of {FIRST} (device revoke): stolen" in plant.reasons()["line 2"]
    for name, brought in ((FIRST, make_certificate(key=key)), (THIRD, make_certificate("x", key=key))):
        again = csv(tmp_path / "again.csv", (name, brought))
        assert "0 onboarded" in plant.onboard(again, "--reuse-retired", exit_code=1)
        assert "was revoked on" in plant.reasons()["line 2"]
    request = csv(tmp_path / "csr.csv", (THIRD, make_request("another name", key=key)), header="name,csr")
    assert "1 cannot be" in plant.onboard(request, "--dry-run", exit_code=1)
    assert "0 onboarded" in plant.onboard(request, exit_code=1)
    assert ["ACTIVE"] == plant.statuses
    assert "1 onboarded" in plant.onboard(csv(tmp_path / "new.csv", (FIRST, make_certificate())))


def test_a_retired_device_that_is_planned_no_more_still_has_its_history(plant: Plant, tmp_path: Path) -> None:
    """Its history is the proof of what became of it; nothing else can be done with it."""
    plant.onboard(csv(tmp_path / "list.csv", (FIRST, make_certificate())))
    plant.device("retire", FIRST, "--reason", "worn out")
    gone = thing_name(9999)
    with sqlite3.connect(plant.journal) as journal:
        journal.execute("UPDATE history SET thing = ?", (gone,))
        journal.execute("UPDATE devices SET thing = ?, line = CAST(replace(line, ?, ?) AS BLOB)", (gone, FIRST, gone))
    assert "worn out" in plant.device("show", gone)
    plant.device("retire", gone, "--reason", "again", exit_code=2)


def test_the_own_csr_of_a_stolen_device_gets_no_fresh_certificate(plant: Plant) -> None:
    """A certificate that AWS IoT would make of it is refused too; other things of the plant are onboarded."""
    make_csrs(plant.site.project)
    plant.onboard()
    plant.device("revoke", FIRST, "--reason", "stolen")
    plant.device("retire", FIRST, "--reason", "stolen")
    assert "0 onboarded, 2 were already, 1 failed" in plant.onboard(exit_code=1)
    assert ["ACTIVE", "ACTIVE"] == plant.statuses


def test_a_retired_device_comes_back_only_when_it_is_asked_for(plant: Plant, tmp_path: Path) -> None:
    """With --reuse-retired; once it is back, its list is onboarded already, and it can be revoked for good."""
    devices = csv(tmp_path / "list.csv", (FIRST, make_certificate()))
    plant.onboard(devices)
    plant.device("retire", FIRST, "--reason", "repair")
    plant.onboard(devices, exit_code=1)
    assert "was retired on" in plant.reasons()["line 2"] and "repair" in plant.reasons()["line 2"]
    assert "1 onboarded" in plant.onboard(devices, "--reuse-retired", "--reason", "repaired")
    (view,) = json.loads(plant.device("show", FIRST, "--json"))
    assert ["retired", "reused"] == [each["what"] for each in view["history"]][-2:] and view["onboarding"] is None
    assert "1 were already" in plant.onboard(devices)
    plant.device("retire", FIRST, "--reason", "again")
    plant.onboard(devices, exit_code=1)
    assert "1 onboarded" in plant.onboard(devices, "--reuse-retired")
    plant.device("revoke", FIRST, "--reason", "stolen")
    plant.device("retire", FIRST, "--reason", "stolen")
    plant.onboard(devices, "--reuse-retired", exit_code=1)
    assert ["retired", "reused", "retired", "reused", "revoked", "retired"] == [what for what, *_ in plant.spent()]


def test_a_device_that_is_revoked_in_the_console_is_seen(plant: Plant, tmp_path: Path) -> None:
    """The journal has it ACTIVE, AWS IoT REVOKED: the same list is refused, it is not activated, and can be retired."""
    devices = csv(tmp_path / "list.csv", (FIRST, make_certificate()), (SECOND, make_certificate()))
    plant.onboard(devices, "--stage")
    (principal,) = plant.site.iot().list_thing_principals(thingName=FIRST)["principals"]
    plant.site.iot().update_certificate(certificateId=principal.rpartition("/")[2], newStatus="REVOKED")
    told = plant.onboard(None, "--activate", exit_code=1)
    assert "1 devices activated" in told and f"{FIRST} has a key that was revoked" in told
    assert f"{FIRST} is revoked: its key was revoked" in plant.device("activate", FIRST, "--reason", "x", exit_code=2)
    assert "0 onboarded, 1 were already, 1 failed" in plant.onboard(devices, exit_code=1)
    assert "seen REVOKED in AWS IoT" in plant.reasons()["line 2"]
    plant.device("retire", FIRST, "--reason", "stolen")
    assert ["ACTIVE"] == plant.statuses


def test_a_list_that_was_onboarded_sees_what_the_console_revoked(plant: Plant, tmp_path: Path) -> None:
    """Before anything else has looked; the device's bundle and its history have it from then on."""
    devices = csv(tmp_path / "list.csv", (FIRST, make_certificate()))
    plant.onboard(devices)
    (principal,) = plant.site.iot().list_thing_principals(thingName=FIRST)["principals"]
    plant.site.iot().update_certificate(certificateId=principal.rpartition("/")[2], newStatus="REVOKED")
    assert "1 failed" in plant.onboard(devices, exit_code=1)
    assert "REVOKED" in plant.device("show", FIRST)
    assert [("revoked", FIRST, "AWS IoT", "seen REVOKED in AWS IoT")] == plant.spent()


def test_a_certificate_that_aws_has_revoked_is_not_registered(plant: Plant, tmp_path: Path) -> None:
    """Of a device that another machine onboarded and revoked: this one's journal knows nothing of it."""
    certificate = make_certificate()
    made = plant.site.iot().register_certificate_without_ca(certificatePem=pem(certificate), status="ACTIVE")
    plant.site.iot().update_certificate(certificateId=made["certificateId"], newStatus="REVOKED")
    plant.onboard(csv(tmp_path / "list.csv", (FIRST, certificate)), exit_code=1)
    assert "AWS IoT has its certificate REVOKED" in plant.reasons()["line 2"]
    assert ["REVOKED"] == plant.statuses


def test_a_revoked_device_goes_through_the_rest_of_its_life(plant: Plant, tmp_path: Path) -> None:
    """Neither activated, rotated nor moved; a rotation that was begun is finished, and the device is retired."""
    make_csrs(plant.site.project)
    plant.onboard()
    next_one = tmp_path / "next.csr"
    next_one.write_text(pem(make_request(FIRST)))
    plant.device("rotate", FIRST, "--csr", str(next_one), "--reason", "yearly")
    assert "2 certificates REVOKED" in plant.device("revoke", FIRST, "--reason", "stolen")
    assert "2 certificates REVOKED" in plant.device("revoke", FIRST, "--reason", "stolen, as the police says")
    assert f"{FIRST} is revoked" in plant.device("activate", FIRST, "--reason", "x", exit_code=2)
    plant.device("rotate", FIRST, "--finish", "--reason", "yearly")
    another = tmp_path / "another.csr"
    another.write_text(pem(make_request(FIRST)))
    told = plant.device("rotate", FIRST, "--csr", str(another), "--reason", "x", exit_code=2)
    assert f"{FIRST} is revoked" in told
    move = ("move", FIRST, "--to", OTHER_PLANT, "--reason", "x")
    assert "is REVOKED" in plant.device(*move, exit_code=2)
    plant.device("retire", FIRST, "--reason", "stolen")
    assert ["ACTIVE", "ACTIVE"] == plant.statuses
    listed = tmp_path / "list.csv"
    listed.write_text(f'name,csr\n{FIRST},"{next_one.read_text()}"\n')
    assert "0 onboarded" in plant.onboard(listed, exit_code=1)


def test_the_key_of_a_device_is_nobody_elses(plant: Plant, tmp_path: Path) -> None:
    """Not in another plant's list, not while it is rotated away, not after, and not by a rotation of another device."""
    key, second = new_key(), new_key()
    plant.onboard(
        csv(
            tmp_path / "list.csv",
            (FIRST, make_request(FIRST, key=key)),
            (SECOND, make_request(SECOND, key=second)),
            header="name,csr",
        )
    )
    there = f"{OTHER_PLANT}-press-0001-{SUFFIX}"
    foreign = csv(tmp_path / "other.csv", (there, make_request(there, key=key)), header="name,csr")
    plant.onboard(foreign, plant=OTHER_PLANT, exit_code=1)
    assert f"its key is that of {FIRST} already" in plant.reasons()["line 2"]
    stolen = tmp_path / "stolen.csr"
    stolen.write_text(pem(make_request(SECOND, key=key)))
    rotate = ("rotate", SECOND, "--csr", str(stolen), "--reason", "x")
    assert f"the key of the CSR is that of {FIRST} already" in plant.device(*rotate, exit_code=2)
    (tmp_path / "next.csr").write_text(pem(make_request(FIRST)))
    plant.device("rotate", FIRST, "--csr", str(tmp_path / "next.csr"), "--reason", "yearly")
    plant.onboard(foreign, "--reuse-retired", plant=OTHER_PLANT, exit_code=1)
    assert f"is the old one of {FIRST}, which is being rotated" in plant.reasons()["line 2"]
    plant.device("rotate", FIRST, "--finish", "--reason", "yearly")
    plant.onboard(foreign, plant=OTHER_PLANT, exit_code=1)
    assert "was replaced on" in plant.reasons()["line 2"]
    assert "the key of the CSR was replaced on" in plant.device(*rotate, exit_code=2)


def test_a_run_that_goes_on_leaves_out_what_was_revoked_meanwhile(plant: Plant, tmp_path: Path) -> None:
    """Cut off before a device had its certificate, revoked, resumed: the others are onboarded, it is not."""
    devices = csv(tmp_path / "list.csv", *((name, make_request(name)) for name in (FIRST, SECOND)), header="name,csr")
    plant.onboard(devices)
    with sqlite3.connect(plant.journal) as journal:  # as a run leaves it that is killed before its calls
        journal.execute("UPDATE devices SET state = 'planned', certificate_id = NULL, certificate_arn = NULL")
        journal.execute("UPDATE runs SET finished = NULL")
        journal.execute("DELETE FROM steps")
    for name in (FIRST, SECOND):
        for principal in plant.site.iot().list_thing_principals(thingName=name)["principals"]:
            plant.site.iot().detach_thing_principal(thingName=name, principal=principal)
    assert "it has none yet" in plant.device("revoke", FIRST, "--reason", "stolen on the way")
    assert "1 onboarded" in plant.onboard(None, "--resume", exit_code=1)
    assert "stolen on the way" in plant.reasons()["line 2"]


def test_what_an_older_journal_knows_is_taken_over(plant: Plant, tmp_path: Path) -> None:
    """A journal of format 1 has no spent keys: they come from its history, and from the CSRs of retired devices."""
    rows = ((name, make_request(name)) for name in (FIRST, SECOND, THIRD))
    devices = csv(tmp_path / "list.csv", *rows, header="name,csr")
    plant.onboard(devices)
    plant.device("revoke", FIRST, "--reason", "stolen")
    plant.device("retire", SECOND, "--reason", "scrapped")
    plant.device("revoke", THIRD, "--reason", "sold")
    plant.device("retire", THIRD, "--reason", "sold")
    with sqlite3.connect(plant.journal) as journal:
        journal.execute("DROP TABLE spent")
        journal.execute("PRAGMA user_version = 1")
    plant.onboard(devices, "--reuse-retired", "--dry-run", exit_code=1)
    with sqlite3.connect(plant.journal) as journal:
        assert (FORMAT,) == journal.execute("PRAGMA user_version").fetchone()
    plant.onboard(devices, exit_code=1)
    stolen, scrapped, sold = plant.reasons().values()
    assert "was revoked" in stolen and "stolen" in stolen
    assert "was retired" in scrapped and "scrapped" in scrapped
    assert "was revoked" in sold and "sold" in sold
    assert "1 onboarded" in plant.onboard(devices, "--reuse-retired", exit_code=1)


def test_spent_keys_of_the_key_store_get_no_csr_and_another_key_when_it_is_asked_for(plant: Plant) -> None:
    """Told by `fleet keys create`, with the command that mends it; a key that is in use is not replaced."""
    keys = ("keys", "create", "--facility", PLANT)
    plant.fleet(*keys)
    plant.onboard()
    plant.device("revoke", FIRST, "--reason", "stolen")
    plant.device("retire", FIRST, "--reason", "stolen")
    told = plant.fleet(*keys, exit_code=1)
    assert f"the key of {FIRST} was revoked or retired" in told and f"--renew {FIRST}" in told
    requests = csr_path(plant.site.project / "identities", SUFFIX, PLANT)
    without = {name: csr for name, csr in read_requests(requests).items() if name != FIRST}
    write_requests(requests, without)
    assert "0 keys and 0 CSRs made" in plant.fleet(*keys, exit_code=1)
    assert without == read_requests(requests)
    assert "neither revoked nor retired" in plant.fleet(*keys, "--renew", SECOND, exit_code=2)
    assert "there is no thing 'x'" in plant.fleet(*keys, "--renew", "x", exit_code=2)
    assert "1 key and 1 CSR made" in plant.fleet(*keys, "--renew", FIRST.removesuffix(f"-{SUFFIX}"))
    assert "1 onboarded, 2 were already" in plant.onboard()


def test_what_the_own_authority_revoked_is_onboarded_and_bundled_nowhere(plant: Plant, tmp_path: Path) -> None:
    """Not from its list, not from a copy of that, not by AWS IoT from the same CSR; neither by the ledger nor, on a
    machine without it, by the committed CRL. What was onboarded before stays out of bundles."""
    plant.fleet("keys", "create", "--facility", PLANT)
    plant.fleet("ca", "init")
    plant.fleet("ca", "sign", "--facility", PLANT)
    folder = plant.site.project / "identities" / SUFFIX / "ca"
    signed, copy, issuer = folder / f"{PLANT}.certificates.jsonl", tmp_path / "copy.jsonl", str(folder / "ca.pem")
    copy.write_bytes(signed.read_bytes())
    first = tmp_path / "first.jsonl"
    first.write_text(copy.read_text().splitlines(keepends=True)[1])
    assert "1 onboarded" in plant.onboard(first, "--issuer", issuer)
    told = plant.fleet("ca", "revoke", FIRST, SECOND, "--reason", "keyCompromise", "--note", "stolen")
    assert f"taken out of {signed}: 2" in told
    assert 1 == len(signed.read_text().splitlines())
    told = plant.fleet("ca", "sign", "--facility", PLANT, "--again", exit_code=1)
    assert "1 signed" in told and "was revoked on" in told and "keyCompromise, stolen" in told
    assert "1 onboarded, 0 were already, 2 failed" in plant.onboard(copy, "--issuer", issuer, exit_code=1)
    assert "keyCompromise, stolen" in plant.reasons()["line 1"]
    missing = json.loads(plant.fleet("bundle", "--facility", PLANT, "--aws", "--json", exit_code=1))["missing"]
    assert "keyCompromise, stolen" in {each["thing"]: each["reason"] for each in missing}[SECOND]
    plant.onboard(None, exit_code=1)
    assert 2 == sum("its key was revoked" in reason for reason in plant.reasons().values())
    (plant.keys / f"bench-{SUFFIX}" / "authority.sqlite").unlink()
    plant.onboard(copy, "--issuer", issuer, exit_code=1)
    assert "its certificate was revoked on" in plant.reasons()["line 1"] and "crl.pem" in plant.reasons()["line 1"]


def signed_plant(plant: Plant) -> tuple[Path, tuple[str, str]]:
    """A copy of the list that the own authority has signed of all three things, and the option that names it."""
    plant.fleet("keys", "create", "--facility", PLANT)
    plant.fleet("ca", "init")
    plant.fleet("ca", "sign", "--facility", PLANT)
    folder = plant.site.project / "identities" / SUFFIX / "ca"
    copy = plant.keys.parent / "copy.jsonl"
    copy.write_bytes((folder / f"{PLANT}.certificates.jsonl").read_bytes())
    return copy, ("--issuer", str(folder / "ca.pem"))


@pytest.mark.parametrize("with_ledger", [True, False], ids=["ledger", "CRL alone"])
def test_what_the_own_authority_revoked_is_neither_activated_nor_moved(plant: Plant, with_ledger: bool) -> None:
    """By the ledger, and by the committed CRL where there is none; other devices go on."""
    copy, issuer = signed_plant(plant)
    plant.onboard(copy, *issuer, "--stage")
    plant.fleet("ca", "revoke", FIRST, "--reason", "keyCompromise")
    if not with_ledger:
        (plant.keys / f"bench-{SUFFIX}" / "authority.sqlite").unlink()
    assert f"{FIRST} is revoked" in plant.device("activate", FIRST, "--reason", "x", exit_code=2)
    move = ("move", FIRST, "--to", OTHER_PLANT, "--reason", "x")
    assert "is REVOKED" in plant.device(*move, exit_code=2)
    assert f"{FIRST} is revoked" in plant.device("rotate", FIRST, "--reason", "x", exit_code=2)
    told = plant.onboard(None, "--activate", exit_code=1)
    assert "2 devices activated" in told and f"{FIRST} has a key that was revoked" in told
    assert ["ACTIVE", "ACTIVE", "INACTIVE"] == plant.statuses


def test_a_key_that_the_own_authority_revoked_is_no_other_devices_next_one(plant: Plant, tmp_path: Path) -> None:
    """Neither by a rotation nor by a move that brings its CSR; nothing is changed."""
    copy, issuer = signed_plant(plant)
    rows = copy.read_text().splitlines(keepends=True)
    copy.write_text("".join(rows[:2]))
    plant.onboard(copy, *issuer)
    plant.fleet("ca", "revoke", THIRD, "--reason", "keyCompromise")
    stolen = tmp_path / "stolen.csr"
    stolen.write_text(read_requests(csr_path(plant.site.project / "identities", SUFFIX, PLANT))[THIRD])
    for command in (("rotate", FIRST), ("move", SECOND, "--to", OTHER_PLANT)):
        told = plant.device(*command, "--csr", str(stolen), "--reason", "x", exit_code=2)
        assert "the key of the CSR was revoked on" in told and "(ca revoke): keyCompromise" in told
    assert ["ACTIVE", "ACTIVE"] == plant.statuses


def test_a_run_that_goes_on_leaves_out_what_the_own_authority_revoked(plant: Plant) -> None:
    """Also where the certificate was made before: it is INACTIVE then."""
    copy, issuer = signed_plant(plant)
    plant.onboard(copy, *issuer)
    with sqlite3.connect(plant.journal) as journal:  # as a run leaves it that is killed before it attaches
        journal.execute("UPDATE devices SET state = 'planned'")
        journal.execute("UPDATE runs SET finished = NULL")
        journal.execute("DELETE FROM steps WHERE step = 'attach'")
    plant.fleet("ca", "revoke", FIRST, SECOND, "--reason", "keyCompromise")
    assert "1 onboarded" in plant.onboard(None, "--resume", exit_code=1)
    assert all("(ca revoke): keyCompromise" in reason for reason in plant.reasons().values())
    assert ["ACTIVE", "INACTIVE", "INACTIVE"] == plant.statuses


def test_a_key_spent_in_one_environment_is_spent_in_all(plant: Plant, tmp_path: Path) -> None:
    """Of the application, on this machine: another environment refuses it, and so does the local AWS; a retired one
    comes back when it is asked for, and stays."""
    stolen, repaired = new_key(), new_key()
    devices = ((FIRST, make_request(FIRST, key=stolen)), (SECOND, make_request(SECOND, key=repaired)))
    plant.onboard(csv(tmp_path / "list.csv", *devices, header="name,csr"))
    plant.device("revoke", FIRST, "--reason", "stolen")
    plant.device("retire", SECOND, "--reason", "repair")
    there = plant.site.journals / "other" / "bench-x.sqlite"
    there.parent.mkdir()
    there.write_bytes(b"")  # a journal of no format that is known
    qa = replace(plant, other={"ENVIRONMENT_SUFFIX": "qa"})
    names = [name.removesuffix(SUFFIX) + "qa" for name in (FIRST, SECOND)]
    rows = ((name, make_request(name, key=key)) for name, key in zip(names, (stolen, repaired), strict=True))
    again = csv(tmp_path / "again.csv", *rows, header="name,csr")
    assert "0 onboarded" in qa.onboard(again, exit_code=1)
    assert all("(device re" in reason for reason in qa.reasons().values()) and 2 == len(qa.reasons())
    assert "1 onboarded" in qa.onboard(again, "--reuse-retired", exit_code=1)
    assert "0 onboarded, 1 were already, 1 failed" in qa.onboard(again, exit_code=1)
    with contextlib.chdir(plant.site.project), pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEET_JOURNAL_DIR", str(plant.site.journals))
        patch.setenv("FLEET_KEYS_DIR", str(plant.keys))
        patch.setenv("ENVIRONMENT_SUFFIX", SUFFIX)
        project = load_project(plant.site.project)
        journal = tmp_path / "aws" / "journal" / f"bench-{SUFFIX}.sqlite"
        target = Target(iot=None, account="", journal=journal, rates=journal, quotas=None, policy_on=None)
        with opened_journal(project, target, local=tmp_path / "aws") as opened:
            ended = opened.spent(key_digest(stolen.public_key()), None)
            assert ended is not None and "stolen" == ended.reason
            assert opened.spent(key_digest(repaired.public_key()), None) is None


def test_a_command_of_many_things_does_all_or_nothing(plant: Plant) -> None:
    """A name that is wrong, or a thing that nothing can be done for, is told before the first one is touched."""
    make_csrs(plant.site.project)
    plant.onboard()
    for what in ("activate", "revoke", "retire", "rotate"):
        assert "there is no thing 'press-x'" in plant.device(what, FIRST, "press-x", "--reason", "x", exit_code=2)
        planned = f"{OTHER_PLANT}-press-0001"
        told = plant.device(what, FIRST, planned, "--reason", "x", exit_code=2)
        assert f"{planned}-{SUFFIX}" in told and "REVOKED" not in told and "retired" not in told
    assert "is not being rotated" in plant.device("rotate", FIRST, "--finish", "--reason", "x", exit_code=2)
    assert ["ACTIVE", "ACTIVE", "ACTIVE"] == plant.statuses
    assert 1 == plant.device("revoke", FIRST, FIRST.removesuffix(f"-{SUFFIX}"), "--reason", "x").count("REVOKED")


def test_a_reason_says_something(plant: Plant) -> None:
    """An empty one is refused by every command that asks for one."""
    to = {"move": (FIRST, "--to", OTHER_PLANT), "sync": ("--facility", PLANT)}
    for what in ("activate", "revoke", "retire", "rotate", "move", "sync"):
        for reason in ("", " \t"):
            told = plant.device(what, *to.get(what, (FIRST,)), "--reason", reason, exit_code=2)
            assert "is empty: say why" in told


def test_a_retirement_tells_of_its_own_device(plant: Plant, tmp_path: Path) -> None:
    """Not of those that had the thing before; a planned thing that has no device cannot be retired, once or again."""
    ids = []
    for _ in range(2):
        certificate = make_certificate()
        ids.append(certificate.fingerprint(hashes.SHA256()).hex())
        plant.onboard(csv(tmp_path / "list.csv", (FIRST, certificate)))
        assert f"seen locked out, then deleted: {ids[-1]}\n" in plant.device("retire", FIRST, "--reason", "broken")
    for name in (FIRST, SECOND):
        told = plant.device("retire", name, "--reason", "broken", exit_code=2)
        assert f"{name} is planned and not registered: there is no device to retire" in told


def test_a_refused_command_founds_nothing(plant: Plant, tmp_path: Path) -> None:
    """Neither key store nor ledger; the passphrase that is meant founds them afterwards."""
    hasty = replace(plant, other={"FLEET_KEYS_PASSPHRASE": "mistyped words"})
    request = tmp_path / "x.csr"
    request.write_text(pem(make_request(FIRST)))
    for command, code in (
        (("ca", "sign", "--facility", PLANT), 2),
        (("ca", "sign", "--facility", PLANT, "--csr", str(request)), 2),
        (("ca", "revoke", FIRST, "--reason", "superseded"), 2),
        (("ca", "crl"), 2),
        (("ca", "show"), 2),
        (("ca", "init", "--days", "10", "--max-days", "5"), 2),
        (("keys", "create", "--facility", "x"), 2),
        (("keys", "create", "--facility", PLANT, "--renew", "x"), 2),
        (("bundle", "--facility", PLANT, "--aws", "--with-keys"), 7),
        (("device", "rotate", FIRST, "--reason", "x", "--aws"), 2),
    ):
        hasty.fleet(*command, exit_code=code)
        assert not plant.keys.exists(), command
    short = replace(plant, other={"FLEET_KEYS_PASSPHRASE": "8 or 9 !"})
    assert "fewer than 10 characters" in short.fleet("ca", "init", exit_code=7)
    assert not plant.keys.exists()
    plant.fleet("ca", "init")
    elsewhere = replace(plant, keys=tmp_path / "others")
    assert "there is no key store in" in elsewhere.fleet("ca", "sign", "--facility", PLANT, exit_code=7)
    assert not elsewhere.keys.exists()


@pytest.mark.parametrize("place", ["plant/keys", "plant", "keys"])
def test_no_key_store_lies_in_the_repository(plant: Plant, place: str) -> None:
    """Neither in the project nor elsewhere in its working copy, also by a relative path or a link."""
    project = plant.site.project
    (project.parent / ".git").mkdir()
    (project / "link").symlink_to(project.parent)
    for keys in (str(project.parent / place), f"./../{place}", f"link/{place}"):
        inside = replace(plant, other={"FLEET_KEYS_DIR": keys})
        for command in (("keys", "create", "--facility", PLANT), ("ca", "init")):
            told = inside.fleet(*command, exit_code=7)
            assert f"inside the repository {project.parent}: keys never go there" in told
            assert "point FLEET_KEYS_DIR at a folder outside" in told
    assert not list(project.parent.rglob("store.json"))


def test_a_crl_of_the_makers_authority_is_obeyed(plant: Plant, tmp_path: Path) -> None:
    """Given with --crl; one that is signed by somebody else is refused, with the whole list."""
    key = new_key()
    authority = make_certificate("maker", key=key, signer=key, issuer="maker", is_authority=True)
    revoked, good = (make_certificate(signer=key, issuer="maker") for _ in range(2))
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(NOW).build()
    for name, signer in (("maker.crl", key), ("forged.crl", new_key())):
        builder = x509.CertificateRevocationListBuilder().issuer_name(authority.subject).last_update(NOW)
        crl = builder.next_update(NOW + 30 * DAY).add_revoked_certificate(entry).sign(signer, hashes.SHA256())
        (tmp_path / name).write_bytes(crl.public_bytes(serialization.Encoding.DER))
    (tmp_path / "maker.pem").write_text(pem(authority))
    devices = csv(tmp_path / "list.csv", (FIRST, revoked), (SECOND, good))
    options = ("--issuer", str(tmp_path / "maker.pem"), "--crl")
    told = plant.onboard(devices, *options, str(tmp_path / "forged.crl"), exit_code=7)
    assert "forged.crl is signed by none of the authorities" in told
    assert "1 onboarded" in plant.onboard(devices, *options, str(tmp_path / "maker.crl"), exit_code=1)
    assert "its certificate was revoked on 2026-11-24" in plant.reasons()["line 2"]
