"""One generated file: where it belongs, and its bytes in order, computed only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Chunk = bytes | memoryview
"""A piece of a file; a view holds only until the next piece is asked for, as its memory is used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file below the output folder; `chunks` gives its bytes anew at each call, each time the same."""

    path: str
    chunks: Callable[[], Iterable[Chunk]]

    def content(self) -> bytes:
        """All bytes at once, for files that are small."""
        content = bytearray()
        for chunk in self.chunks():
            content += chunk
        return bytes(content)
