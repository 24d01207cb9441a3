"""The demo's units: what was predicted beside what was counted, and what cannot be shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet_iot.generator.cost import terms
from fleet_iot.generator.cost.measured import TOO_SHORT, Run
from fleet_iot.generator.cost.terms import TERMS
from fleet_iot.generator.manifest.rates import Load, expected_load
from fleet_iot.operations.local.aws import Count
from fleet_iot.operations.local.event_source import Redelivery
from fleet_iot.operations.project import load_project
from fleet_iot.operations.rehearsal.simulator import Dose, SimulationRequest
from fleet_iot.operations.rehearsal.units import COMPARED, NOT_SHOWN, SHOWN, as_table, compare_units, run_of
from tests.generator.cost.fleets import manifest
from tests.places import SAMPLE

RUN = Run(load=expected_load(manifest(100)), samples=60, ends_ms=3_600_000, wall_s=60, batches=10, redelivered=2)
DEMO = Run(
    load=expected_load(manifest(45)),
    samples=266,
    ends_ms=1_795_000_000_000,
    wall_s=70,
    batches=13,
    redelivered=3,
    sweeps=2,
    repeats=0.01,
    poison=0.01,
    basic_ingest=0.5,
    anomalies=36,
)
"""The run of `make demo`, where each window is one batch."""
CALM = Redelivery()


def counts(factor: float = 1.0) -> list[Count]:
    """The counts of a run as it was predicted, times a factor."""
    found = compare_units([RUN], [], [], revised_units=0, duration_s=20, redelivery=CALM)
    return [Count("role", each.unit, "X", factor * each.expected) for each in found]


def _counts_of(run: Run) -> list[Count]:
    found = compare_units([run], [], [], revised_units=0, duration_s=60, redelivery=CALM)
    return [Count("role", each.unit, "X", each.expected) for each in found]


def _off(run: Run, counted: list[Count]) -> list[str]:
    found = compare_units([run], [], counted, revised_units=0, duration_s=60, redelivery=CALM)
    return [each.unit for each in found if each.is_off]


def bill() -> list[float]:
    """The units of a month of a fleet."""
    return [term.units(terms.fleet_of(manifest(1_000))) for term in TERMS]


def test_every_term_is_compared_or_said_to_be_missing() -> None:
    """No line of `fleet cost` is left out silently."""
    assert {term.price for term in TERMS} == COMPARED.keys() | NOT_SHOWN.keys()
    assert not COMPARED.keys() & NOT_SHOWN.keys()
    text = as_table(compare_units([RUN], [], counts(), revised_units=0, duration_s=20, redelivery=CALM))
    for term in TERMS:
        assert term.service in text and term.what in text
    assert all(unit in text for unit in (*COMPARED.values(), *SHOWN))


def test_counts_are_those_between_two_moments() -> None:
    """Requests from before the run do not count; a fifth more is off, line by line."""
    earlier = [Count("role-else", "s3_puts", "PUT raw", 1_000), Count("role", "write_units", "PutItem", 7)]
    assert not [
        each
        for each in compare_units([RUN], earlier, earlier + counts(), revised_units=0, duration_s=20, redelivery=CALM)
        if each.is_off
    ]
    off = [
        each.unit
        for each in compare_units([RUN], [], counts(1.2), revised_units=0, duration_s=20, redelivery=CALM)
        if each.is_off
    ]
    assert [
        "messages",
        "rules",
        "actions",
        "ingested_bytes",
        "retrieved_bytes",
        "write_units",
        "read_units",
        "s3_puts",
        "item_writes",
    ] == off


@pytest.mark.parametrize(
    "name",
    [
        *("message_parts", "metered_bytes", "batches", "commits", "reads", "writes", "state_puts", "minute_writes"),
        *("metadata_writes", "pointer_writes"),
    ],
)
def test_a_wrong_term_is_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A rate that `fleet cost` bills twice as high changes the bill, and fails a demo of the default size."""
    counted, billed = _counts_of(DEMO), bill()
    old: Any = getattr(Load, name)
    monkeypatch.setattr(Load, name, property(lambda load: 2 * old.fget(load)))
    assert bill() != billed
    assert _off(DEMO, counted)


@pytest.mark.parametrize("name", ["write_units", "read_units", "processor_puts", "rules", "messages", "ingested_gb"])
def test_a_wrong_sum_of_terms_is_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The demo asks the very functions of `fleet cost`."""
    counted, old = _counts_of(DEMO), getattr(terms, name)
    monkeypatch.setattr(terms, name, lambda fleet: 2 * old(fleet))
    assert _off(DEMO, counted)


def test_a_run_is_judged_if_it_is_long_enough() -> None:
    """The default demo is judged; one of few batches is said to be too short, unit by unit."""
    found = compare_units([DEMO], [], _counts_of(DEMO), revised_units=0, duration_s=60, redelivery=CALM)
    assert set(SHOWN) == {each.unit for each in found if each.why_not}
    assert all(each.margin <= each.tolerance * each.expected for each in found if not each.why_not)
    short = replace(DEMO, samples=10, batches=2, redelivered=0)
    found = compare_units([short], [], [], revised_units=0, duration_s=5, redelivery=CALM)
    assert {"read_units", "s3_puts", "pointer_writes"} <= {each.unit for each in found if each.why_not == TOO_SHORT}
    assert "too short to judge" in as_table(found)


def test_writes_are_compared_by_table_too() -> None:
    """Devices and lanes are few among the minutes; revised minutes are in neither the sum nor its part."""
    counted = [
        Count("role", "write_units", "BatchWriteItem device bucket", 700),
        Count("role", "write_units", "PutItem device bucket", 30),
        Count("role", "write_units", "UpdateItem device", 50),
        Count("role", "write_units", "UpdateItem lane", 110),
    ]
    found = compare_units([DEMO], [], counted, revised_units=100, duration_s=60, redelivery=CALM)
    measured = {each.unit: each.measured for each in found}
    assert (790, 630, 50, 110) == tuple(
        measured[unit] for unit in ("write_units", "item_writes", "metadata_writes", "pointer_writes")
    )


def test_what_the_demo_injects_is_counted_apart() -> None:
    """Minutes that are read or written again and objects of quarantine have names of their own, and are not judged."""
    injected = [
        Count("role", "read_units", "Query", 500),
        Count("role", "s3_puts", "PUT quarantine", 100),
        Count("role", "write_units", "BatchWriteItem device bucket", 900),
    ]
    found = compare_units([RUN], [], counts() + injected, revised_units=900, duration_s=20, redelivery=CALM)
    measured = {each.unit: each.measured for each in found}
    assert measured["reread_units"] >= 500 and measured["quarantine_puts"] >= 100 and measured["revised_units"] == 900
    assert not [each for each in found if each.is_off]


def test_a_run_is_what_was_asked_for() -> None:
    """Things, readings, shares and lanes follow from the request; of the invocations some are deliveries of before."""
    project = load_project(SAMPLE)
    simulation = SimulationRequest(
        facilities=project.facilities,
        things=6,
        rate=30,
        duration_s=20,
        dose=Dose(anomalies=0.5, poison=0.01, repeats=0.02),
        basic_ingest=0.5,
        seed=1,
        replay=None,
        columns={},
        truth=SAMPLE / "none",
        now_ms=1_000,
    )
    redelivery = Redelivery(probability=0.3, seed=1)
    run = run_of(project, simulation, rate=30, redelivery=redelivery, invocations=8, sweeps=2, wall_s=61.0, anomalies=3)
    lost = sum(map(redelivery.forgets, range(8)))
    assert (6, 100, 600) == (run.load.devices, run.samples, run.readings)
    assert (8 - lost, lost, 2) == (run.batches, run.redelivered, run.sweeps) and lost > 0
    assert 1 <= run.lanes <= 4
    assert replace(run, load=RUN.load) != run
