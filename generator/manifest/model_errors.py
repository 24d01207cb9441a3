"""Turns a document into the manifest's models, and pydantic's errors into sentences in the manifest's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fleet_iot.generator.aws.limits import REGIONS
from fleet_iot.generator.diagnostics import DataPath, Diagnostic, RequestError
from fleet_iot.generator.manifest.inventory import SERIAL_PATTERN, SPANS_PATTERN
from fleet_iot.generator.manifest.models import (
    ACCOUNT_PATTERN,
    EMAIL_PATTERN,
    METRIC_PATTERN,
    PHONE_PATTERN,
    SOURCES,
    FleetManifest,
    keys_at,
)
from fleet_iot.generator.naming import ID_PATTERN, NAME_PATTERN, SUFFIX_PATTERN
from fleet_iot.generator.text import counted

_PATTERNS = {
    ID_PATTERN: "1 to 32 lower-case letters, digits and hyphens, no hyphen first or last",
    SUFFIX_PATTERN: "1 to 16 lower-case letters, digits and hyphens, no hyphen first or last",
    METRIC_PATTERN: "1 to 64 lower-case letters, digits and underscores, a letter first",
    NAME_PATTERN: "1 to 32 lower-case letters, digits and underscores, no underscore first",
    ACCOUNT_PATTERN: "twelve digits, in quotes",
    EMAIL_PATTERN: "an address, such as control-room@example.com",
    PHONE_PATTERN: "a number with its country code, such as +65 6123 4567",
    SERIAL_PATTERN: "1 to 128 letters, digits and any of _ . , @ / : # = [ ] -, without spaces",
    SPANS_PATTERN: "numbers of things, such as 1-10, or 1-10, 25-26",
}
"""Patterns of the models in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The manifest as far as it could be read: parts with errors are left out, so that rules can check the rest.

    `device_types` are all that the document names, also those left out. `manifest` is None where what the whole
    fleet shares has a fault.
    """

    manifest: FleetManifest | None
    device_types: tuple[str, ...]
    is_complete: bool
    diagnostics: tuple[Diagnostic, ...]


def read_draft(data: Any, *, written: Callable[[DataPath], str] = lambda _: "") -> Draft:
    """Read plain data into the models, with every fault. `written` returns a plain value as it is in its file."""
    try:
        manifest = FleetManifest.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=True)
    else:
        return Draft(manifest=manifest, device_types=tuple(manifest.device_types), is_complete=True, diagnostics=())
    faults = tuple(_fault(detail, data, written) for detail in details)
    return Draft(
        manifest=_without(data, details),
        device_types=_keys(data, "device_types"),
        is_complete=False,
        diagnostics=faults,
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest of the known words; empty where none is near."""
    near = _nearest(word, tuple(known))
    return f"did you mean `{near}`?" if near else ""


def refuse_unknown_facilities(manifest: FleetManifest, facilities: Iterable[str]) -> None:
    """Raise `RequestError` where the manifest does not have a facility."""
    for id_ in facilities:
        if id_ not in manifest.facilities:
            hint = suggestion(id_, manifest.facilities) or f"there are: {', '.join(sorted(manifest.facilities))}"
            raise RequestError(f"the manifest has no facility `{id_}`", hint=hint)


@lru_cache(maxsize=4096)
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Cached: a search among the time zones takes milliseconds, and thousands of facilities may have the same error."""
    import difflib  # only where there is a fault

    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def dotted(path: DataPath) -> str:
    """Return a path as people write it."""
    return ".".join(str(step) for step in path)


def _keys(data: Any, section: str) -> tuple[str, ...]:
    part = data.get(section) if isinstance(data, dict) else None
    return tuple(part) if isinstance(part, dict) else ()


_NEUTRAL: dict[str, Any] = {"version": 1, "application": "x", "environment_suffix": "x", "region": REGIONS[0]}
"""Values in place of those with a fault that the whole fleet shares; none of them breaks a rule."""


def _without(data: Any, details: Iterable[ErrorDetails]) -> FleetManifest | None:
    """Return the manifest without the parts that have faults; None where that leaves no manifest."""
    if not isinstance(data, dict):
        return None
    kept = {key: dict(part) if isinstance(part, dict) else part for key, part in data.items()}
    for detail in details:
        loc = detail["loc"]
        if loc[0] in ("device_types", "facilities") and len(loc) > 1:
            kept[str(loc[0])].pop(loc[1], None)
        else:
            kept.pop(str(loc[0]), None)
    try:
        return FleetManifest.model_validate(_NEUTRAL | kept)
    except ValidationError:
        return None


def _fault(detail: ErrorDetails, data: Any, written: Callable[[DataPath], str]) -> Diagnostic:
    loc, kind = detail["loc"], detail["type"]
    is_key = bool(loc) and loc[-1] == "[key]"
    path: DataPath = loc[:-1] if is_key else loc
    if kind == "missing":
        return _missing(path)
    if kind == "extra_forbidden":
        return _unknown(path)
    if path[-1:] == ("count",) and not isinstance(_value_at(data, path[:-1]), dict):
        path = path[:-1]  # a bare count, which the model reads as {count: …}
    name = "the manifest" if not path else f"the name `{path[-1]}`" if is_key else f"`{path[-1]}`"
    given, context = detail["input"], dict(detail.get("ctx") or {})
    text = written(path) if not is_key and (given is None or isinstance(given, int | float)) else ""
    message = _MESSAGES.get(kind, _unnamed)(name, text or _shown(given), context)
    if given is None and not is_key:
        message = f"{name} has no value"
    hint = ""
    if kind == "literal_error" and isinstance(given, str):
        hint = suggestion(given, _expected(context))
    elif kind == "string_type" and isinstance(given, int | float):
        hint = f'put it in quotes: "{text or _shown(given)}"'
    elif kind == "string_type" and text:
        hint = f'{text} means nothing; to have it as text, put it in quotes: "{text}"'
    return Diagnostic(path=path, message=message, hint=hint, is_key=is_key, rule=_RULES.get(kind, "wrong-value"))


def _value_at(data: Any, path: DataPath) -> Any:
    for step in path:
        data = data[step]
    return data


def _missing(path: DataPath) -> Diagnostic:
    owner = f"`{dotted(path[:-1])}`" if path[:-1] else "the manifest"
    needed = ", ".join(f"`{source}`" for source in SOURCES[:-1]) + f" or `{SOURCES[-1]}`"
    message = f"{owner} needs {needed if path[-1] == SOURCES[0] else f'`{path[-1]}`'}"
    return Diagnostic(
        path=path, message=message, hint="docs/manifest.md lists the keys of each part", rule="missing-key"
    )


def _unknown(path: DataPath) -> Diagnostic:
    known = keys_at(path[:-1])
    where = f" in `{dotted(path[:-1])}`" if path[:-1] else ""
    hint = suggestion(str(path[-1]), known) or f"known here: {', '.join(f'`{key}`' for key in known)}"
    return Diagnostic(path=path, message=f"unknown key `{path[-1]}`{where}", hint=hint, is_key=True, rule="unknown-key")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        return f'"{value if len(value) <= 60 else value[:57] + "..."}"'
    return "nothing" if value is None else str(value)


def _expected(context: dict[str, Any]) -> Iterator[str]:
    return (word.strip("'") for word in str(context.get("expected", "")).replace(" or ", ", ").split(", "))


def _choice(words: Iterable[str]) -> str:
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} or {last}" if others else last


def _type(kind: str) -> Callable[[str, str, dict[str, Any]], str]:
    return lambda name, value, _: f"{name} must be {kind}, not {value}"


def _bound(words: str, key: str) -> Callable[[str, str, dict[str, Any]], str]:
    return lambda name, value, context: f"{name} must be {words} {context[key]:,.10g}, not {value}"


def _unnamed(name: str, value: str, _: dict[str, Any]) -> str:
    return f"{name} cannot be {value}"


_RULES = (
    dict.fromkeys(
        ("int_type", "float_type", "bool_type", "string_type", "dict_type", "model_type", "model_attributes_type"),
        "wrong-type",
    )
    | dict.fromkeys(("int_parsing_size", "finite_number"), "out-of-range")
    | dict.fromkeys(("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "out-of-range")
    | dict.fromkeys(("string_too_short", "string_too_long", "too_short", "too_long"), "wrong-length")
    | {"one_source": "wrong-value", "name_twice": "duplicate-key", "names_of_text": "wrong-type"}
    | {"value_error": "wrong-type", "literal_error": "unknown-choice", "string_pattern_mismatch": "wrong-pattern"}
)
"""The rule id of each kind of pydantic's errors."""

_MESSAGES: dict[str, Callable[[str, str, dict[str, Any]], str]] = {
    "int_type": _type("a whole number"),
    "int_parsing_size": _type("a smaller number"),
    "float_type": _type("a number"),
    "finite_number": _type("a finite number"),
    "bool_type": _type("true or false"),
    "string_type": _type("text"),
    "dict_type": _type("a mapping"),
    "model_type": _type("a mapping"),
    "model_attributes_type": _type("a mapping"),
    "greater_than": _bound("more than", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("less than", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "literal_error": lambda name, value, context: f"{name} must be {_choice(_expected(context))}, not {value}",
    "one_source": lambda name, _value, context: (
        f"{name} needs exactly one of {', '.join(f'`{source}`' for source in SOURCES)}, not {context['given']} together"
    ),
    "name_twice": lambda name, _value, context: f"{name} has the name `{context['twice']}` twice",
    "names_of_text": lambda name, _value, _context: f"{name} must be a list of texts: put numbers in quotes",
    "value_error": lambda name, value, _context: f"{name} must be the path of a file, not {value}",
    "string_pattern_mismatch": lambda name, value, context: (
        f"{name} must be {_PATTERNS[context['pattern']]}"
        if name.startswith("the name")
        else f"{name} must be {_PATTERNS[context['pattern']]}, not {value}"
    ),
    "string_too_short": lambda name, _value, _context: f"{name} must not be empty",
    "string_too_long": lambda name, _value, context: (
        f"{name} must have at most {counted(context['max_length'], 'character')}"
    ),
    "too_short": lambda name, _value, _context: f"{name} must not be empty",
    "too_long": lambda name, _value, context: f"{name} must have at most {context['max_length']} entries",
}
