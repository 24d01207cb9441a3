"""Reconcile what the devices sent with what arrived: lost, duplicated, sums, anomalies found and false.

Pure, and shares no code with the sensor processor: a bug there cannot hide itself here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_MINUTE_MS = 60_000
# The slow detector judges means of 12 readings, so it may report up to 12 readings after an anomaly's last.
_GRACE_SAMPLES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteItem:
    """One minute of a thing in DynamoDB; `minute` is minutes since the epoch."""

    thing: str
    minute: int
    messages: int
    sums: Mapping[str, Decimal]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyItem:
    """An anomaly in DynamoDB; `time_ms` is that of the device's clock."""

    thing: str
    metric: str
    detector: str
    time_ms: int


@dataclass(slots=True)
class Truth:
    """What the devices sent and the broker acknowledged, by thing, minute and metric."""

    readings: int = 0
    poison: int = 0
    messages: Counter[tuple[str, int]] = field(default_factory=Counter)
    sums: defaultdict[tuple[str, int, str], Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    counts: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    sent: set[tuple[str, int, int]] = field(default_factory=set)
    anomalies: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The result. `lost` counts readings that DynamoDB or the archive lacks; `duplicated` those that DynamoDB counts
    more often than they were sent, and those in the archive that no device sent."""

    lost: int
    duplicated: int
    wrong_sums: int
    anomalies_injected: int
    anomalies_within_limits: int
    anomalies_detected: int
    anomalies_false: int


def gather(lines: Iterable[Mapping[str, Any]]) -> Truth:
    """Add the truth file's lines up by thing, minute and metric."""
    truth = Truth()
    for line in lines:
        match line["line"]:
            case "anomaly":
                truth.anomalies.append(dict(line))
            case "poison":
                truth.poison += 1
            case "reading":
                thing, minute = line["thing"], line["time"] // _MINUTE_MS
                truth.readings += 1
                truth.messages[thing, minute] += 1
                truth.sent.add((thing, line["time"], line["sequence"]))
                for metric, value in line["metrics"].items():
                    truth.sums[thing, minute, metric] += value
                    truth.counts[thing, minute, metric] += 1
    return truth


def compare(
    truth: Truth,
    *,
    minutes: Iterable[MinuteItem],
    anomalies: Iterable[AnomalyItem],
    archived: Counter[tuple[str, int, int]],
) -> Difference:
    """Compare what was sent with what is stored.

    Args:
        truth: What was sent.
        minutes: The minute items of DynamoDB.
        anomalies: The anomaly items of DynamoDB.
        archived: The archive's distinct stream records, counted by (thing, device time, sequence). A message that a
            device, or MQTT at QoS 1, sent again is a record of its own there and no duplicate; DynamoDB must count it
            once.
    """
    found = list(minutes)
    stored = Counter({(item.thing, item.minute): item.messages for item in found})
    deficit, excess = truth.messages - stored, stored - truth.messages
    wrong_sums = sum(
        1
        for item in found
        for metric, total in item.sums.items()
        if total != truth.sums.get((item.thing, item.minute, metric))
        or item.counts[metric] != truth.counts[item.thing, item.minute, metric]
    )
    unarchived = sum(1 for key in truth.sent if key not in archived)
    surplus = sum(1 for key in archived if key not in truth.sent)
    detected, false = _match(truth.anomalies, list(anomalies))
    return Difference(
        lost=deficit.total() + unarchived,
        duplicated=excess.total() + surplus,
        wrong_sums=wrong_sums,
        anomalies_injected=len(truth.anomalies),
        anomalies_within_limits=sum(1 for anomaly in truth.anomalies if anomaly["within_limits"]),
        anomalies_detected=detected,
        anomalies_false=false,
    )


def _match(injected: list[dict[str, Any]], found: list[AnomalyItem]) -> tuple[int, int]:
    """Count injected anomalies that were found, and found ones that fall into none of them."""
    by_series: defaultdict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for number, anomaly in enumerate(injected):
        until = anomaly["last_ms"] + _GRACE_SAMPLES * anomaly["interval_ms"]
        by_series[anomaly["thing"], anomaly["metric"]].append((anomaly["first_ms"], until, number))
    hit: set[int] = set()
    false = 0
    for item in found:
        numbers = {
            number for first, until, number in by_series[item.thing, item.metric] if first <= item.time_ms <= until
        }
        hit |= numbers
        false += not numbers
    return len(hit), false
