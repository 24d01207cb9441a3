"""What belongs to whom: a thing's own places, and those of whole groups and facilities, by the naming rules alone.

Nothing here looks at a policy: the claims would prove themselves.
"""

from __future__ import annotations

from fleet_iot.generator import naming
from fleet_iot.operations.assurance.isolation.principals import Group, Realm
from fleet_iot.operations.assurance.isolation.session import Act
from fleet_iot.operations.assurance.isolation.wildcards import Pattern, Wild

_OWN = "\0"


def own_places(realm: Realm, group: Group) -> tuple[Pattern, ...]:
    """The places of a thing of the group, whatever its name: each ends with the name, or goes on below it."""
    heads = [realm.arn("client", _OWN), realm.arn("thing", _OWN)]
    heads += [realm.arn("topic", head + _OWN) for head in _topic_heads(realm, group)]
    return tuple((head.removesuffix(_OWN), Wild.OWN) for head in heads)


def below(place: Pattern) -> Pattern:
    """All that is below a place."""
    return (*place, "/", Wild.ANY)


def is_within(pattern: Pattern, place: Pattern) -> bool:
    """Whether all that the pattern matches is the place itself, or below it."""
    size = len(place)
    return pattern[:size] == place and (len(pattern) == size or str(pattern[size]).startswith("/"))


def foreign_places(realm: Realm, group: Group, other: Group) -> tuple[Pattern, ...]:
    """The topics that no thing of the group has business in: all of another facility, or of another device type."""
    if group is other:
        return ()
    heads = _topic_heads(realm, other)[:-1]
    if group.facility != other.facility:
        heads = tuple(f"{root}/{realm.application}/{other.facility}/" for root in ("dt", "cmd"))
        heads += (f"$aws/rules/{other.topic_rule}/",)
    return tuple((realm.arn("topic", head), Wild.ANY) for head in heads)


def _topic_heads(realm: Realm, group: Group) -> tuple[str, ...]:
    """What a thing's topics begin with, up to its name; the last is that of all things."""
    telemetry = naming.telemetry_topic(realm.application, group.facility, group.device_type, _OWN).partition(_OWN)[0]
    commands = naming.request_topic(realm.application, group.facility, group.device_type, _OWN).partition(_OWN)[0]
    return telemetry, naming.basic_ingest_topic(group.topic_rule, telemetry), commands, "$aws/things/"


def rights(realm: Realm, group: Group, thing: str) -> frozenset[Act]:
    """What a thing has to be able to do, or the fleet would be isolated because nothing works."""
    of_thing = (realm.application, group.facility, group.device_type, thing)
    telemetry, request = naming.telemetry_topic(*of_thing), naming.request_topic(*of_thing)
    return frozenset(
        {
            Act("iot:Connect", realm.arn("client", thing)),
            Act("iot:Publish", realm.arn("topic", telemetry)),
            Act("iot:Publish", realm.arn("topic", naming.basic_ingest_topic(group.topic_rule, telemetry))),
            Act("iot:Publish", realm.arn("topic", naming.response_topic(*of_thing))),
            Act("iot:Subscribe", realm.arn("topicfilter", request)),
            Act("iot:Receive", realm.arn("topic", request)),
        }
    )
