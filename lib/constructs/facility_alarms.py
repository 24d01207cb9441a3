"""Alarms of one plant: its topic rule, its quarantine, its anomalies, and device types that fall silent."""

from __future__ import annotations

from ..bindings import Construct
from ..names import PlatformNames
from ..shared.alarms import BELOW, BREACHING, Metric, Watch, expression_alarm, metric_alarm
from ..specs import FacilitySpec, ThingGroupSpec

FAILURES_OF_A_RULE = 'SELECT SUM(Failure) FROM SCHEMA("AWS/IoT", ActionType, RuleName) WHERE RuleName ='
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-metrics-insights-querylanguage.html"""

HOUR_S, DAY_S = 3600, 86_400


class FacilityAlarms:
    """Thresholds are those that the plant declares; the topic is the platform's, by name."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec) -> None:
        thresholds, where = facility.alarms, {"Facility": facility.id}
        rule = names.named(facility.topic_rule)
        expression_alarm(
            scope,
            f"alarm-rule-failures-{facility.id}",
            names=names,
            description=f"The topic rule of {facility.id} cannot hand messages on: see iot-rule-errors in the archive.",
            # A query and no metric: whatever the type of the action is called, the rule's failures are its own.
            expression=f"{FAILURES_OF_A_RULE} '{rule}'",
            metrics={},
            watch=Watch(threshold=thresholds.rule_failures),
        )
        metric_alarm(
            scope,
            f"alarm-rule-throttles-{facility.id}",
            names=names,
            description=f"AWS IoT turns away messages of {facility.id}: the account's quota for rules is too low.",
            metric=Metric(namespace="AWS/IoT", name="RuleMessageThrottled", dimensions={"RuleName": rule}),
            watch=Watch(threshold=thresholds.rule_failures),
        )
        expression_alarm(
            scope,
            f"alarm-quarantine-{facility.id}",
            names=names,
            description=f"Messages of {facility.id} cannot be read: see quarantine in the archive, reason by reason.",
            expression="100 * quarantined / (quarantined + processed)",
            metrics={
                "quarantined": Metric(namespace=names.metrics_namespace, name="ReadingsQuarantined", dimensions=where),
                "processed": Metric(namespace=names.metrics_namespace, name="ReadingsProcessed", dimensions=where),
            },
            watch=Watch(threshold=thresholds.quarantine_percent),
        )
        metric_alarm(
            scope,
            f"alarm-anomalies-{facility.id}",
            names=names,
            description=f"Anomalies at {facility.id}: see its runbook.",
            metric=Metric(namespace=names.metrics_namespace, name="AnomaliesDetected", dimensions=where),
            watch=Watch(threshold=thresholds.anomalies_per_hour, period_s=HOUR_S),
        )
        for group in facility.groups:
            metric_alarm(
                scope,
                f"alarm-silence-{facility.id}-{group.device_type}",
                names=names,
                description=f"No reading of any {group.device_type} at {facility.id}: network, power or certificates.",
                metric=Metric(
                    namespace=names.metrics_namespace,
                    name="ReadingsProcessed",
                    dimensions=where | {"DeviceType": group.device_type},
                ),
                watch=_silence(group),
            )


def _silence(group: ThingGroupSpec) -> Watch:
    """One period, or whole days where it is longer than one, the longest period that there is."""
    period_s = min(group.silence_s, DAY_S)
    return Watch(
        threshold=1,
        period_s=period_s,
        periods=group.silence_s // period_s,
        comparison=BELOW,
        missing=BREACHING,
    )
