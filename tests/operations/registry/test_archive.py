"""Archives: the same bytes for the same files, names that stay inside, nothing there before its end, little memory."""

from __future__ import annotations

import gc
import hashlib
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from fleet_iot.operations.registry.bundle import PRIVATE, Archive
from fleet_iot.operations.storage import whole


def write(path: Path, files: dict[str, bytes]) -> Archive:
    with whole(path) as file:
        archive = Archive(file)
        for name, content in files.items():
            archive.add(name, content, mode=PRIVATE)
        archive.close()
    return archive


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """At another time, under another name; size and checksum are the file's."""
    files = {"a/b": b"1" * 5_000, "a/c": b""}
    first = write(tmp_path / "first.tar.gz", files)
    second = write(tmp_path / "second.tar.gz", files)
    content = (tmp_path / "first.tar.gz").read_bytes()
    assert content == (tmp_path / "second.tar.gz").read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (first.sha256, first.size)
    assert first.sha256 == second.sha256
    assert bytes(5) == content[3:8], "neither a name nor a time is in gzip's header"
    with tarfile.open(tmp_path / "first.tar.gz") as packed:
        members = packed.getmembers()
        found = {each.name: packed.extractfile(each).read() for each in members}  # type: ignore[union-attr]
    assert files == found
    assert {(0, 0, 0, "", PRIVATE)} == {(each.mtime, each.uid, each.gid, each.uname, each.mode) for each in members}


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a//b", "./a", "a/"])
def test_no_name_leads_out(name: str) -> None:
    """Of the folder in which the archive is unpacked."""
    archive = Archive(io.BytesIO())
    with pytest.raises(ValueError, match="is no name in an archive"):
        archive.add(name, b"")


def test_an_interrupted_archive_is_not_there(tmp_path: Path) -> None:
    """Neither under its name nor under its passing one; an older one stays as it was."""
    path = tmp_path / "a.tar.gz"

    def interrupted() -> None:
        with whole(path) as file:
            Archive(file).add("a", b"1")
            assert 2 - (not path.exists()) == len(list(tmp_path.iterdir()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [] == list(tmp_path.iterdir())
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ([path], b"older") == (list(tmp_path.iterdir()), path.read_bytes())


@pytest.mark.slow
def test_many_files_cost_no_memory(tmp_path: Path) -> None:
    """The library's own keeping of every entry is undone."""
    with whole(tmp_path / "many.tar.gz") as file:
        archive = Archive(file)
        archive.add("0", b"")
        tracemalloc.start()
        for number in range(1, 5_000):
            archive.add(str(number), b"")
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        archive.close()
    assert grown < 500_000
