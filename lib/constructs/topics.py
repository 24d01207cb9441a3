"""The encrypted SNS topics for alarms and for anomalies."""

from __future__ import annotations

from ..bindings import Construct, SnsTopic, SnsTopicPolicy
from ..names import PlatformNames
from ..shared import iam

# @@ The topic that hears of every alarm; whoever is to be called subscribes to it.


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


# @@ The topic that hears of every anomaly's beginning and end; whoever looks after the machines subscribes to it.


class AnomalyTopic:
    """Encrypted, over TLS alone. It lets nobody in by itself: the sensor processor publishes by its role's policy."""

    def __init__(self, scope: Construct, *, names: PlatformNames, key_arn: str) -> None:
        self.topic = SnsTopic(scope, "topic-anomalies", name=names.anomaly_topic, kms_master_key_id=key_arn)
        SnsTopicPolicy(
            scope,
            "topic-anomalies-policy",
            arn=self.topic.arn,
            # SNS takes no wildcard for actions here; subscribers and administrators come over TLS anyway.
            policy=iam.policy(iam.deny_plain_transport("sns:Publish", names.anomaly_topic_arn)),
        )
