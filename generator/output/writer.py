"""Reads the generated tree, and writes it whole or not at all.

New files are staged beside the tree, then an intent record lists every move, then the moves are made. A run that was
cut off before the record has changed nothing and is undone; one that was cut off after it is finished by the next run.
Links are refused, which could lead out of the tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import StaleError, WriteError
from fleet_iot.lib.record.place import name_of


def hashes(root: Path) -> Callable[[str], str | None]:
    """Return the SHA-256 of one file after the other, as `hash_of` does; looks once for a folder that is not there."""
    known: dict[str, bool] = {}

    def find(path: str) -> str | None:
        folder = path.rpartition("/")[0]
        if folder not in known:
            known[folder] = is_there(root, folder)
        return hash_of(root, path) if known[folder] else None

    return find


def hash_of(root: Path, path: str) -> str | None:
    """Return the SHA-256 of a file of the tree; None where there is none."""
    target = file_of(root, path)
    try:
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise write_error(target, error) from None


def read(root: Path, path: str) -> bytes | None:
    """Return the bytes of a file of the tree; None where there is none."""
    try:
        return file_of(root, path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise write_error(root / path, error) from None


def file_of(root: Path, path: str) -> Path:
    """Return the path of a file to read; refuses links, pipes and devices."""
    target = target_of(root, path)
    if target.exists() and not target.is_file():
        raise WriteError(f"{target} is no file", hint="move or delete it")
    return target


def target_of(root: Path, path: str) -> Path:
    """Return the place of a file in the tree; refuses links, which could lead out of it."""
    is_there(root, path)
    return root / path


def is_there(root: Path, path: str) -> bool:
    """Return whether the tree has a file or folder; refuses links."""
    place, mode = str(root), 1
    for part in path.split("/") if path else ():
        place = f"{place}/{part}"
        try:
            mode = os.lstat(place).st_mode if mode else 0
        except (FileNotFoundError, NotADirectoryError):
            mode = 0
        if part in ("", ".", "..") or stat.S_ISLNK(mode):
            raise WriteError(
                f"{place} leads out of the generated tree", hint="replace the link by a real folder or file"
            )
    return mode != 0


def unknown(root: Path, known: Collection[str]) -> list[str]:
    """List files and links of the tree that are not `known`, except Python's caches."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name != "__pycache__"]
        links = [name for name in names if Path(folder, name).is_symlink()]
        found += [Path(folder, name).relative_to(root).as_posix() for name in (*links, *files)]
    return sorted(path for path in found if path not in known)


def has_other_line_ends(root: Path, path: str, sha: str) -> bool:
    """Return whether a file has the content of this SHA-256 but for its line ends, as some checkouts make them."""
    content = read(root, path)
    return content is not None and hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == sha


def by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Group paths by their folder."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    return folders


def guarded(root: Path, action: Callable[[Path], None]) -> None:
    """Run an action on the tree, and raise its `OSError` as a `WriteError`."""
    try:
        action(root)
    except OSError as error:
        raise write_error(root, error) from None


def write_error(path: Path, error: OSError) -> WriteError:
    """Return the error for an `OSError`."""
    reason = (error.strerror or str(error)).lower()
    return WriteError(
        f"{error.filename or path} cannot be read or written: {reason}", hint="check its rights and the disk"
    )


STAGING = ".staging"
_INTENT = "intent.json"
_FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Paths, below the output folder, that a write changed."""

    written: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Nothing was different."""
        return not self.written and not self.removed


@contextmanager
def opened(root: Path) -> Iterator[None]:
    """Lock the tree at `root` for writing, after an interrupted write is finished or undone."""
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
    """Lock the tree at `root` for reading. Raises `StaleError` after an interrupted write."""
    _refuse_links(root)
    if not os.path.lexists(root):
        yield
        return
    with _locked(root, fcntl.LOCK_SH):
        if is_there(root, STAGING):
            raise StaleError(
                f"{name_of(root)} is not what the manifest says: a write was interrupted", hint="run: fleet generate"
            )
        yield


def _refuse_links(root: Path) -> None:
    """Raise where a link leads elsewhere: the record's folder and those above it are folders of the project."""
    name = name_of(root)
    is_there(root.parents[name.count("/")], name)


@contextmanager
def _locked(root: Path, kind: int) -> Iterator[None]:
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise write_error(root, error) from None
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError:
            hint = "wait until it is done, and run again"
            raise WriteError(f"another `fleet generate` is writing {root}", hint=hint) from None
        yield
    finally:
        os.close(handle)


@contextmanager
def staging(root: Path) -> Iterator[Staging]:
    """Open a staging area for new files, removed unless `Staging.commit` has written its intent."""
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

    def add(self, path: str, chunks: Iterable[bytes]) -> str:
        """Stage a file and return its SHA-256; one that is in the tree already is not kept."""
        staged = f"{self._files}/{path}"
        digest = hashlib.sha256()
        try:
            is_new = self._opened_folder(path.rpartition("/")[0])
            with open(staged, "wb") as file:  # noqa: PTH123 - a path object each is slow
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            sha = digest.hexdigest()
            if not is_new and sha == hash_of(self._root, path):
                Path(staged).unlink()
        except OSError as error:
            raise write_error(Path(staged), error) from None
        self._paths.append(path)
        return sha

    def _opened_folder(self, folder: str) -> bool:
        """Make a staging folder; return whether the tree does not have the folder yet."""
        if folder not in self._is_new:
            Path(f"{self._files}/{folder}").mkdir(parents=True, exist_ok=True)
            self._is_new[folder] = not is_there(self._root, folder)
        return self._is_new[folder]

    def commit(self, *, removing: Iterable[str]) -> Change:
        """Move staged files into the tree and remove others; an interrupted commit is completed by the next run."""
        written: list[str] = []
        for folder, paths in by_folder(self._paths).items():
            is_new = not is_there(self._root, folder)
            written += (path for path in paths if is_new or Path(f"{self._files}/{path}").exists())
        change = Change(written=tuple(sorted(written)), removed=tuple(sorted(removing)))
        guarded(self._root, lambda root: _commit(root, change))
        return change


def hash_chunks(_: str, chunks: Iterable[bytes]) -> str:
    """Return the SHA-256 of a file as it would be staged."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


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
    """Carry out an intent, any part of which an interrupted write may have done already."""
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
    """Move files into a folder of the tree: all at once where there is no such folder yet."""
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
