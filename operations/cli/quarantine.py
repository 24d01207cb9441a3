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

from fleet_iot.generator.cli.completion import complete_facility
from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError, visible
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.operations.local.aws import load
from fleet_iot.operations.project import load_project
from fleet_iot.operations.telemetry.quarantine import (
    REASONS,
    TIME_UNITS,
    Entry,
    counts,
    entries,
    note_replayed,
    put_again,
    with_payloads_of,
    with_time_in,
)

_FUNCTION = "function-sensor-processor"
_PREVIEW = 2_000
_UNKNOWN = "unknown"
"""The processor's word for a plant that a record does not prove."""

_place = [
    click.option(
        "--dir", "folder", type=click.Path(path_type=Path), default=Path("build/local"), help="The local AWS."
    ),
    click.option("--aws", is_flag=True, help="In the AWS account of the credentials, not in the local AWS."),
]
_choice = [
    click.option("--facility", metavar="ID", shell_complete=complete_facility, help="Only of this facility."),
    click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Only what arrived on this day (UTC)."),
    click.option(
        "--reason",
        type=click.Choice(REASONS),
        metavar="CODE",
        help="Only with this reason: docs/message.md lists them.",
    ),
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
def list_(
    facility: str | None, day: datetime | None, reason: str | None, folder: Path, aws: bool, as_json: bool
) -> None:
    """What is in quarantine, by facility, thing and reason."""
    _check_facility(facility)
    found = _read(_place_of(folder, aws), facility=facility, day=day, reason=reason)
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
    found = [entry for entry in _read(_place_of(folder, aws)) if sequence_number in entry.sequence_numbers]
    if not found:
        raise OutcomeError(f"no record {sequence_number} is in quarantine", hint="see: fleet quarantine list --json")
    entry = found[0]
    moment = datetime.fromtimestamp(entry.received_at / 1000, UTC).isoformat(timespec="milliseconds")
    content = entry.content()
    click.echo(visible(f"{entry.reason}: {entry.detail}"))
    click.echo(visible(f"from {entry.thing} in {entry.facility}, arrived {moment}, {entry.shard}"))
    click.echo(f"the {entry.raw_of.replace('_', ' as ')}, {len(content):,} bytes:")
    click.echo(visible(content[:_PREVIEW].decode("utf-8", "backslashreplace")))


@quarantine.command()
@_with(_choice + _place)
@click.option("--time-unit", type=click.Choice(tuple(TIME_UNITS)), help="The device's times are in this: make them ms.")
@click.option("--with", "mended", type=click.Path(path_type=Path), metavar="FILE", help="Lines of list --json, edited.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(
    facility: str | None,
    day: datetime | None,
    reason: str | None,
    folder: Path,
    aws: bool,
    time_unit: str | None,
    mended: Path | None,
    yes: bool,
) -> None:
    """Put records into the stream again: after the manifest or the processor has learned to take them."""
    _check_facility(facility)
    lines = None if mended is None else mended.read_text(encoding="utf-8").splitlines()
    place = _place_of(folder, aws)
    found = _read(place, facility=facility, day=day, reason=reason)
    chosen = found if lines is None else with_payloads_of(lines, found, name=str(mended))
    if time_unit is not None:
        chosen = [entry for each in chosen if (entry := with_time_in(time_unit, each)) is not None]
    if not chosen:
        if not found and not (facility or day or reason or mended):
            click.echo("nothing is in quarantine")
            return
        raise OutcomeError(f"none of {len(found):,} records is chosen", hint="see: fleet quarantine list")
    if not yes:
        click.confirm(f"Put {len(chosen):,} records into the stream again?", abort=True)

    def note(given: list[Entry]) -> None:
        note_replayed(place.s3, place.bucket, given, now=datetime.now(UTC))

    try:
        given, broken = put_again(chosen, place.kinesis, stream_arn=place.stream_arn, on_given=note)
    except (BotoCoreError, ClientError, TimeoutError) as error:
        raise EnvironmentFault(f"the records are not all replayed: {error}", hint="try again later") from None
    left = len(found) - len(chosen)
    click.echo(f"{given:,} records put into the stream again" + (f", {left:,} not chosen" if left else ""))
    click.echo("what is refused once more is in quarantine again: fleet quarantine list", err=True)
    if broken:
        raise OutcomeError(f"{broken:,} records are left: their own encoding is broken", hint="nothing can replay them")


def _read(
    place: Place, *, facility: str | None = None, day: datetime | None = None, reason: str | None = None
) -> list[Entry]:
    date = f"{day:%Y-%m-%d}" if day else None
    try:
        return entries(place.s3, place.bucket, facility=facility, date=date, reason=reason)
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(f"the quarantine cannot be read: {error}", hint="check region and rights") from None


def _check_facility(facility: str | None) -> None:
    if facility not in (None, _UNKNOWN):
        load_project(find_project(Path.cwd())).facility(str(facility))


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
