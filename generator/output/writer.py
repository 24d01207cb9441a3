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

from fleet_iot.generator.diagnostics import StaleError, WriteError
from fleet_iot.generator.naming import OUTPUT_FOLDER
from fleet_iot.generator.output.artefact import Artefact
from fleet_iot.generator.output.tree import by_folder, guarded, hash_of, is_there, target_of, write_error
from fleet_iot.generator.output.workers import merged

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
    _refuse_links(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(root, error) from None
    with _locked(root, fcntl.LOCK_EX):
        for place in (_INTENT, f"{_INTENT}.draft", _FILES):
            is_there(root, f"{STAGING}/{place}")  # refuses links: what is staged is written and moved through them
        guarded(root, _recover)
        yield


@contextmanager
def observed(root: Path) -> Iterator[None]:
    """The tree at `root` while nobody writes it; changes nothing. Raises `StaleError` at an interrupted write."""
    _refuse_links(root)
    if not os.path.lexists(root):
        yield
        return
    with _locked(root, fcntl.LOCK_SH):
        if is_there(root, STAGING):
            raise StaleError(
                f"{OUTPUT_FOLDER} is not what the manifest says: a write was interrupted", hint="run: fleet generate"
            )
        yield


def _refuse_links(root: Path) -> None:
    """The tree is where it is said to be: `lib` and `lib/facilities` are folders of the project."""
    project = root.parents[1]
    is_there(project, root.relative_to(project).as_posix())


@contextmanager
def _locked(root: Path, kind: int) -> Iterator[None]:
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise write_error(root, error) from None
    try:
        if not _is_locked(handle, kind):
            raise WriteError(f"another `fleet generate` is writing {root}", hint="wait until it is done, and run again")
        yield
    finally:
        os.close(handle)


def _is_locked(handle: int, kind: int) -> bool:
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
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
        self._files = f"{root}/{STAGING}/{_FILES}"
        self._paths: list[str] = []
        self._is_new: dict[str, bool] = {}

    def add_all(self, artefacts: Iterable[Artefact]) -> dict[str, str]:
        """Stages files and gives the SHA-256 of each by its path; one that is in the tree already is not staged."""
        shas = _of_each(artefacts, self._stage)
        self._paths += shas
        return shas

    def _stage(self, artefact: Artefact) -> str:
        staged = f"{self._files}/{artefact.path}"
        digest = hashlib.sha256()
        try:
            is_new = self._opened_folder(artefact.path.rpartition("/")[0])
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

    def _opened_folder(self, folder: str) -> bool:
        """Makes the folder where files are staged; tells whether the tree has none for them yet."""
        if folder not in self._is_new:
            Path(f"{self._files}/{folder}").mkdir(parents=True, exist_ok=True)
            self._is_new[folder] = not is_there(self._root, folder)
        return self._is_new[folder]

    def commit(self, *, removing: Iterable[str]) -> Change:
        """Moves what is staged into the tree and removes files from it; once the intent stands, nothing undoes it."""
        written: list[str] = []
        for folder, paths in by_folder(self._paths).items():
            is_new = not is_there(self._root, folder)
            written += (path for path in paths if is_new or Path(f"{self._files}/{path}").exists())
        change = Change(written=tuple(sorted(written)), removed=tuple(sorted(removing)))
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


def _commit(root: Path, change: Change) -> None:
    if not change.is_empty:
        for folder, paths in by_folder((*change.written, *change.removed)).items():
            if is_there(root, folder):
                for path in paths:
                    target_of(root, path)
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
    """Does what an intent says; an interrupted write may have done any part of it already."""
    with suppress(FileNotFoundError):
        intent = _read_intent(root)
        for folder, paths in by_folder(intent["written"]).items():
            _move(root, folder, paths)
        for path in intent["removed"]:
            target_of(root, path).unlink(missing_ok=True)
            _remove_empty(root, (root / path).parent)
        (root / STAGING / _INTENT).unlink()
    if (root / STAGING).exists():
        shutil.rmtree(root / STAGING)


def _read_intent(root: Path) -> dict[str, list[str]]:
    try:
        content = json.loads((root / STAGING / _INTENT).read_text("ascii"))
        if all(isinstance(path, str) for kind in ("written", "removed") for path in content[kind]):
            return {kind: content[kind] for kind in ("written", "removed")}
    except (ValueError, KeyError, TypeError):
        pass
    raise WriteError(f"{root / STAGING / _INTENT} is no record of a write", hint=f"delete {root / STAGING}")


def _move(root: Path, folder: str, paths: list[str]) -> None:
    """Moves files into a folder of the tree: all at once where there is no such folder yet."""
    staged = f"{root}/{STAGING}/{_FILES}"
    if not is_there(root, folder):
        if "/" in folder:
            (root / folder).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.rename(f"{staged}/{folder}", f"{root}/{folder}")  # noqa: PTH104 - a path object each is slow
        return
    for path in paths:
        with suppress(FileNotFoundError):
            os.replace(f"{staged}/{path}", target_of(root, path))  # noqa: PTH105 - a path object each is slow


def _remove_empty(root: Path, folder: Path) -> None:
    if folder == root or not folder.exists() or any(child.name != "__pycache__" for child in folder.iterdir()):
        return
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    folder.rmdir()
