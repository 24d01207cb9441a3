"""Turns a recorded series (CSV) into the samples of simulated things, and its labels into the truth."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.lib.specs import DeviceTypeSpec

_LABEL_COLUMNS = ("anomaly", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A recorded series: `rows` hold metric name → value; `anomalous` are the labelled rows' positions."""

    rows: tuple[dict[str, float], ...]
    anomalous: frozenset[int]

    def samples(self) -> Iterator[dict[str, float]]:
        """The rows, over and over."""
        while True:
            yield from self.rows


def read_recording(path: Path, device_type: DeviceTypeSpec, *, columns: Mapping[str, str]) -> Recording:
    """The CSV's values for the device type's metrics.

    `columns` maps metric name → CSV column; a column that bears a metric's name needs no mapping, and a file
    with one value column feeds the first metric. Separator `,` or `;`; a column `anomaly` or `label` marks
    anomalous rows with a non-zero number. Raises EnvironmentFault with the line of the first bad value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path} cannot be read: {error}", hint="give a UTF-8 CSV file with a header") from None
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if header.count(";") > header.count(",") else ",")
    names = [name for name in reader.fieldnames or [] if name]
    chosen = _choose(path, names, device_type, columns)
    label = next((name for name in names if name.lower() in _LABEL_COLUMNS), None)
    rows, anomalous = [], set()
    for position, row in enumerate(reader):
        rows.append({metric: _number(path, reader.line_num, column, row[column]) for metric, column in chosen.items()})
        if label and _number(path, reader.line_num, label, row[label]) != 0:
            anomalous.add(position)
    if not rows:
        raise OutcomeError(f"{path} holds no rows", hint="give a CSV file with a header and at least one row")
    return Recording(rows=tuple(rows), anomalous=frozenset(anomalous))


def _choose(path: Path, names: list[str], device_type: DeviceTypeSpec, columns: Mapping[str, str]) -> dict[str, str]:
    metrics = [metric.name for metric in device_type.metrics]
    unknown = [
        f"{metric}={column}" for metric, column in columns.items() if metric not in metrics or column not in names
    ]
    if unknown:
        raise EnvironmentFault(
            f"--column {unknown[0]} does not fit {path.name} and device type {device_type.id}",
            hint=f"metrics: {', '.join(metrics)}; columns: {', '.join(names)}",
        )
    chosen = {metric: metric for metric in metrics if metric in names} | dict(columns)
    values = [name for name in names[1:] if name.lower() not in (*_LABEL_COLUMNS, "changepoint")]
    if not chosen and len(values) == 1:
        chosen = {metrics[0]: values[0]}
    if not chosen:
        raise EnvironmentFault(
            f"no column of {path.name} is a metric of {device_type.id}",
            hint=f"say which, for instance --column {metrics[0]}={(values or names or ['COLUMN'])[0]}",
        )
    return chosen


def _number(path: Path, line: int, column: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise EnvironmentFault(
            f"{path}:{line}: column {column!r} holds {text!r}, not a finite number", hint="correct or remove the row"
        )
    return value
