"""The fleet's groups of things, their policies, and their scopes by the naming rules."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.specs import ACCOUNT_ID_TOKEN, FacilitySpec, fill, suffixed
from fleet_iot.operations.assurance.isolation.policy import Pattern, Policy, Wild, read_policy
from fleet_iot.operations.assurance.isolation.session import Act
from fleet_iot.operations.project import Project

PLACEHOLDER_ACCOUNT = "000000000000"
"""The account where the manifest leaves it to the credentials; no claim depends on its digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Realm:
    """The fleet's name space: one application, and the prefix of all ARNs of its account and region."""

    application: str
    arn_head: str

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a client, topic, topic filter or thing."""
        return f"{self.arn_head}{kind}/{name}"


def realm_of(*, application: str, region: str, account_id: str) -> Realm:
    """Return the realm of an application in an account and region."""
    head = naming.iot_arn(region, "").replace(ACCOUNT_ID_TOKEN, account_id)
    return Realm(application=application, arn_head=head)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """The things of one device type in one facility, with their full names, their topic rule and their policy.

    Compared by identity (`eq=False`), since it has thousands of names.
    """

    facility: str
    device_type: str
    topic_rule: str
    policy: Policy
    things: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.facility}/{self.device_type}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Everything that the proof is about."""

    realm: Realm
    groups: tuple[Group, ...]

    @property
    def thing_count(self) -> int:
        return sum(len(group.things) for group in self.groups)


def gather_fleet(project: Project) -> Fleet:
    """Read the fleet from the approved record. Raises GateError for a policy that is not understood."""
    account_id = project.fleet.account_id or PLACEHOLDER_ACCOUNT
    realm = realm_of(application=project.fleet.application, region=project.fleet.region, account_id=account_id)
    groups = tuple(
        group for facility in project.facilities for group in _groups(project, facility, account_id=account_id)
    )
    return Fleet(realm=realm, groups=groups)


def _groups(project: Project, facility: FacilitySpec, *, account_id: str) -> list[Group]:
    suffix = project.environment_suffix
    things: dict[str, list[str]] = {group.device_type: [] for group in facility.groups}
    for thing in project.things(facility):
        if thing.device_type not in things:
            raise EnvironmentFault(
                f"{thing.name} is a {thing.device_type}, and {facility.id} has no such group",
                hint="run `fleet generate`, then review and commit it",
            )
        things[thing.device_type].append(thing.name)
    folder = project.record / facility.module
    groups = []
    for group in facility.groups:
        try:
            document = (folder / group.policy_file).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise EnvironmentFault(
                f"{facility.module}/{group.policy_file} is missing",
                hint="run `fleet generate`, then review and commit it",
            ) from None
        name = suffixed(group.policy, suffix)
        groups.append(
            Group(
                facility=facility.id,
                device_type=group.device_type,
                topic_rule=suffixed(facility.topic_rule, suffix),
                policy=read_policy(name, fill(document, account_id=account_id, suffix=suffix)),
                things=tuple(things[group.device_type]),
            )
        )
    return groups


# Scopes follow from the naming rules only, never from a policy: the claims would prove themselves.

_OWN = "\0"


def own_scopes(realm: Realm, group: Group) -> tuple[Pattern, ...]:
    """Return the scopes of any thing of the group: each ends with its name, and its descendants are the thing's too."""
    heads = [realm.arn("client", _OWN), realm.arn("thing", _OWN)]
    heads += [realm.arn("topic", head + _OWN) for head in _topic_heads(realm, group)]
    return tuple((head.removesuffix(_OWN), Wild.OWN) for head in heads)


def descendants(scope: Pattern) -> Pattern:
    """Return everything below a scope."""
    return (*scope, "/", Wild.ANY)


def is_within(pattern: Pattern, scope: Pattern) -> bool:
    """Return whether everything that the pattern matches is the scope itself, or below it."""
    size = len(scope)
    return pattern[:size] == scope and (len(pattern) == size or str(pattern[size]).startswith("/"))


def foreign_scopes(realm: Realm, group: Group, other: Group) -> tuple[Pattern, ...]:
    """Return the topics that no thing of the group may use: all of another facility, or of another device type."""
    if group is other:
        return ()
    heads = _topic_heads(realm, other)[:-1]
    if group.facility != other.facility:
        heads = tuple(f"{root}/{realm.application}/{other.facility}/" for root in ("dt", "cmd"))
        heads += (f"$aws/rules/{other.topic_rule}/",)
    return tuple((realm.arn("topic", head), Wild.ANY) for head in heads)


def _topic_heads(realm: Realm, group: Group) -> tuple[str, ...]:
    """Return the prefixes of a thing's topics, up to its name; the last is that of all things."""
    telemetry = naming.telemetry_topic(realm.application, group.facility, group.device_type, _OWN).partition(_OWN)[0]
    commands = naming.request_topic(realm.application, group.facility, group.device_type, _OWN).partition(_OWN)[0]
    return telemetry, naming.basic_ingest_topic(group.topic_rule, telemetry), commands, "$aws/things/"


def rights(realm: Realm, group: Group, thing: str) -> frozenset[Act]:
    """Return the acts that a thing needs for its work."""
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
