"""Encrypts private keys as PKCS #8 with a passphrase (PBES2), stretched once a bundle.

The library stretches by 2,048 rounds, each key anew. Here it is as many as is asked for today, and so once for all
keys of a bundle, under one salt; each key has an initialisation vector of its own.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.pki.templates import der_length

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
        """A key, given as PKCS #8 DER, encrypted: `ENCRYPTED PRIVATE KEY` in PEM."""
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
