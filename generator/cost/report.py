"""Reports an estimate: as a table for people, as JSON, and as one sentence of the plan."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fleet_iot.generator.cost.estimate import Estimate, Line, Service
from fleet_iot.generator.cost.prices import Tier
from fleet_iot.generator.text import counted, table

FORMAT = 1
"""Of the JSON; a higher one may lack or change keys of this one."""


def as_text(estimate: Estimate, *, manifest: str) -> str:
    """Return what a person reads."""
    fleet, load = estimate.fleet, estimate.fleet.load
    added = f"What {', '.join(estimate.facilities)} adds to a month" if estimate.facilities else "A month"
    parts = [
        f"{added} of {manifest} in {estimate.prices.region}, at list prices: {_sum(estimate)}",
        _table(_rows(estimate), "<<><>>><"),
    ]
    if estimate.usd is not None:
        parts.append(f"  {_sums(estimate.services())}")
    if estimate.levers:
        rows = [("lever", "saves", "how", "drawback")]
        rows += [(lever.name, _usd(lever.usd), lever.what, lever.drawback) for lever in estimate.levers]
        known = ", of what has a price" if estimate.unpriced else ""
        parts += [f"What each of these would save{known}, alone:", _table(rows, "<><<")]
    units = load.writes / load.readings if load.readings else 0
    parts.append(
        f"The fleet: {counted(load.devices, 'device')} in {counted(fleet.plants, 'plant')}, {load.readings:,.1f} "
        f"readings a second, {counted(load.shards, 'shard')}, {load.records_a_batch:,.0f} records a batch, "
        f"{units:.3f} write units a reading.\n"
        "Not counted: free tiers, queries by people, deliveries to subscribers, data transfer, support and taxes."
    )
    if estimate.unpriced:
        keys, region = ", ".join(line.term.price for line in estimate.unpriced), estimate.prices.region
        what = "No sum can be made" if estimate.usd is None else "Not in the sum"
        parts.append(f"{what}, as no price is known for {region}: {keys}. Add them with --prices FILE.")
    if remembered := sum(line.usd or 0 for line in estimate.lines if line.is_remembered):
        parts.append(f"* remembered, {_usd(remembered)} USD of the sum: compare it with AWS's price list.")
    return "\n\n".join(parts)


def _rows(estimate: Estimate) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("service", "what", "units", "", "price", "per", "USD", "")]
    last = ""
    for line in estimate.lines:
        if not line.units:
            continue
        term = line.term
        price = line.tiers[0] if line.tiers else None
        more = "+" if len(line.tiers) > 1 else ""
        rows.append(
            (
                term.service if term.service != last else "",
                term.what,
                _units(line.units),
                term.unit,
                f"{price.usd:.10f}".rstrip("0").rstrip(".") + more if price else "-",
                f"{price.per:,.0f}" if price else "",
                _usd(line.usd),
                "*" if line.is_remembered else "",
            )
        )
        last = term.service
    return rows


def as_json(estimate: Estimate, *, manifest: str) -> str:
    """Return what a program reads; docs/cost.md says what each key is."""
    return json.dumps(
        {
            "format": FORMAT,
            "manifest": manifest,
            **summary(estimate),
            "facilities": list(estimate.facilities),
            "load": _load(estimate),
            "lines": [_plain(line) for line in estimate.lines if line.units],
            "levers": [
                {"name": lever.name, "usd": round(lever.usd, 2), "what": lever.what, "drawback": lever.drawback}
                for lever in estimate.levers
            ],
            "sources": {
                name: {"what": source.what, "url": source.url, "date": source.date}
                for name, source in estimate.prices.sources.items()
                if any(tier.source == name for line in estimate.lines for tier in line.tiers)
            },
        },
        indent=2,
    )


def summary(estimate: Estimate) -> dict[str, Any]:
    """Return the sums for a program: region, USD, USD by service, and prices that are missing; None is no price."""
    return {
        "region": estimate.prices.region,
        "usd": _rounded(estimate.usd),
        "services": {service.name: _rounded(service.usd) for service in estimate.services()},
        "unpriced": [line.term.price for line in estimate.unpriced],
    }


def sentence(estimate: Estimate, *, command: str) -> str:
    """Return one paragraph for the plan."""
    of = "What these plants add to a month" if estimate.facilities else "A month of it"
    if estimate.usd is None:
        return f"{of} has no sum, as no price is known for {estimate.prices.region}. Units and --prices: {command}"
    largest = sorted(estimate.services(), key=lambda service: -(service.usd or 0.0))[:3]
    return (
        f"{of} costs about {estimate.usd:,.0f} USD at list prices{_without(estimate.unpriced)}: {_sums(largest)}. "
        f"Terms and levers: {command}"
    )


def _load(estimate: Estimate) -> dict[str, float]:
    load = estimate.fleet.load
    rates = {
        "readings": load.readings,
        "messages": load.messages,
        "megabytes": load.megabytes,
        "batches": load.batches,
        "writes": load.writes,
        "reads": load.reads,
        "state_puts": load.state_puts,
        "state_gets": load.state_gets,
    }
    sizes = {"devices": load.devices, "plants": estimate.fleet.plants, "shards": load.shards, "lanes": load.lanes}
    return sizes | {f"{name}_a_second": round(rate, 6) for name, rate in rates.items()}


def _plain(line: Line) -> dict[str, Any]:
    term = line.term
    return {
        "service": term.service,
        "what": term.what,
        "units": round(line.units, 3),
        "unit": term.unit,
        "price": term.price,
        "usd": _rounded(line.usd),
        "tiers": [_tier(tier) for tier in line.tiers],
        "remembered": line.is_remembered,
    }


def _tier(tier: Tier) -> dict[str, Any]:
    return {"from": tier.first, "usd": tier.usd, "per": tier.per, "source": tier.source}


def _sum(estimate: Estimate) -> str:
    return "no price" if estimate.usd is None else f"{_usd(estimate.usd)} USD{_without(estimate.unpriced)}"


def _sums(services: Iterable[Service]) -> str:
    return ", ".join(
        f"{service.name} {_usd(service.usd)}{_without(service.unpriced) if service.usd is not None else ''}"
        for service in services
    )


def _without(lines: tuple[Line, ...]) -> str:
    """Return what a sum leaves out."""
    return f" without {counted(len(lines), 'line')}" if lines else ""


def _usd(usd: float | None) -> str:
    if usd is None:
        return "no price"
    return f"{usd:,.2f}" if abs(usd) < 1_000 else f"{usd:,.0f}"


def _rounded(usd: float | None) -> float | None:
    return None if usd is None else round(usd, 2)


def _units(units: float) -> str:
    return f"{units:,.0f}" if abs(units) >= 100 else f"{units:,.4g}"


def _table(rows: Iterable[tuple[str, ...]], align: str) -> str:
    return "\n".join(f"  {line}" for line in table(rows, align))
