"""Accuracy: both default detectors find seeded faults, scored as the public benchmarks score."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.detection import DataError, Series, fetch, nab_points, scores, skab_rates
from fleet_iot.sensor_processor.detection import UNIVARIATE_THRESHOLD, multichannel, univariate

ROWS = 4_000
FAULT = 3_000


def machine(seed: int) -> Series:
    """A daily cycle with noise; for 60 rows from FAULT on the value jumps up."""
    dice = random.Random(seed)
    values = [60 + 5 * math.sin(row / 45) + dice.gauss(0, 0.6) for row in range(ROWS)]
    values[FAULT : FAULT + 60] = [value + 15 for value in values[FAULT : FAULT + 60]]
    return Series(values=values, times=range(len(values)), windows=[(FAULT - 100, FAULT + 200)])


def run_of_pump(seed: int) -> tuple[list[list[float]], list[bool]]:
    """Three noisy channels; the second one shifts for 200 of 1,200 rows."""
    dice = random.Random(seed)
    labels = [800 <= row < 1_000 for row in range(1_200)]
    rows = [[dice.gauss(10, 1), dice.gauss(50, 2) + 12 * label, dice.gauss(1, 0.1)] for label in labels]
    return rows, labels


def test_points_range_from_a_silent_to_a_perfect_detector() -> None:
    """No alarm scores 0, one alarm at the left edge of each window 100, and a false alarm costs 0.11 of a window."""
    series = [machine(1), machine(2)]
    at_edges = [[row == each.windows[0][0] for row in range(ROWS)] for each in series]
    with_false = [[row in (each.windows[0][0], 1_000) for row in range(ROWS)] for each in series]

    assert nab_points(series, [[False] * ROWS] * 2) == 0
    assert nab_points(series, at_edges) == pytest.approx(100)
    assert nab_points(series, with_false) == pytest.approx(100 * (1 - 0.11 / 2))


def test_the_context_detector_finds_jumps_in_a_cycle() -> None:
    """On twelve seeded machines it scores at least 60: a jump in the middle of its window is worth about 70."""
    series = [machine(seed) for seed in range(12)]
    alarms: Sequence[Sequence[bool]] = [
        [score >= UNIVARIATE_THRESHOLD for score in scores(univariate(), each.values)] for each in series
    ]

    assert nab_points(series, alarms) >= 60


def test_the_baseline_detector_finds_a_shifted_channel() -> None:
    """On ten seeded pumps the state follows the fault, with few false alarms."""
    rates = skab_rates([run_of_pump(seed) for seed in range(10)], multichannel)

    assert rates["skab_f1"] >= 0.9
    assert rates["skab_false_alarms_percent"] <= 5


def test_damaged_data_is_refused(tmp_path: Path) -> None:
    """A file that is not the one that the figures were measured on is an error that names it."""
    (tmp_path / "nab/data/artificialNoAnomaly").mkdir(parents=True)
    (tmp_path / "nab/data/artificialNoAnomaly/art_daily_no_noise.csv").write_text("timestamp,value\n")

    with pytest.raises(DataError, match=r"art_daily_no_noise\.csv differs from its SHA-256"):
        fetch(tmp_path)
