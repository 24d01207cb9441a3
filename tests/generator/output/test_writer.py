"""Files are staged, hashed, and moved into the tree once all are there."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import WriteError
from fleet_iot.generator.output import writer

FILES = {f"plant_{number:02d}/{name}": f"{name} of {number}".encode() for number in range(3) for name in ("a", "b")}


def sha(content: bytes) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(content).hexdigest()


def test_staged_files_are_written_once(tmp_path: Path) -> None:
    """The tree holds every file, with the hash that staging told; a second run finds nothing to write."""
    for written in (tuple(sorted(FILES)), ()):
        with writer.opened(tmp_path), writer.staging(tmp_path) as stage:
            for path, content in FILES.items():
                assert sha(content) == stage.add(path, iter((content[:3], content[3:])))
            assert written == stage.commit(removing=()).written
    assert sorted(FILES) == sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("?"))


def test_hash_is_that_of_the_staged_file() -> None:
    """`--check` hashes what `generate` would write."""
    assert sha(b"abc") == writer.hash_chunks("any", (b"a", b"bc"))


def test_fault_while_a_file_is_made_leaves_nothing(tmp_path: Path) -> None:
    """Files that were staged before the fault are removed too."""

    def failing() -> Iterator[bytes]:
        yield b"a"
        raise ZeroDivisionError

    def stage_both() -> None:
        with writer.opened(tmp_path), writer.staging(tmp_path) as stage:
            stage.add("plant/a", (b"a",))
            stage.add("plant/b", failing())

    with pytest.raises(ZeroDivisionError):
        stage_both()
    assert [] == list(tmp_path.iterdir())


def test_tree_is_written_by_one_run_at_a_time(tmp_path: Path) -> None:
    """A second one is refused, and may go on once the first has ended."""
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(WriteError, match="another"), writer.opened(tmp_path):
        pass
    os.close(handle)
    with writer.opened(tmp_path):
        pass
