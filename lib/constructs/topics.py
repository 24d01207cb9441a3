"""The SNS topics of alarms and of anomalies: encrypted, TLS only."""

from __future__ import annotations

from .. import bindings as tf
from ..names import ALARM_TOPIC, ANOMALY_TOPIC, PlatformNames
from ..shared import iam


class AlarmTopic:
    """Receives every alarm; on-call staff subscribe to it. Of all services, only this platform's alarms may publish."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str) -> None:
        publishers = iam.Statement(
            sid="AllowAlarmsToPublish",
            principal={"Service": "cloudwatch.amazonaws.com"},
            actions=("sns:Publish",),
            resource=names.alarm_topic_arn,
            conditions={
                "StringEquals": {"aws:SourceAccount": names.account_id},
                "ArnLike": {"aws:SourceArn": names.alarm_arns},
            },
        )
        _topic(scope, ALARM_TOPIC, names, key_arn, names.alarm_topic_arn, publishers)


class AnomalyTopic:
    """Receives every anomaly's begin and end. No service may publish: the sensor processor does by its own role."""

    def __init__(self, scope: tf.Construct, *, names: PlatformNames, key_arn: str) -> None:
        self.topic = _topic(scope, ANOMALY_TOPIC, names, key_arn, names.anomaly_topic_arn)


def _topic(
    scope: tf.Construct, id_: str, names: PlatformNames, key_arn: str, arn: str, *statements: iam.Statement
) -> tf.SnsTopic:
    topic = tf.SnsTopic(scope, id_, name=names.named(id_), kms_master_key_id=key_arn)
    tf.SnsTopicPolicy(
        scope,
        f"{id_}-policy",
        arn=topic.arn,
        # SNS accepts no wildcard action here; subscribing and administration require TLS anyway.
        policy=iam.policy(iam.deny_insecure_transport("sns:Publish", arn), *statements),
    )
    return topic
