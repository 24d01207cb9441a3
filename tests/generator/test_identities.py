"""What is told of CSRs that are others than those that Terraform's certificates were made from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from operations.identities.requests import sign_request

Keys = dict[str, ec.EllipticCurvePrivateKey]
NAMES = [f"sg-01-press-000{number}-dev" for number in (1, 2, 3)]


@pytest.fixture
def keys(project: Any) -> Keys:
    """Keys of three things, whose CSRs are in the generated project and locked there."""
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in NAMES}
    write(project, {name: sign_request(name, key) for name, key in keys.items()})
    assert 0 == project.fleet("generate").exit_code
    return keys


def file(project: Any, kind: str = "csrs") -> Path:
    return Path(project.folder) / "identities" / "dev" / f"sg-01.{kind}.jsonl"


def write(project: Any, csrs: dict[str, str], change: Callable[[str], str] = str) -> None:
    """Hands in CSRs, each changed in the same way."""
    file(project).parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"thing": name, "csr": change(csr)}) for name, csr in csrs.items())
    file(project).write_text("".join(f"{row}\n" for row in rows))


def read(project: Any) -> dict[str, str]:
    return {row["thing"]: row["csr"] for row in map(json.loads, file(project).read_text().splitlines())}


def planned(project: Any) -> list[tuple[str, str, int]]:
    changes = json.loads(project.fleet("plan", "--json").stdout)["changes"]
    return [(change["kind"], change["impact"], change["count"]) for change in changes]


@pytest.mark.parametrize(
    "change",
    [
        lambda csr: csr.replace("\n", "\r\n"),
        lambda csr: csr.replace("\n", "\r"),
        lambda csr: csr.rstrip("\n"),
        lambda csr: f"\n{csr}\n\n",
        lambda csr: csr.replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
        lambda csr: "\n".join(["-----BEGIN CERTIFICATE REQUEST-----", "".join(csr.splitlines()[1:-1]), csr[-34:]]),
    ],
    ids=["CRLF", "CR", "no last line end", "more line ends", "another label", "one long line"],
)
def test_the_same_csr_in_another_form_is_no_change(project: Any, keys: Keys, change: Callable[[str], str]) -> None:
    """Line ends, columns and label are no identity."""
    before = file(project, "lock").read_bytes()
    write(project, read(project), change)
    assert [] == planned(project)
    assert 0 == project.fleet("generate", "--check").exit_code
    assert 0 == project.fleet("generate").exit_code
    assert before == file(project, "lock").read_bytes()


def test_another_key_breaks_identity(project: Any, keys: Keys) -> None:
    """Planned with its things, stale to --check, refused unless allowed, and then locked anew."""
    csrs = read(project)
    csrs[NAMES[1]] = sign_request(NAMES[1], ec.generate_private_key(ec.SECP256R1()))
    write(project, csrs)
    lock = file(project, "lock").read_bytes()
    assert [("keys-changed", "breaks-identity", 1)] == planned(project)
    assert "keys changed of 1 things (sg-01-press-0002)" in project.fleet("plan").stdout
    check = project.fleet("generate", "--check")
    assert (4, True) == (check.exit_code, "sg-01: keys-changed (1)\nhint: see it: fleet plan" in check.stderr)
    for arguments in ((), ("--force",), ("--allow", "destroys-data"), ("--facility", "sg-01")):
        refused = project.fleet("generate", *arguments)
        assert (6, True) == (refused.exit_code, "--allow breaks-identity" in refused.stderr)
        assert lock == file(project, "lock").read_bytes()
    assert 0 == project.fleet("generate", "--facility", "th-01").exit_code
    assert 0 == project.fleet("generate", "--allow", "breaks-identity").exit_code
    assert ([], True) == (planned(project), lock != file(project, "lock").read_bytes())


def test_another_csr_of_the_same_key_replaces_the_certificate(project: Any, keys: Keys) -> None:
    """Signatures are random: Terraform makes another certificate, though the key is the device's own."""
    write(project, {name: sign_request(name, key) for name, key in keys.items()})
    assert [("certificates-replaced", "breaks-identity", 3)] == planned(project)
    assert "sg-01-press-0001 … 0003" in project.fleet("plan").stdout
    assert 6 == project.fleet("generate").exit_code


def test_a_csr_that_is_gone_deletes_the_certificate(project: Any, keys: Keys) -> None:
    """One of them, and the whole file."""
    csrs = read(project)
    write(project, {name: csrs[name] for name in NAMES[:2]})
    assert [("certificates-removed", "breaks-identity", 1)] == planned(project)
    file(project).unlink()
    assert [("certificates-removed", "breaks-identity", 3)] == planned(project)


def test_a_first_csr_is_no_change(project: Any, keys: Keys, data: Any) -> None:
    """New things get theirs, and retired ones are told as retired alone."""
    changed = data()
    changed["facilities"]["sg-01"]["things"]["press"] = 4
    project.write(changed)
    name = "sg-01-press-0004-dev"
    write(project, read(project) | {name: sign_request(name, ec.generate_private_key(ec.SECP256R1()))})
    assert ["things-added"] == [kind for kind, _, _ in planned(project)]
    assert 0 == project.fleet("generate").exit_code
    assert name in file(project, "lock").read_text()
    project.write(data())
    assert ["things-retired"] == [kind for kind, _, _ in planned(project)]
    assert 0 == project.fleet("generate", "--allow", "destroys-data").exit_code
    assert name not in file(project, "lock").read_text()


def test_identities_are_those_of_the_environment(project: Any, keys: Keys, monkeypatch: Any) -> None:
    """Another suffix and another folder have locks of their own; a suffix that is none is refused before anything."""
    write(project, {name: sign_request(name, key) for name, key in keys.items()})
    for variable, value in (("ENVIRONMENT_SUFFIX", "prod"), ("FLEET_IDENTITIES", str(project.folder / "others"))):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert [] == planned(project)
    before = {path: path.stat().st_mtime_ns for path in project.folder.rglob("*")}
    for suffix in ("../../x", " ", "a\n", "Dev", "x" * 17, "-a", "a/b", "dev "):
        monkeypatch.setenv("ENVIRONMENT_SUFFIX", suffix)
        for command in (("generate",), ("plan",), ("generate", "--check"), ("explain", "sg-01")):
            result = project.fleet(*command)
            assert 7 == result.exit_code
            assert result.stderr.startswith("error: ENVIRONMENT_SUFFIX is ")
            assert 2 == len(result.stderr.splitlines())
    assert before == {path: path.stat().st_mtime_ns for path in project.folder.rglob("*")}


@pytest.mark.parametrize("kind", ["csrs", "lock"])
def test_identities_that_cannot_be_read_are_told(project: Any, keys: Keys, kind: str) -> None:
    """A bad line by its place, and no link out of the folder, no circle, no pipe: exit 7, nothing written."""
    path, before = file(project, kind), project.files()
    (project.folder / "outside").write_text(path.read_text())
    makers: tuple[Callable[[], object], ...] = (
        lambda: path.write_text("{}\n"),
        lambda: path.write_text("\udcff", errors="surrogateescape"),
        lambda: path.symlink_to(project.folder / "outside"),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to(path.with_name("nowhere")),
        lambda: os.mkfifo(path),
    )
    for make in makers:
        path.unlink()
        make()
        for command in ("plan", "generate"):
            result = project.process(command)
            assert (7, False) == (result.exit_code, "Traceback" in result.stderr)
            assert str(path) in result.stderr
    assert before == project.files()
