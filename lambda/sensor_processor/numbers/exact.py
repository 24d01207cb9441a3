"""Exact sums of decimal numbers that arrive as doubles, as integers in steps of 1e-22.

A device that sends 0.1 means the decimal number, and 0.1 + 0.2 is to be stored as 0.3, in whatever order readings
arrive. So each value is the shortest decimal number with the same double, and sums are integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from math import fsum

_STEPS = 22
"""Digits after the decimal point. With values below 1e12 (reading.VALUE_BOUND) this leaves 4 of DynamoDB's 38 digits
for the sum of a minute's messages. Doubles from 1e-5 are exact on this grid; only smaller ones are rounded."""

_MICRO: int = 10 ** (_STEPS - 6)
_EXACT_MICRO = 10**15
_EXACT = 1e9
"""Numbers below it with at most six decimals have at most 15 digits, all of which a double keeps."""

FINE = 1e-5
"""Smaller doubles need not lie on the grid."""

_CONTEXT = Context(prec=60)


def exact(value: float) -> int:
    """Return the shortest decimal number with the same double as `value`, in steps of 1e-22."""
    micro = round(value * 1e6)
    # No two numbers of 15 digits have the same double, so this one is the shortest.
    if micro / 1e6 == value and -_EXACT_MICRO < micro < _EXACT_MICRO:
        return micro * _MICRO
    return int(Decimal(repr(value)).scaleb(_STEPS, _CONTEXT).to_integral_value())


def exact_sum(values: Sequence[float], *, low: float, high: float) -> int:
    """Return the sum of `exact` over `values`, which lie between `low` and `high`."""
    # Fast path for values with at most six decimals, which sensors send: `fsum` adds the doubles without loss. Below
    # the bound, what doubles differ from their decimal numbers adds up to less than half a millionth.
    if len(values) * max(-low, high) < _EXACT and [round(value * 1e6) / 1e6 for value in values] == list(values):
        return round(fsum(values) * 1e6) * _MICRO
    return sum(map(exact, values))


def decimal_text(steps: int) -> str:
    """Format a number of steps for DynamoDB: `71.25`."""
    micro, rest = divmod(steps, _MICRO)
    if not rest and -_EXACT_MICRO < micro < _EXACT_MICRO:
        # The shortest text of this double is the number itself, as in `exact`; tiny ones have an exponent.
        text = repr(micro / 1e6)
        if "e" not in text:
            return text.removesuffix(".0")
    return format(Decimal(steps).scaleb(-_STEPS, _CONTEXT).normalize(_CONTEXT), "f")


def steps_of(text: str) -> int:
    """Parse what `decimal_text` wrote."""
    return int(Decimal(text).scaleb(_STEPS, _CONTEXT))


def on_grid(value: float) -> float:
    """Round a tiny value as its sum rounds it; never -0.0."""
    if value >= FINE or value <= -FINE:
        return value
    return float(decimal_text(exact(value)))


LARGEST = 9.9e125
"""DynamoDB accepts numbers from 1e-130 to 9.9…e125 with 38 digits:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"""


def number_text(value: float) -> str:
    """Format any double as a number that DynamoDB accepts: `71.25`.

    Tiny values are rounded as minutes round them, larger ones than LARGEST (only scores may be) become that, NaN 0.
    """
    if -FINE < value < FINE:
        return decimal_text(exact(value)) if value else "0"
    if not -LARGEST <= value <= LARGEST:
        value = 0.0 if value != value else LARGEST if value > 0 else -LARGEST
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text.removesuffix(".0")
