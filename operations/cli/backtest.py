"""`fleet backtest`: what the detectors would have said of a history, as a page or a picture to look at."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.diagnostics import EnvironmentFault, visible
from fleet_iot.generator.filesystem import write_whole
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.lib.specs import DeviceTypeSpec
from fleet_iot.operations.project import load_project
from fleet_iot.operations.telemetry.backtest import DETECTOR_NAMES, metrics_for, read_history
from fleet_iot.operations.telemetry.backtest import backtest as run
from fleet_iot.operations.telemetry.drawing import image, page

_SHOWN = 10
DRAWN_AS = (".html", ".png")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.csv")
@click.option("--device-type", metavar="TYPE", help="Metrics, limits and detectors of this device type.")
@click.option("--detector", type=click.Choice(DETECTOR_NAMES), help="This one for all metrics.")
@click.option("--column", "columns", multiple=True, metavar="METRIC=COLUMN", help="Which column is which metric.")
@click.option("--interval", type=click.FloatRange(min=0.001), default=10.0, show_default=True, metavar="SECONDS",
              help="Between two rows of a file without times.")  # fmt: skip
@click.option("--out", "--output", "output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html|.png",
              help="Where the page or picture goes (build/backtest/<name>.html).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the anomalies as JSON.")
def backtest(
    file: Path,
    device_type: str | None,
    detector: str | None,
    columns: tuple[str, ...],
    interval: float,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run the processor's detectors over a history of your own, and draw it."""
    output = output or Path("build/backtest") / f"{file.stem}.html"
    if output.suffix.lower() not in DRAWN_AS:
        raise click.UsageError(f"--out {output.name!r}: say FILE.html or FILE.png")
    described = None if device_type is None else _device_type(device_type)
    history = read_history(file, columns=dict(_pair(column) for column in columns), interval_s=interval)
    metrics = metrics_for(history, described, detector=detector)
    if not metrics:
        raise EnvironmentFault(
            f"{file.name} has no metric of {device_type}", hint=f"columns: {', '.join(history.metrics)}; use --column"
        )
    found = run(history, metrics)
    output.parent.mkdir(parents=True, exist_ok=True)
    drawn = (f"Backtest of {file.name}", history, metrics, found)
    write_whole(output, page(*drawn).encode() if output.suffix.lower() == ".html" else image(*drawn))
    if as_json:
        click.echo(
            json.dumps({"page": str(output), "rows": len(history.rows), "anomalies": [asdict(f) for f in found]})
        )
        return
    for each in found[:_SHOWN]:
        click.echo(visible(f"row {each.place + 1}: {each.reason} ({each.detector}, score {each.score:g})"))
    more = f", {_SHOWN} of them above" if len(found) > _SHOWN else ""
    click.echo(f"{len(found)} anomalies in {len(history.rows):,} rows{more}; drawn in {output}")


def _device_type(name: str) -> DeviceTypeSpec:
    known = {each.id: each for each in load_project(find_project(Path.cwd())).fleet.device_types}
    if name not in known:
        raise click.UsageError(f"{name!r} is no device type; there are {', '.join(sorted(known))}")
    return known[name]


def _pair(text: str) -> tuple[str, str]:
    metric, separator, column = text.partition("=")
    if not (metric and separator and column):
        raise click.UsageError(f"--column {text!r}: say METRIC=COLUMN")
    return metric, column
