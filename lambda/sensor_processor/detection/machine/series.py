"""The readings of one metric within a block of minutes, and what they were ever: range, resolution, repetitions."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import inf, log, sqrt
from operator import mul, sub

import msgspec

from .short import short

SAMPLE_MS = 5_000
"""Readings within five seconds are averaged to one sample: a block has at most 60."""

GROUP_MS = 30_000
"""Samples of half a minute are a group: a spike has to last about so long, or one sample where they are rarer."""

STUCK_SAMPLES = 48
STUCK_TIMES = 4.0
"""A metric is stuck when it repeats a value for STUCK_SAMPLES samples and STUCK_TIMES its longest repetition before."""

MISSING_BLOCKS = 6
MISSING_TIMES, MISSING_LONGEST = 2.0, 1.2
"""A metric is missing when, for MISSING_BLOCKS, readings of the machine come without it: and for MISSING_TIMES as long
as it often was, and MISSING_LONGEST as long as it ever was and was not told."""
ACCEPTED = 2
ABSENCES = 3
"""Longest absences that are kept: what is as long as the last of them happens often."""

RUNS = 8
"""Values whose longest repetition is kept: of those that repeat longest."""
RESTS = 2
"""Values that a metric may rest at, such as 0 when off and 100 % at full load: their long repetitions are their own,
not those of the sensor."""

CALM = 0.75
"""Share of the smallest squared differences that measure a block's spread: steps within the block do not count."""

FARTHEST = 1e4
"""Largest distance from the first day's mean, in scales."""


@dataclass(slots=True)
class Block:
    """One metric's samples in a block, in scales of the metric from its centre.

    `spike` is the largest distance of a group from the middle one, `extreme` that group's mean, `low` and `high` the
    least and the largest one's, in the metric's unit; `beyond` is how far groups were outside the range of all before,
    in ranges; `changes` are differences of samples, `power` the sum of their squares.
    """

    mean: float
    spike: float
    extreme: float
    low: float
    high: float
    beyond: float
    changes: list[float]
    power: float


class Series:
    """One metric of a machine: the samples of the running block, and its history in a few numbers."""

    __slots__ = (
        "absences",
        "accepted_run",
        "centre",
        "changes",
        "count",
        "first",
        "high",
        "last",
        "longest_absence",
        "low",
        "mean",
        "merged",
        "missed",
        "resolution",
        "run",
        "runs",
        "samples",
        "scale",
        "spread",
        "told_missing",
        "usual",
        "window",
    )

    def __init__(self) -> None:
        self.samples = array("f")
        self.window = -1
        self.merged = 0
        self.last, self.run, self.changes, self.accepted_run = 0.0, 0, 0, False
        self.runs: dict[float, int] = {}
        self.missed = self.told_missing = 0  # blocks without a reading up to now; 1 if told, or ACCEPTED
        self.absences: list[int] = []
        self.longest_absence = 0
        self.low, self.high = inf, -inf
        # Welford over the means of blocks, from the first one on.
        self.first = self.mean = self.spread = self.count = 0.0
        self.centre, self.scale, self.resolution, self.usual = 0.0, 0.0, inf, 0.0

    def average(self, value: float) -> None:
        """Average a reading with the others of its window of SAMPLE_MS; the first one of a window is a new sample."""
        self.merged += 1
        self.samples[-1] += (value - self.samples[-1]) / self.merged

    def close(self, group: int) -> Block | None:
        """End a block; return None where it has too few samples.

        Args:
            group: samples of GROUP_MS.
        """
        values = self.samples.tolist()
        self.samples = array("f")
        self.window = -1
        count = len(values)
        self.usual = short(self.usual + (count - self.usual) * (0.05 if self.usual else 1.0)) if count else self.usual
        if not count:
            self.missed += 1
            return None
        if self.missed:
            self._end_absence()
        changes = list(map(sub, values[1:], values))
        self._follow_runs(values, changes)
        if count < min(2.0, self.usual) or count < 0.34 * self.usual:
            return None
        mean = sum(values) / count
        if group > 1 and count >= 2 * group:
            parts = [values[place::group] for place in range(group)]
            groups = sorted([sum(each) / group for each in zip(*parts, strict=False)])
        else:
            groups = sorted(values)
        low, middle, high = groups[0], groups[len(groups) // 2], groups[-1]
        upward = high - middle >= middle - low
        spike = max(high - middle, middle - low)
        beyond = self._beyond(groups)
        if self.scale:
            mean = max(-FARTHEST, min((mean - self.centre) / self.scale, FARTHEST))
            spike = min(spike / self.scale, FARTHEST)
        return Block(
            mean=mean,
            spike=spike,
            extreme=high if upward else low,
            low=low,
            high=high,
            beyond=beyond,
            changes=changes,
            power=sum(map(mul, changes, changes)),
        )

    def widen(self, block: Block) -> None:
        """Count a block's range as seen."""
        self.low, self.high = min(self.low, block.low), max(self.high, block.high)

    def farthest(self, block: Block) -> float:
        """Return the end of a block's range that is further outside the range of all before."""
        return block.high if block.high - self.high >= self.low - block.low else block.low

    def measure(self, mean: float) -> None:
        """Count a block's mean, in the metric's unit, for centre and scale."""
        if not self.count:
            self.first = mean
        self.count += 1.0
        delta = mean - self.first - self.mean
        self.mean = self.mean + delta / self.count
        self.spread = self.spread + delta * (mean - self.first - self.mean)

    def deviation(self) -> float:
        """Return the deviation of block means, not below what the sensor resolves."""
        least = max(self.resolution if self.resolution < inf else 0.0, 1e-3 * abs(self.first + self.mean), 1e-9)
        return max(sqrt(max(self.spread, 0.0) / max(self.count, 1.0)), least)

    def settle(self) -> None:
        """Set centre and scale from the blocks so far."""
        self.centre, self.scale = self.first + self.mean, self.deviation()

    @property
    def least(self) -> float:
        """Return the resolution in scales."""
        return self.resolution / self.scale if self.scale and self.resolution < inf else 0.0

    def stuck(self) -> float:
        """Return how much longer than ever a value repeats: from 1 on the sensor is stuck, until that is accepted."""
        if self.accepted_run or self.run < STUCK_SAMPLES or self.changes < STUCK_SAMPLES:
            return 0.0
        longest = self.runs.get(self.last, 0)
        sorted_runs = sorted(self.runs.values(), reverse=True)
        usual = sorted_runs[RESTS] if len(sorted_runs) > RESTS else 0
        if longest > 10 * max(usual, STUCK_SAMPLES) and (self.last <= self.low or self.last >= self.high):
            return 0.0  # it rests there, for however long the machine is off
        return self.run / max(STUCK_SAMPLES, STUCK_TIMES * max(longest, usual))

    def missing(self) -> float:
        """Return for how much longer than usual it has had no reading: from 1 on it is missing."""
        if not self.missed or not self.usual or self.told_missing == ACCEPTED:
            return 0.0
        often = self.absences[-1] if len(self.absences) == ABSENCES else 0
        return self.missed / max(MISSING_BLOCKS, MISSING_TIMES * often, MISSING_LONGEST * self.longest_absence)

    def _end_absence(self) -> None:
        if self.usual:
            self.absences = sorted([*self.absences, self.missed], reverse=True)[:ABSENCES]
            if not self.told_missing:
                self.longest_absence = max(self.longest_absence, self.missed)
        self.missed = self.told_missing = 0

    def learn_run(self) -> None:
        """Count the running repetition as usual, however long it becomes."""
        if self.run >= STUCK_SAMPLES:
            self._keep_run()

    def noise(self, changes: list[float], others: list[float] | None, slope: float) -> float:
        """Return the logarithm of the spread of a block's changes, less `slope` times those of a partner."""
        if others is not None:
            changes = [mine - slope * its for mine, its in zip(changes, others, strict=True)]
        kept = max(int(CALM * len(changes)), 1)
        squares = sorted(map(mul, changes, changes))[:kept]
        floor = 0.3 * self.resolution if self.resolution < inf else 1e-6 * self.scale
        return short(0.5 * log(sum(squares) / kept + floor * floor))

    def _beyond(self, groups: list[float]) -> float:
        """Return how far groups are outside the range so far: half a range for one group, a fifth for two."""
        width = self.high - self.low
        if width < 0.0:
            return 0.0
        width = max(width, 3.0 * self.deviation())
        over = groups[-1] - self.high
        under = self.low - groups[0]
        if over <= 0.0 and under <= 0.0:
            return 0.0
        if over >= under:
            second = groups[-2] - self.high if len(groups) > 1 else over
        else:
            over, second = under, self.low - groups[1] if len(groups) > 1 else under
        return max(over / width / 0.5, second / width / 0.2)

    def _follow_runs(self, values: list[float], changes: list[float]) -> None:
        repeats = changes.count(0.0)
        if repeats == len(changes) and self.run and values[0] == self.last:
            self.run += len(values)
            return
        if not self.run:
            self.last = values[0]
        if repeats * 3 < len(values):  # no long run inside
            for value in values:
                if value != self.last:
                    self._end_run(value)
                    break
                self.run += 1
            run = 1
            for change in reversed(changes):
                if change:
                    break
                run += 1
            self.changes = min(self.changes + len(changes) - repeats, 1_000)
            self.last, self.run = values[-1], run
        else:
            for value in values:
                if value != self.last:
                    self._end_run(value)
                    self.changes = min(self.changes + 1, 1_000)
                    self.last, self.run = value, 0
                self.run += 1
        smallest = min(filter(None, map(abs, changes)), default=inf)
        if smallest < self.resolution:
            self.resolution = max(smallest, 1e-6 * abs(self.last))

    def _end_run(self, next_value: float) -> None:
        """Keep the length of the run that ended, if it is among the longest and was not told."""
        if next_value == self.last:
            return
        told, self.accepted_run = self.accepted_run, False
        if not told and self.run >= 2:
            self._keep_run()

    def _keep_run(self) -> None:
        if self.run <= self.runs.get(self.last, 0):
            return
        self.runs[self.last] = self.run
        if len(self.runs) > RUNS:
            shortest = min(self.runs, key=lambda value: (self.runs[value], value))
            del self.runs[shortest]

    def state(self) -> SeriesState:
        """Make the state for `restore`."""
        return SeriesState(
            samples=self.samples.tobytes(),
            window=self.window,
            merged=self.merged,
            run=self.run,
            changes=self.changes,
            accepted_run=self.accepted_run,
            runs=self.runs,
            numbers=[getattr(self, name) for name in _NUMBERS],
            absences=[self.missed, self.told_missing, self.longest_absence, *self.absences],
        )

    def restore(self, state: SeriesState) -> None:
        """Continue from `state`. Raises ValueError."""
        self.samples = array("f", state.samples)
        self.window, self.merged, self.run, self.changes = state.window, state.merged, state.run, state.changes
        self.accepted_run, self.runs = state.accepted_run, state.runs
        for name, number in zip(_NUMBERS, state.numbers, strict=True):
            setattr(self, name, number)
        self.missed, self.told_missing, self.longest_absence, *self.absences = state.absences


_NUMBERS = (
    "first",
    "mean",
    "spread",
    "count",
    "centre",
    "scale",
    "resolution",
    "usual",
    "low",
    "high",
    "last",
)


class SeriesState(msgspec.Struct, array_like=True):
    """State of a series; `numbers` are those of _NUMBERS, `absences` of the running absence and those before."""

    samples: bytes
    window: int
    merged: int
    run: int
    changes: int
    accepted_run: bool
    runs: dict[float, int]
    numbers: list[float]
    absences: list[int]
