"""How many days each kind of item stays in the readings table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days from the time that an item tells of."""

    minutes: int
    hours: int
    days: int
    anomalies: int
