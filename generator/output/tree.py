"""The generated tree as it lies on the disk: the places of its files, their bytes and hashes. Links are refused."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from fleet_iot.generator.diagnostics import WriteError


def hashes(root: Path) -> Callable[[str], str | None]:
    """Gives the SHA-256 of one file after the other, as `hash_of` does; looks once for a folder that is not there."""
    known: dict[str, bool] = {}

    def find(path: str) -> str | None:
        folder = path.rpartition("/")[0]
        if folder not in known:
            known[folder] = is_there(root, folder)
        return hash_of(root, path) if known[folder] else None

    return find


def hash_of(root: Path, path: str) -> str | None:
    """SHA-256 of a file of the tree; None where there is none."""
    target = file_of(root, path)
    try:
        with target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise write_error(target, error) from None


def read(root: Path, path: str) -> bytes | None:
    """The bytes of a file of the tree; None where there is none."""
    try:
        return file_of(root, path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise write_error(root / path, error) from None


def file_of(root: Path, path: str) -> Path:
    """The place of a file in the tree, to be read; refuses links, and pipes and devices, which may have no end."""
    target = target_of(root, path)
    if target.exists() and not target.is_file():
        raise WriteError(f"{target} is no file", hint="move or delete it")
    return target


def target_of(root: Path, path: str) -> Path:
    """The place of a file in the tree; refuses links, which could lead out of it."""
    is_there(root, path)
    return root / path


def is_there(root: Path, path: str) -> bool:
    """Whether the tree has a file or a folder; refuses links."""
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
    """Files and links of the tree that are none of `known`; caches of whoever imports it do not count."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name != "__pycache__"]
        links = [name for name in names if Path(folder, name).is_symlink()]
        found += [Path(folder, name).relative_to(root).as_posix() for name in (*links, *files)]
    return sorted(path for path in found if path not in known)


def has_other_line_ends(root: Path, path: str, sha: str) -> bool:
    """Whether a file has the content of this SHA-256 but for its line ends, as some checkouts make them."""
    content = read(root, path)
    return content is not None and hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == sha


def by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    """Files of the tree by their folder."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    return folders


def guarded(root: Path, action: Callable[[Path], None]) -> None:
    """Does something to the tree, and tells what the disk refuses as a `WriteError`."""
    try:
        action(root)
    except OSError as error:
        raise write_error(root, error) from None


def write_error(path: Path, error: OSError) -> WriteError:
    """What to raise where the disk refuses something."""
    reason = (error.strerror or str(error)).lower()
    return WriteError(
        f"{error.filename or path} cannot be read or written: {reason}", hint="check its rights and the disk"
    )
