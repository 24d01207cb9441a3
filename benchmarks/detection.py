"""Accuracy on public series: NAB for `univariate` and for `machine`, the default, SKAB for `multichannel`.

`--data FOLDER` has, or receives by download, the files of `detection_data.sha256`: 31 of 58 series of the Numenta
Anomaly Benchmark (https://github.com/numenta/NAB, MIT) with their labels, and 17 of 34 runs of the Skoltech Anomaly
Benchmark (https://github.com/waico/SKAB, GPL-3.0). Each file is checked by its SHA-256; this repository has none.

NAB's rules (v1.1; https://arxiv.org/abs/1510.03336): alarms in the first 15 % of a series, at most
750 rows, do not count. In a labelled window the first alarm counts, from 1 at its left edge to 0 at its right. A
missed window costs 1, an alarm outside a window up to 0.11 (0.22 in the profile of few false positives), more the
further it is behind one. A silent detector has 0 points, a perfect one 100. SKAB: F1 and rates of false and missed
alarms over rows, without the first 400 of each run; and of false ones over the rows before the first fault alone.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp
from pathlib import Path
from typing import Any, Protocol
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.result import Result, peak_memory_mb
from fleet_iot.sensor_processor.detection import UNIVARIATE_THRESHOLD, machine, multichannel, univariate

SOURCES = {
    "nab/": "https://raw.githubusercontent.com/numenta/NAB/v1.1/",
    "skab/": "https://raw.githubusercontent.com/waico/SKAB/master/",
}
"""The source of the files of a folder."""

DIGESTS = Path(__file__).with_name("detection_data.sha256")
LABELS = "nab/labels/combined_windows.json"
LABELS_SHA256 = "8d12ffaba719ce89320ab74a30f09eb7dce5a53d3b3c1db9e73958bd2d1cc23f"
"""Of the windows of the series used here, as compact JSON with sorted keys: the file has those of all series."""

FALSE_ALARM_COST, FALSE_ALARM_COST_STRICT = 0.11, 0.22
BASELINE_ROWS = 400


class DataError(Exception):
    """A file is missing and cannot be downloaded, or is not the one that the figures were measured on."""


class Univariate(Protocol):
    """A detector of one series."""

    def update(self, value: float) -> float:
        """Return the score of the next value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series, its times (s), and its labelled windows, as first and last row."""

    values: Sequence[float]
    times: Sequence[float]
    windows: Sequence[tuple[int, int]]


def run(rounds: int, *, data: Path) -> Result:
    """Score both detectors; `ours` are NAB's points at the threshold that ships. Raises DataError."""
    fetch(data)
    series = read_nab(data)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        alarms = [[score >= UNIVARIATE_THRESHOLD for score in scores(univariate(), each.values)] for each in series]
        best = min(best, time.process_time() - start)
    return Result(
        benchmark="detection",
        unit="NAB points",
        ours=nab_points(series, alarms),
        peers={},
        limit=100.0,
        peak_memory_mb=peak_memory_mb(),
        details={
            "nab_series": len(series),
            "threshold": UNIVARIATE_THRESHOLD,
            "nab_few_false_positives": round(nab_points(series, alarms, false_cost=FALSE_ALARM_COST_STRICT), 1),
            "outside_windows_a_week": outside_windows_a_week(series, alarms),
            **machine_figures(series),
            "cpu_us_a_reading": round(best / sum(len(each.values) for each in series) * 1e6, 2),
            **skab_rates(read_skab(data), multichannel),
        },
    )


def machine_figures(series: Sequence[Series]) -> dict[str, float]:
    """Score the begins and escalations of the machine detector, at a budget of one false alarm a month."""
    alarms = [machine_alarms(each) for each in series]
    return {
        "machine_nab_points": round(nab_points(series, alarms), 1),
        "machine_nab_few_false_positives": round(nab_points(series, alarms, false_cost=FALSE_ALARM_COST_STRICT), 1),
        "machine_windows_found": sum(
            any(rows[first : last + 1])
            for each, rows in zip(series, alarms, strict=True)
            for first, last in each.windows
        ),
        "windows": sum(len(each.windows) for each in series),
        "machine_outside_windows_a_week": outside_windows_a_week(series, alarms),
    }


def outside_windows_a_week(series: Sequence[Series], alarms: Sequence[Sequence[bool]]) -> float:
    """Count the alarms in a week of a series that are in no labelled window."""
    outside = sum(
        alarmed and not any(first <= row <= last for first, last in each.windows)
        for each, rows in zip(series, alarms, strict=True)
        for row, alarmed in enumerate(rows)
    )
    return round(outside / sum(each.times[-1] - each.times[0] for each in series) * 7 * 86_400, 2)


def machine_alarms(series: Series) -> list[bool]:
    """Return at which rows the machine detector alarms that watches a series as its only metric."""
    detectors = machine({"value": {"unit": "", "min": None, "max": None}})
    return [
        any(kind != "end" for kind, _, _ in detectors.learn(int(time_s * 1000), row, {"value": value}))
        for row, (time_s, value) in enumerate(zip(series.times, series.values, strict=True))
    ]


def fetch(folder: Path) -> None:
    """Download the files that `folder` lacks, and check all. Raises DataError."""
    for line in DIGESTS.read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        if hashlib.sha256(_content(folder, name)).hexdigest() != digest:
            raise DataError(f"{folder / name} differs from its SHA-256 in {DIGESTS.name}: delete it to download it")
    if hashlib.sha256(json.dumps(_windows(folder), separators=(",", ":"), sort_keys=True).encode()).hexdigest() != (
        LABELS_SHA256
    ):
        raise DataError(f"{folder / LABELS} has other windows than those that the figures were measured on")


def _content(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.exists():
        prefix = next(prefix for prefix in SOURCES if name.startswith(prefix))
        url = SOURCES[prefix] + name.removeprefix(prefix)
        try:
            with urlopen(url, timeout=30) as response:  # noqa: S310 - https, from SOURCES
                content = response.read()
        except (URLError, TimeoutError) as error:
            raise DataError(f"{path} is missing and {url} cannot be downloaded ({error}): copy it there") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path.read_bytes()


def _names(prefix: str) -> list[str]:
    names = [line.split(maxsplit=1)[1] for line in DIGESTS.read_text().splitlines()]
    return [name for name in names if name.startswith(prefix)]


def _windows(folder: Path) -> dict[str, list[list[str]]]:
    windows = json.loads(_content(folder, LABELS))
    return {name: windows[name] for name in (each.removeprefix("nab/data/") for each in _names("nab/"))}


def read_nab(folder: Path) -> list[Series]:
    """Read the series of NAB with their windows."""
    found = []
    for name, windows in _windows(folder).items():
        with (folder / "nab/data" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        times = [_seconds(row["timestamp"]) for row in rows]
        found.append(
            Series(
                values=[float(row["value"]) for row in rows],
                times=times,
                windows=[(times.index(_seconds(first)), times.index(_seconds(last))) for first, last in windows],
            )
        )
    return found


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.partition(".")[0]).replace(tzinfo=UTC).timestamp()


def scores(detector: Univariate, values: Iterable[float]) -> list[float]:
    """Feed a series to a detector; return the score of each value."""
    return [detector.update(value) for value in values]


def nab_points(
    series: Sequence[Series], alarms: Sequence[Sequence[bool]], *, false_cost: float = FALSE_ALARM_COST
) -> float:
    """Score alarms by row on these series, from 0 (silent) to 100 (perfect)."""
    gained = 0.0
    for each, alarmed in zip(series, alarms, strict=True):
        begin = min(int(0.15 * len(each.values)), 750)
        rows = [row for row in range(begin, len(alarmed)) if alarmed[row]]
        for first, last in each.windows:
            hit = next((row for row in rows if first <= row <= last), None)
            if hit is not None:
                gained += 1 + _weight(-(last - hit + 1) / (last - first + 1)) / _weight(-1.0)
        for row in rows:
            if any(first <= row <= last for first, last in each.windows):
                continue
            before = [window for window in each.windows if window[1] < row]
            behind = (row - before[-1][1]) / (before[-1][1] - before[-1][0]) if before else float("inf")
            gained += false_cost * _weight(behind)
    # A hit gains what a miss would have cost, 1, and its weight, at most 1.
    return 100 * gained / (2 * sum(len(each.windows) for each in series))


def _weight(position: float) -> float:
    """Weight by position relative to a window's width: 0 at its right edge, -1 far behind it."""
    return -1.0 if position > 3.0 else 2 / (1 + exp(5 * position)) - 1


def read_skab(folder: Path) -> list[tuple[list[list[float]], list[bool]]]:
    """Read the runs of SKAB: rows of eight channels, and which rows are anomalous."""
    runs = []
    for name in _names("skab/"):
        with (folder / name).open(newline="") as file:
            rows = list(csv.reader(file, delimiter=";"))[1:]
        runs.append(([[float(cell) for cell in row[1:9]] for row in rows], [float(row[9]) > 0 for row in rows]))
    return runs


def skab_rates(
    runs: Sequence[tuple[Sequence[Sequence[float]], Sequence[bool]]], factory: Callable[[int], Any]
) -> dict[str, float]:
    """Score a detector's state by row: F1, and the percentages of false and of missed alarms."""
    pairs: list[tuple[bool, bool]] = []
    before: list[bool] = []
    for rows, labels in runs:
        detector = factory(len(rows[0]))
        states = [bool(detector.update(row)) for row in rows]
        pairs += zip(labels[BASELINE_ROWS:], states[BASELINE_ROWS:], strict=True)
        before += states[BASELINE_ROWS : labels.index(True) if True in labels else None]
    hits, false = pairs.count((True, True)), pairs.count((False, True))
    missed, quiet = pairs.count((True, False)), pairs.count((False, False))
    return {
        "skab_runs": len(runs),
        "skab_f1": round(2 * hits / max(2 * hits + false + missed, 1), 3),
        "skab_false_alarms_percent": round(100 * false / max(false + quiet, 1), 1),
        "skab_false_alarms_before_faults_percent": round(100 * sum(before) / max(len(before), 1), 1),
        "skab_missed_alarms_percent": round(100 * missed / max(hits + missed, 1), 1),
    }
