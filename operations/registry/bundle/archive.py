"""Writes an archive (tar, gzip) as a stream: the same files give the same bytes, and none is there before its end."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PUBLIC, PRIVATE = 0o644, 0o600
_OUTSIDE = frozenset(("", ".", ".."))
"""Parts of a name that lead elsewhere than into a folder."""


class Archive:
    """An archive that is being written; `sha256` and `size` are those of the whole once it is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._hashed = _Hashed(file)
        # Neither name nor time in gzip's header.
        self._gzip = gzip.GzipFile(filename="", mode="wb", fileobj=self._hashed, mtime=0, compresslevel=6)
        self._tar = tarfile.open(mode="w", fileobj=self._gzip, format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - see close
        self.sha256 = ""
        self.size = 0

    def add(self, name: str, content: bytes, *, mode: int = PUBLIC) -> None:
        """One file."""
        self.add_stream(name, io.BytesIO(content), size=len(content), mode=mode)

    def add_stream(self, name: str, content: IO[bytes], *, size: int, mode: int = PUBLIC) -> None:
        """One file of `size` bytes. Raises ValueError for a name that leads out of the folder where it is unpacked."""
        if not _OUTSIDE.isdisjoint(name.split("/")):
            raise ValueError(f"{name!r} is no name in an archive")
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, mode
        self._tar.addfile(entry, content)
        self._tar.getmembers().clear()  # it keeps every entry, which is 100 MB for 100,000 files

    def close(self) -> None:
        """Ends the archive."""
        self._tar.close()
        self._gzip.close()
        self.sha256, self.size = self._hashed.digest.hexdigest(), self._hashed.size


class _Hashed(io.RawIOBase):
    """A file that is hashed and counted as it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        view = memoryview(content)  # type: ignore[arg-type]
        self.digest.update(view)
        self._file.write(view)
        self.size += view.nbytes
        return view.nbytes


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file under a passing name, readable by its owner alone; at `path` once the context has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.part")
    staged.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
