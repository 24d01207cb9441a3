"""The generated declarations and their index."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lib.faults import RecordError
from lib.record import check_record
from lib.settings import PROJECT


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A copy of the committed record."""
    folder = tmp_path / "facilities"
    shutil.copytree(PROJECT / "lib" / "facilities", folder, ignore=shutil.ignore_patterns("__pycache__"))
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
