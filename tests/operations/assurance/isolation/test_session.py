"""Permissions of a connection under a policy: variables, conditions, readings, refusal of what is not understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.isolation.policy import read_policy
from fleet_iot.operations.assurance.isolation.session import READINGS, Act, Reading, Session, contexts, permissions

HEAD = "arn:aws:iot:eu-west-1:111122223333:"
THING = "${iot:Connection.Thing.ThingName}"
ATTACHED = {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}
DOCUMENTED = Reading(name_from_certificate=False, leaves_text=False, live_wildcards=False)


def statement(resource: str | list[str], action: str | list[str] = "iot:Publish", **more: Any) -> dict[str, Any]:
    listed = [resource] if isinstance(resource, str) else resource
    return {"Effect": "Allow", "Action": action, "Resource": [f"{HEAD}{each}" for each in listed], **more}


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def verdicts(session: Session, act: tuple[str, str], *statements: dict[str, Any]) -> set[bool]:
    """Return the verdicts of all readings on an act, which is given without the head of its ARN."""
    policy = read_policy("p", document(*statements))
    wanted = Act(act[0], f"{HEAD}{act[1]}")
    return {permissions([policy], context, reading).allows(wanted) for context, reading in contexts(session)}


def session(client_id: str | None = "t-1", *things: str, **more: Any) -> Session:
    return Session(client_id=client_id, things=things or ("t-1",), **more)


def test_a_things_name_is_put_in() -> None:
    """The variable is replaced by the connected thing's name, and by no other."""
    assert {True} == verdicts(session(), ("iot:Publish", "topic/dt/t-1/x"), statement(f"topic/dt/{THING}/x"))
    assert {False} == verdicts(session(), ("iot:Publish", "topic/dt/t-10/x"), statement(f"topic/dt/{THING}/x"))
    assert {False} == verdicts(session(), ("iot:Publish", "topic/dt/T-1/x"), statement(f"topic/dt/{THING}/x"))
    assert {False} == verdicts(session(), ("iot:Receive", "topic/dt/t-1/x"), statement(f"topic/dt/{THING}/x"))


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("topicfilter/dt/+/x", True),
        ("topicfilter/dt/a/x", False),
        ("topicfilter/all/#", True),
        ("topicfilter/all/a", False),
        ("topicfilter/star/#", True),
        ("topicfilter/star/+/a/b", True),
        ("topicfilter/one/+", True),
        ("topicfilter/one/ab", False),
        ("topicfilter/plain/*", True),
        ("topicfilter/plain/a", False),
    ],
)
def test_policy_wildcards_are_not_mqtt_wildcards(act: str, expected: bool) -> None:
    """`+` and `#` are characters, `*` is any text across levels, `?` one character, `${*}` an asterisk."""
    resources = ["dt/+/x", "all/#", "star/*", "one/?", "plain/${*}"]
    given = statement([f"topicfilter/{each}" for each in resources], "iot:Subscribe")
    assert {expected} == verdicts(session(), ("iot:Subscribe", act), given)


def test_what_the_guides_leave_open_is_read_both_ways() -> None:
    """A `*` as client id is live in one reading, and a variable without a value stays as text in another."""
    given = statement("topic/dt/${iot:ClientId}")
    assert {True, False} == verdicts(session("*"), ("iot:Publish", "topic/dt/anyone"), given)
    left = verdicts(session("x"), ("iot:Publish", f"topic/{THING}"), statement(f"topic/{THING}"))
    assert {True, False} == left
    own = verdicts(session("x"), ("iot:Publish", "topic/t-1"), statement(f"topic/{THING}"))
    assert {True, False} == own, "an exclusive certificate gives the thing whatever the client id is"


def test_a_plain_session_needs_few_readings() -> None:
    """A thing under its own name is the same in readings that differ only in what it has not."""
    assert 2 == len(contexts(session()))
    assert 8 == len(READINGS)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        (session(), {True}),
        (session("t-2"), {False, True}),
        (session("t-2", "t-1", "t-2"), {True}),
        (session("t-3", "t-1", "t-2"), {False}),
        (Session(client_id="t-1", things=()), {False}),
        (session(None), {False}),
    ],
    ids=["own", "other name", "shared certificate", "shared, third name", "detached", "https"],
)
def test_is_attached(connection: Session, expected: set[bool]) -> None:
    """Only a certificate that belongs to the thing of the client id, or to one thing only, is attached."""
    given = statement("client/*", "iot:Connect", Condition=ATTACHED)
    assert expected == verdicts(connection, ("iot:Connect", "client/any"), given)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"StringEquals": {"iot:ClientId": "t-1"}}, True),
        ({"StringEquals": {"iot:ClientId": "T-1"}}, False),
        ({"StringEqualsIgnoreCase": {"iot:ClientId": "T-1"}}, True),
        ({"StringEquals": {"iot:ClientId": ["x", "t-1"]}}, True),
        ({"StringEquals": {"iot:ClientId": "t-*"}}, False),
        ({"StringLike": {"iot:ClientId": "t-*"}}, True),
        ({"StringLike": {"iot:ClientId": "?"}}, False),
        ({"StringNotLike": {"iot:ClientId": "t-*"}}, False),
        ({"StringNotEquals": {"iot:ClientId": "x"}}, True),
        ({"StringEquals": {"iot:Connection.Thing.ThingTypeName": "press"}}, True),
        ({"StringEquals": {"iot:Connection.Thing.Attributes[line]": "b2"}}, True),
        ({"StringEquals": {"iot:Connection.Thing.Attributes[Line]": "b2"}}, False),
        ({"StringEqualsIfExists": {"iot:Connection.Thing.Attributes[Line]": "b2"}}, True),
        ({"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}}, True),
        ({"ForAnyValue:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}}, False),
        ({"Bool": {"iot:Connection.Thing.IsAttached": True}}, True),
        ({"Bool": {"iot:Connection.Thing.IsAttached": "false"}}, False),
        ({"Bool": {"iot:Connection.Thing.IsAttached": "true"}, "StringEquals": {"iot:ClientId": "x"}}, False),
    ],
)
def test_conditions(condition: dict[str, Any], expected: bool) -> None:
    """Each operator is met where IAM says so; all conditions of a statement have to be."""
    connection = session(types={"t-1": "press"}, attributes={"t-1": {"line": "b2"}})
    assert {expected} == verdicts(connection, ("iot:Publish", "topic/x"), statement("topic/x", Condition=condition))


def test_deny_wins() -> None:
    """An act that one statement denies is allowed by no other."""
    deny = {**statement("topic/x/*"), "Effect": "Deny"}
    assert {False} == verdicts(session(), ("iot:Publish", "topic/x/y"), statement("topic/x/y"), deny)
    assert {True} == verdicts(session(), ("iot:Publish", "topic/x"), statement("topic/x"), deny)


def test_names_of_actions_know_no_case_and_take_wildcards() -> None:
    """`IOT:pub*` allows to publish, and not to subscribe."""
    assert {True} == verdicts(session(), ("iot:Publish", "topic/x"), statement("topic/x", "IOT:pub*"))
    assert {False} == verdicts(session(), ("iot:Subscribe", "topic/x"), statement("topic/x", "IOT:pub*"))


@pytest.mark.parametrize("name", ["*", "a+b", "x$y", "y" * 1025])
def test_a_certificates_value_with_a_wildcard_is_not_put_in(name: str) -> None:
    """The variable stays as text, or matches nothing."""
    connection = session(certificate={"iot:Certificate.Subject.CommonName": name})
    given = statement("topic/${iot:Certificate.Subject.CommonName}")
    assert {False} == verdicts(connection, ("iot:Publish", f"topic/{name}"), given)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        document(statement("topic/x"), version="2008-10-17"),
        document({**statement("topic/x"), "NotAction": "iot:Connect"}),
        document({"Effect": "Allow", "NotResource": "*", "Action": "iot:Publish"}),
        document({**statement("topic/x"), "Principal": "*"}),
        document({**statement("topic/x"), "Effect": "allow"}),
        document({**statement("topic/x"), "effect": "Deny"}),
        document({**statement("topic/x"), "Resource": []}),
        document({**statement("topic/x"), "Resource": "topic/x"}),
        document(statement("topic/x", "iot:Frobnicate")),
        document(statement("topic/x", "s3:*")),
        document(statement("topic/${iot:Unheard}")),
        document(statement("topic/${iot:ClientId")),
        document(statement("topic/${${iot:ClientId}}")),
        document(statement("topic/x", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})),
        document(statement("topic/x", Condition={"StringEquals": {"iot:Unheard": "x"}})),
        document(statement("topic/x", Condition={"StringEquals": {"iot:ClientId": THING}})),
        document(statement("topic/x", Condition={"Bool": {"iot:Connection.Thing.IsAttached": "yes"}})),
        document(statement("topic/x", Condition={"Nobody:StringEquals": {"iot:ClientId": "x"}})),
        document(statement("topic/x", Condition={"StringEquals": {}})),
        document(statement("topic/x", Condition=["StringEquals"])),
        '{"Version": "2012-10-17", "Statement": [], "Statement": []}',
    ],
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    """No document is read in part: whatever is not known is a fault that names the policy."""
    with pytest.raises(GateError, match="policy p:"):
        read_policy("p", text)
