"""Reads AWS IoT policy documents into statements and conditions, and refuses whatever it does not understand.

A document that is half understood would be half proven, so there is no lenient reading: an element, an operator, a
variable or an action that is not in the tables here is an error.
https://docs.aws.amazon.com/iot/latest/developerguide/iot-policies.html

AWS IoT shares IAM's condition operators; the keys are those of a device's connection.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.isolation.patterns import regex_of, split_wildcards

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
    """Whether the condition is met.

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
    """A character that `${*}`, `${?}` or `${$}` stands for: never a wildcard."""

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
