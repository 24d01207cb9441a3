"""Simulated machines: seven ways to work, four kinds of noise, and the faults that detectors are expected to find.

Each way is a small model of physics and operation: heat with a time constant, a receiver that fills and empties, a
plant calendar with breaks and a change to summer time, batches, floats, weather. A seed determines a machine. Readings
have the resolution of their sensors; some are lost, and now and then the network is away for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import exp, pi, sin, sqrt
from random import Random
from typing import NamedTuple

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = 1_772_409_600_000
"""Monday 2026-03-02T00:00Z, in ms."""

WINTER_OFFSET, SUMMER_OFFSET, SUMMER_BEGINS = HOUR, 2 * HOUR, 1_774_746_000_000
"""Of the plants' clocks, which are those of central Europe: on the 28th day the clock goes forward."""

LOST = 0.001
OUTAGE_DAYS = 6.0
OUTAGE_MINUTES = (2.0, 90.0)
"""Share of readings that are lost; days between outages of the network, and how long one lasts."""


class Moment(NamedTuple):
    """A time of a plant: ms, weekday (Monday is 0) and hour by its own clock, days since START."""

    time: int
    weekday: int
    hour: float
    day: float


class State(NamedTuple):
    """State of a machine at a time (ms): values in the order of its metrics, before any sensor rounds them."""

    time: int
    works: bool
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A metric: its unit, its wide static limits, and `per_unit`, the steps of its resolution in one unit."""

    name: str
    unit: str
    minimum: float | None = None
    maximum: float | None = None
    per_unit: int = 100

    def read(self, value: float) -> float:
        """Round a value to the sensor's resolution."""
        return round(value * self.per_unit) / self.per_unit


class Trouble(NamedTuple):
    """A value that a fault changes, `hours` after its begin. `memory` is that of this fault on this machine."""

    value: float
    hours: float
    works: bool
    usual: float
    memory: dict[str, float]
    rng: Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A change of one metric for `hours`; `is_of_pair` where a finding of any metric is as good as one of its own.

    `change` returns the new value, or None where the metric is silent.
    """

    name: str
    metric: str
    hours: float
    change: Callable[[Trouble], float | None]
    is_of_pair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to work: its metrics, the interval of its readings, the model, and its faults."""

    name: str
    interval_s: int
    sensors: tuple[Sensor, ...]
    work: Callable[[Random, int, Iterator[Moment]], Iterator[State]]
    faults: tuple[Fault, ...]

    def states(self, seed: int, days: int) -> Iterator[State]:
        """Yield what machine `seed` does and reports, without the readings that are lost."""
        machine = Random(f"{self.name}:{seed}")  # noqa: S311 - the same machine for the same seed
        network = Random(f"{self.name}:{seed}:network")  # noqa: S311
        away = START + network.expovariate(1 / OUTAGE_DAYS) * DAY
        back = away + network.uniform(*OUTAGE_MINUTES) * MINUTE
        for state in self.work(machine, self.interval_s, calendar(self.interval_s, days)):
            if state.time >= back:
                away = state.time + network.expovariate(1 / OUTAGE_DAYS) * DAY
                back = away + network.uniform(*OUTAGE_MINUTES) * MINUTE
            if state.time < away and network.random() >= LOST:
                yield state

    def read(self, values: tuple[float, ...]) -> dict[str, float]:
        """Return what the sensors report, by metric."""
        return {sensor.name: sensor.read(value) for sensor, value in zip(self.sensors, values, strict=True)}


def calendar(interval_s: int, days: int) -> Iterator[Moment]:
    """Yield the times of readings that are `interval_s` apart, which divides an hour."""
    for begin in range(START, START + days * DAY, HOUR):
        offset = SUMMER_OFFSET if begin >= SUMMER_BEGINS else WINTER_OFFSET
        for time in range(begin, begin + HOUR, interval_s * 1000):
            local = time + offset
            yield Moment(time, (local // DAY + 3) % 7, local % DAY / HOUR, (local - START) / DAY)


class Wander:
    """Noise with a memory: it returns to zero with a time constant, and has the standard deviation `spread`."""

    __slots__ = ("_draw", "_keep", "_step", "value")

    def __init__(self, rng: Random, spread: float, *, seconds: float, interval_s: float) -> None:
        self._draw = rng.gauss
        self._keep = exp(-interval_s / seconds)
        self._step = spread * sqrt(1 - self._keep**2)
        self.value = rng.gauss(0, spread)

    def next(self) -> float:
        """Return the next value."""
        self.value = self._keep * self.value + self._draw(0, self._step)
        return self.value


def daily(hour: float, warmest: float = 15.0) -> float:
    """Return a wave from -1 to 1 over the day, highest at `warmest`."""
    return sin(2 * pi * (hour - warmest + 6) / 24)


def steady(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a circulation pump that runs day and night: demand wanders, casing and hall are warm in the afternoon."""
    rise, hum, lift = rng.uniform(26, 34), rng.uniform(1.6, 2.8), rng.uniform(15, 18)
    demand = Wander(rng, 0.07, seconds=1500, interval_s=interval_s)
    hall = Wander(rng, 0.8, seconds=18_000, interval_s=interval_s)
    shake = Wander(rng, 0.09, seconds=25, interval_s=interval_s)
    slow = 1 - exp(-interval_s / 1300)
    casing = 23 + rise
    for moment in moments:
        flow = 1 + demand.next()
        pressure = lift - 5 * flow * flow + rng.gauss(0, 0.06)
        power = 4.5 + 0.85 * flow * (lift - 5 * flow * flow) + rng.gauss(0, 0.12)
        casing += (23 + 2 * daily(moment.hour) + hall.next() + rise * power / 14 - casing) * slow
        vibration = hum * (0.7 + 0.3 * flow) * exp(shake.next())
        yield State(moment.time, True, (casing + rng.gauss(0, 0.12), vibration, pressure, power))


def shifts(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a press of two shifts: early Saturday, no Sunday and a holiday; breaks, jobs, short stops, oil that warms.

    In breaks and stops the hydraulics idle; the power is off when the plant is empty.
    """
    holiday = rng.choice((7, 9, 11, 15))
    rise, hum, slow = rng.uniform(27, 35), rng.uniform(2.0, 3.2), 1 - exp(-interval_s / rng.uniform(1800, 3000))
    hall = Wander(rng, 0.7, seconds=14_400, interval_s=interval_s)
    shake = Wander(rng, 0.1, seconds=20, interval_s=interval_s)
    job_ends = stop_ends = 0.0
    force, rate, oil = 1.0, 12.0, 18.0
    for moment in moments:
        time, weekday, hour, day = moment
        is_staffed = (weekday < 5 and 6 <= hour < 22) or (weekday == 5 and 6 <= hour < 14)
        is_staffed = is_staffed and int(day) != holiday
        is_break = 9.5 <= hour < 10 or 18 <= hour < 18.5
        if is_staffed and time >= job_ends:
            job_ends = time + rng.uniform(1.5, 7) * HOUR
            stop_ends = time + rng.uniform(6, 20) * MINUTE  # the tool is changed
            force, rate = rng.choice((0.8, 0.9, 1.0, 1.1)), rng.choice((9.0, 12.0, 14.0))
        if is_staffed and time >= stop_ends and rng.random() < interval_s / 9000:
            stop_ends = time + rng.expovariate(1 / 6) * MINUTE
        runs = is_staffed and not is_break and time >= stop_ends
        ambient = 18 + 2.5 * daily(hour) + hall.next()
        if runs:
            pressure = 150 * force * (1 + 0.25 * sin(time * rate * 2 * pi / MINUTE)) + rng.gauss(0, 2.5)
            power, strokes = 9 + 0.02 * pressure * rate + rng.gauss(0, 0.7), rate + rng.gauss(0, 0.1)
            vibration = hum * (0.4 + 0.6 * force) * exp(shake.next())
            heat = rise * (0.35 + 0.65 * force * rate / 12)
        elif is_staffed:
            pressure, power, strokes = 18 + rng.gauss(0, 0.6), 7 + rng.gauss(0, 0.2), 0.0
            vibration, heat = 0.25 * hum * exp(shake.next()), 0.3 * rise
        else:
            pressure, power, strokes = abs(rng.gauss(0.2, 0.1)), abs(rng.gauss(0.15, 0.03)), 0.0
            vibration, heat = abs(rng.gauss(0.03, 0.01)), 0.0
        oil += (ambient + heat - oil) * slow
        yield State(time, runs, (oil + rng.gauss(0, 0.15), vibration, pressure, power, strokes))


def load(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a screw compressor at a receiver: it loads below one pressure and unloads above another, as air is used."""
    upper, lower = rng.uniform(7.3, 7.6), rng.uniform(6.5, 6.8)
    leak, busy, full = rng.uniform(0.12, 0.2), rng.uniform(0.4, 0.55), rng.uniform(68, 80)
    use = Wander(rng, 0.07, seconds=240, interval_s=interval_s)
    shake = Wander(rng, 0.07, seconds=15, interval_s=interval_s)
    hall = Wander(rng, 0.8, seconds=14_400, interval_s=interval_s)
    slow, blow = 1 - exp(-interval_s / 720), 1 - exp(-interval_s / 8)
    line, power, oil, is_loaded = 7.0, full, 72.0, True
    for moment in moments:
        time, weekday, hour, _ = moment
        at_work = 1.0 if weekday < 5 and 6 <= hour < 20 else 0.5 if weekday == 5 and 7 <= hour < 15 else 0.1
        air = max(0.05, leak + busy * at_work + use.next() * (0.3 + at_work))
        line += 0.02 * interval_s * ((1.0 if is_loaded else 0.0) - air)
        is_loaded = line < upper if is_loaded else line < lower
        goal = full * (1 + 0.055 * (line - 7)) if is_loaded else 0.3 * full
        power += (goal - power) * blow
        ambient = 20 + 2 * daily(hour) + hall.next()
        oil += (ambient + 34 + 26 * power / full - oil) * slow
        vibration = (1.7 + 1.5 * power / full) * exp(shake.next())
        values = (oil + rng.gauss(0, 0.15), vibration, line + rng.gauss(0, 0.012), power + rng.gauss(0, 0.4))
        yield State(time, True, values)


def recipe(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a stirred reactor: two products with steps of their own, and a wait between batches."""
    products = []
    for _ in range(2):
        hot, gas, stiff = rng.uniform(70, 105), rng.uniform(1.5, 4.0), rng.uniform(1.4, 2.2)
        products.append(
            (  # minutes, jacket, gauge pressure, share of speed, stiffness, level at the step's end
                (rng.uniform(12, 18), 25.0, 0.1, 0.4, 0.6, 80.0),
                (rng.uniform(25, 40), hot + 12, 0.4 * gas, 0.8, 0.9, 81.0),
                (rng.uniform(35, 60), hot, gas, 1.0, stiff, 81.0),
                (rng.uniform(20, 30), 22.0, 0.3 * gas, 0.7, stiff, 80.0),
                (rng.uniform(10, 15), 22.0, 0.1, 0.3, 0.8, 6.0),
                (rng.uniform(5, 10), 25.0, 0.0, 0.0, 0.0, 5.0),
            )
        )
    hum = rng.uniform(1.4, 2.4)
    shake = Wander(rng, 0.09, seconds=40, interval_s=interval_s)
    mass = Wander(rng, 0.02, seconds=9000, interval_s=interval_s)
    slow, quick = 1 - exp(-interval_s / 700), 1 - exp(-interval_s / 90)
    steps, number, ends, ticks = products[0], 5, 0.0, 1.0
    jacket = product = 25.0
    gas, speed, level = 0.0, 0.0, 5.0
    for time, _, _, _ in moments:
        if time >= ends:
            number = (number + 1) % 6
            if number == 0:
                steps = products[rng.random() < 0.35]
            minutes = steps[number][0] * rng.uniform(0.93, 1.07) + (rng.expovariate(1 / 15) if number == 5 else 0)
            ends, ticks = time + minutes * MINUTE, max(1.0, minutes * 60 / interval_s)
        minutes, warm, pressure, turns, stiff, full = steps[number]
        level += (full - level) / ticks if number in (0, 4) else (full - level) * quick
        ticks = max(1.0, ticks - 1)
        jacket += (warm - jacket) * quick
        product += (jacket - product) * slow
        gas += (pressure - gas) * quick
        speed += (110 * turns - speed) * quick
        share = speed / 110
        power = 1.2 * (share > 0.02) + 11 * share**2 * stiff * (0.4 + level / 130) * (1 + mass.next())
        values = (
            product + rng.gauss(0, 0.15),
            0.05 + hum * share * exp(shake.next()),
            gas + rng.gauss(0, 0.02),
            max(0.0, power + rng.gauss(0, 0.12)),
            speed + rng.gauss(0, 0.4),
            level + rng.gauss(0, 0.25),
        )
        yield State(time, share > 0.1, values)


def intermittent(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a sump pump with a float switch: bursts of minutes, a few times an hour, by an inflow that varies."""
    high, ratio, warm = 1.0, rng.uniform(2.6, 4.0), rng.uniform(45, 60)
    full, hum, filling = rng.uniform(16, 22), rng.uniform(2.2, 3.2), rng.uniform(9, 13)
    inflow = Wander(rng, 0.22, seconds=5400, interval_s=interval_s)
    shake = Wander(rng, 0.1, seconds=20, interval_s=interval_s)
    air = Wander(rng, 1.0, seconds=20_000, interval_s=interval_s)
    heats, cools = 1 - exp(-interval_s / 420), 1 - exp(-interval_s / 1500)
    motor, sump, runs, starts = 25.0, 0.5, False, 0.0
    for time, weekday, hour, _ in moments:
        use = 1 + 0.35 * daily(hour, warmest=13) + (0.15 if weekday < 5 and 7 <= hour < 18 else 0.0)
        coming = max(0.15, use * exp(inflow.next())) * interval_s / 60 / filling
        sump += coming - (ratio * interval_s / 60 / filling if runs else 0.0)
        was, runs = runs, sump > 0.15 if runs else sump > high
        starts = 1.0 if runs and not was else 0.4 * starts
        ambient = 16 + 2 * daily(hour) + air.next()
        motor += (ambient + (warm if runs else 0.0) - motor) * (heats if runs else cools)
        current = full * (1 + 0.06 * (0.6 - sump) + 0.8 * starts * rng.random()) + rng.gauss(0, 0.15) if runs else 0.0
        vibration = hum * exp(shake.next()) if runs else abs(rng.gauss(0.04, 0.015))
        yield State(time, runs, (motor + rng.gauss(0, 0.2), vibration, current))


def seasonal(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a chiller of an office and hall: weather fronts, days and weeks, and a spring that gets warmer."""
    spring, base, loss = rng.uniform(0.18, 0.3), rng.uniform(6, 10), rng.uniform(0.9, 1.1)
    front = Wander(rng, 2.8, seconds=150_000, interval_s=interval_s)
    breeze = Wander(rng, 0.5, seconds=2400, interval_s=interval_s)
    damp = Wander(rng, 6.0, seconds=40_000, interval_s=interval_s)
    people = Wander(rng, 0.06, seconds=3600, interval_s=interval_s)
    shake = Wander(rng, 0.08, seconds=120, interval_s=interval_s)
    control = Wander(rng, 0.12, seconds=400, interval_s=interval_s)
    quick, slow = 1 - exp(-interval_s / 600), 1 - exp(-interval_s / 2400)
    cold, condenser = 0.4, 25.0
    for time, weekday, hour, day in moments:
        clouds = front.next()
        outside = base + spring * day + clouds + (4.5 - 0.4 * clouds) * daily(hour) + breeze.next()
        humidity = min(99.0, max(20.0, 68 - 2 * clouds - 14 * daily(hour) + damp.next()))
        at_work = 1.0 if weekday < 5 and 6.5 <= hour < 18.5 else 0.45 if weekday == 5 and 8 <= hour < 13 else 0.2
        wanted = 0.22 + 0.38 * at_work * (1 + people.next()) + 0.014 * max(0.0, outside - 4)
        cold += (wanted - cold) * slow
        wet = outside - (100 - humidity) * 0.06
        fan = min(100.0, max(25.0, 30 + 55 * cold + 1.6 * (wet - 8)))
        condenser += (wet + 13 + loss * 1500 * cold / (fan + 40) - condenser) * quick
        supply = 7 + control.next() + 0.6 * (cold - 0.5)
        power = 14 + 1.55 * cold * (condenser + 4) + rng.gauss(0, 0.5)
        values = (
            outside + rng.gauss(0, 0.1),
            humidity + rng.gauss(0, 0.5),
            supply + rng.gauss(0, 0.04),
            supply + 6.5 * cold + rng.gauss(0, 0.05),
            condenser + rng.gauss(0, 0.15),
            fan + rng.gauss(0, 0.3),
            power,
            (0.5 + fan / 55) * exp(shake.next()),
        )
        yield State(time, True, values)


def coarse(rng: Random, interval_s: int, moments: Iterator[Moment]) -> Iterator[State]:
    """Model a tunnel oven whose sensors have whole units and half steps; at night and on weekends it is off."""
    hot, hum, draw = rng.uniform(165, 195), rng.uniform(3.5, 5.0), rng.uniform(34, 44)
    shake = Wander(rng, 0.1, seconds=60, interval_s=interval_s)
    drift = Wander(rng, 1.0, seconds=3000, interval_s=interval_s)
    slow = 1 - exp(-interval_s / 1500)
    zone, lot_ends, belt, heats = 20.0, 0.0, 3.0, True
    for time, weekday, hour, _ in moments:
        runs = weekday < 5 and 5 <= hour < 23
        if runs and time >= lot_ends:
            lot_ends, belt = time + rng.uniform(1, 5) * HOUR, rng.choice((2.5, 3.0, 3.5))
        heats = zone < hot + (1.5 if heats else -1.5) + drift.next()
        goal = (hot + 60 if heats else hot - 60) if runs else 20 + 2 * daily(hour)
        zone += (goal - zone) * slow
        current = draw * (0.55 + 0.15 * belt) + rng.gauss(0, 0.5) if runs else 0.0
        vibration = hum * (0.7 + 0.1 * belt) * exp(shake.next()) if runs else 0.0
        yield State(
            time, runs, (zone + rng.gauss(0, 0.4), vibration, belt + rng.gauss(0, 0.1) if runs else 0.0, current)
        )


def _offset(amount: float) -> Callable[[Trouble], float]:
    return lambda trouble: trouble.value + amount


def _ramp(an_hour: float) -> Callable[[Trouble], float]:
    return lambda trouble: trouble.value + an_hour * trouble.hours


def _grow(a_day: float) -> Callable[[Trouble], float]:
    return lambda trouble: trouble.value * (1 + a_day * trouble.hours / 24)


def _times(factor: float) -> Callable[[Trouble], float]:
    return lambda trouble: trouble.value * factor


def _unrest(spread: float) -> Callable[[Trouble], float]:
    return lambda trouble: trouble.value + (trouble.rng.gauss(0, spread) if trouble.works else 0.0)


def _stuck(trouble: Trouble) -> float:
    return trouble.memory.setdefault("stuck", trouble.value)


def _clipped(trouble: Trouble) -> float:
    return min(trouble.value, trouble.usual)


def _silent(_: Trouble) -> None:
    return None


def machine_faults(
    *, heat: str, wear: str, duty: str, power: str, offset: float, an_hour: float, unrest: float
) -> tuple[Fault, ...]:
    """List the ten faults of a machine.

    Args:
        heat: metric of a temperature, whose sensor is swapped for one that reads `offset` more, gets stuck or is
            unplugged, and which rises by `an_hour` where cooling fails.
        wear: metric of what grows when a bearing wears.
        duty: metric of what the machine does; it becomes unsteady by `unrest`, and its transmitter saturates.
        power: metric of what that costs.
        offset: in the metric's unit, as `an_hour` and `unrest`.
        an_hour: rise where cooling fails.
        unrest: standard deviation of what is added.
    """
    return (
        Fault(name="sensor swapped", metric=heat, hours=120, change=_offset(offset)),
        Fault(name="cooling fails", metric=heat, hours=3, change=_ramp(an_hour)),
        Fault(name="stuck", metric=heat, hours=4, change=_stuck),
        Fault(name="bearing wears, 9 % a day", metric=wear, hours=144, change=_grow(0.09)),
        Fault(name="twice as much", metric=wear, hours=1, change=_times(2.0)),
        Fault(name="spike of a minute, four times", metric=wear, hours=1 / 60, change=_times(4.0)),
        Fault(name="unrest", metric=duty, hours=8, change=_unrest(unrest)),
        Fault(name="efficiency lost, 20 %", metric=power, hours=8, change=_times(1.2), is_of_pair=True),
        Fault(name="clipped at its usual value", metric=duty, hours=12, change=_clipped),
        Fault(name="silent", metric=heat, hours=6, change=_silent),
    )


MACHINES = (
    Way(
        name="steady",
        interval_s=10,
        work=steady,
        sensors=(
            Sensor(name="casing_temperature", unit="celsius", minimum=-20, maximum=140, per_unit=10),
            Sensor(name="vibration", unit="mm/s", maximum=40),
            Sensor(name="pressure", unit="bar", minimum=-5, maximum=60),
            Sensor(name="power", unit="kW", minimum=-5, maximum=80),
        ),
        faults=machine_faults(
            heat="casing_temperature",
            wear="vibration",
            duty="pressure",
            power="power",
            offset=4.0,
            an_hour=6.0,
            unrest=0.8,
        ),
    ),
    Way(
        name="shifts",
        interval_s=15,
        work=shifts,
        sensors=(
            Sensor(name="oil_temperature", unit="celsius", minimum=-20, maximum=140, per_unit=10),
            Sensor(name="frame_vibration", unit="mm/s", maximum=40),
            Sensor(name="hydraulic_pressure", unit="bar", minimum=-5, maximum=600, per_unit=10),
            Sensor(name="motor_power", unit="kW", minimum=-5, maximum=250, per_unit=10),
            Sensor(name="stroke_rate", unit="1/min", minimum=-1, maximum=60, per_unit=10),
        ),
        faults=machine_faults(
            heat="oil_temperature",
            wear="frame_vibration",
            duty="hydraulic_pressure",
            power="motor_power",
            offset=5.0,
            an_hour=8.0,
            unrest=30.0,
        ),
    ),
    Way(
        name="load",
        interval_s=5,
        work=load,
        sensors=(
            Sensor(name="oil_temperature", unit="celsius", minimum=-20, maximum=160, per_unit=10),
            Sensor(name="vibration_rms", unit="mm/s", maximum=40),
            Sensor(name="line_pressure", unit="bar", minimum=-1, maximum=16),
            Sensor(name="power", unit="kW", minimum=-5, maximum=250, per_unit=10),
        ),
        faults=machine_faults(
            heat="oil_temperature",
            wear="vibration_rms",
            duty="line_pressure",
            power="power",
            offset=5.0,
            an_hour=8.0,
            unrest=0.15,
        ),
    ),
    Way(
        name="recipe",
        interval_s=20,
        work=recipe,
        sensors=(
            Sensor(name="product_temperature", unit="celsius", minimum=-20, maximum=200, per_unit=10),
            Sensor(name="gearbox_vibration", unit="mm/s", maximum=40),
            Sensor(name="vessel_pressure", unit="bar", minimum=-2, maximum=20),
            Sensor(name="agitator_power", unit="kW", minimum=-5, maximum=120),
            Sensor(name="agitator_speed", unit="1/min", minimum=-10, maximum=400, per_unit=10),
            Sensor(name="level", unit="%", minimum=-5, maximum=110, per_unit=10),
        ),
        faults=machine_faults(
            heat="product_temperature",
            wear="gearbox_vibration",
            duty="vessel_pressure",
            power="agitator_power",
            offset=5.0,
            an_hour=8.0,
            unrest=0.3,
        ),
    ),
    Way(
        name="intermittent",
        interval_s=10,
        work=intermittent,
        sensors=(
            Sensor(name="motor_temperature", unit="celsius", minimum=-30, maximum=180, per_unit=10),
            Sensor(name="vibration", unit="mm/s", maximum=40),
            Sensor(name="motor_current", unit="A", minimum=-1, maximum=120, per_unit=10),
        ),
        faults=machine_faults(
            heat="motor_temperature",
            wear="vibration",
            duty="motor_current",
            power="motor_current",
            offset=6.0,
            an_hour=10.0,
            unrest=3.0,
        ),
    ),
    Way(
        name="seasonal",
        interval_s=60,
        work=seasonal,
        sensors=(
            Sensor(name="outside_temperature", unit="celsius", minimum=-60, maximum=70, per_unit=10),
            Sensor(name="humidity", unit="%", minimum=-5, maximum=105, per_unit=1),
            Sensor(name="supply_temperature", unit="celsius", minimum=-20, maximum=60),
            Sensor(name="return_temperature", unit="celsius", minimum=-20, maximum=60),
            Sensor(name="condenser_temperature", unit="celsius", minimum=-40, maximum=120, per_unit=10),
            Sensor(name="fan_speed", unit="%", minimum=-5, maximum=110, per_unit=10),
            Sensor(name="compressor_power", unit="kW", minimum=-5, maximum=300, per_unit=10),
            Sensor(name="fan_vibration", unit="mm/s", maximum=40),
        ),
        faults=machine_faults(
            heat="condenser_temperature",
            wear="fan_vibration",
            duty="return_temperature",
            power="compressor_power",
            offset=4.0,
            an_hour=6.0,
            unrest=0.8,
        ),
    ),
    Way(
        name="coarse",
        interval_s=30,
        work=coarse,
        sensors=(
            Sensor(name="zone_temperature", unit="celsius", minimum=-50, maximum=400, per_unit=1),
            Sensor(name="fan_vibration", unit="mm/s", maximum=40, per_unit=2),
            Sensor(name="belt_speed", unit="m/min", minimum=-1, maximum=20, per_unit=2),
            Sensor(name="current", unit="A", minimum=-1, maximum=250, per_unit=1),
        ),
        faults=machine_faults(
            heat="zone_temperature",
            wear="fan_vibration",
            duty="belt_speed",
            power="current",
            offset=7.0,
            an_hour=10.0,
            unrest=0.6,
        ),
    ),
)
"""The ways to work, in the order of the tables."""

NOISE_INTERVAL_S = 60
SHIFT_HOURS = 48.0
SIGMAS = (2, 3, 5)
"""Height of the level shifts of the noise studies, in standard deviations of the noise; how long they last."""


def _noise(draw: Callable[[Random], Callable[[], float]]) -> Callable[[Random, int, Iterator[Moment]], Iterator[State]]:
    def work(rng: Random, _: int, moments: Iterator[Moment]) -> Iterator[State]:
        value = draw(rng)
        for moment in moments:
            yield State(moment.time, True, (value(),))

    return work


def _ar1(rng: Random) -> Callable[[], float]:
    wander = Wander(rng, 1.0, seconds=1200, interval_s=NOISE_INTERVAL_S)
    return lambda: 50 + wander.next()


def _noise_way(name: str, draw: Callable[[Random], Callable[[], float]], *, sigma: float, per_unit: int = 100) -> Way:
    return Way(
        name=name,
        interval_s=NOISE_INTERVAL_S,
        work=_noise(draw),
        sensors=(Sensor(name="level", unit="mm", per_unit=per_unit),),
        faults=tuple(
            Fault(name=f"{count} sigma", metric="level", hours=SHIFT_HOURS, change=_offset(count * sigma))
            for count in SIGMAS
        ),
    )


_LOG_SPREAD = 0.4

NOISE = (
    _noise_way("white", lambda rng: lambda: rng.gauss(50, 1), sigma=1.0),
    _noise_way("ar1", _ar1, sigma=1.0),
    _noise_way(
        "log-normal",
        lambda rng: lambda: 10 * rng.lognormvariate(0, _LOG_SPREAD),
        sigma=10 * sqrt((exp(_LOG_SPREAD**2) - 1) * exp(_LOG_SPREAD**2)),
    ),
    _noise_way("quantised", lambda rng: lambda: rng.gauss(50.3, 0.8), sigma=0.8, per_unit=1),
)
"""One metric of noise, a reading a minute: without memory, with one of 20 minutes, skewed, and in whole units."""

WAYS: Mapping[str, Way] = {way.name: way for way in (*MACHINES, *NOISE)}


class FloodReading(NamedTuple):
    """A reading of one machine of a plant: its number, time (ms) and values by metric."""

    machine: int
    time: int
    values: dict[str, float]


def power_failure(
    *,
    machines: int = 500,
    days: float = 8.0,
    minutes: float = 20.0,
    interval_s: int = 60,
    seed: int = 1,
) -> Iterator[FloodReading]:
    """Yield the readings of a plant whose machines lose power at once, and come back, in order of time.

    The machines are pumps that differ. Gateway and sensors have batteries, so they report on. After `days` of ordinary
    work all motors stop within seconds: power, pressure and vibration fall to nothing, casings cool. After `minutes`
    they start one by one, within ten minutes. The readings end three hours after the failure.

    Args:
        machines: how many.
        days: before the failure.
        minutes: without power.
        interval_s: between readings of a machine; it divides an hour.
        seed: determines all.
    """
    way = MACHINES[0]
    fails = START + int(days * DAY)
    dice = Random(f"{seed}:flood")  # noqa: S311 - the same plant for the same seed
    offsets = [dice.randrange(interval_s * 1000) for _ in range(machines)]
    starts = [fails + (minutes + dice.uniform(0, 10)) * MINUTE for _ in range(machines)]
    cooled = [0.0] * machines
    calendars = [calendar(interval_s, int(days) + 2) for _ in range(machines)]
    working = [
        steady(Random(f"{seed}:flood:{number}"), interval_s, calendars[number])  # noqa: S311
        for number in range(machines)
    ]
    order = sorted(range(machines), key=offsets.__getitem__)
    cooling, warming = 1 - exp(-interval_s / 3600), 1 - exp(-interval_s / 1300)
    while True:
        for number in order:
            state = next(working[number])
            time = state.time + offsets[number]
            if time >= fails + 3 * HOUR:
                return
            casing, vibration, pressure, power = state.values
            if fails <= time < starts[number]:
                cooled[number] += (casing - 23 - cooled[number]) * cooling
                vibration, pressure, power = 0.0, max(0.0, dice.gauss(0.02, 0.02)), 0.0
            else:
                cooled[number] -= cooled[number] * warming
            yield FloodReading(number, time, way.read((casing - cooled[number], vibration, pressure, power)))
