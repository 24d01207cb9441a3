"""Device policies that are broken on purpose: each is a way in which isolation has been lost, or might be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
Mutation = Callable[[Document], None]

THING = "${iot:Connection.Thing.ThingName}"
CLIENT = "${iot:ClientId}"
COMMON_NAME = "${iot:Certificate.Subject.CommonName}"


def arn(kind: str, name: str) -> str:
    return f"arn:aws:iot:ap-southeast-1:ACCOUNT_ID:{kind}/{name}"


def statement(document: Document, action: str) -> Document:
    (found,) = (each for each in document["Statement"] if each["Action"] == action)
    return found


def allow(action: str | list[str], resource: str | list[str], **more: Any) -> Mutation:
    """One more statement."""
    return lambda document: document["Statement"].append(
        {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    )


def replace(old: str, new: str, *actions: str) -> Mutation:
    """Another text in the resources of these actions, or of all."""

    def mutate(document: Document) -> None:
        for each in document["Statement"]:
            if not actions or each["Action"] in actions:
                given = each["Resource"]
                resources = [resource.replace(old, new) for resource in ([given] if isinstance(given, str) else given)]
                assert resources != given
                each["Resource"] = resources

    return mutate


def connect(resource: str, condition: Document | None) -> Mutation:
    """Another resource and condition of the right to connect."""

    def mutate(document: Document) -> None:
        found = statement(document, "iot:Connect")
        found["Resource"] = resource
        del found["Condition"]
        if condition is not None:
            found["Condition"] = condition

    return mutate


def together(*mutations: Mutation) -> Mutation:
    def mutate(document: Document) -> None:
        for each in mutations:
            each(document)

    return mutate


ATTACHED = {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}
OWN = f"sg-01/press-monitor/{THING}"

BOTH: dict[str, Mutation] = {
    "anything on anything": allow("iot:*", "*"),
    "any action of any service": allow("*", "*"),
    "connect as anyone": connect(arn("client", "*"), None),
    "connect as anyone, attached": connect(arn("client", "*"), ATTACHED),
    "connect under the client id": connect(arn("client", CLIENT), None),
    "connect under the client id, attached": connect(arn("client", CLIENT), ATTACHED),
    "client id with something behind it": connect(arn("client", f"{THING}*"), ATTACHED),
    "client id with a character behind it": connect(arn("client", f"{THING}?"), ATTACHED),
    "client id from the certificate's subject": connect(arn("client", COMMON_NAME), None),
    "attachment that need not exist": connect(
        arn("client", "*"), {"BoolIfExists": {"iot:Connection.Thing.IsAttached": "true"}}
    ),
    "attachment of all values": connect(
        arn("client", "*"), {"ForAllValues:Bool": {"iot:Connection.Thing.IsAttached": "true"}}
    ),
    "not attached": connect(arn("client", "*"), {"Bool": {"iot:Connection.Thing.IsAttached": "false"}}),
    "wildcard for the thing": replace(THING, "*", "iot:Publish"),
    "wildcard for the type and the thing": replace(f"press-monitor/{THING}", "*", "iot:Publish"),
    "wildcard for the facility": replace("/sg-01/", "/*/", "iot:Publish"),
    "another facility's literal": replace("/sg-01/", "/th-ry-01/", "iot:Publish"),
    "another type's literal": replace("/press-monitor/", "/conveyor/", "iot:Publish"),
    "another facility's rule": replace("rule_telemetry_sg_01", "rule_telemetry_th_ry_01", "iot:Publish"),
    "any rule": replace("rule_telemetry_sg_01_ENVIRONMENT_SUFFIX", "*", "iot:Publish"),
    "a thing's own name left out": replace(f"/{THING}/", "/sg-01-press-monitor-0001-dev/"),
    "prefix of the name": replace(f"{THING}/", f"{THING}*/", "iot:Publish"),
    "subscription to all telemetry": allow("iot:Subscribe", arn("topicfilter", "dt/#")),
    "subscription to every command": allow("iot:Subscribe", arn("topicfilter", "cmd/*")),
    "subscription with a level open": replace(THING, "+", "iot:Subscribe"),
    "subscription with one character open": allow("iot:Subscribe", arn("topicfilter", "?")),
    "shared subscription": allow("iot:Subscribe", arn("topicfilter", "$share/*")),
    "shared subscription of one name": allow(
        "iot:Subscribe", arn("topicfilter", f"$share/g/cmd/mfg/{OWN.replace(THING, '*')}/request")
    ),
    "receive wider than subscribe": replace(THING, "*", "iot:Receive"),
    "receive everything": allow("iot:Receive", arn("topic", "*")),
    "every shadow": allow(["iot:Publish", "iot:Receive"], arn("topic", "$aws/things/*/shadow/*")),
    "every job": allow("iot:Publish", arn("topic", "$aws/things/*/jobs/*")),
    "shadows over HTTPS": allow(["iot:GetThingShadow", "iot:UpdateThingShadow"], arn("thing", "*")),
    "retained anywhere": allow("iot:RetainPublish", arn("topic", "*")),
    "retained messages listed": allow("iot:ListRetainedMessages", "*"),
    "disconnect others": allow("iot:DeleteConnection", arn("client", "*")),
    "lower-case action with wildcard": allow("iot:pub*", arn("topic", "dt/mfg/*")),
    "other account's wildcard ARN": allow("iot:Publish", "arn:aws:iot:*:*:topic/dt/*"),
    "denial that is too small": together(
        allow("iot:Publish", arn("topic", "dt/mfg/*")),
        lambda document: document["Statement"].append(
            {"Effect": "Deny", "Action": "iot:Publish", "Resource": arn("topic", "dt/mfg/th-ry-01/*")}
        ),
    ),
    "subject of the certificate for the thing": replace(THING, COMMON_NAME, "iot:Publish"),
    "client id for the thing, connect open": together(
        connect(arn("client", "*"), None), replace(THING, CLIENT, "iot:Publish", "iot:Subscribe")
    ),
    "condition for the place": allow(
        "iot:Publish", arn("topic", "dt/*"), Condition={"StringLike": {"iot:ClientId": "sg-*"}}
    ),
}
"""Mutations that both ways to prove have to catch."""

SYMBOLIC: dict[str, Mutation] = {
    "no attachment asked for": connect(arn("client", THING), None),
    "attachment or not": connect(
        arn("client", THING), {"Bool": {"iot:Connection.Thing.IsAttached": ["true", "false"]}}
    ),
    "client id for the thing": replace(THING, CLIENT, "iot:Publish", "iot:Subscribe", "iot:Receive"),
    "attribute for the thing": replace(THING, "${iot:Connection.Thing.Attributes[line]}", "iot:Subscribe"),
    "certificate's serial number for the thing": allow(
        "iot:Publish", arn("topic", "dt/mfg/sg-01/press-monitor/${iot:Certificate.SerialNumber}/telemetry")
    ),
    "suffix of the name": replace(f"/{THING}/", f"/x{THING}/", "iot:Receive"),
    "name as a part of a level": allow("iot:Publish", arn("topic", f"dt/mfg/sg-01/press-monitor/{THING}-x/telemetry")),
    "a topic that all share": allow("iot:Subscribe", arn("topicfilter", "cmd/mfg/sg-01/broadcast")),
    "a place below the client id": connect(arn("client", f"{THING}/*"), ATTACHED),
    "another application": allow("iot:Publish", arn("topic", f"dt/other/{OWN}/telemetry")),
    "role by certificate": allow("iot:AssumeRoleWithCertificate", arn("rolealias", "admin")),
}
"""Mutations that only the proof for all names catches: no thing can use them today, or no name is at stake."""
