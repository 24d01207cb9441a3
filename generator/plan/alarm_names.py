"""Names the alarms of platform and plants and says what each tells: for the runbook, and for whoever is called."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator import naming
from fleet_iot.generator.plan.build import FacilityPlan, ThingGroupPlan

PLATFORM_ALARMS = {
    "alarm-iterator-age": "the sensor processor lies behind the stream",
    "alarm-processor-errors": "invocations of the sensor processor fail",
    "alarm-processor-throttles": "Lambda turns away invocations of the sensor processor",
    "alarm-stream-throttles": "the stream turns away records",
    "alarm-failures-queue": "the sensor processor gave up on records: replay them while the stream holds them",
    "alarm-unplaced-messages": "messages of no known plant are in quarantine",
    "alarm-notifications-pending": "anomalies are in the table and the topic does not take them",
    "alarm-event-errors": "events of AWS IoT could not be archived",
    "alarm-certificate-expiry": "certificates run out soon",
    "alarm-unauthorised-calls": "somebody tried what they may not do (CIS 4.1)",
    "alarm-sign-in-without-mfa": "somebody signed in to the console without a second factor (CIS 4.2)",
    "alarm-root-use": "somebody used the account's root user (CIS 4.3)",
    "alarm-iam-changes": "permissions were changed (CIS 4.4)",
    "alarm-trail-changes": "a trail was changed, started or stopped (CIS 4.5)",
    "alarm-sign-in-failures": "signing in to the console failed (CIS 4.6)",
    "alarm-key-deletions": "a key was disabled or is to be deleted (CIS 4.7)",
    "alarm-bucket-policy-changes": "the policy of a bucket was changed (CIS 4.8)",
    "alarm-config-changes": "AWS Config was changed or stopped (CIS 4.9)",
    "alarm-security-group-changes": "a security group was changed (CIS 4.10)",
    "alarm-network-acl-changes": "a network access list was changed (CIS 4.11)",
    "alarm-gateway-changes": "a network gateway was changed (CIS 4.12)",
    "alarm-route-table-changes": "a route table was changed (CIS 4.13)",
    "alarm-vpc-changes": "a network was changed (CIS 4.14)",
}
"""What all facilities share, by name without suffix; a test holds them to those of the stacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmPlan:
    """An alarm of one facility: its name, when it is raised, and the group that it is about, None where all are."""

    name: str
    raised: str
    group: ThingGroupPlan | None = None


def plan_alarms(facility: FacilityPlan) -> tuple[AlarmPlan, ...]:
    """The alarms of a facility, those of its device types last."""
    given = facility.alarms
    failures = f"{given.rule_failures:,} in five minutes"
    whole = {
        "anomalies": f"{given.anomalies_per_hour:,} anomalies in an hour",
        "quarantine": f"{given.quarantine_percent:g} % of the messages of five minutes cannot be read",
        "rule-failures": f"messages that the topic rule could not hand on: {failures}",
        "rule-throttles": f"messages that AWS IoT turned away before the topic rule: {failures}",
    }
    return (
        *(AlarmPlan(name=naming.alarm(kind, facility.id), raised=raised) for kind, raised in whole.items()),
        *(
            AlarmPlan(
                name=naming.silence_alarm(facility.id, group.device_type.id),
                raised=f"no reading of any {group.device_type.id} for {group.silence_s:,} s",
                group=group,
            )
            for group in facility.groups
        ),
    )
