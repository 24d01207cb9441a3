"""The lane log under a hostile scheduler, by seed, and processors that are wrong in one thing, which it finds out.

`FLEET_LANE_SEEDS` says how many seeds are run (5; 300 in `make soak`).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.integration.faults import controls
from tests.sensor_processor.lanes.hostile import Hostile

SEEDS = int(os.environ.get("FLEET_LANE_SEEDS", "5"))


@pytest.mark.slow
def test_readings_count_once_whatever_the_schedule() -> None:
    """Kills, zombies, lost answers, hops, a reshard with parent and child at once, late and repeated readings."""
    runs = [Hostile(seed) for seed in range(SEEDS)]

    assert [] == [(seed, fault) for seed, run in enumerate(runs) for fault in run.run()]
    assert all(run.counts["kills"] and run.counts["zombies"] and run.chaos.struck["lost"] for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["gives_up", "loses_base"])
def test_readings_count_once_after_rarer_faults(fault: str) -> None:
    """Batches that ran out of retries are replayed at the end; a state object that was deleted is read by version."""
    more: dict[str, Any] = {fault: True}

    assert [] == [found for seed in range(100, 101 + SEEDS // 2) for found in Hostile(seed, **more).run()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "control",
    [
        controls.effects_before_commit,
        controls.unconditional_pointer,
        controls.early_acknowledgement,
        controls.mutable_minute_key,
    ],
    ids=lambda control: str(control.__name__),
)
def test_a_wrong_protocol_is_found_out(control: Any) -> None:
    """A processor that breaks one invariant does not get through a few of the same schedules."""
    broken: AbstractContextManager[None] = control()
    with broken:
        assert any(Hostile(seed).run() for seed in range(8))
