"""Whatever ids the manifest allows, the names, topics and policies made of them are within AWS's limits."""

from __future__ import annotations

import json
import re

import pytest

from fleet_iot.generator import naming
from fleet_iot.generator.output import gates
from fleet_iot.generator.output.templating import render_template
from fleet_iot.generator.plan.build import policy_plan
from fleet_iot.lib import names as resource_names

LONGEST = "a" * 32
SUFFIX = "s" * naming.SUFFIX_MAX_LENGTH
THING = f"{naming.named_thing(LONGEST, LONGEST, LONGEST)}-{SUFFIX}"
"""Longer than any numbered one."""


@pytest.mark.parametrize(
    ("name", "pattern", "maximum"),
    [
        (THING, r"[a-zA-Z0-9:_-]+", 128),
        (f"{resource_names.thing_type(LONGEST)}-{SUFFIX}", r"[a-zA-Z0-9:_-]+", 128),
        (f"{resource_names.thing_group(LONGEST, LONGEST)}-{SUFFIX}", r"[a-zA-Z0-9_-]+", 128),
        (f"{resource_names.policy(LONGEST, LONGEST)}-{SUFFIX}", r"[\w+=,.@-]+", 128),
        (f"{resource_names.topic_rule('a-b' + 'c' * 29)}_{SUFFIX}", r"[a-zA-Z0-9_]+", 128),
        (f"{resource_names.dashboard(LONGEST)}-{SUFFIX}", r"[a-zA-Z0-9_-]+", 255),
    ],
)
def test_longest_name_fits(name: str, pattern: str, maximum: int) -> None:
    """Length and alphabet are AWS's, with the longest suffix that there can be."""
    assert re.fullmatch(pattern, name)
    assert len(name) <= maximum


@pytest.mark.parametrize("topic", [naming.telemetry_topic, naming.request_topic, naming.response_topic])
def test_longest_topic_fits(topic: object) -> None:
    """At most 256 bytes and 7 slashes: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
    text = topic(LONGEST, LONGEST, LONGEST, THING)  # type: ignore[operator]
    assert len(text.encode()) <= 256
    assert text.count("/") <= 7


def test_longest_policy_passes_its_gate() -> None:
    """The policy of the longest ids in the longest region's name is below 2,048 characters."""
    plan = policy_plan(LONGEST, "ap-northeast-1", LONGEST, LONGEST)
    content = render_template("facility/policy.json.j2", {"policy": plan})
    gates.check_policy("policy.json", content)
    assert "Statement" in json.loads(content)


@pytest.mark.parametrize(
    ("facility", "module"),
    [("sg-01", "sg_01"), ("1st", "_1st"), ("in", "_in"), ("fleet", "_fleet"), ("none", "none"), ("a-b-c", "a_b_c")],
)
def test_module_is_a_free_identifier(facility: str, module: str) -> None:
    """Digits in front, keywords and the name of the shared module get an underscore."""
    assert module == naming.module_of(facility)
    assert naming.module_of(facility).isidentifier()


def test_device_policy_names_its_own_topics_alone() -> None:
    """Facility, type and the thing's own name stand in every topic; commands come from the request topic alone."""
    plan = policy_plan("mfg", "eu-west-1", "sg-01", "press")
    prefix, own = "arn:aws:iot:eu-west-1:ACCOUNT_ID:", "mfg/sg-01/press/${iot:Connection.Thing.ThingName}"
    assert f"{prefix}client/${{iot:Connection.Thing.ThingName}}" == plan.connect
    assert plan.publish == (
        f"{prefix}topic/dt/{own}/telemetry",
        f"{prefix}topic/$aws/rules/rule_telemetry_sg_01_ENVIRONMENT_SUFFIX/dt/{own}/telemetry",
        f"{prefix}topic/cmd/{own}/response",
    )
    assert (f"{prefix}topicfilter/cmd/{own}/request", f"{prefix}topic/cmd/{own}/request") == (
        plan.subscribe,
        plan.receive,
    )
