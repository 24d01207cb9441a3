"""Expected content of an hour or a day, worked out from all its values. It shares no code with the processor."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.integration.faults.load import HOUR, MINUTE

MINUTE_BINS, PERIOD_BINS = 128, 512
"""Of a sketch (docs/processor.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of a minute, which begins at `start` (ms); values by metric, in thousandths."""

    start: int
    messages: int
    values: Mapping[str, list[int]]


def differences(item: Any, minutes: Sequence[Measured]) -> Iterator[str]:
    """Yield the differences between the item of an hour or a day and the measurements of its minutes."""
    got, expected = int(item["messages"]["N"]), sum(minute.messages for minute in minutes)
    if got != expected:
        yield f"{got} messages instead of {expected}"
    parts, apart = ("minutes", MINUTE) if item["bucket"]["S"].startswith("hour#") else ("hours", HOUR)
    if int(item[parts]["N"]) != len({minute.start // apart for minute in minutes}):
        yield f"{item[parts]['N']} {parts}"
    values: dict[str, list[int]] = defaultdict(list)
    joined: dict[str, int] = defaultdict(int)
    for minute in minutes:
        for name, minute_values in minute.values.items():
            values[name] += minute_values
            joined[name] = max(joined[name], _joined(minute_values, MINUTE_BINS))
    if item["metrics"]["M"].keys() != values.keys():
        yield f"the metrics {sorted(item['metrics']['M'])} instead of {sorted(values)}"
        return
    for name, all_values in values.items():
        times = max(joined[name], _joined(all_values, PERIOD_BINS))
        for difference in _numbers(item["metrics"]["M"][name]["M"], sorted(all_values), joined=times):
            yield f"{name}: {difference}"


def _numbers(numbers: Any, values: list[int], *, joined: int) -> Iterator[str]:
    exact = [len(values), sum(values), values[0], values[-1]]
    got = [int(numbers["count"]["N"]), *(thousandths(numbers[part]["N"]) for part in ("sum", "min", "max"))]
    if got != exact:
        yield f"{got} instead of {exact}"
    if abs(float(numbers["mean"]["N"]) * 1000 * len(values) - exact[1]) > 1e-6 * abs(exact[1]):
        yield f"the mean {numbers['mean']['N']}"
    error = 0.0101 * 2**joined
    for rank in (5, 50, 95, 99):
        right, found = values[int(rank / 100 * (len(values) - 1))], numbers[f"p{rank:02d}"]["N"]
        if abs(float(found) * 1000 - right) > error * right:
            yield f"p{rank} is {found}, not {right / 1000}"


def _joined(values: list[int], most: int) -> int:
    """Return how often bins of two per cent are joined two by two until there are at most `most`."""
    width = math.log(1.01 / 0.99)
    bins = {math.ceil(math.log(value / 1000) / width) if value else None for value in values}
    times = 0
    while len(bins) > most:
        bins = {None if bin_ is None else math.ceil(bin_ / 2) for bin_ in bins}
        times += 1
    return times


def thousandths(text: str) -> Any:
    number = Decimal(text) * 1000
    return int(number) if number == int(number) else number
