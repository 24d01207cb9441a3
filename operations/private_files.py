"""Read and write files that only their owner can access, from their creation on, and never through a link."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.storage import located

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC


def inside(folder: Path, name: str) -> Path:
    """Return the path of this name in the folder. Raises EnvironmentFault for a name that leads out of it."""
    if not _NAME.fullmatch(name):
        raise EnvironmentFault(
            f"{name!r} is no name of a file in {folder}",
            hint="ids and environment suffixes are letters, digits and hyphens",
        )
    return folder / name


def make_private_folder(folder: Path) -> None:
    """Create the folder with mode 0700, or check that it has it. Raises EnvironmentFault where others have access."""
    with located(folder):
        with suppress(FileExistsError):
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
        found, above = folder.stat(), folder.parent.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise EnvironmentFault(f"{folder} is no folder", hint="move it away")
    _refuse_others(folder, found)
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise EnvironmentFault(
            f"everybody may write to {folder.parent}, and put another folder in the place of {folder}",
            hint=f"chmod o-w {folder.parent}",
        )


def open_private(path: Path, flags: int) -> int:
    """Open the file and return its descriptor; one that `flags` create has mode 0600.

    Raises EnvironmentFault for a link, for anything but a regular file, and for a file that others own or may read.
    """
    with located(path):
        # Without O_NONBLOCK, opening a pipe would wait; for a regular file it changes nothing.
        descriptor = os.open(path, flags | _SAFE | os.O_NONBLOCK, 0o600)
    found = os.fstat(descriptor)
    try:
        if not stat.S_ISREG(found.st_mode):
            raise EnvironmentFault(f"{path} is no regular file", hint="move it away")
        _refuse_others(path, found)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(path: Path) -> bytes | None:
    """Read the whole file; None where there is none. Raises EnvironmentFault as `open_private` does."""
    if not os.path.lexists(path):
        return None
    with located(path), os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        return file.read()


def write_private(path: Path, content: str | bytes) -> None:
    """Replace the file, whole or not at all; the temporary name cannot be guessed."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with located(path):
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
            _sync_folder(path.parent)
        finally:
            staged.unlink(missing_ok=True)


def _refuse_others(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise EnvironmentFault(f"{path} belongs to another user ({found.st_uid})", hint="make one of your own")
    if found.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise EnvironmentFault(
            f"other users can access {path} (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"chmod {mode} {path}; if somebody may have, rotate the devices",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot: https://man7.org/linux/man-pages/man2/fsync.2.html
            raise
    finally:
        os.close(descriptor)
