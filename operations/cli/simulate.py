"""`fleet simulate`: lets things of the fleet publish believable readings, with anomalies and poison on request."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.pki.keystore import open_store
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import load_project
from fleet_iot.operations.rehearsal.simulator.request import SimulationRequest, run_request
from fleet_iot.operations.rehearsal.simulator.schedule import Dose
from fleet_iot.operations.rehearsal.simulator.target import aws_target, local_target

_SHARE = click.FloatRange(0.0, 1.0)


@click.command()
@click.option(
    "--facility",
    "facility_ids",
    multiple=True,
    metavar="ID",
    shell_complete=complete_facility,
    help="Only this facility; may be repeated.",
)
@click.option("--things", type=click.IntRange(min=1), help="How many things publish (default: all).")
@click.option("--rate", type=click.FloatRange(min=0.01), help="Messages a second in all (default: real time).")
@click.option("--duration", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds.")
@click.option("--anomalies", type=_SHARE, default=0.0, help="Share of the things that show one anomaly.")
@click.option("--poison", type=_SHARE, default=0.0, help="Poison messages as a share of the readings.")
@click.option("--repeats", type=_SHARE, default=0.0, help="Share of the readings that are published twice.")
@click.option("--basic-ingest", type=_SHARE, default=0.5, show_default=True, help="Share through Basic Ingest.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same signals.")
@click.option("--replay", type=click.Path(path_type=Path), metavar="FILE.csv", help="Replay a recorded series.")
@click.option("--column", "columns", multiple=True, metavar="METRIC=COLUMN", help="With --replay: which column.")
@click.option(
    "--truth", type=click.Path(path_type=Path), default=Path("build/simulation/truth.jsonl"), show_default=True
)
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("build/local"), help="The local AWS.")
@click.option("--aws", is_flag=True, help="Publish to the AWS account of the credentials, not to the local AWS.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def simulate(
    facility_ids: tuple[str, ...],
    things: int | None,
    rate: float | None,
    duration: float,
    anomalies: float,
    poison: float,
    repeats: float,
    basic_ingest: float,
    seed: int,
    replay: Path | None,
    columns: tuple[str, ...],
    truth: Path,
    folder: Path,
    aws: bool,
    as_json: bool,
) -> None:
    """Let things connect with their own certificates and publish to their own topics."""
    project = load_project(find_project(Path.cwd()))
    request = SimulationRequest(
        facilities=tuple(map(project.facility, facility_ids)) or project.facilities,
        things=things,
        rate=rate,
        duration_s=duration,
        dose=Dose(anomalies=anomalies, poison=poison, repeats=repeats),
        basic_ingest=basic_ingest,
        seed=seed,
        replay=replay,
        columns=dict(_pair(column) for column in columns),
        truth=truth,
        now_ms=int(time.time() * 1000),
    )
    target = aws_target() if aws else local_target(folder)
    with Progress("publishing") as progress:
        outcome = run_request(project, request, target=target, store=open_store(project), on_progress=progress.advance)
    if as_json:
        click.echo(json.dumps({**asdict(outcome), "truth": str(truth)}))
    else:
        click.echo(
            f"{outcome.things} things, {outcome.readings} readings, {outcome.poison} poison messages and "
            f"{outcome.repeats} repeats acknowledged, {outcome.refused} refused; truth in {truth}"
        )
    if outcome.refused:
        raise OutcomeError(f"the broker refused {outcome.refused} publishes", hint="see the things' policies")


def _pair(text: str) -> tuple[str, str]:
    metric, separator, column = text.partition("=")
    if not (metric and separator and column):
        raise click.UsageError(f"--column {text!r}: say METRIC=COLUMN")
    return metric, column
