"""Shell completion: knows the ids of the project's facilities, and answers fast."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.cli.completion import SHELLS, VARIABLE, ids
from tests.places import PROJECT

ROOT = PROJECT


def completions(*words: str, typing: str = "") -> list[str]:
    """Return the completions that a shell offers after these words."""
    complete = ShellComplete(main, {}, "fleet", VARIABLE)
    return [item.value for item in complete.get_completions(list(words), typing)]


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Every option of every command."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if (sub := command.get_command(context, name)) is not None:
                yield from options(sub, (*path, name))
    else:
        yield from ((path, parameter) for parameter in command.params)


def test_every_facility_option_completes_ids(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever command takes `--facility` of a fleet, its values are the manifest's."""
    monkeypatch.chdir(project.folder)
    paths = [path for path, option in options(main) if "--facility" in option.opts and option.multiple]
    assert {("generate",), ("plan",), ("simulate",), ("keys", "create")} <= set(paths)
    assert [] == [path for path in paths if completions(*path, "--facility") != ["sg-01", "th-01"]]
    assert ["th-01"] == completions("generate", "--facility", typing="t")


def test_named_manifest_is_the_one_that_is_read(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--manifest PATH` before the option tells which; where there is none, nothing is offered and nothing breaks."""
    monkeypatch.chdir("/")
    path = str(project.folder / "fleet.yaml")
    assert ["sg-01", "th-01"] == completions("generate", "--manifest", path, "--facility")
    assert [] == completions("generate", "--manifest", "/nowhere/fleet.yaml", "--facility")
    assert [] == completions("generate", "--facility")


def test_names_to_explain_are_offered(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facilities and device types."""
    monkeypatch.chdir(project.folder)
    assert ["sg-01", "th-01", "press", "pump"] == completions("explain")
    assert ["press"] == completions("message", typing="pr")


def test_things_and_metrics_are_offered(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Things of the record by their short names, and the metrics of the thing or type that was named, else all."""
    monkeypatch.chdir(project.folder)
    assert [] == completions("history", typing="sg")
    assert 0 == project.fleet("generate").exit_code
    assert ["sg-01-press-0001", "sg-01-press-0002", "sg-01-press-0003"] == completions("history", typing="sg-01-pr")
    assert ["th-01-press-0004"] == completions("device", "revoke", "sg-01-press-0001", typing="th-01-press-0004")
    for path in (("anomalies", "list", "--thing"), ("keys", "create", "--renew"), ("bundle", "--thing"), ("explain",)):
        assert ["sg-01-pump-0001", "sg-01-pump-0002"] == completions(*path, typing="sg-01-pu"), path
    assert [] == completions("history", typing="sg-01-press-9") == completions("history", typing='"')
    assert ["pressure", "temperature", "vibration"] == completions("history", "--metric")
    assert ["pressure"] == completions("history", "sg-01-pump-0001", "--metric")
    assert ["temperature"] == completions("archive", "query", "--device-type", "press", "--metric", typing="t")
    assert ["press", "pump"] == completions("archive", "query", "--device-type")


def test_of_many_things_the_first_are_offered(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred at most; a record with a million lines is searched, not decoded."""
    monkeypatch.chdir(project.folder)
    folder = project.tree / "sg_01"
    folder.mkdir(parents=True)
    (folder / "things.jsonl").write_text("".join(f'{{"name":"sg-01-press-{n:06d}","x":1}}\n' for n in range(200_000)))
    assert [f"sg-01-press-{number:06d}" for number in range(100)] == completions("history")
    assert ["sg-01-press-199999"] == completions("history", typing="sg-01-press-199999")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "facilities:\n  a-1:\n    name: x\n    things:\n      b: 1\n  'c':\n  \"d\":  # why\nz:\n  e:\n",
            ["a-1", "c", "d"],
        ),
        ("facilities:   # plants\n\n# none yet\n    a:\n      name: b\n    c: {name: d}\n", ["a", "c"]),
        ("facilities:\n  a:\n    name: 'half written", ["a"]),
        ("facilities: {a: {}}\n", []),
        ("facilities:\n  a: &x\n  b: *x\n", ["a", "b"]),
        ("", []),
        ("facilities:\n\xff\n", []),
    ],
)
def test_ids_are_read_from_lines(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Whatever state the manifest is in while it is written."""
    (tmp_path / "fleet.yaml").write_text(text, "latin-1")
    assert expected == list(ids(tmp_path / "fleet.yaml", "facilities"))


def test_completing_imports_no_models(project: Any) -> None:
    """A key press waits for it: neither pydantic nor a YAML parser is loaded."""
    code = (
        "import sys; from click.shell_completion import ShellComplete; "
        "from fleet_iot.generator.cli.commands import main; "
        "complete = ShellComplete(main, {}, 'fleet', ''); "
        "print([item.value for item in complete.get_completions(['generate', '--facility'], '')]"
        ", [name for name in ('pydantic', 'yaml', 'jinja2') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "['sg-01', 'th-01'] []\n" == result.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_printed_for_each_shell(shell: str) -> None:
    """It is the one that click makes for a program called `fleet`."""
    result = CliRunner().invoke(main, ["completion", shell])
    assert 0 == result.exit_code
    assert VARIABLE in result.stdout and "fleet" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script(project: Any, tmp_path: Path) -> None:
    """A bash that has run the script offers facilities, things and environments."""
    program = tmp_path / "bin" / "fleet"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom fleet_iot.generator.cli.commands import main\n\nmain()\n")
    program.chmod(0o755)
    assert 0 == project.fleet("generate").exit_code
    (project.folder / "fleet.prod.yaml").write_text("region: eu-central-1\n")
    lines = ("fleet generate --facility s", "fleet device show sg-01-pu", "fleet generate --env p")
    asks = (
        f"COMPREPLY=(); COMP_WORDS=({line}); COMP_CWORD={len(line.split()) - 1}; _fleet_completion fleet; "
        "echo ${COMPREPLY[*]}"
        for line in lines
    )
    commands = "; ".join(('eval "$(fleet completion bash)"', *asks))
    environment = {"PYTHONPATH": str(ROOT), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "--norc", "-c", commands],
        cwd=project.folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("sg-01\nsg-01-pump-0001 sg-01-pump-0002\nprod\n", "") == (result.stdout, result.stderr)
