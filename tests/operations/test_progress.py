"""Waits that last as long as something moves."""

from __future__ import annotations

from fleet_iot.operations.progress import Patience


def test_a_wait_ends_when_nothing_has_moved() -> None:
    """Not after a fixed time: every change, however small and however late, begins it again."""
    time = 0.0
    patience = Patience(120.0, now=lambda: time)
    over = []
    for moved in (0, 0, 1, 1, 2):
        over.append(patience.is_over(moved))
        time += 100.0
    assert [False] * 5 == over
    time = 519.0
    assert not patience.is_over(2)
    time = 520.0
    assert patience.is_over(2)
    assert not patience.is_over(3)
