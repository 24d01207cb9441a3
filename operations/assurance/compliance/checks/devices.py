"""Checks of devices: one identity each, made from a CSR, that may do its own telemetry and nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Kind,
    PlannedInfrastructure,
    Resource,
    Statement,
    name_of,
    policies,
)

THING_NAME = "${iot:Connection.Thing.ThingName}"
"""The policy variable for the name of the connected thing:
https://docs.aws.amazon.com/iot/latest/developerguide/thing-policy-variables.html
"""

IS_ATTACHED = ("Bool", "iot:connection.thing.isattached", ("true",))

RSA_BITS = 2048
CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Keys that AWS IoT accepts: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html"""

AWS_EVENTS = ["$aws", "events"]
"""The first levels of topics on which only AWS IoT publishes: such a message has no sender to name."""

SQL_VERSION = "2016-03-23"

TEMPLATE_LIMIT = 10_240
"""Bytes of a provisioning template: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""


@check(
    "certificate-from-csr",
    "Every certificate is made from its own CSR, so that AWS never has the key",
    about="aws_iot_certificate",
)
def from_csr(planned: PlannedInfrastructure) -> Iterator[Observation]:
    certificates = list(planned.of("aws_iot_certificate"))
    used = Counter(certificate.body.get("csr") for certificate in certificates)
    for certificate in certificates:
        csr = certificate.body.get("csr")
        if csr is None and certificate.body.get("certificate_pem"):
            yield observe(certificate, "certificate_pem")  # signed by a CA that the plant or the maker runs
            continue
        yield observe(
            certificate,
            "csr",
            problem_unless(csr, "AWS would make the key, and Terraform keep it in its state"),
            _fault_of_csr(str(csr)) if csr else "",
            problem_unless(not csr or used[csr] == 1, "shares its CSR with another certificate"),
        )


@check("identity-of-its-own", "Every thing has a name and a certificate that no other thing has", about="aws_iot_thing")
def identity_of_its_own(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """A thing's certificate bears its name; both are attached to each other and to nothing else."""
    attachments = list(planned.of("aws_iot_thing_principal_attachment"))
    by_thing: dict[str, list[Resource | None]] = {}
    owners: Counter[str] = Counter()
    for attachment in attachments:
        thing = planned.target(attachment, attachment.body.get("thing"))
        name = name_of(thing) if thing else attachment.body.get("thing")
        certificate = planned.target(attachment, attachment.body.get("principal"))
        by_thing.setdefault(str(name), []).append(certificate)
        owners[certificate.address if certificate else "?"] += 1
    names = Counter(name_of(thing) for thing in planned.of("aws_iot_thing"))
    for thing in planned.of("aws_iot_thing"):
        found = by_thing.get(str(name_of(thing)), [])
        certificate = found[0] if len(found) == 1 else None
        yield observe(
            thing,
            "principal",
            problem_unless(names[name_of(thing)] == 1, "shares its name with another thing"),
            problem_unless(len(found) == 1, f"has {len(found)} certificates"),
            problem_unless(
                certificate is None or owners[certificate.address] == 1, "shares its certificate with another thing"
            ),
            problem_unless(
                certificate is None or _common_name(certificate) in (None, name_of(thing)),
                "has a certificate that is made out to another name",
            ),
        )


@check("policy-attached", "Every certificate has one policy of the fleet", about="aws_iot_certificate")
def certificates_attached(planned: PlannedInfrastructure) -> Iterator[Observation]:
    attached: dict[str, list[str]] = {}
    strange: dict[str, list[str]] = {}
    for attachment in planned.of("aws_iot_policy_attachment"):
        certificate = planned.target(attachment, attachment.body.get("target"))
        if certificate is not None:
            policy = attachment.body.get("policy")
            attached.setdefault(certificate.address, []).append(str(policy))
            if planned.found("aws_iot_policy", attachment, policy) is None:
                strange.setdefault(certificate.address, []).append(str(policy))
    for certificate in planned.of("aws_iot_certificate"):
        found, strangers = (each.get(certificate.address, []) for each in (attached, strange))
        yield observe(
            certificate,
            "policy",
            problem_unless(len(found) == 1, f"has {len(found)} policies"),
            problem_unless(not strangers, f"has a policy that is none of the fleet's: {', '.join(strangers)}"),
        )


@check("device-policy-scoped", "A device connects as itself and uses its own topics only", about="aws_iot_policy")
def device_policies_scoped(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned, Kind.DEVICE):
        facility = _facility(policy.resource.stack, planned.environment_suffix)
        for statement in policy.allowed:
            connects = "iot:Connect" in statement.actions
            yield observe(
                policy.resource,
                f"{policy.attribute}/{', '.join(statement.actions)}",
                *(_fault_of_topic(resource, facility) for resource in statement.resources),
                problem_unless(
                    not connects or _needs_attachment(statement), "allows a certificate to connect as any thing"
                ),
                problem_unless(statement.resources, "names no resource"),
            )


@check("rule-error-action", "A topic rule stores what it cannot deliver", about="aws_iot_topic_rule")
def rules_keep_errors(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for rule in planned.of("aws_iot_topic_rule"):
        actions = [value for value in rule.block("error_action").values() if value]
        yield observe(
            rule,
            "error_action",
            problem_unless(actions, "loses what its action cannot deliver"),
            problem_unless(rule.body.get("enabled") is True, "is switched off"),
            problem_unless(rule.body.get("sql_version") == SQL_VERSION, "uses an old SQL version"),
        )


@check(
    "rule-hears-its-own",
    "A topic rule selects one facility, or AWS IoT, of one environment, and stamps each message's sender",
    about="aws_iot_topic_rule",
)
def rules_hear_their_own(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """Two environments in one account see the same messages."""
    for rule in planned.of("aws_iot_topic_rule"):
        sql = str(rule.body.get("sql"))
        topic = re.search(r"FROM '([^']*)'", sql)
        levels = topic[1].split("/") if topic else []
        yield observe(
            rule,
            "sql",
            problem_unless(f"'-{planned.environment_suffix}$'" in sql, "selects the things of other environments"),
            problem_unless(
                levels and levels[0] != "#" and not {"+", "#"} & set(levels[:3]), "selects other facilities"
            ),
            problem_unless("principal()" in sql or levels[:2] == AWS_EVENTS, "does not say who sent a message"),
        )


@check(
    "template-scoped",
    "A provisioning template makes a whole identity with a policy of the fleet",
    about="aws_iot_provisioning_template",
)
def templates_scoped(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for template in planned.of("aws_iot_provisioning_template"):
        body = str(template.body.get("template_body"))
        try:
            resources = json.loads(body)["Resources"]
            kinds = {each["Type"] for each in resources.values()}
            named = [each["Properties"].get("PolicyName") for each in resources.values() if "Policy" in each["Type"]]
        except (ValueError, KeyError, TypeError):
            kinds, named = set(), []
        yield observe(
            template,
            "template_body",
            problem_unless({"AWS::IoT::Thing", "AWS::IoT::Certificate"} <= kinds, "makes no whole identity"),
            problem_unless(named and all(named), "gives a device a policy of its own making, or none"),
            problem_unless(len(body.encode()) <= TEMPLATE_LIMIT, "is too long"),
        )


def _needs_attachment(statement: Statement) -> bool:
    return IS_ATTACHED in [(each.operator, each.key, each.values) for each in statement.conditions]


def _facility(stack: str, suffix: str) -> str:
    return stack.removeprefix("facility-").removesuffix(f"-{suffix}")


def _fault_of_topic(resource: str, facility: str) -> str:
    """Return what is wrong with a device policy's resource; `+` and `#` are plain characters there, `*` and `?` not."""
    path = resource.split(":", 5)[-1]
    levels = path.split("/")
    if "*" in path or "?" in path:
        return f"allows {path}"
    if THING_NAME not in levels:
        return f"allows {path} to every thing"
    return problem_unless(levels[0] == "client" or facility in levels, f"allows {path}, of another facility")


def _fault_of_csr(text: str) -> str:
    try:
        request = x509.load_pem_x509_csr(text.encode())
    except ValueError:
        return "holds no certificate signing request"
    key = request.public_key()
    is_strong = (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS
    )
    if not is_strong:
        return "asks for a weak key"
    return problem_unless(request.is_signature_valid, "is not signed by its own key")


def _common_name(certificate: Resource) -> str | None:
    """Return the name in the certificate's CSR; None where that cannot be read, which another check reports."""
    try:
        subject = x509.load_pem_x509_csr(str(certificate.body.get("csr")).encode()).subject
    except ValueError:
        return None
    return next((str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)), None)
