"""Logs as JSON lines, which CloudWatch Logs Insights reads by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

_RANKS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}

Value = str | int | float | list[str] | dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Writes lines of at least `level`, each with the request's id."""

    level: str
    request_id: str
    write: Callable[[str], object]

    def info(self, message: str, **fields: Value) -> None:
        """What was done."""
        self._line("INFO", message, fields)

    def warning(self, message: str, **fields: Value) -> None:
        """What somebody may have to look at."""
        self._line("WARNING", message, fields)

    def error(self, message: str, **fields: Value) -> None:
        """What went wrong."""
        self._line("ERROR", message, fields)

    def metrics(self, line: Mapping[str, object]) -> None:
        """A line in the embedded metric format, whatever the level: CloudWatch counts on it."""
        self.write(msgspec.json.encode(line).decode())

    def _line(self, level: str, message: str, fields: Mapping[str, Value]) -> None:
        if _RANKS[level] >= _RANKS[self.level]:
            line = {"level": level, "message": message, "request_id": self.request_id, **fields}
            self.write(msgspec.json.encode(line).decode())
