"""Encrypted keys are what openssl and the library open, with the passphrase and not without it."""

from __future__ import annotations

import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.pki.keystore import key_bytes
from fleet_iot.operations.registry.bundle import ROUNDS, KeySealer
from tests.operations.lists.builders import new_key

pytestmark = pytest.mark.slow
PASSPHRASE = "a passphrase of tests"


@pytest.fixture(scope="module")
def sealer() -> KeySealer:
    return KeySealer(PASSPHRASE)


def openssl(*arguments: str, content: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["openssl", *arguments], input=content, capture_output=True, check=False)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_openssl_and_the_library_open_what_was_sealed(sealer: KeySealer, curve: ec.EllipticCurve) -> None:
    """Keys of every length."""
    key = ec.generate_private_key(curve)
    sealed = sealer.sealed(key_bytes(key))
    opened = serialization.load_pem_private_key(sealed, PASSPHRASE.encode())
    assert isinstance(opened, ec.EllipticCurvePrivateKey)
    assert key.private_numbers() == opened.private_numbers()
    by_openssl = openssl("pkey", "-passin", f"pass:{PASSPHRASE}", "-outform", "DER", content=sealed)
    found = serialization.load_der_private_key(by_openssl.stdout, None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    assert key.private_numbers() == found.private_numbers()


def test_another_passphrase_opens_nothing(sealer: KeySealer) -> None:
    """Nor does none."""
    sealed = sealer.sealed(key_bytes(new_key()))
    with pytest.raises(ValueError, match=r".*"):
        serialization.load_pem_private_key(sealed, b"another passphrase")
    assert 0 != openssl("pkey", "-passin", "pass:", content=sealed).returncode


def test_the_scheme_is_strong_and_no_vector_comes_twice(sealer: KeySealer) -> None:
    """PBES2 of AES-256, stretched as often as is asked for today; the same key is never encrypted alike."""
    plain = key_bytes(new_key())
    first, second = sealer.sealed(plain), sealer.sealed(plain)
    assert first != second
    told = openssl("asn1parse", content=first).stdout.decode()
    words = (":PBES2", ":PBKDF2", ":hmacWithSHA256", ":aes-256-cbc", f":{ROUNDS:06X}")
    assert [] == [word for word in words if word not in told]


def test_a_short_passphrase_is_refused() -> None:
    """No stretching makes up for it."""
    with pytest.raises(RequestError, match="fewer than 12 characters"):
        KeySealer("short")
