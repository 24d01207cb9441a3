"""The baseline detector: what has shifted on a machine, against how it lay before."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from sensor_processor.detection import multichannel
from sensor_processor.detection.shift import LEARN

SCORER = Path(__file__).parents[3] / "shared" / "eval" / "detection.py"


def rows(count: int, *, seed: int = 1, shift: float = 0.0) -> list[list[float]]:
    """A machine with three channels of noise; `shift` moves the second one, in its own standard deviations."""
    dice = random.Random(seed)
    return [[dice.gauss(50, 2), dice.gauss(-3, 0.5) + 0.5 * shift, dice.gauss(1000, 10)] for _ in range(count)]


def test_a_quiet_machine_is_quiet() -> None:
    """A thousand rows like those that it learned raise nothing."""
    detector = multichannel(3)

    assert not any(map(detector.update, rows(LEARN + 1_000)))


def test_a_shift_of_one_channel_is_a_state_that_ends() -> None:
    """The state begins some rows after a channel has moved, names it, and ends when the channel is back."""
    detector = multichannel(3)
    for row in rows(LEARN + 50):
        detector.update(row)

    moved = [detector.update(row) for row in rows(60, seed=2, shift=6.0)]
    assert (moved[0], all(moved[30:]), detector.worst) == (False, True, 1)
    back = [detector.update(row) for row in rows(60, seed=3)]
    assert not any(back[40:])


def test_a_channel_that_never_moves_is_no_fault() -> None:
    """A constant channel has a scale all the same, and does not hide the others."""
    detector = multichannel(2)
    for row in rows(LEARN):
        detector.update([5.0, row[1]])

    assert not any(detector.update([5.0, row[1]]) for row in rows(100, seed=2))
    assert any(detector.update([5.0, row[1]]) for row in rows(60, seed=3, shift=8.0))


@pytest.mark.skipif(not SCORER.exists(), reason="the benchmark's files are not on this machine")
def test_the_benchmark_reaches_what_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """On SKAB's files: F1 of at least 0.82, with at most 17 % false alarms."""
    scorer: Any = load_scorer()
    scorer.run_skab(multichannel, None)

    words = capsys.readouterr().out.split()
    assert float(words[words.index("F1") + 1]) >= 0.82
    assert float(words[words.index("FAR") + 1].rstrip("%")) <= 17


def load_scorer() -> Any:
    spec = importlib.util.spec_from_file_location("detection_scorer", SCORER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
