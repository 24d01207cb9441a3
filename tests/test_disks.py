"""A full disk, a folder that nobody may write, a file that nobody may read: a sentence with the path, no traceback."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.filesystem import fault_of, write_whole
from fleet_iot.operations.rehearsal.simulator import TruthFile
from fleet_iot.operations.storage import whole
from tests.places import SAMPLE

NOBODY = 65_534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and become somebody else")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(SAMPLE)
    monkeypatch.setenv("FLEET_KEYS_PASSPHRASE", "a passphrase of tests")
    monkeypatch.setenv("FLEET_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("FLEET_IDENTITIES", str(tmp_path / "identities"))
    monkeypatch.setenv("FLEET_JOURNAL_DIR", str(tmp_path / "journal"))
    for name in ("FLEET_ENV", "ENVIRONMENT_SUFFIX"):
        monkeypatch.delenv(name, raising=False)


def fleet(*arguments: str | Path) -> Any:
    """A command in this process: what it says, its code, and whether it ended as it should."""
    answer = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 128 kB that is full; `fill` is what fills it."""
    folder = tmp_path / "full"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (folder / "fac").mkdir()
        with suppress(OSError), (folder / "fill").open("wb", buffering=0) as file:
            while file.write(b"x" * 1024):
                pass
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def history_file(folder: Path) -> Path:
    rows = [f"{1_795_445_343_000 + 10_000 * at},{20 + at % 3}" for at in range(200)]
    path = folder / "own.csv"
    path.write_text("\n".join(["time,temperature", *rows, ""]))
    return path


@pytest.mark.slow
@as_root
def test_a_full_disk_is_told_with_its_path(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that writes: its path and a remedy; no half file stays where a reader would take it for whole."""
    project = tmp_path / "project"
    (project / "lib").mkdir(parents=True)
    shutil.copy(SAMPLE / "fleet.yaml", project)
    (project / "lib" / "facilities").mkdir()
    subprocess.run(["mount", "--bind", full / "fac", project / "lib" / "facilities"], check=True)
    try:
        generated = fleet("generate", "--manifest", project / "fleet.yaml")
        assert [] == [path.name for path in (full / "fac").rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", project / "lib" / "facilities"], check=True)
    answers = {
        "page": fleet("backtest", history_file(tmp_path), "--out", full / "page.html"),
        "picture": fleet("backtest", history_file(tmp_path), "--out", full / "page.png"),
        "manifest": fleet("init", full / "new", "--yes"),
    }
    with monkeypatch.context() as patch:
        patch.setenv("FLEET_IDENTITIES", str(full / "identities"))
        answers["identities"] = fleet("keys", "create", "--facility", "sg-01")
        patch.setenv("FLEET_KEYS_DIR", str(full / "keys"))
        answers["keys"] = fleet("keys", "create", "--facility", "sg-01")
        answers["authority"] = fleet("ca", "init")

    assert (6, {7}) == (generated.exit_code, {answer.exit_code for answer in answers.values()})
    for name, answer in answers.items():
        assert (
            f"error: {full}/" in answer.output and "No space left on device\nhint: free some space" in answer.output
        ), name
    assert f"{project}/lib/facilities/" in generated.output
    assert [] == [path for path in full.rglob("*") if path.suffix in (".html", ".png", ".yaml", ".part", ".jsonl")]

    (full / "fill").unlink()
    assert 0 == fleet("init", full / "new", "--yes").exit_code


@pytest.mark.slow
def test_a_standard_output_that_takes_nothing_is_told() -> None:
    """The exit code is that of the fault, not that of an interpreter which cannot flush."""
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "fleet_iot", "validate"],
            stdout=nowhere,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (7, True) == (
        done.returncode,
        done.stderr.startswith("error: the standard output: No space left on device\n"),
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.fixture
def shared() -> Iterator[Path]:
    """A project that everybody may read; pytest's own folders are the owner's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    shutil.copy(SAMPLE / "fleet.yaml", folder)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """This process with the rights of nobody."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.slow
@as_root
def test_what_nobody_may_write_or_read_is_told_with_its_path(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 6 for the generated tree, else 7, and the path that is refused; not one byte is written."""
    manifest, history = shared / "fleet.yaml", history_file(shared)
    commands: dict[str, tuple[str | Path, ...]] = {
        "generate": ("generate", "--manifest", manifest),
        "keys": ("keys", "create", "--facility", "sg-01"),
        "authority": ("ca", "init"),
        "page": ("backtest", history, "--out", shared / "pages" / "x.html"),
        "init": ("init", shared / "new", "--yes"),
    }
    for name in ("FLEET_KEYS_DIR", "FLEET_IDENTITIES", "FLEET_JOURNAL_DIR"):
        monkeypatch.setenv(name, str(shared / name.lower()))
    # Once as root, elsewhere: what a command imports late lies where nobody may not read.
    with tempfile.TemporaryDirectory() as elsewhere, pytest.MonkeyPatch.context() as patch:
        shutil.copy(manifest, elsewhere)
        patch.setenv("FLEET_KEYS_DIR", f"{elsewhere}/keys")
        patch.setenv("FLEET_IDENTITIES", f"{elsewhere}/identities")
        for command in commands.values():
            fleet(*(str(part).replace(str(shared), elsewhere) for part in command))
        fleet("plan", "--manifest", f"{elsewhere}/fleet.yaml")
    before = sorted(shared.rglob("*"))
    with as_nobody():
        answers = {name: fleet(*command) for name, command in commands.items()}
    assert before == sorted(shared.rglob("*"))
    assert {"generate": 6, "keys": 7, "authority": 7, "page": 7, "init": 7} == {
        name: answer.exit_code for name, answer in answers.items()
    }, {name: answer.output for name, answer in answers.items()}
    for name, answer in answers.items():
        assert str(shared) in answer.output and "ermission denied" in answer.output, (name, answer.output)

    assert 0 == fleet("generate", "--manifest", manifest).exit_code
    (shared / "lib" / "facilities" / "sg_01" / "things.jsonl").chmod(0o600)
    manifest.write_text(manifest.read_text().replace("press-monitor: 24", "press-monitor: 25"))
    with as_nobody():
        planned = fleet("plan", "--manifest", manifest)
    assert "ermission denied" in planned.output and planned.exit_code in (6, 7), planned.output
    manifest.chmod(0o600)
    with as_nobody():
        refused = fleet("validate", "--manifest", manifest)
    assert "ermission denied" in refused.output and refused.exit_code in (3, 7), refused.output


def test_a_truth_that_the_disk_does_not_take_is_told_at_its_end() -> None:
    """Answers come in threads of the MQTT client, where an error would be lost: the file's end has it."""
    truth = TruthFile(Path("/dev/full"), run={"note": "x" * 100_000})
    with pytest.raises(OSError, match="/dev/full") as caught:
        truth.close()
    fault = fault_of(caught.value)
    assert fault is not None and fault.exit_code == 7


def test_a_bug_keeps_its_traceback() -> None:
    """An error that names no file, and one of the network, are not taken for the disk's."""
    assert fault_of(OSError("odd")) is None
    assert fault_of(ConnectionRefusedError(111, "Connection refused")) is None
    assert fault_of(FileNotFoundError(2, "No such file or directory")) is None
    assert fault_of(sqlite3.ProgrammingError("bug")) is None


def test_a_damaged_or_unreadable_database_is_told(tmp_path: Path) -> None:
    """With its path, which SQLite's own errors lack."""
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database at all, but long enough to have a header" * 40)
    connection = sqlite3.connect(path)
    try:
        connection.execute("SELECT * FROM sqlite_master")
    except sqlite3.DatabaseError as error:
        fault = fault_of(error)
    assert fault is not None
    assert (7, "restore it from a backup") == (fault.exit_code, fault.hint)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """The former file stays where the disk refuses a write, and no draft is left."""
    target = tmp_path / "page.html"
    target.write_bytes(b"former")
    (tmp_path / ".page.html.part").mkdir()
    with pytest.raises(OSError, match=r"page\.html"):
        write_whole(target, b"new")
    assert b"former" == target.read_bytes()
    (tmp_path / ".page.html.part").rmdir()
    write_whole(target, b"new")
    assert [b"new"] == [path.read_bytes() for path in tmp_path.iterdir()]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """A result that goes to a device or pipe, such as /dev/null, puts no file in its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"first")
        with whole(pipe) as file:
            file.write(b", second")
        assert (b"first, second", True) == (os.read(reader, 100), pipe.is_fifo())
    finally:
        os.close(reader)
