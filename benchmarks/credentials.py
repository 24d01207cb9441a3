"""Keys and certificates of devices: from DER templates, against the library's builders and an openssl call a step."""

from __future__ import annotations

import datetime
import os
import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.result import Result, interleaved, peak_memory_mb, timed
from fleet_iot.operations.pki.templates import ALGORITHM, CertificateMaker, Issuer, key_and_point

DEVICES = 5_000
OPENSSL_DEVICES = 10
VERIFIED = 1_000
_NAME = "sg-01-press-monitor-{:06d}-dev"


def run(rounds: int, *, devices: int = DEVICES, openssl_devices: int = OPENSSL_DEVICES) -> Result:
    """Devices a second of one process; the limit is the library's own key generation and one signature."""
    issuer = _issuer()
    maker = CertificateMaker(issuer)
    with TemporaryDirectory(prefix="fleet-benchmark-") as folder:
        authority = _write_authority(Path(folder), issuer)
        contestants: dict[str, Callable[[], float]] = {
            "ours": lambda: timed(lambda: _ours(maker, devices)),
            "floor": lambda: timed(lambda: _floor(issuer, devices)),
            "builders": lambda: timed(lambda: _builders(maker, devices // 5)) * 5,
            "openssl": lambda: timed(lambda: _openssl(Path(folder), openssl_devices)) * devices / openssl_devices,
        }
        times = {name: each.best for name, each in interleaved(contestants, rounds=rounds).items()}
        verified = _verify(maker, authority, Path(folder), min(VERIFIED, devices))
    workers = os.cpu_count() or 1
    return Result(
        benchmark="credentials",
        unit="devices/s",
        ours=devices / times["ours"],
        peers={name: devices / times[name] for name in ("openssl", "builders")},
        limit=devices / times["floor"],
        peak_memory_mb=peak_memory_mb(),
        details={
            "devices": devices,
            "microseconds": {name: round(seconds * 1e6 / devices, 1) for name, seconds in times.items()},
            "verified_by_openssl": verified,
            "workers": workers,
            "devices_per_second_of_workers": round(_in_workers(workers, devices)),
        },
    )


def _ours(maker: CertificateMaker, devices: int) -> None:
    for number in range(devices):
        _, point = key_and_point(ec.generate_private_key(ec.SECP256R1()))
        maker.certificate(_NAME.format(number), point)


def _floor(issuer: Issuer, devices: int) -> None:
    content = bytes(300)
    for _ in range(devices):
        ec.generate_private_key(ec.SECP256R1())
        issuer.key.sign(content, ALGORITHM)


def _builders(maker: CertificateMaker, devices: int) -> None:
    for number in range(devices):
        der, point = key_and_point(ec.generate_private_key(ec.SECP256R1()))
        built = maker.built(_NAME.format(number), point, b"\x40" + os.urandom(15))
        built.public_bytes(serialization.Encoding.DER)
        del der


def _openssl(folder: Path, devices: int) -> None:
    """Key, CSR and certificate, a command each: as in most guides."""
    for number in range(devices):
        steps = (
            ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "device.key"),
            ("req", "-new", "-key", "device.key", "-subj", f"/CN={_NAME.format(number)}", "-out", "device.csr"),
            (
                *("x509", "-req", "-in", "device.csr", "-CA", "authority.pem", "-CAkey", "authority.key"),
                *("-set_serial", str(number + 1), "-days", "365", "-out", "device.pem"),
            ),
        )
        for step in steps:
            subprocess.run(["openssl", *step], cwd=folder, check=True, capture_output=True)


def _in_workers(workers: int, devices: int) -> float:
    """Devices a second of so many processes, once they have started."""
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_work, [10] * workers))
        start = time.perf_counter()
        list(pool.map(_work, [devices // 4] * 4 * workers))
        return devices * workers / (time.perf_counter() - start)


def _work(devices: int) -> int:
    _ours(CertificateMaker(_issuer()), devices)
    return devices


def _verify(maker: CertificateMaker, authority: Path, folder: Path, count: int) -> int:
    """Has openssl verify so many certificates of random names; returns how many it finds good."""
    names = random.Random(1)  # noqa: S311 - names, no secrets
    files = []
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        name = "".join(names.choices("abcdefghijklmnopqrstuvwxyz0123456789-", k=names.randint(3, 64)))
        certificate = x509.load_der_x509_certificate(maker.certificate(name, key_and_point(key)[1]))
        if certificate.public_key() != key.public_key():
            raise AssertionError(f"the certificate of {name} has another key")
        files.append(f"{number}.pem")
        (folder / files[-1]).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(authority), *files]
    verified = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return verified.stdout.count(": OK\n")


def _issuer() -> Issuer:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return Issuer(
        key=ec.generate_private_key(ec.SECP256R1()),
        name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the benchmark")]),
        not_before=now - datetime.timedelta(days=1),
        not_after=now + datetime.timedelta(days=365),
    )


def _write_authority(folder: Path, issuer: Issuer) -> Path:
    """Write the issuer's own certificate and key, as openssl wants them; return the certificate's path."""
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer.name)
        .issuer_name(issuer.name)
        .public_key(issuer.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_before)
        .not_valid_after(issuer.not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key()), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    path = folder / "authority.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key = issuer.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "authority.key").touch(0o600)
    (folder / "authority.key").write_bytes(key)
    return path
