"""AWS IoT's reports on devices, its own log, and its audit of certificates."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet_iot.lib.constructs.iot_monitoring import EVENTS

pytestmark = pytest.mark.cdktf
ARCHIVE = "arn:aws:s3:::bucket-mfg-raw-archive-123456789012-tst"
LOGS = "arn:aws:logs:ap-southeast-1:123456789012:log-group"
RULES = "arn:aws:iot:ap-southeast-1:123456789012:rule"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.id)
def test_every_kind_of_event_is_archived_by_a_rule(stacks: Any, event: Any) -> None:
    """Into the raw archive by date, heard only of this environment, with a log for what fails."""
    rule = stacks.platform.one("aws_iot_topic_rule", f"rule_events_{event.id}")
    assert rule["name"] == f"rule_events_{event.id}_tst"
    select, _, where = rule["sql"].partition(f" FROM '{event.topic}' ")
    assert select == "SELECT *, topic() AS topic, timestamp() AS received_at"
    assert where == f"WHERE regexp_matches(topic({event.level}), '-tst$')"
    (action,) = rule["s3"]
    assert action["bucket_name"] == "bucket-mfg-raw-archive-123456789012-tst"
    assert action["key"] == (
        f'{event.prefix}/date=$${{parse_time("yyyy-MM-dd", timestamp())}}/$${{timestamp()}}-$${{newuuid()}}.json'
    )
    assert rule["error_action"]["cloudwatch_logs"]["role_arn"] == "${aws_iam_role.role-event-errors.arn}"
    assert event.topic.split("/")[event.level - 1] in ("+", "#")


def test_the_level_names_what_the_event_is_about() -> None:
    """Presence by client id, the registry by thing, type or group: what ends in the environment's suffix."""
    example = {
        "presence": "$aws/events/presence/connected/X",
        "thing": "$aws/events/thing/X/created",
        "thing_type": "$aws/events/thingType/X/created",
        "thing_group": "$aws/events/thingGroup/X/deleted",
        "type_association": "$aws/events/thingTypeAssociation/thing/X/thingType/t/added",
        "group_membership": "$aws/events/thingGroupMembership/thingGroup/X/thing/t/added",
        "group_hierarchy": "$aws/events/thingGroupHierarchy/thingGroup/X/childThingGroup/c/added",
    }
    assert {event.id: example[event.id].split("/").index("X") + 1 for event in EVENTS} == {
        event.id: event.level for event in EVENTS
    }


def test_the_archiving_role_puts_events_and_nothing_else(stacks: Any) -> None:
    """Objects below `events/`, with the data key through S3; assumed by these rules of this account alone."""
    statements = stacks.platform.statements("aws_iam_role_policy", "role-event-archive-policy")
    assert set(statements) == {"PutEvents", "EncryptEvents"}
    assert statements["PutEvents"]["Resource"] == f"{ARCHIVE}/events/*"
    (trust,) = stacks.platform.statements("aws_iam_role", "role-event-archive", "assume_role_policy").values()
    assert trust["Condition"]["ArnLike"] == {"aws:SourceArn": f"{RULES}/rule_events_*_tst"}


def test_what_cannot_be_archived_is_logged_and_told(stacks: Any) -> None:
    """In a log group of its own, of which every line raises an alarm."""
    platform = stacks.platform
    statements = platform.statements("aws_iam_role_policy", "role-event-errors-policy")
    assert {statement["Resource"] for statement in statements.values()} == {
        f"{LOGS}:log-group-event-errors-tst:log-stream:*",
        f"{LOGS}:log-group-event-errors-tst:*",
    }
    filter_ = platform.one("aws_cloudwatch_log_metric_filter", "filter-event-errors")
    alarm = platform.one("aws_cloudwatch_metric_alarm", "alarm-event-errors")
    assert filter_["pattern"] == ""
    assert filter_["metric_transformation"]["name"] == alarm["metric_name"]
    assert (alarm["threshold"], alarm["namespace"]) == (1, "FleetLogs/tst")


def test_registry_events_are_turned_on_and_others_left_alone(stacks: Any, records: Any) -> None:
    """Six kinds; job events and whatever else the account has on stay as they are. The manifest can leave all alone."""
    body = stacks.platform.one("aws_iot_event_configurations", "registry-events")
    assert set(body["event_configurations"].values()) == {True}
    assert len(body["event_configurations"]) == 6
    assert not {"JOB", "JOB_EXECUTION"} & set(body["event_configurations"])
    assert body["lifecycle"] == {"ignore_changes": ["event_configurations"]}
    assert records.platform.of("aws_iot_event_configurations") == {}


def test_the_accounts_log_is_left_alone_unless_it_is_asked_for(stacks: Any, records: Any) -> None:
    """One line in the manifest makes AWS IoT log, into an encrypted group that ages, under a role that can write it."""
    assert stacks.platform.of("aws_iot_logging_options") == {}
    platform = records.platform
    assert platform.one("aws_iot_logging_options", "iot-logging")["default_log_level"] == "WARN"
    group = platform.one("aws_cloudwatch_log_group", "log-group-iot")
    assert (group["name"], group["retention_in_days"]) == ("AWSIotLogsV2", 400)
    statement = platform.statements("aws_iam_role_policy", "role-iot-logging-policy")["WriteLogs"]
    assert statement["Resource"] == f"{LOGS}:AWSIotLogsV2:log-stream:*"
    context = platform.statements("aws_kms_key", "key-logs")["AllowPlatformLogGroups"]["Condition"]["ArnEquals"]
    assert f"{LOGS}:AWSIotLogsV2" in context["kms:EncryptionContext:aws:logs:arn"]


def test_certificates_are_audited_where_it_is_asked_for(stacks: Any, records: Any) -> None:
    """The account's audit has the one check with the manifest's days, runs daily, and what it finds raises an alarm."""
    assert stacks.platform.of("aws_cloudcontrolapi_resource") == {}
    platform = records.platform
    made = platform.of("aws_cloudcontrolapi_resource")
    settings, schedule = (json.loads(made[f"certificate-audit{end}"]["desired_state"]) for end in ("", "-daily"))
    assert settings["AccountId"] == "123456789012"
    assert settings["RoleArn"] == "arn:aws:iam::123456789012:role/role-certificate-audit-mfg-ap-southeast-1-tst"
    assert settings["AuditCheckConfigurations"] == {
        "DeviceCertificateExpiringCheck": {"Enabled": True, "Configuration": {"CertExpirationThresholdInDays": "30"}}
    }
    assert (schedule["Frequency"], schedule["ScheduledAuditName"]) == ("DAILY", "audit-certificates-tst")
    alarm = platform.one("aws_cloudwatch_metric_alarm", "alarm-certificate-expiry")
    assert alarm["dimensions"] == {
        "CheckName": schedule["TargetCheckNames"][0],
        "ScheduledAuditName": schedule["ScheduledAuditName"],
    }
    assert (alarm["threshold"], alarm["period"], alarm["treat_missing_data"]) == (1, 86_400, "notBreaching")


def test_the_audit_is_planned_without_asking_aws(records: Any) -> None:
    """Each resource carries a schema of what it uses, and what identifies it cannot change."""
    for body in records.platform.of("aws_cloudcontrolapi_resource").values():
        schema, state = json.loads(body["schema"]), json.loads(body["desired_state"])
        assert (schema["typeName"], set(schema["properties"])) == (body["type_name"], set(state))
        assert schema["createOnlyProperties"] == schema["primaryIdentifier"]
