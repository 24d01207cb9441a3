"""The topic that hears of every alarm; whoever is to be called subscribes to it."""

from __future__ import annotations

from ..bindings import Construct, SnsTopic, SnsTopicPolicy
from ..names import PlatformNames
from ..shared import iam


class AlarmTopic:
    """Encrypted; takes messages over TLS alone, and from services only those of this platform's alarms."""

    def __init__(self, scope: Construct, *, names: PlatformNames, key_arn: str) -> None:
        self.topic = SnsTopic(scope, "topic-alarms", name=names.alarm_topic, kms_master_key_id=key_arn)
        SnsTopicPolicy(
            scope,
            "topic-alarms-policy",
            arn=self.topic.arn,
            policy=iam.policy(
                # SNS takes no wildcard for actions here; subscribers and administrators come over TLS anyway.
                iam.deny_plain_transport("sns:Publish", names.alarm_topic_arn),
                iam.Statement(
                    sid="AlarmsPublish",
                    principal={"Service": "cloudwatch.amazonaws.com"},
                    actions=("sns:Publish",),
                    resource=names.alarm_topic_arn,
                    conditions={
                        "StringEquals": {"aws:SourceAccount": names.account_id},
                        "ArnLike": {"aws:SourceArn": names.alarm_arns},
                    },
                ),
            ),
        )
