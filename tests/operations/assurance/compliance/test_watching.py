"""Checks of what is watched, on a platform that has filters and alarms, and on one that has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet_iot.operations.assurance.compliance.checks import CHECKS as ALL_CHECKS
from fleet_iot.operations.assurance.compliance.checks.records import WATCHED
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from tests.operations.assurance.compliance.mutations import on_watching, try_mutations

CHECKS = tuple(check for check in ALL_CHECKS if check.id in {"events-watched", "alarms-act"})

Bodies = dict[str, dict[str, Any]]

TOPIC = "arn:aws:sns:eu-west-1:123456789012:topic-alarms-dev"

LETS_IN = {
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": ["sns:Publish"]}]
}


@pytest.fixture
def watched() -> Bodies:
    """A trail whose log is filtered for every event, each with an alarm that publishes to the topic."""
    bodies: Bodies = {
        "aws_sns_topic.topic-alarms": {"name": "topic-alarms-dev", "kms_master_key_id": "alias/key-data-dev"},
        "aws_sns_topic_policy.topic-alarms": {
            "arn": "${aws_sns_topic.topic-alarms.arn}",
            "policy": json.dumps(LETS_IN),
        },
        "aws_sns_topic.topic-anomalies": {"name": "topic-anomalies-dev", "kms_master_key_id": "alias/key-data-dev"},
        "aws_cloudwatch_log_group.log": {"name": "log-group-audit-trail-dev"},
        "aws_cloudtrail.trail": {
            "name": "trail-audit-dev",
            "cloud_watch_logs_group_arn": "${aws_cloudwatch_log_group.log.arn}:*",
        },
    }
    for event, words in WATCHED.items():
        name = event.split(" ")[0].replace(".", "-")
        bodies[f"aws_cloudwatch_log_metric_filter.{name}"] = {
            "log_group_name": "log-group-audit-trail-dev",
            "pattern": " ".join(words),
            "metric_transformation": [{"namespace": "Fleet", "name": name}],
        }
        bodies[f"aws_cloudwatch_metric_alarm.{name}"] = {
            "namespace": "Fleet",
            "metric_name": name,
            "alarm_actions": [TOPIC],
        }
    return bodies


def test_everything_is_watched(planned: Callable[..., PlannedInfrastructure], watched: Bodies) -> None:
    """Six events and six alarms, and nothing to say of them."""
    findings = [finding for check in CHECKS for finding in check.run(planned(watched))]
    assert [True] * 12 == [finding.has_passed for finding in findings]


def test_each_mutation_is_caught(planned: Callable[..., PlannedInfrastructure], watched: Bodies) -> None:
    """As on the real stacks once they have filters and alarms."""
    trials = try_mutations(planned(watched), mutations=on_watching.MUTATIONS)
    assert len(on_watching.MUTATIONS) == len(trials)
    assert [] == [trial.mutation for trial in trials if not trial.is_caught]


def test_nothing_is_claimed_of_what_is_not_there(planned: Callable[..., PlannedInfrastructure]) -> None:
    """Without filters and alarms the checks see nothing, and their mutations are not tried."""
    assert [] == [finding for check in CHECKS for finding in check.run(planned({}))]
    own = [each for each in on_watching.MUTATIONS if each.check in {check.id for check in CHECKS}]
    assert () == try_mutations(planned({}), mutations=own)


def test_a_plants_alarm_may_name_the_topic_by_reference(
    planned: Callable[..., PlannedInfrastructure], watched: Bodies
) -> None:
    """Or by its ARN: plants refer to the platform by name."""
    watched["aws_cloudwatch_metric_alarm.4-1"]["alarm_actions"] = ["${aws_sns_topic.topic-alarms.arn}"]
    assert all(finding.has_passed for check in CHECKS for finding in check.run(planned(watched)))
