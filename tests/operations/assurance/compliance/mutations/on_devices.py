"""Mutations of devices: identities that are shared, missing or made by AWS; policies and rules too wide."""

from __future__ import annotations

from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource
from tests.operations.assurance.compliance.mutations.edits import (
    Mutation,
    NothingToBreakError,
    allows,
    condition_dropped,
    drop,
    edited,
    in_statement,
    mutation,
    pick,
    put,
    removed,
    replaced,
    with_body,
)

CERTIFICATE, THING, POLICY = "aws_iot_certificate", "aws_iot_thing", "aws_iot_policy"
RULE, TEMPLATE = "aws_iot_topic_rule", "aws_iot_provisioning_template"
OF_THING, OF_POLICY = "aws_iot_thing_principal_attachment", "aws_iot_policy_attachment"

TOPIC = "arn:aws:iot:ap-southeast-1:123456789012:topic"


def two(type_: str, planned: PlannedInfrastructure) -> tuple[Resource, Resource]:
    """The first two resources of a type."""
    found = list(planned.of(type_))
    if len(found) < 2:
        raise NothingToBreakError(f"the infrastructure has no two {type_}")
    return found[0], found[1]


def same_as_second(type_: str, attribute: str, planned: PlannedInfrastructure) -> PlannedInfrastructure:
    """The first resource of a type with the second one's attribute."""
    first, second = two(type_, planned)
    return with_body(planned, first, {**first.body, attribute: second.body[attribute]})


def shared_certificate(planned: PlannedInfrastructure) -> PlannedInfrastructure:
    """Two things with one certificate."""
    return same_as_second(OF_THING, "principal", planned)


def swapped_certificates(planned: PlannedInfrastructure) -> PlannedInfrastructure:
    """Two things with each other's certificate."""
    first, second = two(OF_THING, planned)
    planned = with_body(planned, first, {**first.body, "principal": second.body["principal"]})
    again = pick(planned, OF_THING, second.id)
    return with_body(planned, again, {**again.body, "principal": first.body["principal"]})


MUTATIONS: tuple[Mutation, ...] = (
    mutation("certificate-from-csr", "a certificate without CSR", edited(CERTIFICATE, drop("csr"))),
    mutation("certificate-from-csr", "a CSR that is none", edited(CERTIFICATE, put("csr", "x"))),
    mutation(
        "certificate-from-csr",
        "a CSR whose signature is wrong",
        edited(CERTIFICATE, lambda body: body.update(csr=_forged(body["csr"]))),
    ),
    mutation(
        "certificate-from-csr",
        "one CSR for two certificates",
        lambda planned: same_as_second(CERTIFICATE, "csr", planned),
    ),
    mutation("identity-of-its-own", "a thing without certificate", removed(OF_THING)),
    mutation("identity-of-its-own", "two things with one certificate", shared_certificate),
    mutation("identity-of-its-own", "two things with each other's certificate", swapped_certificates),
    mutation("identity-of-its-own", "two things with one name", lambda planned: same_as_second(THING, "name", planned)),
    mutation("policy-attached", "a certificate that may do nothing", removed(OF_POLICY)),
    mutation(
        "policy-attached",
        "a certificate with another group's policy",
        edited(OF_POLICY, put("policy", "AdministratorAccess")),
    ),
    mutation(
        "device-policy-scoped",
        "a device may publish anywhere",
        in_statement(POLICY, put("Resource", f"{TOPIC}/*"), where=allows("iot:Publish")),
    ),
    mutation(
        "device-policy-scoped",
        "a device may publish as any of its type",
        in_statement(
            POLICY, put("Resource", f"{TOPIC}/dt/mfg/sg-01/press-monitor/telemetry"), where=allows("iot:Publish")
        ),
    ),
    mutation(
        "device-policy-scoped",
        "a device may publish in another plant",
        in_statement(
            POLICY,
            put("Resource", f"{TOPIC}/dt/mfg/elsewhere/press/${{iot:Connection.Thing.ThingName}}/telemetry"),
            where=allows("iot:Publish"),
        ),
    ),
    mutation(
        "device-policy-scoped",
        "a device may hear everything",
        in_statement(POLICY, put("Resource", f"{TOPIC}filter/*"), where=allows("iot:Subscribe")),
    ),
    mutation(
        "device-policy-scoped",
        "a certificate may connect as any thing",
        in_statement(POLICY, condition_dropped("iot:Connection.Thing.IsAttached"), where=allows("iot:Connect")),
    ),
    mutation(
        "device-policy-scoped",
        "a device may connect under any client id",
        in_statement(
            POLICY, put("Resource", "arn:aws:iot:ap-southeast-1:123456789012:client/*"), where=allows("iot:Connect")
        ),
    ),
    mutation("rule-error-action", "a rule without error action", edited(RULE, put("error_action", []))),
    mutation("rule-error-action", "an error action that does nothing", edited(RULE, put("error_action.0.s3", []))),
    mutation("rule-error-action", "a rule is switched off", edited(RULE, put("enabled", False))),
    mutation("rule-error-action", "a rule of the old SQL", edited(RULE, put("sql_version", "2015-10-08"))),
    mutation(
        "rule-hears-its-own",
        "a rule selects every environment",
        edited(RULE, lambda body: body.update(sql=body["sql"].partition(" WHERE ")[0])),
    ),
    mutation(
        "rule-hears-its-own",
        "a rule selects every plant",
        edited(RULE, lambda body: body.update(sql=body["sql"].replace(body["sql"].split("/")[2], "+"))),
    ),
    mutation("rule-hears-its-own", "a rule does not say who sent", edited(RULE, replaced("sql", "principal()", "1"))),
    mutation(
        "rule-hears-its-own",
        "events of every environment",
        edited(RULE, lambda body: body.update(sql=body["sql"].partition(" WHERE ")[0]), id_="rule_events_presence"),
    ),
    mutation(
        "rule-hears-its-own",
        "a rule of events that selects devices",
        edited(RULE, replaced("sql", "$aws/events/", "dt/mfg/"), id_="rule_events_thing"),
    ),
    mutation(
        "template-scoped",
        "a template without certificate",
        edited(TEMPLATE, replaced("template_body", "AWS::IoT::Certificate", "AWS::IoT::Thing")),
    ),
    mutation(
        "template-scoped",
        "a template brings a policy of its own",
        edited(TEMPLATE, replaced("template_body", "PolicyName", "PolicyDocument")),
    ),
)


def _forged(csr: str) -> str:
    """The CSR with a bit of its signature changed."""
    lines = csr.strip().splitlines()
    last = lines[-2]
    place = len(last) // 2
    lines[-2] = last[:place] + ("A" if last[place] != "A" else "B") + last[place + 1 :]
    return "\n".join(lines) + "\n"
