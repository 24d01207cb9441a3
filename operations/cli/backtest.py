"""`fleet backtest`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.cli.options import environment_option
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.filesystem import write_whole
from fleet_iot.generator.manifest.project import environment_file, find_project
from fleet_iot.generator.text import counted
from fleet_iot.lib.record.place import MANIFEST
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.operations.cli.options import PATH, columns_option, device_type_option, emit, json_option
from fleet_iot.operations.project import build_folder, load_project
from fleet_iot.operations.telemetry.backtest import (
    DETECTOR_NAMES,
    Found,
    History,
    backtest,
    image,
    metrics_for,
    page,
    read_history,
)

_SHOWN = 10
DRAWN_AS = (".html", ".png")


@click.command("backtest")
@click.argument("file", type=PATH, metavar="FILE.csv")
@device_type_option("Metrics, limits and detectors of this device type.")
@click.option("--detector", type=click.Choice(DETECTOR_NAMES), help="This detector for all metrics.")
@columns_option("Which column is which metric.")
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
    interval: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run the processor's detectors over a recorded series, and draw what they find."""
    output = output or _build(environment) / "backtest" / f"{file.stem}.html"
    if output.suffix.lower() not in DRAWN_AS:
        raise click.UsageError(f"--out {output.name!r}: say FILE.html or FILE.png")
    described = None if device_type is None else _device_type(environment, device_type, columns)
    history = read_history(file, columns=columns, interval_s=interval)
    metrics = metrics_for(history, described, detector=detector)
    if not metrics:
        raise EnvironmentFault(
            f"{file.name} has no metric of {device_type}", hint=f"columns: {', '.join(history.metrics)}; use --column"
        )
    found = backtest(history, metrics)
    output.parent.mkdir(parents=True, exist_ok=True)
    drawn = (f"Backtest of {file.name}", history, metrics, found)
    write_whole(output, page(*drawn).encode() if output.suffix.lower() == ".html" else image(*drawn))
    result = {"page": str(output), "rows": len(history.rows), "anomalies": [asdict(each) for each in found]}
    emit(result, _lines(history, found, output), as_json=as_json)


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


def _lines(history: History, found: list[Found], output: Path) -> list[str]:
    lines = [f"row {each.place + 1}: {each.reason} ({each.detector}, score {each.score:g})" for each in found[:_SHOWN]]
    more = f", {_SHOWN} of them above" if len(found) > _SHOWN else ""
    return [*lines, f"{counted(len(found), 'anomaly')} in {counted(len(history.rows), 'row')}{more}; drawn in {output}"]
