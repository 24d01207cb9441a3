"""Making what is missing: keys and CSRs for the things of a facility."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.record.identities import lock_file
from fleet_iot.operations.pki.csr import Created, create_missing, csr_path, read_requests, sign_request, write_requests
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Project, load_project
from tests.places import SAMPLE


@pytest.fixture
def project() -> Project:
    return load_project(SAMPLE)


def create(project: Project, folder: Path) -> Created:
    store = KeyStore(folder / "keys", "correct horse")
    return create_missing(project, project.facility("sg-01"), store=store, folder=folder / "identities")


@pytest.mark.slow
def test_every_thing_gets_a_key_and_a_valid_csr(project: Project, tmp_path: Path) -> None:
    """Each thing's CSR bears its name, verifies, and belongs to the key in the store."""
    created = create(project, tmp_path)
    names = {thing.name for thing in project.things(project.facility("sg-01"))}
    requests = read_requests(csr_path(tmp_path / "identities", project.environment_suffix, "sg-01"))
    keys = dict(KeyStore(tmp_path / "keys", "correct horse").keys("sg-01", names))
    assert names == requests.keys() == keys.keys()
    assert created.keys == created.requests == len(names)
    for name, pem in requests.items():
        request = x509.load_pem_x509_csr(pem.encode())
        assert request.is_signature_valid
        assert f"CN={name}" == request.subject.rfc4514_string()
        assert keys[name].public_key() == request.public_key()


@pytest.mark.slow
def test_a_second_run_changes_no_byte(project: Project, tmp_path: Path) -> None:
    """A second run makes nothing and leaves all files as they are."""
    create(project, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = create(project, tmp_path)
    assert (0, 0) == (again.keys, again.requests)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_csr_that_was_handed_in_is_kept(project: Project, tmp_path: Path) -> None:
    """A device's own CSR stays, and no key is made for it here."""
    name = next(project.things(project.facility("sg-01"))).name
    path = csr_path(tmp_path / "identities", project.environment_suffix, "sg-01")
    handed_in = sign_request(name, ec.generate_private_key(ec.SECP256R1()))
    write_requests(path, {name: handed_in})
    created = create(project, tmp_path)
    assert 1 == created.handed_in
    assert handed_in == read_requests(path)[name]
    assert name not in KeyStore(tmp_path / "keys", "correct horse").names("sg-01")


@pytest.mark.slow
def test_swapped_csrs_are_refused_before_a_key_is_made(project: Project, tmp_path: Path) -> None:
    """A common name that is another thing's, of this plant or another, with or without suffix; by file and line."""
    name, other = (thing.name for _, thing in zip(range(2), project.things(project.facility("sg-01")), strict=False))
    elsewhere = next(project.things(project.facility("th-ry-01"))).name
    path = csr_path(tmp_path / "identities", project.environment_suffix, "sg-01")
    for common_name in (other, other.removesuffix(f"-{project.environment_suffix}"), elsewhere):
        write_requests(path, {name: sign_request(common_name, ec.generate_private_key(ec.SECP256R1()))})
        before = path.read_bytes()
        with pytest.raises(EnvironmentFault, match=rf":1: the CSR of thing '{name}' has the common name of another"):
            create(project, tmp_path)
        assert before == path.read_bytes()
        assert not lock_file(path).exists()
        assert [] == list(KeyStore(tmp_path / "keys", "correct horse").names("sg-01"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csrs", "lock"])
def test_a_line_that_would_be_passed_over_stops_it(project: Project, tmp_path: Path, kind: str) -> None:
    """A name in another case, and a second line of a thing in the lock: nothing is made."""
    create(project, tmp_path)
    csrs = csr_path(tmp_path / "identities", project.environment_suffix, "sg-01")
    path = csrs if kind == "csrs" else lock_file(csrs)
    lines = path.read_text().splitlines(keepends=True)
    for changed in ([lines[0].replace("sg-01-", "Sg-01-", 1), *lines[1:]], [*lines, lines[0]]):
        path.write_text("".join(changed))
        with pytest.raises(EnvironmentFault, match=re.escape(str(path))):
            create(project, tmp_path)
        assert "".join(changed) == path.read_text()


@pytest.mark.slow
def test_a_lost_csr_is_made_anew_from_the_same_key(project: Project, tmp_path: Path) -> None:
    """A run killed between keys and CSRs is finished by the next with the keys that it left."""
    create(project, tmp_path)
    path = csr_path(tmp_path / "identities", project.environment_suffix, "sg-01")
    keys_before = (tmp_path / "keys" / "sg-01.keys.jsonl").read_bytes()
    path.unlink()
    created = create(project, tmp_path)
    assert (0, created.things) == (created.keys, created.requests)
    assert keys_before == (tmp_path / "keys" / "sg-01.keys.jsonl").read_bytes()


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    """A bad line of a CSR file is reported with its file and number."""
    path = tmp_path / "sg-01.csrs.jsonl"
    path.write_text('{"thing": "a", "csr": "x"}\n{"thing": "b"}\n')
    with pytest.raises(EnvironmentFault, match=r"sg-01\.csrs\.jsonl:2: not a line"):
        read_requests(path)
