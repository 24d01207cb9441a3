"""Environments: `fleet.<env>.yaml` over `fleet.yaml`, every value with the place in the file that it comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.manifest.load import layered
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.lib.record.place import environments

BASE = """\
version: 1
application: mfg
environment_suffix: dev
region: ap-southeast-1
device_types:
  press:
    description: Press
    sample_interval_s: 10
    metrics:
      vibration: {unit: mm/s, max: 11.2}
facilities:
  sg-01:
    name: Tuas
    timezone: Asia/Singapore
    things:
      press: {count: 3, attributes: {line: b2}}
"""


def lay(project: Any, over: str, *, base: str = BASE) -> None:
    """Puts a manifest and the environment `prod` into the project, with a suffix of its own."""
    if re.match(r"[a-z]", over) and "environment_suffix" not in over:
        over += "environment_suffix: prod\n"
    (project.folder / "fleet.yaml").write_text(base)
    (project.folder / "fleet.prod.yaml").write_text(over)


def test_mappings_merge_and_all_else_replaces(project: Any) -> None:
    """A count, a suffix and a new plant of the environment; the rest is the manifest's."""
    lay(
        project,
        "environment_suffix: prod\n"
        "facilities:\n"
        "  sg-01: {things: {press: {count: 5}}}\n"
        "  th-01: {name: Rayong, timezone: Asia/Bangkok, things: {press: 2}}\n",
    )
    result = project.fleet("validate", "--env", "prod")
    assert "fleet.yaml with fleet.prod.yaml is valid: 2 facilities, 1 device type, 7 things.\n" == result.stdout
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    rows = (project.folder / "lib" / "environments" / "prod" / "sg_01" / "things.jsonl").read_text().splitlines()
    assert (5, True) == (len(rows), all('"line":"b2"' in row for row in rows))
    assert "3 things" in project.fleet("validate").stdout


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("region: nowhere\n", 'fleet.prod.yaml:1:9: there is no region "nowhere" with AWS IoT Core'),
        ("facilities:\n  sg-01:\n    colour: red\n", "fleet.prod.yaml:3:5: unknown key `colour` in `facilities.sg-01`"),
        (
            "facilities:\n  th-01: {name: Rayong, timezone: Asia/Bangkok}\n",
            "fleet.prod.yaml:2:3: `facilities.th-01` needs `things`",
        ),
        (
            "device_types:\n  press:\n    metrics:\n      vibration: {min: 20}\n",
            "fleet.prod.yaml:4:24: `min` 20 is not below `max` 11.2: every reading would be an anomaly",
        ),
        (
            "device_types:\n  press: {description: Prësse}\n",
            "fleet.prod.yaml:2:24: `description` becomes a thing type's description, where AWS IoT accepts ASCII only",
        ),
        ("facilities: 3\n", "fleet.prod.yaml:1:13: `facilities` must be a mapping, not 3"),
        (
            "tags: {a: 'x'}\ntags: {}\n",
            "fleet.prod.yaml:2:1: the key `tags` appears twice in the same mapping, first at",
        ),
        ("# nothing\n", "fleet.prod.yaml:1:1: the manifest is empty"),
        ("- 1\n", "fleet.prod.yaml:1:1: the manifest must be a mapping, not a list"),
    ],
)
def test_fault_of_the_environment_is_told_in_its_file(project: Any, over: str, expected: str) -> None:
    """Whatever kind of fault it is: in the environment's file, at its line there."""
    lay(project, over)
    result = project.fleet("validate", "--env", "prod")
    assert (3, expected) == (result.exit_code, result.stderr.splitlines()[0][: len(expected)])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Asia/Singapore", "Asia/Sing", 'fleet.yaml:14:15: there is no time zone "Asia/Sing"'),
        ("    name: Tuas\n", "", "fleet.yaml:12:3: `facilities.sg-01` needs `name`"),
        ("line: b2", "line: b 2", "fleet.yaml:16:44: the attribute `line` may contain letters"),
    ],
)
def test_fault_of_the_manifest_stays_there(project: Any, old: str, new: str, expected: str) -> None:
    """Though the environment has a part of its own in the same plant."""
    lay(project, "facilities: {sg-01: {things: {press: {count: 5}}}}\n", base=BASE.replace(old, new))
    result = project.fleet("validate", "--env", "prod")
    assert (3, expected) == (result.exit_code, result.stderr.splitlines()[0][: len(expected)])


def test_faults_of_both_files_are_told_at_once(project: Any) -> None:
    """Of the text and of the shape."""
    lay(project, "region: 'x\n", base=BASE + "- no\n")
    files = [line.split(":")[0] for line in project.fleet("validate", "--env", "prod").stderr.splitlines()]
    assert {"fleet.yaml", "fleet.prod.yaml"} <= set(files)
    lay(project, "region: nowhere\n", base=BASE.replace("Asia/Singapore", "Mars"))
    files = [line.split(":")[0] for line in project.fleet("validate", "--env", "prod").stderr.splitlines()]
    assert {"fleet.yaml", "fleet.prod.yaml"} <= set(files)


def test_variable_chooses_the_environment(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLEET_ENV holds where no `--env` says otherwise, and a name is explained with the file that it comes from."""
    lay(project, "facilities:\n  th-01: {name: Rayong, timezone: Asia/Bangkok, things: {press: 2}}\n")
    monkeypatch.setenv("FLEET_ENV", "prod")
    assert " fleet.prod.yaml:2  facilities.th-01\n" in project.fleet("explain", "dashboard-th-01").stdout
    assert "fleet.yaml:12" in project.fleet("explain", "sg-01").stdout
    monkeypatch.setenv("FLEET_ENV", "test")
    assert 2 == project.fleet("validate").exit_code


@pytest.mark.parametrize("name", ["test", "../../../elsewhere", "", "*", "PRODUCTION", "a\0b"])
def test_environment_without_a_file_is_told(project: Any, name: str) -> None:
    """It is a usage fault, and names no file elsewhere."""
    lay(project, "region: eu-west-1\n")
    result = project.fleet("validate", "--env", name)
    assert (2, "hint: there are: prod") == (result.exit_code, result.stderr.splitlines()[-1])
    assert "hint: did you mean `prod`?\n" in project.fleet("validate", "--env", "prd").stderr


def test_mending_command_names_the_environment(project: Any) -> None:
    """The command that `--check` suggests makes the tree of the same environment."""
    lay(project, "tags: {stage: prod}\n")
    assert 0 == project.fleet("generate").exit_code
    assert 4 == project.fleet("generate", "--check", "--env", "prod").exit_code
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    lay(project, "tags: {stage: production}\n")
    result = project.fleet("generate", "--check", "--env", "prod")
    assert (4, "hint: run: fleet generate --env prod") == (result.exit_code, result.stderr.splitlines()[-1])
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    assert 0 == project.fleet("generate", "--env", "prod", "--check").exit_code


def records(project: Any) -> dict[str, bytes]:
    """The files of all records, by path below `lib`."""
    lib = project.folder / "lib"
    return {path.relative_to(lib).as_posix(): path.read_bytes() for path in lib.rglob("*") if path.is_file()}


def test_environments_stand_side_by_side(project: Any) -> None:
    """Each is checked, planned and generated by itself: an overlay's change is its own, the manifest's is of all."""
    over = (
        "environment_suffix: prod\nregion: eu-west-1\nfacilities: {sg-01: {registration: bulk, things: {press: 9}}}\n"
    )
    lay(project, over)
    options: tuple[tuple[str, ...], ...] = ((), ("--env", "prod"))
    for option in options:
        assert 0 == project.fleet("generate", *option).exit_code
    before = records(project)
    assert {"facilities", "environments/prod"} == {
        name.removesuffix("/.generated.json") for name in before if name.endswith("/.generated.json")
    }

    def found(*command: str) -> list[int]:
        return [project.fleet(*command, *option).exit_code for option in options]

    assert [0, 0] == found("generate", "--check") == found("plan", "--detailed-exitcode")
    lay(project, over.replace("press: 9", "press: 12"))
    assert [0, 2] == found("plan", "--detailed-exitcode")
    assert [0, 4] == found("generate", "--check")
    assert "lib/environments/prod/sg_01/things.jsonl" in project.fleet("generate", "--env", "prod").stdout
    after = records(project)
    assert {name: content for name, content in before.items() if name.startswith("facilities/")} == {
        name: content for name, content in after.items() if name.startswith("facilities/")
    }
    lay(project, over.replace("press: 9", "press: 12"), base=BASE.replace("max: 11.2", "max: 12"))
    assert [2, 2] == found("plan", "--detailed-exitcode")
    assert [4, 4] == found("generate", "--facility", "sg-01")
    assert [0, 0] == found("generate")
    assert [0, 0] == found("generate", "--check")


def test_a_record_is_the_same_bytes_in_either_place(project: Any) -> None:
    """What an environment's folder is called is in no file of it."""
    lay(project, "environment_suffix: prod\n")
    project.fleet("generate", "--env", "prod")
    (project.folder / "fleet.prod.yaml").unlink()
    (project.folder / "fleet.yaml").write_text(BASE.replace("suffix: dev", "suffix: prod"))
    project.fleet("generate")
    found = records(project)
    assert {name.removeprefix("facilities/") for name in found if name.startswith("facilities/")} == {
        name.removeprefix("environments/prod/") for name in found if name.startswith("environments/prod/")
    }
    for name, content in found.items():
        assert content == found[name.replace("environments/prod/", "facilities/")]


def test_files_edited_by_hand_and_line_ends_are_of_the_environments_record(project: Any) -> None:
    """Refusals and their remedies name its folder, and --env."""
    lay(project, "environment_suffix: prod\n")
    project.fleet("generate", "--env", "prod")
    runbook = project.folder / "lib" / "environments" / "prod" / "sg_01" / "RUNBOOK.md"
    genuine = runbook.read_bytes()
    runbook.write_bytes(genuine + b"edited")
    refused = project.fleet("generate", "--env", "prod")
    assert (6, True) == (refused.exit_code, "lib/environments/prod/sg_01/RUNBOOK.md" in refused.stderr)
    assert "fleet generate --env prod --force" in refused.stderr
    runbook.write_bytes(genuine.replace(b"\n", b"\r\n"))
    check = project.fleet("generate", "--check", "--env", "prod")
    assert (4, True) == (check.exit_code, "git checkout -- lib/environments/prod" in check.stderr)
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    assert genuine == runbook.read_bytes()


def test_a_record_of_former_versions_is_moved_or_left(project: Any) -> None:
    """`lib/facilities` with the overlay in it: moved it is the environment's, left it is changed only by --allow."""
    lay(project, "environment_suffix: prod\nfacilities: {sg-01: {things: {press: {count: 9}}}}\n")
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    own = project.folder / "lib" / "environments" / "prod"
    own.rename(project.tree)
    assert 2 == project.fleet("plan", "--detailed-exitcode").exit_code
    refused = project.fleet("generate")
    assert (6, True) == (refused.exit_code, "destroys-data" in refused.stderr)
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    own.rename(project.folder / "copy")
    project.tree.rename(own)
    assert 0 == project.fleet("plan", "--env", "prod", "--detailed-exitcode").exit_code
    assert 0 == project.fleet("generate").exit_code
    assert 0 == project.fleet("generate", "--check", "--env", "prod").exit_code


def test_an_empty_overlay_is_refused(project: Any) -> None:
    """It would be a second environment with the manifest's names; nothing is written, of neither."""
    for over in ("", "# nothing\n", "{}\n"):
        lay(project, over)
        for option in ((), ("--env", "prod")):
            assert not option or 3 == project.fleet("generate", *option).exit_code
    assert not (project.folder / "lib" / "environments").exists()


def test_environments_and_their_facilities_are_completed(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--env` by the files that there are; `--facility` with the plants of the environment."""
    lay(project, "facilities:\n  sg-01:\n    name: x\n  th-01:\n    name: Rayong\n")
    monkeypatch.chdir(project.folder)
    complete = ShellComplete(main, {}, "fleet", "")
    assert ["prod"] == [item.value for item in complete.get_completions(["validate", "--env"], "")]
    found = complete.get_completions(["generate", "--env", "prod", "--facility"], "")
    assert ["sg-01", "th-01"] == [item.value for item in found]


def test_environments_are_found_by_the_manifests_name(tmp_path: Path) -> None:
    """A manifest of another name has environments of that name."""
    for name in ("plants.yaml", "plants.dev.yaml", "plants.prod.yaml", "fleet.test.yaml", "plants.Not This.yaml"):
        (tmp_path / name).touch()
    assert ["dev", "prod"] == environments(tmp_path / "plants.yaml")


_TREES = st.recursive(
    st.integers() | st.booleans() | st.lists(st.integers(), max_size=2),
    lambda children: st.dictionaries(st.sampled_from("abcd"), children, max_size=3),
    max_leaves=12,
)


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All that is no mapping, by path."""
    if not isinstance(value, dict):
        return {path: value}
    return {place: leaf for key, item in value.items() for place, leaf in leaves(item, (*path, key)).items()}


@pytest.mark.slow
@settings(max_examples=40)
@given(below=st.dictionaries(st.sampled_from("abcd"), _TREES), above=st.dictionaries(st.sampled_from("abcd"), _TREES))
def test_every_leaf_is_that_of_the_layer_that_its_place_names(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Merged data and places agree: each leaf is found again at its path in the file that it is told to come from."""
    texts = {"below": below, "above": above}
    documents = {name: parse_document(json.dumps(data), name=name) for name, data in texts.items()}
    both = layered(documents["below"], documents["above"])
    for path, leaf in leaves(both.data).items():
        if path:
            value: Any = texts[both.at(path).file]
            for step in path:
                value = value[step]
            assert leaf == value
    for path, leaf in leaves(above).items():
        value = both.data
        for step in path:
            value = value[step]
        assert leaf == value
