"""Commands act on the project of the current folder, and on the record of the environment that is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError, StaleError
from fleet_iot.lib.record.place import name_of, with_environment
from fleet_iot.operations.project import load_project
from tests.places import PROJECT, link_wheels

MANIFEST = """\
version: 1
application: hefe
environment_suffix: dev
region: ap-southeast-1
device_types:
  kessel:
    description: Boiler
    sample_interval_s: 10
    metrics:
      druck: {unit: bar, max: 9}
  ruehrwerk:
    description: Stirrer
    sample_interval_s: 5
    metrics:
      drehzahl: {unit: 1/min, max: 900}
facilities:
  muc-1:
    name: München Werk Süd
    timezone: Europe/Berlin
    things: {kessel: 3, ruehrwerk: 2}
"""
OVERLAY = """\
environment_suffix: prod
region: eu-central-1
account_id: "123456789012"
facilities:
  muc-1:
    registration: bulk
    things: {kessel: 8}
"""
SAMPLE = ("my-jb-01", "sg-01", "th-ry-01", "flue_oxygen", "press-monitor")
"""Names of the plants, and of what is in them, of the tool's own sample."""

COMMANDS: dict[str, tuple[int, str]] = {
    "validate": (0, "is valid: 1 facility, 2 device types"),
    "generate --check": (0, " is what "),
    "plan": (0, "No changes"),
    "explain muc-1": (0, "München Werk Süd"),
    "message kessel": (0, "druck"),
    "keys create --all": (0, "muc-1: "),
    "isolation": (0, "in 1 facilities"),
    "onboard --facility sg-01 --dry-run": (2, "no facility 'sg-01' in "),
    "bundle --facility muc-1": (7, "build"),
    "device show muc-1-kessel-0001": (7, "build"),
    "certificates": (7, "build"),
    "ca show": (2, "identities"),
    "archive query": (0, "muc-1"),
    "anomalies list": (7, "build"),
    "history muc-1-kessel-0001": (7, "build"),
    "quarantine list": (7, "build"),
    "replay": (7, "build"),
    "simulate": (7, "build"),
    "local status": (7, "build"),
    "local apply": (7, "build"),
    "backtest hot.csv --device-type kessel": (1, "druck 12 bar"),  # too short for machine to learn
    "backtest hot.csv --device-type boiler": (2, "no device type 'boiler'"),
    "compliance": (7, "the scanners are not installed"),
}
"""Command → its exit code, and what it prints, where no local AWS is up."""

HOME = str(Path.home())
"""With the bindings' cache."""

_opened: list[str] | None = None


def _record_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | os.PathLike):
        _opened.append(os.path.realpath(arguments[0]))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: Any) -> Path:
    """A company's project with two environments, both generated; the tests below leave manifest and records alone."""
    folder: Path = tmp_path_factory.mktemp("hefe") / "plant"
    folder.mkdir()
    (folder / "fleet.yaml").write_text(MANIFEST, encoding="utf-8")
    (folder / "fleet.prod.yaml").write_text(OVERLAY, encoding="utf-8")
    (folder / "hot.csv").write_text("druck\n" + "5\n" * 20 + "12\n" * 3, encoding="utf-8")
    for option in ((), ("--env", "prod")):
        assert 0 == fleet(folder, "generate", *option).exit_code
    return folder


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in (("FLEET_KEYS_DIR", "keys"), ("FLEET_JOURNAL_DIR", "journal"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.setenv("FLEET_IDENTITIES", str(tmp_path / "identities"))
    monkeypatch.setenv("FLEET_KEYS_PASSPHRASE", "a passphrase of the test")
    for name in ("FLEET_ENV", "ENVIRONMENT_SUFFIX", "FLEET_ACCOUNT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The real paths of all files that this process opens."""
    global _opened
    sys.addaudithook(_record_opened)  # it can never be removed
    _opened = []
    yield _opened
    _opened = None


def fleet(folder: Path, *arguments: str) -> Result:
    """`fleet` as run in the folder."""
    with chdir(folder):
        return CliRunner(catch_exceptions=False).invoke(main, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [None, "prod"])
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_acts_on_the_project_of_the_current_folder(
    plant: Path, opened: list[str], command: str, environment: str | None
) -> None:
    """The record read is that of the environment in this folder; no name and no record of the tool's own sample."""
    option = ["--env", environment] if environment else []
    result = fleet(plant, *command.split(), *option)
    code, expected = COMMANDS[command]
    assert (code, True) == (result.exit_code, expected in result.output), result.output
    assert [name for name in SAMPLE if name in result.output.replace(command, "").replace("'sg-01'", "")] == []
    own, other = ("environments/prod", "facilities") if environment else ("facilities", "environments/prod")
    records = {place for place in opened if "/lib/facilities/" in place or "/lib/environments/" in place}
    assert {place for place in records if not place.startswith(f"{plant}/lib/")} == set()
    foreign = {place for place in records if place.startswith(f"{plant}/lib/{other}/")}
    assert foreign <= {f"{plant}/lib/{other}/fleet.py"}  # the other environment's suffix
    is_manifests = command.split()[0] in ("validate", "explain", "message")
    assert (f"{plant}/lib/{own}/.generated.json" in opened) is not (is_manifests or command == "local status")
    assert f"{PROJECT}/fleet.yaml" not in opened


@pytest.mark.slow
def test_keys_and_onboarding_are_of_the_environment(plant: Path) -> None:
    """Terraform registers the things of one, the other's are onboarded in bulk; each has keys of its own."""
    onboard, create = ("onboard", "--facility", "muc-1", "--dry-run"), ("keys", "create", "--all")
    assert "muc-1: 10 things, 10 keys and 10 CSRs made" in fleet(plant, *create, "--env", "prod").output
    assert "10 would be onboarded" in fleet(plant, *onboard, "--env", "prod").output
    assert "muc-1 has no CSRs" in fleet(plant, *onboard).output
    assert "muc-1: 5 things, 5 keys and 5 CSRs made" in fleet(plant, *create).output
    assert "Terraform registers the things of muc-1" in fleet(plant, *onboard).output


def _leaves(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {path}", leaf) for path, leaf in _leaves(command))
        else:
            yield name, command


def test_every_command_of_a_project_takes_an_environment() -> None:
    """All but the one that makes a project and the one that prints a script."""
    without = {path for path, leaf in _leaves(main) if "--env" not in [each for it in leaf.params for each in it.opts]}
    assert {"init", "completion"} == without


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_where_there_is_no_project(tmp_path: Path, command: str) -> None:
    """Exit 7, and no other project is taken instead."""
    (tmp_path / "hot.csv").write_text("druck\n5\n")
    result = fleet(tmp_path, *command.split())
    assert (7, True) == (result.exit_code, f"there is no fleet.yaml in {tmp_path}" in result.output), result.output


@pytest.mark.parametrize("command", ["isolation", "generate", "local status", "backtest hot.csv", "certificates"])
def test_an_environment_that_is_none_is_refused(plant: Path, command: str) -> None:
    """Exit 2 with what there is, in every command, and nothing is written."""
    before = sorted(plant.rglob("*"))
    for name in ("../x", "prd", "", "a\nb", "Prod", "/etc", ".", "facilities"):
        result = fleet(plant, *command.split(), "--env", name)
        assert (2, True) == (result.exit_code, "there is no environment" in result.output), result.output
        assert "prod" in result.output.splitlines()[-1]
    assert before == sorted(plant.rglob("*"))


def test_the_variable_names_the_environment_and_the_option_wins(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLEET_ENV in operations as in the generator; an empty one is none."""
    monkeypatch.setenv("FLEET_ENV", "prod")
    assert "10 things" in fleet(plant, "isolation").output
    assert 2 == fleet(plant, "isolation", "--env", "test").exit_code
    monkeypatch.setenv("FLEET_ENV", "")
    assert "5 things" in fleet(plant, "isolation").output


def test_the_variable_is_of_the_project_of_the_manifest(plant: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """With --manifest elsewhere it names an environment beside that manifest, or none."""
    (tmp_path / "plants.yaml").write_text(MANIFEST, encoding="utf-8")
    monkeypatch.setenv("FLEET_ENV", "prod")
    result = fleet(plant, "generate", "--manifest", str(tmp_path / "plants.yaml"))
    assert (2, True) == (result.exit_code, "it would be plants.prod.yaml beside plants.yaml" in result.output)
    (tmp_path / "plants.prod.yaml").write_text(OVERLAY, encoding="utf-8")
    assert 0 == fleet(plant, "generate", "--manifest", str(tmp_path / "plants.yaml")).exit_code
    assert ["prod"] == [path.name for path in (tmp_path / "lib" / "environments").iterdir()]


def test_values_are_those_of_the_environment(plant: Path) -> None:
    """Region, account, counts, registration, and the folders of what commands make."""
    base, prod = load_project(plant), load_project(plant, "prod")
    assert [(each.fleet.region, each.environment_suffix, each.account_id) for each in (base, prod)] == [
        ("ap-southeast-1", "dev", None),
        ("eu-central-1", "prod", "123456789012"),
    ]
    assert [(plants.thing_count, plants.registration) for each in (base, prod) for plants in each.facilities] == [
        (5, "terraform"),
        (10, "bulk"),
    ]
    assert [plant / "lib" / "facilities", plant / "lib" / "environments" / "prod"] == [base.record, prod.record]
    assert [plant / "build", plant / "build" / "environments" / "prod"] == [base.build, prod.build]


def test_a_suffix_of_another_record_is_refused(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In both directions, and whatever the account is; a suffix that is free is no other environment's."""
    monkeypatch.setenv("ENVIRONMENT_SUFFIX", "prod")
    for account in ("", "210987654321"):
        monkeypatch.setenv("FLEET_ACCOUNT_ID", account)
        with pytest.raises(EnvironmentFault, match="`prod` is that of the environment prod") as caught:
            load_project(plant)
        assert "use --env prod (or FLEET_ENV=prod)" in str(caught.value.hint)
    for command in ("plan", "generate", "isolation", "keys create --all"):
        assert 7 == fleet(plant, *command.split()).exit_code
    assert "prod" == load_project(plant, "prod").environment_suffix
    monkeypatch.setenv("ENVIRONMENT_SUFFIX", "dev")
    with pytest.raises(EnvironmentFault, match="`dev` is that of the manifest itself: lib/facilities"):
        load_project(plant, "prod")
    monkeypatch.setenv("ENVIRONMENT_SUFFIX", "canary")
    assert ["canary"] * 2 == [load_project(plant, name).environment_suffix for name in (None, "prod")]


def test_one_suffix_in_two_accounts_is_two_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is operated by itself until the variable gives one the other's account."""
    (tmp_path / "fleet.yaml").write_text(f'account_id: "210987654321"\n{MANIFEST}', encoding="utf-8")
    (tmp_path / "fleet.eu.yaml").write_text(OVERLAY.replace("prod", "dev"), encoding="utf-8")
    for option in ((), ("--env", "eu")):
        assert 0 == fleet(tmp_path, "generate", *option).exit_code
    assert ["210987654321", "123456789012"] == [load_project(tmp_path, name).account_id for name in (None, "eu")]
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "123456789012")
    with pytest.raises(EnvironmentFault, match="`dev` is that of the environment eu"):
        load_project(tmp_path)
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "210987654321")
    with pytest.raises(EnvironmentFault, match="`dev` is that of the manifest itself"):
        load_project(tmp_path, "eu")
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "000000000000")  # the local AWS's
    assert ["dev", "dev"] == [load_project(tmp_path, name).environment_suffix for name in (None, "eu")]


def test_a_record_that_is_missing_or_a_link_is_refused(tmp_path: Path) -> None:
    """The command that makes it names the environment; a link is neither read nor written through."""
    (tmp_path / "plant").mkdir()
    root = tmp_path / "plant"
    (root / "fleet.yaml").write_text(MANIFEST, encoding="utf-8")
    (root / "fleet.prod.yaml").write_text(OVERLAY, encoding="utf-8")
    result = fleet(root, "isolation", "--env", "prod")
    assert (4, "error: lib/environments/prod/.generated.json is missing") == (
        result.exit_code,
        result.stderr.splitlines()[0],
    )
    assert "fleet generate --env prod" in result.stderr
    outside = tmp_path / "outside"
    outside.mkdir()
    environments = root / "lib" / "environments"
    environments.parent.mkdir()
    for link, target in ((environments, outside), (environments / "prod", outside)):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        assert 6 == fleet(root, "generate", "--env", "prod").exit_code
        with pytest.raises(StaleError, match="lib/environments/prod is a link"):
            load_project(root, "prod")
        assert [] == list(outside.iterdir())
        link.unlink()


def test_an_environment_may_have_any_name(tmp_path: Path) -> None:
    """Also that of the other record's folder, and one with a hyphen, which is no Python module."""
    (tmp_path / "fleet.yaml").write_text(MANIFEST, encoding="utf-8")
    for number, name in enumerate(("facilities", "prod-eu", "fleet", "1")):
        overlay = OVERLAY.replace("prod", f"s{number}")
        (tmp_path / f"fleet.{name}.yaml").write_text(overlay, encoding="utf-8")
        assert 0 == fleet(tmp_path, "generate", "--env", name).exit_code
        assert 10 == load_project(tmp_path, name).facilities[0].thing_count
    assert not (tmp_path / "lib" / "facilities").exists()


def test_a_record_without_an_overlay_is_reported(tmp_path: Path) -> None:
    """`--check` of the manifest says how to remove it, and so do --env and a suffix that is still its own."""
    (tmp_path / "fleet.yaml").write_text(MANIFEST, encoding="utf-8")
    overlay = tmp_path / "fleet.prod.yaml"
    overlay.write_text(OVERLAY, encoding="utf-8")
    for option in ((), ("--env", "prod")):
        assert 0 == fleet(tmp_path, "generate", *option).exit_code
    overlay.unlink()
    check = fleet(tmp_path, "generate", "--check")
    assert (4, True) == (check.exit_code, check.stderr.endswith("git rm -r lib/environments/prod\n"))
    with pytest.raises(RequestError, match="there is no environment `prod`") as caught:
        load_project(tmp_path, "prod")
    assert "git rm -r lib/environments/prod" in str(caught.value.hint)


def test_environments_and_plants_are_completed_in_operations(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--env` in every command that acts on a project."""
    monkeypatch.chdir(plant)
    complete = ShellComplete(main, {}, "fleet", "")
    for command in COMMANDS:
        words = [word for word in command.split() if not word.startswith("-")][:2]
        is_group = isinstance(main.get_command(click.Context(main), words[0]), click.Group)
        path = words if is_group else words[:1]
        assert ["prod"] == [item.value for item in complete.get_completions([*path, "--env"], "")], command


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Run `fleet generate`, then review", "Run `fleet generate --env eu`, then review"),
        ("fleet keys create --facility a; fleet local up", "fleet keys create --env eu --facility a; fleet local up"),
        ("fleet plan --env eu", "fleet plan --env eu"),
        ("fleet init", "fleet init"),
    ],
)
def test_commands_in_hints_name_the_environment(text: str, expected: str) -> None:
    """Those that act on a project, once each."""
    assert expected.replace("local up", "local up --env eu") == with_environment(text, "eu")
    assert text == with_environment(text, None)


def test_a_record_is_named_by_its_folder() -> None:
    """Also where the project's own folder is called as the environments' is."""
    assert "lib/facilities" == name_of(Path("/x/environments/lib/facilities"))
    assert "lib/environments/facilities" == name_of(Path("/x/lib/environments/facilities"))


@pytest.mark.cdktf
def test_both_environments_are_synthesised_side_by_side(plant: Path, tmp_path: Path) -> None:
    """Stacks, region, account and things of each, by `python -m lib.app` and by `fleet synth`."""
    link_wheels(plant)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_ENV", "TERRAFORM_"))}
    variables |= {
        "FLEET_OUTDIR": str(tmp_path / "out"),
        "HOME": HOME,
        "PYTHONPATH": str(PROJECT),
    }
    runs = (
        (["fleet_iot.lib.app"], {"FLEET_ACCOUNT_ID": "210987654321"}, "tap-dev\nfacility-muc-1-dev\n"),
        (["fleet_iot", "synth", "--env", "prod"], {}, "tap-prod\nfacility-muc-1-prod\n"),
    )
    for module, more, expected in runs:
        run = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=plant,
            env=variables | more,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, expected) == (run.returncode, run.stdout), run.stderr
    stacks = {
        name: json.loads((tmp_path / "out" / "stacks" / name / "cdk.tf.json").read_text())
        for name in ("facility-muc-1-dev", "facility-muc-1-prod")
    }
    providers = [stack["provider"]["aws"][0] for stack in stacks.values()]
    assert [("ap-southeast-1", ["210987654321"]), ("eu-central-1", ["123456789012"])] == [
        (provider["region"], provider["allowed_account_ids"]) for provider in providers
    ]
    assert [5, 0] == [len(stack["resource"].get("aws_iot_thing", {})) for stack in stacks.values()]


def test_every_command_with_an_environment_is_known_in_hints() -> None:
    """A hint names the environment in each command that has --env, and in no other."""
    for path, command in _leaves(main):
        has_environment = any("--env" in parameter.opts for parameter in command.params)
        text = f"run: fleet {path}"
        assert (f"{text} --env eu" if has_environment else text) == with_environment(text, "eu"), path
