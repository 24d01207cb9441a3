"""The sealed store of device private keys: one file a facility, each key bound to its thing's name.

The passphrase is stretched once a store (scrypt); each key is sealed with AES-256-GCM, the thing's name as
associated data, so that a key moved to another thing's line does not open. Files are 0600, the folder 0700.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from generator.diagnostics import EnvironmentFault

# RFC 7914's interactive cost, doubled: about 0.1 s and 32 MB, once a command.
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}
_NONCE_BYTES = 12
_CHECK_NAME = "store-check"


def key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 DER; for sealing and for memory only."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class KeyStore:
    """The keys of one environment's things in `folder`, opened with the passphrase that sealed them."""

    def __init__(self, folder: Path, passphrase: str) -> None:
        """Open the store, or found it. Raises EnvironmentFault for a wrong passphrase or a damaged store."""
        if not passphrase:
            raise EnvironmentFault("the key store needs a passphrase", hint="set FLEET_KEYS_PASSPHRASE")
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        header_path = folder / "store.json"
        with _locked(folder):
            if header_path.exists():
                header = _read_header(header_path)
                self._cipher = AESGCM(_stretch(passphrase, base64.b64decode(header["salt"])))
                try:
                    self._open(_CHECK_NAME, header["check"])
                except InvalidTag:
                    raise EnvironmentFault(
                        f"the passphrase does not open the key store {folder}",
                        hint="give the passphrase that the store was founded with",
                    ) from None
            else:
                salt = os.urandom(16)
                self._cipher = AESGCM(_stretch(passphrase, salt))
                founded: dict[str, object] = {
                    "version": 1,
                    "kdf": "scrypt",
                    **_SCRYPT,
                    "salt": base64.b64encode(salt).decode(),
                    "check": self._seal(_CHECK_NAME, b"opens"),
                }
                _write_private(header_path, json.dumps(founded, indent=2) + "\n")

    def names(self, facility: str) -> set[str]:
        """The names of the facility's things that have a key here."""
        return {name for name, _, _ in self._lines(facility)}

    def add(self, facility: str, keys: Iterable[tuple[str, ec.EllipticCurvePrivateKey]]) -> None:
        """Append sealed keys, on disk before it returns. A thing that has a key already keeps it."""
        with self.writing(facility) as writer:
            writer.append([self.sealed_line(name, key_bytes(key)) for name, key in keys if name not in writer.places])

    def replace(self, facility: str, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Another key for a thing, on disk before it returns; of a thing's lines the last one counts."""
        with self.writing(facility) as writer:
            writer.append([self.sealed_line(name, key_bytes(key))])

    @contextmanager
    def writing(self, facility: str) -> Iterator[KeyWriter]:
        """The store for one writer alone: who else would write waits until the context ends."""
        with _locked(self._folder):
            path = self._path(facility)
            places = {name: place for name, _, place in self._lines(facility)}
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with FileIO(descriptor, "r+") as file:
                writer = KeyWriter(file, places)
                try:
                    yield writer
                finally:
                    writer.sync()

    def reading(self, facility: str) -> KeyReader:
        """The lines of the things that have a key here, by name, as they are now."""
        return KeyReader(self._path(facility), {name: place for name, _, place in self._lines(facility)})

    def sealed_line(self, name: str, plain: bytes) -> bytes:
        """A thing's key, given as PKCS #8 DER, as a line of its facility's file."""
        return b'{"thing": %b, "sealed": "%b"}\n' % (json.dumps(name).encode(), self._seal(name, plain).encode())

    def opened(self, facility: str, line: bytes) -> ec.EllipticCurvePrivateKey:
        """The key in a line of the facility's file. Raises EnvironmentFault where it was tampered with."""
        row = json.loads(line)
        return self._opened(facility, row["thing"], row["sealed"])

    def keys(self, facility: str, names: set[str]) -> Iterator[tuple[str, ec.EllipticCurvePrivateKey]]:
        """The opened keys of the named things. Raises EnvironmentFault for one that was tampered with."""
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
        return self._folder / f"{facility}.keys.jsonl"

    def _lines(self, facility: str) -> Iterator[tuple[str, str, int]]:
        """Thing, sealed key, and where in the file the line begins."""
        path = self._path(facility)
        if not path.exists():
            return
        place = 0
        with path.open("rb") as lines:
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
        """The line of a thing that has one; the file is only ever added to."""
        with self._path.open("rb") as file:
            file.seek(self.places[name])
            return file.readline()


class KeyWriter:
    """A facility's file while no other writes to it; `places` says where the line of each thing begins."""

    def __init__(self, file: FileIO, places: dict[str, int]) -> None:
        self.places = places
        self._file = file
        end = file.seek(0, os.SEEK_END)
        # A run killed in mid-write leaves half a line: end it, so that it spoils no other.
        self._is_torn = bool(end) and os.pread(file.fileno(), 1, end - 1) != b"\n"

    def line(self, name: str) -> bytes:
        """The line of a thing that has one."""
        self._file.seek(self.places[name])
        return self._file.readline()

    def append(self, lines: Iterable[bytes]) -> None:
        """Adds lines; on disk after `sync`."""
        content = b"".join(lines)
        if content:
            remaining = memoryview(b"\n" * self._is_torn + content)
            while remaining:
                remaining = remaining[self._file.write(remaining) :]
            self._is_torn = False

    def sync(self) -> None:
        """Returns when all is on disk."""
        os.fsync(self._file.fileno())


def _stretch(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, **_SCRYPT).derive(passphrase.encode())


def _read_header(path: Path) -> dict[str, str]:
    try:
        header: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        base64.b64decode(header["salt"])
        header["check"]
    except (ValueError, KeyError, TypeError):
        raise EnvironmentFault(f"{path} is damaged", hint="restore it from a backup") from None
    return header


def _write_private(path: Path, text: str) -> None:
    staged = path.with_suffix(".new")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time, across processes; the lock goes with the process that holds it."""
    import fcntl

    descriptor = os.open(folder / "store.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
