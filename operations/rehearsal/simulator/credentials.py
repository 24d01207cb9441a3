"""Brings a thing's certificate (from AWS IoT) and its private key (from the key store) into one TLS context."""

from __future__ import annotations

import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Thing

# DescribeCertificate allows 10 a second in an account by default.
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where devices connect; `ca_file` is None where the system's own authorities know the broker."""

    host: str
    port: int
    ca_file: Path | None


def certificates(iot: Any, things: list[Thing]) -> dict[str, str]:
    """Thing name → PEM certificate, as registered. Raises EnvironmentFault naming things that have none."""

    def certificate(thing: Thing) -> tuple[str, str | None]:
        try:
            principals = iot.list_thing_principals(thingName=thing.name)["principals"]
        except iot.exceptions.ResourceNotFoundException:
            return thing.name, None
        for principal in principals:
            described = iot.describe_certificate(certificateId=principal.rpartition("/")[2])
            if described["certificateDescription"]["status"] == "ACTIVE":
                return thing.name, described["certificateDescription"]["certificatePem"]
        return thing.name, None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(pool.map(certificate, things))
    missing = sorted(name for name, pem in found.items() if pem is None)
    if missing:
        raise EnvironmentFault(
            f"{len(missing)} things have no active certificate in AWS IoT, {missing[0]} first",
            hint="run `fleet keys create`, synthesise and apply the facility's stack",
        )
    return {name: pem for name, pem in found.items() if pem is not None}


def private_keys(store: KeyStore, things: list[Thing]) -> dict[str, ec.EllipticCurvePrivateKey]:
    """Thing name → private key. Raises EnvironmentFault naming things whose key is not in the store."""
    keys: dict[str, ec.EllipticCurvePrivateKey] = {}
    for facility in sorted({thing.facility for thing in things}):
        names = {thing.name for thing in things if thing.facility == facility}
        keys.update(store.keys(facility, names))
    missing = sorted({thing.name for thing in things} - keys.keys())
    if missing:
        raise EnvironmentFault(
            f"the key store has no key for {len(missing)} things, {missing[0]} first",
            hint="`fleet keys create` makes keys for things without a CSR; point FLEET_KEYS_DIR at the right store",
        )
    return keys


def tls_context(broker: Broker, *, certificate: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """A TLS 1.2+ client context; the key passes through an anonymous memory file, never through a disk."""
    presented = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    if presented != key.public_key():
        raise EnvironmentFault(
            "a certificate in AWS IoT and the key in the store do not belong together",
            hint="rotate the device, or restore its key",
        )
    context = ssl.create_default_context(cafile=str(broker.ca_file) if broker.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    load_identity(context, certificate.encode() + pem)
    return context


def load_identity(context: ssl.SSLContext, pem: bytes) -> None:
    """Load certificate and key, given as PEM in memory, which `ssl` can read only from a path."""
    descriptor = os.memfd_create("identity")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
