"""`fleet quarantine list | show | replay`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.generator.text import table
from fleet_iot.operations.aws import reporting_aws_errors
from fleet_iot.operations.cli.options import PATH, Site, facility_option, json_option, on_aws
from fleet_iot.operations.cli.output import emit, emit_rows
from fleet_iot.operations.telemetry.quarantine import (
    TIME_UNITS,
    Entry,
    Quarantine,
    counts,
    entries,
    find_entry,
    open_quarantine,
    put_again,
    with_payloads_of,
    with_time_in,
)
from fleet_iot.sensor_processor.ingest.reading import REASONS

_PREVIEW = 2_000
_UNKNOWN = "unknown"
"""The processor's word for the facility of a record that does not prove where it is from."""


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    day = click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Only what arrived on this day (UTC).")
    reasons = click.Choice(sorted(REASONS))
    reason = click.option("--reason", type=reasons, metavar="CODE", help="Only this reason: see docs/message.md.")
    return facility_option(day(reason(command)))


@click.group()
def quarantine() -> None:
    """List, show and replay records that could not be processed."""


@quarantine.command("list")
@_filters
@on_aws
@json_option
def list_(site: Site, as_json: bool, **filters: Any) -> None:
    """List records in quarantine, counted by facility, thing and reason."""
    found = _read(site, **filters)[1]
    emit_rows(found, lambda: _lines(found), as_json=as_json)


@quarantine.command()
@click.argument("sequence_number")
@on_aws
def show(site: Site, sequence_number: str) -> None:
    """Show one record: its reason, its sender and its bytes."""
    opened = open_quarantine(site.aws, site.project.names.function)
    with reporting_aws_errors("cannot read the quarantine"):
        entry = find_entry(opened, sequence_number)
    content = entry.content()
    moment = datetime.fromtimestamp(entry.received_at / 1000, UTC).isoformat(timespec="milliseconds")
    lines = [
        f"{entry.reason}: {entry.detail}",
        f"from {entry.thing} in {entry.facility}, arrived {moment}, {entry.shard}",
        f"the {entry.raw_of.replace('_', ' as ')}, {len(content):,} bytes:",
        content[:_PREVIEW].decode("utf-8", "backslashreplace"),
    ]
    emit(None, lines, as_json=False)


@quarantine.command()
@_filters
@on_aws
@click.option("--time-unit", type=click.Choice(tuple(TIME_UNITS)), help="Convert the readings' times from this to ms.")
@click.option("--with", "edited", type=PATH, metavar="FILE", help="Payloads to send instead: edited `list --json`.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def replay(site: Site, edited: Path | None, time_unit: str | None, yes: bool, **filters: Any) -> None:
    """Put records into the stream again. Do so once the manifest or the processor accepts them."""
    lines = None if edited is None else edited.read_text(encoding="utf-8").splitlines()
    opened, found = _read(site, **filters)
    chosen = found if lines is None else with_payloads_of(lines, found, name=str(edited))
    if time_unit is not None:
        chosen = [entry for each in chosen if (entry := with_time_in(time_unit, each)) is not None]
    if not found and not edited and not any(filters.values()):
        click.echo("nothing is in quarantine")
        return
    if not chosen:
        raise OutcomeError(f"none of {len(found):,} records is chosen", hint="see: fleet quarantine list")
    if not yes:
        click.confirm(f"Put {len(chosen):,} records into the stream again?", abort=True)
    _replay(opened, chosen, left=len(found) - len(chosen))


def _replay(opened: Quarantine, chosen: list[Entry], *, left: int) -> None:
    try:
        with reporting_aws_errors("the records are not all replayed", hint="try again later"):
            given, broken = put_again(chosen, opened)
    except TimeoutError as error:
        raise EnvironmentFault(f"the records are not all replayed: {error}", hint="try again later") from None
    click.echo(f"{given:,} records put into the stream again" + (f", {left:,} not chosen" if left else ""))
    click.echo("what is refused once more is in quarantine again: fleet quarantine list", err=True)
    if broken:
        raise OutcomeError(f"{broken:,} records are left: their own encoding is broken", hint="nothing can replay them")


def _read(
    site: Site, *, facility: str | None, day: datetime | None, reason: str | None
) -> tuple[Quarantine, list[Entry]]:
    if facility not in (None, _UNKNOWN):
        site.project.facility(str(facility))
    opened = open_quarantine(site.aws, site.project.names.function)
    with reporting_aws_errors("cannot read the quarantine"):
        return opened, entries(opened, facility=facility, date=f"{day:%Y-%m-%d}" if day else None, reason=reason)


def _lines(found: list[Entry]) -> list[str]:
    rows = [(f"{number:,}", why, of, thing) for (of, thing, why), number in sorted(counts(found).items())]
    return [*table(rows, "><<<"), f"{len(found):,} records in quarantine"]
