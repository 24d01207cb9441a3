"""Build one device's files: certificate, encrypted key, roots, connection and Device Client configuration."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.pki.templates import der_length

PUBLIC, PRIVATE = 0o644, 0o600
CERTIFICATE = "certificate.pem"
ENCRYPTED_KEY = "private-key.encrypted.pem"
KEY = "private-key.pem"
"""The file in which the device keeps its decrypted or own key; never in a bundle."""
ROOTS = "root-ca.pem"
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
        File(name=CERTIFICATE, content=certificate.encode()),
        File(name=ROOTS, content=endpoint.roots),
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
        "cert": f"{folder}/{CERTIFICATE}",
        "key": f"{folder}/{KEY}",
        "root-ca": f"{folder}/{ROOTS}",
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
