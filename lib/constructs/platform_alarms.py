"""Alarms of what all plants share: the stream, the sensor processor and its failure queue."""

from __future__ import annotations

from ..bindings import Construct
from ..names import PlatformNames
from ..shared.alarms import Metric, Watch, expression_alarm, metric_alarm
from ..specs import PlatformAlarmsSpec

ITERATOR_AGE_PERIODS = 5
"""Minutes in a row: a single batch that is done again makes the processor late for a moment."""

PENDING_PERIODS = 3
"""Times five minutes: a topic that does not take a notification once is asked again with the next batches."""

UNKNOWN = "unknown"
"""Facility and device type of what the sensor processor cannot place."""


class PlatformAlarms:
    """One alarm each, from the manifest's thresholds on."""

    def __init__(self, scope: Construct, *, names: PlatformNames, thresholds: PlatformAlarmsSpec) -> None:
        function = {"FunctionName": names.function}
        metric_alarm(
            scope,
            "alarm-iterator-age",
            names=names,
            description="The sensor processor lies behind the stream: readings are late, and lost after a week.",
            metric=Metric(namespace="AWS/Lambda", name="IteratorAge", dimensions=function, statistic="Maximum"),
            watch=Watch(threshold=thresholds.iterator_age_s * 1000, period_s=60, periods=ITERATOR_AGE_PERIODS),
        )
        expression_alarm(
            scope,
            "alarm-processor-errors",
            names=names,
            description="Invocations of the sensor processor fail: see its log group.",
            expression="100 * errors / invocations",
            metrics={
                name.lower(): Metric(namespace="AWS/Lambda", name=name, dimensions=function)
                for name in ("Errors", "Invocations")
            },
            watch=Watch(threshold=thresholds.error_rate_percent),
        )
        metric_alarm(
            scope,
            "alarm-processor-throttles",
            names=names,
            description="Lambda turns away invocations of the sensor processor: raise its concurrency.",
            metric=Metric(namespace="AWS/Lambda", name="Throttles", dimensions=function),
            watch=Watch(threshold=thresholds.throttles),
        )
        metric_alarm(
            scope,
            "alarm-stream-throttles",
            names=names,
            description="The stream turns away records: the load has more than doubled in 15 minutes.",
            metric=Metric(
                namespace="AWS/Kinesis",
                name="WriteProvisionedThroughputExceeded",
                dimensions={"StreamName": names.stream},
            ),
            watch=Watch(threshold=thresholds.throttles),
        )
        metric_alarm(
            scope,
            "alarm-failures-queue",
            names=names,
            description="The sensor processor gave up on records: replay them while the stream holds them.",
            metric=Metric(
                namespace="AWS/SQS",
                name="ApproximateNumberOfMessagesVisible",
                dimensions={"QueueName": names.failure_queue},
                statistic="Maximum",
            ),
            watch=Watch(threshold=thresholds.failures_queue_depth),
        )
        metric_alarm(
            scope,
            "alarm-unplaced-messages",
            names=names,
            description="Messages of no known plant are in quarantine: something that is no device of ours publishes.",
            metric=Metric(
                namespace=names.metrics_namespace, name="ReadingsQuarantined", dimensions={"Facility": UNKNOWN}
            ),
            watch=Watch(threshold=1),
        )
        metric_alarm(
            scope,
            "alarm-notifications-pending",
            names=names,
            description="Anomalies are in the table and the topic does not take them: nobody is told of them.",
            metric=Metric(
                namespace=names.metrics_namespace, name="NotificationsPending", dimensions={}, statistic="Maximum"
            ),
            watch=Watch(threshold=1, periods=PENDING_PERIODS),
        )
