"""One generated file: where it belongs, and its bytes in order, computed only when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file below the output folder; `chunks` gives its bytes anew at each call, each time the same."""

    path: str
    chunks: Callable[[], Iterable[bytes]]

    def content(self) -> bytes:
        """All bytes at once, for files that are small."""
        return b"".join(self.chunks())
