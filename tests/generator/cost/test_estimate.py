"""The estimate of a whole fleet: sums, levers, plants, prices, and the command that prints it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.cost.estimate import Estimate, estimate, lines_of
from fleet_iot.generator.cost.prices import REMEMBERED, read_prices
from fleet_iot.generator.cost.terms import TERMS
from fleet_iot.generator.diagnostics import EnvironmentFault
from tests.generator.cost.fleets import WORKED, manifest
from tests.places import PROJECT


def lean(found: Estimate) -> float:
    """The sum where data events leave the telemetry out."""
    lines = lines_of(replace(found.fleet, data_events="without-telemetry"), found.prices)
    return sum(line.usd or 0 for line in lines)


@pytest.mark.parametrize(("name", "most"), [("medium", 450), ("large", 30_000)])
def test_a_fleet_costs_no_more_than_its_bar(name: str, most: float) -> None:
    """The whole platform, with Basic Ingest and data events without telemetry, every line with a price."""
    found = estimate(WORKED[name], is_basic_ingest=True)
    assert () == found.unpriced
    assert most / 2 < lean(found) <= most


def test_sums_are_those_of_the_lines() -> None:
    """Of all, and of each service."""
    found = estimate(WORKED["medium"])
    assert found.usd == pytest.approx(sum(line.usd or 0 for line in found.lines))
    assert found.usd == pytest.approx(sum(service.usd or 0 for service in found.services()))
    assert list(dict.fromkeys(term.service for term in TERMS)) == [service.name for service in found.services()]


def test_levers_are_ranked_by_what_they_save() -> None:
    """Each saves the difference of two estimates; one that is applied already is none."""
    found = estimate(WORKED["medium"])
    assert {"basic-ingest", "arrays", "interval", "window", "data-events", "retention"} == {
        lever.name for lever in found.levers
    }
    assert sorted(found.levers, key=lambda lever: -lever.usd) == list(found.levers)
    savings = {lever.name: lever.usd for lever in found.levers}
    assert savings["basic-ingest"] == pytest.approx(found.usd - estimate(WORKED["medium"], is_basic_ingest=True).usd)
    assert savings["data-events"] == pytest.approx(found.usd - lean(found))
    assert "basic-ingest" not in {lever.name for lever in estimate(WORKED["medium"], is_basic_ingest=True).levers}
    slow = estimate(manifest(10, interval=3_600, history={"minute_days": 30}))
    assert {"arrays", "retention"}.isdisjoint(lever.name for lever in slow.levers)


def test_slow_devices_have_fewer_anomalies() -> None:
    """No more than one in ten readings, and the interval is not doubled beyond what a manifest may say."""
    found = estimate(manifest(1_000, interval=86_400, detector="context"))
    units = {line.term.price: line.units for line in found.lines}
    assert units["iot.message"] / 10 * 2 == pytest.approx(units["sns.request"])
    assert "interval" not in {lever.name for lever in found.levers}
    assert "interval" in {lever.name for lever in estimate(manifest(1_000, interval=50_000)).levers}


def test_plants_cost_what_they_add() -> None:
    """A plant's part leaves out what the platform costs without it, and all plants' parts are less than the whole."""
    whole, part = estimate(WORKED["medium"]), estimate(WORKED["medium"], facilities=("pl-001",))
    units = {line.term.price: line.units for line in part.lines}
    assert (0, 0, 5 * 5 + 3) == (units["kinesis.stream_hour"], units["kms.key"], units["cloudwatch.metric"])
    assert 333 * 43_800 == pytest.approx(units["iot.connection_minute"], rel=0.01)
    assert 0 < 3 * part.usd < whole.usd
    assert () == part.levers


def test_each_region_has_each_price_or_says_that_it_has_none() -> None:
    """Every term has a key in both regions; each price names a source with a page and a date."""
    for region in ("us-east-1", "ap-southeast-1"):
        prices = read_prices(region)
        assert {term.price for term in TERMS} == set(prices.tiers)
        for tiers in prices.tiers.values():
            assert all(tier.source in prices.sources and tier.usd > 0 for tier in tiers or ())
        assert all(source.url.startswith("https://") and len(source.date) == 10 for source in prices.sources.values())
    assert None not in read_prices("us-east-1").tiers.values()


def test_a_region_without_prices_still_has_units() -> None:
    """The counts stand; nothing is taken from another region."""
    found = estimate(manifest(1_000, region="eu-central-1"))
    assert (None, True) == (found.usd, all(line.usd is None for line in found.lines))
    assert {None} == {service.usd for service in found.services()}
    assert {line.term.price for line in found.lines if line.units} == {line.term.price for line in found.unpriced}
    assert [line.units for line in found.lines] == [line.units for line in estimate(manifest(1_000)).lines]


def test_a_sum_says_what_it_leaves_out(tmp_path: Path) -> None:
    """A service with some prices has their sum and names its other lines; one without any has none, not 0."""
    fleet = manifest(1_000, region="eu-central-1")
    found = estimate(fleet, own_prices=own_prices(tmp_path, regions={"eu-central-1": STREAM_HOUR}))
    kinesis, *others = sorted(found.services(), key=lambda service: service.name != "Kinesis")
    assert 730 * 0.0456 == pytest.approx(found.usd) == pytest.approx(kinesis.usd)
    assert {"kinesis.ingested_gb", "kinesis.retrieved_gb", "kinesis.retained_gb_month"} == {
        line.term.price for line in kinesis.unpriced
    }
    assert {None} == {service.usd for service in others}


def test_a_price_of_nothing_is_a_price(tmp_path: Path) -> None:
    """A contract may have it for free; `null` over a shipped price takes it away."""
    free = [{"usd": 0, "per": 1, "source": "contract"}]
    prices = own_prices(tmp_path, regions={"us-east-1": {"kinesis.stream_hour": free, "kms.key": None}})
    found = estimate(manifest(1_000), own_prices=prices)
    assert ["kms.key"] == [line.term.price for line in found.unpriced]
    assert [0] == [line.usd for line in found.lines if line.term.price == "kinesis.stream_hour"]


def test_tiers_apply_to_the_units_within_them() -> None:
    """The first billion messages at one price, the next four at another, the rest at the last."""
    prices = read_prices("us-east-1")
    assert 1_000 + 4_000 * 0.8 + 1_000 * 0.7 == pytest.approx(prices.usd("iot.message", 6e9))
    assert (1, 3) == (len(prices.used("iot.message", 1e9)), len(prices.used("iot.message", 6e9)))
    assert REMEMBERED == prices.used("iot.message", 6e9)[-1].source


STREAM_HOUR = {"kinesis.stream_hour": [{"usd": 0.0456, "per": 1, "source": "contract"}]}


def own_prices(folder: Path, **changes: Any) -> Path:
    document = {
        "format": 1,
        "sources": {"contract": {"what": "our contract", "url": "https://example.com", "date": "2026-11-01"}},
        "regions": {"ap-southeast-1": STREAM_HOUR},
    }
    path = folder / "prices.json"
    path.write_text(json.dumps(document | changes))
    return path


def test_own_prices_are_over_those_that_are_shipped(tmp_path: Path) -> None:
    """A missing price is filled in, and the others stay."""
    fleet = manifest(1_000, region="ap-southeast-1")
    before, found = estimate(fleet), estimate(fleet, own_prices=own_prices(tmp_path))
    assert (before.usd or 0) + 730 * 0.0456 == pytest.approx(found.usd)
    assert "kinesis.stream_hour" not in {line.term.price for line in found.unpriced}
    assert "our contract" == found.prices.sources["contract"].what


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"format": 2}, "has the format 2, not 1", "docs/cost.md"),
        (
            {"regions": {"x": {"iot.mesage": None}}},
            "x, iot.mesage: there is no such price",
            "did you mean `iot.message`?",
        ),
        (
            {"regions": {"x": {"iot.message": [{"usd": 1, "per": 1, "source": "contrct"}]}}},
            "there is no source `contrct`",
            "did you mean `contract`?",
        ),
        (
            {"regions": {"x": {"iot.message": [{"usd": 1, "per": 0, "source": "contract"}]}}},
            "more than 0 units",
            "docs/cost.md",
        ),
        (
            {"regions": {"x": {"iot.message": [{"from": 5, "usd": 1, "per": 1, "source": "contract"}]}}},
            "its tiers begin at 0 and rise",
            "docs/cost.md",
        ),
        (
            {"regions": {"x": {"iot.message": [{"usd": -1, "per": 1, "source": "contract"}]}}},
            "no less than 0 USD",
            "docs/cost.md",
        ),
        (
            {"regions": {"x": {"iot.message": [{"usd": float("nan"), "per": 1, "source": "contract"}]}}},
            "has no prices: JSON is malformed",
            "docs/cost.md",
        ),
        (
            {"regions": {"x": {"iot.message": [{"usd": 1, "per": 1, "source": "contract", "currency": "EUR"}]}}},
            "Object contains unknown field `currency`",
            "docs/cost.md",
        ),
        (
            {"regions": {"x": {"iot.message": [{"usd": 1e308, "per": 1e-300, "source": "contract"}]}}},
            "x, iot.message: a price is no more than 1,000,000 USD a unit",
            "check `usd` and `per`",
        ),
        (
            {"sources": {REMEMBERED: {"what": "ours", "url": "https://example.com", "date": "2026-11-01"}}},
            "sources, remembered: it is the source of shipped prices",
            "give yours another name",
        ),
        ({"regions": {"y": STREAM_HOUR}}, "has no prices for x, the manifest's region", "it has: y"),
        ({"regions": {"x": {"iot.message": 3}}}, "has no prices: Expected `array | null`", "docs/cost.md"),
        ({"regons": {}}, "has no prices: Object contains unknown field `regons`", "docs/cost.md"),
    ],
)
def test_a_file_of_prices_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, Any], message: str, hint: str
) -> None:
    """The error names file, region and price; the hint says what to do."""
    with pytest.raises(EnvironmentFault) as refused:
        read_prices("x", own_prices(tmp_path, **changes))
    assert str(tmp_path / "prices.json") in refused.value.message and message in refused.value.message
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("name", "first"), [("regions", "{}"), ("x", "{}"), ("kinesis.stream_hour", "null"), ("usd", "1")]
)
def test_a_name_twice_is_refused(tmp_path: Path, name: str, first: str) -> None:
    """A parser would keep the last one without a word."""
    path = own_prices(tmp_path, regions={"x": STREAM_HOUR})
    path.write_text(path.read_text().replace(f'"{name}": ', f'"{name}": {first}, "{name}": '))
    with pytest.raises(EnvironmentFault) as refused:
        read_prices("x", path)
    assert f"has `{name}` twice in one object" in refused.value.message
    assert "keep one of the two" == refused.value.hint


def test_a_typing_error_in_the_region_is_reported(tmp_path: Path) -> None:
    """Prices of another region than the manifest's would be left out silently."""
    with pytest.raises(EnvironmentFault) as refused:
        read_prices("ap-southeast-1", own_prices(tmp_path, regions={"ap-southest-1": STREAM_HOUR}))
    assert "did you mean `ap-southest-1`?" == refused.value.hint


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another company's project: one plant, two types, German names, registered in bulk."""
    (tmp_path / "fleet.yaml").write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "application": "werkzeugbau",
                "environment_suffix": "prod",
                "region": "us-east-1",
                "device_types": {
                    "spritzguss": {
                        "description": "Spritzgussmaschine",
                        "sample_interval_s": 1,
                        "metrics": {"druck": {"unit": "bar", "max": 2000}},
                    },
                    "ofen": {
                        "description": "Ofen",
                        "sample_interval_s": 60,
                        "metrics": {f"zone_{n}": {"unit": "°C", "max": 900, "detector": "limits"} for n in range(40)},
                    },
                },
                "facilities": {
                    "de-mn-01": {
                        "name": "Werk Süd, München",
                        "timezone": "Europe/Berlin",
                        "registration": "bulk",
                        "things": {"spritzguss": 3000, "ofen": 12},
                    }
                },
            },
            allow_unicode=True,
        )
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_adds_up(company: Path) -> None:
    """The printed lines are those of the JSON, and their sum is the heading's."""
    text = CliRunner().invoke(main, ["cost"])
    document = json.loads(CliRunner().invoke(main, ["cost", "--json"]).stdout)
    assert (0, "") == (text.exit_code, text.stderr)
    assert f"A month of fleet.yaml in us-east-1, at list prices: {document['usd']:,.0f} USD\n" in text.stdout
    assert document["usd"] == pytest.approx(sum(line["usd"] for line in document["lines"]), abs=0.2)
    assert [lever["name"] for lever in document["levers"]] == [
        line.split()[0] for line in text.stdout.split("alone:\n\n")[1].split("\n\n")[0].splitlines()[1:]
    ]
    keys = [
        "format",
        "manifest",
        "region",
        "usd",
        "services",
        "unpriced",
        "facilities",
        "load",
        "lines",
        "levers",
        "sources",
    ]
    assert keys == list(document)
    assert {tier["source"] for line in document["lines"] for tier in line["tiers"]} == set(document["sources"])


def test_a_large_item_costs_more_units(company: Path) -> None:
    """Forty metrics of an oven are a minute of four write units."""
    load = json.loads(CliRunner().invoke(main, ["cost", "--json"]).stdout)["load"]
    assert {"devices": 3012, "plants": 1, "shards": 7, "lanes": 8}.items() <= load.items()
    ovens = 12 / 60 * 4 + 12 * (1 / 3_600 + 1 / 86_400) * 6 + 12 / 900
    assert load["writes_a_second"] > 3000 / 60 + ovens


def test_the_plan_has_the_sum(company: Path) -> None:
    """As a sentence with the command, and as data."""
    runner = CliRunner()
    runner.invoke(main, ["generate"])
    text, document = runner.invoke(main, ["plan"]).stdout, json.loads(runner.invoke(main, ["plan", "--json"]).stdout)
    usd = json.loads(runner.invoke(main, ["cost", "--json"]).stdout)["usd"]
    assert usd == document["cost"]["usd"]
    assert f"A month of it costs about {usd:,.0f} USD at list prices: " in text
    assert "Terms and levers: fleet cost" in text
    part = runner.invoke(main, ["plan", "--facility", "de-mn-01"]).stdout
    assert "What these plants add to a month costs about " in part and "fleet cost --facility de-mn-01" in part


def test_no_price_is_not_printed_as_0(company: Path) -> None:
    """In a region without prices every line says so, JSON has null, and the plan has no sum."""
    path = company / "fleet.yaml"
    path.write_text(path.read_text().replace("us-east-1", "eu-central-1"))
    runner = CliRunner()
    text, document = runner.invoke(main, ["cost"]).stdout, json.loads(runner.invoke(main, ["cost", "--json"]).stdout)
    assert "in eu-central-1, at list prices: no price\n" in text and " 0.00" not in text
    assert len(document["lines"]) == text.count("no price\n") - 1 == len(document["unpriced"])
    assert {None} == {document["usd"], *document["services"].values(), *(line["usd"] for line in document["lines"])}
    assert "No sum can be made, as no price is known for eu-central-1: iot.connection_minute, " in text
    runner.invoke(main, ["generate"])
    plan = runner.invoke(main, ["plan"]).stdout
    assert "A month of it has no sum, as no price is known for eu-central-1. Units and --prices: fleet cost" in plan
    (company / "prices.json").write_text(
        own_prices(company, regions={"eu-central-1": STREAM_HOUR}).read_text(encoding="utf-8")
    )
    part = runner.invoke(main, ["cost", "--prices", "prices.json"]).stdout
    assert f"at list prices: 33.29 USD without {len(document['unpriced']) - 1} lines\n" in part
    assert "AWS IoT Core no price, Kinesis 33.29 without 3 lines, Lambda no price" in part


def test_options_change_the_sum(company: Path) -> None:
    """Basic Ingest costs no messages, a plant less than the fleet, and own prices are those that count."""
    runner = CliRunner()

    def usd(*options: str) -> float:
        answer = runner.invoke(main, ["cost", "--json", *options])
        assert (0, "") == (answer.exit_code, answer.stderr)
        return float(json.loads(answer.stdout)["usd"])

    page = (PROJECT / "docs" / "cost.md").read_text("utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    example["regions"]["us-east-1"] = example["regions"].pop("ap-southeast-1")
    example["regions"]["us-east-1"]["kinesis.stream_hour"][0]["usd"] = 1.04
    (company / "prices.json").write_text(json.dumps(example))
    whole = usd()
    assert usd("--basic-ingest") < whole - 1_000 and usd("--facility", "de-mn-01") < whole
    assert whole + 730 == pytest.approx(usd("--prices", "prices.json"), abs=0.02)
