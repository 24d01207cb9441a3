"""Tables and durations for people."""

from __future__ import annotations

import pytest

from fleet_iot.generator.text import duration, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Aligned left or right, escaped before they are measured, without spaces at the end."""
    assert ["a      1", "b\\tc  22"] == table([("a", "1"), ("b\tc", "22")], "<>")
    assert [] == table([], "<<")


@pytest.mark.parametrize(("seconds", "text"), [(45.2, "45 s"), (720, "12 min"), (12_600, "3.5 h")])
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    """Seconds, minutes or hours, as is usual for that long."""
    assert text == duration(seconds)
