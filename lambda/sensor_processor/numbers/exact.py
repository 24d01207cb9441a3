"""Exact decimal numbers of doubles, and their sums, as whole numbers of 1e-22."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from math import fsum

_STEPS = 22
"""Sums are whole numbers of 1e-22. Below 1e12 (see reading.VALUE_BOUND) this leaves 4 of DynamoDB's 38 digits for the
sum of a minute's messages. Doubles of at least 1e-5 lie on this grid; only smaller ones are rounded."""

_MICRO: int = 10 ** (_STEPS - 6)
_EXACT_MICRO = 10**15
_EXACT = 1e9
"""Below it, a number of millionths, and a number in millionths, has at most 15 digits: a double holds every one."""

_ROUND = 1.5 * 2.0**52
"""A double this large has no room for fractions: what is added to it and taken away again is rounded, as by `round`."""

FINE = 1e-5
"""Below it, a double need not lie on the grid."""

_CONTEXT = Context(prec=60)


def exact(value: float) -> int:
    """The shortest decimal number that is the same double as `value`, in steps of 1e-22."""
    micro = round(value * 1e6)
    # Two numbers of 15 digits are never the same double, so this one is the shortest.
    if micro / 1e6 == value and -_EXACT_MICRO < micro < _EXACT_MICRO:
        return micro * _MICRO
    return int(Decimal(repr(value)).scaleb(_STEPS, _CONTEXT).to_integral_value())


def exact_sum(values: Sequence[float], *, low: float, high: float) -> int:
    """The sum of `exact` over `values`, which are from `low` to `high`."""
    # As in `exact`, for all of them at once. Below this bound what doubles lack of their decimal numbers, and the sum
    # of its own, is less than half a millionth.
    is_moderate = len(values) * max(-low, high) < _EXACT
    if is_moderate and [(value * 1e6 + _ROUND - _ROUND) / 1e6 for value in values] == [*values]:
        return round(fsum(values) * 1e6) * _MICRO
    return sum(map(exact, values))


def decimal_text(steps: int) -> str:
    """A number of steps as DynamoDB takes a number: `71.25`."""
    micro, rest = divmod(steps, _MICRO)
    if not rest and -_EXACT_MICRO < micro < _EXACT_MICRO:
        # The shortest text of this double is the number itself, as in `exact`; with an exponent only when tiny.
        text = repr(micro / 1e6)
        if "e" not in text:
            return text.removesuffix(".0")
    return format(Decimal(steps).scaleb(-_STEPS, _CONTEXT).normalize(_CONTEXT), "f")


def steps_of(text: str) -> int:
    """The number that `decimal_text` wrote."""
    return int(Decimal(text).scaleb(_STEPS, _CONTEXT))


def on_grid(value: float) -> float:
    """`value`, where it is tiny rounded as its sum rounds it, and never -0.0."""
    if value >= FINE or value <= -FINE:
        return value
    return float(decimal_text(exact(value)))
