"""AWS IoT's own log, for the whole account: made only where the manifest asks for it."""

from __future__ import annotations

from ..bindings import CloudwatchLogGroup, Construct, IotLoggingOptions
from ..names import PlatformNames
from ..shared import iam
from ..shared.roles import ServiceRole


class IotLogging:
    """The log group that AWS IoT writes to, ours so that it is encrypted and ages, and the level of what it writes."""

    def __init__(self, scope: Construct, *, names: PlatformNames, level: str, logs_key_arn: str, log_days: int) -> None:
        self.log_group = CloudwatchLogGroup(
            scope,
            "log-group-iot",
            name=names.iot_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        self.role = ServiceRole(
            scope,
            names.iot_logging_role,
            names=names,
            description="AWS IoT writes its log",
            trust=iam.trust("iot.amazonaws.com", account_id=names.account_id, source_arn=names.arn("iot", "*")),
            statements=(
                iam.Statement(
                    sid="WriteTheLog",
                    actions=("logs:CreateLogStream", "logs:PutLogEvents"),
                    resource=f"{names.log_group_arn(names.iot_log_group)}:log-stream:*",
                ),
            ),
        )
        IotLoggingOptions(
            scope,
            "iot-logging",
            default_log_level=level,
            role_arn=self.role.arn,
            depends_on=[self.log_group, self.role.policy],
        )
