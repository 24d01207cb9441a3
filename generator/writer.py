"""Writes the generated tree whole, or not at all.

New files are staged beside the tree, then an intent record lists every move, then the moves are made. A run that
was cut off before the record has changed nothing and is undone; one that was cut off after it is finished by the
next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from generator.artefact import Artefact, Chunk
from generator.diagnostics import WriteError

STAGING = ".staging"
_INTENT = "intent.json"
_FILES = "files"
WORKERS = min(4, os.cpu_count() or 1)
"""Hashing and writing leave the interpreter to others, so that another thread makes the next bytes meanwhile."""
UNIT_BYTES = 65_536
"""What is worth leaving the interpreter for: smaller pieces are gathered until they are as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a write did: paths below the output folder."""

    written: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Nothing was different."""
        return not self.written and not self.removed


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """The tree at `root` for this process alone, with an interrupted write finished or undone first."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _write_error(root, error) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WriteError(
                f"another `fleet generate` is writing {root}", hint="wait until it is done, and run again"
            ) from None
        _guarded(root, _recover)
        yield
    finally:
        os.close(handle)


def hash_of(root: Path, path: str) -> str | None:
    """SHA-256 of a file of the tree; None where there is none."""
    target = _target(root, path)
    try:
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _write_error(target, error) from None


def read(root: Path, path: str) -> bytes | None:
    """The bytes of a file of the tree; None where there is none."""
    try:
        return _target(root, path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _write_error(root / path, error) from None


@contextmanager
def staging(root: Path) -> Iterator[Staging]:
    """A place for new files; nothing of it stays unless `Staging.commit` has written its intent."""
    stage = Staging(root)
    try:
        yield stage
    except BaseException:
        if not (root / STAGING / _INTENT).exists():
            shutil.rmtree(root / STAGING, ignore_errors=True)
        raise


class Staging:
    """New files on their way into the tree."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._staged: list[str] = []
        self._is_new: dict[Path, bool] = {}

    def add_all(self, artefacts: Iterable[Artefact]) -> dict[str, str]:
        """Stages files, several at a time, and gives the SHA-256 of each by its path."""
        return _of_each(artefacts, self.add)

    def add(self, artefact: Artefact) -> str:
        """Stages a file and gives its SHA-256; one that is in the tree already is not staged."""
        staged = self._root / STAGING / _FILES / artefact.path
        digest = hashlib.sha256()
        try:
            is_new = self._opened_folder(staged.parent, artefact.path)
            with staged.open("wb") as file:
                for unit in _units(artefact):
                    digest.update(unit)
                    file.write(unit)
        except OSError as error:
            raise _write_error(staged, error) from None
        sha = digest.hexdigest()
        if not is_new and sha == hash_of(self._root, artefact.path):
            staged.unlink()
        else:
            self._staged.append(artefact.path)
        return sha

    def _opened_folder(self, folder: Path, path: str) -> bool:
        """Makes the folder where a file is staged; tells whether the tree has none for it yet."""
        if folder not in self._is_new:
            folder.mkdir(parents=True, exist_ok=True)
            self._is_new[folder] = not _folder(self._root, path).exists()
        return self._is_new[folder]

    def commit(self, *, removing: Iterable[str]) -> Change:
        """Moves what is staged into the tree and removes files from it; once the intent stands, nothing undoes it."""
        change = Change(written=tuple(sorted(self._staged)), removed=tuple(sorted(removing)))
        _guarded(self._root, lambda root: _commit(root, change))
        return change


def hash_all(artefacts: Iterable[Artefact]) -> dict[str, str]:
    """The SHA-256 of each file by its path, as it would be written."""
    return _of_each(artefacts, _hash_artefact)


def _hash_artefact(artefact: Artefact) -> str:
    digest = hashlib.sha256()
    for unit in _units(artefact):
        digest.update(unit)
    return digest.hexdigest()


def _units(artefact: Artefact) -> Iterator[Chunk]:
    """A file's bytes in pieces worth leaving the interpreter for; a piece holds until the next is asked for."""
    gathered: list[bytes] = []
    size = 0
    for chunk in artefact.chunks():
        if size + len(chunk) >= UNIT_BYTES:
            if gathered:
                yield b"".join(gathered)
                gathered, size = [], 0
            yield chunk
        else:
            gathered.append(bytes(chunk))
            size += len(chunk)
    if gathered:
        yield b"".join(gathered)


def _of_each(artefacts: Iterable[Artefact], sha_of: Callable[[Artefact], str]) -> dict[str, str]:
    """The SHA-256 of each artefact by its path, worked out several at a time.

    Where one fails, no other is begun, and the fault is that of the first in order, whichever thread was faster: all
    before it were begun before it, and are finished.
    """
    pending = iter(tuple(enumerate(artefacts)))
    failed: list[tuple[int, BaseException]] = []

    def work() -> dict[str, str]:
        shas = {}
        for place, artefact in pending:
            try:
                shas[artefact.path] = sha_of(artefact)
            except BaseException as error:
                failed.append((place, error))
                deque(pending, maxlen=0)
        return shas

    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(work) for _ in range(WORKERS)]
        try:
            shas = {path: sha for worker in workers for path, sha in worker.result().items()}
        finally:
            deque(pending, maxlen=0)
    if failed:
        raise min(failed, key=lambda failure: failure[0])[1]
    return shas


def _commit(root: Path, change: Change) -> None:
    if not change.is_empty:
        _by_folder(root, (*change.written, *change.removed))
        stage = root / STAGING
        stage.mkdir(exist_ok=True)
        draft = stage / f"{_INTENT}.draft"
        with draft.open("w", encoding="ascii") as file:
            json.dump({"written": change.written, "removed": change.removed}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(stage / _INTENT)
    _recover(root)


def _recover(root: Path) -> None:
    stage = root / STAGING
    with suppress(FileNotFoundError):
        intent = json.loads((stage / _INTENT).read_text("ascii"))
        for folder, paths in _by_folder(root, intent["written"]).items():
            _move(root, stage / _FILES, folder, paths)
        for path in intent["removed"]:
            _target(root, path).unlink(missing_ok=True)
            _remove_empty(root, (root / path).parent)
        (stage / _INTENT).unlink()
    if stage.exists():
        shutil.rmtree(stage)


def _move(root: Path, staged: Path, folder: Path, paths: list[str]) -> None:
    """Moves files into a folder of the tree: all at once where there is no such folder yet.

    An interrupted write may have moved any of them already.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (staged / folder.relative_to(root)).rename(folder)
            return
        folder.mkdir()
    for path in paths:
        with suppress(FileNotFoundError):
            (staged / path).replace(root / path)


def _remove_empty(root: Path, folder: Path) -> None:
    if folder == root or not folder.exists() or any(child.name != "__pycache__" for child in folder.iterdir()):
        return
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    folder.rmdir()


def _target(root: Path, path: str) -> Path:
    """The place of a file in the tree; refuses links, which could lead out of it."""
    place = str(root)
    for part in path.split("/"):
        place = f"{place}/{part}"
        if part in ("", ".", "..") or os.path.islink(place):  # noqa: PTH114 - a path object each is slow
            raise WriteError(
                f"{place} leads out of the generated tree", hint="replace the link by a real folder or file"
            )
    return Path(place)


def _by_folder(root: Path, paths: Iterable[str]) -> dict[Path, list[str]]:
    """Files of the tree by their folder; refuses links, which a folder that is not there yet cannot hold."""
    by_name: dict[str, list[str]] = {}
    for path in paths:
        by_name.setdefault(path.rpartition("/")[0], []).append(path)
    folders = {_folder(root, files[0]): files for files in by_name.values()}
    for folder, files in folders.items():
        if folder.exists():
            for path in files:
                _target(root, path)
    return folders


def _folder(root: Path, path: str) -> Path:
    """The folder of a file of the tree."""
    folder, _, _ = path.rpartition("/")
    return _target(root, folder) if folder else root


def _guarded(root: Path, action: Callable[[Path], None]) -> None:
    try:
        action(root)
    except OSError as error:
        raise _write_error(root, error) from None


def _write_error(path: Path, error: OSError) -> WriteError:
    reason = (error.strerror or str(error)).lower()
    return WriteError(
        f"{error.filename or path} cannot be read or written: {reason}", hint="check its rights and the disk"
    )
