"""Expects one metric from what the other metrics of its machine show: a free-running observer by state.

States are clusters of the other metrics' means over a block of minutes. Within a state the metric follows them
linearly, with a lag of its own: the observer runs on what it expected, not on what it measured, since a prediction
from the last measured value would follow every fault. What is left has a scale of its own in each state.

All numbers are in scales of the metric (see Series), and are rounded by `short` where they are kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from math import dist
from operator import add, itemgetter, mul, sub

from .short import short

RADIUS = 0.3
"""Distance from a state's centre up to which a block belongs to it, in scales of the metrics. It grows by WIDER when
MOST_STATES are not enough."""
WIDER = 1.15
MOST_WIDER = 100
MOST_STATES = 20
"""Bounds the state of a metric: 14 numbers a state with three partners."""

KNOWN = 20
"""Blocks of a state before it is judged."""
RECENT = 600.0
"""Blocks over which a state's means reach back: with each more than 1/600 of it is forgotten."""
SELDOM = 6
"""States with fewer blocks, not seen for a day, are given up for new ones."""

FORGET = 1.0 - 1.0 / 4000
"""Factor a block of the regression's memory: two weeks of blocks of five minutes."""
RIDGE = 0.01
"""Share of each variance added to it in the regression: partners that always move together share their weight."""
LONGEST_LAG = 0.97
"""Largest weight of the observer's own last value: a time constant of 33 blocks."""

CORRECTION = 0.2
"""Share of a residual, clipped at one scale, that corrects the observer: it forgets a wrong start in a few blocks,
and follows a fault by a fifth of a scale at most."""

POOL = 10.0
"""Blocks that the scale over all states counts in the scale of one."""
FLOOR = 0.3
"""Least scale of a state, in root mean squares of all residuals: a state that was quiet by chance is not trusted."""

DOUBT = 0.1
"""Share of what the regression adds to a state's mean that the scale grows by: it is a line through what is none."""

TRUSTED = 0.7
"""Share of the scale that is not doubt from which a residual may be of the time of the day, not of the course."""

NOISE_MISS = short(0.3)
"""Mean deviation of a spread's logarithm that a new state begins with."""

OUTLIER = 3.0
"""Scales from which a residual counts no more when it is learned."""

LEAST_SCALE = 1e-6
"""Keeps the scale of a metric that is always as expected above 0."""

BINS = 12
"""Of the day's profile, two hours each, for each of two classes of states: off and on."""
PROFILE = 12.0
"""Blocks by which a bin of the profile is shrunk to 0."""
PROFILE_MEMORY = 336.0
"""Blocks of a bin's memory: two weeks of them."""

DAY_MS = 86_400_000


class State:
    """Usual values in one state of the machine; `used` is the day (since the start) of its last block."""

    __slots__ = (
        "count",
        "lag",
        "level",
        "miss",
        "motion",
        "noise",
        "noise_miss",
        "others",
        "previous",
        "spike",
        "used",
    )

    def __init__(
        self, others: Sequence[float], previous: Sequence[float], lag: float, level: float, day: float
    ) -> None:
        self.count = 0.0
        self.used = day
        self.others, self.previous = list(map(short, others)), list(map(short, previous))
        self.lag, self.level = short(lag), short(level)
        self.noise = self.motion = self.miss = self.noise_miss = self.spike = 0.0

    def numbers(self) -> list[float]:
        """List the state for `restored`."""
        return [
            self.count,
            self.used,
            self.lag,
            self.level,
            self.noise,
            self.motion,
            self.miss,
            self.noise_miss,
            self.spike,
            *self.others,
            *self.previous,
        ]

    @classmethod
    def restored(cls, numbers: Iterator[float], partners: int) -> State:
        """Continue from `numbers`."""
        state = cls((), (), 0.0, 0.0, 0.0)
        for name in ("count", "used", "lag", "level", "noise", "motion", "miss", "noise_miss", "spike"):
            setattr(state, name, next(numbers))
        state.others = [next(numbers) for _ in range(partners)]
        state.previous = [next(numbers) for _ in range(partners)]
        return state

    def merge(self, other: State) -> None:
        """Add another state to this one."""
        share = other.count / max(self.count + other.count, 1.0)
        for name in ("lag", "level", "noise", "motion", "miss", "noise_miss", "spike"):
            ours = getattr(self, name)
            setattr(self, name, short(ours + share * (getattr(other, name) - ours)))
        self.others = [short(a + share * (b - a)) for a, b in zip(self.others, other.others, strict=True)]
        self.previous = [short(a + share * (b - a)) for a, b in zip(self.previous, other.previous, strict=True)]
        self.count, self.used = min(self.count + other.count, RECENT), max(self.used, other.used)


class Observer:
    """Expect one metric from its partners.

    `place` is called with each block; `learn` after it, if the block is to be learned.
    """

    __slots__ = (
        "distance",
        "expected",
        "features",
        "gram",
        "is_on",
        "offset",
        "partners",
        "pool",
        "power",
        "previous",
        "profile",
        "radius",
        "residual",
        "running",
        "scale",
        "season",
        "state",
        "states",
        "target",
        "trust",
        "weights",
    )

    def __init__(self, partners: int) -> None:
        self.partners = partners
        self.states: list[State] = []
        self.radius = RADIUS
        size = 2 * partners + 1
        self.weights = [0.0] * size
        self.gram = array("f", bytes(4 * (size * (size + 1) // 2 + size)))
        self.running: float | None = None
        self.previous: list[float] = []
        self.offset = self.pool = self.power = 0.0
        self.profile = [0.0] * (4 * BINS)
        # Of the last block:
        self.state: State | None = None
        self.is_on = False
        self.features: list[float] = []
        self.expected = self.residual = self.distance = self.target = self.season = 0.0
        self.scale = self.trust = 1.0

    def place(
        self, time: int, others: Sequence[float], value: float, *, day: float, least: float, is_on: bool | None
    ) -> State:
        """Find the state of a block that ends at `time` (ms) and what is expected in it.

        Args:
            time: of the block.
            others: means of the partners.
            value: mean of the metric.
            day: since the start.
            least: least scale of a residual.
            is_on: the machine runs, where a metric says so; else it does with partners above their average.

        Returns:
            The state, a new one where none is close.
        """
        states = self.states
        previous = self.previous or others
        state = None
        self.distance = self.radius
        for each in states:
            away = dist(others, each.others)
            if away < self.distance:
                self.distance, state = away, each
        is_new = state is None
        if state is None:
            lag = value if self.running is None else self.running
            state = State(others, previous, lag, value - self.offset, day)
        self.state = state
        self.is_on = sum(state.others) > 0.0 if is_on is None else is_on
        self.season = self._season(time)
        target = value - self.offset - self.season
        running = state.lag if self.running is None else self.running
        features = [*map(sub, others, state.others), *map(sub, previous, state.previous), running - state.lag]
        expected = state.level + sum(map(mul, self.weights, features))
        self.features, self.target = features, target
        self.residual = residual = 0.0 if is_new else target - expected
        self.expected = expected + self.offset + self.season
        count = state.count
        shared = (count * state.miss + POOL * self.pool) / (count + POOL)
        floor = max(1.25 * shared, FLOOR * self.power**0.5, least, LEAST_SCALE)
        self.scale = scale = floor + DOUBT * abs(expected - state.level)
        self.trust = floor / scale
        correction = CORRECTION * max(-scale, min(residual, scale))
        self.running = short(expected + correction)
        self.previous = list(map(short, others))
        return state

    def forget_course(self) -> None:
        """Begin the course of the observer again, after a gap."""
        self.running, self.previous = None, []

    def learn(self, time: int, *, noise: float | None, motion: float, spike: float, day: float, steady: bool) -> None:
        """Learn the last block that was placed.

        Args:
            time: of the block (ms).
            noise: logarithm of the spread of its readings, if there is one.
            motion: largest excursion of a partner in it.
            spike: its own.
            day: since the start.
            steady: the block before it is known, so that lags may be learned.
        """
        state = self.state
        if state is None:
            return
        if state.count == 0.0:
            self._add(state, day)
            state.noise = short(noise or 0.0)
            state.noise_miss, state.motion, state.spike, state.miss = NOISE_MISS, short(motion), short(spike), self.pool
            state.count = 1.0
            return
        features, residual = self.features, self.residual
        count = min(state.count + 1.0, RECENT)
        state.count, state.used = count, day
        share = 1.0 / count
        width = len(state.others)
        state.others = [short(a + share * d) for a, d in zip(state.others, features, strict=False)]
        state.previous = [short(a + share * d) for a, d in zip(state.previous, features[width:], strict=False)]
        state.lag = short(state.lag + share * features[-1])
        # A residual far out is not of this state, or not of a healthy machine: it counts as one of OUTLIER scales.
        bound = OUTLIER * self.scale if count > KNOWN else abs(residual)
        bounded = max(-bound, min(residual, bound))
        state.level = short(state.level + share * (self.target - residual + bounded - state.level))
        state.motion = short(state.motion + share * (motion - state.motion))
        state.spike = short(state.spike + share * (spike - state.spike))
        size = abs(bounded) * self.trust
        state.miss = short(state.miss + share * (size - state.miss))
        if noise is not None:
            state.noise_miss = short(state.noise_miss + share * (abs(noise - state.noise) - state.noise_miss))
            state.noise = short(state.noise + share * (noise - state.noise))
        rate = 1.0 / 288.0
        self.pool = short(self.pool + max(rate, 0.2 / count if count < KNOWN else rate) * (size - self.pool))
        self.power = short(self.power + 0.001 * (size * size - self.power)) if self.power else short(size * size)
        if steady and count > SELDOM:
            weight = min(max(self.power / max(self.scale * self.scale, 1e-12), 0.02), 20.0)
            self._regress(features, self.target - state.level, weight)
        if self.trust > TRUSTED:
            self._learn_season(time, residual)

    def _regress(self, features: list[float], target: float, weight: float) -> None:
        """Add a row to the normal equations, lower triangle first, then the right side; single precision, as packed."""
        weight = min(weight, 100.0 / (1.0 + sum(map(mul, features, features))))
        rows, columns = _places(len(features))
        added = map(mul, rows([each * weight for each in features]), columns([*features, target]))
        self.gram = array("f", map(add, map(FORGET.__mul__, self.gram), added))

    def solve(self) -> None:
        """Solve the regression for the weights; the weight of the observer's own last value stays within 0 and 0.97."""
        weights = _solved(self.gram, len(self.weights))
        own = weights[-1]
        if not 0.0 <= own <= LONGEST_LAG:
            weights = _solved(self.gram, len(self.weights), own=min(max(own, 0.0), LONGEST_LAG))
        self.weights = list(map(short, weights))

    def accept(self, shift: float) -> None:
        """Follow a lasting change by `shift`; states follow the rest of it soon."""
        self.offset = short(self.offset + shift)
        for state in self.states:
            state.count = min(state.count, float(KNOWN))

    def _add(self, state: State, day: float) -> None:
        """Keep a new state; where there is no room, give up an old one or merge what is closest."""
        if len(self.states) >= MOST_STATES:
            seldom = [each for each in self.states if each.count < SELDOM and each.used < day]
            if seldom:
                self.states.remove(min(seldom, key=lambda each: each.used))
        for _ in range(MOST_WIDER):
            if len(self.states) < MOST_STATES:
                break
            self.radius = short(self.radius * WIDER)
            self._merge()
        else:  # no radius joins states that are so far apart
            self.states.remove(min(self.states, key=lambda each: each.count))
        self.states.append(state)

    def _merge(self) -> None:
        """Merge states that are closer than the radius."""
        kept: list[State] = []
        for state in sorted(self.states, key=lambda each: -each.count):
            near = min(kept, key=lambda each: dist(each.others, state.others), default=None)
            if near is not None and dist(near.others, state.others) < self.radius:
                near.merge(state)
            else:
                kept.append(state)
        self.states = kept

    def _season(self, time: int) -> float:
        """Return the profile at a time of the day (UTC), between the middles of its bins."""
        at = time % DAY_MS / DAY_MS * BINS - 0.5
        first = int(at // 1)
        share = at - first
        base = 2 * BINS if self.is_on else 0
        total = 0.0
        for place, weight in ((first % BINS, 1.0 - share), ((first + 1) % BINS, share)):
            count = self.profile[base + BINS + place]
            total += weight * self.profile[base + place] * count / (count + PROFILE)
        return total

    def _learn_season(self, time: int, residual: float) -> None:
        base = 2 * BINS if self.is_on else 0
        place = base + time % DAY_MS * BINS // DAY_MS
        count = min(self.profile[place + BINS] + 1.0, PROFILE_MEMORY)
        self.profile[place + BINS] = count
        bound = 4.0 * self.scale
        step = max(-bound, min(residual + self.season - self.profile[place], bound))
        self.profile[place] = short(self.profile[place] + step / (count + PROFILE))

    def numbers(self) -> list[float]:
        """List the state for `restore`; `short` is exact for each."""
        running = [0.0, 0.0] if self.running is None else [1.0, self.running]
        listed = [self.radius, self.offset, self.pool, self.power, *running, float(len(self.previous)), *self.previous]
        listed += [*self.weights, *self.profile, float(len(self.states))]
        # Column by column: neighbours are alike, and compress better.
        return listed + [number for column in zip(*map(State.numbers, self.states), strict=True) for number in column]

    def restore(self, numbers: Iterator[float]) -> None:
        """Continue from `numbers`."""
        self.radius, self.offset, self.pool, self.power, has_course, running = (next(numbers) for _ in range(6))
        self.running = running if has_course else None
        self.previous = [next(numbers) for _ in range(int(next(numbers)))]
        for listed in (self.weights, self.profile):
            listed[:] = [next(numbers) for _ in listed]
        count = int(next(numbers))
        columns = [[next(numbers) for _ in range(count)] for _ in range(9 + 2 * self.partners)] if count else []
        self.states = [State.restored(iter(row), self.partners) for row in zip(*columns, strict=True)]

    def restore_gram(self, gram: array[float]) -> None:
        """Continue from the normal equations. Raises ValueError."""
        if len(gram) != len(self.gram):
            raise ValueError(f"{len(gram)} numbers of normal equations, not {len(self.gram)}")
        self.gram = gram


@cache
def _places(size: int) -> tuple[itemgetter[tuple[float, ...]], itemgetter[tuple[float, ...]]]:
    """Make what picks the factors of each normal equation from a row, and from a row and its target."""
    pairs = [(row, column) for row in range(size) for column in range(row + 1)] + [(row, size) for row in range(size)]
    return itemgetter(*(row for row, _ in pairs)), itemgetter(*(column for _, column in pairs))


def _solved(gram: Sequence[float], size: int, own: float | None = None) -> list[float]:
    """Solve the normal equations with a ridge, by Gauss; with `own` the last unknown is given."""
    matrix = [[0.0] * (size + 1) for _ in range(size)]
    at = 0
    for row in range(size):
        for column in range(row + 1):
            matrix[row][column] = matrix[column][row] = gram[at]
            at += 1
    for row in range(size):
        matrix[row][size] = gram[at + row]
        matrix[row][row] += RIDGE * matrix[row][row] + 1e-9
    if own is not None:
        size -= 1
        matrix = [[*line[:size], line[-1] - own * line[size]] for line in matrix[:size]]
    for row in range(size):
        line = matrix[row]
        for below in matrix[row + 1 :]:
            factor = below[row] / line[row]
            if factor:
                below[row:] = map(sub, below[row:], [factor * each for each in line[row:]])
    solved = [0.0] * size
    for row in range(size - 1, -1, -1):
        line = matrix[row]
        solved[row] = (line[size] - sum(map(mul, line[row + 1 : size], solved[row + 1 :]))) / line[row]
    return solved if own is None else [*solved, own]
