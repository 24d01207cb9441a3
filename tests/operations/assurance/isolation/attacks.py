"""The attacks: what a thing with a certificate of its own tries against others, and under which names.

The evaluator and the local broker are asked the same, so that their verdicts can be compared.
"""

from __future__ import annotations

from functools import lru_cache

from fleet_iot.generator import naming
from fleet_iot.operations.assurance.isolation.fleet import Group, Realm
from fleet_iot.operations.assurance.isolation.session import COMMON_NAME, Act, Session

WILDCARDS = ("+", "#", "*", "?", "+/+", "$aws/#", "$aws/things/+", "$share/g/#", "")
"""Client ids that are wildcards somewhere; the broker makes up a name for the empty one."""

WIDE_FILTERS = (
    *("#", "+/#", "/#", "*", "?", "$aws/#", "$aws/events/#", "$aws/things/#", "$aws/things/+/shadow/#", "$SYS/#"),
    *(
        "dt/#",
        "cmd/#",
        "dt/+/+/+/+/telemetry",
        "cmd/+/+/+/+/request",
        "cmd/+/+/+/+/response",
        "cmd/*",
        "+/+/+/+/+/request",
    ),
    *("$share/g/#", "$share/g/cmd/#", "$share/g/+/+/+/+/+/request"),
)
"""Topic filters that hear what belongs to others."""

WIDE_TOPICS = (
    *(
        "$aws/events/presence/connected/x",
        "$aws/certificates/create/json",
        "$aws/provisioning-templates/x/provision/json",
    ),
    *("$aws/rules/other/x", "dt", "cmd", "*", "$aws/things/*/shadow/update"),
)
"""Topics that no device publishes to."""

NO_NAMES = (Act("iot:ListRetainedMessages", "*"),)


def attacks_on(realm: Realm, group: Group, thing: str) -> frozenset[Act]:
    """Return the acts in this thing's places that another thing must be unable to do, once it is connected."""
    of_thing = (realm.application, group.facility, group.device_type, thing)
    telemetry, request = naming.telemetry_topic(*of_thing), naming.request_topic(*of_thing)
    response, shadow = naming.response_topic(*of_thing), f"$aws/things/{thing}/shadow"
    ingest = naming.basic_ingest_topic(group.topic_rule, telemetry)
    topics = (telemetry, ingest, response, request, f"{shadow}/update", f"$aws/things/{thing}/jobs/get")
    filters = (telemetry, request, response, f"{request.rpartition('/')[0]}/#", f"{shadow}/#", f"$share/g/{request}")
    filters += (naming.request_topic(*of_thing[:3], "+"),)
    acts = [
        Act(action, realm.arn("topic", topic)) for topic in topics for action in ("iot:Publish", "iot:RetainPublish")
    ]
    acts += [Act("iot:Subscribe", realm.arn("topicfilter", each)) for each in filters]
    acts += [
        Act("iot:Receive", realm.arn("topic", each)) for each in (telemetry, request, response, f"{shadow}/update")
    ]
    acts += [Act(f"iot:{verb}ThingShadow", realm.arn("thing", thing)) for verb in ("Get", "Update", "Delete")]
    acts += [Act("iot:DeleteConnection", realm.arn("client", thing))]
    acts += [Act("iot:GetRetainedMessage", realm.arn("topic", telemetry))]
    return frozenset(acts)


def intrusions(realm: Realm, group: Group, thing: str, other: Group) -> frozenset[Act]:
    """Return the acts that a thing tries under its own name in the places of another group."""
    own = naming.telemetry_topic(realm.application, group.facility, group.device_type, thing)
    there = (realm.application, other.facility, other.device_type, thing)
    topics = [naming.telemetry_topic(*there), naming.response_topic(*there)]
    filters = [naming.request_topic(*there), naming.request_topic(*there[:3], "+")]
    if other.facility != group.facility:
        topics.append(naming.basic_ingest_topic(other.topic_rule, own))
        filters += [f"dt/{realm.application}/{other.facility}/#", f"cmd/{realm.application}/{other.facility}/#"]
    acts = [Act("iot:Publish", realm.arn("topic", topic)) for topic in topics]
    return frozenset([*acts, *(Act("iot:Subscribe", realm.arn("topicfilter", each)) for each in filters)])


@lru_cache(maxsize=256)
def wide_attacks(realm: Realm) -> frozenset[Act]:
    """Return the acts that aim at every thing at once."""
    filters = (*WIDE_FILTERS, f"dt/{realm.application}/#", f"cmd/{realm.application}/#")
    acts = [Act("iot:Subscribe", realm.arn("topicfilter", each)) for each in filters]
    acts += [Act("iot:Publish", realm.arn("topic", each)) for each in WIDE_TOPICS]
    return frozenset([*acts, *NO_NAMES])


def hostile_client_ids(thing: str, other: str) -> tuple[str, ...]:
    """Names that a thing with a certificate of its own tries to connect under; none of them is its own."""
    near = (
        *(
            f"{thing}-",
            f"{thing}0",
            f"{thing}2",
            thing[:-1],
            thing[1:],
            f" {thing}",
            f"{thing} ",
            f"{thing}/",
            f"/{thing}",
        ),
        *(thing.upper(), thing.capitalize(), thing.replace("-", "_"), f"{thing}*", f"{thing}#", f"{thing}/{other}"),
        *(f"../{other}", f"{other}*", f"{other[:-1]}?", f"{thing}\u200b", f"{thing}\u0301", _homoglyphs(thing)),
        *(f"$aws/things/{other}", f"$aws/rules/{other}", f"client/{thing}", f"{thing},{other}", "x" * 128),
        *("${iot:Connection.Thing.ThingName}", "${iot:ClientId}", "${*}", f'{thing}"', f"{thing}\\"),
        *(thing.replace("s", "\u017f"), thing.translate({0x30: 0xFF10})),
    )
    return tuple(dict.fromkeys(each for each in (other, *WILDCARDS, *near) if each != thing))


def _homoglyphs(thing: str) -> str:
    """The name with Cyrillic letters that look like Latin ones."""
    return thing.translate(str.maketrans("aeopcx", "аеорсх"))


def strangers(thing: str, other: str) -> tuple[Session, ...]:
    """Connections that must not get in: under a certificate that has no thing, or that bears another's name."""
    detached = (Session(client_id=each, things=()) for each in (thing, other, "${iot:Connection.Thing.ThingName}"))
    forged = Session(client_id=other, things=(thing,), certificate={COMMON_NAME: other})
    return (*detached, forged)
