"""Store devices' private keys sealed: one file a facility, each key bound to its thing's name.

The passphrase is stretched once a store (scrypt); each key is sealed with AES-256-GCM, the thing's name as associated
data, so that a key moved to another thing's line does not open. Files are 0600, the folder 0700.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.project import Project
from fleet_iot.operations.storage import (
    exclusive,
    inside,
    located,
    make_private_folder,
    open_private,
    read_private,
    write_private,
)

HEADER = "store.json"

_SCRYPT = {"n": 2**17, "r": 8, "p": 1}
"""OWASP's minimum, about 0.4 s and 128 MB, once a command; a store keeps the cost that it was created with.
https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#scrypt"""
_MOST = {"n": 2**20, "r": 32, "p": 16}
"""A header with more was tampered with: it would exhaust memory."""
SHORTEST = 8
"""Characters of a store's passphrase: https://pages.nist.gov/800-63-3/sp800-63b.html#memsecretver. A copy
of the store can be attacked offline, so longer is better; an authority's store requires more."""
_NONCE_BYTES = 12
_CHECK_NAME = "store-check"


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as unencrypted PKCS #8 DER; for sealing and for memory only."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class KeyStore:
    """The keys of one environment's things in `folder`, opened with the passphrase that sealed them."""

    def __init__(self, folder: Path, passphrase: str, *, shortest: int | None = None) -> None:
        """Open the store, or found it. Raises EnvironmentFault for a wrong passphrase, a damaged store, or one that
        others get at, and for a new one's passphrase of fewer than `shortest` characters (8): then nothing is."""
        if not passphrase:
            raise EnvironmentFault("the key store needs a passphrase", hint="set FLEET_KEYS_PASSPHRASE")
        self._folder = folder
        self.passphrase_length = len(passphrase)
        shortest = shortest or SHORTEST
        if len(passphrase) < shortest and not os.path.lexists(folder / HEADER):
            raise EnvironmentFault(
                f"the key store's passphrase has fewer than {shortest} characters",
                hint="choose a longer one: short ones can be found from a copy of the store",
            )
        make_private_folder(folder)
        with exclusive(folder / "store.lock", opens=open_private):
            written = read_private(folder / HEADER)
            if written is None:
                self._found(passphrase)
                return
            header = _read_header(folder / HEADER, written)
            self._cipher = AESGCM(_stretch(passphrase, base64.b64decode(header["salt"]), header))
            try:
                self._open(_CHECK_NAME, header["check"])
            except InvalidTag:
                raise EnvironmentFault(
                    f"the passphrase does not open the key store {folder}",
                    hint="give the passphrase that the store was founded with",
                ) from None

    def _found(self, passphrase: str) -> None:
        salt = os.urandom(16)
        self._cipher = AESGCM(_stretch(passphrase, salt, _SCRYPT))
        founded: dict[str, object] = {
            "version": 1,
            "kdf": "scrypt",
            **_SCRYPT,
            "salt": base64.b64encode(salt).decode(),
            "check": self._seal(_CHECK_NAME, b"opens"),
        }
        write_private(self._folder / HEADER, json.dumps(founded, indent=2) + "\n")

    def names(self, facility: str) -> set[str]:
        """Return the names of the facility's things that have a key here."""
        return {name for name, _, _ in self._lines(facility)}

    def add(self, facility: str, keys: Iterable[tuple[str, ec.EllipticCurvePrivateKey]]) -> None:
        """Append sealed keys, on disk before it returns. A thing that has a key already keeps it."""
        with self.writing(facility) as writer:
            writer.append([self.sealed_line(name, key_bytes(key)) for name, key in keys if name not in writer.places])

    def replace(self, facility: str, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Give a thing another key, on disk before it returns; of a thing's lines the last one counts."""
        with self.writing(facility) as writer:
            writer.append([self.sealed_line(name, key_bytes(key))])

    @contextmanager
    def writing(self, facility: str) -> Iterator[KeyWriter]:
        """Open the facility's file for one writer: others wait until the context ends."""
        with exclusive(self._folder / "store.lock", opens=open_private):
            path = self._path(facility)
            places = {name: place for name, _, place in self._lines(facility)}
            with FileIO(open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "r+") as file:
                writer = KeyWriter(file, path, places)
                try:
                    yield writer
                except BaseException:
                    with suppress(OSError, EnvironmentFault):  # the first error is raised
                        writer.sync()
                    raise
                writer.sync()

    def reading(self, facility: str) -> KeyReader:
        """Return the lines of the things that have a key here, by name, as they are now."""
        return KeyReader(self._path(facility), {name: place for name, _, place in self._lines(facility)})

    def sealed_line(self, name: str, plain: bytes) -> bytes:
        """Return a thing's key, given as PKCS #8 DER, as a line of its facility's file."""
        return b'{"thing": %b, "sealed": "%b"}\n' % (json.dumps(name).encode(), self._seal(name, plain).encode())

    def opened(self, facility: str, line: bytes) -> ec.EllipticCurvePrivateKey:
        """Return the key in a line of the facility's file. Raises EnvironmentFault where it was tampered with."""
        row = json.loads(line)
        return self._opened(facility, row["thing"], row["sealed"])

    def keys(self, facility: str, names: set[str]) -> Iterator[tuple[str, ec.EllipticCurvePrivateKey]]:
        """Yield the opened keys of the named things. Raises EnvironmentFault for one that was tampered with."""
        for name, sealed, _ in self._lines(facility):
            if name in names:
                yield name, self._opened(facility, name, sealed)

    def _opened(self, facility: str, name: str, sealed: str) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_der_private_key(self._open(name, sealed), password=None)
        except (InvalidTag, ValueError):
            raise EnvironmentFault(
                f"the key of {name} in {self._path(facility)} does not open: it was changed or moved",
                hint="restore the file from a backup, or remove that line and rotate the device",
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise EnvironmentFault(f"the key of {name} is not an elliptic-curve key")
        return key

    def _path(self, facility: str) -> Path:
        return inside(self._folder, f"{facility}.keys.jsonl")

    def _lines(self, facility: str) -> Iterator[tuple[str, str, int]]:
        """Read thing, sealed key, and where in the file the line begins."""
        path = self._path(facility)
        if not os.path.lexists(path):
            return
        place = 0
        with os.fdopen(open_private(path, os.O_RDONLY), "rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    yield row["thing"], row["sealed"], place
                except (ValueError, KeyError, TypeError):
                    pass  # half a line of a killed run: its thing has no key yet
                place += len(line)

    def _seal(self, name: str, plain: bytes) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, plain, name.encode())).decode()

    def _open(self, name: str, sealed: str) -> bytes:
        raw = base64.b64decode(sealed)
        return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], name.encode())


class KeyReader:
    """A facility's file as it was; `places` says where the line of each thing begins."""

    def __init__(self, path: Path, places: dict[str, int]) -> None:
        self.places = places
        self._path = path

    def line(self, name: str) -> bytes:
        """Return the line of a thing that has one; the file is only ever added to."""
        with os.fdopen(open_private(self._path, os.O_RDONLY), "rb") as file:
            file.seek(self.places[name])
            return file.readline()


class KeyWriter:
    """A facility's file while no other writes to it; `places` says where the line of each thing begins."""

    def __init__(self, file: FileIO, path: Path, places: dict[str, int]) -> None:
        self.places = places
        self._file = file
        self._path = path
        end = file.seek(0, os.SEEK_END)
        # A run killed in mid-write leaves half a line: end it, so that it spoils no other.
        self._is_torn = bool(end) and os.pread(file.fileno(), 1, end - 1) != b"\n"

    def line(self, name: str) -> bytes:
        """Return the line of a thing that has one."""
        self._file.seek(self.places[name])
        return self._file.readline()

    def append(self, lines: Iterable[bytes]) -> None:
        """Add lines; on disk after `sync`."""
        content = b"".join(lines)
        if content:
            remaining = memoryview(b"\n" * self._is_torn + content)
            self._is_torn = True  # until all of it is there
            with located(self._path):
                while remaining:
                    remaining = remaining[self._file.write(remaining) :]
            self._is_torn = False

    def sync(self) -> None:
        """Flush all to disk."""
        with located(self._path):
            os.fsync(self._file.fileno())


def _stretch(passphrase: str, salt: bytes, cost: Mapping[str, Any]) -> bytes:
    return Scrypt(salt=salt, length=32, **{name: int(cost[name]) for name in _SCRYPT}).derive(passphrase.encode())


def _read_header(path: Path, written: bytes) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(written)
        base64.b64decode(header["salt"])
        base64.b64decode(header["check"])
        if not all(1 <= int(header[name]) <= most for name, most in _MOST.items()):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise EnvironmentFault(f"{path} is damaged", hint="restore it from a backup") from None
    return header


LEDGER = "authority.sqlite"
"""The own authority's ledger, in the folder of the keys."""
CERTIFICATE, CRL = "ca.pem", "crl.pem"
"""Its certificate and its list of revoked ones, in `authority_folder`."""


def authority_folder(project: Project) -> Path:
    """Return the folder of the own authority's public files, all committed."""
    return inside(identities_folder(project), project.environment_suffix) / "ca"


def identities_folder(project: Project) -> Path:
    """Return `FLEET_IDENTITIES`, else `identities/` of the project."""
    return Path(os.environ.get("FLEET_IDENTITIES") or project.root / "identities")


def keys_folder(project: Project) -> Path:
    """Return the key store's folder, one an application and environment, below `FLEET_KEYS_DIR` or the home folder.
    Raises EnvironmentFault where it is inside the project or its repository: a commit or copy would contain the
    keys."""
    base = Path(os.environ.get("FLEET_KEYS_DIR") or Path.home() / ".fleet" / "keys")
    repository = _repository(project.root.resolve())
    if base.resolve().is_relative_to(repository):
        raise EnvironmentFault(
            f"the key store would lie in {base.resolve()}, inside the repository {repository}: keys never go there",
            hint="point FLEET_KEYS_DIR at a folder outside of it, or unset it (~/.fleet/keys)",
        )
    return inside(base, f"{project.fleet.application}-{project.environment_suffix}")


def _repository(root: Path) -> Path:
    """Return the working copy that contains the project, else the project's folder; a home folder under version control
    is none, or there would be no place for keys."""
    found = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    return root if Path.home().resolve().is_relative_to(found) else found


def ledgers_of(project: Project) -> list[Path]:
    """Return the ledgers of the application's own authorities on this machine, of all environments."""
    return sorted(keys_folder(project).parent.glob(f"{project.fleet.application}-*/{LEDGER}"))


def open_store(project: Project, *, founds: bool = False, shortest: int | None = None) -> KeyStore:
    """Return the key store, with the passphrase of `FLEET_KEYS_PASSPHRASE` or entered on a terminal.

    A command that makes keys `founds` it where there is none, with a passphrase of `shortest` characters (8); any
    other leaves nothing behind. Raises EnvironmentFault.
    """
    folder = keys_folder(project)
    if not founds and not os.path.lexists(folder / HEADER):
        raise EnvironmentFault(
            f"there is no key store in {folder}",
            hint="point FLEET_KEYS_DIR at the right folder; `fleet keys create` founds one",
        )
    passphrase = os.environ.get("FLEET_KEYS_PASSPHRASE")
    if not passphrase:
        if not sys.stdin.isatty():
            raise EnvironmentFault(
                "the key store needs a passphrase and there is no terminal to ask on", hint="set FLEET_KEYS_PASSPHRASE"
            )
        founded = (folder / HEADER).exists()
        passphrase = click.prompt("Key store passphrase", hide_input=True, confirmation_prompt=not founded, err=True)
    return KeyStore(folder, passphrase, shortest=shortest)
