"""`fleet onboard` from end to end, against a service that enforces AWS IoT's quotas."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.iot_service import running
from benchmarks.onboarding import OTHER_PLANT, PLANT, SUFFIX, make_csrs, make_onboarding_project
from tests.operations.lists.builders import make_certificate, new_key, pem, quoted
from tests.operations.registry.site import Site, asked_keys, finished, keys_by_thing, site, thing_name

GROUP = f"thing-group-{PLANT}-press-{SUFFIX}"
POLICY = f"policy-{PLANT}-press-{SUFFIX}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, things=6) as found:
        yield found


def write_list(path: Path, *names: str) -> Path:
    """A CSV list with a certificate for each of these things."""
    rows = [f"{name},{quoted(pem(make_certificate(name)))}\n" for name in names]
    path.write_text("name,certificate\n" + "".join(rows))
    return path


@pytest.mark.slow
def test_a_dry_run_tells_and_changes_nothing(place: Site) -> None:
    """Rows, calls by API, the least time at the live quotas; AWS IoT is not called and no journal is made."""
    told = json.loads(place.onboard("--dry-run", "--json"))
    assert (6, 6, 0, 0, 0) == tuple(told[key] for key in ("rows", "pairs", "already", "faults", "unpaired"))
    assert (25, "live", "CreateCertificateFromCsr") == (sum(told["calls"].values()), told["quotas"], told["slowest"])
    assert {} == place.service.state()["calls"]
    assert not list(place.journals.rglob("bench-*"))
    assert "6 would be onboarded" in place.onboard("--dry-run")


@pytest.mark.slow
def test_what_belongs_to_another_plant_is_refused(place: Site, tmp_path: Path) -> None:
    """A certificate of its thing, and a column with its name; the other row gets the next free thing."""
    path = tmp_path / "pallet.csv"
    rows = [("Tuas", f"{OTHER_PLANT}-press-0001-{SUFFIX}"), ("Rayong", "chip 1"), ("Tuas", "chip 2")]
    lines = [f"{plant},{quoted(pem(make_certificate(name)))}\n" for plant, name in rows]
    path.write_text("Plant,Certificate\n" + "".join(lines))
    told = place.onboarded("--from", str(path), "--dry-run", exit_code=1)
    assert (1, 2) == (told["pairs"], told["faults"])
    assert all(f"of {OTHER_PLANT}" in fault for fault in told["first_faults"])


@pytest.mark.slow
def test_four_calls_a_device(place: Site) -> None:
    """And two for each group, whose policy the things get; each has its own key; a second run does nothing."""
    result = place.onboarded("--reason", "pallet 7")
    assert (6, 0, 0, 750.0) == (result["onboarded"], result["failed"], result["throttles"], result["ceiling"])
    state = place.service.state()
    assert 4 * 6 + 2 == sum(state["calls"].values())
    assert {POLICY: [f"arn:aws:iot:ap-southeast-1:111122223333:thinggroup/{GROUP}"]} == state["policies"]
    assert asked_keys(place.project) == keys_by_thing(state)
    again = place.onboarded()
    assert (0, 6, {}) == (again["onboarded"], again["already"], again["calls"])
    assert state["things"] == place.service.state()["things"]


@pytest.mark.slow
def test_a_list_says_how_its_rows_were_paired(place: Site, tmp_path: Path) -> None:
    """In the dry run and in the run: by what, how many, and the first of them; as text and as JSON."""
    path = tmp_path / "pallet.csv"
    rows = [f"{thing_name(n).upper()};{quoted(pem(make_certificate(f'chip {n}')))}\n" for n in (3, 2)]
    path.write_text("\ufeffThing Name;Certificate\n" + "".join(rows))
    first = f"row 1 (line 2) is {thing_name(3)}, by name '{thing_name(3).upper()}'"
    told = place.onboarded("--from", str(path), "--dry-run")
    assert ({"name": 2}, first) == (told["pairing"]["ways"], told["pairing"]["first"][0])
    text = place.onboard("--from", str(path), "--dry-run")
    assert "paired: 2 by name" in text and first in text
    result = place.onboarded("--from", str(path))
    assert ({"name": 2}, 2) == (result["pairing"]["ways"], result["onboarded"])


@pytest.mark.slow
def test_what_is_refused_before_anything_is_done(place: Site, tmp_path: Path) -> None:
    """A column that is not known and looks like an identity; a folder and a list without a device."""
    path = tmp_path / "pallet.csv"
    path.write_text(f"Gerätenummer,Certificate\n{thing_name(2)},{quoted(pem(make_certificate('chip')))}\n")
    for arguments in ((), ("--dry-run",)):
        said = place.onboard("--from", str(path), *arguments, exit_code=2)
        assert "'Gerätenummer' that is not known" in said and "--ignore 'Gerätenummer'" in said
    assert (
        1 == place.onboarded("--from", str(path), "--dry-run", "--ignore", "Gerätenummer")["pairing"]["ways"]["order"]
    )
    bad = write_list(tmp_path / "bad.csv", "sg-01-press-0099")
    assert "1 row would not be onboarded" in place.onboard("--from", str(bad), "--dry-run", exit_code=1)
    empty = write_list(tmp_path / "empty.csv")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("…")
    for arguments in ((), ("--dry-run",)):
        assert "contains no device" in place.onboard("--from", str(empty), *arguments, exit_code=7)
        said = place.onboard("--from", str(folder), *arguments, exit_code=7)
        assert "1 files were skipped" in said and ".crt" in said
    assert {} == place.service.state()["things"]


@pytest.mark.slow
def test_the_policy_on_the_certificate_is_a_fifth_call(place: Site) -> None:
    """For brokers that know no policies of groups."""
    place.onboarded("--policy-on", "certificate")
    state = place.service.state()
    assert sorted(each["certificateArn"] for each in state["certificates"].values()) == state["policies"][POLICY]


@pytest.mark.slow
def test_staged_devices_are_inactive_until_activated(place: Site) -> None:
    """Stage first, activate at site acceptance; a second activation finds nothing to do."""
    place.onboarded("--stage")
    assert {"INACTIVE"} == {each["status"] for each in place.service.state()["certificates"].values()}
    assert {"activated": 6} == place.onboarded("--activate")
    assert {"ACTIVE"} == {each["status"] for each in place.service.state()["certificates"].values()}
    assert {"activated": 0} == place.onboarded("--activate", exit_code=1)


@pytest.mark.slow
def test_failed_rows_are_a_list_that_can_be_run_again(place: Site, tmp_path: Path) -> None:
    """Good rows go on; the others stand in a file of the list's format, with reasons beside it."""
    path = write_list(tmp_path / "pallet.csv", *map(thing_name, (1, 2)), "sg-01-press-0099")
    with path.open("a") as file:
        file.write(f"{thing_name(3)},{quoted(pem(make_certificate(key=None))[:200])}\n")
    result = place.onboarded("--from", str(path), exit_code=1)
    assert (4, 2, 2) == (result["rows"], result["onboarded"], result["failed"])
    failures = place.project / result["failures"]
    reasons = [json.loads(line) for line in (failures.parent / "reasons.jsonl").read_text().splitlines()]
    assert [3, 4] == [reason["row"] for reason in reasons]
    assert {0o600} == {file.stat().st_mode & 0o777 for file in failures.parent.iterdir()}
    assert "no planned thing has its name 'sg-01-press-0099'" == reasons[0]["reason"]
    failures.write_text(failures.read_text().replace("sg-01-press-0099", "sg-01-press-0004"))
    again = place.onboarded("--from", str(failures), exit_code=1)
    assert (1, 1) == (again["onboarded"], again["failed"])
    assert [thing_name(number) for number in (1, 2, 4)] == sorted(place.service.state()["things"])


@pytest.mark.slow
def test_a_thing_that_is_there_with_other_attributes(place: Site) -> None:
    """Is not touched, and no certificate is made in vain; the other devices go on."""
    place.iot().create_thing(thingName=thing_name(2), attributePayload={"attributes": {"site": "elsewhere"}})
    result = place.onboarded(exit_code=1)
    assert (5, 1) == (result["onboarded"], result["failed"])
    state = place.service.state()
    assert (5, []) == (len(state["certificates"]), state["things"][thing_name(2)]["principals"])


@pytest.mark.slow
def test_a_certificate_that_another_thing_has(place: Site, tmp_path: Path) -> None:
    """Registered before and attached elsewhere: refused; registered and attached to nothing: taken."""
    iot = place.iot()
    path = tmp_path / "list.csv"
    certificates = [pem(make_certificate(f"n{number}")) for number in (1, 2)]
    path.write_text(
        "name,certificate\n"
        + "".join(f"{thing_name(n)},{quoted(text)}\n" for n, text in enumerate(certificates, start=1))
    )
    arns = [
        iot.register_certificate_without_ca(certificatePem=text, status="INACTIVE")["certificateArn"]
        for text in certificates
    ]
    iot.create_thing(thingName="stranger")
    iot.attach_thing_principal(thingName="stranger", principal=arns[0])
    result = place.onboarded("--from", str(path), exit_code=1)
    assert (1, 1) == (result["onboarded"], result["failed"])
    state = place.service.state()
    assert ([], [arns[1]]) == (
        state["things"][thing_name(1)]["principals"],
        state["things"][thing_name(2)]["principals"],
    )
    assert "ACTIVE" == state["certificates"][arns[1].rpartition("/")[2]]["status"]


@pytest.mark.slow
def test_what_cannot_be_asked_for(place: Site, tmp_path: Path) -> None:
    """Each with what to do instead."""
    assert "sg-01 has no interrupted onboarding" in place.onboard("--resume", exit_code=2)
    assert "exclude a list and each other" in place.onboard("--resume", "--from", "x", exit_code=2)
    assert "there is no" in place.onboard("--from", str(tmp_path / "none"), exit_code=7)
    assert "has no device type 'pump'" in place.onboard("--device-type", "pump", exit_code=2)


@pytest.mark.slow
def test_what_stops_all_devices_stops_the_run(place: Site) -> None:
    """A type or right that is missing is no device's fault: the run stops at once, and goes on when that is mended."""
    place.declare("'thing-group-sg-01-press'", "'no-such-group'")
    assert "apply the facility's stack first" in place.onboard(exit_code=7)
    assert "6 devices" in place.onboard(exit_code=2)
    place.declare("'no-such-group'", "'thing-group-sg-01-press'")
    assert 6 == place.onboarded("--resume")["onboarded"]


@pytest.mark.slow
def test_a_refused_right_stops_the_run_midway(place: Site) -> None:
    """Nothing hangs, nothing is failed; --resume does what is left."""
    place.iot().create_thing(thingName="refuse-after-3-things")
    assert "AWS refuses CreateThing" in place.onboard(exit_code=7)
    place.iot().create_thing(thingName="refuse-no-more")
    assert 6 == place.onboarded("--resume")["onboarded"]


@pytest.mark.slow
def test_runs_side_by_side_share_the_quotas(tmp_path: Path) -> None:
    """Two plants at once keep together the pace that one keeps alone; nothing is throttled, no group mistaken."""
    project = make_onboarding_project(tmp_path / "project", things=60, others=60)
    for plant in (PLANT, OTHER_PLANT):
        make_csrs(project, plant)
    # 60 calls each at a pace of its own would be 45 more than the service's bucket has and gets in the meantime.
    with running(scale=2) as service:
        place = Site(project=project, service=service, things=60)
        both = [place.start("--json", plant=plant) for plant in (PLANT, OTHER_PLANT)]
        results = [finished(process) for process in both]
        state = service.state()
    assert [60, 60] == [result["onboarded"] for result in results]
    assert {} == state["throttles"]
    groups = {(name[:5], *thing["groups"]) for name, thing in state["things"].items()}
    assert {(plant, f"thing-group-{plant}-press-{SUFFIX}") for plant in (PLANT, OTHER_PLANT)} == groups


@pytest.mark.slow
def test_one_plant_is_onboarded_once_at_a_time(tmp_path: Path) -> None:
    """A second run of the same plant is refused while the first goes on."""
    with site(tmp_path, things=120, scale=2) as place, place.start() as first:
        while "CreateThing" not in place.service.state()["calls"]:
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)  # or it could end before the second one starts
        assert "is being onboarded already" in place.onboard(exit_code=2)
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=60)
        assert 0 == first.returncode


@pytest.mark.slow
def test_a_plant_that_terraform_registers_is_refused(place: Site) -> None:
    """Its certificates would be in no state of Terraform's."""
    place.declare("'bulk'", "'terraform'")
    assert "registration: bulk" in place.onboard(exit_code=2)


@pytest.mark.slow
def test_a_plant_that_was_not_handed_over_is_refused(place: Site) -> None:
    """Its lock says that Terraform made certificates: each device would get a second one."""
    lock = place.project / "identities" / SUFFIX / f"{PLANT}.lock.jsonl"
    lock.write_text("")
    assert f"fleet device adopt --facility {PLANT}" in place.onboard(exit_code=2)
    assert {} == place.service.state()["calls"]


@pytest.mark.slow
def test_no_private_key_is_copied_anywhere(place: Site, tmp_path: Path) -> None:
    """Not even from a list that has one: not into the journal, not into the file of failures."""
    from cryptography.hazmat.primitives import serialization

    key = new_key()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = tmp_path / "list.csv"
    path.write_text(f"name,certificate\n{thing_name(1)},{quoted(text)}\n")
    assert 1 == place.onboarded("--from", str(path), exit_code=1)["failed"]
    place.onboarded()
    secret = text.splitlines()[1].encode()
    files = [file for folder in (place.journals, place.project) for file in folder.rglob("*") if file.is_file()]
    assert [] == [file for file in files if secret in file.read_bytes()]


@pytest.mark.slow
def test_nothing_to_activate_and_no_certificate_are_no_success(tmp_path: Path) -> None:
    """A plant of which nothing is staged, and a journal in which nothing is: exit 1, and what to do first."""
    with site(tmp_path, things=1) as place:
        assert "nothing of sg-01 is staged" in place.onboard("--activate", exit_code=1)
        command = [sys.executable, "-m", "fleet_iot", "certificates", "--aws", "--facility", PLANT]
        for expected in (1, 0):
            run = subprocess.run(
                command, cwd=place.project, env=place.environment, capture_output=True, text=True, check=False
            )
            assert expected == run.returncode, run.stderr
            assert ("no certificate of sg-01 is known" in run.stderr) == bool(expected)
            if expected:
                place.onboard()
