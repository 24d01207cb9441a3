"""The command line: lazy where it must be, and plain about faults."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from fleet_iot import operations
from fleet_iot.generator import diagnostics
from fleet_iot.generator.cli import commands as cli
from tests.places import PROJECT

ROOT = PROJECT


def test_help_imports_no_operation() -> None:
    """`fleet --help` lists every command with its line, and imports none of them, nor the manifest's models."""
    code = (
        "import sys; from click.testing import CliRunner; from fleet_iot.generator.cli.commands import main; "
        "print(CliRunner().invoke(main, ['--help']).stdout); "
        "print([name for name in sys.modules if name.startswith(('operations', 'pydantic', 'boto3'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for name, (_, line) in cli.OPERATIONS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", result.stdout, flags=re.MULTILINE)
    assert re.search(r"^  validate +Check the manifest and report every error with its place\.$", result.stdout, re.M)
    assert result.stdout.endswith("\n[]\n")


def test_missing_operation_breaks_no_other_command(monkeypatch: pytest.MonkeyPatch, project: Any) -> None:
    """A module that is not there is told only when its command is called, with exit 7."""
    monkeypatch.setitem(cli.OPERATIONS, "ghost", ("ghost:ghost", "Is not there."))
    assert 0 == project.fleet("validate").exit_code
    assert "ghost" in project.fleet("--help").stdout
    result = project.fleet("ghost")
    assert (7, "error: `fleet ghost` is not in this installation: there is no fleet_iot.operations.cli.ghost\n") == (
        result.exit_code,
        result.stderr,
    )


def test_missing_dependency_of_an_operation_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only the operation's own absence is expected; what it fails to import is a bug."""
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    monkeypatch.setattr(operations.cli, "__path__", [*operations.cli.__path__, str(tmp_path)])
    monkeypatch.setitem(cli.OPERATIONS, "broken", ("broken:command", "Breaks."))
    result = CliRunner().invoke(cli.main, ["broken"])
    assert isinstance(result.exception, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (diagnostics.RequestError, 2),
        (diagnostics.StaleError, 4),
        (diagnostics.GateError, 5),
        (diagnostics.WriteError, 6),
        (diagnostics.EnvironmentFault, 7),
    ],
)
def test_fault_of_an_operation_is_told_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, error: type[diagnostics.FleetError], code: int
) -> None:
    """Whatever command raises it: error, hint, the class's exit code, nothing on stdout."""

    @click.command()
    def failing() -> None:
        raise error("it does not work", hint="do this")

    monkeypatch.setitem(cli.main.commands, "failing", failing)
    result = CliRunner().invoke(cli.main, ["failing"])
    assert (code, "error: it does not work\nhint: do this\n", "") == (result.exit_code, result.stderr, result.stdout)


def test_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is no `FleetError` is not dressed up as one."""

    @click.command()
    def buggy() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.main.commands, "buggy", buggy)
    assert isinstance(CliRunner().invoke(cli.main, ["buggy"]).exception, ZeroDivisionError)


def test_project_is_that_of_the_current_folder(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder below, faults are told with the path from there, and the tree is the project's."""
    (project.folder / "docs").mkdir()
    monkeypatch.chdir(project.folder / "docs")
    result = CliRunner().invoke(cli.main, ["generate"])
    assert 0 == result.exit_code
    assert (project.tree / ".generated.json").is_file()
    (project.folder / "fleet.yaml").write_text("version: 1\nversion: 1\n")
    result = CliRunner().invoke(cli.main, ["validate"])
    assert "../fleet.yaml:2:1: the key `version` appears twice" in result.stderr


def test_manifest_may_be_named(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--manifest PATH` makes its folder the project, from anywhere."""
    monkeypatch.chdir("/")
    result = CliRunner().invoke(cli.main, ["generate", "--manifest", str(project.folder / "fleet.yaml")])
    assert 0 == result.exit_code
    assert (project.tree / "sg_01" / "things.jsonl").is_file()
    missing = CliRunner().invoke(cli.main, ["validate", "--manifest", "/nowhere/fleet.yaml"])
    assert (3, True) == (missing.exit_code, missing.stderr.endswith(":1:1: there is no such file\n" + TAIL))


TAIL = "error: the manifest has 1 error; nothing was written\n"


def test_no_project_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any project, the remedy is told, with exit 7."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, ["validate"])
    assert 7 == result.exit_code
    assert result.stderr.startswith("error: there is no fleet.yaml in ")


@pytest.mark.slow
def test_module_runs_as_the_command_does(project: Any) -> None:
    """`python -m generator` is `fleet`."""
    result = subprocess.run(
        [sys.executable, "-m", "fleet_iot", "validate", "--manifest", str(project.folder / "fleet.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "2 facilities, 2 device types, 9 things.\n") == (result.returncode, result.stdout.split(": ")[1])
