"""The topic that hears of every anomaly's beginning and end; whoever looks after the machines subscribes to it."""

from __future__ import annotations

from ..bindings import Construct, SnsTopic, SnsTopicPolicy
from ..names import PlatformNames
from ..shared import iam


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
