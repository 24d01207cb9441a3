"""`fleet backtest`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click

from fleet_iot.generator.cli.options import environment_option
from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, RequestError
from fleet_iot.generator.filesystem import write_whole
from fleet_iot.generator.manifest.project import environment_file, find_project
from fleet_iot.generator.text import counted, table
from fleet_iot.lib.record.place import MANIFEST
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.operations.cli.options import PATH, columns_option, device_type_option, emit, json_option
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import build_folder, load_project
from fleet_iot.operations.telemetry.backtest import (
    DETECTOR_NAMES,
    Fault,
    History,
    image,
    metrics_for,
    moment,
    page,
    read_history,
)
from fleet_iot.operations.telemetry.judge import (
    BUDGETS,
    DAY_MS,
    HEAD,
    Judgement,
    judge,
    notes_on,
    parse_budgets,
    parse_fault,
    unlearned,
)
from fleet_iot.sensor_processor.detection import MACHINE
from fleet_iot.sensor_processor.ingest.catalogue import Metric

_SHOWN = 10
DRAWN_AS = (".html", ".png")


@click.command("backtest")
@click.argument("file", type=PATH, metavar="FILE.csv")
@device_type_option("Metrics, limits and detectors of this device type.")
@click.option("--detector", type=click.Choice(DETECTOR_NAMES), help="This detector for all metrics.")
@columns_option("Which column is which metric.")
@click.option("--budgets", metavar="N,N,…", help="False alarms a device-month to try with the machine detector "
              f"(default: {','.join(f'{each:g}' for each in BUDGETS)}).")  # fmt: skip
@click.option("--fault", "marks", multiple=True, metavar="BEGIN/END[ METRIC]",
              help="A fault that you know of, in UTC; may be repeated.")  # fmt: skip
@click.option("--interval", type=click.FloatRange(min=0.001), default=10.0, show_default=True, metavar="SECONDS",
              help="Between two rows of a file without times.")  # fmt: skip
@click.option("--out", "--output", "output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html|.png",
              help="Page or picture to write (default: build/backtest/<name>.html).")  # fmt: skip
@environment_option
@json_option
def backtest_(
    file: Path,
    environment: str | None,
    device_type: str | None,
    detector: str | None,
    columns: dict[str, str],
    budgets: str | None,
    marks: tuple[str, ...],
    interval: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run the processor's detectors over a recorded series: what they find, at which budget of false alarms, drawn."""
    output = output or _build(environment) / "backtest" / f"{file.stem}.html"
    if output.suffix.lower() not in DRAWN_AS:
        raise click.UsageError(f"--out {output.name!r}: say FILE.html or FILE.png")
    tried = BUDGETS if budgets is None else parse_budgets(budgets)
    described = None if device_type is None else _device_type(environment, device_type, columns)
    history = read_history(file, columns=columns, interval_s=interval)
    metrics = metrics_for(history, described, detector=detector)
    if not metrics:
        raise EnvironmentFault(
            f"{file.name} has no metric of {device_type}", hint=f"columns: {', '.join(history.metrics)}; use --column"
        )
    if budgets is not None and all(metric.detector != MACHINE for metric in metrics.values()):
        raise RequestError("--budgets: no metric has the machine detector", hint="add --detector machine")
    marked = [parse_fault(text, history, metrics=metrics) for text in marks]
    with Progress("passes") as progress:
        judgement = judge(history, metrics, marked=marked, budgets=tried, on_pass=progress.advance)
    _draw(output, f"Backtest of {file.name}", history, metrics, judgement, marked)
    lines = _lines(history, judgement, output)
    if described is None and detector is None and all(metric.detector != MACHINE for metric in metrics.values()):
        lines.append("tried: context, as machine learns for a week; --detector or --device-type chooses")
    emit(_result(history, judgement, output), lines, as_json=as_json)
    if judgement.is_unlearned:
        message, hint = unlearned(judgement, history)
        raise OutcomeError(message, hint=hint)


def _draw(
    output: Path, title: str, history: History, metrics: dict[str, Metric], judgement: Judgement, marked: list[Fault]
) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    drawn = (title, history, metrics, judgement.run.found)
    if output.suffix.lower() == ".html":
        judged, notes, verdicts = _table(judgement), notes_on(judgement, history), judgement.verdicts
        write_whole(output, page(*drawn, faults=marked, verdicts=verdicts, judged=judged, notes=notes).encode())
    else:
        write_whole(output, image(*drawn, faults=marked))


def _table(judgement: Judgement) -> list[tuple[str, ...]]:
    return [HEAD, *(each.cells() for each in judgement.judged)] if judgement.judged else []


def _build(environment: str | None) -> Path:
    """Return the folder of what is built, in the current folder where there is no project."""
    try:
        root = find_project(Path.cwd())
    except EnvironmentFault:
        return Path("build")
    if environment is not None:
        environment_file(root / MANIFEST, environment)
    return build_folder(root, environment)


def _device_type(environment: str | None, name: str, columns: dict[str, str]) -> DeviceTypeSpec:
    project = load_project(find_project(Path.cwd()), environment)
    for metric in columns:
        project.check_metric(name, metric)
    return project.device_type(name)


def _result(history: History, judgement: Judgement, output: Path) -> dict[str, Any]:
    """Make the JSON; `judged_from` and faults are in ms since 1970."""
    found = judgement.run.found
    return {
        "page": str(output),
        "rows": len(history.rows),
        "judged_from": judgement.run.judged_from,
        "anomalies": [asdict(each) | {"fault": judgement.fault_of(each)} for each in found],
        "faults": [asdict(each) for each in judgement.faults],
        "judged": [asdict(each) for each in judgement.judged],
    }


def _lines(history: History, judgement: Judgement, output: Path) -> list[str]:
    found = judgement.run.found
    is_timed = history.times[0] > DAY_MS  # else rows are numbered, an interval apart
    lines = [
        f"row {each.place + 1}{f', {moment(each.time)}' if is_timed else ''}: {each.reason} "
        f"({each.detector}, score {each.score:g}{verdict and f'; {verdict}'})"
        for each, verdict in islice(zip(found, judgement.verdicts, strict=True), _SHOWN)
    ]
    more = f", {_SHOWN} of them above" if len(found) > _SHOWN else ""
    total = f"{counted(len(found), 'anomaly')} in {counted(len(history.rows), 'row')}{more}; drawn in {output}"
    judged = table(_table(judgement), "<>>>><") if judgement.judged else []
    return [*lines, *judged, *notes_on(judgement, history), total]
