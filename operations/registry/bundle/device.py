"""The files of one device: certificate, key, roots, connection, and a configuration of the AWS IoT Device Client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from fleet_iot.operations.registry.bundle.archive import PRIVATE, PUBLIC

CERTIFICATE = "certificate.pem"
ENCRYPTED_KEY = "private-key.encrypted.pem"
KEY = "private-key.pem"
"""Where the configuration expects the key once the device has decrypted it, or made it; never in a bundle."""
ROOTS = "root-ca.pem"
CONNECTION = "connection.json"
CONFIGURATION = "aws-iot-device-client.conf"
CHECKSUMS = "SHA256SUMS"

_LOG = "/var/log/aws-iot-device-client/aws-iot-device-client.log"
_THING_NAME = "${iot:Connection.Thing.ThingName}"
_USES = {"iot:Publish": "publish", "iot:Subscribe": "subscribe", "iot:Receive": "receive"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where devices connect, the certificates that it is known by, and the folder that a device unpacks into."""

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
    """The topics and filters that a thing's policy allows it, by what it may do with them."""
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
    """A device's files, with their checksums as the last; `key` is PEM, encrypted, or None where the device has it."""
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
    """A configuration that connects, and does nothing that the device's policy does not allow.

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
