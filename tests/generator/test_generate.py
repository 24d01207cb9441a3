"""`fleet generate`, as a user runs it, on projects in folders of their own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.output import writer
from tests.places import PROJECT, SAMPLE

ROOT = PROJECT
ALLOWED = ("--allow", "breaks-identity", "--allow", "destroys-data")


def raised(data: dict[str, Any], **counts: int) -> dict[str, Any]:
    """The manifest with other counts of presses."""
    for facility, count in counts.items():
        data["facilities"][facility.replace("_", "-")]["things"]["press"] = count
    return data


def test_second_run_changes_nothing(project: Any) -> None:
    """Generating again writes no byte, and says so."""
    assert project.fleet("generate").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in project.tree.rglob("*") if path.is_file()}
    again = project.fleet("generate")
    assert "lib/facilities is what fleet.yaml says: nothing changed.\n" == again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in project.tree.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_output_depends_on_the_manifest_alone(project: Any, data: Any) -> None:
    """Hash seed, locale, time zone and the order of the manifest's keys change no byte."""
    environments = (
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"},
        {"PYTHONHASHSEED": "4711", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONUTF8": "1"},
    )
    trees = []
    for environment in environments:
        assert project.process("generate", "--force", environment=environment).exit_code == 0
        trees.append(project.files())
        for path in project.tree.rglob("*.*"):
            path.unlink()
    project.write({key: data()[key] for key in reversed(data())})
    assert project.fleet("generate").exit_code == 0
    trees.append(project.files())
    assert trees[0] == trees[1] == trees[2]
    assert 23 == len(trees[0])


def test_one_facility_touches_its_folder_and_the_index_alone(project: Any, data: Any) -> None:
    """After two counts are raised, `--facility` changes one; its things only gain lines; the other is called stale."""
    project.fleet("generate")
    before = project.files()
    project.write(raised(data(), sg_01=5, th_01=6))
    result = project.fleet("generate", "--facility", "sg-01")
    assert (0, "") == (result.exit_code, result.stderr)
    after = project.files()
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert changed <= {path for path in after if path.startswith("sg_01/")} | {".generated.json"}
    assert "sg_01/things.jsonl" in changed
    old, new = (files["sg_01/things.jsonl"].splitlines() for files in (before, after))
    assert old == [line for line in new if line in old]
    assert 2 == len(new) - len(old)
    check = project.fleet("generate", "--check")
    assert 4 == check.exit_code
    message, hint = (
        "lib/facilities is not what the manifest says: th-01 is stale",
        "run: fleet generate --facility th-01",
    )
    assert f"error: {message}\nhint: {hint}\n" == check.stderr
    assert 0 == project.fleet("generate", "--check", "--facility", "sg-01").exit_code
    assert 0 == project.fleet("generate", "--facility", "th-01").exit_code
    assert 0 == project.fleet("generate", "--check").exit_code


def test_one_facility_is_refused_where_shared_values_changed(project: Any, data: Any) -> None:
    """A changed device type is named, with every plant that it touches, and nothing is written."""
    project.fleet("generate")
    before = project.files()
    changed = data()
    changed["device_types"]["pump"]["metrics"]["pressure"]["max"] = 8
    project.write(changed)
    result = project.fleet("generate", "--facility", "th-01")
    assert 4 == result.exit_code
    expected = (
        "error: --facility changes only the named facilities, but `device_types.pump` changed "
        "since the last `fleet generate`, which touches sg-01\nhint: run: fleet generate\n"
    )
    assert expected == result.stderr
    assert before == project.files()
    project.write(data(region="eu-west-1"))
    assert "`region` changed since the last `fleet generate`, which touches sg-01, th-01" in (
        project.fleet("generate", "--facility", "th-01").stderr
    )


def test_new_facility_can_be_made_alone(project: Any, data: Any) -> None:
    """A plant that is new joins the registry without any other plant being touched."""
    project.fleet("generate")
    before = project.files()
    grown = raised(data(), th_01=9)
    grown["facilities"]["my-01"] = {"name": "Johor", "timezone": "Asia/Kuala_Lumpur", "things": {"pump": 1}}
    project.write(grown)
    assert "my-01 is new" in project.fleet("generate", "--check").stderr
    assert 0 == project.fleet("generate", "--facility", "my-01").exit_code
    after = project.files()
    changed = {path for path in before | after if before.get(path) != after.get(path)}
    assert changed == {path for path in after if path.startswith("my_01/")} | {".generated.json", "__init__.py"}


def test_facility_that_is_gone_is_pruned(project: Any, data: Any) -> None:
    """Its indexed files and its folder go; a file that is not the generator's stays, and so does its folder."""
    grown = data()
    grown["facilities"]["my-01"] = {"name": "Johor", "timezone": "Asia/Kuala_Lumpur", "things": {"pump": 1}}
    project.write(grown)
    project.fleet("generate")
    (project.tree / "my_01" / "__pycache__").mkdir()
    (project.tree / "th_01" / "notes.txt").write_text("ours")
    shrunk = data()
    del shrunk["facilities"]["th-01"]
    project.write(shrunk)
    assert "my-01, th-01 are gone from the manifest" in project.fleet("generate", "--check").stderr
    assert 0 == project.fleet("generate", "--allow", "destroys-data").exit_code
    assert not (project.tree / "my_01").exists()
    assert ["notes.txt"] == [path.name for path in (project.tree / "th_01").iterdir()]


def test_edited_file_is_refused_unless_forced(project: Any, data: Any) -> None:
    """A file whose hash differs from the index is not overwritten, and the whole write stands back for it."""
    project.fleet("generate")
    edited = project.tree / "sg_01" / "RUNBOOK.md"
    edited.write_text("by hand")
    project.write(raised(data(), sg_01=5, th_01=6))
    before = project.files()
    refused = project.fleet("generate")
    assert 6 == refused.exit_code
    assert refused.stderr.startswith(
        "error: this file was not written by `fleet generate`, or edited since: lib/facilities/"
    )
    assert before == project.files()
    check = project.fleet("generate", "--check")
    assert "edited by hand: sg_01/RUNBOOK.md\nhint: run: fleet generate --force\n" in check.stderr
    assert 0 == project.fleet("generate", "--facility", "th-01").exit_code, "another plant's edit is not in the way"
    assert 0 == project.fleet("generate", "--force").exit_code
    assert 0 == project.fleet("generate", "--check").exit_code


def test_foreign_file_in_the_way_is_refused(project: Any) -> None:
    """A file that the index does not know is not overwritten either."""
    (project.tree / "sg_01").mkdir(parents=True)
    (project.tree / "sg_01" / "things.jsonl").write_text("{}")
    assert 6 == project.fleet("generate").exit_code
    assert {"sg_01/things.jsonl": b"{}"} == project.files()


def test_lost_file_is_made_again(project: Any) -> None:
    """A generated file that was deleted is stale, and comes back."""
    project.fleet("generate")
    before = project.files()
    (project.tree / "sg_01" / "things.jsonl").unlink()
    assert "sg-01 is stale" in project.fleet("generate", "--check").stderr
    assert 0 == project.fleet("generate", "--facility", "sg-01").exit_code
    assert before == project.files()


def test_link_out_of_the_tree_is_refused(project: Any, tmp_path: Path) -> None:
    """A facility's folder that is a link elsewhere is not written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    project.tree.mkdir(parents=True)
    (project.tree / "sg_01").symlink_to(outside)
    result = project.fleet("generate")
    assert 6 == result.exit_code
    assert "leads out of the generated tree" in result.stderr
    assert [] == list(outside.iterdir())


@pytest.mark.parametrize("path", ["../../fleet.yaml", "/etc/passwd", "th_01/../../../fleet.yaml", "th_01/x"])
def test_index_cannot_lead_the_pruning_elsewhere(project: Any, path: str) -> None:
    """An index that names a file outside its facility's folder is refused, and nothing is deleted."""
    project.fleet("generate")
    index = project.tree / ".generated.json"
    content = json.loads(index.read_text())
    content["facilities"]["sg-01"]["files"][path] = "0" * 64
    index.write_text(json.dumps(content))
    before = project.files()
    result = project.fleet("generate")
    assert 6 == result.exit_code
    assert "names a file outside its folder" in result.stderr
    assert before == project.files()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 2}', '{"format": 1, "fleet": 3, "facilities": {}}', "\0"]
)
def test_index_that_cannot_be_read_is_told(project: Any, content: str) -> None:
    """Merge conflicts and the like end in one sentence with two ways out, both of which work."""
    project.fleet("generate")
    before = project.files()
    (project.tree / ".generated.json").write_text(content)
    for arguments in (["generate"], ["generate", "--check"], ["generate", "--facility", "sg-01"]):
        result = project.fleet(*arguments)
        assert 6 == result.exit_code
        assert (
            "hint: restore it from version control, or regenerate the whole tree: fleet generate --force"
            in result.stderr
        )
    assert 0 == project.fleet("generate", "--force").exit_code
    assert before == project.files()


def test_unknown_facility_is_told_with_the_nearest(project: Any) -> None:
    """A wrong id is an error of use, and nothing is written."""
    result = project.fleet("generate", "--facility", "sg-1")
    assert (2, "error: the manifest has no facility `sg-1`\nhint: did you mean `sg-01`?\n") == (
        result.exit_code,
        result.stderr,
    )
    assert not project.tree.exists()


def test_faulty_manifest_writes_nothing(project: Any, data: Any) -> None:
    """Exit 3, and the tree stays as it was."""
    project.fleet("generate")
    before = project.files()
    project.write(raised(data(region="nowhere"), sg_01=50))
    assert 3 == project.fleet("generate").exit_code
    assert before == project.files()


def test_two_writers_do_not_meet(project: Any) -> None:
    """While another process holds the tree, a write is refused with the reason."""
    project.tree.mkdir(parents=True)
    handle = os.open(project.tree, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    result = project.fleet("generate")
    os.close(handle)
    assert 6 == result.exit_code
    assert "another `fleet generate` is writing" in result.stderr


DIES_AT = """
import os, pathlib
calls = 0
def dying(own):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == {at}:
            os._exit(9)
        return own(*args, **kwargs)
    return call
for name in ("replace", "rename", "unlink"):
    setattr(pathlib.Path, name, dying(getattr(pathlib.Path, name)))
"""


@pytest.mark.slow
def test_write_that_dies_leaves_the_old_tree_or_the_new_one(project: Any, data: Any) -> None:
    """Whichever file operation the process dies at, the next run finds one of the two trees, whole."""
    ends = [die_and_recover(project, data, at) for at in (1, 5, *range(6, 24, 2), 100)]
    assert {(9, False), (9, True), (0, False)} == set(ends), "deaths before and after the intent, and no death"


def die_and_recover(project: Any, data: Any, at: int) -> tuple[int, bool]:
    """Dies at the given file operation and looks at what is left; gives exit code and whether the intent stood."""
    project.write(data())
    project.fleet("generate", "--force", *ALLOWED)
    old = project.files()
    changed = raised(data(), sg_01=5)
    del changed["facilities"]["th-01"]
    project.write(changed)
    died = project.process("generate", *ALLOWED, before=DIES_AT.format(at=at))
    assert died.exit_code in (0, 9)
    was_intended = (project.tree / ".staging" / "intent.json").exists()
    is_interrupted, left = (project.tree / ".staging").exists(), project.files()
    for command in (("generate", "--check"), ("plan",)):
        told = project.fleet(*command)
        assert is_interrupted == ("a write was interrupted\nhint: run: fleet generate\n" in told.stderr)
        assert not is_interrupted or told.exit_code == 4
        assert left == project.files(), "what only looks finishes nothing"
    with writer.opened(project.tree):
        pass
    is_new = project.fleet("generate", "--check").exit_code == 0
    tree = project.files()
    project.fleet("generate", *ALLOWED)
    assert (project.files() if is_new else old) == tree
    assert is_new >= was_intended
    assert 0 == project.fleet("generate", "--check").exit_code
    assert not (project.tree / ".staging").exists()
    return died.exit_code, was_intended


def test_check_writes_nothing(project: Any) -> None:
    """In a project with nothing generated yet, all is new, and not even a folder is made."""
    result = project.fleet("generate", "--check")
    assert (4, "sg-01, th-01 are new" in result.stderr) == (result.exit_code, True)
    assert not project.tree.exists()


def test_any_facility_id_makes_a_registry_that_imports(project: Any, data: Any) -> None:
    """Ids that are keywords, builtins, numbers or names of the registry's own are as good as others."""
    ids = ["class", "dict", "1st", "fleet", "facilities", "annotations", "plant-dict", "a", "facilityspec", "none"]
    plant = data()["facilities"]["th-01"]
    project.write(data(facilities=dict.fromkeys(ids, plant)))
    assert 0 == project.fleet("generate").exit_code
    code = (
        "import importlib; from lib.facilities import FACILITIES; print(sorted(FACILITIES)); "
        "assert all(key == spec.id for key, spec in FACILITIES.items()); "
        "assert all(importlib.import_module('lib.facilities.' + spec.module).FACILITY is spec "
        "and type(getattr(__import__('lib.facilities').facilities, spec.module)).__name__ == 'module' "
        "for spec in FACILITIES.values())"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (f"{sorted(ids)}\n", "") == (result.stdout, result.stderr)


def test_the_sample_is_what_its_manifest_says() -> None:
    """`fleet generate --check` passes in the tests' sample."""
    from fleet_iot.generator import pipeline
    from fleet_iot.generator.manifest.load import read_manifest

    pipeline.check(read_manifest(SAMPLE / "fleet.yaml", name="fleet.yaml"), SAMPLE, facilities=())


def test_other_line_ends_are_no_edit(project: Any, data: Any) -> None:
    """A checkout that makes LF into CRLF is told as that, planned as no change, and put right without --force."""
    project.fleet("generate")
    before = project.files()
    assert b"* -text\n" == before[".gitattributes"]
    for path in project.tree.rglob("*.*"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    check = project.fleet("generate", "--check")
    assert 4 == check.exit_code
    assert "different only in line ends (CRLF): .gitattributes, __init__.py, fleet.py, sg_01/RUNBOOK.md" in check.stderr
    assert "edited by hand" not in check.stderr
    assert "git checkout -- lib/facilities" in check.stderr
    project.write(raised(data(), sg_01=4))
    told = json.loads(project.fleet("plan", "--json").stdout)
    assert ["things-added"] == [change["kind"] for change in told["changes"]]
    project.write(data())
    assert 0 == project.fleet("generate").exit_code
    assert before == project.files()


def test_manifest_and_templates_with_other_line_ends_make_the_same_files(project: Any) -> None:
    """CRLF in what a person writes changes no generated byte, nor its index."""
    template = project.folder / "templates" / "facility" / "labels.md.j2"
    template.parent.mkdir(parents=True)
    template.write_bytes(
        b"# {{ facility.name }}\n{% for group in facility.groups %}\n{{ group.count }}\n{% endfor %}\n"
    )
    project.fleet("generate")
    before = project.files()
    for path in (template, project.folder / "fleet.yaml"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert 0 == project.fleet("generate", "--check").exit_code
    assert 0 == project.fleet("generate", "--force").exit_code
    assert before == project.files()


def test_check_tells_files_that_were_not_generated(project: Any) -> None:
    """Files that no index names are refused; the hint is to move or delete them, as generating would leave them."""
    project.fleet("generate")
    (project.tree / "sg_01" / "evil.py").write_text("")
    (project.tree / "__pycache__").mkdir()
    (project.tree / "__pycache__" / "x.pyc").touch()
    check = project.fleet("generate", "--check")
    assert 4 == check.exit_code
    assert "not generated: sg_01/evil.py\nhint: move or delete them\n" in check.stderr


def test_no_path_breaks_a_line(tmp_path: Path, project: Any) -> None:
    """A folder's name with a line end in it forges no workflow command and no line of a report."""
    folder = tmp_path / "a\n::error::b\x1b[2J"
    folder.mkdir()
    shutil.copy(project.folder / "fleet.yaml", folder)
    manifest = f"{folder}/fleet.yaml"
    for command in (
        ("validate",),
        ("validate", "--format", "github"),
        ("plan",),
        ("generate",),
        ("generate", "--check"),
    ):
        told = project.fleet(*command, "--manifest", manifest)
        assert 0 == told.exit_code
        assert not [line for line in told.stdout.splitlines() if line.startswith("::")], command
        assert "\x1b" not in told.stdout
    assert (
        "a%0A::error::b\\x1b[2J/fleet.yaml is valid"
        in project.fleet("validate", "--format", "github", "--manifest", manifest).stdout
    )
    (folder / "fleet.yaml").write_text("version: 2\n")
    told = project.fleet("validate", "--format", "github", "--manifest", manifest)
    assert all(line.startswith("::error file=") for line in told.stdout.splitlines())


def _with_everything(project: Any, data: Any) -> dict[str, Path]:
    """A project with every kind of file that the generator reads, by what it is."""
    plants = data()["facilities"]
    plants["sg-01"]["things"] = {"press": {"inventory": "lists/sg-01.csv"}}
    project.write(data(facilities={"sg-01": plants["sg-01"]}))
    files = {
        "list": project.folder / "lists" / "sg-01.csv",
        "part": project.folder / "facilities" / "th-01.yaml",
        "overlay": project.folder / "fleet.prod.yaml",
        "template": project.folder / "templates" / "facility" / "labels.md.j2",
        "included": project.folder / "templates" / "facility" / "_part.j2",
    }
    contents = {
        "list": "name,serial\na,S-1\n",
        "part": json.dumps(plants["th-01"]),
        "overlay": "environment_suffix: prod\n",
        "template": "{% include '_part.j2' %}\n",
        "included": "text\n",
    }
    for kind, path in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(contents[kind])
    return files


@pytest.mark.parametrize("kind", ["list", "part", "overlay", "template", "included"])
def test_no_link_leads_out_of_the_project(project: Any, data: Any, tmp_path_factory: Any, kind: str) -> None:
    """A link to a file outside, itself or by its folder, is refused with its place; one inside is followed."""
    outside = tmp_path_factory.mktemp("outside")
    path = _with_everything(project, data)[kind]
    assert 0 == project.fleet("generate", "--env", "prod").exit_code
    before = project.files()
    shutil.copy(path, outside)
    for target, replaced in ((outside / path.name, path), (outside, path.parent)):
        if replaced == project.folder:
            continue
        moved = project.folder / "moved"
        replaced.rename(moved)
        replaced.symlink_to(target)
        result = project.fleet("generate", "--env", "prod")
        assert result.exit_code in (3, 5)
        assert "out of the project" in result.stderr or "is no folder of this project" in result.stderr
        assert path.parent.name in result.stderr or path.name in result.stderr
        assert before == project.files()
        replaced.unlink()
        replaced.symlink_to(moved)
        assert 0 == project.fleet("generate", "--check", "--env", "prod").exit_code
        replaced.unlink()
        moved.rename(replaced)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["list", "part", "overlay", "template", "included"])
def test_links_in_a_circle_to_nowhere_and_pipes_are_told(project: Any, data: Any, kind: str) -> None:
    """Nothing hangs, nothing is passed over, and nothing is written."""
    path = _with_everything(project, data)[kind]
    makers = (
        lambda: path.symlink_to(path),
        lambda: path.symlink_to(path.with_name("nowhere")),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
    )
    for make in makers:
        path.unlink()
        make()
        result = project.process("generate", "--env", "prod")
        assert result.exit_code in (2, 3, 5), result
        assert "Traceback" not in result.stderr
        assert path.name.removesuffix(".yaml") in result.stderr
        assert not project.tree.exists()


@pytest.mark.parametrize("place", ["lib", "lib/facilities", "lib/facilities/.staging", "lib/facilities/.staging/files"])
def test_writes_follow_no_link(project: Any, tmp_path_factory: Any, place: str) -> None:
    """The tree and the place for new files are the project's own folders."""
    outside = tmp_path_factory.mktemp("outside")
    path = project.folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside)
    for command in (("generate",), ("generate", "--force"), ("generate", "--check"), ("plan",)):
        result = project.fleet(*command)
        assert result.exit_code in (4, 6)
        assert [] == list(outside.iterdir())


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"written": 3, "removed": []}', '{"written": [["a"]], "removed": []}']
)
def test_an_intent_that_cannot_be_read_is_told(project: Any, content: str) -> None:
    """A damaged record of an interrupted write moves nothing."""
    project.fleet("generate")
    (project.tree / ".staging").mkdir()
    (project.tree / ".staging" / "intent.json").write_text(content)
    result = project.fleet("generate")
    assert 6 == result.exit_code
    assert "intent.json is no record of a write\nhint: delete " in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["things.jsonl", "__init__.py", "RUNBOOK.md"])
def test_a_pipe_in_the_tree_is_not_waited_for(project: Any, data: Any, name: str) -> None:
    """A pipe in the place of a file blocks no command, and `fleet generate` refuses it."""
    project.fleet("generate")
    path = project.tree / "sg_01" / name
    path.unlink()
    os.mkfifo(path)
    project.write(raised(data(), sg_01=4))
    for command in (("generate", "--check"), ("generate",), ("plan",)):
        result = project.process(*command)
        assert result.exit_code in ((0, 6) if command == ("plan",) else (6,))
        assert name == "RUNBOOK.md" or f"{name} is no file" in result.stderr
