"""The baseline detector: what has shifted on a machine, against how it lay before."""

from __future__ import annotations

import random
from copy import deepcopy

from fleet_iot.sensor_processor.detection import multichannel
from fleet_iot.sensor_processor.detection.group import LEARN_ROWS as LEARN


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


def test_a_machine_that_comes_to_rest_elsewhere_is_told_no_more() -> None:
    """A shift that remains after a severe state ends it and becomes the baseline, from which the next one is found."""
    detector = multichannel(3)
    for row in rows(LEARN + 50):
        detector.update(row)
    assert all([detector.update(row) for row in rows(60, seed=2, shift=80.0)][30:])

    rest = [detector.update(row) for row in rows(2_000, seed=3, shift=8.0)]
    assert any(rest[:5]) and not any(rest[60:])
    again = [detector.update(row) for row in rows(60, seed=4, shift=20.0)]
    assert all(again[30:])
    assert not any([detector.update(row) for row in rows(200, seed=5, shift=8.0)][60:])


def test_one_absurd_value_is_soon_forgotten() -> None:
    """A sensor's glitch may be reported, and does not hide for long what follows."""
    detector = multichannel(3)
    for row in rows(LEARN + 50):
        detector.update(row)
    detector.update([1e12, -3.0, 1000.0])
    after = [detector.update(row) for row in rows(600, seed=2)]

    assert not any(after[200:])
    assert all([detector.update(row) for row in rows(60, seed=3, shift=6.0)][30:])


def test_numbers_of_before_there_was_a_peak_are_taken_over() -> None:
    """A state that an older version stored goes on where it was."""
    old, new = multichannel(3), multichannel(3)
    for row in rows(LEARN + 80):
        old.update(row)
    new.restore(*deepcopy(old.numbers()[:-1]))

    assert [new.update(row) for row in rows(80, seed=2, shift=6.0)] == [
        old.update(row) for row in rows(80, seed=2, shift=6.0)
    ]


def test_a_channel_that_never_moves_is_no_fault() -> None:
    """A constant channel has a scale all the same, and does not hide the others."""
    detector = multichannel(2)
    for row in rows(LEARN):
        detector.update([5.0, row[1]])

    assert not any(detector.update([5.0, row[1]]) for row in rows(100, seed=2))
    assert any(detector.update([5.0, row[1]]) for row in rows(60, seed=3, shift=8.0))
