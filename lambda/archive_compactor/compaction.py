"""Compact the raw archive: hours as soon as they are over, days for good, each committed by one manifest.

The story of a date: load its manifests, compact the raw objects that are in none, merge the hours once the day is over,
publish the lists that Athena reads, and, where the retention allows it, delete what the day's objects replace.

A run that has no time left ends at a commit, or saves how far it got with a day; the next one goes on from there.
Memory does not grow with the rate: records of a shard are in order, so a duplicate is in a raw object that overlaps.

What makes it safe at any point:

- Data first, manifest last. An object that no manifest names does not exist for any reader.
- A manifest is created, never replaced (`If-None-Match`): of two writers one wins, and the other gives up the date.
- Keys and bytes follow from the inputs, so that a repeated run writes the same objects again.
- Before a manifest is written, what was encoded is decoded again and reconciled by sequence number.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate

from arro3.core import RecordBatch, Table
from msgspec import structs

from .bucket import Bucket
from .layout import (
    LIST_NAME,
    RAW,
    TABLE,
    DateState,
    DayManifest,
    HourManifest,
    Output,
    Progress,
    RawObject,
    by_partition,
    decode_manifest,
    decode_progress,
    digest_of,
    encode_manifest,
    is_settled,
    joined_digest,
    listed_key,
    manifest_key,
    manifest_prefix,
    name_of,
    newest_day,
    object_list,
    partition_prefix,
    progress_key,
    raw_hour,
    raw_object,
    raw_prefix,
    state_of,
)
from .reader import load_state
from .rows import (
    FIXED_COLUMNS,
    WRITER,
    PartitionRows,
    from_parquet,
    read_lines,
    schema_of,
    sequence_numbers_of,
    sorted_rows,
    to_parquet,
    widened,
)

FRESH_DAYS, WINDOW_DAYS, WINDOW_HOUR = 9, 35, 3
"""Days back to which records may still arrive, as the stream keeps them for seven; and those that are looked at in one
hour of the day, should no run have been for a while."""

HOUR_GRACE = timedelta(minutes=10)
"""After the end of an hour, so that its last batches are stored. What comes later makes a further generation."""

DAY_GRACE = timedelta(hours=2)

EXPIRY_GRACE = timedelta(days=2)
"""After the end of a date until its raw and hourly objects are deleted, so that no running query misses them."""

GENERATION_BYTES = 192 * 1024 * 1024
"""Bytes of a generation of an hour, from which on the next one begins: ROW_BYTES a reading, and its line's base64.
Measured: 360 MB of memory over the function's own for arrays of ten readings."""

ROW_BYTES, VALUE_BYTES = 600, 9
"""Of a reading, and of each of its metrics, as rows."""

LOOKUP_RECORDS = 500_000
"""Redelivered records, by the names of their objects, that are looked up among the compacted ones at a time."""

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

    `duplicates` are lines of redelivered records, `left` raw objects for which no time was left, `unfinished` the dates
    that the next run goes on with, `lost` those whose unreadable progress was discarded, `failed` those that
    could not be compacted, each with its error.
    """

    raw_objects: int = 0
    lines: int = 0
    duplicates: int = 0
    hours: int = 0
    days: int = 0
    objects: int = 0
    deleted: int = 0
    left: int = 0
    unfinished: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
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
                if self.has_time():
                    self._compact_date(day, report)
                else:
                    report.unfinished.append(day)
            except OvertakenError as error:
                report.overtaken.append(str(error))
            except Exception as error:
                report.failed.append(f"{day}: {type(error).__name__}: {error}")
        return report

    def dates(self) -> list[str]:
        """Return the dates to look at, newest first: those to which records may still arrive, others once a day.

        Where raw objects expire, all that have any.
        """
        today = self.now.date()
        is_wide = self.is_early or self.now.hour == WINDOW_HOUR
        window = {str(today - timedelta(days=days)) for days in range((WINDOW_DAYS if is_wide else FRESH_DAYS) + 1)}
        found = {name.removeprefix("date=") for name in self.bucket.folders(RAW) if name.startswith("date=")}
        return sorted(found if self.expires else found & window, reverse=True)

    def _compact_date(self, day: str, report: Report) -> None:
        raw = {each.key: each.size for each in self.bucket.list(raw_prefix(day)) if raw_hour(each.key)}
        if not self.expires and self._is_settled(day, inputs=len(raw)):
            return
        state = load_state(self.bucket, day)
        pending: dict[str, list[str]] = {}
        for key in sorted(raw.keys() - state.compacted):
            (_, hour) = raw_hour(key) or ("", "")
            if self._is_over(day, hour=int(hour)):
                pending.setdefault(hour, []).append(key)
        for hour, keys in pending.items():
            state = self._compact_hour(state, hour, keys, sizes=raw, report=report)
        is_complete = raw.keys() <= state.compacted
        if state.hours and self._is_over(day) and is_complete:
            state = self._compact_day(state, report)
        state = self._publish(state)
        if self.expires and is_complete and not state.hours and self._is_past(day, EXPIRY_GRACE):
            self._expire(state, raw, report)

    def _is_settled(self, day: str, *, inputs: int) -> bool:
        """Return whether a day's newest manifest has all hours and raw objects, and the lists have its objects."""
        keys = [each.key for each in self.bucket.list(manifest_prefix(day))]
        newest = newest_day(keys)
        found = decode_manifest(newest, self.bucket.get(newest)) if newest else None
        return isinstance(found, DayManifest) and found.inputs == inputs and is_settled(keys, found)

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
        """Compact raw objects of an hour, in as many generations as memory needs; borders follow from the objects."""
        left = sorted(map(raw_object, keys), key=lambda each: (each.shard, each.first, each.last, each.key))
        seen, looked_up = Window(known=()), 0
        while left:
            if not self.has_time():
                report.left += len(left)
                break
            generation = state.generations.get(hour, 0) + 1
            partitions: dict[tuple[str, str], PartitionRows] = {}
            group: list[RawObject] = []
            lines = size = 0
            for number, each in enumerate(left):
                if size >= GENERATION_BYTES:
                    break
                if not looked_up:
                    ahead = _ahead(left[number:])
                    known = _known_numbers(self.bucket, state, hour, ahead, has_time=self.has_time)
                    if known is None:
                        report.left += len(left)
                        return state
                    seen.known, looked_up = known, len(ahead)
                looked_up -= 1
                seen.move_to(each)
                before = lines
                for line in read_lines(self.bucket.get(each.key)):
                    lines += 1
                    size += len(line.raw) + ROW_BYTES
                    if seen.adds(line.sequence_number):
                        place = line.facility, line.device_type
                        rows = partitions.get(place)
                        if rows is None:
                            rows = partitions[place] = PartitionRows(self.catalogue.get(line.device_type, ()))
                        size += rows.add(line) * (ROW_BYTES + VALUE_BYTES * len(rows.schema.names))
                if lines - before != each.records:
                    raise IrreconcilableError(f"{each.key} has {lines - before} records, its name says {each.records}")
                group.append(each)
            left = left[len(group) :]
            outputs = []
            for place, rows in sorted(partitions.items()):
                made_of = name_of([each.key for each in group], columns=rows.schema.names, writer=WRITER)
                name = f"hour-{hour}-{generation:04d}-{made_of}"
                numbers = rows.sequence_numbers
                outputs.append(self._write(place, state.date, name, rows.table(), digest=digest_of(numbers)))
            manifest = HourManifest(
                date=state.date,
                hour=hour,
                generation=generation,
                inputs=tuple(each.key for each in group),
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
        """Merge the hours, and the former day's objects where late hours came after them.

        Each object that is made is a step, after which the run may end.
        """
        start = Progress(
            step="merge",
            hours=dict(sorted(state.generations.items())),
            generation=(state.day.generation if state.day else 0) + 1,
            done=0,
        )
        saved = self._resumed(state.date, start, report)
        made, done, passed = list(saved.outputs), saved.done, 0
        for place, sources in by_partition(state.outputs):
            left = sources[max(0, done - passed) :]
            while left:
                if not self.has_time():
                    self._pause(state.date, structs.replace(start, done=done, outputs=tuple(made)), report)
                    return state
                name, table, used = _merged(self.bucket, left, generation=start.generation)
                made.append(self._write(place, state.date, name, table))
                left, done = left[used:], done + used
            passed += len(sources)
            of_place = [each for each in made if (each.facility, each.device_type) == place]
            _check_equal(f"{state.date} of {'/'.join(place)}", of_place, sources)
        manifest = DayManifest(
            date=state.date,
            generation=start.generation,
            hours=start.hours,
            records=sum(each.records for each in made),
            outputs=tuple(made),
            inputs=len(state.compacted),
        )
        report.days += 1
        report.objects += len(made)
        return self._commit(state, manifest)

    def _resumed(self, day: str, start: Progress, report: Report) -> Progress:
        """Return how far an earlier run got with the same step, or else its start."""
        found = self.bucket.find(progress_key(day))
        try:
            saved = decode_progress(found[0]) if found else start
        except (ValueError, EOFError, OSError, zlib.error):
            if day not in report.lost:
                report.lost.append(day)
            return start
        is_same = structs.replace(saved, done=0, outputs=()) == start
        return saved if is_same else start

    def _pause(self, day: str, progress: Progress, report: Report) -> None:
        """Save how far this run got with a day; what was done is done again where that is lost."""
        self.bucket.put(progress_key(day), encode_manifest(progress))
        report.unfinished.append(day)

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

    def _publish(self, state: DateState) -> DateState:
        """Write the lists that Athena reads, until they are what the manifests say; return the state that they have.

        The manifests are read after a list and before it is replaced, so no list ever becomes older.
        """
        while stale := self._stale_lists(state):
            state = load_state(self.bucket, state.date)
            wanted = self._lists(state)
            with ThreadPoolExecutor(THREADS) as pool:
                puts = [(key, wanted[key], when) for key, when in stale.items()]
                list(pool.map(lambda put: self.bucket.put(put[0], put[1], **put[2]), puts))
        if not self.expires and state.day and not state.hours:
            self.bucket.put(listed_key(state.day), b"")
        return state

    def _stale_lists(self, state: DateState) -> dict[str, dict[str, str]]:
        """Return the lists that are not those of a state, each with the condition that nothing has replaced it."""
        wanted = self._lists(state)
        with ThreadPoolExecutor(THREADS) as pool:
            found = dict(zip(wanted, pool.map(self.bucket.find, wanted), strict=True))
        return {
            key: {"IfMatch": there[1]} if there else {"IfNoneMatch": "*"}
            for key, there in found.items()
            if there is None or there[0] != wanted[key]
        }

    def _lists(self, state: DateState) -> dict[str, bytes]:
        return {
            f"{partition_prefix(*place, state.date, below=TABLE)}{LIST_NAME}": object_list(self.bucket.name, outputs)
            for place, outputs in by_partition(state.outputs)
        }

    def _expire(self, state: DateState, raw: Mapping[str, int], report: Report) -> None:
        """Delete raw objects and replaced Parquet objects of a date, after its objects were read back."""
        replaced = [
            each.key
            for place, _ in by_partition(state.outputs)
            for each in self.bucket.list(partition_prefix(*place, state.date))
            if each.key in state.replaced
        ]
        if state.day is None or (not raw and not replaced):
            return
        start = Progress(step="verify", hours=state.day.hours, generation=state.day.generation, done=0)
        done = self._resumed(state.date, start, report).done
        for number, output in enumerate(state.outputs[done:], start=done):
            if not self.has_time():
                self._pause(state.date, structs.replace(start, done=number), report)
                return
            place = output.facility, output.device_type
            if described(self.bucket.get(output.key), key=output.key, place=place) != output:
                raise IrreconcilableError(f"{output.key} is not what its manifest says")
        # Raw objects last: a date that has any is looked at again.
        self.bucket.delete([*replaced, *raw])
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


class Window:
    """Finds duplicates among raw objects of one shard after the other, each by its first sequence number.

    Memory has the numbers of objects that overlap the present one; `known` are those of earlier generations.
    """

    def __init__(self, *, known: Container[int]) -> None:
        self.known = known
        self._numbers: set[int] = set()
        self._object = RawObject(key="", shard="", first=0, last=-1, records=0)
        self._highest = -1

    def move_to(self, each: RawObject) -> None:
        """Go on with the next object: numbers below its first one cannot come again."""
        if each.shard != self._object.shard:
            self._highest = -1
        is_apart = each.first > self._highest
        self._numbers = set() if is_apart else {number for number in self._numbers if number >= each.first}
        self._highest = max(self._highest, each.last)
        self._object = each

    def adds(self, sequence_number: str) -> bool:
        """Add a record of the present object; return whether it is no duplicate."""
        number = int(sequence_number)
        if not self._object.first <= number <= self._object.last:
            raise IrreconcilableError(f"{self._object.key} has the record {number}, which is not in its name")
        if number in self._numbers or number in self.known:
            return False
        self._numbers.add(number)
        return True


def _ahead(objects: Sequence[RawObject]) -> Sequence[RawObject]:
    """Return the first objects, of some LOOKUP_RECORDS."""
    sums = accumulate(each.records for each in objects)
    return objects[: next((number for number, sum_ in enumerate(sums, 1) if sum_ >= LOOKUP_RECORDS), len(objects))]


def _known_numbers(
    bucket: Bucket, state: DateState, hour: str, objects: Sequence[RawObject], *, has_time: Callable[[], bool]
) -> frozenset[int] | None:
    """Return the sequence numbers of raw objects that earlier generations of their hour have; None without time.

    They are read from the few Parquet objects of the hour that may have them, or from the day's where these expired.
    """
    manifests = [each for each in state.manifests if isinstance(each, HourManifest) and each.hour == hour]
    meets = _meeting(objects, [raw_object(key) for each in manifests for key in each.inputs])
    asked: set[int] = set()
    for each in filter(meets, objects):
        asked.update(int(line.sequence_number) for line in read_lines(bucket.get(each.key)))
    if not asked:
        return frozenset()
    hourly = [
        output for each in manifests if any(meets(raw_object(key)) for key in each.inputs) for output in each.outputs
    ]
    for outputs in (hourly, state.day.outputs if state.day else ()):
        known: set[int] = set()
        for output in outputs:
            if outputs is not hourly and not has_time():
                return None
            found = bucket.find(output.key)
            if found is None:
                break
            known.update(asked.intersection(map(int, sequence_numbers_of(from_parquet(found[0])))))
        else:
            return frozenset(known)
    raise IrreconcilableError(f"an object of hour {hour} is missing")


def _meeting(new: Iterable[RawObject], earlier: Iterable[RawObject]) -> Callable[[RawObject], bool]:
    """Return whether an object is in one of the ranges in which new objects overlap earlier ones of their shard."""
    ranges = sorted(_overlaps(new, earlier))
    firsts = [first for first, _ in ranges]
    lasts = list(accumulate((last for _, last in ranges), max))

    def meets(each: RawObject) -> bool:
        place = bisect_right(firsts, (each.shard, each.last)) - 1
        return place >= 0 and (each.shard, each.first) <= lasts[place]

    return meets


def _overlaps(
    new: Iterable[RawObject], earlier: Iterable[RawObject]
) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the first and last places, by shard and number, of ranges in which new objects overlap earlier ones."""
    objects = [(each.shard, each.first, each.last, True) for each in new]
    objects += [(each.shard, each.first, each.last, False) for each in earlier]
    present, ends = "", {True: -1, False: -1}
    for shard, first, last, is_new in sorted(objects):
        if shard != present:
            present, ends = shard, {True: -1, False: -1}
        if first <= ends[not is_new]:
            yield (shard, first), (shard, min(last, ends[not is_new]))
        ends[is_new] = max(ends[is_new], last)


def _merged(bucket: Bucket, sources: Sequence[Output], *, generation: int) -> tuple[str, Table, int]:
    """Merge sources into a table of at least DAY_ROWS rows, or all; return its object's name, it, and their number."""
    batches: list[RecordBatch] = []
    used: list[str] = []
    for output in sources:
        batches += from_parquet(bucket.get(output.key))
        used.append(output.key)
        if sum(batch.num_rows for batch in batches) >= DAY_ROWS:
            break
    metrics = {name for batch in batches for name in batch.column_names} - set(FIXED_COLUMNS)
    schema = schema_of(sorted(metrics))
    table = sorted_rows([widened(batch, schema) for batch in batches], schema)
    return f"day-{generation:04d}-{name_of(used, columns=schema.names, writer=WRITER)}", table, len(used)


def _start(day: str) -> datetime:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
