"""Reads which numbers of things a line has: `1-10`, or `1-10, 25-26`."""

from __future__ import annotations

from dataclasses import dataclass

SPANS_PATTERN = r"^[0-9]{1,7}( ?- ?[0-9]{1,7})?( ?, ?[0-9]{1,7}( ?- ?[0-9]{1,7})?){0,999}$"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Span:
    """The numbers from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def read_spans(text: str) -> tuple[Span, ...]:
    """The spans in a text of `SPANS_PATTERN`, in its order; what they hold is not judged here."""
    parts = (part.partition("-") for part in text.replace(" ", "").split(","))
    return tuple(Span(first=int(first), last=int(last or first)) for first, _, last in parts)
