"""Expected faults of synthesis: one sentence, one remedy, one exit code for each class; anything else is a bug."""

from __future__ import annotations

from typing import ClassVar


class ExpectedError(Exception):
    """What stands in the way of synthesis, in the words of the person who can remove it.

    `key` is the part of the manifest that it comes from, as `("facilities", "sg-01")`, and `value` what it holds.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str, key: tuple[str, ...] = (), value: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.key = key
        self.value = value

    def lines(self, place: str | None = None) -> list[str]:
        """What a person reads on stderr; `place` is where in the manifest."""
        return [visible(f"error: {f'{place}: ' if place else ''}{self.message}"), visible(f"hint: {self.remedy}")]


def visible(text: str) -> str:
    """`text` on one line, with escapes for what would hide, forge or reorder it on a screen."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class ManifestError(ExpectedError):
    """The manifest, as it was generated from, asks for what AWS would refuse."""

    exit_code = 3


class RecordError(ExpectedError):
    """The generated declarations are not those of their index: edited by hand, lost, or half a merge."""

    exit_code = 4


class SynthesisError(ExpectedError):
    """The synthesised result is not what was planned, or AWS would refuse it."""

    exit_code = 5


class PrerequisiteError(ExpectedError):
    """Something outside the declarations is missing or wrong: a setting, an identity, a tool."""

    exit_code = 7
