"""`fleet replay`."""

from __future__ import annotations

import click

from fleet_iot.generator.diagnostics import OutcomeError
from fleet_iot.operations.aws import reporting_aws_errors
from fleet_iot.operations.cli.options import Site, emit, json_option, on_aws
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.telemetry.redrive import Outcome, deployed_processor, redrive


@click.command()
@on_aws
@json_option
def replay(site: Site, as_json: bool) -> None:
    """Redrive records from the on-failure queue, as long as the stream has them (a week)."""
    outcome = run(site)
    emit(outcome, _lines(outcome), as_json=as_json)
    if outcome.left:
        raise OutcomeError(
            f"{len(outcome.left)} messages stay in the queue", hint="see the function's log, then replay again"
        )
    if outcome.gone:
        raise OutcomeError(
            f"{outcome.gone} records are gone from the stream", hint="replay within its retention: a week"
        )


def run(site: Site) -> Outcome:
    """Redrive the queue of the site's processor, showing progress."""
    aws = site.aws
    with (
        reporting_aws_errors("AWS refuses the replay"),
        deployed_processor(aws, site.project.names.function) as processor,
        Progress("replaying") as progress,
    ):
        return redrive(processor, on_message=progress.advance)


def _lines(outcome: Outcome) -> list[str]:
    counts = f"{outcome.messages} messages: {outcome.replayed} records redriven, {outcome.gone} gone from the stream"
    return [counts, *(f"left: {why}" for why in outcome.left)]
