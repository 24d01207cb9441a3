"""The attacks of the isolation proof against the local broker: its verdict is the evaluator's, one by one.

Nothing that is let in here reaches a topic rule (what would, is refused), so the other tests find the plant as it was.
"""

from __future__ import annotations

import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_iot.generator import naming
from fleet_iot.lib.specs import fill
from fleet_iot.operations.assurance.isolation.fleet import Group, realm_of
from fleet_iot.operations.assurance.isolation.policy import Policy, read_policy
from fleet_iot.operations.assurance.isolation.session import (
    Act,
    Permissions,
    Reading,
    Session,
    context_of,
    own_session,
    permissions,
)
from fleet_iot.operations.rehearsal.simulator import tls_context
from tests.integration.broker import Asker, Will
from tests.integration.plant import APPLICATION, SUFFIX, Plant, principal_of
from tests.operations.assurance.isolation.attacks import (
    attacks_on,
    hostile_client_ids,
    intrusions,
    wide_attacks,
)

pytestmark = pytest.mark.local_aws

EMULATOR = Reading(name_from_certificate=False, leaves_text=True, live_wildcards=True)
"""Reading that the emulator has of what AWS leaves open (docs/local-aws.md)."""

REALM = realm_of(application=APPLICATION, region="ap-southeast-1", account_id="000000000000")
THINGS = {
    ("sg-01", "press-monitor"): [f"sg-01-press-monitor-000{number}-{SUFFIX}" for number in (1, 2, 3)],
    ("sg-01", "boiler"): [f"sg-01-boiler-000{number}-{SUFFIX}" for number in (1, 2)],
    ("th-01", "boiler"): [f"th-01-boiler-000{number}-{SUFFIX}" for number in (1, 2)],
}
SAMPLE = [(group, things[0]) for group, things in THINGS.items()]
PRESS, BOILER = SAMPLE[0][1], SAMPLE[2][1]
ASKED = ("iot:Publish", "iot:RetainPublish", "iot:Subscribe")
"""Acts that one can ask a broker for; the other acts are other services' or come only with a message."""


def registered_policies(plant: Plant, thing: str) -> tuple[Policy, ...]:
    """Return the policies that are attached to the thing's certificate, as they were deployed."""
    iot = plant.local.client("iot")
    arn = principal_of(iot, thing)
    names = [each["policyName"] for each in iot.list_attached_policies(target=arn)["policies"]]
    return tuple(read_policy(name, iot.get_policy(policyName=name)["policyDocument"]) for name in names)


def groups_of(plant: Plant) -> dict[tuple[str, str], Group]:
    return {
        key: Group(
            facility=key[0],
            device_type=key[1],
            topic_rule=f"rule_telemetry_{key[0].replace('-', '_')}_{SUFFIX}",
            policy=registered_policies(plant, things[0])[0],
            things=tuple(things),
        )
        for key, things in THINGS.items()
    }


def verdict(policies: tuple[Policy, ...], session: Session) -> Permissions:
    return permissions(policies, context_of(session, EMULATOR), EMULATOR)


def is_allowed(permitted: Permissions, act: Act) -> bool:
    """Return whether the evaluator allows the act; a retained message must be publishable too."""
    plain = act._replace(action="iot:Publish") if act.action == "iot:RetainPublish" else act
    return permitted.allows(act) and permitted.allows(plain)


def may_connect(policies: tuple[Policy, ...], session: Session) -> bool:
    return verdict(policies, session).allows(Act("iot:Connect", REALM.arn("client", session.client_id or "")))


def asked(asker: Asker, act: Act) -> bool:
    """Ask the broker for the act and return whether the broker allows it."""
    name = act.resource.removeprefix(REALM.arn_head).partition("/")[2]
    if act.action == "iot:Subscribe":
        return asker.subscribes(name)
    return asker.publishes(name, retain=act.action == "iot:RetainPublish")


def attacks_of(groups: dict[tuple[str, str], Group], key: tuple[str, str], thing: str) -> list[Act]:
    """All attacks of one thing on all others that a broker can be asked for."""
    acts = set(wide_attacks(REALM))
    for other in groups.values():
        acts |= intrusions(REALM, groups[key], thing, other) if other is not groups[key] else set()
        for victim in other.things:
            acts |= attacks_on(REALM, other, victim) if victim != thing else set()
    return sorted(act for act in acts if act.action in ASKED)


def context_for(plant: Plant, thing: str) -> ssl.SSLContext:
    return tls_context(plant.broker, certificate=plant.certificate(thing)[1], key=plant.key(thing))


@pytest.mark.parametrize(("key", "thing"), SAMPLE, ids=[thing for _, thing in SAMPLE])
def test_the_broker_refuses_every_attack_as_the_evaluator_does(plant: Plant, key: tuple[str, str], thing: str) -> None:
    """A connected thing gets none of some hundred acts on others through, and its own rights beside them."""
    groups, permitted = groups_of(plant), verdict(registered_policies(plant, thing), own_session(thing))
    acts = attacks_of(groups, key, thing)
    own = (APPLICATION, *key, thing)
    rights = [
        Act("iot:Publish", REALM.arn("topic", naming.response_topic(*own))),
        Act("iot:Subscribe", REALM.arn("topicfilter", naming.request_topic(*own))),
    ]
    with Asker(plant.broker, client_id=thing, context=context_for(plant, thing)) as asker:
        answers = {act: asked(asker, act) for act in (*acts, *rights)}
    assert len(acts) > 100
    assert {act: is_allowed(permitted, act) for act in answers} == answers
    assert set(rights) == {act for act, answer in answers.items() if answer}


@pytest.mark.parametrize(("key", "thing"), SAMPLE, ids=[thing for _, thing in SAMPLE])
def test_the_broker_refuses_every_other_name_as_the_evaluator_does(
    plant: Plant, key: tuple[str, str], thing: str
) -> None:
    """Under its certificate a thing gets in by its own name alone: no wildcard, no likeness, no other name."""
    policies, context = registered_policies(plant, thing), context_for(plant, thing)
    others = [other for things in THINGS.values() for other in things if other != thing]
    names = list(dict.fromkeys([*others, *hostile_client_ids(thing, others[0]), thing]))
    answers = {name: lets_in(plant, name, context) for name in names}
    expected = {name: may_connect(policies, Session(client_id=name, things=(thing,))) for name in names}
    assert len(names) > 40
    assert expected == answers
    assert [thing] == [name for name, answer in answers.items() if answer]


def lets_in(plant: Plant, client_id: str, context: ssl.SSLContext, will: Will | None = None) -> bool:
    with Asker(plant.broker, client_id=client_id, context=context, will=will) as asker:
        return asker.is_in


@pytest.mark.parametrize("retain", [False, True], ids=["plain", "retained"])
@pytest.mark.parametrize("whose", [PRESS, BOILER], ids=["own", "another's"])
def test_a_will_is_a_publish(plant: Plant, whose: str, retain: bool) -> None:
    """A connection with a last will on a topic gets in only where its thing may publish there, retained if it is so."""
    key = next(key for key, thing in SAMPLE if thing == whose)
    topic = naming.response_topic(APPLICATION, *key, whose)
    permitted = verdict(registered_policies(plant, PRESS), own_session(PRESS))
    act = Act("iot:RetainPublish" if retain else "iot:Publish", REALM.arn("topic", topic))
    answer = lets_in(plant, PRESS, context_for(plant, PRESS), Will(topic=topic, retain=retain))
    assert is_allowed(permitted, act) == answer == (whose == PRESS and not retain)


def test_a_certificate_without_a_thing_gets_in_as_nobody(plant: Plant) -> None:
    """The policy alone is not enough: under a certificate that belongs to no thing no name is let in."""
    iot = plant.local.client("iot")
    policy = registered_policies(plant, PRESS)
    key = ec.generate_private_key(ec.SECP256R1())
    made = iot.create_certificate_from_csr(certificateSigningRequest=request_of(key, PRESS), setAsActive=True)
    iot.attach_policy(policyName=policy[0].name, target=made["certificateArn"])
    names = [PRESS, "${iot:Connection.Thing.ThingName}", *hostile_client_ids(PRESS, BOILER)[:6]]
    try:
        context = tls_context(plant.broker, certificate=made["certificatePem"], key=key)
        answers = {name: lets_in(plant, name, context) for name in names}
    finally:
        iot.detach_policy(policyName=policy[0].name, target=made["certificateArn"])
        iot.update_certificate(certificateId=made["certificateId"], newStatus="INACTIVE")
        iot.delete_certificate(certificateId=made["certificateId"])
    assert {name: may_connect(policy, Session(client_id=name, things=())) for name in names} == answers
    assert not any(answers.values())


def request_of(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@contextmanager
def one_policy_more(plant: Plant, thing: str, *statements: dict[str, Any]) -> Iterator[None]:
    """The thing's certificate with another policy beside its own, for a while."""
    iot = plant.local.client("iot")
    arn = principal_of(iot, thing)
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    # AWS keeps a detached policy for minutes: each has a name of its own, and goes with the platform.
    name = f"broken-on-purpose-{uuid.uuid4()}"
    iot.create_policy(policyName=name, policyDocument=document)
    iot.attach_policy(policyName=name, target=arn)
    try:
        await_listed(iot, name, arn)
        yield
    finally:
        iot.detach_policy(policyName=name, target=arn)


def await_listed(iot: Any, policy: str, target: str) -> None:
    """Wait until the attachment is read back: AWS IoT shows it late."""
    deadline = time.monotonic() + 30
    while policy not in {each["policyName"] for each in iot.list_attached_policies(target=target)["policies"]}:
        assert time.monotonic() < deadline, f"{policy} is not read back"
        time.sleep(0.1)


def allow(action: str | list[str], *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": [f"{REALM.arn_head}{each}" for each in resources]}


COMMANDS = "topic/cmd/*"


@pytest.mark.parametrize(
    "statements",
    [
        (allow(["iot:Publish", "iot:RetainPublish"], COMMANDS), allow("iot:Subscribe", "topicfilter/*")),
        (allow("iot:Subscribe", "topicfilter/cmd/+/+/+/+/request", "topicfilter/dt/?", "topicfilter/$share/*"),),
        (
            allow(["iot:Publish", "iot:Subscribe"], COMMANDS, "topicfilter/${iot:ClientId}/*", "topicfilter/cmd/*"),
            {**allow("iot:*", f"topic/cmd/{APPLICATION}/sg-01/*"), "Effect": "Deny"},
        ),
    ],
    ids=["commands and every filter", "mqtt wildcards are literals", "a denial"],
)
def test_a_broken_policy_is_judged_alike(plant: Plant, statements: tuple[dict[str, Any], ...]) -> None:
    """Broker and evaluator allow the same acts under a policy that is too wide, except on the broker's own topics."""
    groups, key = groups_of(plant), SAMPLE[2][0]
    acts = attacks_of(groups, key, BOILER)
    with one_policy_more(plant, BOILER, *statements):
        permitted = verdict(registered_policies(plant, BOILER), own_session(BOILER))
        with Asker(plant.broker, client_id=BOILER, context=context_for(plant, BOILER)) as asker:
            answers = {act: asked(asker, act) for act in acts}
    differing = {act for act, answer in answers.items() if answer != is_allowed(permitted, act)}
    assert differing <= {act for act in acts if is_reserved(act)}
    assert not any(answers[act] for act in differing)
    assert any(answers.values())


def is_reserved(act: Act) -> bool:
    """Return whether the topic is one of the broker's own, which it refuses to every client."""
    name = act.resource.removeprefix(REALM.arn_head).partition("/")[2]
    if name.startswith("$share/"):
        name = name.split("/", 2)[2]
    return name.startswith("$")


def test_names_under_a_broken_policy_are_judged_alike(plant: Plant) -> None:
    """A policy that goes by the client id lets in who the evaluator says, wildcards in the name included."""
    names = list(dict.fromkeys([PRESS, *hostile_client_ids(BOILER, PRESS)]))
    with one_policy_more(plant, BOILER, allow("iot:Connect", f"client/{PRESS[:5]}*", "client/?", "client/x")):
        policies, context = registered_policies(plant, BOILER), context_for(plant, BOILER)
        answers = {name: lets_in(plant, name, context) for name in names}
    assert {name: may_connect(policies, Session(client_id=name, things=(BOILER,))) for name in names} == answers
    assert answers[PRESS] and answers["+"] and not answers[f"{BOILER}0"]


def test_receive_alone_holds_messages_back(plant: Plant) -> None:
    """A subscription that is too wide brings a thing its own messages alone: Receive is asked for each."""
    key = SAMPLE[2][0]
    own, other = (naming.request_topic(APPLICATION, *key, thing) for thing in THINGS[key])
    data = plant.local.client("iot-data")
    with one_policy_more(plant, BOILER, allow("iot:Subscribe", "topicfilter/cmd/*")):
        permitted = verdict(registered_policies(plant, BOILER), own_session(BOILER))
        with Asker(plant.broker, client_id=BOILER, context=context_for(plant, BOILER)) as asker:
            assert asker.subscribes("cmd/#")
            for topic in (other, own):
                data.publish(topic=topic, qos=1, payload=b"{}")
            wait_until(lambda: own in asker.heard)
            heard = set(asker.heard)
    topics = {own, other}
    assert {topic for topic in topics if permitted.allows(Act("iot:Receive", REALM.arn("topic", topic)))} == heard
    assert {own} == heard


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_the_deployed_policies_are_those_that_are_proven(plant: Plant) -> None:
    """The deployed policies equal those of the approved record, in the account and region of this file."""
    for (facility, device_type), thing in SAMPLE:
        (deployed,) = registered_policies(plant, thing)
        path = plant.root / "lib" / "facilities" / facility.replace("-", "_") / f"{device_type}.policy.json"
        document = fill(path.read_text(encoding="utf-8"), account_id="000000000000", suffix=SUFFIX)
        assert read_policy(deployed.name, document) == deployed
        resources = [resource.text for statement in deployed.statements for resource in statement.resources]
        assert all(text.startswith(REALM.arn_head) for text in resources)
