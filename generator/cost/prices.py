"""The prices of AWS: data with region, source and date, and a project's own over them.

A price is a list of tiers, or `null` where none could be had: what has no price is counted, and left out of totals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import msgspec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.manifest.model_errors import suggestion

REMEMBERED = "remembered"
"""The source of prices that no document at hand says."""
FORMAT = 1
MOST_USD = 1_000_000
"""Of one unit: none of AWS costs a thousandth of it, and sums stay finite."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Origin of prices: a page, and the date on which it was read."""

    what: str
    url: str
    date: str


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"first": "from"}):
    """USD for each `per` units, from the unit `first` of a month on."""

    usd: float
    per: float
    source: str
    first: float = 0


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    sources: dict[str, Source]
    regions: dict[str, dict[str, list[Tier] | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices of one region, by key, and the sources that they name."""

    region: str
    tiers: Mapping[str, tuple[Tier, ...] | None]
    sources: Mapping[str, Source]

    def usd(self, key: str, units: float) -> float | None:
        """Return what units of a month cost; None where there is no price."""
        tiers = self.tiers.get(key)
        if tiers is None:
            return None
        ends = [*(later.first for later in tiers[1:]), float("inf")]
        return sum(
            max(0.0, min(units, end) - tier.first) / tier.per * tier.usd for tier, end in zip(tiers, ends, strict=True)
        )

    def used(self, key: str, units: float) -> tuple[Tier, ...]:
        """Return the tiers that units of a month reach."""
        tiers = self.tiers.get(key) or ()
        return tuple(tier for tier in tiers if tier.first == 0 or tier.first < units)


def read_prices(region: str, own: Path | None = None) -> Prices:
    """Read the prices of a region, with those of a file of the same format over them.

    Raises:
        EnvironmentFault: the file cannot be read, or is not of the format.
    """
    table = _shipped()
    tiers = {key: None for prices in table.regions.values() for key in prices} | table.regions.get(region, {})
    sources = dict(table.sources)
    if own is not None:
        added = _read_own(own, known=tiers)
        if region not in added.regions:
            hint = suggestion(region, added.regions) or f"it has: {', '.join(sorted(added.regions)) or 'no region'}"
            raise EnvironmentFault(f"{own} has no prices for {region}, the manifest's region", hint=hint)
        tiers |= added.regions[region]
        sources |= added.sources
    return Prices(
        region=region,
        tiers={key: None if found is None else tuple(found) for key, found in tiers.items()},
        sources=sources,
    )


@cache
def _shipped() -> _Table:
    return msgspec.json.decode((files("fleet_iot.generator.cost") / "prices.json").read_bytes(), type=_Table)


def _read_own(path: Path, *, known: Iterable[str]) -> _Table:
    known = set(known)
    try:
        text = path.read_bytes()
        table = msgspec.json.decode(text, type=_Table)
        json.loads(text, object_pairs_hook=_without_duplicates)
    except OSError as error:
        raise EnvironmentFault(f"the prices {path} cannot be read: {error.strerror}", hint="name a file") from None
    except msgspec.DecodeError as error:
        raise EnvironmentFault(f"{path} has no prices: {error}", hint="docs/cost.md shows the format") from None
    except _DuplicateError as error:
        raise EnvironmentFault(f"{path} has `{error}` twice in one object", hint="keep one of the two") from None
    if table.format != FORMAT:
        raise EnvironmentFault(f"{path} has the format {table.format}, not {FORMAT}", hint="docs/cost.md shows it")
    shipped = _shipped().sources
    for name, source in table.sources.items():
        if shipped.get(name, source) != source:
            what = f"{path}: sources, {name}: it is the source of shipped prices, with another page or date"
            raise EnvironmentFault(what, hint="give yours another name, in its prices as well")
    sources = table.sources.keys() | shipped.keys()
    for region, prices in table.regions.items():
        for key, tiers in prices.items():
            if fault := _fault(key, tiers, known=known, sources=sources):
                hint = fault[1] or "docs/cost.md shows the format"
                raise EnvironmentFault(f"{path}: {region}, {key}: {fault[0]}", hint=hint)
    return table


class _DuplicateError(Exception):
    """A name that an object has twice, of which a parser would keep the last."""


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateError(next(name for name in names if names.count(name) > 1))
    return found


def _fault(key: str, tiers: list[Tier] | None, *, known: set[str], sources: Iterable[str]) -> tuple[str, str] | None:
    """Return what is wrong with a price, and a hint; None where nothing is."""
    if key not in known:
        return "there is no such price", suggestion(key, known)
    if tiers is None:
        return None
    if not tiers or tiers[0].first != 0 or any(later.first <= tier.first for tier, later in pairwise(tiers)):
        return "its tiers begin at 0 and rise", ""
    for tier in tiers:
        if tier.usd < 0 or tier.per <= 0:
            return "a price is no less than 0 USD, for more than 0 units", ""
        if tier.usd / tier.per > MOST_USD:
            return f"a price is no more than {MOST_USD:,.0f} USD a unit", "check `usd` and `per`"
        if tier.source not in sources:
            return f"there is no source `{tier.source}`", suggestion(tier.source, sources) or "add it to `sources`"
    return None
