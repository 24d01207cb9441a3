"""The search for private keys in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleet_iot.operations.rehearsal.demo import files_with_private_keys, tracked_files
from tests.places import PROJECT


def pem(kind: serialization.PrivateFormat, *, password: bytes | None = None) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, kind, encryption).decode()


def rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "text",
    [
        pem(serialization.PrivateFormat.PKCS8),
        pem(serialization.PrivateFormat.TraditionalOpenSSL),
        pem(serialization.PrivateFormat.TraditionalOpenSSL, password=b"secret"),
        rsa_pem(),
        json.dumps({"private_key": pem(serialization.PrivateFormat.PKCS8)}, indent=2),
        pem(serialization.PrivateFormat.PKCS8).replace("\n", "\r\n"),
    ],
    ids=["pkcs8", "sec1", "encrypted", "rsa", "in json", "crlf"],
)
def test_a_private_key_is_found(tmp_path: Path, text: str) -> None:
    """A key is found in every form that it comes in, also within a state's JSON."""
    (tmp_path / "sub").mkdir()
    holder = tmp_path / "sub" / "state.json"
    holder.write_text(text)
    (tmp_path / "other.txt").write_text("nothing")
    assert [holder] == files_with_private_keys([tmp_path])


def test_a_bare_header_is_no_key(tmp_path: Path) -> None:
    """Text that mentions a key's header, and a public key, are not reported."""
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    text = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    (tmp_path / "note.md").write_text(f"-----BEGIN PRIVATE KEY-----\n\nis how a key begins.\n{text}")
    assert [] == files_with_private_keys([tmp_path])


def test_no_tracked_file_holds_a_private_key() -> None:
    """The repository itself is clean."""
    files = tracked_files(PROJECT)
    if not files:
        pytest.skip("not a git checkout, so nothing is tracked")
    assert [] == files_with_private_keys(files)
