"""Every resource name, in one place; plain data, for all programs.

Names follow `{resource-type}-{purpose}-{environment-suffix}`. Constants and functions here leave the suffix out, as the
record does; `specs.suffixed` and `PlatformNames` add it. Facility stacks refer to the platform by these names, without
reading its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .specs import suffixed

STREAM = "stream-telemetry"
READINGS_TABLE = "table-readings"
DEVICES_TABLE = "table-devices"
LANES_TABLE = "table-lanes"
OPEN_ANOMALIES = "open-anomalies"
"""Index of the readings table: unacknowledged anomalies, by facility and begin; others lack its keys."""

FUNCTION = "function-sensor-processor"
COMPACTOR = "function-archive-compactor"
COMPACTOR_SCHEDULE = "schedule-archive-compaction"
FAILURE_QUEUE = "queue-processor-failures"
SWEEP_SCHEDULE = "schedule-sweep"
ALARM_TOPIC = "topic-alarms"
ANOMALY_TOPIC = "topic-anomalies"
TRAIL, DATA_TRAIL = "trail-audit", "trail-data-events"
TRAIL_LOG_GROUP = "log-group-audit-trail"
EVENT_ERRORS_LOG_GROUP = "log-group-event-errors"
IOT_LOG_GROUP = "AWSIotLogsV2"
"""The only log group that AWS IoT writes to."""

PROCESSOR_ROLE = "role-sensor-processor"
SWEEP_ROLE = "role-sweep"
COMPACTOR_ROLE = "role-archive-compactor"
COMPACTION_ROLE = "role-archive-schedule"
TOPIC_RULE_ROLE = "role-topic-rule"
RULE_ERRORS_ROLE = "role-rule-errors"
TRAIL_LOGS_ROLE = "role-trail-logs"
EVENT_ARCHIVE_ROLE = "role-event-archive"
EVENT_ERRORS_ROLE = "role-event-errors"
IOT_LOGGING_ROLE = "role-iot-logging"
AUDIT_ROLE = "role-certificate-audit"
PROVISIONING_ROLE = "role-fleet-provisioning"
BULK_REGISTRATION_ROLE = "role-bulk-registration"
LONGEST_ROLE = PROVISIONING_ROLE

RAW_ARCHIVE, ACCESS_LOGS, AUDIT_BUCKET, LANES = "raw-archive", "access-logs", "audit-trail", "lanes"
BUCKETS: Mapping[str, str] = {
    RAW_ARCHIVE: "stores every message as received, below raw/, then archive/, quarantine/ and iot-rule-errors/; and "
    "events/, bulk-registration/",
    ACCESS_LOGS: "stores the access logs of the other buckets",
    AUDIT_BUCKET: "stores both audit trails, below management/ and data-events/",
    LANES: "stores the sensor processor's state for 30 days: detectors, open minutes, hours and days of the devices",
}
"""Purpose of each bucket → one predicate about it, as `fleet explain` prints it."""

ROLE_KIND, TRAIL_KIND = "IAM role", "CloudTrail trail"
ACCOUNT_WIDE_KINDS = (ROLE_KIND, TRAIL_KIND)

PLATFORM_RESOURCES: Mapping[str, tuple[str, str]] = {
    STREAM: ("Kinesis stream", "receives the readings of all facilities, in order for each device"),
    READINGS_TABLE: ("DynamoDB table", "stores readings by minute, hour and day, and anomalies"),
    DEVICES_TABLE: ("DynamoDB table", "stores one item for each device: what it is, first and last contact"),
    LANES_TABLE: ("DynamoDB table", "stores which objects are the sensor processor's state, lane by lane"),
    FUNCTION: ("Lambda function", "aggregates readings, detects anomalies and archives raw messages"),
    f"/aws/lambda/{FUNCTION}": ("log group", "is the sensor processor's"),
    SWEEP_SCHEDULE: ("EventBridge schedule", "invokes the sensor processor once a minute, for what is silent"),
    COMPACTOR: ("Lambda function", "compacts the raw archive into Parquet objects"),
    f"/aws/lambda/{COMPACTOR}": ("log group", "is the archive compactor's"),
    COMPACTOR_SCHEDULE: ("EventBridge schedule", "invokes the archive compactor twice an hour"),
    FAILURE_QUEUE: ("SQS queue", "receives records that the sensor processor could not process"),
    TRAIL: (TRAIL_KIND, "records who changed what, in the whole account"),
    DATA_TRAIL: (TRAIL_KIND, "records who read and wrote the platform's data"),
    TRAIL_LOG_GROUP: ("log group", "is the audit trail's, of management events"),
    "alias/key-data": ("KMS alias", "is the key of readings and archive"),
    "alias/key-logs": ("KMS alias", "is the key of logs"),
    "alias/key-audit": ("KMS alias", "is the key of the audit trails"),
    PROCESSOR_ROLE: (ROLE_KIND, "is the sensor processor's"),
    SWEEP_ROLE: (ROLE_KIND, "allows the schedule to invoke the sensor processor"),
    COMPACTOR_ROLE: (ROLE_KIND, "is the archive compactor's"),
    COMPACTION_ROLE: (ROLE_KIND, "allows the schedule to invoke the archive compactor"),
    TOPIC_RULE_ROLE: (ROLE_KIND, "allows topic rules to put records on the stream"),
    RULE_ERRORS_ROLE: (ROLE_KIND, "allows topic rules to store failed messages in the archive"),
    TRAIL_LOGS_ROLE: (ROLE_KIND, "allows the audit trail to write its log"),
    EVENT_ARCHIVE_ROLE: (ROLE_KIND, "allows topic rules to store AWS IoT's events in the archive"),
    EVENT_ERRORS_ROLE: (ROLE_KIND, "allows topic rules to log the events that they could not archive"),
    ALARM_TOPIC: ("SNS topic", "receives every alarm"),
    ANOMALY_TOPIC: ("SNS topic", "receives the begin and end of every anomaly"),
    EVENT_ERRORS_LOG_GROUP: ("log group", "records the events of AWS IoT that could not be archived"),
    "rule_events_presence": ("topic rule", "archives connects and disconnects"),
    "rule_events_thing": ("topic rule", "archives the creation, change and deletion of things"),
    "rule_events_thing_type": ("topic rule", "archives the creation, change and deletion of thing types"),
    "rule_events_thing_group": ("topic rule", "archives the creation, change and deletion of thing groups"),
    "rule_events_type_association": ("topic rule", "archives changes of things' thing types"),
    "rule_events_group_membership": ("topic rule", "archives changes of things' groups"),
    "rule_events_group_hierarchy": ("topic rule", "archives changes of groups' parents"),
    PROVISIONING_ROLE: (ROLE_KIND, "allows AWS IoT to register devices by a provisioning template"),
    BULK_REGISTRATION_ROLE: (ROLE_KIND, "allows AWS IoT to register the devices of a parameter file"),
}
"""Name of each platform resource → its kind and one predicate about it, as `fleet explain` prints them."""

PLATFORM_ALARMS: Mapping[str, str] = {
    "alarm-iterator-age": "the sensor processor lags behind the stream: readings are late, and lost after a week",
    "alarm-processor-errors": "invocations of the sensor processor fail: see its log group",
    "alarm-processor-throttles": "Lambda throttles the sensor processor: raise its concurrency",
    "alarm-stream-throttles": "the stream throttles writes: the load has more than doubled within 15 minutes",
    "alarm-failures-queue": "records are in the failure queue: redrive them within the stream's retention",
    "alarm-archive-compaction": "no run of the archive compactor succeeded for two hours: see its log group; the raw "
    "objects stay",
    "alarm-unplaced-messages": "messages of no known facility are in quarantine: an unknown client publishes",
    "alarm-notifications-pending": "anomalies are in the table, but publishing to the topic fails: nobody is notified",
    "alarm-unemitted": "what was counted does not reach the tables, or the sensor processor is not invoked for silent "
    "devices: see its log group",
    "alarm-event-errors": f"events of AWS IoT could not be archived: see {EVENT_ERRORS_LOG_GROUP}",
    "alarm-certificate-expiry": "certificates expire soon: see the audit's findings, device by device",
    "alarm-unauthorised-calls": "an API call was denied (CIS 4.1): see the audit trail",
    "alarm-sign-in-without-mfa": "someone signed in to the console without MFA (CIS 4.2): see the audit trail",
    "alarm-root-use": "the account's root user was used (CIS 4.3): see the audit trail",
    "alarm-iam-changes": "IAM permissions changed (CIS 4.4): see the audit trail",
    "alarm-trail-changes": "a trail was changed, started or stopped (CIS 4.5): see the audit trail",
    "alarm-sign-in-failures": "a console sign-in failed (CIS 4.6): see the audit trail",
    "alarm-key-deletions": "a KMS key was disabled or scheduled for deletion (CIS 4.7): see the audit trail",
    "alarm-bucket-policy-changes": "the policy of a bucket changed (CIS 4.8): see the audit trail",
    "alarm-config-changes": "AWS Config was changed or stopped (CIS 4.9): see the audit trail",
    "alarm-security-group-changes": "a security group changed (CIS 4.10): see the audit trail",
    "alarm-network-acl-changes": "a network ACL changed (CIS 4.11): see the audit trail",
    "alarm-gateway-changes": "a network gateway changed (CIS 4.12): see the audit trail",
    "alarm-route-table-changes": "a route table changed (CIS 4.13): see the audit trail",
    "alarm-vpc-changes": "a VPC changed (CIS 4.14): see the audit trail",
}
"""Name of each alarm of the platform → its condition; the alarm's description in CloudWatch, too."""


def account_wide(name: str, application: str, region: str) -> str:
    """Return the name, without suffix, of a role, dashboard or multi-region trail: they are unique in an account.

    A multi-region trail exists in every region under its name.
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-concepts.html
    """
    return f"{name}-{application}-{region}"


def metrics_namespace(suffix: str) -> str:
    """Return the namespace of the sensor processor's metrics, one for each environment."""
    return f"Fleet/{suffix}"


def bucket(application: str, purpose: str, account_id: str | None, suffix: str) -> str:
    """Return a bucket's full name; bucket names are global, hence the account id where it is known."""
    return "-".join(["bucket", application, purpose, *([account_id] if account_id else []), suffix])


def thing_type(device_type: str) -> str:
    return f"thing-type-{device_type}"


def facility_group(facility: str) -> str:
    """Return the parent thing group of a facility's groups."""
    return f"thing-group-{facility}"


def thing_group(facility: str, device_type: str) -> str:
    return f"thing-group-{facility}-{device_type}"


def policy(facility: str, device_type: str) -> str:
    """Return the name of the device policy of one device type in one facility."""
    return f"policy-{facility}-{device_type}"


def topic_rule(facility: str) -> str:
    return f"rule_telemetry_{facility.replace('-', '_')}"


def provisioning_template(facility: str) -> str:
    return f"template-{facility}"


def dashboard(facility: str) -> str:
    return f"dashboard-{facility}"


def alarm(kind: str, facility: str) -> str:
    """Return the name of an alarm of a whole facility, such as `rule-failures`."""
    return f"alarm-{kind}-{facility}"


def silence_alarm(facility: str, device_type: str) -> str:
    """Return the name of the alarm that all things of one device type in one facility are silent."""
    return f"{alarm('silence', facility)}-{device_type}"


def bucket_arn(name: str) -> str:
    """Return a bucket's ARN, which has neither region nor account."""
    return f"arn:aws:s3:::{name}"


def state_file(stack: str) -> str:
    """Return the name of `stack`'s state file in its own folder, used where no bucket has the state."""
    return f"terraform.{stack}.tfstate"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformNames:
    """Full names and ARNs of the platform of one application in one environment.

    Args:
        account_id: Twelve digits, or a Terraform expression where only the credentials know it.
        bucket_account_id: Part of bucket names; None where `account_id` is an expression.
    """

    application: str
    suffix: str
    region: str
    account_id: str
    bucket_account_id: str | None

    def named(self, name: str) -> str:
        """Return `name` with the environment suffix."""
        return suffixed(name, self.suffix)

    def account_wide(self, name: str) -> str:
        """Return the full name of a role, dashboard or multi-region trail."""
        return self.named(account_wide(name, self.application, self.region))

    def bucket(self, purpose: str) -> str:
        return bucket(self.application, purpose, self.bucket_account_id, self.suffix)

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a regional resource in this account."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def service(self, service: str) -> str:
        """Return a service's regional endpoint name, as in `kms:ViaService` and service principals."""
        return f"{service}.{self.region}.amazonaws.com"

    @property
    def account_root(self) -> str:
        return f"arn:aws:iam::{self.account_id}:root"

    def role_arn(self, role: str) -> str:
        return f"arn:aws:iam::{self.account_id}:role/{self.account_wide(role)}"

    def session_arns(self, role: str) -> str:
        """Return the start of the ARN of every session of a role, as in CloudTrail's `userIdentity.arn`."""
        return f"arn:aws:sts::{self.account_id}:assumed-role/{self.account_wide(role)}/"

    def table_arn(self, table: str) -> str:
        return self.arn("dynamodb", f"table/{table}")

    def log_group_arn(self, log_group: str) -> str:
        return self.arn("logs", f"log-group:{log_group}")

    @property
    def stream(self) -> str:
        return self.named(STREAM)

    @property
    def stream_arn(self) -> str:
        return self.arn("kinesis", f"stream/{self.stream}")

    @property
    def readings_table(self) -> str:
        return self.named(READINGS_TABLE)

    @property
    def devices_table(self) -> str:
        return self.named(DEVICES_TABLE)

    @property
    def lanes_table(self) -> str:
        return self.named(LANES_TABLE)

    @property
    def function(self) -> str:
        return self.named(FUNCTION)

    @property
    def function_arn(self) -> str:
        return self.arn("lambda", f"function:{self.function}")

    @property
    def function_log_group(self) -> str:
        return f"/aws/lambda/{self.function}"

    @property
    def compactor(self) -> str:
        return self.named(COMPACTOR)

    @property
    def compactor_arn(self) -> str:
        return self.arn("lambda", f"function:{self.compactor}")

    @property
    def compactor_log_group(self) -> str:
        return f"/aws/lambda/{self.compactor}"

    @property
    def failure_queue(self) -> str:
        return self.named(FAILURE_QUEUE)

    @property
    def failure_queue_arn(self) -> str:
        return self.arn("sqs", self.failure_queue)

    @property
    def alarm_topic_arn(self) -> str:
        return self.arn("sns", self.named(ALARM_TOPIC))

    @property
    def anomaly_topic_arn(self) -> str:
        return self.arn("sns", self.named(ANOMALY_TOPIC))

    @property
    def alarm_arns(self) -> str:
        """A pattern for all alarms of this environment."""
        return self.arn("cloudwatch", f"alarm:{self.named('alarm-*')}")

    @property
    def metrics_namespace(self) -> str:
        return metrics_namespace(self.suffix)

    @property
    def filter_namespace(self) -> str:
        """The namespace of metrics that filters derive from logs, one for each environment."""
        return f"FleetLogs/{self.suffix}"

    @property
    def raw_archive(self) -> str:
        return self.bucket(RAW_ARCHIVE)

    @property
    def lanes(self) -> str:
        """Return the bucket of the sensor processor's state."""
        return self.bucket(LANES)

    @property
    def access_logs(self) -> str:
        return self.bucket(ACCESS_LOGS)

    @property
    def audit_bucket(self) -> str:
        return self.bucket(AUDIT_BUCKET)

    @property
    def trail(self) -> str:
        return self.account_wide(TRAIL)

    @property
    def data_trail(self) -> str:
        return self.account_wide(DATA_TRAIL)

    @property
    def trail_arns(self) -> list[str]:
        """Both trails: of management events, of data events."""
        return [self.arn("cloudtrail", f"trail/{trail}") for trail in (self.trail, self.data_trail)]

    @property
    def trail_log_group(self) -> str:
        return self.named(TRAIL_LOG_GROUP)

    @property
    def event_errors_log_group(self) -> str:
        return self.named(EVENT_ERRORS_LOG_GROUP)

    def bulk_registration_prefix(self, facility: str) -> str:
        """Return the archive prefix of a facility's parameter files for bulk registration; `*` for all of them."""
        return f"bulk-registration/{facility}/"
