"""Run the processor's detectors over a recorded series (CSV)."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.sensor_processor.detection import BEGIN, END, DeviceDetectors, Finding
from fleet_iot.sensor_processor.ingest.catalogue import DETECTORS, Metric

TIMES = ("time", "timestamp", "datetime", "date")
LABELS = ("anomaly", "label")
OTHERS = ("changepoint",)
"""Columns that are no metrics, in upper or lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A recorded series.

    `times` are in ms; `rows` map metric name → value, without the metrics that a row lacks; `labelled` are positions of
    rows that the file marks as anomalies.
    """

    times: tuple[int, ...]
    rows: tuple[Mapping[str, float], ...]
    labelled: frozenset[int]

    @property
    def metrics(self) -> list[str]:
        """Return the metrics that any row has, in the order of the columns."""
        return list(dict.fromkeys(name for row in self.rows for name in row))


def column_names(path: Path) -> list[str]:
    """Read the names of the columns of a CSV file."""
    return [name for name in _open(path).fieldnames or () if name]


def read_history(path: Path, *, columns: Mapping[str, str], interval_s: float, is_timed: bool = True) -> History:
    """Read a recorded series from a CSV file with `,` or `;`, in the order of its times.

    Args:
        path: The file.
        columns: Metric name → column; empty where every column of numbers is a metric.
        interval_s: Seconds between two rows of a file without a column of times.
        is_timed: Whether to read a column of times where there is one.

    Raises:
        EnvironmentFault: The file cannot be read, or a cell is no number or time; names its line.
        OutcomeError: The file has no rows.
    """
    reader = _open(path)
    names = [name for name in reader.fieldnames or () if name]
    timed = next((name for name in names if is_timed and name.lower() in TIMES), None)
    label = next((name for name in names if name.lower() in LABELS), None)
    chosen = _columns(path, names, columns)
    taken: list[tuple[int, dict[str, float], bool]] = []
    for position, cells in enumerate(reader):
        where = f"{path.name}:{reader.line_num}"
        time = _time(where, cells[timed]) if timed else int(position * interval_s * 1000)
        row = {metric: _number(where, column, cells[column]) for metric, column in chosen.items() if cells.get(column)}
        taken.append((time, row, bool(label and cells[label] and _number(where, label, cells[label]))))
    if not taken:
        raise OutcomeError(f"{path} has no rows", hint="give a CSV file with a header and at least one row")
    taken.sort(key=lambda row: row[0])
    return History(
        times=tuple(time for time, _, _ in taken),
        rows=tuple(row for _, row, _ in taken),
        labelled=frozenset(place for place, (_, _, is_labelled) in enumerate(taken) if is_labelled),
    )


def _open(path: Path) -> csv.DictReader[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path} cannot be read: {error}", hint="give a UTF-8 CSV file with a header") from None
    header = lines[0] if lines else ""
    return csv.DictReader(lines, delimiter=";" if header.count(";") > header.count(",") else ",")


def _columns(path: Path, names: list[str], columns: Mapping[str, str]) -> dict[str, str]:
    missing = [column for column in columns.values() if column not in names]
    if missing:
        raise EnvironmentFault(f"{path.name} has no column {missing[0]!r}", hint=f"columns: {', '.join(names)}")
    chosen = dict(columns) or {name: name for name in names if name.lower() not in (*TIMES, *LABELS, *OTHERS)}
    if not chosen:
        raise EnvironmentFault(f"{path.name} has no column of values", hint="say which: --column METRIC=COLUMN")
    return chosen


def _number(where: str, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise EnvironmentFault(f"{where}: {column} {text!r} is no number", hint="leave the cell empty, or correct it")
    return number


def _time(where: str, text: str) -> int:
    """Parse an ISO date and time (UTC without a zone), or seconds or milliseconds since 1970, into milliseconds."""
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise EnvironmentFault(
                f"{where}: {text!r} is no time", hint="write it as 2026-11-23T14:49:03, or in seconds since 1970"
            ) from None
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    return round(number if abs(number) > 1e11 else number * 1000)


DETECTOR_NAMES = tuple(sorted(DETECTORS))
DEFAULT = "context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An anomaly that starts at row `place`, `time` (ms), and ends at `ended` (ms), or None where it lasts to the end.

    `severity` is the highest of it; value, score and reason are those of its start.
    """

    place: int
    time: int
    metric: str
    detector: str
    value: float
    score: float
    reason: str
    severity: str
    ended: int | None = None


def metrics_for(history: History, device_type: DeviceTypeSpec | None, *, detector: str | None) -> dict[str, Metric]:
    """Return the history's metrics: those that the device type declares, or without one all, without limits."""
    if device_type is None:
        return {
            name: Metric(name=name, unit="", minimum=None, maximum=None, detector=detector or DEFAULT)
            for name in history.metrics
        }
    return {
        metric.name: Metric(**asdict(metric) | ({"detector": detector} if detector else {}))
        for metric in device_type.metrics
        if metric.name in history.metrics
    }


def backtest(history: History, metrics: Mapping[str, Metric]) -> list[Found]:
    """Run the detectors over the history, row by row, as if it arrived now."""
    detectors = DeviceDetectors()
    found: dict[tuple[str, str, int], Found] = {}
    for place, (time, row) in enumerate(zip(history.times, history.rows, strict=True)):
        for finding in detectors.learn((time, place), row, metrics=metrics):
            key = finding.metric, finding.detector + finding.mark, time if finding.began is None else finding.began
            if finding.kind == BEGIN:
                found[key] = _found(finding, place=place, time=time)
            elif key in found and finding.kind == END:
                found[key] = replace(found[key], ended=finding.ended)
            elif key in found:
                found[key] = replace(found[key], severity=finding.severity)
    return list(found.values())


def _found(finding: Finding, *, place: int, time: int) -> Found:
    return Found(
        place=place,
        time=time,
        metric=finding.metric,
        detector=finding.detector,
        value=finding.value,
        score=round(finding.score, 3),
        reason=finding.reason,
        severity=finding.severity,
    )
