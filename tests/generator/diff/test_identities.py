"""Reports on CSRs other than those that Terraform's certificates were made from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.text import counted
from fleet_iot.operations.pki.csr import sign_request

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


@pytest.mark.slow
def test_another_key_breaks_identity(project: Any, keys: Keys) -> None:
    """Planned with its things, stale to --check, refused unless allowed, and then locked anew."""
    csrs = read(project)
    csrs[NAMES[1]] = sign_request(NAMES[1], ec.generate_private_key(ec.SECP256R1()))
    write(project, csrs)
    lock = file(project, "lock").read_bytes()
    assert [("keys-changed", "breaks-identity", 1)] == planned(project)
    assert "keys changed of 1 thing (sg-01-press-0002)" in project.fleet("plan").stdout
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


Line = dict[str, object]


def write_lines(project: Any, lines: list[Line]) -> None:
    file(project).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_rotation_is_no_break(project: Any, keys: Keys) -> None:
    """A second CSR beside the first, then the second without the first: planned as what they are, and locked."""
    first: list[Line] = [{"thing": name, "csr": csr} for name, csr in read(project).items()]
    second: Line = {"thing": NAMES[0], "csr": new_csr(NAMES[0]), "generation": 2}
    locks = []
    for lines, kind, impact, told in (
        ([*first, second], "certificates-rotated", "reconfigures", "certificates rotated of 1 thing"),
        ([second, *first[1:]], "rotations-finished", "safe", "rotations finished of 1 thing"),
    ):
        write_lines(project, lines)
        assert [(kind, impact, 1)] == planned(project)
        assert f"{told} (sg-01-press-0001)" in project.fleet("plan").stdout
        check = project.fleet("generate", "--check")
        assert (4, True) == (check.exit_code, "run fleet generate to lock them" in check.stderr)
        assert 0 == project.fleet("generate").exit_code
        assert ([], 0) == (planned(project), project.fleet("generate", "--check").exit_code)
        locks.append(file(project, "lock").read_text())
    assert [4, 3] == [len(lock.splitlines()) for lock in locks]
    assert 2 == sum('"generation":2' in line for lock in locks for line in lock.splitlines())


def test_both_steps_of_a_rotation_at_once_break_identity(project: Any, keys: Keys) -> None:
    """The device has had no time to change over: it would be locked out."""
    lines: list[Line] = [{"thing": name, "csr": csr} for name, csr in read(project).items()]
    write_lines(project, [{"thing": NAMES[0], "csr": new_csr(NAMES[0]), "generation": 2}, *lines[1:]])
    assert [("keys-changed", "breaks-identity", 1)] == planned(project)


@pytest.mark.parametrize("status", ["revoked", "retired"])
def test_an_ended_key_stays_ended(project: Any, keys: Keys, status: str) -> None:
    """A mark by hand locks a device out, one that is taken away would let it in; another key beside it is new."""
    lines: list[Line] = [{"thing": name, "csr": csr} for name, csr in read(project).items()]
    ended = [lines[0] | {"status": status}, *lines[1:]]
    write_lines(project, ended)
    assert [("certificates-removed", "breaks-identity", 1)] == planned(project)
    assert 0 == project.fleet("generate", "--allow", "breaks-identity").exit_code
    write_lines(project, lines)
    assert [("certificates-revived", "breaks-identity", 1)] == planned(project)
    assert 6 == project.fleet("generate").exit_code
    write_lines(project, [*ended, {"thing": NAMES[0], "csr": new_csr(NAMES[0]), "generation": 2}])
    assert [("keys-unlocked", "safe", 1)] == planned(project)
    assert 0 == project.fleet("generate").exit_code
    assert [] == planned(project)


def new_csr(name: str) -> str:
    return sign_request(name, ec.generate_private_key(ec.SECP256R1()))


def test_a_first_csr_is_no_change(project: Any, keys: Keys, data: Any) -> None:
    """New things get theirs, and retired ones are told as retired alone."""
    changed = data()
    changed["facilities"]["sg-01"]["things"]["press"] = 4
    project.write(changed)
    name = "sg-01-press-0004-dev"
    write(project, read(project) | {name: sign_request(name, ec.generate_private_key(ec.SECP256R1()))})
    assert ["things-added", "keys-unlocked"] == [kind for kind, _, _ in planned(project)]
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


@pytest.mark.slow
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


def test_a_removed_line_of_the_lock_is_seen(project: Any, keys: Keys) -> None:
    """One line or the whole file, the key replaced or not: plan and --check say which keys are not locked."""
    lock = file(project, "lock")
    before = lock.read_text()
    csrs = read(project)
    csrs[NAMES[1]] = sign_request(NAMES[1], ec.generate_private_key(ec.SECP256R1()))
    for remove, count in (
        (lambda text: lock.write_text("".join(line for line in text.splitlines(True) if NAMES[1] not in line)), 1),
        (lambda text: lock.write_text(""), 3),
        (lambda text: lock.unlink(), 3),
    ):
        for handed_in in (read(project), csrs):
            write(project, handed_in)
            lock.write_text(before)
            remove(before)
            assert [("keys-unlocked", "safe", count)] == planned(project)
            shown = project.fleet("plan", "--detailed-exitcode")
            assert (2, True) == (
                shown.exit_code,
                f"keys not locked yet: {counted(count, 'thing')} (sg-01-press-000" in shown.stdout,
            )
            check = project.fleet("generate", "--check")
            assert (4, True) == (check.exit_code, "run fleet generate to lock them" in check.stderr)
        assert 0 == project.fleet("generate").exit_code
        assert ([], 0) == (planned(project), project.fleet("generate", "--check").exit_code)
        assert 3 == len(lock.read_text().splitlines())
        write(project, dict(csrs))
        before = lock.read_text()


def test_a_line_of_no_planned_thing_is_seen(project: Any, keys: Keys) -> None:
    """It locks nothing; the next generation drops it."""
    lock = file(project, "lock")
    before = lock.read_text()
    lock.write_text(before + before.splitlines(True)[0].replace("0001-dev", "0009-dev"))
    assert [("locks-unplanned", "safe", 1)] == planned(project)
    assert "lock has lines of no planned thing: 1 (sg-01-press-0009-dev)" in project.fleet("plan").stdout
    assert 4 == project.fleet("generate", "--check").exit_code
    assert 0 == project.fleet("generate").exit_code
    assert before == lock.read_text()


@pytest.mark.parametrize("kind", ["csrs", "lock"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines, lines[1]], f":4: thing '{NAMES[1]}' "),
        (
            lambda lines: [lines[0], lines[1].replace("sg-01-press", "SG-01-press"), lines[2]],
            f"is spelled '{NAMES[1]}'",
        ),
        (lambda lines: [lines[0], lines[1].replace("-dev", "-dev "), lines[2]], ":2: thing 'sg-01-press-0002-dev '"),
    ],
    ids=["twice", "another case", "a space"],
)
def test_a_line_that_would_be_passed_over_is_refused(
    project: Any, keys: Keys, kind: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    """A second line of a thing, and a name that is spelled in another way, by file and line."""
    path = file(project, kind)
    path.write_text("".join(change(path.read_text().splitlines(True))))
    written = project.files()
    for command in (("plan",), ("generate",), ("generate", "--check")):
        result = project.fleet(*command)
        assert (7, True, True) == (result.exit_code, str(path) in result.stderr, message in result.stderr)
    assert written == project.files()


@pytest.mark.parametrize(
    "name",
    [NAMES[1], "sg-01-press-0002", "SG-01-PRESS-0002-DEV", "th-01-press-0001-dev", "th-01-press-0001"],
)
def test_a_csr_in_the_name_of_another_thing_is_refused(project: Any, keys: Keys, name: str) -> None:
    """Of this plant or another, with and without suffix, in any case: two devices were swapped."""
    csrs = read(project)
    name = name if name.casefold().startswith("sg") else another_plants_thing(project, name)
    csrs[NAMES[2]] = sign_request(name, keys[NAMES[2]])
    write(project, csrs)
    file(project, "lock").unlink()
    for command in (("plan",), ("generate", "--force"), ("generate", "--check")):
        result = project.fleet(*command)
        assert 7 == result.exit_code
        assert f"{file(project)}:3: the CSR of thing '{NAMES[2]}' has the common name of another" in result.stderr
    assert not file(project, "lock").exists()


def another_plants_thing(project: Any, name: str) -> str:
    """The first thing of th-01, with suffix where `name` has one."""
    rows = (project.folder / "lib" / "facilities" / "th_01").glob("things*.jsonl")
    first = str(json.loads(next(rows).read_text().splitlines()[0])["name"])
    return f"{first}-dev" if name.endswith("-dev") else first


@pytest.mark.parametrize("name", [" ", "ATECC608B-0123", "sg-01-press-0003", "sg-01-press-9999-dev", "sg-01"])
def test_a_csr_in_a_name_of_no_other_thing_is_taken(project: Any, keys: Keys, name: str) -> None:
    """The maker's own, the thing's without its suffix, and one that nobody has."""
    csrs = read(project)
    csrs[NAMES[2]] = sign_request(name, keys[NAMES[2]])
    write(project, csrs)
    assert [("certificates-replaced", "breaks-identity", 1)] == planned(project)
    assert 0 == project.fleet("generate", "--allow", "breaks-identity").exit_code
