"""The generated declarations and their index."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_iot.lib.faults import RecordError
from fleet_iot.lib.record.read import check_record, read_record
from tests.places import SAMPLE


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A copy of the committed record."""
    folder = tmp_path / "facilities"
    shutil.copytree(SAMPLE / "lib" / "facilities", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _fault(record: Path) -> str:
    with pytest.raises(RecordError) as caught:
        check_record(record)
    assert caught.value.exit_code == 4
    assert "`fleet generate" in caught.value.remedy
    return caught.value.message


def test_the_committed_record_is_its_indexs(record: Path) -> None:
    """Nothing to say."""
    check_record(record)


def test_every_generated_file_is_checked(record: Path) -> None:
    """One more byte in any file is a fault that names it."""
    files = [path for path in record.rglob("*") if path.is_file() and path.name != ".generated.json"]
    assert len(files) > 30
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert _fault(record) == f"lib/facilities/{path.relative_to(record)} is not what was generated."
        path.write_bytes(content)


def test_other_line_ends_are_told_as_that(record: Path) -> None:
    """A checkout that makes LF into CRLF is no edit by hand."""
    path = record / "fleet.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert _fault(record) == "lib/facilities/fleet.py has other line ends (CRLF) than what was generated."


def test_a_missing_file_is_named(record: Path) -> None:
    """A lost file stops synthesis as an edited one does."""
    (record / "sg_01" / "things.jsonl").unlink()
    assert _fault(record) == "lib/facilities/sg_01/things.jsonl is missing."


def test_a_module_that_was_not_generated_is_named(record: Path) -> None:
    """A package of the same name would be imported in the place of a generated module."""
    (record / "fleet").mkdir()
    (record / "fleet" / "__init__.py").write_text("")
    assert _fault(record) == "lib/facilities/fleet/__init__.py was not generated."


def test_many_faults_are_counted(record: Path) -> None:
    """The first are named."""
    for path in record.glob("*/RUNBOOK.md"):
        path.unlink()
    (record / "sg_01" / "dashboard.json").write_text("{}")
    message = _fault(record)
    assert message.startswith("lib/facilities/my_jb_01/RUNBOOK.md is missing; ")
    assert message.endswith(" (and 1 more).")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "lib/facilities/.generated.json is missing."),
        ("{", "lib/facilities/.generated.json is not an index: "),
        ('{"format":1}', "lib/facilities/.generated.json is not an index: "),
        (
            '{"format":2,"fleet":{"files":{}},"facilities":{}}',
            "lib/facilities/.generated.json has format 2, and this version reads 1.",
        ),
    ],
)
def test_an_index_that_cannot_be_read_stops_synthesis(record: Path, content: str | None, message: str) -> None:
    """Without an index nothing is approved."""
    index = record / ".generated.json"
    index.unlink()
    if content is not None:
        index.write_text(content)
    assert _fault(record).startswith(message)


def _plant(record: Path, path: str, content: bytes) -> None:
    """Writes a file of the record together with its line in the index, as a change that hides itself would."""
    (record / path).write_bytes(content)
    index = json.loads((record / ".generated.json").read_text())
    for section in (index["fleet"], *index["facilities"].values()):
        if path in section["files"]:
            section["files"][path] = hashlib.sha256(content).hexdigest()
    (record / ".generated.json").write_text(json.dumps(index))


@pytest.fixture
def project(tmp_path: Path, record: Path) -> Path:
    """A folder with the committed manifest and record, and nothing else."""
    (tmp_path / "lib").mkdir()
    record.rename(tmp_path / "lib" / "facilities")
    shutil.copy(SAMPLE / "fleet.yaml", tmp_path)
    return tmp_path


def _commands(project: Path) -> list[tuple[str, int, str]]:
    """Every way into the record, run there: the command, its exit code and what it told."""
    fleet = str(Path(sys.executable).with_name("fleet"))
    told = []
    environment = {**os.environ, "FLEET_KEYS_DIR": f"{project}-keys", "FLEET_KEYS_PASSPHRASE": "a long passphrase"}
    for command in (
        [sys.executable, "-m", "fleet_iot.lib.app"],
        [fleet, "isolation"],
        [fleet, "keys", "create", "--facility", "sg-01"],
        [fleet, "onboard", "--facility", "sg-01", "--dry-run"],
        [fleet, "archive", "query"],
        [fleet, "plan"],
        [fleet, "generate", "--check"],
    ):
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        told.append((" ".join(command[1:]), done.returncode, done.stderr))
    return told


RUNS = "open({trace!r}, 'w')"
HOSTILE = (
    "import os\nos.system('touch {trace}')\n",
    "FACILITY = [].append(" + RUNS + ")\n",
    "from os import system\n",
    "from . import evil\n",
    "def f(x=" + RUNS + "): pass\n",
    "class A(metaclass=" + RUNS + "): pass\n",
    "@(" + RUNS + ")\ndef f(): pass\n",
    "FACILITY = FacilitySpec(**{{'id': 'sg-01'}})\n",
    "FACILITY = f'{{" + RUNS + "}}'\n",
)


@pytest.mark.slow
def test_no_declaration_runs(project: Path) -> None:
    """Code in every declaration, with its hash in the index, is refused and run by no command."""
    folder, trace = project / "lib" / "facilities", project / "trace"
    for path in ("__init__.py", "fleet.py", "sg_01/__init__.py"):
        _plant(folder, path, (folder / path).read_bytes() + HOSTILE[0].format(trace=str(trace)).encode())
    for command, code, told in _commands(project):
        assert "Traceback" not in told, command
        # A plan opens what has changed in the manifest or the templates, which is nothing here.
        assert (command, code) == (command, 0 if command == "plan" else 4)
    assert not trace.exists()


@pytest.mark.parametrize("line", HOSTILE)
def test_a_declaration_that_does_anything_is_refused_with_its_line(project: Path, line: str) -> None:
    """One line that could do more than declare, below a genuine declaration."""
    folder = project / "lib" / "facilities"
    genuine = (folder / "sg_01" / "__init__.py").read_bytes()
    _plant(folder, "sg_01/__init__.py", genuine + line.format(trace=str(project / "trace")).encode())
    with pytest.raises(RecordError) as caught:
        read_record(project)
    place = f"lib/facilities/sg_01/__init__.py:{genuine.count(10) + 1}: "
    twice = "it declares FACILITY twice" if line.startswith("FACILITY = FacilitySpec") else ""
    assert caught.value.message.startswith(place) or twice in caught.value.message
    assert not (project / "trace").exists()


@pytest.mark.slow
def test_what_python_could_load_is_refused_beside_the_record(project: Path) -> None:
    """Files that no index names: none is loaded, and each stops the commands that read the record."""
    folder, trace = project / "lib" / "facilities", project / "trace"
    names = ("sg_01/a.py", "sg_01/a.so", "sg_01/a.pyc", "a.pth", "sitecustomize.py", "a/__init__.py", "sg_01/b/a.py")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"import os; os.system('touch {trace}')\n")
        assert f"lib/facilities/{name.replace('b/a.py', 'b')} was not generated" in _fault(folder)
        if name != names[-1]:
            (folder / name).unlink()
    for command, code, told in _commands(project):
        if command != "plan":
            assert (command, code) == (command, 4)
            assert "not generated" in told
    assert not trace.exists()


def test_links_and_pipes_in_the_record_are_refused(project: Path) -> None:
    """A link leads wherever its maker likes, and a pipe is never read to its end."""
    folder = project / "lib" / "facilities"
    dashboard = folder / "sg_01" / "dashboard.json"
    content = dashboard.read_bytes()
    dashboard.unlink()
    (project / "elsewhere.json").write_bytes(content)
    dashboard.symlink_to(project / "elsewhere.json")
    assert _fault(folder) == "lib/facilities/sg_01/dashboard.json is a link."
    dashboard.unlink()
    os.mkfifo(dashboard)
    assert _fault(folder) == "lib/facilities/sg_01/dashboard.json is no file."
    dashboard.unlink()
    dashboard.write_bytes(content)
    (folder / "sg_01").rename(project / "sg_01")
    (folder / "sg_01").symlink_to(project / "sg_01")
    assert "is a link" in _fault(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"thing_count=70", b"thing_count='70'", "FacilitySpec: Expected `int`, got `str` - at `$.thing_count`."),
        (b"    thing_count=70,\n", b"", "FacilitySpec: Object missing required field `thing_count`."),
        (b"thing_count=70", b"count=70", "FacilitySpec has no count."),
        (b"id='sg-01'", b"id='th-ry-01'", "it declares the facility th-ry-01 in sg_01, and the index has sg-01"),
        (
            b"things_file='things.jsonl'",
            b"things_file='../../../etc/passwd'",
            "which is no generated file of",
        ),
        (b"name='Tuas", b"name='T' 'uas", ""),
        (b"FACILITY = ", b"PLANT = ", "it declares no FACILITY."),
        (b"'cost-centre': '4711'", b"'cost-centre': 4711", "Expected `str`, got `int` - at `$.tags[...]`."),
        (b"'cost-centre': '4711'", b"'a': 'b', 'a': 'c'", "a mapping has each key once, as text."),
    ],
)
def test_a_declaration_that_does_not_fit_the_specs_is_told_with_its_place(
    project: Path, old: bytes, new: bytes, message: str
) -> None:
    """Types, fields and names are those of the specs and of the index: file, line, what, and what to do."""
    folder = project / "lib" / "facilities"
    content = (folder / "sg_01" / "__init__.py").read_bytes()
    assert old in content
    _plant(folder, "sg_01/__init__.py", content.replace(old, new, 1))
    if not message:
        assert read_record(project).facilities["sg-01"].name == "Tuas Plant 1, Singapore"
        return
    with pytest.raises(RecordError) as caught:
        read_record(project)
    assert caught.value.message.startswith("lib/facilities/sg_01/__init__.py:")
    assert message in caught.value.message
    assert "fleet generate" in caught.value.remedy


def test_an_index_leads_nowhere_else(project: Path) -> None:
    """Its files are those of the record's folder and one below."""
    index = project / "lib" / "facilities" / ".generated.json"
    for path in ("../../fleet.yaml", "/etc/passwd", "a/b/c", "sg_01/../fleet.py", "sg_01//x"):
        document = json.loads(index.read_text())
        document["fleet"]["files"][path] = "0" * 64
        index.write_text(json.dumps(document))
        assert f"names a file outside the record: {path}" in _fault(index.parent)
        del document["fleet"]["files"][path]
        index.write_text(json.dumps(document))
