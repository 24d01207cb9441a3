"""The figures of docs/cost.md and docs/scale.md, made from the code: each block `worked=NAME` is what NAME returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from fleet_iot.generator.aws.limits import LOAD_QUOTAS
from fleet_iot.generator.cost.estimate import Line, lines_of
from fleet_iot.generator.cost.prices import read_prices
from fleet_iot.generator.cost.terms import MONTH_S, Fleet, fleet_of
from fleet_iot.generator.manifest.rates import HOUR_S, Load
from fleet_iot.generator.text import table
from tests.generator.cost.fleets import WORKED, manifest

REGION = "us-east-1"
"""The one with a price for every line."""

FLINK_USD_KPU_HOUR, FLINK_READINGS_A_KPU = 0.11, 1_500
"""Managed Flink: the price is remembered, and the readings a second of a KPU are assumed."""


def lean(name: str) -> Fleet:
    """A worked fleet with Basic Ingest, and data events without telemetry."""
    return replace(fleet_of(WORKED[name], is_basic_ingest=True), data_events="without-telemetry")


def lean_lines(fleet: Fleet) -> tuple[Line, ...]:
    return lines_of(fleet, read_prices(REGION))


def by_service(lines: tuple[Line, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        found[line.term.service] = found.get(line.term.service, 0) + (line.usd or 0)
    return found | {"together": sum(found.values())}


@cache
def fleets() -> str:
    """USD a month of the three fleets, as they come and lean, by service."""
    columns = []
    for name, found in WORKED.items():
        columns += [by_service(lean_lines(fleet_of(found))), by_service(lean_lines(lean(name)))]
    rows = [("USD a month", *(text for name in WORKED for text in (name, f"{name}, lean")))]
    rows += [(service, *(f"{column[service]:,.0f}" for column in columns)) for service in columns[0]]
    return "\n".join(table(rows, "<" + ">" * len(columns)))


@cache
def arithmetic() -> str:
    """The medium fleet, lean, step by step."""
    fleet = lean("medium")
    load, lines = fleet.load, {line.term.price: line for line in lean_lines(fleet)}
    group, month = load.groups[0], f"{MONTH_S:,}"

    def priced(price: str) -> str:
        line = lines[price]
        (tier,) = line.tiers
        number = f"{tier.usd:.10f}".rstrip("0").rstrip(".")
        return f"{line.units:,.0f} x {number} / {tier.per:,.0f} = {line.usd:,.2f}"

    rows = [
        ("readings", f"{load.devices:,} devices / {group.interval_s:g} s = {load.readings:,.0f} a second"),
        (
            "batches",
            f"{load.shards} shards / {load.window_s:g} s = {load.batches:g} a second, {load.records_a_batch:g} records",
        ),
        (
            "a minute's item",
            f"{group.minute_bytes:,.0f} bytes = {group.minute_units} unit; an hour's {group.hour_bytes:,.0f}",
        ),
        ("minutes", f"{load.devices:,} / 60 s = {load.minute_writes:.2f} units a second"),
        ("hours, days", f"{load.devices:,} / 3,600 s + {load.devices:,} / 86,400 s = {load.rollup_writes:.2f}"),
        ("metadata", f"{load.devices:,} / 900 s = {load.metadata_writes:.2f}"),
        ("lanes", f"{load.commits:g} commits x (1 + {load.acknowledged:.2f} acknowledged) = {load.pointer_writes:.2f}"),
        ("a reading", f"{load.writes:.2f} / {load.readings:g} = {load.writes / load.readings:.3f} write units"),
        (
            "anomalies",
            f"{load.devices:,} devices x {group.events_a_month:g} a month x 3 units / 2,592,000 s = "
            f"{3 * load.events:.4f} units a second",
        ),
        ("writes", f"({load.writes:.2f} + {3 * load.events:.4f}) x {month} s: {priced('dynamodb.write_unit')} USD"),
        ("storage", f"after {fleet.history.minute_days} days of minutes: {priced('dynamodb.gb_month')} USD"),
        ("puts", f"1 raw object and 1 state a batch: {priced('s3.put')} USD"),
        ("gets", f"3 other environments, and the compaction: {priced('s3.get')} USD"),
        ("a record", f"{group.record_bytes(1):,} bytes: 1 kB"),
        ("ingested", f"{load.readings:g} kB x {month} s: {priced('kinesis.ingested_gb')} USD"),
        ("stream", f"{priced('kinesis.stream_hour')} USD"),
        ("rules", f"{load.readings:g} x {month} s, and presence: {priced('iot.rule')} USD; actions as many"),
        (
            "duration",
            f"{load.batches:g} x 0.15 s + {load.readings:g} x 0.0002 s, compaction: {priced('lambda.gb_second')} USD",
        ),
    ]
    return "\n".join(table(rows, "<<"))


def idle() -> tuple[float, float]:
    """USD a month of a platform without plants: with data events of the stream's polling, and without."""
    empty = replace(lean("small"), load=Load(groups=()), plants=0, pairs=0)
    with_events = replace(empty, data_events="all")
    return by_service(lean_lines(with_events))["together"], by_service(lean_lines(empty))["together"]


@cache
def scale() -> str:
    """The load and the sum of three sizes, lean."""
    sizes = {1_000: 3, 100_000: 30, 1_000_000: 100}
    found = [
        fleet_of(manifest(devices, plants=plants, types=5), is_basic_ingest=True) for devices, plants in sizes.items()
    ]
    rows: list[tuple[str, Callable[[Fleet], str]]] = [
        ("plants", lambda fleet: f"{fleet.plants}"),
        ("readings a second", lambda fleet: f"{fleet.load.readings:,.0f}"),
        ("MB a second", lambda fleet: f"{fleet.load.megabytes:,.2f}"),
        ("shards", lambda fleet: f"{fleet.load.shards}"),
        ("lanes", lambda fleet: f"{fleet.load.lanes}"),
        ("records a batch", lambda fleet: f"{fleet.load.records_a_batch:,.0f}"),
        ("write units a reading", lambda fleet: f"{fleet.load.writes / fleet.load.readings:.3f}"),
        ("read units a reading", lambda fleet: f"{fleet.load.reads / fleet.load.readings:.4f}"),
        (
            "puts a 1,000 readings",
            lambda fleet: f"{(fleet.load.batches + fleet.load.state_puts) / fleet.load.readings * 1_000:.2f}",
        ),
        ("write units a second", lambda fleet: f"{fleet.load.writes:,.0f}"),
        ("the same when minutes end", lambda fleet: f"{fleet.load.peak_writes:,.0f}"),
        ("state written, MB a second", lambda fleet: f"{fleet.load.state_megabytes:,.2f}"),
        ("USD a month", lambda fleet: f"{_lean_services(fleet)['together']:,.0f}"),
        ("of these Lambda", lambda fleet: f"{_lean_services(fleet)['Lambda']:,.0f}"),
        ("of these states: puts, gets, storage, lanes", lambda fleet: f"{_state_usd(fleet):,.0f}"),
        ("Managed Flink instead of both", lambda fleet: f"{_flink_usd(fleet):,.0f}"),
        ("defaults of quotas that are exceeded", lambda fleet: f"{sum(map(_is_exceeded(fleet), LOAD_QUOTAS))}"),
    ]
    heading = ("", *(f"{devices:,} devices" for devices in sizes))
    return "\n".join(table([heading, *((name, *map(value, found)) for name, value in rows)], "<>>>"))


def _lean_services(fleet: Fleet) -> dict[str, float]:
    return by_service(lean_lines(replace(fleet, data_events="without-telemetry")))


def _state_usd(fleet: Fleet) -> float:
    """What the lane log itself costs: what Flink would keep in memory and checkpoints."""
    prices, load = read_prices(REGION), fleet.load
    counts = {
        "s3.put": load.state_puts * MONTH_S,
        "s3.get": load.state_gets * MONTH_S,
        "s3.standard_gb_month": load.state_megabytes * 1e6 * 8 * 86_400 / 2**30,
        "dynamodb.write_unit": load.pointer_writes * MONTH_S,
        "dynamodb.read_unit": load.reads * MONTH_S,
    }
    return sum(prices.usd(price, units) or 0 for price, units in counts.items())


def _flink_usd(fleet: Fleet) -> float:
    kpus = 1 - (-fleet.load.readings // FLINK_READINGS_A_KPU)  # one more for the application itself
    return kpus * FLINK_USD_KPU_HOUR * MONTH_S / HOUR_S


def _is_exceeded(fleet: Fleet) -> Callable[..., bool]:
    return lambda quota: getattr(fleet.load, quota.measure) > quota.of(REGION)


BLOCKS: dict[str, Callable[[], str]] = {"fleets": fleets, "arithmetic": arithmetic, "scale": scale}
"""By the name in the fence."""
