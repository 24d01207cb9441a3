"""The writer's threads: what they find does not depend on which of them is faster."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable

import pytest

from generator.artefact import Artefact
from generator.diagnostics import GateError
from generator.writer import hash_all


def artefact(path: str, *, fails_after: threading.Event | None = None, says: threading.Event | None = None) -> Artefact:
    def chunks() -> Iterable[bytes]:
        if says is not None:
            says.set()
            raise GateError(f"{path} fails")
        if fails_after is not None:
            fails_after.wait(5)
            raise GateError(f"{path} fails")
        yield path.encode()

    return Artefact(path=path, chunks=chunks)


def test_every_file_is_hashed() -> None:
    """The hashes are those of the bytes, by path, for more files than there are threads."""
    paths = [f"file-{number}" for number in range(50)]
    expected = {path: hashlib.sha256(path.encode()).hexdigest() for path in paths}
    assert expected == hash_all(artefact(path) for path in paths)


def test_the_first_fault_in_order_is_told() -> None:
    """A fault that is found later, in a file that comes earlier, is the one that people see."""
    later = threading.Event()
    files = [artefact("a"), artefact("b", fails_after=later), artefact("c", says=later), artefact("d")]
    with pytest.raises(GateError, match="b fails"):
        hash_all(files)
