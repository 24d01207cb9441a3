"""Byte encodings: base64, gzip and zlib, by the fastest library that is installed."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import cast

from pybase64 import b64decode, b64encode_as_string

decode_base64 = partial(b64decode, validate=True)
"""Decode strict base64. Raises ValueError. pybase64 needs a third of the standard library's time."""

encode_base64 = b64encode_as_string
"""Encode as base64 text."""


try:
    from isal import igzip, isal_zlib
except ImportError:
    HAS_ISAL = False  # zlib writes the same formats, larger or slower
    _ERRORS: tuple[type[Exception], ...] = (zlib.error,)
else:
    HAS_ISAL = True
    _ERRORS = (zlib.error, cast(type[Exception], isal_zlib.error))  # its stub has an instance

_MAX_STATE_BYTES = 1_000_000
"""A larger state is damaged: 256 metrics need 350 kB."""

_CHUNK = 1 << 18
"""Bytes compressed or decompressed at a time, so that a stream is never in memory twice."""

_LENGTH = struct.Struct(">I")


def gzip_bytes(data: bytes) -> bytes:
    """Compress to gzip, without a timestamp, so that the same data gives the same bytes."""
    if HAS_ISAL:
        return bytes(igzip.compress(data, compresslevel=1, mtime=0))
    return gzip.compress(data, compresslevel=1, mtime=0)


def decompress_state(data: bytes) -> bytes:
    """Decompress a device's state of version 0.3.0. Raises ValueError."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(data, _MAX_STATE_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not decompressor.eof:
        raise ValueError("the compressed data has no end")
    return content


def compress_frames(frames: Iterable[bytes]) -> bytes:
    """Compress any number of byte strings in one stream, each after its length."""
    stream = isal_zlib.compressobj(1) if HAS_ISAL else zlib.compressobj(1)
    compressed, waiting = bytearray(), bytearray()
    for frame in frames:
        waiting += _LENGTH.pack(len(frame))
        waiting += frame
        if len(waiting) >= _CHUNK:
            compressed += stream.compress(bytes(waiting))
            waiting.clear()
    compressed += stream.compress(bytes(waiting))
    return bytes(compressed + stream.flush())


def decompress_frames(data: bytes) -> Iterator[bytes]:
    """Yield what `compress_frames` compressed. Raises ValueError."""
    stream = isal_zlib.decompressobj() if HAS_ISAL else zlib.decompressobj()
    waiting, at = bytearray(), 0
    try:
        for start in range(0, len(data), _CHUNK):
            del waiting[:at]
            at = 0
            waiting += stream.decompress(data[start : start + _CHUNK])
            while len(waiting) - at >= _LENGTH.size:
                end = at + _LENGTH.size + _LENGTH.unpack_from(waiting, at)[0]
                if end > len(waiting):
                    break
                yield bytes(waiting[at + _LENGTH.size : end])
                at = end
    except _ERRORS as error:
        raise ValueError(str(error)) from error
    if not stream.eof or at != len(waiting):
        raise ValueError("the compressed data has no end")
