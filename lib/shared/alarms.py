"""Make CloudWatch alarms that publish to the platform's alarm topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import bindings as tf
from ..names import PLATFORM_ALARMS, PlatformNames

PERIOD_S = 300
"""Most metrics arrive once a minute and some late; five of them distinguish a failure from a hiccup."""

AT_LEAST, BELOW = "GreaterThanOrEqualToThreshold", "LessThanThreshold"

NOT_BREACHING, BREACHING = "notBreaching", "breaching"
"""Treatment of missing data: without data there are no failures, and no readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A CloudWatch metric, and the statistic that aggregates it over a period."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str = "Sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Raise an alarm at `threshold` in each of `periods` successive periods of `period_s` seconds.

    Args:
        missing: How missing data counts.
        notifies_recovery: The topic is also notified when the alarm returns to OK.
    """

    threshold: float
    period_s: int = PERIOD_S
    periods: int = 1
    comparison: str = AT_LEAST
    missing: str = NOT_BREACHING
    notifies_recovery: bool = True


def metric_alarm(
    scope: tf.Construct, id_: str, *, names: PlatformNames, metric: Metric, watch: Watch, description: str | None = None
) -> tf.CloudwatchMetricAlarm:
    """Make an alarm on one metric; the description of the platform's alarms is in `lib.names`."""
    return _alarm(
        scope,
        id_,
        names,
        watch,
        description,
        namespace=metric.namespace,
        metric_name=metric.name,
        dimensions=dict(metric.dimensions) or None,
        statistic=metric.statistic,
        period=watch.period_s,
    )


def expression_alarm(
    scope: tf.Construct,
    id_: str,
    *,
    names: PlatformNames,
    expression: str,
    metrics: Mapping[str, Metric],
    watch: Watch,
    description: str | None = None,
) -> tf.CloudwatchMetricAlarm:
    """Make an alarm on an expression over `metrics`, by their keys; without any, the expression is a query."""
    queries = [
        tf.CloudwatchMetricAlarmMetricQuery(
            id=key,
            metric=tf.CloudwatchMetricAlarmMetricQueryMetric(
                namespace=metric.namespace,
                metric_name=metric.name,
                dimensions=dict(metric.dimensions),
                stat=metric.statistic,
                period=watch.period_s,
            ),
        )
        for key, metric in metrics.items()
    ]
    watched = tf.CloudwatchMetricAlarmMetricQuery(
        id="watched",
        label=id_,
        expression=expression,
        period=None if metrics else watch.period_s,  # expressions use their metrics' period
        return_data=True,
    )
    return _alarm(scope, id_, names, watch, description, metric_query=[*queries, watched])


def _alarm(
    scope: tf.Construct, id_: str, names: PlatformNames, watch: Watch, description: str | None, **arguments: Any
) -> tf.CloudwatchMetricAlarm:
    condition = PLATFORM_ALARMS.get(id_, "")
    return tf.CloudwatchMetricAlarm(
        scope,
        id_,
        alarm_name=names.named(id_),
        alarm_description=description or f"{condition[:1].upper()}{condition[1:]}.",
        evaluation_periods=watch.periods,
        comparison_operator=watch.comparison,
        threshold=watch.threshold,
        treat_missing_data=watch.missing,
        alarm_actions=[names.alarm_topic_arn],
        ok_actions=[names.alarm_topic_arn] if watch.notifies_recovery else None,
        **arguments,
    )


def log_alarm(
    scope: tf.Construct, id_: str, *, names: PlatformNames, log_group: str, pattern: str, metric: str, watch: Watch
) -> None:
    """Count the lines of a log group that match `pattern`, and make an alarm on their number.

    Args:
        id_: Ids are `filter-<id_>` and `alarm-<id_>`.
        pattern: A CloudWatch Logs filter pattern; empty for every line.
        metric: Name of the metric to count in.
    """
    filter_ = tf.CloudwatchLogMetricFilter(
        scope,
        f"filter-{id_}",
        name=names.named(f"filter-{id_}"),
        log_group_name=log_group,
        pattern=pattern,
        metric_transformation=tf.CloudwatchLogMetricFilterMetricTransformation(
            namespace=names.filter_namespace, name=metric, value="1"
        ),
    )
    metric_alarm(
        scope,
        f"alarm-{id_}",
        names=names,
        metric=Metric(namespace=names.filter_namespace, name=metric, dimensions={}),
        watch=watch,
    ).node.add_dependency(filter_)
