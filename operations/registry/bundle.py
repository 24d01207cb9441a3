"""Bundle a plant's device identities: certificates, sealed keys and configuration in one archive, with a receipt.

The archive is written as a stream; the same files give the same bytes. AWS IoT allows ten DescribeCertificate a
second, so its answers are cached beside the journal.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import hashlib
import io
import json
import os
import re
import ssl
import tarfile
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError, visible
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec, fill
from fleet_iot.operations.lists.material import key_digest, read_certificate
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.templates import der_length, key_and_point
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.calls import IotCalls
from fleet_iot.operations.registry.device import id_of, principals_of
from fleet_iot.operations.registry.entries import seen_revoked
from fleet_iot.operations.registry.journal import Device, Journal
from fleet_iot.operations.registry.preparation import Refusals
from fleet_iot.operations.storage import connect, whole
from fleet_iot.operations.workers import WORKERS, batches_of, in_order

# One device's files: certificate, encrypted key, roots, connection and Device Client configuration.

PUBLIC, PRIVATE = 0o644, 0o600
CERTIFICATE_FILE = "certificate.pem"
ENCRYPTED_KEY = "private-key.encrypted.pem"
KEY = "private-key.pem"
"""The file in which the device keeps its decrypted or own key; never in a bundle."""
ROOTS_FILE = "root-ca.pem"
CONNECTION = "connection.json"
CONFIGURATION = "aws-iot-device-client.conf"
CHECKSUMS = "SHA256SUMS"

_LOG = "/var/log/aws-iot-device-client/aws-iot-device-client.log"
_THING_NAME = "${iot:Connection.Thing.ThingName}"
_USES = {"iot:Publish": "publish", "iot:Subscribe": "subscribe", "iot:Receive": "receive"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The MQTT endpoint, its root certificates, and the folder that a device unpacks into."""

    host: str
    port: int
    roots: bytes
    install_folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of a bundle; `mode` as the Device Client wants it."""

    name: str
    content: bytes
    mode: int = PUBLIC


def topics_of(policy: str, thing: str) -> dict[str, list[str]]:
    """Return the topics and filters that a thing's policy allows it, by what it may do with them."""
    topics: dict[str, list[str]] = {use: [] for use in _USES.values()}
    for statement in json.loads(policy)["Statement"]:
        actions, resources = _listed(statement["Action"]), _listed(statement["Resource"])
        for action in actions:
            if action in _USES and statement["Effect"] == "Allow":
                names = (resource.split(":", 5)[5].partition("/")[2] for resource in resources)
                topics[_USES[action]] += [name.replace(_THING_NAME, thing) for name in names]
    return topics


def files_of(
    thing: str, *, certificate: str, key: bytes | None, topics: Mapping[str, list[str]], endpoint: Endpoint
) -> tuple[File, ...]:
    """Return a device's files, with their checksums as the last; `key` is PEM, encrypted, or None where the device has
    it."""
    connection = {
        "endpoint": endpoint.host,
        "port": endpoint.port,
        "client_id": thing,
        "tls": "1.2 or later, mutual",
        "topics": topics,
    }
    files = [
        File(name=CERTIFICATE_FILE, content=certificate.encode()),
        File(name=ROOTS_FILE, content=endpoint.roots),
        File(name=CONNECTION, content=_json(connection)),
        File(name=CONFIGURATION, content=_json(configuration(thing, endpoint))),
    ]
    if key is not None:
        files.append(File(name=ENCRYPTED_KEY, content=key, mode=PRIVATE))
    lines = [f"{hashlib.sha256(file.content).hexdigest()}  {file.name}\n" for file in files]
    return (*files, File(name=CHECKSUMS, content="".join(lines).encode()))


def configuration(thing: str, endpoint: Endpoint) -> dict[str, object]:
    """Return a configuration that connects, and does nothing that the device's policy does not allow.

    Its fields: https://github.com/awslabs/aws-iot-device-client/blob/main/config-template.json
    """
    folder = endpoint.install_folder.rstrip("/")
    off: dict[str, object] = {"enabled": False}
    return {
        "endpoint": endpoint.host,
        "cert": f"{folder}/{CERTIFICATE_FILE}",
        "key": f"{folder}/{KEY}",
        "root-ca": f"{folder}/{ROOTS_FILE}",
        "thing-name": thing,
        "logging": {"level": "INFO", "type": "FILE", "file": _LOG},
        "jobs": off,
        "tunneling": off,
        "device-defender": off | {"interval": 300},
        "fleet-provisioning": off,
        "samples": {"pub-sub": off},
        "config-shadow": off,
        "sample-shadow": off,
    }


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


# PBES2 by hand: the library's BestAvailableEncryption stretches the passphrase for each key, by 2,048 rounds only; the
# 600,000 that OWASP recommends would take 0.12 s a key. Here one derivation, under one salt, serves all keys of a
# bundle; each key has its own initialisation vector.

ROUNDS = 600_000
"""https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#pbkdf2"""
SHORTEST = 12
_SALT_BYTES = 16
_BLOCK_BITS = 128

# https://www.rfc-editor.org/rfc/rfc8018#appendix-A
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("300c06082a864886f70d02090500")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
_SEQUENCE, _OCTETS, _INTEGER = 0x30, 0x04, 0x02


class KeySealer:
    """Encrypts the keys of one bundle. Raises RequestError for a passphrase that is too short."""

    def __init__(self, passphrase: str) -> None:
        if len(passphrase) < SHORTEST:
            raise RequestError(
                f"the bundle's passphrase has fewer than {SHORTEST} characters", hint="choose a longer one"
            )
        salt = os.urandom(_SALT_BYTES)
        kdf = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=ROUNDS)
        self._key = algorithms.AES(kdf.derive(passphrase.encode()))
        rounds = _tagged(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1, "big"))
        stretched = _tagged(_SEQUENCE, _tagged(_OCTETS, salt), rounds, _HMAC_SHA256)
        self._kdf = _tagged(_SEQUENCE, _PBKDF2, stretched)

    def sealed(self, plain: bytes) -> bytes:
        """Return a key, given as PKCS #8 DER, encrypted: `ENCRYPTED PRIVATE KEY` in PEM."""
        vector = os.urandom(_BLOCK_BITS // 8)
        padder = padding.PKCS7(_BLOCK_BITS).padder()
        encryptor = Cipher(self._key, modes.CBC(vector)).encryptor()
        content = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
        cipher = _tagged(_SEQUENCE, _AES_256_CBC, _tagged(_OCTETS, vector))
        scheme = _tagged(_SEQUENCE, _PBES2, _tagged(_SEQUENCE, self._kdf, cipher))
        der = _tagged(_SEQUENCE, scheme, _tagged(_OCTETS, content))
        lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
        body = "\n".join(lines)
        return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n".encode()


def _tagged(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return bytes((tag,)) + der_length(len(content)) + content


# The archive, its receipt, and the certificates of a plant.

_OUTSIDE = frozenset(("", ".", ".."))
"""Parts of a path that would leave the folder."""


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
        """Add one file."""
        self.add_stream(name, io.BytesIO(content), size=len(content), mode=mode)

    def add_stream(self, name: str, content: IO[bytes], *, size: int, mode: int = PUBLIC) -> None:
        """Add one file of `size` bytes. Raises ValueError for a name that leads out of its folder."""
        if not _OUTSIDE.isdisjoint(name.split("/")):
            raise ValueError(f"{name!r} is no name in an archive")
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, mode
        self._tar.addfile(entry, content)
        self._tar.getmembers().clear()  # it keeps every entry, which is 100 MB for 100,000 files

    def close(self) -> None:
        """End the archive."""
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


_SCHEMA = "CREATE TABLE IF NOT EXISTS certificates (id TEXT PRIMARY KEY, pem TEXT) WITHOUT ROWID"
_ANOTHER = "rotate the device: it needs a certificate that can be read"
_USABLE = ("ACTIVE", "INACTIVE")
"""INACTIVE is staged: the bundle may be shipped before the certificate is activated on site."""


class MissingError(Exception):
    """A thing has no certificate that could go into a bundle; says why, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Certificates:
    """The certificates of one account's things; close it when done."""

    def __init__(self, journal: Journal, calls: IotCalls, *, refusals: Refusals, cache: Path) -> None:
        self._journal = journal
        self._calls = calls
        self._refusals = refusals
        self._cache = connect(cache, synchronous="OFF", schema=_SCHEMA)

    def close(self) -> None:
        """Close the files beside the journal and the keys."""
        self._cache.close()
        self._refusals.close()

    def of(self, thing: str) -> tuple[str, str]:
        """Return id and PEM of the thing's certificate. Raises MissingError."""
        device = self._journal.find_device(thing)
        if device is None or device.state == "retired":
            return self._registered(thing)
        certificate_id, status, brought = device.certificate_id, device.certificate_status, device.certificate
        if device.state != "done" or certificate_id is None:
            raise MissingError("is not onboarded yet", "go on with it: fleet onboard --resume, or correct its row")
        if status not in _USABLE:
            raise MissingError(f"its certificate is {status}", "retire the device, and onboard another")
        self._refuse(device.key, certificate_id, brought)
        pem = ssl.DER_cert_to_PEM_cert(brought) if brought else self._described(device, certificate_id)
        if key_digest(x509.load_pem_x509_certificate(pem.encode()).public_key()) != device.key:
            raise MissingError(
                f"AWS IoT's certificate {certificate_id} has another key than the journal has",
                "report it to AWS support",
            )
        return certificate_id, pem

    def _registered(self, thing: str) -> tuple[str, str]:
        """Return the certificate of a thing that was not onboarded from here: Terraform's."""
        refused: MissingError | None = None
        for arn in principals_of(self._calls, thing):
            described = self._describe(id_of(arn))
            if described["status"] in _USABLE:
                try:
                    certificate = read_certificate(described["certificatePem"].encode())
                except ValueError:
                    raise MissingError("its certificate cannot be read: a part of it is damaged", _ANOTHER) from None
                try:
                    self._refuse(
                        key_digest(certificate.public_key()),
                        described["certificateId"],
                        certificate.public_bytes(serialization.Encoding.DER),
                    )
                except MissingError as error:  # of a rotation, the old one
                    refused = error
                    continue
                return described["certificateId"], described["certificatePem"]
        raise refused or MissingError("has no certificate in AWS IoT", "onboard it, or apply its plant's stack")

    def _refuse(self, key: bytes, certificate_id: str, der: bytes | None) -> None:
        """Raise MissingError for a key or certificate that the journal, the own authority or a CRL has as ended."""
        try:
            spent = self._refusals.find(key, certificate_id, der)
        except ValueError:
            raise MissingError("its certificate cannot be read: a name in it is damaged", _ANOTHER) from None
        if spent is not None:
            raise MissingError(f"its key {spent.clause}", spent.remedy)

    def _described(self, device: Device, certificate_id: str) -> str:
        """Return the PEM of the device's certificate, from the cache, or from AWS IoT, where its status is checked."""
        found = self._cache.execute("SELECT pem FROM certificates WHERE id = ?", (certificate_id,)).fetchone()
        if found:
            return str(found[0])
        described = self._describe(certificate_id)
        pem, status = str(described["certificatePem"]), described["status"]
        if status == "REVOKED":
            self._journal.write(*seen_revoked(device.thing, device.key, certificate_id, at=time.time()))
        if status not in _USABLE:
            raise MissingError(f"its certificate is {status}", "retire the device, and onboard another")
        self._cache.execute("INSERT OR REPLACE INTO certificates VALUES (?, ?)", (certificate_id, pem))
        return pem

    def _describe(self, certificate_id: str) -> dict[str, Any]:
        answer = self._calls.call("DescribeCertificate", certificateId=certificate_id)
        described: dict[str, Any] = answer["certificateDescription"]
        return described


GUIDE = """\
One folder a device, named as its thing. Check that nothing was changed on the way, here and in each folder:

    sha256sum -c SHA256SUMS
    (cd THING && sha256sum -c SHA256SUMS)

In each folder:

    certificate.pem               the device's certificate
    root-ca.pem                   what the device knows the endpoint by
    connection.json               endpoint, port, MQTT client id, and the topics that the device may use
    aws-iot-device-client.conf    configuration of the AWS IoT Device Client
    private-key.encrypted.pem     the device's key, encrypted; missing where the device has made its own
    SHA256SUMS                    checksums of these files

Copy a folder to its device, into the folder that aws-iot-device-client.conf names, and there decrypt the key. The
passphrase comes by another way than the bundle.

    openssl pkey -in private-key.encrypted.pem -out private-key.pem
    rm private-key.encrypted.pem
    chmod 700 . && chmod 600 private-key.pem && chmod 644 certificate.pem root-ca.pem aws-iot-device-client.conf

A device belongs to its folder alone: never two devices with the same key.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """A device that is in the bundle: `fingerprint` is the SHA-256 of its certificate's DER."""

    thing: str
    serial: str
    device_type: str
    certificate_id: str
    fingerprint: str
    not_after: str
    has_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A thing that is not in the bundle."""

    thing: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleResult:
    """The result; where no device could be bundled, there is no archive and `sha256` is empty."""

    archive: Path
    sha256: str
    size: int
    devices: int
    keys: int
    missing: tuple[Missing, ...]
    entries: IO[str]
    """The devices that are in it, a `Bundled` as JSON a line."""

    def bundled(self) -> Iterator[Bundled]:
        """Return the devices, in the archive's order."""
        self.entries.seek(0)
        return (Bundled(**json.loads(line)) for line in self.entries)


class NothingToBundleError(Exception):
    """No thing has a certificate, so no archive was written."""

    def __init__(self, outcome: BundleResult) -> None:
        super().__init__("no thing has a certificate")
        self.outcome = outcome


def joined(parts: Iterable[str]) -> Iterator[str]:
    """Join parts of a JSON list, a line each."""
    for number, part in enumerate(parts):
        yield f",\n{part}" if number else part


BATCH = 100
_SAFE = re.compile(r"[A-Za-z0-9:_][A-Za-z0-9:_-]{0,127}")
"""Names of things (https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html) that are no option of a
command either: they become folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """The key store, and what encrypts keys for the bundle."""

    store: KeyStore
    sealer: KeySealer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """The plant whose devices, or `things`, are bundled; without `keys`, the bundle has no keys."""

    project: Project
    facility: FacilitySpec
    account: str
    endpoint: Endpoint
    keys: KeySource | None
    things: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A thing with its certificate, and the sealed line of the key store that it has."""

    thing: ThingRow
    certificate_id: str
    certificate: str
    line: bytes | None


def make_bundle(
    plant: Plant,
    certificates: Certificates,
    target: Path,
    *,
    workers: int = WORKERS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> BundleResult:
    """Write the archive, whole or not at all; nothing of it but one batch of devices is in memory.

    The same devices give the same bytes, unless there are keys: their encryption is never twice the same.
    """
    root = f"{plant.facility.id}-{plant.project.environment_suffix}"
    entries = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - goes with the outcome
    missing: list[Missing] = []
    devices = keys = 0
    with tempfile.TemporaryFile() as sums, whole(target, mode=0o600) as file:
        archive = Archive(file)
        work = partial(_files, plant, _policies(plant))
        for made in in_order(batches_of(_found(plant, certificates, missing), BATCH), work, workers=workers):
            for bundled, files in made:
                if isinstance(bundled, Missing):
                    missing.append(bundled)
                    continue
                for each in files:
                    archive.add(f"{root}/{bundled.thing}/{each.name}", each.content, mode=each.mode)
                sums.write(_sum(f"{bundled.thing}/{CHECKSUMS}", files[-1].content))
                entries.write(json.dumps(asdict(bundled)) + "\n")
                devices += 1
                keys += bundled.has_key
            on_progress(devices + len(missing), len(plant.things) or plant.facility.thing_count)
        outcome = BundleResult(
            archive=target,
            sha256="",
            size=0,
            devices=devices,
            keys=keys,
            missing=tuple(sorted(missing, key=lambda each: each.thing)),
            entries=entries,
        )
        if not devices:
            raise NothingToBundleError(outcome)
        _add_rest(archive, root, plant, outcome, sums)
        archive.close()
    return replace(outcome, sha256=archive.sha256, size=archive.size)


def _found(plant: Plant, certificates: Certificates, missing: list[Missing]) -> Iterator[_Found]:
    """Yield each thing with its certificate, in the record's order; report what is missing as it is found."""
    store = plant.keys.store if plant.keys else None
    reader = store.reading(plant.facility.id) if store else None
    for thing in plant.project.planned(plant.facility):
        if plant.things and thing.name not in plant.things:
            continue
        try:
            if not _SAFE.fullmatch(thing.name):
                raise MissingError("its name is no name of a thing, and none of a folder", "generate the plant again")
            certificate_id, certificate = certificates.of(thing.name)
        except MissingError as fault:
            missing.append(Missing(thing=thing.name, reason=fault.reason, remedy=fault.remedy))
            continue
        line = reader.line(thing.name) if reader and thing.name in reader.places else None
        yield _Found(thing=thing, certificate_id=certificate_id, certificate=certificate, line=line)


def _policies(plant: Plant) -> dict[str, str]:
    """Return the device policies by device type, as this environment fills them."""
    folder = plant.project.record / plant.facility.module
    return {
        group.device_type: fill(
            (folder / group.policy_file).read_text(encoding="utf-8"),
            account_id=plant.account,
            suffix=plant.project.environment_suffix,
        )
        for group in plant.facility.groups
    }


def _files(
    plant: Plant, policies: dict[str, str], batch: list[_Found]
) -> list[tuple[Bundled | Missing, tuple[File, ...]]]:
    """Return each device's files; a device whose key does not match its certificate is left out."""
    made: list[tuple[Bundled | Missing, tuple[File, ...]]] = []
    for found in batch:
        name, certificate = found.thing.name, x509.load_pem_x509_certificate(found.certificate.encode())
        key = None
        if found.line is not None and plant.keys is not None:
            held = plant.keys.store.opened(plant.facility.id, found.line)
            if held.public_key() != certificate.public_key():
                reason = "its key in the key store is not its certificate's"
                remedy = "restore the key, or rotate the device"
                made.append((Missing(thing=name, reason=reason, remedy=remedy), ()))
                continue
            key = plant.keys.sealer.sealed(key_and_point(held)[0])
        topics = topics_of(policies[found.thing.device_type], name)
        files = files_of(name, certificate=found.certificate, key=key, topics=topics, endpoint=plant.endpoint)
        bundled = Bundled(
            thing=name,
            serial=found.thing.serial,
            device_type=found.thing.device_type,
            certificate_id=found.certificate_id,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            not_after=certificate.not_valid_after_utc.isoformat(),
            has_key=key is not None,
        )
        made.append((bundled, files))
    return made


def _add_rest(archive: Archive, root: str, plant: Plant, outcome: BundleResult, sums: IO[bytes]) -> None:
    """Add the guide, the manifest, and the checksums of these and of each device's checksums."""
    archive.add(f"{root}/README.txt", GUIDE.encode())
    sums.write(_sum("README.txt", GUIDE.encode()))
    with tempfile.TemporaryFile() as manifest:
        digest = hashlib.sha256()
        for part in _manifest(plant, outcome):
            digest.update(part.encode())
            manifest.write(part.encode())
        _add_spooled(archive, f"{root}/manifest.json", manifest)
        sums.write(f"{digest.hexdigest()}  manifest.json\n".encode())
    _add_spooled(archive, f"{root}/{CHECKSUMS}", sums)


def _manifest(plant: Plant, outcome: BundleResult) -> Iterator[str]:
    head = {
        "version": 1,
        "application": plant.project.fleet.application,
        "environment": plant.project.environment_suffix,
        "facility": plant.facility.id,
        "account": plant.account,
        "endpoint": plant.endpoint.host,
        "port": plant.endpoint.port,
        "devices": outcome.devices,
        "keys": outcome.keys,
        "missing": [asdict(each) for each in outcome.missing],
    }
    yield json.dumps(head)[:-1] + ', "things": [\n'
    yield from joined(json.dumps(asdict(each)) for each in outcome.bundled())
    yield "\n]}\n"


def _sum(name: str, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _add_spooled(archive: Archive, name: str, file: IO[bytes]) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    archive.add_stream(name, file, size=size)


ROOTS = {
    "Amazon Root CA 1": "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
    "Amazon Root CA 3": "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
}
"""SHA-256 of each certificate: https://www.amazontrust.com/repository/; those of RSA and of ECC endpoints:
https://docs.aws.amazon.com/iot/latest/developerguide/server-authentication.html"""


def amazon_roots(source: Path | None = None) -> bytes:
    """Return the roots as PEM. Raises EnvironmentFault where the list (certifi's) has not exactly these
    certificates."""
    path = source or Path(certifi.where())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old roots of others have serial numbers that are no numbers
        listed = x509.load_pem_x509_certificates(path.read_bytes())
    found = {certificate.fingerprint(hashes.SHA256()).hex(): certificate for certificate in listed}
    missing = [name for name, fingerprint in ROOTS.items() if fingerprint not in found]
    if missing:
        raise EnvironmentFault(f"{path} does not have {' and '.join(missing)}", hint="reinstall certifi: make setup")
    return b"".join(found[each].public_bytes(serialization.Encoding.PEM) for each in ROOTS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The hand-over of a bundle: who made it for whom, and when."""

    by: str
    to: str
    at: datetime.datetime


def write_receipt(plant: Plant, outcome: BundleResult, hand_over: HandOver) -> tuple[Path, Path]:
    """Write both beside the archive; return their paths."""
    archive = outcome.archive
    page, document = archive.with_name(f"{archive.name}.receipt.txt"), archive.with_name(f"{archive.name}.receipt.json")
    for path, parts in ((page, _page(plant, outcome, hand_over)), (document, _document(plant, outcome, hand_over))):
        with whole(path, mode=0o600) as file:
            for part in parts:
                file.write(part.encode())
    return document, page


def _head(plant: Plant, outcome: BundleResult, hand_over: HandOver) -> dict[str, str | int]:
    return {
        "archive": outcome.archive.name,
        "sha256": outcome.sha256,
        "bytes": outcome.size,
        "made_at": hand_over.at.isoformat(timespec="seconds"),
        "made_by": hand_over.by,
        "handed_to": hand_over.to,
        "application": plant.project.fleet.application,
        "environment": plant.project.environment_suffix,
        "account": plant.account,
        "facility": plant.facility.id,
        "facility_name": plant.facility.name,
        "endpoint": plant.endpoint.host,
        "devices": outcome.devices,
        "encrypted_keys": outcome.keys,
        "missing": len(outcome.missing),
    }


def _document(plant: Plant, outcome: BundleResult, hand_over: HandOver) -> Iterator[str]:
    head = _head(plant, outcome, hand_over) | {"missing": [asdict(each) for each in outcome.missing]}
    yield json.dumps(head)[:-1] + ', "things": [\n'
    kept = ("thing", "serial", "fingerprint", "has_key")
    yield from joined(json.dumps({name: getattr(each, name) for name in kept}) for each in outcome.bundled())
    yield "\n]}\n"


def _page(plant: Plant, outcome: BundleResult, hand_over: HandOver) -> Iterator[str]:
    yield "RECEIPT OF DEVICE IDENTITIES\n\n"
    for name, value in _head(plant, outcome, hand_over).items():
        yield f"{name.replace('_', ' '):<16}{visible(str(value))}\n"
    yield "\nThe archive is the one meant here if its checksum is: sha256sum ARCHIVE\n\n"
    yield "things, with serial number, key (encrypted, or the device's own) and SHA-256 of the certificate\n\n"
    for number, each in enumerate(outcome.bundled(), start=1):
        key = "encrypted" if each.has_key else "own"
        yield f"{number:>7}  {each.thing}  {each.serial}  {key}  {each.fingerprint}\n"
    if outcome.missing:
        yield "\nnot in the archive\n\n"
    for fault in outcome.missing:
        yield f"         {fault.thing}  {visible(fault.reason)}\n"
    yield "\n\nhanded over by  ______________________________  date  ______________\n"
    yield "\n\nreceived by     ______________________________  date  ______________\n"
