"""Expected errors of synthesis: a sentence, a remedy and an exit code; any other exception is a bug."""

from __future__ import annotations

from typing import ClassVar


class ExpectedError(Exception):
    """An error that the user can fix.

    Args:
        key: The manifest's key that causes it, as `("facilities", "sg-01")`.
        value: The value of that key.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str, key: tuple[str, ...] = (), value: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.key = key
        self.value = value

    def lines(self, place: str | None = None) -> list[str]:
        """Return the lines for stderr; `place` is the location in the manifest."""
        return [visible(f"error: {f'{place}: ' if place else ''}{self.message}"), visible(f"hint: {self.remedy}")]


def visible(text: str) -> str:
    """Return `text` on one line, with control and bidirectional characters escaped."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class UnknownEnvironmentError(ExpectedError):
    """The command line, or FLEET_ENV, names an environment that the project does not have."""

    exit_code = 2


class ManifestError(ExpectedError):
    """The manifest that the record was generated from asks for something that AWS would reject."""

    exit_code = 3


class RequestError(ExpectedError):
    """The request names what the record does not have."""

    exit_code = 2


class RecordError(ExpectedError):
    """The generated declarations differ from their index: edited by hand, missing, or half merged."""

    exit_code = 4


class SynthesisError(ExpectedError):
    """The synthesised result is not what was planned, or AWS would reject it."""

    exit_code = 5


class PrerequisiteError(ExpectedError):
    """Something outside the declarations is missing or wrong: a setting, an identity, a tool."""

    exit_code = 7
