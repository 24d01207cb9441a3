"""`fleet replay`: gives records that ran out of retries to the processor again, from the on-failure queue."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import load_project
from fleet_iot.operations.telemetry.redrive import Outcome, Target, aws_target, local_target
from fleet_iot.operations.telemetry.redrive import replay as work_off


@click.command()
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("build/local"), help="The local AWS.")
@click.option("--aws", is_flag=True, help="In the AWS account of the credentials, not in the local AWS.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def replay(folder: Path, aws: bool, as_json: bool) -> None:
    """Give records that ran out of retries to the processor again, as long as the stream holds them (a week)."""
    suffix = load_project(find_project(Path.cwd())).environment_suffix
    try:
        if aws:
            outcome = _run(aws_target(suffix=suffix))
        else:
            with local_target(folder, suffix=suffix) as target:
                outcome = _run(target)
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"AWS refuses the replay: {error}", hint="check region, credentials and rights"
        ) from None
    click.echo(json.dumps(asdict(outcome)) if as_json else _text(outcome))
    if outcome.left:
        raise OutcomeError(
            f"{len(outcome.left)} messages stay in the queue", hint="see the function's log, then replay again"
        )
    if outcome.gone:
        raise OutcomeError(
            f"{outcome.gone} records are gone from the stream", hint="replay within its retention: a week"
        )


def _run(target: Target) -> Outcome:
    with Progress("replaying") as progress:
        return work_off(
            sqs=target.sqs,
            kinesis=target.kinesis,
            invoke=target.invoke,
            queue_url=target.queue_url,
            region=target.region,
            on_message=progress.advance,
        )


def _text(outcome: Outcome) -> str:
    lines = [
        f"{outcome.messages} messages: {outcome.replayed} records given again, {outcome.gone} gone from the stream"
    ]
    return "\n".join(lines + [visible(f"left: {why}") for why in outcome.left])
