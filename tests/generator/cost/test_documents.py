"""Every figure of docs/cost.md, docs/scale.md and README's section on cost follows from the code."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fleet_iot.generator.aws.limits import LOAD_QUOTAS
from fleet_iot.generator.cost import prices, terms
from fleet_iot.generator.cost.estimate import estimate
from fleet_iot.generator.manifest import rates
from fleet_iot.generator.manifest.rules import COMPACTED_READINGS
from tests.document_blocks import blocks
from tests.generator.cost import worked
from tests.generator.cost.fleets import WORKED, manifest
from tests.places import PROJECT

PAGES = [PROJECT / "docs" / "cost.md", PROJECT / "docs" / "scale.md"]
NUMBER = re.compile(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?![\w-])")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_what_the_code_says(page: Path) -> None:
    """`UPDATE_GOLDEN=1 pytest tests/generator/cost/test_documents.py` rewrites them."""
    found = 0
    for block in blocks(page):
        if block.how.startswith("worked="):
            expected, found = worked.BLOCKS[block.how.removeprefix("worked=")]() + "\n", found + 1
            if os.environ.get("UPDATE_GOLDEN"):
                page.write_text(page.read_text("utf-8").replace(block.text, expected), "utf-8")
            else:
                assert expected == block.text, block.place
    assert found


def numbers(text: str) -> set[str]:
    return {match[0].rstrip(",") for match in NUMBER.finditer(text)}


def constants() -> set[str]:
    """Every constant of the estimate and of quotas, as people write it."""
    found: list[float] = [quota.of(region) for quota in LOAD_QUOTAS for region in ("us-east-1", "eu-north-1")]
    for module in (rates, terms):
        found += [value for name, value in vars(module).items() if name.isupper() and isinstance(value, int | float)]
    found += [rates.METADATA_S / 60, prices.FORMAT, worked.FLINK_USD_KPU_HOUR, worked.FLINK_READINGS_A_KPU, 730]
    found += [COMPACTED_READINGS, COMPACTED_READINGS * 10]
    start = manifest(1).stream.start_capacity
    found += [start.records_per_second, start.megabytes_per_second]
    return {f"{value:,.10g}" for value in found}


EXIT_CODES, ONE = {"0", "2", "3", "7"}, {"1", "10"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_has_no_figure_of_its_own(page: Path) -> None:
    """A number outside of a block is one of a block, a size of a worked fleet, or a constant of the code."""
    text = page.read_text("utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    made = set().union(*(numbers(make()) for make in worked.BLOCKS.values()))
    sizes = {f"{len(each.facilities):,}" for each in WORKED.values()} | {"5", "200"}
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`", "", text)
    assert set() == numbers(prose) - made - sizes - constants() - EXIT_CODES - ONE


def test_worked_fleets_are_as_described() -> None:
    """200, 1,000 and 100,000 devices in 3, 3 and 30 plants of five types."""
    described = [
        (each, found.load.devices, found.plants, found.pairs)
        for each, found in ((name, estimate(found).fleet) for name, found in WORKED.items())
    ]
    assert [("small", 200, 3, 15), ("medium", 1_000, 3, 15), ("large", 100_000, 30, 150)] == described


def test_the_readme_says_what_the_estimate_says() -> None:
    """Idle, a plant, a device type, and the medium fleet as it comes and lean."""
    section = (PROJECT / "README.md").read_text("utf-8").split("## Cost and limits")[1].split("\n## ")[0]
    told = section.split("\n- ")[1]
    found = estimate(WORKED["medium"])
    lean = sum(line.usd or 0 for line in worked.lean_lines(worked.lean("medium")))
    prices = {key: found.prices.usd(key, 1) or 0 for key in ("cloudwatch.alarm_metric", "cloudwatch.metric")}
    plant = (
        terms.PLANT_ALARM_METRICS * prices["cloudwatch.alarm_metric"],
        terms.PLANT_METRICS * prices["cloudwatch.metric"],
    )
    pair = (
        terms.PAIR_ALARM_METRICS * prices["cloudwatch.alarm_metric"] + terms.PAIR_METRICS * prices["cloudwatch.metric"]
    )
    expected = [
        f"about {worked.idle()[0]:,.0f} USD a month",
        f"{plant[0]:.2f} USD for alarms, {plant[1]:.2f} USD for metrics",
        f"{pair:.2f} USD a device type",
        f"{found.usd:,.0f} USD",
        f"{lean:,.0f} with Basic Ingest",
    ]
    assert [] == [text for text in expected if text not in told]
