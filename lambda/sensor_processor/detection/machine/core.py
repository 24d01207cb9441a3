"""Watch a whole machine and tell as much as a budget of false alarms allows: blocks, channels, events.

Readings are gathered in blocks of five minutes. For each metric a block has up to six scores, its channels; each is
compared with a threshold that the machine's own history and the budget give. While it learns, the machine tells
nothing. One event runs for the machine at a time, since one trouble shows in several metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil, floor, inf, log10, sqrt
from operator import add, mul

import msgspec

from ...ingest.catalogue import Metric
from ..event import ESCALATED, Event, Finding, Running, begin, end
from .observer import KNOWN, POOL, Observer
from .series import ACCEPTED, GROUP_MS, SAMPLE_MS, Block, Series, SeriesState
from .short import pack_short, pack_single, short, unpack_short, unpack_single
from .tail import Tail
from .trend import Trend

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
MONTH_DAYS = 30.0

MACHINE = "machine"
"""Name of the detector in the manifest."""
TREND = "-trend"
"""Mark of the event of a metric that is on its way to a limit."""

BLOCK_MS = 5 * MINUTE_MS
LONGEST_BLOCK_MS = HOUR_MS
BLOCK_SAMPLES = 6
"""A block is five minutes, longer where a metric would have fewer than BLOCK_SAMPLES in it."""

SCALE_DAYS = 1.0
"""Days that set centre and scale of each metric; they are set again if block means scatter RESCALE times as far
before the machine is known: it may have stood still that day."""
RESCALE = 3.0

TAIL_DAYS = 4.0
LEARN_DAYS = 7.0
TOLD_MS = (LEARN_DAYS - TAIL_DAYS) * DAY_MS
LEAST_SHARE = 0.5
"""Days after which scores count for the thresholds, and after which findings are told; at least LEAST_SHARE of the
blocks must have readings."""

SOLVE_BLOCKS = 72
"""Blocks between solutions of the regressions: six hours."""

MOST_PARTNERS = 3
"""Other metrics by which one is expected: those that move with it most on the first day."""

LONG_GAP = 3
"""Blocks without a reading after which the course of a machine is not continued, but begun again."""
SETTLING = 12
"""Blocks after such a gap that are not judged."""

QUIET_MS, FEWEST_QUIET = 2 * HOUR_MS, 3
"""Time without a score over its threshold after which an event ends, and the fewest blocks of it."""
OFF = 0.7
"""Share of the threshold below which a score is quiet."""
ACCEPT_MS, FEWEST_ACCEPTED = 12 * HOUR_MS, 12
"""Time over a threshold after which what persists is accepted as normal."""
RELEARN_MS, FEWEST_RELEARNED = 2 * DAY_MS, 144
"""Time after that in which the metric is only learned; those that are expected from it start over, for twice that."""

DOUBTFUL = 2.0
"""An event whose highest score is below this many thresholds counts in the tail like any other score: it may well
have been false, and the next one like it is not told."""

MOST_TOLD = 30
"""Events of a metric that are counted."""

MOST_JOINED = 2
"""Metrics that join an event with one block and are told each; more are the machine as a whole, and told once."""

LEVEL, DRIFT, SPREAD, SPIKE, NOVEL, STUCK, MISSING = range(7)
CHANNELS = 7
FACTORS = (1.45, 1.6, 1.5, 2.2)
FLOORS = (4.0, 8.0, 3.5, 7.0)
PERIODS_A_DAY = (24, 4, 24, 24)
"""Of the channels with a tail, at a budget of one false alarm a month: factor of the threshold above the extrapolated
level, floor, and maxima a day."""

DIAL = 0.15
"""Factors and floors are divided by this power of the budget: what a short past does not show of a tail is a guess, and
the budget says how careful it has to be."""

CLIP = 4.0
DRIFT_BLOCKS = 48.0
DRIFT_GAIN = 20.0
"""Drift is the average of clipped residuals over four hours, in fifths of their standard error."""

SLOPE_FORGET = 1.0 - 1.0 / 2000
LEAST_SHARED = 0.3
"""A partner explains a metric's changes if it shares that much of their variance."""


MOVES, MOVED = 3.0, 0.1
"""A machine moves where a partner's excursion within a block is MOVES times what is usual in the state and MOVED scales
more: such a block and the next one are not judged."""

JUMP = 0.5
"""Share of a metric's jump, in scales, from which a partner jumped with it: that is no spike of the metric's own."""

GONE = 0.3
"""Share of the absence at which a metric is missing, from which on its course and what it explains are forgotten."""

LEAST_RESOLVED = 0.15
"""Least scale of residuals, in steps of the sensor's resolution."""

USUAL_UNREST, LEAST_UNREST = 0.1, 0.05
"""Mean deviation of a spread's logarithm before much is known of a state, and the least scale of it."""


class Watch:
    """One metric of a machine as it is watched: its readings, what is expected, thresholds, and how far it is over."""

    __slots__ = (
        "before",
        "block",
        "channel",
        "company",
        "drift",
        "is_judged",
        "level",
        "metric",
        "motion",
        "moved",
        "noise",
        "observer",
        "over",
        "over_blocks",
        "partners",
        "peak",
        "place",
        "quiet",
        "relearn",
        "series",
        "shift",
        "slope",
        "slope_from",
        "slopes",
        "steady",
        "tails",
        "told",
        "trend",
        "unsteady",
        "untold",
        "values",
    )

    def __init__(self, metric: Metric, place: int, *, size: int, horizon: float) -> None:
        self.metric, self.place = metric, place
        self.series = Series()
        self.trend = Trend()
        care = metric.false_alarm_budget**-DIAL
        self.tails = [
            Tail(factor=care * factor, floor=care * floor, horizon=horizon * periods)
            for factor, floor, periods in zip(FACTORS, FLOORS, PERIODS_A_DAY, strict=True)
        ]
        self.before = 0.0  # mean of the last block, for partners while this one has none
        self.shift = 0.0  # mean residual while over the threshold
        self.over_blocks = self.relearn = 0
        self.told = 0
        self.untold = 0  # blocks for which a metric that joined a known machine advises only
        self.company = [0.0] * 4 * size  # sums with each other metric until it has partners, see `meet`
        self.peak, self.channel = 0.0, LEVEL  # of the running event
        self.quiet = -1  # blocks since it was over, while it is part of an event
        self.join([])
        self.clear(None)

    def clear(self, block: Block | None) -> None:
        """Begin to judge a block."""
        self.block = block
        self.values = [0.0] * CHANNELS
        self.over = 0.0
        self.motion = 0.0
        self.noise: float | None = None
        self.is_judged = self.steady = False

    def join(self, partners: list[int]) -> None:
        """Begin to expect the metric from `partners`."""
        self.partners = partners
        self.observer = Observer(len(partners))
        self.slopes = [0.0] * (1 + 2 * len(partners))
        self.slope_from, self.slope = -1, 0.0
        self.drift = self.level = self.unsteady = 0.0
        self.moved = True

    @property
    def is_set(self) -> bool:
        """Return whether it has centre and scale."""
        return self.series.scale > 0.0

    def meet(self, watches: Sequence[Watch]) -> None:
        """Learn a block of the first day of a metric that joined a known machine."""
        block = self.block
        if block is None:
            return
        self.series.measure(block.mean)
        self.series.widen(block)
        mine = block.mean - self.series.first
        for other in watches:
            if other.is_set and other.block is not None:
                its, at = other.before, 4 * other.place
                added = (1.0, its, its * its, its * mine)
                self.company[at : at + 4] = map(short, map(add, self.company[at : at + 4], added))

    def companions(self, watches: Sequence[Watch]) -> list[int]:
        """List the places of the metrics that it moved with on that day, the closest first."""

        def shared(place: int) -> float:
            count, its, square, both = self.company[4 * place : 4 * place + 4]
            spread = square - its * its / max(count, 1.0)
            return abs(both - its * self.series.mean) / sqrt(spread) if spread > 1e-9 else 0.0

        return sorted((each.place for each in watches if each.is_set), key=shared, reverse=True)

    def amount(self, mean: float) -> float:
        """Convert a number in scales to the metric's unit, to four digits of a scale."""
        scale = self.series.scale
        value = self.series.centre + mean * scale
        return round(value, 4 - floor(log10(scale))) + 0.0 if scale else value

    def distance(self, amount: float) -> float:
        """Convert a number in the metric's unit to scales from its centre."""
        return (amount - self.series.centre) / self.series.scale

    def score(
        self, time: int, watches: Sequence[Watch], *, day: float, is_held: bool, is_on: bool | None, turned: bool
    ) -> None:
        """Score a block.

        Args:
            time: of its end (ms).
            watches: of the machine.
            day: since the start.
            is_held: it follows a gap.
            is_on: the machine runs, where a metric says so.
            turned: it started or stopped since the block before.
        """
        block, observer = self.block, self.observer
        if block is None:
            self.values[MISSING] = missing = self.series.missing()
            if missing > GONE:
                self.level = self.unsteady = 0.0
                self.moved = True
                observer.forget_course()
            return
        partners = [watches[place] for place in self.partners]
        self.motion = motion = max((each.block.spike for each in partners if each.block is not None), default=0.0)
        self.steady = observer.running is not None and not is_held
        least = LEAST_RESOLVED * self.series.least
        state = observer.place(time, [each.before for each in partners], block.mean, day=day, least=least, is_on=is_on)
        self.noise = self._noise(watches, block)
        values = self.values
        is_calm = motion <= MOVES * state.motion + MOVED
        is_calm &= not turned and not any(each.series.missing() > GONE for each in partners)
        self.is_judged = state.count >= KNOWN and is_calm and not self.moved and not is_held and not self.relearn
        self.moved = not is_calm
        values[NOVEL], values[STUCK] = block.beyond, 0.0 if is_on is False else self.series.stuck()
        if not self.is_judged:
            self.level = self.unsteady = 0.0
            return
        away = observer.residual / observer.scale
        values[LEVEL] = min(abs(away), abs(self.level)) if away * self.level > 0.0 else 0.0
        self.level = short(away)
        if values[LEVEL] < self.tails[LEVEL].threshold:  # else it is no drift, and must not outlast the level
            self.drift = short(self.drift + (max(-CLIP, min(away, CLIP)) - self.drift) / DRIFT_BLOCKS)
        values[DRIFT] = DRIFT_GAIN * abs(self.drift)
        unsteady = 0.0
        if self.noise is not None:
            usual = (state.count * state.noise_miss + POOL * USUAL_UNREST) / (state.count + POOL)
            unsteady = (self.noise - state.noise) / max(1.25 * usual, LEAST_UNREST)
        values[SPREAD] = max(min(unsteady, self.unsteady), 0.0)
        self.unsteady = short(unsteady)
        spike = block.spike - state.spike - 2.0 * max(motion - state.motion, 0.0)
        spike /= observer.scale + state.spike
        values[SPIKE] = spike if spike > FLOORS[SPIKE] / 2.0 and not self._jumps_with(partners) else 0.0

    def _jumps_with(self, partners: Sequence[Watch]) -> bool:
        """Return whether a partner jumped at the moment of the largest change of this block."""
        mine = self.block.changes if self.block is not None else []
        if not mine:
            return False
        sizes = list(map(abs, mine))
        at = sizes.index(max(sizes))
        least = JUMP * sizes[at] / self.series.scale
        return any(
            max(map(abs, each.block.changes[max(at - 1, 0) : at + 2])) >= least * each.series.scale
            for each in partners
            if each.block is not None and len(each.block.changes) == len(mine)
        )

    def compare(self) -> None:
        """Compare the scores with their thresholds."""
        over = [value / tail.threshold for value, tail in zip(self.values, self.tails, strict=False)]
        over += self.values[NOVEL:]
        self.over = max(over)
        if over[MISSING] >= 1.0:
            self.series.told_missing = 1
        if self.over > self.peak:
            self.channel = over.index(self.over)

    def learn(self, time: int, watches: Sequence[Watch], *, day: float, has_tail: bool, may_choose: bool) -> None:
        """Learn the block that was scored."""
        block = self.block
        if block is None:
            return
        self.series.widen(block)
        self.series.measure(self.series.centre + block.mean * self.series.scale)
        self.observer.learn(time, noise=self.noise, motion=self.motion, spike=block.spike, day=day, steady=self.steady)
        if not self.is_judged:
            return
        if has_tail:
            for value, tail in zip(self.values, self.tails, strict=False):
                if value > tail.maximum:
                    tail.maximum = short(value)
        mine, slopes = block.changes, self.slopes
        slopes[0] = short(SLOPE_FORGET * slopes[0] + block.power)
        for place, partner in enumerate(self.partners, 1):
            other = watches[partner].block
            if (may_choose or partner == self.slope_from) and other is not None and len(other.changes) == len(mine):
                slopes[2 * place - 1] = short(SLOPE_FORGET * slopes[2 * place - 1] + other.power)
                slopes[2 * place] = short(SLOPE_FORGET * slopes[2 * place] + sum(map(mul, mine, other.changes)))

    def refine(self, *, may_choose: bool) -> None:
        """Solve the regression, and choose (or refresh) the partner that explains most of the metric's changes."""
        self.observer.solve()
        own, best = self.slopes[0], LEAST_SHARED
        for place, partner in enumerate(self.partners):
            its, both = self.slopes[1 + 2 * place : 3 + 2 * place]
            if own <= 0.0 or its <= 0.0:
                continue
            if may_choose and both * both / (own * its) > best:
                best, self.slope_from = both * both / (own * its), partner
            if partner == self.slope_from:
                self.slope = short(both / its)

    def accept(self, relearn: int) -> None:
        """Accept what persists as normal: follow it, and only learn for `relearn` blocks."""
        if self.block is not None:
            self.observer.accept(self.shift)
        elif self.series.told_missing:
            self.series.told_missing = ACCEPTED
        self.over_blocks, self.relearn = 0, relearn
        self.drift = self.level = self.unsteady = self.shift = 0.0
        self.series.accepted_run = True
        if self.block is not None:
            self.series.widen(self.block)

    def rejoin(self, partners: list[int], relearn: int) -> None:
        """Learn again, for `relearn` blocks, what goes with partners of which one changed for good, left or is back."""
        self.join(partners)
        self.relearn = relearn

    def move(self, places: Mapping[int, int], *, size: int, has_event: bool, relearn: int) -> None:
        """Go on in a machine of `size` metrics, which have other places now, by place before; what was expected from
        metrics that are gone is learned again."""
        if not has_event:
            self.quiet, self.peak, self.over_blocks = -1, 0.0, 0
        if not self.is_set:
            self.company = [0.0] * 4 * size
        if any(partner not in places for partner in self.partners):
            self.rejoin([places[partner] for partner in self.partners if partner in places], relearn)
            return
        self.partners = [places[partner] for partner in self.partners]
        self.slope_from = places.get(self.slope_from, -1)

    def _noise(self, watches: Sequence[Watch], block: Block) -> float | None:
        if not block.changes:
            return None
        if self.slope_from < 0:
            return self.series.noise(block.changes, None, 0.0)
        other = watches[self.slope_from].block
        if other is None or len(other.changes) != len(block.changes):
            return None
        return self.series.noise(block.changes, other.changes, self.slope)

    def numbers(self) -> list[float]:
        """List the state for `restore`; `short` is exact for each."""
        listed = [float(len(self.partners)), *map(float, self.partners), *self.slopes, float(self.slope_from)]
        listed += [self.slope, self.drift, self.level, self.unsteady, float(self.moved), self.before, self.shift]
        listed += [
            float(self.over_blocks),
            float(self.relearn),
            float(self.untold),
            float(self.told),
            self.peak,
            float(self.channel),
            float(self.quiet),
        ]
        for tail in self.tails:
            listed += tail.numbers()
        listed += self.trend.numbers()
        if not self.is_set:
            listed += self.company
        return listed + self.observer.numbers()

    def restore(self, numbers: Iterator[float], *, size: int) -> None:
        """Continue from `numbers` of a machine of `size` metrics."""
        self.join([int(next(numbers)) for _ in range(int(next(numbers)))])
        self.slopes = [next(numbers) for _ in self.slopes]
        self.slope_from, self.slope, self.drift = int(next(numbers)), next(numbers), next(numbers)
        self.level, self.unsteady, self.moved = next(numbers), next(numbers), bool(next(numbers))
        self.before, self.shift = next(numbers), next(numbers)
        self.over_blocks, self.relearn, self.untold = int(next(numbers)), int(next(numbers)), int(next(numbers))
        self.told = int(next(numbers))
        self.peak, self.channel, self.quiet = next(numbers), int(next(numbers)), int(next(numbers))
        for tail in self.tails:
            tail.restore(numbers)
        self.trend.restore(numbers)
        if not self.is_set:
            self.company = [next(numbers) for _ in range(4 * size)]
        self.observer.restore(numbers)
        if next(numbers, None) is not None:
            raise ValueError(f"the numbers of {self.metric.name} are too many")


class Machine:
    """Watch the metrics of one machine.

    Args:
        metrics: those to watch, by name; each has its budget of false alarms.
    """

    __slots__ = (
        "_block_ms",
        "_closed",
        "_event",
        "_event_metric",
        "_hold",
        "_is_on",
        "_listed",
        "_metrics",
        "_names",
        "_next",
        "_origin",
        "_products",
        "_settled",
        "_signal",
        "_start",
        "_watches",
    )

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._names = tuple(sorted(metrics))
        self._metrics = metrics
        # All scores that have a threshold share the budget of a device.
        scores = len(FACTORS) * max(len(metrics), 1)
        self._listed = [
            Watch(
                metrics[name],
                place,
                size=len(self._names),
                horizon=MONTH_DAYS * scores / metrics[name].false_alarm_budget,
            )
            for place, name in enumerate(self._names)
        ]
        self._signal = next((watch for watch in self._listed if watch.metric.running_above is not None), None)
        self._watches = dict(zip(self._names, [watch.series for watch in self._listed], strict=True))
        self._begin()
        self._products: dict[tuple[int, int], float] = {}
        self._event: Event | None = None
        self._event_metric = ""

    def _begin(self) -> None:
        """Begin to learn."""
        self._block_ms = BLOCK_MS
        self._origin = self._start = self._next = 0
        self._closed = self._hold = self._settled = 0
        self._is_on: bool | None = None

    def update(self, time: int, values: Mapping[str, float]) -> Sequence[Finding]:
        """Learn a reading of `time` (ms) and return what is to be told with it."""
        findings: Sequence[Finding] = ()
        if not self._start <= time < self._next:
            findings = self._turn(time)
        window = time // SAMPLE_MS
        watches = self._watches
        for name, value in values.items():
            if name in watches:
                series = watches[name]
                if window != series.window:
                    series.window, series.merged = window, 1
                    series.samples.append(value)
                else:
                    series.average(value)
        return findings

    @property
    def _quiet(self) -> int:
        return max(QUIET_MS // self._block_ms, FEWEST_QUIET)

    @property
    def _accepted(self) -> int:
        return max(ACCEPT_MS // self._block_ms, FEWEST_ACCEPTED)

    @property
    def _relearned(self) -> int:
        return max(RELEARN_MS // self._block_ms, FEWEST_RELEARNED)

    @property
    def learned_days(self) -> float:
        """Return how many days the machine has been learned."""
        return min((self._start - self._origin) / DAY_MS, self._closed * self._block_ms / DAY_MS / LEAST_SHARE)

    @property
    def is_learning(self) -> bool:
        """Return whether it only advises yet."""
        return self.learned_days < LEARN_DAYS

    def _turn(self, time: int) -> Sequence[Finding]:
        """End the running block, and begin the one that `time` is in."""
        if not self._next:
            self._origin = self._start = time
            self._next = time + self._block_ms
            return ()
        passed = (time - self._start) // self._block_ms
        findings = self._close(time)
        if passed < 0:  # the clock was set back
            self._origin += passed * self._block_ms
        if not 0 < passed <= LONG_GAP:
            self._hold = SETTLING
            for watch in self._listed:
                watch.observer.forget_course()
        self._start += passed * self._block_ms
        self._next = self._start + self._block_ms
        return findings

    def _close(self, time: int) -> Sequence[Finding]:
        """Judge and learn the running block; return what is to be told with a reading of `time`."""
        group = max(round(GROUP_MS / self._block_ms * max(watch.series.usual for watch in self._listed)), 1)
        gone = [watch for watch in self._listed if watch.series.missed > self._accepted]
        blocks = [watch.series.close(group) for watch in self._listed]
        returned = [watch for watch in gone if not watch.series.missed]
        if not any(blocks):
            return ()
        self._closed += 1
        for watch in returned if self._settled else ():
            for other in self._listed:
                is_short = other.is_set and len(other.partners) < MOST_PARTNERS
                if other is not watch and is_short and watch.place not in other.partners:
                    other.rejoin([*other.partners, watch.place], 2 * self._relearned)
        for watch, block in zip(self._listed, blocks, strict=True):
            watch.clear(block)
        if not self._settled:
            self._prepare()
            return ()
        for watch in self._listed:
            if watch.block is not None and watch.is_set:
                watch.before = short(watch.block.mean)
        known = [watch for watch in self._listed if watch.is_set]
        at, day = self._next, float((self._start - self._origin) // DAY_MS)
        days = self.learned_days
        was_on, is_on = self._is_on, self._follow_signal()
        turned = was_on is not None and is_on is not was_on
        for watch in known:
            watch.score(at, self._listed, day=day, is_held=self._hold > 0, is_on=is_on, turned=turned)
        findings: Sequence[Finding] = ()
        is_told = days >= LEARN_DAYS
        for watch in known:
            if is_told and not watch.untold:
                watch.compare()
            else:
                watch.series.learn_run()
        if is_told:
            findings = self._follow(time)
        for watch in self._listed:
            if not watch.is_set:
                self._meet(watch)
                continue
            watch.untold = max(watch.untold - 1, 0)
            self._learn(watch, at, day=day, has_tail=days >= TAIL_DAYS and watch.untold * self._block_ms < TOLD_MS)
            if watch.block is not None and watch.observer.is_on:
                watch.trend.add(watch.before)
        self._hold = max(self._hold - 1, 0)
        self._end_periods(days)
        if is_told and self._closed % (DAY_MS // self._block_ms) == 0:
            findings = [*findings, *self._follow_trends(time)]
        return findings

    def _meet(self, watch: Watch) -> None:
        """Learn the first day of a metric that joined a known machine, and then what it is expected from."""
        watch.meet(self._listed)
        if watch.series.count * self._block_ms >= LEAST_SHARE * SCALE_DAYS * DAY_MS:
            watch.series.settle()
            companions = watch.companions(self._listed)
            if self._signal is not None and self._signal.place in companions:
                companions.insert(0, companions.pop(companions.index(self._signal.place)))
            watch.join(sorted(companions[:MOST_PARTNERS]))
            watch.untold = int(LEARN_DAYS * DAY_MS) // self._block_ms

    def _follow_signal(self) -> bool | None:
        """Return whether the machine runs by the metric that says so; as before while that one is missing."""
        signal = self._signal
        if signal is not None and signal.is_set and signal.block and signal.metric.running_above is not None:
            self._is_on = signal.amount(signal.block.mean) > signal.metric.running_above
        return self._is_on

    def _learn(self, watch: Watch, at: int, *, day: float, has_tail: bool) -> None:
        """Learn a block, unless it is over a threshold; what stays so for long is accepted."""
        watch.relearn = max(watch.relearn - 1, 0)
        if watch.over >= 1.0 or (watch.quiet >= 0 and watch.over >= OFF):
            watch.over_blocks += 1
            watch.shift = short(watch.shift + (watch.observer.residual - watch.shift) / min(watch.over_blocks, 24))
            if watch.over_blocks >= self._accepted:
                watch.accept(self._relearned)
                for other in self._listed:
                    if watch.place in other.partners:
                        partners = [place for place in other.partners if self._listed[place].block is not None]
                        other.rejoin(partners, 2 * self._relearned)
        elif not self._hold:
            may_choose = not has_tail or watch.relearn > self._relearned
            watch.learn(at, self._listed, day=day, has_tail=has_tail, may_choose=may_choose)

    def _end_periods(self, days: float) -> None:
        """End the hours and days that end with this block."""
        if self._closed % SOLVE_BLOCKS == 0:
            for watch in self._listed:
                watch.refine(may_choose=days < TAIL_DAYS or watch.relearn > self._relearned)
        blocks_a_day = DAY_MS // self._block_ms
        if self._closed % blocks_a_day == 0:
            for watch in self._listed:
                watch.trend.close(self._closed / blocks_a_day)
                for tail in watch.tails:
                    tail.fade()
            if days < LEARN_DAYS and any(
                watch.series.deviation() > RESCALE * watch.series.scale for watch in self._listed if watch.is_set
            ):
                self._settle()
        if days >= TAIL_DAYS:
            for channel, periods in enumerate(PERIODS_A_DAY):
                if self._closed % (blocks_a_day // periods) == 0:
                    for watch in self._listed:
                        if watch.is_set and watch.untold * self._block_ms < TOLD_MS:
                            watch.tails[channel].close()

    def _prepare(self) -> None:
        """Learn a block of the first day, which sets scales and partners."""
        for watch in self._listed:
            if watch.block is not None:
                watch.series.measure(watch.block.mean)
                watch.series.widen(watch.block)
                watch.before = short(watch.block.mean - watch.series.first)
        if len(self._listed) > MOST_PARTNERS + 1:
            for one in self._listed:
                for other in self._listed[: one.place]:
                    pair = one.place, other.place
                    self._products[pair] = self._products.get(pair, 0.0) + one.before * other.before
        if self.learned_days >= SCALE_DAYS:
            self._settle()

    def _settle(self) -> None:
        """Set scales, partners and the length of a block from what was seen, and begin to learn what is normal."""
        if not self._settled:
            passed = max((self._next - self._origin) / self._block_ms, 1.0)
            samples = max(watch.series.usual for watch in self._listed) * min(self._closed / passed, 1.0)
            if samples < BLOCK_SAMPLES and self._block_ms == BLOCK_MS:
                times = ceil(BLOCK_SAMPLES / max(samples, 0.1))
                self._block_ms = min(BLOCK_MS * times, LONGEST_BLOCK_MS)
                self._closed = int(self._closed * BLOCK_MS / self._block_ms)
        # A metric that was not seen yet joins later, as one does that the manifest adds.
        seen = [watch for watch in self._listed if watch.series.count and (watch.is_set or not self._settled)]
        self._settled = 1
        for watch in seen:
            watch.series.settle()
            watch.before, watch.trend.rows = 0.0, []
        for watch in seen:
            watch.join(self._partners_of(watch))
        self._products = {}

    def _partners_of(self, watch: Watch) -> list[int]:
        others = [each.place for each in self._listed if each is not watch and each.is_set]
        if len(others) <= MOST_PARTNERS:
            return others
        if watch.partners:
            return watch.partners

        def shared(place: int) -> float:
            one, other = watch.series, self._listed[place].series
            pair = max(place, watch.place), min(place, watch.place)
            both = self._products.get(pair, 0.0) - one.count * one.mean * other.mean
            return abs(both) / sqrt(max(one.spread * other.spread, 1e-30))

        return sorted(others, key=lambda place: (self._listed[place] is self._signal, shared(place)), reverse=True)[
            :MOST_PARTNERS
        ]

    def _follow(self, time: int) -> list[Finding]:
        """Begin, widen or end the machine's event; return what is to be told with a reading of `time` (ms)."""
        joined = []
        for watch in self._listed:
            if watch.quiet >= 0:
                watch.quiet = 0 if watch.over >= OFF else watch.quiet + 1
                watch.peak = short(max(watch.peak, watch.over))
            elif watch.over >= 1.0:
                joined.append(watch)
        joined.sort(key=lambda watch: -watch.over)
        findings = []
        if joined:
            is_whole = len(joined) > MOST_JOINED
            event = self._event
            for watch in joined[:1] if is_whole else joined:
                finding = self._finding(watch, joined if is_whole else [watch])
                if event is None:
                    event = self._event = Event(began=time, value=finding.value)
                    self._event_metric = watch.metric.name
                else:
                    of = "" if watch.metric.name == self._event_metric else self._event_metric
                    finding = replace(finding, kind=ESCALATED, began=event.began, of=of)
                findings.append(finding)
            for watch in joined:
                watch.quiet, watch.peak = 0, short(watch.over)
                watch.told = min(watch.told + 1, MOST_TOLD)
                watch.trend.found = short(self._closed * self._block_ms / DAY_MS)
                for tail in watch.tails:
                    tail.drop()
        members = [watch for watch in self._listed if watch.quiet >= 0]
        if self._event is not None and all(watch.quiet >= self._quiet for watch in members):
            findings.append(self._ending(self._event, time, members))
        return findings

    def _follow_trends(self, time: int) -> Iterator[Finding]:
        """Begin or end the event of each metric that is on its way to a limit."""
        day = self._closed * self._block_ms / DAY_MS
        for watch in self._listed:
            if not watch.is_set:
                continue
            metric, trend = watch.metric, watch.trend
            minimum = -inf if metric.minimum is None else watch.distance(metric.minimum)
            maximum = inf if metric.maximum is None else watch.distance(metric.maximum)
            forecast = trend.forecast(day, minimum=minimum, maximum=maximum)
            if (forecast is None) is (trend.event is None):
                continue
            value = watch.amount(trend.rows[-1][1]) if trend.rows else watch.amount(watch.before)
            if forecast is None and trend.event is not None:
                words = f"{metric.amount(value)} is no longer on its way to a limit"
                event, trend.event = trend.event, None
                yield end(metric, MACHINE, event, value=value, ended=time, words=words, mark=TREND)
            elif forecast is not None:
                trend.event = Event(began=time, is_critical=True, value=value)
                change = float(f"{forecast.slope * watch.series.scale:.2g}")
                reason = (
                    f"{metric.name} {metric.amount(value)} changes by {change:+g} a day and reaches its limit of "
                    f"{metric.amount(watch.amount(forecast.limit))} in about {forecast.days:.0f} days, "
                    f"{forecast.earliest:.0f} to {forecast.latest:.0f}"
                )
                yield begin(metric, MACHINE, value=value, score=1.0, reason=reason, is_critical=True, mark=TREND)

    def _ending(self, event: Event, time: int, members: Sequence[Watch]) -> Finding:
        self._event = None
        for watch in members:
            if watch.peak < DOUBTFUL and watch.channel < len(watch.tails):
                tail = watch.tails[watch.channel]
                tail.remember(watch.peak * tail.threshold / tail.factor)
            watch.quiet, watch.over_blocks, watch.peak = -1, 0, 0.0
        metric = self._metrics[self._event_metric]
        watch = self._listed[self._names.index(self._event_metric)]
        value = watch.amount(watch.before)
        words = f"{metric.amount(value)} is as usual again"
        if watch.series.missed > self._accepted:
            words = "has been missing for so long that this counts as normal from now on"
        elif any(each.relearn for each in members):
            words = f"{metric.amount(value)} has stayed so for long and counts as normal from now on"
        ended = max(time - self._quiet * self._block_ms, event.began)
        return end(metric, MACHINE, event, value=value, ended=ended, words=words)

    def _finding(self, watch: Watch, together: Sequence[Watch]) -> Finding:
        """Make the finding of a metric that is over its threshold."""
        channel, metric, block = watch.channel, watch.metric, watch.block
        value = watch.amount(watch.before)
        if block is not None and channel in (SPIKE, NOVEL):
            value = block.extreme if channel == SPIKE else watch.series.farthest(block)
        reason = self._reason(watch, value)
        if len(together) > 1:
            reason += f"; {', '.join(each.metric.name for each in together[1:])} too"
        partners = [self._listed[place] for place in watch.partners]
        regime = tuple((each.metric.name, float(f"{each.amount(each.before):.4g}")) for each in partners)
        found = begin(metric, MACHINE, value=value, score=watch.over, reason=reason)
        return replace(found, regime=regime, together=tuple(each.metric.name for each in together[1:]))

    def _reason(self, watch: Watch, value: float) -> str:
        metric, channel = watch.metric, watch.channel
        expected = metric.amount(float(f"{watch.amount(watch.observer.expected):.4g}"))
        value = float(f"{value:.4g}")
        others = ", ".join(
            f"{other.metric.name} {other.amount(other.before):.4g}"
            for other in (self._listed[place] for place in watch.partners)
        )
        state = f" with {others}" if others else ""
        now = f"{metric.name} {metric.amount(value)}"
        if channel == STUCK:
            return f"{now} has repeated for {watch.series.run} readings; it never did for so long in this state"
        if channel == MISSING:
            minutes = watch.series.missed * self._block_ms // MINUTE_MS
            return f"{metric.name} is missing for {minutes} min in the readings, and was {metric.amount(value)} before"
        if channel == NOVEL:
            usual = f"{watch.series.low:.4g} to {watch.series.high:.4g}"
            return f"{now} is beyond all values of this machine so far, {usual}"
        texts = {
            LEVEL: f"{now} instead of about {expected}{state}",
            DRIFT: f"{now} has drifted from about {expected}{state}",
            SPREAD: f"{now} is more unsteady than usual{state}",
            SPIKE: f"{now} for a moment, while about {expected} is usual{state}",
        }
        count = "first" if not watch.told else f"{watch.told + 1}{_ENDINGS.get(watch.told + 1, 'th')}"
        return f"{texts[channel]}; {count} event of {metric.name} in {self.learned_days:.0f} days on this machine"

    def running(self) -> list[Running]:
        """List the running events: the machine's, and those of trends."""
        listed = [
            Running(watch.metric.name, MACHINE, TREND, watch.metric.unit, watch.trend.event)
            for watch in self._listed
            if watch.trend.event is not None
        ]
        if self._event is not None:
            unit = self._metrics[self._event_metric].unit
            listed.append(Running(self._event_metric, MACHINE, "", unit, self._event))
        return listed

    def state(self) -> MachineState:
        """Make the state for `restore`."""
        return MachineState(
            units=[[name, self._metrics[name].unit] for name in self._names],
            event=self._event,
            metric=self._event_metric,
            moments=[
                self._origin,
                self._start,
                self._next,
                self._block_ms,
                self._closed,
                self._hold,
                self._settled,
                _CODES[self._is_on],
            ],
            products=[self._products[pair] for pair in sorted(self._products)],
            series=[watch.series.state() for watch in self._listed],
            numbers=[pack_short(watch.numbers()) for watch in self._listed],
            trends=[watch.trend.event for watch in self._listed],
            grams=[pack_single(watch.observer.gram) for watch in self._listed],
        )

    def restore(self, state: MachineState) -> None:
        """Continue from `state`. Raises ValueError.

        Metrics that it has in the same unit are known; those that joined them learn by themselves. A machine of other
        metrics is learned again, and so is one that was not known when they changed.
        """
        before = {name: (place, unit) for place, (name, unit) in enumerate(state.units)}
        places = {
            before[watch.metric.name][0]: watch.place
            for watch in self._listed
            if before.get(watch.metric.name, (0, ""))[1] == watch.metric.unit
        }
        is_same = len(places) == len(self._listed) == len(state.units)
        self._origin, self._start, self._next, self._block_ms, *counts = state.moments
        self._closed, self._hold, self._settled, is_on = counts
        self._is_on = None if self._signal is None else _ON.get(is_on)
        if not is_same and not (places and self._settled):
            self._begin()
            return
        pairs = [(one, other) for one in range(len(self._names)) for other in range(one)]
        self._products = dict(zip(pairs, state.products, strict=True)) if state.products else {}
        for was, place in places.items():
            watch = self._listed[place]
            watch.trend.event = state.trends[was]
            watch.series.restore(state.series[was])
            try:
                watch.restore(iter(unpack_short(state.numbers[was])), size=len(state.units))
            except (StopIteration, RuntimeError, IndexError) as error:
                raise ValueError(f"the numbers of {watch.metric.name} are too few") from error
            watch.observer.restore_gram(unpack_single(state.grams[was]))
        if state.event is not None and state.metric in self._metrics and before[state.metric][0] in places:
            self._event, self._event_metric = state.event, state.metric
        if not is_same:
            for place in places.values():
                self._listed[place].move(
                    places,
                    size=len(self._names),
                    has_event=self._event is not None,
                    relearn=2 * self._relearned,
                )


_ENDINGS = {2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}

_CODES: dict[bool | None, int] = {None: -1, False: 0, True: 1}
_ON = {code: is_on for is_on, code in _CODES.items()}


class MachineState(msgspec.Struct, array_like=True):
    """State of a machine: names and units of its metrics, running event and the metric it began with, moments, products
    for the choice of partners; of each metric its series, its numbers by `pack_short`, the running event of
    its trend, and its normal equations by `pack_single`."""

    units: list[list[str]]
    event: Event | None
    metric: str
    moments: list[int]
    products: list[float]
    series: list[SeriesState]
    numbers: list[bytes]
    trends: list[Event | None]
    grams: list[bytes]


def machine_of(metrics: Mapping[str, Metric]) -> Machine | None:
    """Make the detector of the metrics that name it."""
    watched = {name: metric for name, metric in metrics.items() if metric.detector == MACHINE}
    return Machine(watched) if watched else None
