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
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from generator.artefact import Artefact
from generator.diagnostics import WriteError
from generator.tree import by_folder, folder_of, guarded, hash_of, target_of, write_error
from generator.workers import merged

STAGING = ".staging"
_INTENT = "intent.json"
_FILES = "files"
_WAIT_S = 2.0
"""How long a lock is waited for: a worker of a run that was killed keeps it until its file is done."""


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
        raise write_error(root, error) from None
    try:
        if not _is_locked(handle):
            raise WriteError(f"another `fleet generate` is writing {root}", hint="wait until it is done, and run again")
        guarded(root, _recover)
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int) -> bool:
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True


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
        self._is_new: dict[str, bool] = {}

    def add_all(self, artefacts: Iterable[Artefact]) -> dict[str, str]:
        """Stages files and gives the SHA-256 of each by its path."""
        return _of_each(artefacts, self.add)

    def add(self, artefact: Artefact) -> str:
        """Stages a file and gives its SHA-256; one that is in the tree already is not staged."""
        staged = f"{self._root}/{STAGING}/{_FILES}/{artefact.path}"
        digest = hashlib.sha256()
        try:
            is_new = self._opened_folder(artefact.path)
            with open(staged, "wb") as file:  # noqa: PTH123 - a path object each is slow
                for chunk in artefact.chunks():
                    digest.update(chunk)
                    file.write(chunk)
        except OSError as error:
            raise write_error(Path(staged), error) from None
        sha = digest.hexdigest()
        if not is_new and sha == hash_of(self._root, artefact.path):
            Path(staged).unlink()
        return sha

    def _opened_folder(self, path: str) -> bool:
        """Makes the folder where a file is staged; tells whether the tree has none for it yet."""
        folder = path.rpartition("/")[0]
        if folder not in self._is_new:
            (self._root / STAGING / _FILES / folder).mkdir(parents=True, exist_ok=True)
            self._is_new[folder] = not folder_of(self._root, path).exists()
        return self._is_new[folder]

    def commit(self, *, removing: Iterable[str]) -> Change:
        """Moves what is staged into the tree and removes files from it; once the intent stands, nothing undoes it."""
        written = sorted(_files_below(self._root / STAGING / _FILES))
        change = Change(written=tuple(written), removed=tuple(sorted(removing)))
        guarded(self._root, lambda root: _commit(root, change))
        return change


def hash_all(artefacts: Iterable[Artefact]) -> dict[str, str]:
    """The SHA-256 of each file by its path, as it would be written."""
    return _of_each(artefacts, _hash_artefact)


def _hash_artefact(artefact: Artefact) -> str:
    digest = hashlib.sha256()
    for chunk in artefact.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def _of_each(artefacts: Iterable[Artefact], sha_of: Callable[[Artefact], str]) -> dict[str, str]:
    """The SHA-256 of each artefact by its path; where several fail, the first in order is told.

    Artefacts of one folder come one after the other, and share what they are made from: one worker makes them all.
    """
    folders = [tuple(files) for _, files in groupby(artefacts, key=lambda artefact: artefact.path.rpartition("/")[0])]
    return merged(folders, lambda files: {artefact.path: sha_of(artefact) for artefact in files})


def _files_below(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        within = parent[len(str(folder)) + 1 :]
        yield from (f"{within}/{name}" if within else name for name in names)


def _commit(root: Path, change: Change) -> None:
    folders = by_folder(root, change.written)
    for path in change.removed:
        target_of(root, path)
    if not change.is_empty:
        stage = root / STAGING
        stage.mkdir(exist_ok=True)
        draft = stage / f"{_INTENT}.draft"
        with draft.open("w", encoding="ascii") as file:
            json.dump({"written": change.written, "removed": change.removed}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(stage / _INTENT)
        _carry_out(root, folders, change.removed)
    _clear(root)


def _recover(root: Path) -> None:
    with suppress(FileNotFoundError):
        intent = json.loads((root / STAGING / _INTENT).read_text("ascii"))
        _carry_out(root, by_folder(root, intent["written"]), intent["removed"])
    _clear(root)


def _carry_out(root: Path, written: dict[Path, list[str]], removed: Iterable[str]) -> None:
    """Does what the intent says; an interrupted write may have done any part of it already."""
    for folder, paths in written.items():
        _move(root, root / STAGING / _FILES, folder, paths)
    for path in removed:
        target_of(root, path).unlink(missing_ok=True)
        _remove_empty(root, (root / path).parent)
    (root / STAGING / _INTENT).unlink()


def _clear(root: Path) -> None:
    if (root / STAGING).exists():
        shutil.rmtree(root / STAGING)


def _move(root: Path, staged: Path, folder: Path, paths: list[str]) -> None:
    """Moves files into a folder of the tree: all at once where there is no such folder yet."""
    if not folder.exists():
        if folder.parent != root:
            folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (staged / folder.relative_to(root)).rename(folder)
        return
    for path in paths:
        with suppress(FileNotFoundError):
            (staged / path).replace(root / path)


def _remove_empty(root: Path, folder: Path) -> None:
    if folder == root or not folder.exists() or any(child.name != "__pycache__" for child in folder.iterdir()):
        return
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    folder.rmdir()
