"""Watched values, their thresholds, and the topic that is notified."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fleet_iot.generator.cost.terms import PAIR_ALARM_METRICS, PLANT_ALARM_METRICS, PLATFORM_ALARM_METRICS
from fleet_iot.lib.constructs.observability import TRAIL_ALARMS, UNKNOWN
from fleet_iot.lib.record.read import read_record
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.sensor_processor.ingest import batch
from fleet_iot.sensor_processor.ingest import log as metrics
from tests.places import SAMPLE

pytestmark = pytest.mark.cdktf
RECORD = read_record(SAMPLE)
FLEET, PLANTS = RECORD.fleet, list(RECORD.facilities.values())
TOPIC = "arn:aws:sns:ap-southeast-1:123456789012:topic-alarms-tst"
ALARMS = "arn:aws:cloudwatch:ap-southeast-1:123456789012:alarm:alarm-*-tst"
PATTERN_MAXIMUM = 1024
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutMetricFilter.html"""


def _alarms(stacks: Any) -> Iterator[dict[str, Any]]:
    for stack in (stacks.platform, *(stacks.facility(plant.id) for plant in PLANTS)):
        yield from stack.of("aws_cloudwatch_metric_alarm").values()


def _metrics(alarm: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of all that an alarm looks at."""
    queried = [query["metric"] for query in alarm.get("metric_query", ()) if "metric" in query]
    for metric in [*queried, *([alarm] if "metric_name" in alarm else [])]:
        yield metric["namespace"], metric["metric_name"], metric.get("dimensions", {})


def test_alarms_and_dashboards_watch_exactly_what_the_processor_emits(stacks: Any) -> None:
    """No alarm waits for a metric that nobody emits, and nothing is emitted, and paid for, that nobody looks at."""
    watched = {
        (name, frozenset(dimensions))
        for alarm in _alarms(stacks)
        for namespace, name, dimensions in _metrics(alarm)
        if namespace == "Fleet/tst"
    }
    for plant in PLANTS:
        body = stacks.facility(plant.id).one("aws_cloudwatch_dashboard", plant.dashboard)["dashboard_body"]
        for widget in json.loads(body)["widgets"]:
            for namespace, name, *dimensions in widget["properties"].get("metrics", ()):
                assert namespace == "Fleet/tst"
                watched.add((name, frozenset(dimensions[::2])))
    counted = metrics.metric_line({}, namespace="Fleet", facility="f", device_type="d", timestamp=0)
    emitted = {
        (metric["Name"], frozenset(dimensions))
        for line in (
            counted,
            *(
                metrics.plain_line(name, 0, unit="Count", namespace="Fleet", timestamp=0)
                for name in (metrics.PENDING, metrics.UNEMITTED)
            ),
        )
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
        for dimensions in directive["Dimensions"]
    }
    assert watched == emitted
    function = stacks.platform.one("aws_lambda_function", "function-sensor-processor")
    assert function["environment"]["variables"]["METRICS_NAMESPACE"] == "Fleet/tst"
    assert batch.UNKNOWN == UNKNOWN


def test_every_alarm_tells_the_topic_and_explains_itself(stacks: Any) -> None:
    """Each has the one topic as its action, a sentence, a say on missing data, and a name of this environment."""
    alarms = list(_alarms(stacks))
    assert len(alarms) == 24 + sum(4 + len(plant.groups) for plant in PLANTS)
    for alarm in alarms:
        assert alarm["alarm_actions"] == [TOPIC]
        assert alarm.get("ok_actions", [TOPIC]) == [TOPIC]
        assert alarm["alarm_description"].endswith(".")
        assert alarm["treat_missing_data"] in ("breaching", "notBreaching")
        assert alarm["alarm_name"].startswith("alarm-")
        assert alarm["alarm_name"].endswith("-tst")


def test_every_period_is_one_that_cloudwatch_takes(stacks: Any) -> None:
    """Whole minutes, a day at most; all periods together a day, or a week where each is an hour or longer."""
    for alarm in _alarms(stacks):
        queries = [query.get("metric", query).get("period") for query in alarm.get("metric_query", ())]
        for period in filter(None, [alarm.get("period"), *queries]):
            assert (period % 60, period <= 86_400) == (0, True)
            assert period * alarm["evaluation_periods"] <= (86_400 if period < 3600 else 604_800)


def test_the_platforms_thresholds_are_the_manifests(stacks: Any) -> None:
    """Age in ms, share of failed invocations, throttles and depth of the queue."""
    found = stacks.platform.of("aws_cloudwatch_metric_alarm")
    given = FLEET.observability.alarms
    assert {id_: found[f"alarm-{id_}"]["threshold"] for id_ in ("iterator-age", "processor-errors")} == {
        "iterator-age": given.iterator_age_s * 1000,
        "processor-errors": given.error_rate_percent,
    }
    for id_ in ("alarm-processor-throttles", "alarm-stream-throttles"):
        assert found[id_]["threshold"] == given.throttles
    assert found["alarm-failures-queue"]["threshold"] == given.failures_queue_depth
    (expression,) = [q["expression"] for q in found["alarm-processor-errors"]["metric_query"] if "expression" in q]
    assert expression == "100 * errors / invocations"
    assert found["alarm-failures-queue"]["dimensions"] == {"QueueName": "queue-processor-failures-tst"}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.id)
def test_a_plants_thresholds_are_those_that_it_declares(stacks: Any, plant: FacilitySpec) -> None:
    """Rule failures, quarantine and anomalies of the plant as a whole."""
    found = stacks.facility(plant.id).of("aws_cloudwatch_metric_alarm")
    rule = f"{plant.topic_rule}_tst"
    assert {id_: found[f"alarm-{id_}-{plant.id}"]["threshold"] for id_ in ("quarantine", "anomalies")} == {
        "quarantine": plant.alarms.quarantine_percent,
        "anomalies": plant.alarms.anomalies_per_hour,
    }
    (query,) = found[f"alarm-rule-failures-{plant.id}"]["metric_query"]
    assert query["expression"].endswith(f"WHERE RuleName = '{rule}'")
    assert found[f"alarm-rule-throttles-{plant.id}"]["dimensions"] == {"RuleName": rule}
    for id_ in ("alarm-rule-failures", "alarm-rule-throttles"):
        assert found[f"{id_}-{plant.id}"]["threshold"] == plant.alarms.rule_failures


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.id)
def test_a_silent_device_type_raises_an_alarm(stacks: Any, plant: FacilitySpec) -> None:
    """No data is what silence looks like: missing readings count as too few, for as long as the plant declares."""
    found = stacks.facility(plant.id).of("aws_cloudwatch_metric_alarm")
    for group in plant.groups:
        alarm = found[f"alarm-silence-{plant.id}-{group.device_type}"]
        assert alarm["dimensions"] == {"Facility": plant.id, "DeviceType": group.device_type}
        assert (alarm["treat_missing_data"], alarm["threshold"]) == ("breaching", 1)
        assert alarm["comparison_operator"] == "LessThanThreshold"
        assert alarm["period"] * alarm["evaluation_periods"] == group.silence_s


def test_a_silence_of_days_is_made_of_days(facility: Callable[..., FacilitySpec]) -> None:
    """A period is a day at most, so that a longer silence is several of them."""
    import dataclasses

    from fleet_iot.lib.constructs.observability import _silence

    (group,) = facility().groups
    watch = _silence(dataclasses.replace(group, silence_s=5 * 86_400))
    assert (watch.period_s, watch.periods) == (86_400, 5)


@pytest.mark.parametrize(("control", "watched"), [*enumerate(TRAIL_ALARMS, start=1)], ids=lambda value: str(value)[:3])
def test_every_control_of_the_benchmark_has_filter_and_alarm(stacks: Any, control: int, watched: Any) -> None:
    """The trail's log group is filtered, the alarm is on the filter's metric, and the first event raises it."""
    platform = stacks.platform
    filter_ = platform.one("aws_cloudwatch_log_metric_filter", f"filter-{watched.id}")
    assert filter_["log_group_name"] == "${aws_cloudwatch_log_group.log-group-audit-trail.name}"
    assert filter_["pattern"] == watched.pattern
    assert len(watched.pattern) <= PATTERN_MAXIMUM
    assert watched.pattern.count("(") == watched.pattern.count(")")
    made = filter_["metric_transformation"]
    alarm = platform.one("aws_cloudwatch_metric_alarm", f"alarm-{watched.id}")
    assert (made["namespace"], made["name"], made["value"]) == (alarm["namespace"], alarm["metric_name"], "1")
    assert (alarm["threshold"], alarm["evaluation_periods"], alarm["statistic"]) == (1, 1, "Sum")
    assert f"(CIS 4.{control})" in alarm["alarm_description"]


def test_the_benchmarks_section_is_complete() -> None:
    """Controls 4.1 to 4.14, each with a metric of its own."""
    assert len(TRAIL_ALARMS) == 14
    assert len({watched.metric for watched in TRAIL_ALARMS}) == len(TRAIL_ALARMS)


def test_patterns_are_those_that_are_published() -> None:
    """Spelled as Security Hub compares them, the short ones in full."""
    patterns = {f"4.{number}": watched.pattern for number, watched in enumerate(TRAIL_ALARMS, start=1)}
    assert patterns["4.7"] == (
        "{($.eventSource=kms.amazonaws.com) && (($.eventName=DisableKey) || ($.eventName=ScheduleKeyDeletion))}"
    )
    assert patterns["4.5"] == (
        "{($.eventName=CreateTrail) || ($.eventName=UpdateTrail) || ($.eventName=DeleteTrail) "
        "|| ($.eventName=StartLogging) || ($.eventName=StopLogging)}"
    )


def test_the_topic_is_encrypted_and_hears_alarms_over_tls_alone(stacks: Any) -> None:
    """A key of ours; services publish for this environment's alarms; nobody publishes in the clear."""
    platform = stacks.platform
    topic = platform.one("aws_sns_topic", "topic-alarms")
    assert topic == {"name": "topic-alarms-tst", "kms_master_key_id": "${aws_kms_key.key-logs.arn}"}
    statements = platform.statements("aws_sns_topic_policy", "topic-alarms-policy")
    assert statements["AllowAlarmsToPublish"] == {
        "Sid": "AllowAlarmsToPublish",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": ["sns:Publish"],
        "Resource": TOPIC,
        "Condition": {
            "StringEquals": {"aws:SourceAccount": "123456789012"},
            "ArnLike": {"aws:SourceArn": ALARMS},
        },
    }
    denied = statements["DenyInsecureTransport"]
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", ["sns:Publish"])
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_alarms_may_use_the_topics_key_for_it_alone(stacks: Any) -> None:
    """Without this CloudWatch could not publish; with less of a condition any alarm of any account could."""
    statement = stacks.platform.statements("aws_kms_key", "key-logs")["AllowAlarmsToPublish"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Action"] == ["kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext"]
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": "123456789012", "kms:EncryptionContext:aws:sns:topicArn": TOPIC},
        "ArnLike": {"aws:SourceArn": ALARMS},
    }


def test_the_estimate_counts_every_metric_of_an_alarm(stacks: Any) -> None:
    """`fleet cost` has as many metrics of alarms as are synthesised: the inputs of an expression, or its query."""
    alarms = [[*_metrics(alarm)] for alarm in _alarms(stacks)]
    pairs = sum(len(plant.groups) for plant in PLANTS)
    expected = PLATFORM_ALARM_METRICS + PLANT_ALARM_METRICS * len(PLANTS) + PAIR_ALARM_METRICS * pairs
    assert expected == sum(max(1, len(metrics)) for metrics in alarms)
