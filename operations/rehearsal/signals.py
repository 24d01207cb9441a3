"""Build the payloads of simulated devices: seeded signals, recorded series and poison."""

from __future__ import annotations

import gzip
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.lib.specs import DeviceTypeSpec, MetricSpec
from fleet_iot.operations.telemetry.backtest import LABELS, OTHERS, column_names, read_history
from fleet_iot.sensor_processor.detection.machine.core import LEARN_DAYS

# A metric works in a band in the middle of its limits. All follow the machine's one duty cycle, up or down, each with
# autocorrelated noise of its own. Metrics whose names end like a counter's only rise. The same seed and thing give the
# same samples.

_COUNTER_ENDINGS = ("_count", "_total", "_hours")
_LEAST_BAND, _BAND = 0.06, 0.10
"""Half the working band's width, as a share of the span between the limits."""
_NOISE = 0.012
_NOISE_MEMORY = 0.6
_UNREST = 0.3

EXCURSION, UNREST, STUCK = "excursion", "unrest", "stuck"
"""Kinds of anomalies: another level, swings around the usual one, a sensor that repeats its last value."""

FAULTS = (EXCURSION, STUCK, UNREST, None)
"""Faults of histories, in turn: every fourth machine has none."""

DAY_S = 86_400
HISTORY_S = 7.9 * DAY_S
"""Seconds of a history: what is more than eight days old is refused."""
BURST, BURST_INTERVAL_S, BURSTS_S = 6, 10, 600
"""Readings of a burst, seconds between two of them, and from one burst to the next: a minute of every ten is enough to
know a machine by, and a tenth of the items."""
HISTORY_SAMPLES = round(HISTORY_S / BURSTS_S) * BURST
FAULT_AFTER_S, FAULT_S = (3_600.0, 7_200.0), 10_800
"""Seconds from the moment a machine is known to its fault, and of the fault: its end is hours later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One anomaly: `metric` is not as usual for the samples `first` to `last` (inclusive), for `detector` to find."""

    metric: str
    detector: str
    first: int
    last: int
    kind: str = EXCURSION

    @property
    def within_limits(self) -> bool:
        """Return whether no limit is passed."""
        return self.detector != "limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    low: float
    span: float
    digits: int
    centre: float
    gain: float
    excursion: float
    is_counter: bool


def is_counter(metric: MetricSpec) -> bool:
    """Return whether the metric only counts up, and so cannot show an excursion."""
    return metric.name.endswith(_COUNTER_ENDINGS)


def limits_of(metric: MetricSpec) -> tuple[float, float]:
    """Return low and high limit in the metric's unit; an open side is 0, or a span of 100 away."""
    low = metric.minimum if metric.minimum is not None else min(0.0, (metric.maximum or 0.0) - 100.0)
    if metric.minimum is None and (metric.maximum or 0.0) > 0:
        low = 0.0
    high = metric.maximum if metric.maximum is not None else low + 100.0
    return low, high


def plan_injection(
    device_type: DeviceTypeSpec, *, rng: random.Random, samples: int, warm_up: int, within_limits: bool
) -> Injection | None:
    """Plan an anomaly of a run; None where it is too short for one.

    One within the limits needs a metric with the detector context, and starts after that one's warm-up; where there is
    none, and without `within_limits`, it is a breach, which needs any metric with a limit.
    """
    metrics = [metric for metric in device_type.metrics if not is_counter(metric)]
    adaptive = [metric for metric in metrics if metric.detector == "context"]
    within_limits = within_limits and bool(adaptive)
    length = rng.randint(5, 8)
    latest = samples - length - 1
    earliest = warm_up if within_limits else min(warm_up, latest)
    if not metrics or latest < earliest or latest < 1:
        return None
    first = rng.randint(earliest, latest)
    return Injection(
        metric=rng.choice(adaptive if within_limits else metrics).name,
        detector="context" if within_limits else "limits",
        first=first,
        last=first + length - 1,
    )


MOST_METRICS = 8
"""Metrics that a history has: each reading has to fit a hundred times into a message."""


def with_history(device_type: DeviceTypeSpec) -> DeviceTypeSpec | None:
    """Return the device type with the metrics of its history; None where no detector learns a machine from them."""
    learned = [metric for metric in device_type.metrics if metric.detector == "machine" and not is_counter(metric)]
    if not learned:
        return None
    kept = [*learned, *(metric for metric in device_type.metrics if metric not in learned)][:MOST_METRICS]
    metrics = tuple(metric for metric in device_type.metrics if metric in kept)
    return replace(device_type, sample_interval_s=BURST_INTERVAL_S, metrics=metrics)


def plan_fault(device_type: DeviceTypeSpec, *, rng: random.Random, kind: str) -> Injection:
    """Plan a fault in the history of a machine, within its limits, some hours after it is known."""
    metrics = [metric for metric in device_type.metrics if metric.detector == "machine" and not is_counter(metric)]
    first = round((LEARN_DAYS * DAY_S + rng.uniform(*FAULT_AFTER_S)) / BURSTS_S) * BURST
    last = first + FAULT_S // BURSTS_S * BURST - 1
    return Injection(metric=rng.choice(metrics).name, detector="machine", first=first, last=last, kind=kind)


def samples_of(
    device_type: DeviceTypeSpec, *, rng: random.Random, injection: Injection | None
) -> Iterator[dict[str, float]]:
    """Generate samples without end: metric name → value in its unit."""
    period, phase = rng.uniform(14.0, 30.0), rng.uniform(0.0, 2 * math.pi)
    shapes = {metric.name: _shape(metric, rng, injection) for metric in device_type.metrics}
    noise = dict.fromkeys(shapes, 0.0)
    counts = {name: float(rng.randint(0, 5_000)) for name in shapes}
    values: dict[str, float] = {}
    index = 0
    while True:
        duty = math.sin(2 * math.pi * index / period + phase)
        former, values = values, {}
        for name, shape in shapes.items():
            noise[name] = _NOISE_MEMORY * noise[name] + rng.gauss(0.0, _NOISE)
            share = shape.centre + shape.gain * duty + noise[name]
            kind = None
            if injection is not None and injection.metric == name and injection.first <= index <= injection.last:
                kind = injection.kind
            if shape.is_counter:
                counts[name] += rng.randint(0, 2)
                values[name] = counts[name]
                continue
            if kind == STUCK:
                values[name] = former[name]
                continue
            if kind == UNREST:
                share += rng.uniform(-_UNREST, _UNREST)
            share = shape.excursion + 0.2 * noise[name] if kind == EXCURSION else min(0.85, max(0.15, share))
            values[name] = round(shape.low + shape.span * share, shape.digits)
        yield values
        index += 1


def _shape(metric: MetricSpec, rng: random.Random, injection: Injection | None) -> _Shape:
    low, high = limits_of(metric)
    within = injection is None or injection.within_limits
    excursion = rng.uniform(0.90, 0.94) if within else rng.uniform(1.08, 1.25)
    if metric.maximum is None:
        excursion = 1.0 - excursion  # only its lower limit exists, so it leaves downwards
    return _Shape(
        low=low,
        span=high - low,
        digits=min(9, max(3, 4 - math.floor(math.log10(high - low)))),
        centre=rng.uniform(0.44, 0.54),
        gain=rng.choice((-1, 1)) * rng.uniform(_LEAST_BAND, _BAND),
        excursion=excursion,
        is_counter=is_counter(metric),
    )


# The local broker parses every payload recursively and drops the connection at about 1,000 levels.
_DEPTH = 400


def _metrics(time_ms: int, body: str) -> bytes:
    return f'{{"time": {time_ms}, "metrics": {body}}}'.encode()


KINDS: dict[str, Callable[[int], bytes]] = {
    "empty object": lambda _: b"{}",
    "broken utf-8": lambda time_ms: b'{"time": %d, "metrics": {"temperature\xff\xfe": 1}}' % time_ms,
    "not a number": lambda time_ms: _metrics(time_ms, '{"temperature": NaN}'),
    "infinity": lambda time_ms: _metrics(time_ms, '{"temperature": Infinity}'),
    "overflow": lambda time_ms: _metrics(time_ms, '{"temperature": 1e400}'),
    "text for a number": lambda time_ms: _metrics(time_ms, '{"temperature": "71.2"}'),
    "no metrics": lambda time_ms: json.dumps({"time": time_ms, "sequence": 1}).encode(),
    "no time": lambda _: b'{"sequence": 1, "metrics": {"temperature": 71.2}}',
    "truncated": lambda time_ms: b'{"time": %d, "metrics": {"temper' % time_ms,
    "deep nesting": lambda time_ms: _metrics(time_ms, "[" * _DEPTH + "]" * _DEPTH),
    "gzip": lambda time_ms: gzip.compress(_metrics(time_ms, '{"temperature": 71.2}'), mtime=0),
    "far future": lambda time_ms: _metrics(time_ms + 86_400_000, '{"temperature": 71.2}'),
    "plain text": lambda time_ms: b"ERR sensor bus timeout at %d" % time_ms,
}
"""Kind → payload, by the device's clock in ms since the epoch; the processor refuses each for any device type."""


def poison_payload(number: int, time_ms: int) -> tuple[str, bytes]:
    """Return kind and bytes of the `number`-th poison message of a run."""
    kinds = list(KINDS)
    kind = kinds[number % len(kinds)]
    return kind, KINDS[kind](time_ms)


def read_recording(
    path: Path, device_type: DeviceTypeSpec, *, columns: Mapping[str, str]
) -> tuple[Mapping[str, float], ...]:
    """Read the rows of a recorded series (CSV), as values of the device type's metrics.

    Args:
        path: The file.
        device_type: Whose metrics the columns are.
        columns: Metric name → column. A column with a metric's name needs none, and a file with one column of values
            feeds the first metric.

    Raises:
        EnvironmentFault: The file cannot be read, has no such column, or a cell is no number; names its line.
    """
    names, metrics = column_names(path), [metric.name for metric in device_type.metrics]
    values = [name for name in names[1:] if name.lower() not in (*LABELS, *OTHERS)]
    chosen = {metric: metric for metric in metrics if metric in names}
    chosen |= {metric: column for metric, column in columns.items() if metric in metrics}
    if not chosen and len(values) == 1:
        chosen = {metrics[0]: values[0]}
    if not chosen:
        raise EnvironmentFault(
            f"no column of {path.name} is a metric of {device_type.id}",
            hint=f"say which, for instance --column {metrics[0]}={(values or names or ['COLUMN'])[0]}",
        )
    history = read_history(path, columns=chosen, interval_s=1.0, is_timed=False)
    rows = tuple(row for row in history.rows if row)
    if not rows:
        raise OutcomeError(f"{path} has no values", hint="give a CSV file with a header and at least one number")
    return rows
