"""Mutations of what is watched: filters that see too little, alarms that nobody receives."""

from __future__ import annotations

from fleet_iot.operations.assurance.compliance.infrastructure import Body
from tests.operations.assurance.compliance.mutations.edits import (
    Mutation,
    added,
    all_removed,
    edited,
    mutation,
    put,
)

FILTER, ALARM = "aws_cloudwatch_log_metric_filter", "aws_cloudwatch_metric_alarm"


def blinded(body: Body) -> None:
    """A pattern that no event of CIS's list matches."""
    body["pattern"] = '{ $.eventName = "Nothing" }'


MUTATIONS: tuple[Mutation, ...] = (
    mutation("events-watched", "a filter sees another event", edited(FILTER, blinded)),
    mutation("events-watched", "a filter of another log", edited(FILTER, put("log_group_name", "elsewhere"))),
    mutation("events-watched", "events without alarms", all_removed(ALARM)),
    mutation("alarms-act", "an alarm without action", edited(ALARM, put("alarm_actions", []))),
    mutation(
        "alarms-act",
        "an alarm that publishes to another topic",
        edited(ALARM, put("alarm_actions", ["arn:aws:sns:eu-west-1:999999999999:topic-x"])),
    ),
    mutation("alarms-act", "an alarm that is muted", edited(ALARM, put("actions_enabled", False))),
    mutation(
        "alarms-act",
        "an alarm that publishes to a topic that accepts no alarms",
        edited(ALARM, put("alarm_actions", ["${aws_sns_topic.topic-anomalies.arn}"])),
    ),
    mutation(
        "own-key",
        "anomalies under AWS's key",
        edited("aws_sns_topic", put("kms_master_key_id", "alias/aws/sns"), id_="topic-anomalies"),
    ),
    mutation("own-key", "a topic under AWS's key", added("aws_sns_topic", {"kms_master_key_id": "alias/aws/sns"})),
)
