"""DynamoDB's typed items of hours and days, from and to the core's values, and what hours need of minutes' items."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from ..numbers.exact import decimal_text, steps_of
from ..numbers.minute import Totals
from ..numbers.period import Level, Part, Period, period_bucket
from ..numbers.sketch import ITEM_BINS, Sketch
from .attributes import Item, binary_of, expiry_of, number_text

QUANTILES = {"p05": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99}
"""By the attribute that holds it, the rank of each quantile that an item tells; others are in its sketch."""

PART_ATTRIBUTES = ("bucket", "facility", "device_type", "messages", "late", "metrics")
"""What `parse_part` reads of an item."""

_PARTS = {Level.HOUR: "minutes", Level.DAY: "hours"}

_NUMBER = Context(prec=38, rounding=ROUND_HALF_EVEN)
"""DynamoDB's numbers have 38 digits; sums of minutes always fit, those of a day beyond 1e12 may have more."""

_MEAN = Context(prec=17)


def period_item(period: Period, *, retention_days: int) -> Item:
    """The item of an hour or a day."""
    bins = ITEM_BINS // max(len(period.metrics), 1)
    return {
        "device": {"S": period.device},
        "bucket": {"S": period_bucket(period.level, period.start)},
        "facility": {"S": period.facility},
        "device_type": {"S": period.device_type},
        _PARTS[period.level]: {"N": str(period.parts)},
        "messages": {"N": str(period.messages)},
        "late": {"N": str(period.late)},
        "metrics": {"M": {name: {"M": _numbers(period.metrics[name], bins=bins)} for name in sorted(period.metrics)}},
        "expires_at": {"N": str(expiry_of(period.start, retention_days))},
    }


def parse_part(item: Mapping[str, Any], *, start: int) -> Part:
    """What a period needs of the item of a minute or an hour that lies in it."""
    return Part(
        start=start,
        facility=item["facility"]["S"],
        device_type=item["device_type"]["S"],
        messages=int(item["messages"]["N"]),
        late=int(item["late"]["N"]),
        metrics={name: _totals(numbers["M"]) for name, numbers in item["metrics"]["M"].items()},
    )


def _totals(numbers: Mapping[str, Any]) -> Totals:
    return Totals(
        count=int(numbers["count"]["N"]),
        sum=steps_of(numbers["sum"]["N"]),
        min=float(numbers["min"]["N"]),
        max=float(numbers["max"]["N"]),
        sketch=Sketch.unpack(binary_of(numbers["sketch"])),
    )


def _numbers(totals: Totals, *, bins: int) -> Item:
    totals.sketch.fit(bins)
    total = Decimal(decimal_text(totals.sum))
    numbers: Item = {
        "count": {"N": str(totals.count)},
        "sum": {"N": format(_NUMBER.plus(total), "f")},
        "min": {"N": number_text(totals.min)},
        "max": {"N": number_text(totals.max)},
        "mean": {"N": format(_MEAN.divide(total, totals.count).normalize(_MEAN), "f")},
        "sketch": {"B": totals.sketch.pack()},
    }
    for name, value in zip(QUANTILES, totals.sketch.quantiles(list(QUANTILES.values())), strict=True):
        # A bin's middle may lie outside of what was measured.
        numbers[name] = {"N": number_text(min(max(float(f"{value:.6g}"), totals.min), totals.max))}
    return numbers
