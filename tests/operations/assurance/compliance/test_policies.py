"""Reading policies: the shapes that IAM accepts, and what restricts a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance.infrastructure import read_statements


def test_single_values_and_lists_are_read_alike(policy: Callable[..., str]) -> None:
    """IAM takes a string wherever it takes a list."""
    (one,) = read_statements(policy(Action="s3:GetObject", Resource="arn:x", Principal={"Service": "iot"}))
    (many,) = read_statements(policy(Action=["s3:GetObject"], Resource=["arn:x"], Principal={"Service": ["iot"]}))
    assert one == many
    assert (("s3:GetObject",), ("arn:x",), ("iot",)) == (one.actions, one.resources, one.principals_of("Service"))


def test_everyone_is_a_principal(policy: Callable[..., str]) -> None:
    """`*` alone and `{"AWS": "*"}` mean the same."""
    for principal in ("*", {"AWS": "*"}):
        (statement,) = read_statements(policy(Action="s3:GetObject", Principal=principal))
        assert ["*"] == [value for _, value in statement.principals]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "${data.x.json}", '{"Statement": [{"Action": "x"}]}', "{"])
def test_what_is_no_policy_has_no_statements(text: str) -> None:
    """A check that demands statements then fails, instead of passing what it cannot read."""
    assert () == read_statements(text)


@pytest.mark.parametrize(
    ("operator", "value", "expected"),
    [
        ("StringEquals", "123456789012", ("123456789012",)),
        ("StringLike", ["1*", "2*"], ("1*", "2*")),
        ("StringEquals", "*", ()),
        ("StringEqualsIfExists", "123456789012", ()),
        ("StringNotEquals", "123456789012", ()),
        ("Null", "false", ()),
    ],
)
def test_only_some_conditions_bind(
    policy: Callable[..., str], operator: str, value: str | list[str], expected: tuple[str, ...]
) -> None:
    """A negation, an absent key that is accepted, and `*` restrict nothing."""
    (statement,) = read_statements(policy(Action="x:Y", Condition={operator: {"AWS:SourceAccount": value}}))
    assert expected == statement.bound("aws:SourceAccount")


def test_encryption_context_is_seen_by_its_keys(policy: Callable[..., str]) -> None:
    """Whatever a service calls its context."""
    condition = {"StringEquals": {"kms:EncryptionContext:aws:s3:arn": "arn:x", "kms:ViaService": "s3"}}
    (statement,) = read_statements(policy(Action="kms:Decrypt", Condition=condition))
    assert ("kms:encryptioncontext:aws:s3:arn",) == statement.encryption_context


def test_inverted_elements_are_noted(policy: Callable[..., str]) -> None:
    """NotAction, NotResource and NotPrincipal name what is left out."""
    (statement,) = read_statements(policy(NotAction="iam:*", NotResource="arn:x"))
    assert ("NotAction", "NotResource") == statement.inverted


@pytest.mark.parametrize(
    ("condition", "request_", "applies"),
    [
        ({"Null": {"s3:x": "false"}}, {"s3:x": "a"}, True),
        ({"Null": {"s3:x": "false"}}, {}, False),
        ({"Null": {"s3:x": "true"}}, {}, True),
        ({"StringNotEquals": {"s3:x": "a"}}, {}, True),
        ({"StringNotEquals": {"s3:x": ["a", "b"]}}, {"s3:x": "b"}, False),
        ({"StringEquals": {"s3:x": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"S3:X": "a"}}, {}, True),
        ({"ArnNotEqualsIfExists": {"s3:x": "arn:*:k"}}, {"s3:x": "arn:1:k"}, False),
        ({"StringLike": {"s3:x": "a*"}}, {"s3:x": "abc"}, True),
        ({"StringEquals": {"s3:x": "a*"}}, {"s3:x": "abc"}, False),
        ({"Null": {"s3:x": "false"}, "StringNotEquals": {"s3:x": "a"}}, {"s3:x": "b"}, True),
        ({"Null": {"s3:x": "false"}, "StringNotEquals": {"s3:x": "a"}}, {"s3:y": "b"}, False),
        ({}, {}, True),
    ],
)
def test_conditions_hold_for_a_request(
    policy: Callable[..., str], condition: dict[str, Any], request_: dict[str, str], applies: bool
) -> None:
    """As IAM evaluates them: all of a statement, and a negated operator where the key is absent, too."""
    (statement,) = read_statements(policy(Action="s3:PutObject", Resource="*", Condition=condition))
    assert statement.applies_to(request_) is applies


def test_an_operator_that_nobody_evaluates_is_said(policy: Callable[..., str]) -> None:
    """A check does not guess."""
    (statement,) = read_statements(policy(Action="x:Y", Condition={"NumericLessThan": {"s3:x": "1"}}))
    with pytest.raises(ValueError, match="NumericLessThan is not evaluated here"):
        statement.applies_to({"s3:x": "0"})
