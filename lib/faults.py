"""Expected faults of synthesis: one sentence, one remedy, one exit code for each class; anything else is a bug."""

from __future__ import annotations

from typing import ClassVar


class ExpectedError(Exception):
    """What stands in the way of synthesis, in the words of the person who can remove it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def lines(self) -> list[str]:
        """What a person reads on stderr."""
        return [f"error: {self.message}", f"hint: {self.remedy}"]


class SynthesisError(ExpectedError):
    """The synthesised result is not what was planned, or AWS would refuse it."""

    exit_code = 5


class PrerequisiteError(ExpectedError):
    """Something outside the declarations is missing or wrong: a setting, an identity, a tool."""

    exit_code = 7
