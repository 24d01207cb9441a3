"""Who there is: the fleet's things by facility and device type, and the policy that each group's certificates carry."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.specs import ACCOUNT_ID_TOKEN, FacilitySpec, fill, suffixed
from fleet_iot.operations.assurance.isolation.policy import Policy, read_policy
from fleet_iot.operations.project import Project

PLACEHOLDER_ACCOUNT = "000000000000"
"""Stands for the account where the manifest leaves it to the credentials: no claim depends on its digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Realm:
    """The name space that the fleet lives in: one application, and the head of all ARNs of its account and region."""

    application: str
    arn_head: str

    def arn(self, kind: str, name: str) -> str:
        """The ARN of a client, topic, topic filter or thing."""
        return f"{self.arn_head}{kind}/{name}"


def realm_of(*, application: str, region: str, account_id: str) -> Realm:
    """The realm of an application in an account and region."""
    head = naming.iot_arn(region, "").replace(ACCOUNT_ID_TOKEN, account_id)
    return Realm(application=application, arn_head=head)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """The things of one device type in one facility, with their full names, the rule they feed and their policy.

    A group is itself and no other (`eq=False`): it is a key of caches, and has thousands of names.
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
    """The fleet of the approved record, as its environment knows it. Raises GateError for a policy that is unclear."""
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
    folder = project.root / naming.OUTPUT_FOLDER / facility.module
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
