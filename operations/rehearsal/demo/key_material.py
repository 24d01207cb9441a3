"""Searches files for private keys: a PEM private-key block with a body, or a PKCS #8 field that holds one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

# The body may follow a real line break or one escaped in JSON. A bare header, as in this pattern, is no key.
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
    rb"(?:\s|\\r|\\n)*(?:[A-Za-z-]+: [^\n\\]*(?:\\n|\n))*(?:\s|\\r|\\n)*"
    rb"[A-Za-z0-9+/=]{16,}"
)


def holds_private_key(content: bytes) -> bool:
    """Whether a private key is anywhere in `content`."""
    return _PRIVATE_KEY.search(content) is not None


def files_with_private_keys(paths: Iterable[Path]) -> list[Path]:
    """The files among `paths` (folders are searched whole) that hold a private key."""
    found = []
    for path in paths:
        files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        found += [file for file in files if not file.is_symlink() and holds_private_key(file.read_bytes())]
    return sorted(found)


def tracked_files(root: Path) -> list[Path]:
    """What git tracks in the project; nothing where the project is no git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    return [root / name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file()]
