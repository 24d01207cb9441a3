"""Names and ARNs of the shared platform, by which facility stacks refer to it without reading its state."""

from __future__ import annotations

from dataclasses import dataclass

from .specs import suffixed


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformNames:
    """The platform of one application in one environment.

    `account_id` is twelve digits, or a Terraform expression where only the credentials know it; `bucket_account_id`
    is part of bucket names (they are global) and set only in the first case.
    """

    application: str
    suffix: str
    region: str
    account_id: str
    bucket_account_id: str | None

    def named(self, name: str) -> str:
        """`name` with the environment suffix."""
        return suffixed(name, self.suffix)

    def bucket(self, purpose: str) -> str:
        account = f"-{self.bucket_account_id}" if self.bucket_account_id else ""
        return self.named(f"bucket-{self.application}-{purpose}{account}")

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a regional resource in this account."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def service(self, service: str) -> str:
        """A service's regional endpoint name, as `kms:ViaService` and service principals spell it."""
        return f"{service}.{self.region}.amazonaws.com"

    @property
    def account_root(self) -> str:
        return f"arn:aws:iam::{self.account_id}:root"

    def account_wide(self, name: str) -> str:
        """The full name of a role, dashboard or multi-region trail: an account has one of it for all its regions.

        A multi-region trail lies in every region under its name.
        https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-concepts.html
        """
        return self.named(f"{name}-{self.application}-{self.region}")

    def role_arn(self, role: str) -> str:
        return f"arn:aws:iam::{self.account_id}:role/{self.account_wide(role)}"

    @property
    def stream(self) -> str:
        return self.named("stream-telemetry")

    @property
    def stream_arn(self) -> str:
        return self.arn("kinesis", f"stream/{self.stream}")

    @property
    def readings_table(self) -> str:
        return self.named("table-readings")

    @property
    def devices_table(self) -> str:
        return self.named("table-devices")

    def table_arn(self, table: str) -> str:
        return self.arn("dynamodb", f"table/{table}")

    @property
    def function(self) -> str:
        return self.named("function-sensor-processor")

    @property
    def function_arn(self) -> str:
        return self.arn("lambda", f"function:{self.function}")

    @property
    def function_log_group(self) -> str:
        return f"/aws/lambda/{self.function}"

    @property
    def failure_queue(self) -> str:
        return self.named("queue-processor-failures")

    @property
    def failure_queue_arn(self) -> str:
        return self.arn("sqs", self.failure_queue)

    @property
    def alarm_topic(self) -> str:
        return self.named("topic-alarms")

    @property
    def alarm_topic_arn(self) -> str:
        return self.arn("sns", self.alarm_topic)

    @property
    def anomaly_topic(self) -> str:
        return self.named("topic-anomalies")

    @property
    def anomaly_topic_arn(self) -> str:
        return self.arn("sns", self.anomaly_topic)

    @property
    def alarm_arns(self) -> str:
        """A pattern for all alarms of this environment."""
        return self.arn("cloudwatch", f"alarm:{self.named('alarm-*')}")

    @property
    def metrics_namespace(self) -> str:
        """Of the sensor processor's metrics; of one environment, as two in one account must not count together."""
        return f"Fleet/{self.suffix}"

    @property
    def filter_namespace(self) -> str:
        """Of the metrics that filters make of logs; a trail's are of one environment."""
        return f"FleetLogs/{self.suffix}"

    @property
    def raw_archive(self) -> str:
        return self.bucket("raw-archive")

    @property
    def access_logs(self) -> str:
        return self.bucket("access-logs")

    @property
    def audit_bucket(self) -> str:
        return self.bucket("audit-trail")

    @property
    def trail(self) -> str:
        return self.account_wide("trail-audit")

    @property
    def trail_arn(self) -> str:
        return self.arn("cloudtrail", f"trail/{self.trail}")

    @property
    def trail_log_group(self) -> str:
        return self.named("log-group-audit-trail")

    @property
    def event_errors_log_group(self) -> str:
        return self.named("log-group-event-errors")

    @property
    def iot_log_group(self) -> str:
        """AWS IoT writes to this one and to no other."""
        return "AWSIotLogsV2"

    def log_group_arn(self, log_group: str) -> str:
        return self.arn("logs", f"log-group:{log_group}")

    @property
    def topic_rule_role(self) -> str:
        return "role-topic-rule"

    @property
    def rule_errors_role(self) -> str:
        return "role-rule-errors"

    @property
    def event_archive_role(self) -> str:
        return "role-event-archive"

    @property
    def event_errors_role(self) -> str:
        return "role-event-errors"

    @property
    def iot_logging_role(self) -> str:
        return "role-iot-logging"

    @property
    def audit_role(self) -> str:
        return "role-certificate-audit"

    @property
    def provisioning_role(self) -> str:
        return "role-fleet-provisioning"

    @property
    def bulk_registration_role(self) -> str:
        return "role-bulk-registration"

    def bulk_registration_prefix(self, facility: str) -> str:
        """Where in the raw archive the parameter files of a facility's bulk registrations lie; `*` is all of them."""
        return f"bulk-registration/{facility}/"


def bucket_arn(bucket: str) -> str:
    """Bucket ARNs hold neither region nor account."""
    return f"arn:aws:s3:::{bucket}"


def state_file(stack: str) -> str:
    """Return the name of `stack`'s state file in its own folder, used where no bucket holds the state."""
    return f"terraform.{stack}.tfstate"
