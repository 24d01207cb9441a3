"""The errors that people see: located diagnostics, and one exception and exit code for each class of error."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SourceLocation:
    """A place in a manifest; line and column count from 1, as editors do.

    `written` is the text of the plain scalar there, as it is in the file: its value may not show it any more.
    """

    file: str
    line: int = 1
    column: int = 1
    written: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


DataPath = tuple[str | int, ...]
"""The keys and indexes that lead to a value of the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Diagnostic:
    """One problem of the manifest: where it is, what is wrong, and how to correct it.

    `path` is that of the value in the data, where the location follows from it; `is_key`: the key there is wrong, not
    its value. `rule` is the id of its kind, for programs; `related` are other places that belong to it. A warning is
    of what the manifest by itself cannot decide, and leaves it valid.
    """

    location: SourceLocation = SourceLocation(file="")
    message: str
    hint: str = ""
    rule: str = ""
    related: tuple[SourceLocation, ...] = ()
    is_warning: bool = False
    path: DataPath = field(default=(), compare=False, repr=False)
    is_key: bool = field(default=False, compare=False, repr=False)

    def __str__(self) -> str:
        text = visible(f"{self.location}: {'warning: ' * self.is_warning}{self.message}")
        return f"{text}\n  hint: {visible(self.hint)}" if self.hint else text


INVISIBLE = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""First and last of each range of invisible characters: Unicode's Default_Ignorable_Code_Point, the separators
of lines and paragraphs, and interlinear annotation. A test compares it with the sensor processor's list.
https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt"""

_INVISIBLE = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in INVISIBLE) + "]")


def visible(text: str) -> str:
    """Return the text on one line, with escapes in place of what would hide, forge or reorder it on a screen."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if is_hidden(character) else character for character in text)


def is_hidden(character: str) -> bool:
    """Return whether the character is invisible, or changes how others are shown."""
    category = unicodedata.category(character)
    return category in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn") or _INVISIBLE.match(character) is not None


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class FleetError(Exception):
    """An expected error, one sentence with a remedy; any other exception is a bug."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def lines(self) -> list[str]:
        """Return what a person reads on stderr."""
        return [visible(f"error: {self.message}"), *([visible(f"hint: {self.hint}")] if self.hint else [])]


class ManifestError(FleetError):
    """The manifest has errors.

    `diagnostics` are all that were found, with their places.
    """

    exit_code = 3

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(sorted(set(diagnostics)))
        count = len(self.diagnostics)
        super().__init__(f"the manifest has {count} error{'s' if count != 1 else ''}; nothing was written")

    def lines(self) -> list[str]:
        return [*(str(diagnostic) for diagnostic in self.diagnostics), *super().lines()]


def refusal(location: SourceLocation, message: str, hint: str = "", *, rule: str) -> ManifestError:
    """Return the error for the one problem after which reading cannot go on."""
    return ManifestError([Diagnostic(location=location, message=message, hint=hint, rule=rule)])


class OutcomeError(FleetError):
    """The command ran, and there was nothing of what it was asked for, or something of it failed."""


class RequestError(FleetError):
    """The command line names what the project does not have, or combines what does not go together."""

    exit_code = 2


class StaleError(FleetError):
    """The generated tree is not what the manifest says."""

    exit_code = 4


class GateError(FleetError):
    """A gate failed: a rendered artefact, the AWS rules, the compliance checks or the isolation proof."""

    exit_code = 5


class WriteError(FleetError):
    """The generated tree could not, or must not, be written."""

    exit_code = 6


class EnvironmentFault(FleetError):  # noqa: N818 - the family's word
    """Something outside the project is missing or does not work."""

    exit_code = 7
