"""The generated fleet is isolated, and no fleet with a broken policy is."""

from __future__ import annotations

import dataclasses

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.isolation.fleet import Fleet
from fleet_iot.operations.assurance.isolation.proof import check_apart, prove
from tests.operations.assurance.isolation.conftest import Break
from tests.operations.assurance.isolation.mutations import BOTH, SYMBOLIC, Mutation
from tests.operations.assurance.isolation.one_by_one import try_attacks

BROKEN = "sg-01/press-monitor"


@pytest.mark.slow
def test_the_generated_fleet_is_isolated(fleet: Fleet) -> None:
    """Every ordered pair of groups is decided, every thing has its rights, and no claim fails."""
    result = prove(fleet)
    assert () == result.findings
    assert (3, 13, 13 * 13, 13) == (result.facilities, result.groups, result.group_pairs, result.policies)
    assert (194, 6 * 194, 6 * 13) == (result.things, result.rights, result.grants)
    assert result.pattern_pairs > result.group_pairs * 6


@pytest.mark.slow
def test_no_attack_on_the_generated_fleet_succeeds(fleet: Fleet) -> None:
    """The evaluator, asked thing by thing, agrees with the proof for all names."""
    breaches, tried = try_attacks(fleet)
    assert [] == breaches
    assert tried > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("mutation", BOTH.values(), ids=BOTH.keys())
def test_a_broken_policy_is_caught_for_all_names(broken: Break, mutation: Mutation) -> None:
    """The proof fails, for the broken group only."""
    assert {BROKEN} == {finding.group for finding in prove(broken(mutation)).findings}


@pytest.mark.parametrize("mutation", BOTH.values(), ids=BOTH.keys())
def test_a_broken_policy_meets_what_belongs_to_others(broken: Break, mutation: Mutation) -> None:
    """The second lemma finds it without the first, and shows a text that both things could use."""
    fleet = broken(mutation)
    (group,) = (group for group in fleet.groups if group.name == BROKEN)
    findings = [each for other in fleet.groups for each in check_apart(fleet.realm, group, other)[0]]
    assert any(finding.witness for finding in findings)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", BOTH.values(), ids=BOTH.keys())
def test_a_broken_policy_is_caught_thing_by_thing(broken: Break, mutation: Mutation) -> None:
    """The attacks find it too: what the proof calls a fault is one that a thing of this fleet could use."""
    assert {BROKEN} == {breach.group for breach in try_attacks(broken(mutation))[0]}


@pytest.mark.parametrize("mutation", SYMBOLIC.values(), ids=SYMBOLIC.keys())
def test_what_no_thing_could_use_today_is_caught_for_all_names(broken: Break, mutation: Mutation) -> None:
    """A policy that is only safe because of the names that happen to be there is not taken for safe."""
    assert {BROKEN} == {finding.group for finding in prove(broken(mutation)).findings}


HARMLESS: dict[str, Mutation] = {
    "its own shadow": lambda document: document["Statement"].append(
        {
            "Effect": "Allow",
            "Action": ["iot:Publish", "iot:Receive", "iot:RetainPublish"],
            "Resource": "arn:aws:iot:ap-southeast-1:ACCOUNT_ID:topic/"
            "$aws/things/${iot:Connection.Thing.ThingName}/shadow/*",
        }
    ),
    "all below its own command topic": lambda document: document["Statement"].append(
        {
            "Effect": "Allow",
            "Action": "iot:Subscribe",
            "Resource": "arn:aws:iot:ap-southeast-1:ACCOUNT_ID:topicfilter/"
            "cmd/mfg/sg-01/press-monitor/${iot:Connection.Thing.ThingName}/*",
        }
    ),
    "its own shadow, by its API": lambda document: document["Statement"].append(
        {
            "Effect": "Allow",
            "Action": "iot:GetThingShadow",
            "Resource": "arn:aws:iot:ap-southeast-1:ACCOUNT_ID:thing/${iot:Connection.Thing.ThingName}",
        }
    ),
    "a denial more": lambda document: document["Statement"].append(
        {"Effect": "Deny", "Action": "iot:RetainPublish", "Resource": "*"}
    ),
}


@pytest.mark.parametrize("mutation", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_policy_that_keeps_to_its_own_thing_is_no_finding(broken: Break, mutation: Mutation) -> None:
    """The proof is not a comparison with the generated text: what is safe in another way passes too."""
    assert () == prove(broken(mutation)).findings


def test_a_policy_that_takes_rights_away_is_caught(broken: Break) -> None:
    """A fleet that is isolated because nothing works is no isolated fleet."""
    result = prove(broken(lambda document: document["Statement"].pop()))
    assert {"a thing has its rights: iot:Receive"} == {finding.claim for finding in result.findings}


@pytest.mark.slow
def test_two_things_of_one_name_are_caught(fleet: Fleet) -> None:
    """A name that two plants use is one thing to the broker."""
    first, second, *rest = fleet.groups
    doubled = dataclasses.replace(second, things=(*second.things, first.things[0]))
    result = prove(dataclasses.replace(fleet, groups=(first, doubled, *rest)))
    assert "a name belongs to one thing" in {finding.claim for finding in result.findings}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a/b", "+", "#", "*", "thing é", ""])
def test_a_name_that_is_none_is_caught(fleet: Fleet, name: str) -> None:
    """The proof for all names is about thing names; others are reported."""
    first, *rest = fleet.groups
    odd = dataclasses.replace(first, things=(*first.things, name))
    result = prove(dataclasses.replace(fleet, groups=(odd, *rest)))
    assert name in {finding.witness for finding in result.findings}


def test_a_fleet_of_nothing_proves_nothing(fleet: Fleet) -> None:
    """The proof cannot pass by looking at nothing."""
    empty = tuple(dataclasses.replace(group, things=()) for group in fleet.groups)
    with pytest.raises(GateError, match="proves nothing"):
        prove(dataclasses.replace(fleet, groups=empty))
