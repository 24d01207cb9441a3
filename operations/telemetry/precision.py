"""Report how often anomalies were true, by plant, device type and period, and what that means for the budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from math import exp, lgamma, log, sqrt
from typing import Any

from fleet_iot.generator.text import counted
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.operations.telemetry.anomalies import FALSE, PREFIX, TRUE, read_begins
from fleet_iot.operations.workers import batches_of
from fleet_iot.sensor_processor.detection import LEARN_DAYS, MACHINE

PERIODS = ("week", "month")
MONTH = timedelta(days=30)

Z = 1.645
"""Of a two-sided interval of 90 %."""

SURE = 0.05
"""A budget is changed only where chance would explain the labels in fewer cases than this."""

LEAST_BUDGET, MOST_BUDGET = 0.01, 1_000.0
"""As in the manifest."""

MOST_RISE = 3.0
"""A budget is raised by this factor at most at a time."""

THINGS = 100
"""Things that are read together: the keys of one BatchGetItem."""

THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The anomalies of one device type in one plant that began in one period, such as 2026-11 or 2026-W48.

    `notified` are all of them. `machine` are those of the machine detector, which has a budget, in
    `device_months` of 30 days after the week in which it learns; `machine_false` of them are labelled false, and
    `machine_unlabelled` have no label.
    """

    facility: str
    device_type: str
    period: str
    notified: int = 0
    acknowledged: int = 0
    true: int = 0
    false: int = 0
    machine: int = 0
    machine_false: int = 0
    machine_unlabelled: int = 0
    device_months: float = 0.0

    @property
    def unlabelled(self) -> int:
        """Return how many have no label."""
        return self.notified - self.true - self.false

    @property
    def precision(self) -> tuple[float, float, float] | None:
        """Return the share that is true of what is labelled, and its 90 % interval; None where nothing is."""
        labelled = self.true + self.false
        return (self.true / labelled, *wilson(self.true, labelled)) if labelled else None

    @property
    def precision_text(self) -> str:
        """Format the share that is true of what was labelled: `3 of 4 true (37 to 93 %)`."""
        if self.precision is None:
            return "-"
        _, low, high = self.precision
        return f"{self.true} of {self.true + self.false} true ({100 * low:.0f} to {100 * high:.0f} %)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change to the manifest that labels of a device type suggest; `lines` are of fleet.yaml below the type."""

    device_type: str
    reason: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Lines in order of plant, type and period, proposals by type, and what reading them cost."""

    lines: tuple[Line, ...]
    proposals: tuple[Proposal, ...]
    things: int
    connected: int
    read_units: float


def wilson(true: int, labelled: int) -> tuple[float, float]:
    """Return the 90 % interval of a share.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    share, square = true / labelled, Z * Z / labelled
    middle = share + square / 2
    spread = Z * sqrt(share * (1 - share) / labelled + square / (4 * labelled))
    return max((middle - spread) / (1 + square), 0.0), min((middle + spread) / (1 + square), 1.0)


def at_most(count: int, expected: float) -> float:
    """Return the probability of `count` or fewer where `expected` are (Poisson)."""
    if expected <= 0.0:
        return 1.0
    return min(sum(exp(each * log(expected) - expected - lgamma(each + 1)) for each in range(count + 1)), 1.0)


def period_of(moment: datetime, by: str) -> tuple[str, datetime]:
    """Return the name of the week (ISO 8601) or month with `moment` in it, and when the next one begins, in UTC."""
    day = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if by == "week":
        return f"{moment:%G-W%V}", day + timedelta(days=7 - day.weekday())
    following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return f"{moment:%Y-%m}", following


def report(
    client: Any,
    *,
    readings: str,
    devices: str,
    things: Iterable[str],
    device_types: Collection[DeviceTypeSpec],
    since: datetime,
    now: datetime,
    by: str,
    on_progress: Callable[[int], None],
) -> Report:
    """Read the anomalies of things that began since, a query for each thing that ever sent, and count them.

    Memory is bounded by plants, types and periods, not by things. A device counts from its first contact to its last.

    Args:
        client: Of DynamoDB.
        readings: Table with the anomalies.
        devices: Table with first and last contact of each thing.
        things: Names of the things.
        device_types: The record's, with their budgets.
        since: Begin of the report.
        now: Its end.
        by: `week` or `month`.
        on_progress: Called now and then with how many things were read.
    """
    counts: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    known = connected = 0
    units = 0.0
    with ThreadPoolExecutor(THREADS) as pool:
        for names in batches_of(things, THINGS):
            items, cost = _devices(client, devices, names)
            known, connected, units = known + len(names), connected + len(items), units + cost
            for item in items:
                for period, months in _months(item, since=since, now=now, by=by):
                    place = item["facility"]["S"], item["device_type"]["S"], period
                    counts[place]["device_months"] += months
            seen = [item["device"]["S"] for item in items]
            for begins, cost in pool.map(lambda name: read_begins(client, readings, thing=name, since=since), seen):
                units += cost
                for begun in begins:
                    _count(counts, begun, by=by)
            on_progress(known)
    lines = tuple(
        Line(facility=place[0], device_type=place[1], period=place[2], **_whole(found))
        for place, found in sorted(counts.items())
    )
    return Report(
        lines=lines,
        proposals=tuple(propose(lines, device_types)),
        things=known,
        connected=connected,
        read_units=units,
    )


def _whole(found: Mapping[str, float]) -> dict[str, Any]:
    return {name: value if name == "device_months" else int(value) for name, value in found.items()}


def _devices(client: Any, table: str, names: Sequence[str]) -> tuple[list[Mapping[str, Any]], float]:
    """Read the items of up to a hundred devices; those that never sent have none."""
    request: dict[str, Any] = {
        "Keys": [{"device": {"S": name}} for name in names],
        "ProjectionExpression": "#device, facility, device_type, first_contact, last_contact",
        "ExpressionAttributeNames": {"#device": "device"},
    }
    found: list[Mapping[str, Any]] = []
    units = 0.0
    while request["Keys"]:
        answer = client.batch_get_item(RequestItems={table: request}, ReturnConsumedCapacity="TOTAL")
        found += answer["Responses"].get(table, ())
        units += sum(each["CapacityUnits"] for each in answer.get("ConsumedCapacity", ()))
        request = request | {"Keys": answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])}
    return found, units


def _months(item: Mapping[str, Any], *, since: datetime, now: datetime, by: str) -> Iterator[tuple[str, float]]:
    """Yield the periods in which a device was watched, each with how many months."""
    first, last = (datetime.fromisoformat(item[name]["S"]) for name in ("first_contact", "last_contact"))
    begin, end = max(first + timedelta(days=LEARN_DAYS), since), min(last, now)
    while begin < end:
        period, following = period_of(begin, by)
        yield period, (min(following, end) - begin) / MONTH
        begin = following


def _count(counts: Mapping[tuple[str, str, str], dict[str, float]], item: Mapping[str, Any], *, by: str) -> None:
    began = datetime.fromisoformat(item["bucket"]["S"].removeprefix(PREFIX).partition("#")[0])
    label = item["label"]["S"] if "label" in item else None
    found = counts[item["facility"]["S"], item["device_type"]["S"], period_of(began, by)[0]]
    found["notified"] += 1
    found["acknowledged"] += "acknowledged_by" in item
    found["true"] += label == TRUE
    found["false"] += label == FALSE
    if item["detector"]["S"] == MACHINE:
        found["machine"] += 1
        found["machine_false"] += label == FALSE
        found["machine_unlabelled"] += label is None


def budgets_of(device_type: DeviceTypeSpec) -> dict[str, float]:
    """Return the budgets of the metrics that the machine detector watches; a device's is their mean."""
    return {each.name: each.false_alarm_budget for each in device_type.metrics if each.detector == MACHINE}


def propose(lines: Sequence[Line], device_types: Iterable[DeviceTypeSpec]) -> Iterator[Proposal]:
    """Propose other budgets where labels show that the present ones are exceeded, or far from spent."""
    for device_type in device_types:
        budgets = budgets_of(device_type)
        own = [line for line in lines if line.device_type == device_type.id]
        months, false = sum(line.device_months for line in own), sum(line.machine_false for line in own)
        doubtful = false + sum(line.machine_unlabelled for line in own)
        if not budgets or not months:
            continue
        budget = sum(budgets.values()) / len(budgets)
        allowed = budget * months
        what = f"{false} labelled false"
        if 1.0 - at_most(false - 1, allowed) < SURE:
            factor, end = allowed / false, f"to have {allowed:.1f}"
        elif at_most(doubtful, allowed / 2) < SURE:
            factor, end = min(allowed / max(doubtful, 1), MOST_RISE), "if faults are reported too late, it may rise"
            what = f"at most {doubtful} false"
        else:
            continue
        changed = {name: _in_range(float(f"{value * factor:.2g}")) for name, value in budgets.items()}
        if changed != budgets:
            counts = f"{what} in {months:.1f} device-months, where a budget of {budget:g} allows {allowed:.1f}"
            yield Proposal(device_type=device_type.id, reason=f"{counts}; {end}", lines=_manifest_lines(changed))


def _in_range(budget: float) -> float:
    return min(max(budget, LEAST_BUDGET), MOST_BUDGET)


def _manifest_lines(budgets: Mapping[str, float]) -> tuple[str, ...]:
    """Write budgets as fleet.yaml has them: one for the type where they are equal, else one for each metric."""
    if len(set(budgets.values())) == 1:
        return (f"false_alarm_budget: {next(iter(budgets.values())):g}",)
    return tuple(f"metrics.{name}.false_alarm_budget: {value:g}" for name, value in budgets.items())


def plain(found: Report) -> dict[str, Any]:
    """Make the report's JSON: with what follows from the counts of each line."""
    lines = [
        asdict(line)
        | {"device_months": round(line.device_months, 3), "unlabelled": line.unlabelled, "precision": line.precision}
        for line in found.lines
    ]
    return asdict(found) | {"lines": lines}


def rows_of(found: Report, device_types: Iterable[DeviceTypeSpec]) -> list[tuple[str, ...]]:
    """Make the rows of a table, its head first."""
    budgets = {each.id: budgets_of(each) for each in device_types}
    head = "plant,type,period,anomalies,seen,true,false,unlabelled,precision,a month,budget"
    return [tuple(head.split(",")), *(_cells(line, budgets.get(line.device_type, {})) for line in found.lines)]


def _cells(line: Line, budgets: Mapping[str, float]) -> tuple[str, ...]:
    numbers = (line.notified, line.acknowledged, line.true, line.false, line.unlabelled)
    return (
        *(line.facility, line.device_type, line.period),
        *(f"{number:,}" for number in numbers),
        line.precision_text,
        f"{line.machine / line.device_months:.2f}" if budgets and line.device_months else "-",
        f"{sum(budgets.values()) / len(budgets):g}" if budgets else "-",
    )


def words_of(found: Report) -> list[str]:
    """Say what the table's figures are of, what they cost, and what the manifest might become."""
    lines = [
        "a month: anomalies of the machine detector in 30 days of a device, counted from a week after its first contact"
    ]
    for each in found.proposals:
        lines += [
            f"device type {each.device_type}: {each.reason}; in fleet.yaml below device_types.{each.device_type}:"
        ]
        lines += [f"  {line}" for line in each.lines]
    if found.proposals:
        lines.append(
            "nothing was changed: try it with fleet backtest --budgets, edit fleet.yaml, fleet generate, review"
        )
    read = (
        f"{counted(found.connected, 'query')} for {counted(found.things, 'thing')}, {found.read_units:,.0f} read units"
    )
    return [*lines, f"read by {read}"]
