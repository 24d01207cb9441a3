"""Makes alarms: what is watched, from which value on, and the one topic that hears of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..bindings import (
    CloudwatchMetricAlarm,
    CloudwatchMetricAlarmMetricQuery,
    CloudwatchMetricAlarmMetricQueryMetric,
    Construct,
)
from ..names import PlatformNames

PERIOD_S = 300
"""Most metrics come once a minute and some late; five of them tell a fault from a hiccup."""

AT_LEAST, BELOW = "GreaterThanOrEqualToThreshold", "LessThanThreshold"

NOT_BREACHING, BREACHING = "notBreaching", "breaching"
"""What it means that a metric is silent: for counts of faults that there are none, for readings that none come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of CloudWatch and how its values of one period become one."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str = "Sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """When an alarm is raised: at `threshold` in each of `periods` periods of `period_s` seconds.

    `tells_recovery`: the topic hears too that all is well again.
    """

    threshold: float
    period_s: int = PERIOD_S
    periods: int = 1
    comparison: str = AT_LEAST
    missing: str = NOT_BREACHING
    tells_recovery: bool = True


def metric_alarm(
    scope: Construct, id_: str, *, names: PlatformNames, description: str, metric: Metric, watch: Watch
) -> CloudwatchMetricAlarm:
    """An alarm on one metric."""
    return CloudwatchMetricAlarm(
        scope,
        id_,
        alarm_name=names.named(id_),
        alarm_description=description,
        namespace=metric.namespace,
        metric_name=metric.name,
        dimensions=dict(metric.dimensions) or None,
        statistic=metric.statistic,
        period=watch.period_s,
        evaluation_periods=watch.periods,
        comparison_operator=watch.comparison,
        threshold=watch.threshold,
        treat_missing_data=watch.missing,
        alarm_actions=[names.alarm_topic_arn],
        ok_actions=[names.alarm_topic_arn] if watch.tells_recovery else None,
    )


def expression_alarm(
    scope: Construct,
    id_: str,
    *,
    names: PlatformNames,
    description: str,
    expression: str,
    metrics: Mapping[str, Metric],
    watch: Watch,
) -> CloudwatchMetricAlarm:
    """An alarm on an expression over metrics, each called by its key there; without any, the expression is a query."""
    queries = [
        CloudwatchMetricAlarmMetricQuery(
            id=key,
            metric=CloudwatchMetricAlarmMetricQueryMetric(
                namespace=metric.namespace,
                metric_name=metric.name,
                dimensions=dict(metric.dimensions),
                stat=metric.statistic,
                period=watch.period_s,
            ),
        )
        for key, metric in metrics.items()
    ]
    watched = CloudwatchMetricAlarmMetricQuery(
        id="watched",
        label=id_,
        expression=expression,
        period=None if metrics else watch.period_s,  # expressions take that of their metrics
        return_data=True,
    )
    return CloudwatchMetricAlarm(
        scope,
        id_,
        alarm_name=names.named(id_),
        alarm_description=description,
        metric_query=[*queries, watched],
        evaluation_periods=watch.periods,
        comparison_operator=watch.comparison,
        threshold=watch.threshold,
        treat_missing_data=watch.missing,
        alarm_actions=[names.alarm_topic_arn],
        ok_actions=[names.alarm_topic_arn] if watch.tells_recovery else None,
    )
