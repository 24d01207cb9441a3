"""`fleet simulate`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.operations.cli.options import (
    PATH,
    SHARE,
    Site,
    columns_option,
    emit,
    emit_errors,
    facilities_option,
    json_option,
    on_aws,
)
from fleet_iot.operations.pki.keystore import open_store
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.rehearsal.simulator import Dose, SimulationRequest, run_request

_TRUTH = "simulation/truth.jsonl"


@click.command()
@facilities_option
@click.option("--things", type=click.IntRange(min=1), help="How many things publish (default: all).")
@click.option("--rate", type=click.FloatRange(min=0.01), help="Messages a second in all (default: real time).")
@click.option(
    "--duration", "duration_s", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds."
)
@click.option("--anomalies", type=SHARE, default=0.0, help="Share of the things that show one anomaly.")
@click.option("--poison", type=SHARE, default=0.0, help="Poison messages as a share of the readings.")
@click.option("--repeats", type=SHARE, default=0.0, help="Share of the readings that are published twice.")
@click.option("--basic-ingest", type=SHARE, default=0.5, show_default=True, help="Share through Basic Ingest.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same signals.")
@click.option("--replay", type=PATH, metavar="FILE.csv", help="Replay a recorded series.")
@columns_option("With --replay: the column of a metric.")
@click.option("--truth", type=PATH, help=f"File that records what was sent (default: build/{_TRUTH} of the project).")
@on_aws
@json_option
def simulate(
    site: Site,
    facility_ids: tuple[str, ...],
    anomalies: float,
    poison: float,
    repeats: float,
    as_json: bool,
    truth: Path | None,
    **how: Any,
) -> None:
    """Simulate devices that publish over mutual TLS, each under its own certificate."""
    project = site.project
    request = SimulationRequest(
        facilities=tuple(map(project.facility, facility_ids)) or project.facilities,
        dose=Dose(anomalies=anomalies, poison=poison, repeats=repeats),
        now_ms=int(time.time() * 1000),
        truth=truth or project.build / _TRUTH,
        **how,
    )
    aws = site.aws
    with Progress("publishing") as progress:
        outcome = run_request(project, request, aws=aws, store=open_store(project), on_progress=progress.advance)
    text = (
        f"{outcome.things} things, {outcome.readings} readings, {outcome.poison} poison messages and "
        f"{outcome.repeats} repeats acknowledged, {outcome.refused} refused; truth in {request.truth}"
    )
    emit({**asdict(outcome), "truth": str(request.truth)}, [text], as_json=as_json)
    if outcome.failed:
        emit_errors([f"{name}: {reason}" for name, reason in outcome.failed.items()])
        raise OutcomeError(
            f"{len(outcome.failed)} things did not publish all of their messages",
            hint="see `fleet device show THING`, and the things' policies",
        )
