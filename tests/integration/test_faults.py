"""The whole fault matrix against the processor, by seed, and wrong processors that have to be found out.

`make soak` runs it with `FLEET_FAULT_READINGS=1000000` and five seeds in `FLEET_FAULT_SEEDS`.
"""

from __future__ import annotations

import os

import pytest

from tests.integration.faults.chaos import RATES
from tests.integration.faults.controls import CONTROLS
from tests.integration.faults.load import POISON
from tests.integration.faults.world import World

READINGS = int(os.environ.get("FLEET_FAULT_READINGS", "100000"))
SEEDS = [int(seed) for seed in os.environ.get("FLEET_FAULT_SEEDS", "1").split(",")]
ONCE = ("kms_down", "sns_down", "sqs_down", "dead_shard", "reshard", "hot_key")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_faults_lose_nothing_and_count_nothing_twice(seed: int) -> None:
    """Whatever strikes: each message counts once, sums are exact, archive, quarantine and notifications complete."""
    verdict = World(seed=seed, readings=READINGS).run()
    print(verdict)

    assert [] == verdict.faults
    assert [] == [
        name for name in (*RATES, *ONCE, *(f"poison_{kind}" for kind in POISON)) if not verdict.struck.get(name)
    ]
    assert verdict.poison == verdict.struck["poison"] + verdict.struck["future"]
    assert verdict.late >= verdict.struck["late"]
    assert (verdict.discarded, 0, []) == (verdict.replay.replayed, verdict.replay.gone, verdict.replay.left)
    assert verdict.discarded > 0
    assert verdict.periods > 1_000


@pytest.mark.slow
def test_faults_are_the_same_for_the_same_seed() -> None:
    """One seed is one run, so that a run that failed can be looked at again."""
    first, second = (World(seed=7, readings=4_000).run() for _ in range(2))

    assert (first.struck, first.records, first.unique) == (second.struck, second.records, second.unique)


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.__name__)
def test_faults_are_found_in_a_wrong_processor(control: object) -> None:
    """A processor that leaves one thing out does not get through the same matrix."""
    with control():  # type: ignore[operator]
        assert any(World(seed=seed, readings=6_000).run().faults for seed in (1, 2, 3, 4))
