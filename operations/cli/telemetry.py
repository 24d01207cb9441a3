"""Run `fleet anomalies`, `archive`, `history`, `quarantine` and `replay`: read and repair what the processor wrote."""

from __future__ import annotations

import csv
import getpass
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import click
from botocore.config import Config

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
from fleet_iot.generator.text import counted, table
from fleet_iot.operations.aws import reporting_aws_errors
from fleet_iot.operations.cli.options import (
    PATH,
    Site,
    Words,
    device_type_option,
    emit,
    emit_rows,
    facility_option,
    json_option,
    metric_option,
    on_aws,
    on_project,
    thing_argument,
    thing_option,
)
from fleet_iot.operations.progress import Progress
from fleet_iot.operations.project import Project
from fleet_iot.operations.telemetry.anomalies import (
    FALSE,
    PREFIX,
    TRUE,
    Acknowledged,
    Anomaly,
    Explained,
    Label,
    acknowledge,
    explain,
    read_anomalies,
    read_open,
)
from fleet_iot.operations.telemetry.archive import (
    FORMER_TABLE,
    TABLE,
    cold_before,
    compact,
    former_query_statement,
    former_table_statement,
    glacier_note,
    query_statement,
    table_statement,
)
from fleet_iot.operations.telemetry.history import LEVELS, Row, history
from fleet_iot.operations.telemetry.precision import PERIODS, THREADS, plain, report, rows_of, words_of
from fleet_iot.operations.telemetry.quarantine import (
    TIME_UNITS,
    UNDELIVERED,
    Entry,
    Quarantine,
    check_sequence_number,
    entries,
    find_entry,
    last_of,
    open_quarantine,
    put_again,
    undelivered_messages,
    with_payloads_of,
    with_principals,
    with_time_in,
)
from fleet_iot.operations.telemetry.redrive import FunctionError, Outcome, deployed_processor, redrive
from fleet_iot.operations.telemetry.shelves import TooManyShelvesError, read_shelves, shelve, unshelve
from fleet_iot.sensor_processor.ingest.reading import REASONS
from fleet_iot.sensor_processor.planning.items import QUANTILES, iso
from fleet_iot.sensor_processor.planning.plant import MOST_SHELF_MS, Shelf

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[datetime]):
    """A time: ISO 8601 (UTC without a zone), or how long ago, such as 90m, 24h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time in UTC."""
        if isinstance(value, datetime):
            return value
        ago = re.fullmatch(r"([0-9]{1,5})([mhd])", value, re.ASCII)
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time, such as 2026-11-23T14:00Z, nor how long ago, such as 24h")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@click.group()
def anomalies() -> None:
    """List, explain, acknowledge, label and shelve anomalies."""


@anomalies.command("list")
@thing_option("Only this thing.")
@facility_option
@click.option("--all", "is_all", is_flag=True, help="Also those that are acknowledged, by a scan without --thing.")
@json_option
@on_aws
def list_anomalies(site: Site, thing: str | None, facility: str | None, is_all: bool, as_json: bool) -> None:
    """List unacknowledged anomalies, the newest first."""
    plants = [each.id for each in site.project.facilities]
    if facility is not None:
        plants = [site.project.facility(facility).id]
    table, now = site.project.names.readings_table, datetime.now(UTC)

    def read(name: str | None) -> list[Anomaly]:
        with reporting_aws_errors(f"cannot read {table}"):
            client = site.aws.client("dynamodb")
            if name is None and not is_all:
                return list(read_open(client, table, facilities=plants))
            return list(read_anomalies(client, table, thing=name, facility=facility))

    found = read(None) if thing is None else site.read_thing(thing, read, facility=facility)[1]
    listed = [each for each in found if is_all or not each.acknowledged_by]
    listed.sort(key=attrgetter("time"), reverse=True)
    with reporting_aws_errors(f"cannot read {site.project.names.lanes_table}"):
        shelves = read_shelves(site.aws.client("dynamodb"), site.project.names.lanes_table, facilities=plants, now=now)
    listed = [_with_shelf(each, shelves) for each in listed]
    emit_rows(listed, lambda: _listed_anomalies(listed, shelves, is_all=is_all), as_json=as_json)


@anomalies.command()
@thing_argument
@click.argument("anomaly_id", metavar="[ID]", required=False)
@click.option(
    "--true/--false", "is_true", default=None, help="Label it: there was something to know, or there was not."
)
@click.option("--by", type=Words(), metavar="NAME", default=getpass.getuser, help="Who acknowledges it (default: you).")
@click.option("--note", type=Words(), metavar="TEXT", help="What was done about it.")
@on_aws
def ack(site: Site, thing: str, anomaly_id: str | None, is_true: bool | None, by: str, note: str | None) -> None:
    """Acknowledge an anomaly: by its id in `list`, which begins with the thing, or by thing and id."""
    said, key = _anomaly_key(thing, anomaly_id)
    table, now = site.project.names.readings_table, datetime.now(UTC)
    label = None if is_true is None else TRUE if is_true else FALSE

    def write(name: str) -> Acknowledged | None:
        with reporting_aws_errors(f"cannot write to {table}"):
            client = site.aws.client("dynamodb")
            return acknowledge(client, table, thing=name, anomaly_id=key, by=by, note=note, now=now, label=label)

    name, done = site.read_thing(said, write)
    if done is None:
        raise _no_anomaly(name, key)
    emit(None, [_acknowledged_text(by, label, done.before)], as_json=False)


def _anomaly_key(thing: str, anomaly_id: str | None) -> tuple[str, str]:
    """Return the thing that a person means and the range key of its anomaly."""
    said, hash_, own = thing.partition(f"#{PREFIX}") if anomaly_id is None else (thing, "#", anomaly_id)
    if not hash_:
        raise click.UsageError(f"{thing!r} is no anomaly's id: see fleet anomalies list --thing {thing}")
    return said, own if own.startswith(PREFIX) else f"{PREFIX}{own}"


def _no_anomaly(name: str, key: str) -> OutcomeError:
    own = key.removeprefix(PREFIX)
    return OutcomeError(f"{name} has no anomaly {own}", hint=f"see: fleet anomalies list --thing {name} --all")


def _acknowledged_text(by: str, label: str | None, before: tuple[Label, ...]) -> str:
    former = [f"{each.label} by {each.by} at {each.at}" for each in before[-1:]]
    if label is None:
        return f"acknowledged by {by}{f'; labelled {former[0]}' if former else ''}"
    return f"labelled {label} by {by}{f'; it was labelled {former[0]}' if former else ''}"


@anomalies.command("show")
@thing_argument
@click.argument("anomaly_id", metavar="[ID]", required=False)
@json_option
@on_aws
def show_anomaly(site: Site, thing: str, anomaly_id: str | None, as_json: bool) -> None:
    """Explain an anomaly: what was expected, what else moved, and how others of its type in the plant were then."""
    said, key = _anomaly_key(thing, anomaly_id)
    project, table = site.project, site.project.names.readings_table

    def others(found: Anomaly) -> Iterator[str]:
        things = project.things(project.facility_of(found.facility)) if found.facility in _plants(project) else ()
        return (each.name for each in things if each.device_type == found.device_type)

    def read(name: str) -> Explained | None:
        with reporting_aws_errors(f"cannot read {table}"):
            return explain(site.aws.client("dynamodb"), table, thing=name, anomaly_id=key, others=others)

    name, found = site.read_thing(said, read)
    if found is None:
        raise _no_anomaly(name, key)
    emit(found, _explained_text(project, found), as_json=as_json)


def _plants(project: Project) -> set[str]:
    return {each.id for each in project.facilities}


def _explained_text(project: Project, found: Explained) -> list[str]:
    """Write the anomaly for people: a word and what it is in each line, and what to run next."""
    anomaly, near = found.anomaly, sorted(found.neighbours.values())
    types = {each.id: each.metrics for each in project.fleet.device_types}
    unit = next((f" {each.unit}" for each in types.get(anomaly.device_type, ()) if each.name == anomaly.metric), "")
    lasting = f"until {anomaly.ended_at}" if anomaly.ended_at else "still on"
    rows = [
        ("what", f"{anomaly.severity} at {anomaly.thing}, {anomaly.device_type} of {anomaly.facility}"),
        ("why", anomaly.reason),
        ("value", f"{anomaly.metric} {anomaly.value:.6g}{unit}"),
        ("with", ", ".join(f"{name} {value:g}" for name, value in anomaly.regime.items())),
        ("since", f"{anomaly.time}, {lasting}"),
        ("worse", f"{anomaly.severity} since {anomaly.escalated_at}" if anomaly.escalated_at else ""),
        ("found by", f"{anomaly.detector}, score {anomaly.score:g}"),
        *(("joined by", f"{metric} at {at}: {reason}") for metric, at, reason in found.joined),
        ("neighbours", _neighbours_text(anomaly, near, unit)),
        ("seen", f"by {anomaly.acknowledged_by} at {anomaly.acknowledged_at}" if anomaly.acknowledged_by else ""),
        ("note", anomaly.note or ""),
        *(("labelled", f"{each.label} by {each.by} at {each.at}") for each in anomaly.labels),
        (
            "next",
            f"fleet history {anomaly.thing} --level minute --metric {anomaly.metric} --since {anomaly.time[:13]}:00Z",
        ),
        ("", f"fleet anomalies ack {anomaly.thing}#{anomaly.id} --true|--false --note TEXT"),
    ]
    return table([row for row in rows if row[1]], "<<")


def _neighbours_text(anomaly: Anomaly, near: list[float], unit: str) -> str:
    kind = f"{anomaly.device_type} at {anomaly.facility}"
    if not near:
        return f"no other {kind} has readings of that time"
    return f"of {len(near)} other {kind}: {near[0]:.4g} to {near[-1]:.4g}{unit}, median {median(near):.4g}"


@anomalies.command("report")
@facility_option
@click.option("--by", type=click.Choice(PERIODS), default="month", show_default=True, help="Period of a row, in UTC.")
@click.option("--since", type=Moment(), default="90d", show_default=True, help="A time, or how long ago.")
@json_option
@on_aws
def report_anomalies(site: Site, facility: str | None, by: str, since: datetime, as_json: bool) -> None:
    """Report how often anomalies were true, by plant, device type and period, and budgets that would fit better."""
    project = site.project
    plants = project.facilities if facility is None else (project.facility(facility),)
    types = project.fleet.device_types
    total = sum(plant.thing_count for plant in plants)
    with reporting_aws_errors(f"cannot read {project.names.readings_table}"), Progress("things") as progress:
        found = report(
            site.aws.client("dynamodb", config=Config(max_pool_connections=THREADS)),
            readings=project.names.readings_table,
            devices=project.names.devices_table,
            things=(thing.name for plant in plants for thing in project.things(plant)),
            device_types=types,
            since=since,
            now=datetime.now(UTC),
            by=by,
            on_progress=lambda done: progress.advance(done, total),
        )
    emit(plain(found), [*table(rows_of(found, types), "<<<>>>>><>>"), *words_of(found)], as_json=as_json)


_NEXT = "explain one: fleet anomalies show ID; acknowledge it: fleet anomalies ack ID [--true|--false] --note TEXT"


class Duration(click.ParamType[int]):
    """A time span, such as 90m, 8h or 2d, up to seven days; converts to milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert what a person gives."""
        if isinstance(value, int):
            return value
        span = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value, re.ASCII)
        if span is None:
            self.fail(f"{value!r} is no duration, such as 90m, 8h or 2d", param, ctx)
        length = timedelta(**{_UNITS[span[2]]: int(span[1])}) // timedelta(milliseconds=1)
        if length > MOST_SHELF_MS:
            self.fail(f"{value} is more than 7 days, the longest shelf", param, ctx)
        return length


@anomalies.command("shelve")
@thing_argument
@metric_option("Only this metric (default: all of the thing).")
@click.option("--for", "length", type=Duration(), required=True, metavar="8h", help="How long: 90m, 8h, at most 7d.")
@click.option("--note", type=Words(), required=True, metavar="TEXT", help="Why.")
@click.option("--by", type=Words(), metavar="NAME", default=getpass.getuser, help="Who shelves it (default: you).")
@on_aws
def shelve_thing(site: Site, thing: str, metric: str | None, length: int, note: str, by: str) -> None:
    """Send no notification of a thing for some time. Its events are stored, and notified if they outlast it."""
    found, now, table = site.thing(thing), datetime.now(UTC), site.project.names.lanes_table
    if metric is not None:
        site.project.check_metric(found.device_type, metric)
    until = int(now.timestamp() * 1000) + length
    shelf = Shelf(thing=found.name, metric=metric, until=until, by=by, at=f"{now:%Y-%m-%dT%H:%M:%SZ}", note=note[:200])
    try:
        with reporting_aws_errors(f"cannot write to {table}"):
            shelve(site.aws.client("dynamodb"), table, facility=found.facility, shelf=shelf, now=now)
    except TooManyShelvesError as error:
        raise OutcomeError(str(error), hint="end one: fleet anomalies unshelve THING") from error
    emit(None, [_shelf_text(shelf)], as_json=False)


@anomalies.command("unshelve")
@thing_argument
@metric_option("Only the shelf of this metric (default: all of the thing).")
@on_aws
def unshelve_thing(site: Site, thing: str, metric: str | None) -> None:
    """End a shelf: what waited for it and still lasts is notified within a minute."""
    found, table = site.thing(thing), site.project.names.lanes_table
    if metric is not None:
        site.project.check_metric(found.device_type, metric)
    with reporting_aws_errors(f"cannot write to {table}"):
        client = site.aws.client("dynamodb")
        shelves = read_shelves(client, table, facilities=[found.facility], now=datetime.now(UTC))
        ended = [each for each in shelves if each.thing == found.name and metric in (None, each.metric)]
        unshelve(client, table, facility=found.facility, shelves=ended)
    if not ended:
        raise OutcomeError(f"{found.name} is not shelved", hint="see: fleet anomalies list")
    emit(None, [f"unshelved {' '.join(filter(None, (each.thing, each.metric)))}" for each in ended], as_json=False)


def _shelf_text(shelf: Shelf) -> str:
    what = f"{shelf.thing} {shelf.metric}" if shelf.metric else shelf.thing
    return f"shelved {what} until {iso(shelf.until)[:16]}Z by {shelf.by}: {shelf.note}"


def _with_shelf(anomaly: Anomaly, shelves: list[Shelf]) -> Anomaly:
    until = [each.until for each in shelves if each.thing == anomaly.thing and each.metric in (None, anomaly.metric)]
    return replace(anomaly, shelved_until=iso(max(until))) if until else anomaly


def _listed_anomalies(listed: list[Anomaly], shelves: list[Shelf], *, is_all: bool) -> list[str]:
    rows = [(each.severity, f"{each.thing}#{each.id}", _anomaly_text(each)) for each in listed]
    count = counted(len(listed), "anomaly" if is_all else "unacknowledged anomaly")
    is_open = any(not each.acknowledged_by for each in listed)
    return [*table(rows, "<<<"), count, *map(_shelf_text, shelves), *([_NEXT] if is_open else [])]


def _anomaly_text(anomaly: Anomaly) -> str:
    worse = f", {anomaly.severity} since {anomaly.escalated_at}" if anomaly.escalated_at else ""
    ended = f", ended {anomaly.ended_at}" if anomaly.ended_at else ", still on"
    label = f", {anomaly.label}" if anomaly.label else ""
    seen = f"  [acknowledged by {anomaly.acknowledged_by}{label}]" if anomaly.acknowledged_by else ""
    shelved = f"  [shelved until {anomaly.shelved_until[:16]}Z]" if anomaly.shelved_until else ""
    return f"{anomaly.reason}{worse}{ended}{seen}{shelved}"


COLUMNS = ("start", "metric", "count", "mean", "min", "max", "sum", *QUANTILES)
_TIMES = {"minute": "%Y-%m-%dT%H:%MZ", "hour": "%Y-%m-%dT%HZ", "day": "%Y-%m-%d"}
_DEFAULT_SINCE = {"minute": "1h", "hour": "1d", "day": "30d"}


@click.command("history")
@thing_argument
@click.option("--level", type=click.Choice(LEVELS), default="hour", show_default=True, help="Period of a row, in UTC.")
@metric_option("Only this metric.")
@click.option("--since", type=Moment(), help="A time, or how long ago (default: minutes 1h, hours 1d, days 30d).")
@click.option("--until", type=Moment(), default="0m", help="A time, or how long ago (default: now).")
@click.option("--json", "form", flag_value="json", help="Print JSON, an object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@click.option("--table", "form", flag_value="table", default=True, help="Print a table (default).")
@on_aws
def history_(
    site: Site, thing: str, level: str, metric: str | None, since: datetime | None, until: datetime, form: str
) -> None:
    """Show the history of THING: count, mean, minimum, maximum, sum and quantiles by minute, hour or day."""
    table = site.project.names.readings_table
    begin = since or Moment().convert(_DEFAULT_SINCE[level], None, None)

    def read(name: str) -> list[Row]:
        with reporting_aws_errors(f"cannot read {table}"):
            client = site.aws.client("dynamodb")
            return list(history(client, table, thing=name, level=level, since=_to_ms(begin), until=_to_ms(until)))

    name, rows = site.read_thing(thing, read, metric=metric)
    wanted = [row for row in rows if metric in (None, row.metric, row.metric.partition(" (")[0])]
    if not wanted:
        raise OutcomeError(f"{name} has no readings{f' of {metric}' if metric else ''} in that time")
    if form == "csv":
        _print_csv(wanted, level)
    else:
        objects = [_object(row, level) for row in wanted]
        emit_rows(objects, lambda: _table(wanted, level), as_json=form == "json")


def _to_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _object(row: Row, level: str) -> dict[str, Any]:
    numbers = {name: getattr(row, name) for name in COLUMNS[1:7]}
    return {"start": _time(row, level), "is_over": row.is_over, **numbers, **row.quantiles}


def _print_csv(rows: Sequence[Row], level: str) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow((*COLUMNS, "is_over"))
    for row in rows:
        out.writerow((*_cells(row, level, "{!r}"), str(row.is_over).lower()))


def _table(rows: Sequence[Row], level: str) -> list[str]:
    """Lay the rows out in columns; an asterisk marks a period that is not over."""
    cells = [tuple(_cells(row, level, "{:.6g}", "" if row.is_over else "*")) for row in rows]
    return table([COLUMNS, *cells], "<<" + ">" * (len(COLUMNS) - 2))


def _time(row: Row, level: str) -> str:
    return f"{datetime.fromtimestamp(row.start / 1000, UTC):{_TIMES[level]}}"


def _cells(row: Row, level: str, number: str, mark: str = "") -> Iterator[str]:
    yield _time(row, level) + mark
    yield row.metric
    yield str(row.count)
    yield from (number.format(value) for value in (row.mean, row.min, row.max))
    yield row.sum
    yield from (number.format(row.quantiles[name]) for name in QUANTILES)


@click.group()
def archive() -> None:
    """Query and compact the archive, which keeps every message as it was sent."""


@archive.command()
@facility_option
@device_type_option("Of the query (default: the first).")
@metric_option("Of the query (default: the device type's first).")
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Day of arrival, UTC (default: today).")
@click.option("--former", is_flag=True, help="Of what versions up to 0.3 archived: it has a table of its own.")
@on_project
def query(
    project: Project,
    facility: str | None,
    device_type: str | None,
    metric: str | None,
    day: datetime | None,
    former: bool,
) -> None:
    """Print Athena's SQL: the table, a first query, and how to restore what is in Glacier."""
    chosen = project.facility(facility or project.facilities[0].id)
    described = project.device_type(device_type or project.fleet.device_types[0].id)
    project.check_metric(described.id, metric)
    if project.account_id is None:
        note = "note: the bucket's name lacks the AWS account: set account_id in fleet.yaml, or FLEET_ACCOUNT_ID."
        click.echo(note, err=True)
    first = metric or described.metrics[0].name
    for statement in _statements(project, chosen.id, described.id, first, day, is_former=former):
        click.echo(statement)


def _statements(
    project: Project, facility: str, device_type: str, metric: str, day: datetime | None, *, is_former: bool
) -> Iterator[str]:
    bucket, types, today = project.names.raw_archive, project.fleet.device_types, datetime.now(UTC).date()
    asked = day.date() if day else today
    facilities, type_ids = [each.id for each in project.facilities], [each.id for each in types]
    of = {"facility": facility, "device_type": device_type}
    if is_former:
        table = former_table_statement(bucket, facilities=facilities, device_types=type_ids)
        first_query = former_query_statement(**of, metric=metric, day=asked)
    else:
        metrics = [each.name for type_ in types for each in type_.metrics]
        table = table_statement(bucket, facilities=facilities, device_types=type_ids, metrics=metrics)
        first_query = query_statement(**of, metric=metric, day=asked)
    name = FORMER_TABLE if is_former else TABLE
    yield f"-- Once, and again after a new metric, device type or facility (DROP TABLE {name}; first):\n{table}"
    yield f"\n-- Then, as you like:\n{first_query}"
    cold = min(asked, cold_before(today) - timedelta(days=1))
    yield "\n" + glacier_note(bucket, **of, day=cold, today=today, is_former=is_former)


@archive.command("compact")
@click.option("--early", is_flag=True, help="Also the hour and the day that are not over.")
@on_aws
@json_option
def compact_(site: Site, early: bool, as_json: bool) -> None:
    """Compact the archive now, as the schedule does twice an hour."""
    with reporting_aws_errors("AWS refuses the compaction"):
        try:
            done = compact(site.aws, site.project.names.compactor, is_early=early)
        except FunctionError as error:
            raise OutcomeError(
                f"the compaction failed: {error}", hint="see the function's log, then run it again"
            ) from None
    emit(done, _compacted_lines(done), as_json=as_json)


def _compacted_lines(done: dict[str, Any]) -> list[str]:
    raw, made = counted(done["raw_objects"], "raw object"), counted(done["objects"], "Parquet object")
    twice = f", {counted(done['duplicates'], 'line')} of them redelivered" if done["duplicates"] else ""
    deleted = f"; {counted(done['deleted'], 'object')} deleted that they replace" if done["deleted"] else ""
    return [f"{raw} with {counted(done['lines'], 'line')}{twice}: {made} written{deleted}"]


_PREVIEW = 2_000
_UNKNOWN = "unknown"
"""The processor's word for the facility of a record that does not prove where it is from."""


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    day = click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="Only what arrived on this day (UTC).")
    reasons = click.Choice(sorted(REASONS))
    reason = click.option("--reason", type=reasons, metavar="CODE", help="Only this reason: see docs/message.md.")
    unsent = click.option(
        "--undelivered", is_flag=True, help="Messages that the stream did not accept from a topic rule."
    )
    command = unsent(command)
    return facility_option(thing_option("Only what this thing sent.")(day(reason(command))))


@click.group()
def quarantine() -> None:
    """List, show and replay records that could not be processed."""


@quarantine.command("list")
@_filters
@on_aws
@json_option
def list_records(site: Site, as_json: bool, **filters: Any) -> None:
    """List records in quarantine, counted by facility, thing and reason."""
    found = _read_quarantine(site, **filters)[1]
    emit_rows(found, lambda: _listed_records(found), as_json=as_json)


@quarantine.command()
@click.argument("sequence_number", metavar="[SEQUENCE_NUMBER]", required=False)
@thing_option("The last record of this thing.")
@on_aws
def show(site: Site, sequence_number: str | None, thing: str | None) -> None:
    """Show one record, by its number in `list` or the last of a thing: its reason, its sender and its bytes."""
    if (sequence_number is None) == (thing is None):
        raise click.UsageError("say which: SEQUENCE_NUMBER, see fleet quarantine list; or --thing NAME")
    if sequence_number is not None:
        check_sequence_number(sequence_number)
    found = _read_quarantine(site, thing=thing)[1]
    entry = find_entry(found, sequence_number) if sequence_number is not None else last_of(found)
    if entry is None:
        what = f"no record {sequence_number}" if sequence_number else f"no record of {thing}"
        raise OutcomeError(f"{what} is in quarantine", hint="see: fleet quarantine list")
    content = entry.content()
    moment = datetime.fromtimestamp(entry.received_at / 1000, UTC).isoformat(timespec="milliseconds")
    lines = [
        f"{entry.reason}: {entry.detail}",
        f"from {entry.thing} in {entry.facility}, arrived {moment}, {entry.shard}, number {entry.sequence_number}",
        f"the {entry.raw_of.replace('_', ' as ')}, {len(content):,} bytes:",
        content[:_PREVIEW].decode("utf-8", "backslashreplace"),
    ]
    emit(None, lines, as_json=False)


@quarantine.command("replay")
@_filters
@on_aws
@click.option("--time-unit", type=click.Choice(tuple(TIME_UNITS)), help="Convert the readings' times from this to ms.")
@click.option("--with", "edited", type=PATH, metavar="FILE", help="Payloads to send instead: edited `list --json`.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def replay_records(site: Site, edited: Path | None, time_unit: str | None, yes: bool, **filters: Any) -> None:
    """Put records into the stream again. Do so once the manifest or the processor accepts them."""
    lines = None if edited is None else edited.read_text(encoding="utf-8").splitlines()
    opened, found = _read_quarantine(site, **filters)
    chosen = found if lines is None else with_payloads_of(lines, found, name=str(edited))
    if time_unit is not None:
        chosen = [entry for each in chosen if (entry := with_time_in(time_unit, each)) is not None]
    if not found and not edited and not any(value for name, value in filters.items() if name != "undelivered"):
        click.echo("nothing is in quarantine")
        return
    if filters["undelivered"]:
        chosen = _stamped(site, chosen)
    if not chosen:
        raise OutcomeError(f"none of {len(found):,} records is chosen", hint="see: fleet quarantine list")
    if not yes:
        click.confirm(f"Put {counted(len(chosen), 'record')} into the stream again?", abort=True)
    _put_again(opened, chosen, left=len(found) - len(chosen))


def _stamped(site: Site, chosen: list[Entry]) -> list[Entry]:
    """Stamp undelivered messages with their things' certificates."""
    with reporting_aws_errors("cannot read the certificates of the things"):
        stamped = with_principals(site.aws.client("iot"), chosen)
    if left := len(chosen) - len(stamped):
        click.echo(f"{counted(left, 'message')} left: damaged, or their things have no active certificate", err=True)
    return stamped


def _put_again(opened: Quarantine, chosen: list[Entry], *, left: int) -> None:
    try:
        with reporting_aws_errors("the records are not all replayed", hint="try again later"):
            given, broken = put_again(chosen, opened)
    except TimeoutError as error:
        raise EnvironmentFault(f"the records are not all replayed: {error}", hint="try again later") from None
    click.echo(f"{counted(given, 'record')} put into the stream again" + (f", {left:,} not chosen" if left else ""))
    click.echo("what is refused once more is in quarantine again: fleet quarantine list", err=True)
    if broken:
        raise OutcomeError(f"{broken:,} records are left: their own encoding is broken", hint="nothing can replay them")


def _read_quarantine(
    site: Site,
    *,
    facility: str | None = None,
    thing: str | None = None,
    day: datetime | None = None,
    reason: str | None = None,
    undelivered: bool = False,
) -> tuple[Quarantine, list[Entry]]:
    if facility not in (None, _UNKNOWN):
        site.project.facility(str(facility))
    opened: list[Quarantine] = []

    def read(name: str | None) -> list[Entry]:
        opened.append(open_quarantine(site.aws, site.project.names.function))
        with reporting_aws_errors("cannot read the quarantine"):
            date = f"{day:%Y-%m-%d}" if day else None
            find = undelivered_messages if undelivered else entries
            found = find(opened[0], facility=facility, date=date, reason=reason)
        return [entry for entry in found if name in (None, entry.thing)]

    # Not of the facility: what a thing sent as another plant's is in quarantine for that.
    found = read(None) if thing is None else site.read_thing(thing, read)[1]
    return opened[0], found


def _listed_records(found: list[Entry]) -> list[str]:
    """Count records by facility, thing and reason, each with the number of the last of them."""
    last: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in found:
        last.setdefault((entry.facility, entry.thing, entry.reason), []).append(entry)
    rows = [
        (f"{len(same):,}", why, of, thing, max(same, key=_place).sequence_number)
        for (of, thing, why), same in sorted(last.items())
    ]
    is_undelivered = any(entry.sequence_number.startswith(UNDELIVERED) for entry in found)
    hint = (
        "send them: fleet quarantine replay --undelivered"
        if is_undelivered
        else "see one: fleet quarantine show NUMBER"
    )
    where = "not delivered by topic rules" if is_undelivered else "in quarantine"
    return [
        *table(rows, "><<<<"),
        f"{counted(len(found), 'record')} {where}",
        *([f"{hint}; all: --json"] if rows else []),
    ]


def _place(entry: Entry) -> tuple[int, int, str]:
    return entry.received_at, len(entry.sequence_number), entry.sequence_number


@click.command()
@on_aws
@json_option
def replay(site: Site, as_json: bool) -> None:
    """Redrive records from the on-failure queue, as long as the stream has them (a week)."""
    outcome = redrive_queue(site)
    emit(outcome, _outcome_lines(outcome), as_json=as_json)
    if outcome.left:
        raise OutcomeError(
            f"{len(outcome.left)} messages stay in the queue", hint="see the function's log, then replay again"
        )
    if outcome.gone:
        raise OutcomeError(
            f"{outcome.gone} records are gone from the stream", hint="replay within its retention: a week"
        )


def redrive_queue(site: Site) -> Outcome:
    """Redrive the queue of the site's processor, showing progress."""
    aws = site.aws
    with (
        reporting_aws_errors("AWS refuses the replay"),
        deployed_processor(aws, site.project.names.function) as processor,
        Progress("replaying") as progress,
    ):
        return redrive(processor, on_message=progress.advance)


def _outcome_lines(outcome: Outcome) -> list[str]:
    counts = f"{outcome.messages} messages: {outcome.replayed} records redriven, {outcome.gone} gone from the stream"
    return [counts, *(f"left: {why}" for why in outcome.left)]
