"""Compaction: each record in exactly one object, the same bytes on every run, whatever ends a run."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from fleet_iot.archive_compactor import bucket, compaction
from fleet_iot.archive_compactor.compaction import Window
from fleet_iot.archive_compactor.layout import (
    LIST_NAME,
    TABLE,
    HourManifest,
    RawObject,
    column_of,
    decode_manifest,
    progress_key,
    raw_object,
)
from fleet_iot.archive_compactor.reader import archived_dates, archived_lines, load_state
from fleet_iot.archive_compactor.rows import from_parquet, to_parquet
from tests.archive_compactor.plants import (
    DAY_MS,
    HOUR_MS,
    METRICS,
    PLANTS,
    START,
    Killed,
    MemoryS3,
    Simulation,
    compactor,
    record_of,
)

DAYS = int(os.environ.get("FLEET_ARCHIVE_DAYS", "3"))
"""`make soak`: 30."""
KILLS = int(os.environ.get("FLEET_ARCHIVE_KILLS", "3"))
"""`make soak`: 30."""
DAY = "2026-11-01"


def archived(hours: int = 3, **settings: Any) -> tuple[MemoryS3, Simulation]:
    """A bucket with the raw objects of the first hours of a day."""
    simulation = Simulation(s3=MemoryS3(), **{"devices": 1, "interval_s": 60, "window_s": 30, **settings})
    simulation.run(START, START + hours * HOUR_MS)
    return simulation.s3, simulation


def late(after_ms: int) -> Any:
    """A record that arrived so long after the start of the first date."""
    message = b'{"time": 1793491200000, "metrics": {"flow": 9}}'
    return record_of(message, plant="sg-01", type_="compressor", device=9, at=START + after_ms, number=77)


LATE = late(1_000)


def read(s3: MemoryS3) -> list[dict[str, Any]]:
    """All lines that readers see, without their order."""
    bucket = s3.bucket()
    return sorted(archived_lines(bucket, archived_dates(bucket)), key=lambda line: line["sequence_number"])


def listed(s3: MemoryS3) -> Iterator[str]:
    """The keys that Athena reads."""
    for key, body in s3.objects.items():
        if key.startswith(TABLE) and key.endswith(LIST_NAME):
            yield from (line.removeprefix("s3://archive/") for line in body.decode().splitlines())


def rows(s3: MemoryS3) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """The columns of each object that Athena reads, with its key."""
    for key in listed(s3):
        for batch in from_parquet(s3.objects[key]):
            yield key, {name: batch.column(name).to_pylist() for name in batch.column_names}


def test_hours_then_days_have_what_was_archived() -> None:
    """Readers see the same lines before compaction, by hour, by day and after the raw objects expired."""
    s3, simulation = archived()
    before = read(s3)

    states = []
    for now in (HOUR_MS + HOUR_MS // 2, 4 * HOUR_MS, DAY_MS + 3 * HOUR_MS, 4 * DAY_MS):
        compactor(s3, now=START + now).run()
        assert read(s3) == before
        states.append(Counter(key.partition("/")[0] for key in s3.objects))

    assert len(before) == simulation.readings
    assert [state["archive"] for state in states] == [6, 18, 24, 6]
    assert [state["raw"] > 0 for state in states] == [True, True, True, False]
    assert len(list(listed(s3))) == 6


def test_rows_are_the_readings() -> None:
    """A row has device, times and numbers of a reading; the bytes of the message are in the first row of its record."""
    s3 = MemoryS3()
    simulation = Simulation(s3=s3)
    message = (
        b' [{"time": 1793491200100, "metrics": {"temperature": 1.5, "odd": 2}},\n'
        b'{"time": 1793491200000, "sequence": 7, "metrics": {"vibration": null, "pressure": 3}}]\0'
    )
    simulation.archive([record_of(message, plant="sg-01", type_="press-monitor", device=1, at=START + 300, number=5)])
    compactor(s3, now=START + 2 * HOUR_MS).run()

    ((_, columns),) = rows(s3)

    assert columns["taken_at"][0] < columns["taken_at"][1]
    assert (columns["reading"], columns["sequence"]) == ([1, 0], [7, None])
    assert columns["raw"] == [None, message]
    assert (columns["metric_temperature"], columns["metric_pressure"]) == ([None, 1.5], [3.0, None])
    assert columns["metric_vibration"] == [None, None]
    assert "metric_odd" not in columns


def test_a_message_that_cannot_be_read_keeps_its_bytes() -> None:
    """A raw line whose message is none of the present format is a row with its bytes and without numbers."""
    s3, _ = archived(hours=1)
    key = min(s3.objects)
    number = str(raw_object(key).first)
    line = read(s3)[0] | {"raw": "e30=", "sequence_number": number}
    from fleet_iot.sensor_processor.ingest.codec import gzip_bytes

    del s3.objects[key]
    key = f"{key.rpartition('-')[0]}-1.ndjson.gz"
    s3.objects[key] = gzip_bytes(json.dumps(line).encode())
    compactor(s3, now=START + 2 * HOUR_MS).run()

    found = [columns for _, columns in rows(s3) if number in columns["sequence_number"]]
    assert [columns["raw"][columns["sequence_number"].index(number)] for columns in found] == [b"{}"]


def test_redelivered_records_are_there_once() -> None:
    """A record that was delivered again, in other batches and after its hour was compacted, is in one object once."""
    s3, simulation = archived(hours=2, share_redelivered=0.3)
    early = compactor(s3, now=START + 3 * HOUR_MS).run()
    for start in range(0, len(simulation.last_hour), 50):
        simulation.archive(simulation.last_hour[start : start + 50])
    late = compactor(s3, now=START + 4 * HOUR_MS).run()
    day = compactor(s3, now=START + DAY_MS + 3 * HOUR_MS).run()

    numbers = Counter(line["sequence_number"] for line in read(s3))
    assert early.duplicates > 0
    assert late.raw_objects > 0
    assert set(numbers.values()) == {1}
    assert day.days == 1
    assert len(numbers) == len({number for _, columns in rows(s3) for number in columns["sequence_number"]})


def test_late_objects_are_merged_into_their_day() -> None:
    """An object that comes after its day was merged becomes readable, and part of the day's next objects."""
    s3, simulation = archived()
    compactor(s3, now=START + DAY_MS + 3 * HOUR_MS).run()
    simulation.archive([late(HOUR_MS)])

    compactor(s3, now=START + 2 * DAY_MS).run()

    assert len(read(s3)) == simulation.readings + 1
    state = load_state(s3.bucket(), DAY)
    assert state.day is not None and (state.day.generation, state.day.hours["01"]) == (2, 2)
    assert not state.hours
    compactor(s3, now=START + 5 * DAY_MS).run()
    assert len(read(s3)) == simulation.readings + 1
    assert sum(key.startswith("archive/") for key in s3.objects) == 6


@pytest.mark.parametrize("expires", [True, False])
def test_a_killed_run_is_finished_by_the_next_one(expires: bool) -> None:
    """Killed before or after any call, run again, run twice: the same objects with the same bytes, readers unharmed."""
    moments = (START + 4 * HOUR_MS, START + DAY_MS + 3 * HOUR_MS, START + 4 * DAY_MS)
    source, _ = archived(share_redelivered=0.1)
    before = read(source)
    calm = MemoryS3(objects=dict(source.objects))
    for now in moments:
        compactor(calm, now=now, expires=expires).run()
    total = calm.calls
    for kill in range(KILLS):
        s3 = MemoryS3(objects=dict(source.objects))
        s3.kill_at, s3.is_killed_after = 1 + total * kill // KILLS, kill % 2 == 1
        for now in moments:
            for _ in range(2):
                with suppress(Killed):
                    compactor(s3, now=now, expires=expires).run()
                assert read(replace(s3, kill_at=None)) == before
            compactor(replace(s3, kill_at=None), now=now, expires=expires).run()
        assert s3.objects == calm.objects, s3.kill_at
    assert any(key.startswith("raw/") for key in calm.objects) is not expires


def test_of_two_writers_one_wins() -> None:
    """A run that another one overtakes commits nothing, and readers see each record once."""
    s3, simulation = archived(hours=1)
    before = read(s3)

    def overtake(operation: str, key: str) -> None:
        if operation == "put" and key.startswith("compaction/"):
            s3.before = None
            simulation.archive([LATE])
            compactor(s3, now=START + 2 * HOUR_MS).run()

    s3.before = overtake
    overtaken = compactor(s3, now=START + 2 * HOUR_MS).run()
    compactor(s3, now=START + 2 * HOUR_MS).run()

    assert len(overtaken.overtaken) == 1
    assert len(read(s3)) == len(before) + 1
    assert sorted(listed(s3)) == sorted(output.key for output in load_state(s3.bucket(), DAY).outputs)


def check_lists(s3: MemoryS3, readings: int) -> None:
    """Assert that Athena reads the objects of the manifests, which have so many readings."""
    assert sorted(listed(s3)) == sorted(output.key for output in load_state(s3.bucket(), DAY).outputs)
    assert sum(len(columns["reading"]) for _, columns in rows(s3)) == readings


@pytest.mark.parametrize("done", [0, 3])
def test_lists_are_repaired_after_a_kill(done: int) -> None:
    """A run killed between the day's manifest and its last list is finished by the next one."""
    s3, simulation = archived(hours=1)
    left = [Killed] * done

    def kill(operation: str, key: str) -> None:
        if operation == "put" and key.startswith(TABLE):
            if not left:
                raise Killed
            left.pop()

    s3.before = kill
    with suppress(Killed):
        compactor(s3, now=START + DAY_MS + 4 * HOUR_MS, expires=False).run()
    s3.before = None
    compactor(s3, now=START + DAY_MS + 5 * HOUR_MS, expires=False).run()

    check_lists(s3, simulation.readings)


def test_a_stalled_writer_never_makes_a_list_older() -> None:
    """Wherever a run stalls while it publishes, and another one adds a late object, the lists are the newer ones."""
    source, simulation = archived(hours=1, interval_s=1800)
    compactor(source, now=START + 3 * HOUR_MS).run()
    now = START + DAY_MS + 3 * HOUR_MS
    position, has_stalled = 0, True
    while has_stalled:
        s3, asked, has_stalled = MemoryS3(objects=dict(source.objects)), [0], False

        def stall(operation: str, key: str) -> None:
            nonlocal has_stalled
            is_publishing = f"compaction/date={DAY}/day-0001.json.gz" in s3.objects  # noqa: B023
            asked[0] += is_publishing  # noqa: B023
            if asked[0] > position:  # noqa: B023
                s3.before, has_stalled = None, True  # noqa: B023
                simulation.s3 = s3  # noqa: B023
                simulation.archive([LATE])
                compactor(s3, now=now, expires=position % 2 == 0).run()  # noqa: B023

        s3.before = stall
        compactor(s3, now=now, expires=position % 2 == 0).run()
        if has_stalled:
            check_lists(s3, simulation.readings + 1)
        position += 1
    assert position > 15


def test_a_killed_deletion_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before any request of a deletion of many, a later run deletes the rest, hourly objects as well."""
    monkeypatch.setattr(bucket, "_PER_DELETE", 20)
    source, _ = archived(hours=2)
    compactor(source, now=START + DAY_MS + 3 * HOUR_MS).run()
    for done in range(5):
        s3, left = MemoryS3(objects=dict(source.objects)), [Killed] * done

        def kill(operation: str, key: str) -> None:
            if operation == "delete":
                if not left:  # noqa: B023
                    raise Killed
                left.pop()  # noqa: B023

        s3.before = kill
        with suppress(Killed):
            compactor(s3, now=START + 4 * DAY_MS).run()
        s3.before = None
        compactor(s3, now=START + 5 * DAY_MS).run()
        assert not any(key.startswith("raw/") or ("/hour-" in key and key.startswith("archive/")) for key in s3.objects)


def test_a_stalled_run_deletes_nothing_that_is_in_use() -> None:
    """A run that wakes just before it deletes, when another merged the day again, deletes only what was replaced."""
    s3, simulation = archived(hours=1)
    compactor(s3, now=START + DAY_MS + 3 * HOUR_MS).run()

    def merge(operation: str, key: str) -> None:
        if operation == "delete":
            s3.before = None
            simulation.run(START + HOUR_MS, START + 2 * HOUR_MS)
            compactor(s3, now=START + 3 * DAY_MS - HOUR_MS).run()

    s3.before = merge
    compactor(s3, now=START + 4 * DAY_MS).run()

    assert len(read(s3)) == simulation.readings


def test_what_was_written_wrongly_is_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that cannot be decoded to what was read is reported, and no manifest and no deletion follows."""
    s3, _ = archived(hours=1)
    before = dict(s3.objects)
    monkeypatch.setattr(compaction, "to_parquet", lambda table: to_parquet(table.slice(1)))

    report = compactor(s3, now=START + 2 * HOUR_MS).run()

    assert "would lack records" in "".join(report.failed)
    assert s3.objects == before


def test_a_damaged_object_stops_its_own_date_only() -> None:
    """A raw object that cannot be read fails its date in each run, and the next date is compacted."""
    s3, simulation = archived(hours=1)
    damaged = min(s3.objects)
    s3.objects[damaged] = b"none"
    simulation.run(START + DAY_MS, START + DAY_MS + HOUR_MS)

    report = compactor(s3, now=START + DAY_MS + 3 * HOUR_MS).run()

    assert [failure.partition(": ")[0] for failure in report.failed] == [DAY]
    assert report.hours == 1 and list(listed(s3))
    assert damaged in s3.objects


def test_without_time_a_run_ends_at_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour that is too large for one generation becomes several; what no time is left for stays for the next run."""
    s3, simulation = archived(hours=1)
    monkeypatch.setattr(compaction, "GENERATION_BYTES", 100_000)
    turns = iter([True, True, True, False])

    report = compactor(s3, now=START + 2 * HOUR_MS, has_time=lambda: next(turns, False)).run()
    assert report.hours == 2 and report.left > 0
    assert len(read(s3)) == simulation.readings
    again = compactor(s3, now=START + 2 * HOUR_MS).run()

    manifests = [decode_manifest(key, body) for key, body in s3.objects.items() if key.startswith("compaction/")]
    hours = [each for each in manifests if isinstance(each, HourManifest)]
    assert len(hours) == report.hours + again.hours > 2
    assert sum(each.records for each in hours) == simulation.readings == len(read(s3))


def in_steps(s3: MemoryS3, *, now: int, turns: int, kill: bool = False, **more: Any) -> int:
    """Run until nothing is left, with time for a few steps in each run, and perhaps a kill in each; return the runs."""
    runs = 0
    while True:
        runs += 1
        left = iter([True] * turns)
        if kill:
            s3.kill_at, s3.is_killed_after = s3.calls + 3 + 7 * runs, runs % 2 == 1
        try:
            report = compactor(s3, now=now, has_time=lambda left=left: next(left, False), **more).run()
        except Killed:
            continue
        if not (report.left or report.unfinished):
            assert not report.failed
            return runs


@pytest.mark.parametrize("kill", [False, True])
def test_a_run_goes_on_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch, kill: bool) -> None:
    """Hours, merges and verifications in many short runs, killed or not: the objects of one long run, byte by byte."""
    monkeypatch.setattr(compaction, "GENERATION_BYTES", 50_000)
    monkeypatch.setattr(compaction, "DAY_ROWS", 40)
    source, _ = archived(hours=2, interval_s=120, share_redelivered=0.3)
    before = read(source)
    calm, s3 = MemoryS3(objects=dict(source.objects)), MemoryS3(objects=dict(source.objects))
    for now in (START + 3 * HOUR_MS, START + DAY_MS + 3 * HOUR_MS, START + 4 * DAY_MS):
        compactor(calm, now=now).run()
        runs = in_steps(s3, now=now, turns=3, kill=kill)
        assert runs > 2
        s3.kill_at = None
        assert read(s3) == before
    s3.objects.pop(progress_key(DAY))
    assert s3.objects == calm.objects


def test_progress_with_a_day_that_has_changed_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late object makes another day: nothing of the earlier merge is in it twice, or missing."""
    monkeypatch.setattr(compaction, "DAY_ROWS", 40)
    s3, simulation = archived(hours=2)
    now = START + DAY_MS + 3 * HOUR_MS
    compactor(s3, now=START + 3 * HOUR_MS).run()
    turns = iter([True] * 4)
    assert compactor(s3, now=now, has_time=lambda: next(turns, False)).run().unfinished == [DAY]
    assert progress_key(DAY) in s3.objects
    payload = b'{"time": 1793491200000, "metrics": {"flow": 9}}'
    simulation.archive([record_of(payload, plant="sg-01", type_="compressor", device=9, at=START, number=77)])

    assert compactor(s3, now=now).run().days == 1

    numbers = Counter(line["sequence_number"] for line in read(s3))
    assert (simulation.readings + 1, {1}) == (len(numbers), set(numbers.values()))


def test_duplicates_are_found_whatever_the_borders_and_generations() -> None:
    """Records come again in other batches, before and after the compaction of their hour, in any order of runs."""
    simulation = Simulation(s3=MemoryS3(), devices=1, interval_s=60, window_s=30, share_redelivered=0)
    simulation.run(START, START + HOUR_MS)
    shards = {"shardId-1": simulation.last_hour[::2], "shardId-2": simulation.last_hour[1::2]}
    for seed in range(2 * KILLS):
        random_ = random.Random(seed)
        simulation.s3 = s3 = MemoryS3()
        for shard, records in shards.items():
            for first in range(0, len(records), 20):
                simulation.archive(records[first : first + 20], shard=shard)
        for step in range(6):
            shard, records = random_.choice(list(shards.items()))
            first = random_.randrange(len(records))
            simulation.archive(records[first : first + random_.randint(1, 120)], shard=shard)
            if step % 2:
                assert not compactor(s3, now=START + 2 * HOUR_MS + step).run().failed
        numbers = Counter(line["sequence_number"] for line in read(s3))
        assert (simulation.readings, {1}) == (len(numbers), set(numbers.values())), seed


def test_memory_is_that_of_overlapping_objects() -> None:
    """Of an hour of 2,000 objects with redelivered ones the window never has more records than three of them."""
    window, most = Window(known=()), 0
    for number in range(0, 200_000, 100):
        for first in (number, number - 50) if number % 1_000 == 0 and number else (number,):
            window.move_to(RawObject(key="k", shard="s", first=first, last=first + 99, records=100))
            kept = sum(window.adds(str(each)) for each in range(first, first + 100))
            assert kept == (50 if first != number else 100) or number % 1_000 == 0
        most = max(most, len(window._numbers))
    assert most <= 300


def test_a_record_outside_the_name_of_its_object_stops_the_date() -> None:
    """Names say which records may come again; an object that has others is reported and left."""
    s3, _ = archived(hours=1)
    first, second = sorted(key for key in s3.objects if key.startswith("raw/"))[:2]
    s3.objects[first] = s3.objects[second]
    (failure,) = compactor(s3, now=START + 2 * HOUR_MS).run().failed
    assert f"{first} has the record " in failure
    assert not any(key.startswith("compaction/") for key in s3.objects)


def test_a_record_that_the_name_counts_is_missed() -> None:
    """An object with fewer lines than its name says, as a truncated one, is reported and left."""
    s3, _ = archived(hours=1)
    key = next(key for key in s3.objects if raw_object(key).records == 3)
    first, *rest = gzip.decompress(s3.objects[key]).splitlines(keepends=True)
    for body in (gzip.compress(first), gzip.compress(first) + gzip.compress(b"".join(rest))):
        s3.objects[key] = body
        (failure,) = compactor(s3, now=START + 4 * DAY_MS).run().failed
        assert f"{key} has 1 records, its name says 3" in failure
        assert key in s3.objects


@pytest.mark.parametrize(
    "body", [b"", b"junk", gzip.compress(b"{}")[:-9], gzip.compress(b"{}")], ids=["empty", "junk", "cut", "no progress"]
)
def test_progress_that_cannot_be_read_is_lost(body: bytes) -> None:
    """The work is done again, and the report names the date."""
    s3, simulation = archived(hours=1, interval_s=1800)
    s3.objects[progress_key(DAY)] = body
    report = compactor(s3, now=START + 4 * DAY_MS).run()
    assert (report.failed, report.lost, report.days) == ([], [DAY], 1)
    assert len(read(s3)) == simulation.readings


def test_a_generation_ends_by_what_its_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of slowly changing readings, small as gzip, make as many generations as their rows need."""
    monkeypatch.setattr(compaction, "GENERATION_BYTES", 100 * compaction.ROW_BYTES)
    s3, simulation = MemoryS3(), Simulation(s3=MemoryS3())
    simulation.s3 = s3
    payload = json.dumps([{"time": START + each, "metrics": {"flow": 1}} for each in range(50)]).encode()
    for number in range(10, 20):
        simulation.archive([record_of(payload, plant="sg-01", type_="compressor", device=1, at=START, number=number)])
    assert compactor(s3, now=START + 2 * HOUR_MS).run().hours == 5
    assert sum(len(columns["reading"]) for _, columns in rows(s3)) == 500


@pytest.mark.parametrize("expired", [False, True])
def test_a_redelivered_hour_is_looked_up_in_parts(monkeypatch: pytest.MonkeyPatch, expired: bool) -> None:
    """Numbers of few objects are in memory at a time, whether or not the hour's objects are deleted; time may end."""
    monkeypatch.setattr(compaction, "LOOKUP_RECORDS", 20)
    s3, simulation = archived(hours=1, share_redelivered=0)
    compactor(s3, now=START + (4 * DAY_MS if expired else 2 * HOUR_MS)).run()
    for start in range(0, len(simulation.last_hour), 8):
        simulation.archive(simulation.last_hour[start : start + 8])
    known: list[int] = []

    def lookup(*args: Any, **more: Any) -> Any:
        found = known_numbers(*args, **more)
        known.append(len(found or ()))
        return found

    known_numbers = compaction._known_numbers
    monkeypatch.setattr(compaction, "_known_numbers", lookup)
    now, turns = START + (4 * DAY_MS if expired else 3 * HOUR_MS), iter([True] * 5)
    before = len(load_state(s3.bucket(), DAY).manifests)
    if expired:
        assert compactor(s3, now=now, has_time=lambda: next(turns, False)).run().left > 0
        assert len(load_state(s3.bucket(), DAY).manifests) == before
    report = compactor(s3, now=now).run()
    assert (report.failed, report.duplicates) == ([], simulation.readings)
    assert max(known) <= 27 and sum(known) >= simulation.readings
    assert len(read(s3)) == simulation.readings


def test_a_settled_date_costs_two_lists_and_one_manifest() -> None:
    """A day with all of its raw objects is not read again where they stay; one more object is noticed."""
    s3, simulation = archived(hours=1)
    for _ in range(2):
        compactor(s3, now=START + DAY_MS + 3 * HOUR_MS, expires=False).run()
    asked: list[tuple[str, str]] = []
    s3.before = lambda operation, key: asked.append((operation, key))
    compactor(s3, now=START + DAY_MS + 4 * HOUR_MS, expires=False).run()
    assert [("list", "raw/"), ("list", f"raw/date={DAY}/"), ("list", f"compaction/date={DAY}/")] == asked[:3]
    assert [("get", f"compaction/date={DAY}/day-0001.json.gz")] == asked[3:]
    simulation.archive(simulation.last_hour[:5])
    assert compactor(s3, now=START + DAY_MS + 5 * HOUR_MS, expires=False).run().duplicates == 5


def test_dates_are_looked_at_newest_first() -> None:
    """Those to which records may still arrive at each run, earlier ones once a day: should no run have been."""
    s3, simulation = archived(hours=1)
    simulation.run(START + 20 * DAY_MS, START + 20 * DAY_MS + HOUR_MS)
    late, noon = START + 21 * DAY_MS + 3 * HOUR_MS, START + 21 * DAY_MS + 12 * HOUR_MS
    assert ["2026-11-21", DAY] == compactor(s3, now=late, expires=False).dates()
    assert ["2026-11-21"] == compactor(s3, now=noon, expires=False).dates()


def test_records_are_kept_whatever_was_compacted() -> None:
    """Where the retention keeps records, nothing is ever deleted."""
    s3, _ = archived()
    raw = {key for key in s3.objects if key.startswith("raw/")}
    for days in range(1, 6):
        compactor(s3, now=START + days * DAY_MS + 3 * HOUR_MS, expires=False).run()

    assert raw <= s3.objects.keys()
    assert set(s3.written) <= s3.objects.keys()


def test_nothing_is_readable_later_than_two_hours_after_it_came() -> None:
    """With a run at a quarter past each hour, a reading is in a list that Athena reads within two hours."""
    s3 = MemoryS3()
    simulation = Simulation(s3=s3, devices=1, interval_s=60, window_s=30)
    worst = 0
    for hour in range(22, 26):
        simulation.run(START + hour * HOUR_MS, START + (hour + 1) * HOUR_MS)
        now = START + (hour + 1) * HOUR_MS + HOUR_MS // 4
        before = set(listed(s3))
        compactor(s3, now=now).run()
        fresh = [key for key in listed(s3) if key not in before and "/hour-" in key]
        arrivals = [at for key, columns in rows(s3) if key in fresh for at in columns["arrived_at"]]
        assert len(fresh) == len(PLANTS) * len(METRICS)
        worst = max(worst, now - int(min(arrivals).timestamp() * 1000))
    assert worst < 2 * HOUR_MS


@pytest.mark.slow
def test_a_month_of_three_plants() -> None:
    """At least 100 times fewer objects, 20 times fewer bytes for one metric, the sums that were sent: printed.

    A second compactor, killed at times spread over the month, makes the same objects of the same bytes.
    """
    s3, killed, random_ = MemoryS3(), MemoryS3(), random.Random(1)
    simulation = Simulation(s3=s3, devices=1, interval_s=20, window_s=10)
    ndjson = kills = 0
    runs = iter(range(2 * (DAYS + 3)))
    for day in range(DAYS + 3):
        start = START + day * DAY_MS
        if day < DAYS:
            simulation.run(start, start + DAY_MS)
            ndjson += ndjson_bytes(s3, f"2026-{(11, 12)[day >= 30]}-{day % 30 + 1:02d}")
        killed.objects |= {key: body for key, body in s3.objects.items() if key.startswith("raw/")}
        for hour, run in zip((12, 27), runs, strict=False):
            now, before = start + hour * HOUR_MS, s3.calls
            compactor(s3, now=now).run()
            while kills < KILLS * (run + 1) // (2 * (DAYS + 3)):
                kills += 1
                killed.kill_at = killed.calls + random_.randint(1, max(1, (s3.calls - before) // 2))
                killed.is_killed_after = kills % 2 == 1
                with suppress(Killed):
                    compactor(killed, now=now).run()
            for _ in range(2):
                compactor(killed, now=now).run()

    assert killed.objects == s3.objects
    sums: dict[tuple[str, str], Decimal] = {}
    found = scanned = whole = 0
    for key, columns in rows(s3):
        found += len(columns["reading"])
        whole += len(s3.objects[key])
        partition = key.split("/")
        place = f"{partition[1].removeprefix('facility=')}/{partition[2].removeprefix('device_type=')}"
        for metric in METRICS[place.partition("/")[2]]:
            total = sum((Decimal(repr(value)) for value in columns[column_of(metric)]), Decimal())
            sums[place, metric] = sums.get((place, metric), Decimal()) + total
        if place == "sg-01/press-monitor":
            scanned += column_bytes(s3.objects[key], ["thing", "taken_at", "metric_temperature"])
    objects = [key for key in s3.objects if key.startswith("archive/")]
    print(
        f"\n{DAYS} days: {simulation.readings:,} readings, {simulation.raw_objects:,} raw objects -> "
        f"{len(objects)} objects ({simulation.raw_objects / len(objects):.0f} x fewer), "
        f"{whole / found:.1f} bytes a reading; one metric of one plant and type: {scanned:,} bytes scanned "
        f"of {ndjson:,} in NDJSON ({ndjson / scanned:.0f} x fewer); killed {kills} times: the same bytes"
    )
    assert found == simulation.readings
    assert sums == simulation.sums
    assert simulation.raw_objects >= 100 * len(objects)
    assert ndjson >= 20 * scanned
    assert not any(key.startswith("raw/") for key in s3.objects)


def ndjson_bytes(s3: MemoryS3, day: str) -> int:
    """The bytes of a day's lines of one plant and type, as one object of NDJSON gzip: the best case of the raw form."""
    raw = [body for key, body in s3.objects.items() if key.startswith(f"raw/date={day}/")]
    lines = {
        line
        for body in raw
        for line in gzip.decompress(body).splitlines()
        if b'"facility":"sg-01","device_type":"press-monitor"' in line
    }
    return len(gzip.compress(b"\n".join(sorted(lines)), 6))


def column_bytes(body: bytes, columns: list[str]) -> int:
    """The bytes that a query over these columns reads: those of an object that has only them."""
    from arro3.core import Table

    batches = [batch.select(columns) for batch in from_parquet(body)]
    return len(to_parquet(Table.from_batches(batches)))
