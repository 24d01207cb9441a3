"""The conditions of policy statements: which there are, and when they hold.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html, of which
AWS IoT takes over the operators; the keys are those of a device's connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_iot.operations.assurance.isolation.wildcards import regex_of, split_wildcards

Context = Mapping[str, tuple[str, ...]]
"""What is known of a request, by canonical key; a key that is not there could not be resolved."""

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
"""Operator → how a value is compared with an expected one, and whether the condition holds where none is met."""

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
    """A key that a device's connection has, in lower case but for an attribute's name. Raises ValueError for others."""
    if _KEYS.fullmatch(key) is None:
        raise ValueError(f"condition key or variable {key!r} is not known")
    name, bracket, attribute = key.partition("[")
    return f"{name.lower()}{bracket}{attribute}"


def read_conditions(block: Any) -> tuple[Condition, ...]:
    """The conditions of a statement's block. Raises ValueError where one is not understood."""
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

    `ForAllValues` holds where there is no value at all: that is IAM's rule, and a trap in an Allow.
    """
    actual = context.get(condition.key)
    test, is_negated = _TESTS[condition.operator]
    if actual is None:
        return condition.if_exists or condition.qualifier == "ForAllValues" or (is_negated and not condition.qualifier)
    met = [any(test(value, expected) for expected in condition.expected) != is_negated for value in actual]
    return all(met) if condition.qualifier == "ForAllValues" else any(met)
