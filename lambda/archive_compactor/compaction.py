"""Compact the raw archive: hours as soon as they are over, days for good, each committed by one manifest.

The story of a date: load its manifests, compact the raw objects that are in none, merge the hours once the day is over,
publish the lists that Athena reads, and, where the retention allows it, delete what the day's objects replace.

What makes it safe at any point:

- Data first, manifest last. An object that no manifest names does not exist for any reader.
- A manifest is created, never replaced (`If-None-Match`): of two writers one wins, and the other gives up the date.
- Keys and bytes follow from the inputs, so that a repeated run writes the same objects again.
- Before a manifest is written, what was encoded is decoded again and reconciled by sequence number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from arro3.core import RecordBatch, Table

from .bucket import Bucket
from .layout import (
    LIST_NAME,
    RAW,
    TABLE,
    DateState,
    DayManifest,
    HourManifest,
    Output,
    by_partition,
    digest_of,
    encode_manifest,
    joined_digest,
    manifest_key,
    name_of,
    object_list,
    partition_prefix,
    raw_hour,
    raw_prefix,
    state_of,
)
from .reader import load_state
from .rows import (
    FIXED_COLUMNS,
    WRITER,
    PartitionRows,
    arrivals_of,
    from_parquet,
    read_lines,
    schema_of,
    sequence_numbers_of,
    sorted_rows,
    to_parquet,
    widened,
)

WINDOW_DAYS = 35
"""Days back to which records may still arrive: the stream keeps them for seven."""

HOUR_GRACE = timedelta(minutes=10)
"""After the end of an hour, so that its last batches are stored. What comes later makes a further generation."""

DAY_GRACE = timedelta(hours=2)

EXPIRY_GRACE = timedelta(days=2)
"""After the end of a date until its raw and hourly objects are deleted, so that no running query misses them."""

GENERATION_BYTES = 32 * 1024 * 1024
"""Compressed raw bytes for each generation of an hour: some 150,000 readings, which need 0.5 GB."""

DAY_ROWS = 1_000_000
"""Rows of a day's object, from which on the next one begins."""

THREADS = 8

Catalogue = Mapping[str, Iterable[str]]
"""Device type → its metrics."""


class OvertakenError(Exception):
    """Another writer has committed the same manifest; this one's work on the date is void."""


class IrreconcilableError(Exception):
    """An object differs from what it was made of: nothing is committed, and nothing deleted."""


@dataclass(slots=True, kw_only=True)
class Report:
    """Result of a run.

    `duplicates` are lines of redelivered records, `left` raw objects for which no time was left, `failed` the dates
    that could not be compacted, each with its error.
    """

    raw_objects: int = 0
    lines: int = 0
    duplicates: int = 0
    hours: int = 0
    days: int = 0
    objects: int = 0
    deleted: int = 0
    left: int = 0
    overtaken: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compactor:
    """Compacts one bucket.

    Args:
        catalogue: The metrics that get a column; the others are in `raw` only.
        now: The time, UTC.
        expires: Delete raw objects and hourly ones once the day's are verified.
        has_time: Whether there is time for one more object; else the run ends early, at a commit.
        is_early: Also compact the hour and the day that go on: what follows makes further generations.
    """

    bucket: Bucket
    catalogue: Catalogue
    now: datetime
    expires: bool
    has_time: Callable[[], bool] = lambda: True
    is_early: bool = False

    def run(self) -> Report:
        """Compact every date that may have something new; a date that fails does not stop the others."""
        report = Report()
        for day in self.dates():
            try:
                self._compact_date(day, report)
            except OvertakenError as error:
                report.overtaken.append(str(error))
            except Exception as error:
                report.failed.append(f"{day}: {type(error).__name__}: {error}")
        return report

    def dates(self) -> list[str]:
        """Return the dates to look at: those within the window, and where raw objects expire, all that have any."""
        today = self.now.date()
        window = {str(today - timedelta(days=days)) for days in range(WINDOW_DAYS + 1)}
        found = {name.removeprefix("date=") for name in self.bucket.folders(RAW) if name.startswith("date=")}
        return sorted(found if self.expires else found & window)

    def _compact_date(self, day: str, report: Report) -> None:
        state = load_state(self.bucket, day)
        raw = {each.key: each.size for each in self.bucket.list(raw_prefix(day)) if raw_hour(each.key)}
        pending: dict[str, list[str]] = {}
        for key in sorted(raw.keys() - state.compacted):
            (_, hour) = raw_hour(key) or ("", "")
            if self._is_over(day, hour=int(hour)):
                pending.setdefault(hour, []).append(key)
        for hour, keys in pending.items():
            state = self._compact_hour(state, hour, keys, sizes=raw, report=report)
        is_complete = raw.keys() <= state.compacted
        if state.hours and self._is_over(day) and is_complete and self.has_time():
            state = self._compact_day(state, report)
        self._publish(state)
        if self.expires and is_complete and not state.hours and self._is_past(day, EXPIRY_GRACE):
            self._expire(state, raw, report)

    def _is_over(self, day: str, *, hour: int | None = None) -> bool:
        if self.is_early:
            return True
        if hour is None:
            return self._is_past(day, DAY_GRACE)
        return self.now >= _start(day) + timedelta(hours=hour + 1) + HOUR_GRACE

    def _is_past(self, day: str, grace: timedelta) -> bool:
        return self.now >= _start(day) + timedelta(days=1) + grace

    def _compact_hour(
        self, state: DateState, hour: str, keys: Sequence[str], *, sizes: Mapping[str, int], report: Report
    ) -> DateState:
        """Compact raw objects of an hour, in as many generations as their size needs."""
        seen = set(_known_numbers(self.bucket, state, hour))
        for group in _groups(keys, sizes):
            if not self.has_time():
                report.left += len(group)
                continue
            generation = state.generations.get(hour, 0) + 1
            partitions: dict[tuple[str, str], PartitionRows] = {}
            lines = 0
            for key in group:
                for line in read_lines(self.bucket.get(key)):
                    lines += 1
                    if line.sequence_number not in seen:
                        seen.add(line.sequence_number)
                        place = line.facility, line.device_type
                        rows = partitions.get(place)
                        if rows is None:
                            rows = partitions[place] = PartitionRows(self.catalogue.get(line.device_type, ()))
                        rows.add(line)
            outputs = []
            for place, rows in sorted(partitions.items()):
                name = f"hour-{hour}-{generation:04d}-{name_of(group, columns=rows.schema.names, writer=WRITER)}"
                numbers = rows.sequence_numbers
                outputs.append(self._write(place, state.date, name, rows.table(), digest=digest_of(numbers)))
            manifest = HourManifest(
                date=state.date,
                hour=hour,
                generation=generation,
                inputs=tuple(group),
                lines=lines,
                records=sum(each.records for each in outputs),
                outputs=tuple(outputs),
            )
            state = self._commit(state, manifest)
            report.raw_objects += len(group)
            report.lines += lines
            report.duplicates += lines - manifest.records
            report.hours += 1
            report.objects += len(outputs)
        return state

    def _compact_day(self, state: DateState, report: Report) -> DateState:
        """Merge the hours, and the former day's objects where late hours came after them."""
        generation = (state.day.generation if state.day else 0) + 1
        outputs: list[Output] = []
        for place, sources in by_partition(state.outputs):
            made = [
                self._write(place, state.date, name, table)
                for name, table in _merged(self.bucket, sources, generation=generation)
            ]
            _check_equal(f"{state.date} of {'/'.join(place)}", made, sources)
            outputs += made
        manifest = DayManifest(
            date=state.date,
            generation=generation,
            hours=dict(sorted(state.generations.items())),
            records=sum(each.records for each in outputs),
            outputs=tuple(outputs),
        )
        report.days += 1
        report.objects += len(outputs)
        return self._commit(state, manifest)

    def _write(self, place: tuple[str, str], day: str, name: str, table: Table, *, digest: str | None = None) -> Output:
        """Encode a table, check that it can be decoded to what was read, and store it."""
        body = to_parquet(table)
        output = described(body, key=f"{partition_prefix(*place, day)}{name}.parquet", place=place)
        if output.rows != table.num_rows or digest not in (None, output.digest):
            raise IrreconcilableError(f"{output.key} would lack records")
        self.bucket.put(output.key, body)
        return output

    def _commit(self, state: DateState, manifest: HourManifest | DayManifest) -> DateState:
        """Create the manifest, by which its objects begin to exist for readers."""
        key, body = manifest_key(manifest), encode_manifest(manifest)
        if not self.bucket.put(key, body, IfNoneMatch="*"):
            found = self.bucket.find(key)
            # The same bytes: an earlier answer was lost, or another run did the same work.
            if found is None or found[0] != body:
                raise OvertakenError(f"another run has written {key}")
        return state_of(state.date, (*state.manifests, manifest))

    def _publish(self, state: DateState) -> None:
        """Write the lists that Athena reads, where they are not what the manifests say."""
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda each: self._publish_list(state.date, *each), by_partition(state.outputs)))

    def _publish_list(self, day: str, place: tuple[str, str], outputs: Sequence[Output]) -> None:
        key = f"{partition_prefix(*place, day, below=TABLE)}{LIST_NAME}"
        wanted, found = object_list(self.bucket.name, outputs), self.bucket.find(key)
        if found is None:
            self.bucket.put(key, wanted, IfNoneMatch="*")
        elif found[0] != wanted:
            # Refused where another run was first; the next one looks again.
            self.bucket.put(key, wanted, IfMatch=found[1])

    def _expire(self, state: DateState, raw: Mapping[str, int], report: Report) -> None:
        """Delete raw objects and replaced Parquet objects of a date, after its objects were read back."""
        replaced = [
            each.key
            for place, _ in by_partition(state.outputs)
            for each in self.bucket.list(partition_prefix(*place, state.date))
            if each.key in state.replaced
        ]
        if not raw and not replaced:
            return
        for output in state.outputs:
            place = output.facility, output.device_type
            if described(self.bucket.get(output.key), key=output.key, place=place) != output:
                raise IrreconcilableError(f"{output.key} is not what its manifest says")
        self.bucket.delete([*raw, *replaced])
        report.deleted += len(raw) + len(replaced)


def described(body: bytes, *, key: str, place: tuple[str, str]) -> Output:
    """Describe a Parquet object by what is in its bytes."""
    batches = from_parquet(body)
    numbers = list(sequence_numbers_of(batches))
    return Output(
        key=key,
        facility=place[0],
        device_type=place[1],
        rows=sum(batch.num_rows for batch in batches),
        records=len(numbers),
        digest=digest_of(numbers),
        bytes=len(body),
    )


def _check_equal(what: str, made: Sequence[Output], sources: Sequence[Output]) -> None:
    """Raise IrreconcilableError unless both have the same records and rows."""
    have, want = _totals(made), _totals(sources)
    if have != want:
        raise IrreconcilableError(f"{what}: {have[0]} records and {have[1]} rows of {want[0]} and {want[1]}")


def _totals(outputs: Sequence[Output]) -> tuple[int, int, str]:
    records, rows = sum(each.records for each in outputs), sum(each.rows for each in outputs)
    return records, rows, joined_digest(each.digest for each in outputs)


def _groups(keys: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Split the keys so that each group has at most GENERATION_BYTES, or one object."""
    group: list[str] = []
    size = 0
    for key in keys:
        if group and size + sizes[key] > GENERATION_BYTES:
            yield group
            group, size = [], 0
        group.append(key)
        size += sizes[key]
    if group:
        yield group


def _known_numbers(bucket: Bucket, state: DateState, hour: str) -> Iterator[str]:
    """Return the sequence numbers that earlier generations of an hour have; there are none for most hours."""
    if hour not in state.generations:
        return
    start = int((_start(state.date) + timedelta(hours=int(hour))).timestamp() * 1000)
    for output in state.outputs:
        for number, arrived_at in arrivals_of(from_parquet(bucket.get(output.key))):
            if start <= arrived_at < start + 3_600_000:
                yield number


def _merged(bucket: Bucket, sources: Sequence[Output], *, generation: int) -> Iterator[tuple[str, Table]]:
    """Return tables of at least DAY_ROWS rows, the last one fewer, each with the name of its object."""
    batches: list[RecordBatch] = []
    used: list[str] = []
    for number, output in enumerate(sources, start=1):
        batches += from_parquet(bucket.get(output.key))
        used.append(output.key)
        if number == len(sources) or sum(batch.num_rows for batch in batches) >= DAY_ROWS:
            metrics = {name for batch in batches for name in batch.column_names} - set(FIXED_COLUMNS)
            schema = schema_of(sorted(metrics))
            table = sorted_rows([widened(batch, schema) for batch in batches], schema)
            yield f"day-{generation:04d}-{name_of(used, columns=schema.names, writer=WRITER)}", table
            batches, used = [], []


def _start(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
