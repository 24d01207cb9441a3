"""Estimate a month of a fleet: the terms at a region's prices, and the levers that would lower the sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_iot.generator.cost.prices import REMEMBERED, Prices, Tier, read_prices
from fleet_iot.generator.cost.terms import TERMS, Fleet, Term, fleet_of
from fleet_iot.generator.manifest.model_errors import refuse_unknown_facilities
from fleet_iot.generator.manifest.models import MOST_INTERVAL_S, FleetManifest
from fleet_iot.generator.manifest.rates import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One term of a month: `usd` is None where there is no price, `tiers` are those that the units reach."""

    term: Term
    units: float
    usd: float | None
    tiers: tuple[Tier, ...]

    @property
    def is_remembered(self) -> bool:
        """A price of the line is only remembered."""
        return any(tier.source == REMEMBERED for tier in self.tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service's month: the sum of its lines that have a price, None where none has, and the lines that have none."""

    name: str
    usd: float | None
    unpriced: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """A change that lowers the sum: what to do, what it saves a month, and its drawback."""

    name: str
    what: str
    usd: float
    drawback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A month of a fleet, or what some of its plants add to it."""

    fleet: Fleet
    prices: Prices
    facilities: tuple[str, ...]
    lines: tuple[Line, ...]
    levers: tuple[Lever, ...]

    @property
    def usd(self) -> float | None:
        """The sum of the lines that have a price; None where no line with units has one."""
        return _total(self.lines)

    @property
    def unpriced(self) -> tuple[Line, ...]:
        """Lines with units and without a price."""
        return _unpriced(self.lines)

    def services(self) -> tuple[Service, ...]:
        """Return the services, in the order of the lines."""
        by_service: dict[str, list[Line]] = {}
        for line in self.lines:
            by_service.setdefault(line.term.service, []).append(line)
        return tuple(
            Service(name=name, usd=_total(lines), unpriced=_unpriced(lines)) for name, lines in by_service.items()
        )


def estimate(
    manifest: FleetManifest,
    *,
    own_prices: Path | None = None,
    facilities: tuple[str, ...] = (),
    is_basic_ingest: bool = False,
) -> Estimate:
    """Estimate a month of the fleet that a manifest declares.

    Args:
        own_prices: A file of prices over those that are shipped.
        facilities: Ids of plants, to estimate what they add to the fleet; none for the whole fleet.
        is_basic_ingest: Devices publish through Basic Ingest.

    Raises:
        FleetError: a facility that the manifest does not have, or prices that cannot be read.
    """
    refuse_unknown_facilities(manifest, facilities)
    prices, chosen = read_prices(manifest.region, own_prices), tuple(sorted(set(facilities)))
    whole = fleet_of(manifest, is_basic_ingest=is_basic_ingest)
    lines = lines_of(whole, prices)
    if chosen:
        rest = fleet_of(manifest, is_basic_ingest=is_basic_ingest, without=frozenset(chosen))
        lines = tuple(_added(line, other) for line, other in zip(lines, lines_of(rest, prices), strict=True))
    return Estimate(
        fleet=whole,
        prices=prices,
        facilities=chosen,
        lines=lines,
        levers=() if chosen else tuple(sorted(_levers(whole, prices), key=lambda lever: -lever.usd)),
    )


def lines_of(fleet: Fleet, prices: Prices) -> tuple[Line, ...]:
    """Return the lines of a fleet's month."""
    return tuple(_line(term, term.units(fleet), prices) for term in TERMS)


def _line(term: Term, units: float, prices: Prices) -> Line:
    tiers = prices.used(term.price, units) if units else ()
    return Line(term=term, units=units, usd=prices.usd(term.price, units), tiers=tiers)


def _added(line: Line, other: Line) -> Line:
    usd = None if line.usd is None or other.usd is None else line.usd - other.usd
    return replace(line, units=line.units - other.units, usd=usd)


def _sum(lines: Iterable[Line]) -> float:
    return sum(line.usd or 0.0 for line in lines)


def _total(lines: Iterable[Line]) -> float | None:
    used = [line for line in lines if line.units]
    return _sum(used) if not used or any(line.usd is not None for line in used) else None


def _unpriced(lines: Iterable[Line]) -> tuple[Line, ...]:
    return tuple(line for line in lines if line.usd is None and line.units)


ARRAY_S = 60
WIDE_WINDOW_S = 30
FEWER_MINUTE_DAYS = 30


def _levers(fleet: Fleet, prices: Prices) -> Iterator[Lever]:
    """Yield each change that saves something, alone."""
    now = _sum(lines_of(fleet, prices))
    for name, what, drawback, changed in _changes(fleet):
        saved = now - _sum(lines_of(changed, prices))
        if saved >= 0.005:
            yield Lever(name=name, what=what, usd=saved, drawback=drawback)


def _changes(fleet: Fleet) -> Iterator[tuple[str, str, str, Fleet]]:
    load = fleet.load
    if not fleet.is_basic_ingest:
        yield (
            "basic-ingest",
            "let devices publish to $aws/rules/RULE/dt/...",
            "no other subscriber gets the messages",
            replace(fleet, is_basic_ingest=True),
        )
    yield (
        "arrays",
        f"send the readings of {ARRAY_S} s, at most ten, in one message",
        f"an anomaly is reported up to {ARRAY_S} s later",
        replace(fleet, load=replace(load, array_s=ARRAY_S)),
    )
    yield (
        "interval",
        f"double sample_interval_s, to {MOST_INTERVAL_S:,} at most",
        "half of the readings",
        replace(fleet, load=replace(load, groups=tuple(_slower(load.groups)))),
    )
    if load.window_s < WIDE_WINDOW_S:
        yield (
            "window",
            f"processor: {{window_s: {WIDE_WINDOW_S}}} instead of {load.window_s:g}",
            f"an anomaly is reported up to {WIDE_WINDOW_S} s later",
            replace(fleet, load=replace(load, window_s=WIDE_WINDOW_S)),
        )
    if fleet.data_events == "all":
        yield (
            "data-events",
            "audit: {data_events: without-telemetry}",
            "the trail lacks what the platform itself writes of telemetry",
            replace(fleet, data_events="without-telemetry"),
        )
    if fleet.history.minute_days > FEWER_MINUTE_DAYS:
        history = fleet.history.model_copy(update={"minute_days": FEWER_MINUTE_DAYS})
        yield (
            "retention",
            f"history: {{minute_days: {FEWER_MINUTE_DAYS}}}",
            f"minutes older than {FEWER_MINUTE_DAYS} days are in the archive only",
            replace(fleet, history=history),
        )


def _slower(groups: Iterable[Group]) -> Iterator[Group]:
    return (replace(group, interval_s=min(2 * group.interval_s, MOST_INTERVAL_S)) for group in groups)
