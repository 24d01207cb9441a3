"""The fault matrix over real shards: several of them, split and merged, with environments that hop and overlap.

`make soak` runs it with `FLEET_SHARD_READINGS=1000000` and five seeds in `FLEET_FAULT_SEEDS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.kinesis import KEYS, HashRange, even_ranges, hash_key
from tests.integration.faults import controls, shards

READINGS = int(os.environ.get("FLEET_SHARD_READINGS", "8000"))
SEEDS = [int(seed) for seed in os.environ.get("FLEET_FAULT_SEEDS", "1").split(",")]
HAPPENS = (
    "hop",
    "overlap",
    "killed",
    "given_up",
    "resumed",
    "lost_before",
    "lost_after",
    "cold",
    "split",
    "merge",
    "gone",
    "two_versions",
)

IS_SOAK = READINGS > 8_000
HAS_SILENCE = READINGS > 300_000

RARE = (controls.effects_before_commit, controls.mutable_minute_key)
"""Seen where two processes contend for a lane whose minutes end: more readings find it, and the schedules of
`tests/sensor_processor/lanes` in a few seconds."""

CONTROLS = (
    *(controls.no_dedupe, controls.unconditional_pointer, controls.early_acknowledgement, controls.no_acknowledgement),
    *(RARE if IS_SOAK else ()),
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_shards_lose_nothing_and_count_nothing_twice(seed: int) -> None:
    """Whoever handles a batch, and whatever overlaps it: each message counts once, and all is archived and told."""
    verdict = shards.run(seed=seed, readings=READINGS)
    print(verdict)

    assert [] == verdict.faults
    assert [] == [name for name in HAPPENS if not verdict.struck.get(name)]
    assert verdict.struck["hop"] > verdict.invocations / 2
    assert bool(verdict.struck.get("silent")) == HAS_SILENCE


@pytest.mark.slow
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: str(control.__name__))
def test_shards_find_a_wrong_processor(control: Callable[[], Any]) -> None:
    """A processor that relies on being the only writer, or on each record's coming once, does not get through."""
    with control():
        readings = 12_000 if IS_SOAK else 4_000
        assert any(shards.run(seed=seed, readings=readings, killed=0.02).faults for seed in (1, 2, 3, 4))


@pytest.mark.slow
def test_shards_are_the_same_for_the_same_seed() -> None:
    """One seed is one run, threads included."""
    first, second = (shards.run(seed=7, readings=1_500) for _ in range(2))

    assert first == second


def test_hash_ranges_cover_all_keys() -> None:
    """Even ranges, halves and merged ranges have each hash key once, as Kinesis documents them."""
    ranges = even_ranges(4)
    assert (ranges[0].first, ranges[-1].last) == (0, KEYS - 1)
    assert all(low.last + 1 == high.first for low, high in pairwise(ranges))
    assert ranges[1].split()[0].merge(ranges[1].split()[1]) == ranges[1]
    assert even_ranges(1) == (HashRange(first=0, last=340282366920938463463374607431768211455),)
    with pytest.raises(ValueError, match="adjacent"):
        ranges[0].merge(ranges[2])


def test_a_record_goes_to_the_shard_of_its_md5() -> None:
    """The hash key of a partition key is its MD5 as a number of 128 bits."""
    assert hash_key("user1") == 0x24C9E15E52AFC47C225B757E7BEE1F9D
    assert hash_key("user1") in even_ranges(4)[0]
