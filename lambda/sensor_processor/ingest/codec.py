"""Byte encodings: base64, gzip and zlib, by the fastest library that is installed."""

from __future__ import annotations

import gzip
import zlib
from functools import partial

from pybase64 import b64decode, b64encode_as_string

decode_base64 = partial(b64decode, validate=True)
"""Decode strict base64. Raises ValueError. pybase64 needs a third of the standard library's time."""

encode_base64 = b64encode_as_string
"""Encode as base64 text."""


try:
    from isal import igzip, isal_zlib
except ImportError:
    HAS_ISAL = False  # zlib writes the same formats, larger or slower
else:
    HAS_ISAL = True

_MAX_STATE_BYTES = 1_000_000
"""A larger state is damaged: 256 metrics need 350 kB."""


def gzip_bytes(data: bytes) -> bytes:
    """Compress to gzip, without a timestamp, so that the same data gives the same bytes."""
    if HAS_ISAL:
        return bytes(igzip.compress(data, compresslevel=1, mtime=0))
    return gzip.compress(data, compresslevel=1, mtime=0)


def compress_state(data: bytes) -> bytes:
    """Compress to zlib format: isal's fastest level is a quarter larger than its best, in a third of the time."""
    return bytes(isal_zlib.compress(data, 0)) if HAS_ISAL else zlib.compress(data, 1)


def decompress_state(data: bytes) -> bytes:
    """Decompress what `compress_state` compressed. Raises ValueError."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(data, _MAX_STATE_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not decompressor.eof:
        raise ValueError("the compressed data has no end")
    return content
