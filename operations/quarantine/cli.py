"""`fleet quarantine list | show | replay`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import click
from botocore.exceptions import BotoCoreError, ClientError

from generator.completion import complete_facility
from generator.diagnostics import EnvironmentFault, visible
from generator.project import find_project
from operations.local.aws import load
from operations.project import load_project
from operations.quarantine.quarantine import Entry, counts, entries, put_again

_FUNCTION = "function-sensor-processor"
_PREVIEW = 2_000

_place = [
    click.option(
        "--dir", "folder", type=click.Path(path_type=Path), default=Path("build/local"), help="The local AWS."
    ),
    click.option("--aws", is_flag=True, help="In the AWS account of the credentials, not in the local AWS."),
]
_choice = [
    click.option("--facility", metavar="ID", shell_complete=complete_facility, help="Only of this facility."),
    click.option("--date", metavar="YYYY-MM-DD", help="Only what arrived on this day (UTC)."),
    click.option("--reason", metavar="CODE", help="Only with this reason: docs/message.md lists them."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The deployed processor's bucket and stream."""

    s3: Any
    kinesis: Any
    bucket: str
    stream_arn: str


def _with(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group()
def quarantine() -> None:
    """Look at records that could not be processed, and give them to the stream again."""


@quarantine.command("list")
@_with(_choice + _place)
@click.option("--json", "as_json", is_flag=True, help="Print every record as JSON, a line each.")
def list_(facility: str | None, date: str | None, reason: str | None, folder: Path, aws: bool, as_json: bool) -> None:
    """What is in quarantine, by facility, thing and reason."""
    found = _read(folder, aws, facility=facility, date=date, reason=reason)
    if as_json:
        for entry in found:
            click.echo(json.dumps(asdict(entry)))
        return
    for (of, thing, why), number in sorted(counts(found).items()):
        click.echo(visible(f"{number:>8,}  {why:<12}  {of:<12}  {thing}"))
    click.echo(f"{len(found):,} records in quarantine")


@quarantine.command()
@click.argument("sequence_number")
@_with(_place)
def show(sequence_number: str, folder: Path, aws: bool) -> None:
    """One record: why it is there, who sent it, and its bytes."""
    found = [entry for entry in _read(folder, aws) if entry.sequence_number == sequence_number]
    if not found:
        raise EnvironmentFault(
            f"no record {sequence_number} is in quarantine", hint="see: fleet quarantine list --json"
        )
    (entry,) = found
    moment = datetime.fromtimestamp(entry.received_at / 1000, UTC).isoformat(timespec="milliseconds")
    content = entry.content()
    click.echo(visible(f"{entry.reason}: {entry.detail}"))
    click.echo(visible(f"from {entry.thing} in {entry.facility}, arrived {moment}, {entry.shard}"))
    click.echo(f"the {entry.raw_of.replace('_', ' as ')}, {len(content):,} bytes:")
    click.echo(visible(content[:_PREVIEW].decode("utf-8", "backslashreplace")))


@quarantine.command()
@_with(_choice + _place)
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(facility: str | None, date: str | None, reason: str | None, folder: Path, aws: bool, yes: bool) -> None:
    """Put records into the stream again: after the manifest or the processor has learned to take them."""
    place = _place_of(folder, aws)
    found = _read(folder, aws, facility=facility, date=date, reason=reason)
    if not yes:
        click.confirm(f"Put {len(found):,} records into the stream again?", abort=True)
    try:
        given, broken = put_again(found, place.kinesis, stream_arn=place.stream_arn)
    except (BotoCoreError, ClientError, TimeoutError) as error:
        raise EnvironmentFault(f"the stream does not take the records: {error}", hint="try again later") from None
    click.echo(f"{given:,} records put into the stream again, {broken:,} left: their own encoding is broken")


def _read(folder: Path, aws: bool, **choice: str | None) -> list[Entry]:
    place = _place_of(folder, aws)
    try:
        return list(entries(place.s3, place.bucket, **choice))
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(f"the quarantine cannot be read: {error}", hint="check region and rights") from None


def _place_of(folder: Path, aws: bool) -> Place:
    function = f"{_FUNCTION}-{load_project(find_project(Path.cwd())).environment_suffix}"
    clients = boto3.session.Session().client if aws else load(folder).client
    try:
        client = clients("lambda")
        variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        mappings = client.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(f"{function} cannot be asked: {error}", hint="apply the platform first") from None
    return Place(
        s3=clients("s3"),
        kinesis=clients("kinesis"),
        bucket=variables["ARCHIVE_BUCKET"],
        stream_arn=next(m["EventSourceArn"] for m in mappings if ":kinesis:" in m.get("EventSourceArn", "")),
    )
