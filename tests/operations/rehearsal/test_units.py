"""The demo's units: what was predicted beside what was counted, and what cannot be shown."""

from __future__ import annotations

from dataclasses import replace

from fleet_iot.generator.cost.measured import Run
from fleet_iot.generator.cost.terms import TERMS
from fleet_iot.generator.manifest.rates import expected_load
from fleet_iot.operations.local.aws import Count
from fleet_iot.operations.local.event_source import Redelivery
from fleet_iot.operations.project import load_project
from fleet_iot.operations.rehearsal.simulator import Dose, SimulationRequest
from fleet_iot.operations.rehearsal.units import COMPARED, NOT_SHOWN, SHOWN, as_table, compare_units, run_of
from tests.generator.cost.fleets import manifest
from tests.places import SAMPLE

RUN = Run(load=expected_load(manifest(100)), samples=60, ends_ms=3_600_000, wall_s=60, batches=5, redelivered=2)
CALM = Redelivery()


def counts(factor: float = 1.0) -> list[Count]:
    """The counts of a run as it was predicted, times a factor."""
    found = compare_units(RUN, [], [], revised_units=0, duration_s=20, redelivery=CALM)
    return [Count("role", each.unit, "X", factor * each.expected) for each in found]


def test_every_term_is_compared_or_said_to_be_missing() -> None:
    """No line of `fleet cost` is left out silently."""
    assert {term.price for term in TERMS} == COMPARED.keys() | NOT_SHOWN.keys()
    assert not COMPARED.keys() & NOT_SHOWN.keys()
    text = as_table(compare_units(RUN, [], counts(), revised_units=0, duration_s=20, redelivery=CALM))
    for term in TERMS:
        assert term.service in text and term.what in text
    assert all(unit in text for unit in (*COMPARED.values(), *SHOWN))


def test_counts_are_those_between_two_moments() -> None:
    """What other callers had asked for before the run does not count; a fifth more is off, line by line."""
    earlier = [Count("role-else", "s3_puts", "PUT raw", 1_000), Count("role", "write_units", "PutItem", 7)]
    assert not [
        each
        for each in compare_units(RUN, earlier, earlier + counts(), revised_units=0, duration_s=20, redelivery=CALM)
        if each.is_off
    ]
    off = [
        each.unit
        for each in compare_units(RUN, [], counts(1.2), revised_units=0, duration_s=20, redelivery=CALM)
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
    ] == off


def test_what_the_demo_injects_is_counted_apart() -> None:
    """What is read or written again and objects of quarantine have names of their own, and are not judged."""
    injected = [
        Count("role", "read_units", "Query", 500),
        Count("role", "s3_puts", "PUT quarantine", 100),
        Count("role", "write_units", "BatchWriteItem", 900),
    ]
    found = compare_units(RUN, [], counts() + injected, revised_units=900, duration_s=20, redelivery=CALM)
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
