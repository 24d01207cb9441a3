"""Words for people: counts, tables and durations."""

from __future__ import annotations

import pytest

from fleet_iot.generator.text import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "facility", "1 facility"),
        (2, "facility", "2 facilities"),
        (1, "key", "1 key"),
        (4_001, "key", "4,001 keys"),
        (3, "anomaly", "3 anomalies"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, noun: str, text: str) -> None:
    """One is singular; a y after a consonant becomes ies, after a vowel it stays."""
    assert text == counted(number, noun)
