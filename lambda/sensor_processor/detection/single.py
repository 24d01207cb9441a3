"""Small detectors of one metric: stuck sensors, jumps, values unusual for the hour of the day.

Each learns what is usual, reports the beginning of an event and nothing more until `is_on` is false again. The state is
a short list of numbers.
"""

from __future__ import annotations

from typing import Protocol

HOUR_MS = 3_600_000
HOURS = 24


class Single(Protocol):
    """A detector of one metric; `words` is the reason of the event that began last."""

    words: str
    is_on: bool

    def update(self, time: int, value: float) -> float:
        """Learn the next reading, of `time` (ms); return the score of an event that begins with it, else 0."""

    def state(self) -> list[float]:
        """List the state for `restore`."""

    def restore(self, state: list[float]) -> None:
        """Continue from `state`. Raises ValueError."""


class Flatline:
    """Detect a stuck sensor: the same value for far longer than ever before, on a metric that used to move."""

    LEAST = 30
    TIMES = 4
    CHANGES = 20
    """An event needs LEAST equal readings, TIMES the longest run before, and CHANGES changes of the value before."""

    __slots__ = ("changes", "is_on", "last", "longest", "run", "since", "words")

    def __init__(self) -> None:
        self.last = self.since = 0.0
        self.run = self.longest = self.changes = 0
        self.is_on = False
        self.words = ""

    def update(self, time: int, value: float) -> float:
        """See Single."""
        if self.run and value == self.last:
            self.run += 1
            limit = max(self.LEAST, self.TIMES * self.longest)
            if self.run != limit or self.changes < self.CHANGES:
                return 0.0
            self.is_on = True
            self.words = f"has stood still for {self.run} readings; before it never did for more than {self.longest}"
            return self.run / max(self.longest, 1)
        # A run that was an event does not raise the limit for the next one.
        if not self.is_on:
            self.longest = max(self.longest, self.run)
        self.is_on = False
        self.changes += self.run > 0
        self.last, self.run, self.since = value, 1, time
        return 0.0

    def state(self) -> list[float]:
        """See Single."""
        return [self.last, self.since, self.run, self.longest, self.changes, float(self.is_on)]

    def restore(self, state: list[float]) -> None:
        """See Single."""
        self.last, self.since, run, longest, changes, is_on = state
        self.run, self.longest, self.changes, self.is_on = int(run), int(longest), int(changes), bool(is_on)


class Rate:
    """Detect a jump: the value changes far faster than usual, in its unit a second."""

    ON = 12.0
    OFF = 6.0
    """Deviations above the usual change at which an event begins and ends."""
    WARM = 100

    __slots__ = ("count", "deviation", "is_on", "last", "mean", "time", "words")

    def __init__(self) -> None:
        self.count = self.time = 0
        self.last = self.mean = self.deviation = 0.0
        self.is_on = False
        self.words = ""

    def update(self, time: int, value: float) -> float:
        """See Single."""
        elapsed = (time - self.time) / 1000
        if self.count and elapsed <= 0:
            if elapsed < 0:  # the device's clock was set back
                self.last, self.time = value, time
            return 0.0
        change = abs(value - self.last) / elapsed if self.count else 0.0
        self.last, self.time = value, time
        self.count += 1
        if self.count == 1:
            return 0.0
        # With a floor: a value that never changed may change a little.
        spread = self.deviation + 0.05 * self.mean + 1e-9 * (1.0 + abs(value))
        score = (change - self.mean) / spread if self.count > self.WARM else 0.0
        begins = score >= self.ON and not self.is_on
        if begins:
            usual = self.mean + 3 * self.deviation
            self.words = f"changes by {change:.3g} a second; usual are up to {usual:.3g}"
        self.is_on = score >= (self.OFF if self.is_on else self.ON)
        if score < self.ON:
            rate = max(0.01, 1.0 / (self.count - 1))
            self.deviation += rate * (abs(change - self.mean) - self.deviation)
            self.mean += rate * (change - self.mean)
        return score if begins else 0.0

    def state(self) -> list[float]:
        """See Single."""
        return [self.count, self.time, self.last, self.mean, self.deviation, float(self.is_on)]

    def restore(self, state: list[float]) -> None:
        """See Single."""
        count, time, self.last, self.mean, self.deviation, is_on = state
        self.count, self.time, self.is_on = int(count), int(time), bool(is_on)


class Seasonal:
    """Detect a value that is unusual for its hour of the day (UTC), on machines that follow shifts."""

    ON = 8.0
    OFF = 5.0
    """Deviations from the hour's mean at which an event begins and ends."""
    WARM = 180
    """Readings of the hour before it is scored: half an hour of readings every ten seconds."""

    __slots__ = ("counts", "deviations", "is_on", "means", "words")

    def __init__(self) -> None:
        self.counts = [0.0] * HOURS
        self.means = [0.0] * HOURS
        self.deviations = [0.0] * HOURS
        self.is_on = False
        self.words = ""

    def update(self, time: int, value: float) -> float:
        """See Single."""
        hour = time // HOUR_MS % HOURS
        mean, deviation, count = self.means[hour], self.deviations[hour], self.counts[hour]
        distance = abs(value - mean)
        score = distance / (deviation + 1e-9 * (1.0 + abs(mean))) if count >= self.WARM else 0.0
        begins = score >= self.ON and not self.is_on
        if begins:
            low, high = mean - 3 * deviation, mean + 3 * deviation
            self.words = f"is unusual for {hour:02d}:00 to {hour:02d}:59 UTC, when {low:.4g} to {high:.4g} are usual"
        self.is_on = score >= (self.OFF if self.is_on else self.ON)
        if score < self.ON:
            self.counts[hour] = count + 1
            rate = max(0.002, 1.0 / (count + 1))
            if count:
                self.deviations[hour] += rate * (distance - deviation)
            self.means[hour] += rate * (value - mean)
        return score if begins else 0.0

    def state(self) -> list[float]:
        """See Single."""
        return [float(self.is_on), *self.counts, *self.means, *self.deviations]

    def restore(self, state: list[float]) -> None:
        """See Single."""
        is_on, *rest = state
        if len(rest) != 3 * HOURS:
            raise ValueError(f"{len(rest)} numbers for {HOURS} hours")
        self.is_on = bool(is_on)
        self.counts, self.means, self.deviations = rest[:HOURS], rest[HOURS : 2 * HOURS], rest[2 * HOURS :]


SINGLES: dict[str, type[Flatline] | type[Rate] | type[Seasonal]] = {
    "flatline": Flatline,
    "rate": Rate,
    "seasonal": Seasonal,
}
"""By their name in the manifest."""
