"""Read AWS IoT policy documents, and decide the language of their resource patterns; refuse what is not understood.

A document that is half understood would be half proven, so there is no lenient reading: an element, an operator, a
variable or an action that is not in the tables here is an error.
https://docs.aws.amazon.com/iot/latest/developerguide/iot-policies.html
"""

from __future__ import annotations

import json
import re
import string
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from fleet_iot.generator.diagnostics import GateError

# Patterns of resources: what one matches, and whether two have a text in common.
#
# A pattern is a sequence of literal texts and wildcards. `*` and `?` are AWS IoT's own and match any characters,
# slashes included; `+` and `#` are plain characters in a policy
# (https://docs.aws.amazon.com/iot/latest/developerguide/pub-sub-policy.html). `OWN` is the name of a thing, left open:
# every pattern of the proof is about all names at once.


class Wild(Enum):
    """The wildcards of a pattern."""

    ONE = "?"
    ANY = "*"
    OWN = "<thing>"


Pattern = tuple[str | Wild, ...]
"""Literal texts and wildcards, in order."""

NAME_CHARACTERS = frozenset(string.ascii_letters + string.digits + ":_-")
"""Of a thing's name: no slash, no wildcard. https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html"""

_REGEX = {Wild.ONE: ".", Wild.ANY: ".*", Wild.OWN: "[a-zA-Z0-9:_-]+"}
_Step = tuple[frozenset[str] | None, bool]
"""The characters of a step (None: all), and whether it may be repeated or left out."""
_Place = tuple[int, int]
"""A position in each of two patterns."""


def split_wildcards(text: str) -> Pattern:
    """Return the pattern of a text in which `*` and `?` are wildcards."""
    parts = re.split(r"([*?])", text)
    return tuple(Wild(part) if part in ("*", "?") else part for part in parts if part)


def exact_text(pattern: Pattern) -> str | None:
    """Return the one text that the pattern matches, or None where it contains a wildcard."""
    return None if any(isinstance(part, Wild) for part in pattern) else "".join(map(str, pattern))


def shown(pattern: Pattern) -> str:
    """Format the pattern for a reader."""
    return "".join(part.value if isinstance(part, Wild) else part for part in pattern)


@lru_cache(maxsize=4096)
def regex_of(pattern: Pattern) -> re.Pattern[str]:
    """Return the regular expression that fully matches what the pattern does."""
    parts = (_REGEX[part] if isinstance(part, Wild) else re.escape(part) for part in pattern)
    return re.compile("".join(parts), re.DOTALL)


@lru_cache(maxsize=4096)
def own_levels(pattern: Pattern) -> frozenset[int]:
    """Return the levels (between slashes, from 0) that are exactly the thing's own name in every text of the pattern.

    A level after `*` or `?` does not count: both match slashes, so its index is not fixed.
    """
    fixed: list[str] = []
    for part in pattern:
        if part in (Wild.ANY, Wild.ONE):
            # What shares its level with the wildcard is not the whole level.
            fixed.append("?")
            break
        fixed.append("\0" if isinstance(part, Wild) else part.replace("\0", "?"))
    return frozenset(index for index, level in enumerate("".join(fixed).split("/")) if level == "\0")


def common_word(one: Pattern, other: Pattern) -> str | None:
    """Return a text that both patterns match, or None where there is none: decided, not sampled."""
    if _heads_differ(_head(one), _head(other)):
        return None
    left, right = _steps(one), _steps(other)
    came_from: dict[_Place, tuple[_Place, str]] = {}
    start, end = (0, 0), (len(left), len(right))
    seen, waiting = {start}, deque([start])
    while waiting:
        place = waiting.popleft()
        if place == end:
            return _word(came_from, end)
        for following, character in _moves(left, right, place):
            if following not in seen:
                seen.add(following)
                came_from[following] = (place, character)
                waiting.append(following)
    return None


def _moves(left: tuple[_Step, ...], right: tuple[_Step, ...], place: _Place) -> list[tuple[_Place, str]]:
    i, j = place
    moves: list[tuple[_Place, str]] = []
    if i < len(left) and left[i][1]:
        moves.append(((i + 1, j), ""))
    if j < len(right) and right[j][1]:
        moves.append(((i, j + 1), ""))
    if i < len(left) and j < len(right):
        character = _shared(left[i][0], right[j][0])
        if character is not None:
            moves.append(((i if left[i][1] else i + 1, j if right[j][1] else j + 1), character))
    return moves


def _shared(one: frozenset[str] | None, other: frozenset[str] | None) -> str | None:
    if one is None or other is None:
        return min(one or other or {"x"})
    both = one & other
    return min(both) if both else None


def _word(came_from: dict[_Place, tuple[_Place, str]], place: _Place) -> str:
    characters = []
    while place in came_from:
        place, character = came_from[place]
        characters.append(character)
    return "".join(reversed(characters))


@lru_cache(maxsize=4096)
def _steps(pattern: Pattern) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    for part in pattern:
        if part is Wild.ONE:
            steps.append((None, False))
        elif part is Wild.ANY:
            steps.append((None, True))
        elif part is Wild.OWN:
            steps += [(NAME_CHARACTERS, False), (NAME_CHARACTERS, True)]
        else:
            steps += [(frozenset(character), False) for character in str(part)]
    return tuple(steps)


@lru_cache(maxsize=4096)
def _head(pattern: Pattern) -> str:
    """Return the literal prefix of everything that the pattern matches."""
    head = []
    for part in pattern:
        if isinstance(part, Wild):
            break
        head.append(part)
    return "".join(head)


def _heads_differ(one: str, other: str) -> bool:
    return not (one.startswith(other) or other.startswith(one))


# Statements and conditions of policy documents.
#
# AWS IoT shares IAM's condition operators; the keys are those of a device's connection.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html

Context = Mapping[str, tuple[str, ...]]
"""The values of a request by canonical key; a missing key could not be resolved."""

_KEYS = re.compile(
    r"iot:(ClientId|ConnectAttributes|DomainName"
    r"|Connection\.Thing\.(ThingName|ThingTypeName|IsAttached|Attributes\[[^\[\]]+\])"
    r"|Certificate\.(SerialNumber|AvailableKeys|Subject\.[A-Za-z.]+|Issuer\.[A-Za-z.]+))|aws:SourceIp",
    re.IGNORECASE,
)

_Test = Callable[[str, str], bool]


def _is_like(actual: str, expected: str) -> bool:
    return regex_of(split_wildcards(expected)).fullmatch(actual) is not None


_TESTS: dict[str, tuple[_Test, bool]] = {
    "Bool": (lambda actual, expected: actual.lower() == expected.lower(), False),
    "StringEquals": (lambda actual, expected: actual == expected, False),
    "StringNotEquals": (lambda actual, expected: actual == expected, True),
    "StringEqualsIgnoreCase": (lambda actual, expected: actual.casefold() == expected.casefold(), False),
    "StringNotEqualsIgnoreCase": (lambda actual, expected: actual.casefold() == expected.casefold(), True),
    "StringLike": (_is_like, False),
    "StringNotLike": (_is_like, True),
}
"""Operator → how a value is compared with an expected one, and whether the operator is negated."""

_QUALIFIERS = ("ForAllValues", "ForAnyValue", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One key of one operator; `qualifier` is empty, `ForAllValues` or `ForAnyValue`."""

    operator: str
    qualifier: str
    if_exists: bool
    key: str
    expected: tuple[str, ...]


def canonical_key(key: str) -> str:
    """Return a connection's key in lower case, except for an attribute's name. Raises ValueError for other keys."""
    if _KEYS.fullmatch(key) is None:
        raise ValueError(f"condition key or variable {key!r} is not known")
    name, bracket, attribute = key.partition("[")
    return f"{name.lower()}{bracket}{attribute}"


def read_conditions(block: Any) -> tuple[Condition, ...]:
    """Read the conditions of a statement's block. Raises ValueError where one is not understood."""
    if not isinstance(block, dict):
        raise ValueError(f"Condition is {block!r}")
    return tuple(_condition(operator, key, value) for operator, keys in block.items() for key, value in _items(keys))


def _items(keys: Any) -> list[tuple[str, Any]]:
    if not isinstance(keys, dict) or not keys:
        raise ValueError(f"a condition is {keys!r}")
    return list(keys.items())


def _condition(text: str, key: str, value: Any) -> Condition:
    qualifier, _, operator = text.rpartition(":")
    if_exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    if operator not in _TESTS or qualifier not in _QUALIFIERS:
        raise ValueError(f"condition operator {text!r} is not understood")
    values = value if isinstance(value, list) else [value]
    expected = tuple(str(each).lower() if isinstance(each, bool) else each for each in values)
    if not expected or not all(isinstance(each, str) for each in expected):
        raise ValueError(f"condition {key!r} expects {value!r}")
    if any("${" in each for each in expected):
        raise ValueError(f"condition {key!r} expects a variable, which is not understood")
    if operator == "Bool" and not set(map(str.lower, expected)) <= {"true", "false"}:
        raise ValueError(f"condition {key!r} expects {value!r}")
    key = canonical_key(key)
    return Condition(operator=operator, qualifier=qualifier, if_exists=if_exists, key=key, expected=expected)


def holds(condition: Condition, context: Context) -> bool:
    """Return whether the condition is met.

    `ForAllValues` is met where there is no value at all: that is IAM's rule, and a trap in an Allow.
    """
    actual = context.get(condition.key)
    test, is_negated = _TESTS[condition.operator]
    if actual is None:
        return condition.if_exists or condition.qualifier == "ForAllValues" or (is_negated and not condition.qualifier)
    met = [any(test(value, expected) for expected in condition.expected) != is_negated for value in actual]
    return all(met) if condition.qualifier == "ForAllValues" else any(met)


VERSION = "2012-10-17"
"""In any other version policy variables are plain text."""

ACTIONS = frozenset(
    {
        *("iot:Connect", "iot:DeleteConnection", "iot:Publish", "iot:RetainPublish", "iot:Receive", "iot:Subscribe"),
        *("iot:GetRetainedMessage", "iot:ListRetainedMessages", "iot:AssumeRoleWithCertificate"),
        *("iot:GetThingShadow", "iot:UpdateThingShadow", "iot:DeleteThingShadow", "iot:ListNamedShadowsForThing"),
        *("iot:DescribeJobExecution", "iot:GetPendingJobExecutions"),
        *("iot:StartNextPendingJobExecution", "iot:UpdateJobExecution"),
    }
)
"""The actions that a device policy can allow, https://docs.aws.amazon.com/iot/latest/developerguide/iot-policy-actions.html"""

SPECIAL_CHARACTERS = {"*": "*", "?": "?", "$": "$"}
"""`${*}` is the plain character, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html"""

_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Variable:
    """A policy variable in a resource, by its canonical name."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A character that `${*}`, `${?}` or `${$}` means: never a wildcard."""

    character: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of a statement: texts, in which `*` and `?` are wildcards, variables and literal characters."""

    text: str
    parts: tuple[str | Variable | Literal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; `actions` are the known ones that it names, wildcards expanded."""

    is_allow: bool
    actions: frozenset[str]
    resources: tuple[Resource, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A device policy with its name, as attached to certificates."""

    name: str
    statements: tuple[Statement, ...]


def read_policy(name: str, document: str) -> Policy:
    """Read a policy from a JSON document. Raises GateError where anything in it is not understood."""
    try:
        body = json.loads(document, object_pairs_hook=_object)
        if not isinstance(body, dict) or set(body) - {"Version", "Id", "Statement"}:
            raise _UnknownError("a policy holds Version and Statement")
        if body.get("Version") != VERSION:
            raise _UnknownError(f"Version is {body.get('Version')!r}, and variables need {VERSION}")
        statements = body.get("Statement")
        listed = statements if isinstance(statements, list) else [statements]
        return Policy(name=name, statements=tuple(map(_statement, listed)))
    except (ValueError, _UnknownError) as error:
        raise GateError(f"policy {name}: {error}", hint="the isolation proof refuses what it cannot read") from None


class _UnknownError(Exception):
    """Something in the document is not understood."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"a key occurs twice among {', '.join(keys)}")
    return dict(pairs)


def _statement(body: Any) -> Statement:
    if not isinstance(body, dict):
        raise _UnknownError("a statement is an object")
    if unknown := sorted(set(body) - _ELEMENTS):
        raise _UnknownError(f"element {unknown[0]!r} is not understood")
    if body.get("Effect") not in ("Allow", "Deny"):
        raise _UnknownError(f"Effect is {body.get('Effect')!r}")
    return Statement(
        is_allow=body["Effect"] == "Allow",
        actions=frozenset().union(*map(_actions, _texts(body, "Action"))),
        resources=tuple(map(read_resource, _texts(body, "Resource"))),
        conditions=read_conditions(body.get("Condition", {})),
    )


def _texts(body: dict[str, Any], element: str) -> list[str]:
    value = body.get(element)
    listed = value if isinstance(value, list) else [value]
    texts = [text for text in listed if isinstance(text, str) and text]
    if not texts or len(texts) != len(listed):
        raise _UnknownError(f"{element} is {value!r}")
    return texts


def _actions(text: str) -> frozenset[str]:
    """Return the known actions of a name in which `*` and `?` are wildcards; case is ignored."""
    regex = re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), re.IGNORECASE)
    found = frozenset(action for action in ACTIONS if regex.fullmatch(action))
    if not found:
        raise _UnknownError(f"action {text!r} is not known")
    return found


def read_resource(text: str) -> Resource:
    """Read a resource and its variables. Raises where one is not known."""
    if text != "*" and not text.startswith("arn:"):
        raise _UnknownError(f"resource {text!r} is no ARN")
    return Resource(text=text, parts=tuple(_parts(text)))


def _parts(text: str) -> Iterable[str | Variable | Literal]:
    end = 0
    for match in _VARIABLE.finditer(text):
        if match.start() > end:
            yield _plain(text[end : match.start()])
        name = match.group(1)
        if name in SPECIAL_CHARACTERS:
            yield Literal(SPECIAL_CHARACTERS[name])
        else:
            yield Variable(name=canonical_key(name), text=match.group())
        end = match.end()
    if end < len(text):
        yield _plain(text[end:])


def _plain(text: str) -> str:
    if "${" in text:
        raise _UnknownError(f"variable in {text!r} has no end")
    return text
