"""Plans: the same messages end in the same items, however they are split, ordered and repeated."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.sensor_processor.adapters.store import TRANSACTION_BYTES
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue, parse_catalogue
from fleet_iot.sensor_processor.ingest.reading import Reading
from fleet_iot.sensor_processor.numbers.minute import minute_bucket, minute_of
from fleet_iot.sensor_processor.numbers.period import Level, OpenHour, Part, PeriodKey, closed_periods, part_buckets
from fleet_iot.sensor_processor.planning.device_cache import DeviceCache
from fleet_iot.sensor_processor.planning.items import Device, Item, Retention, parse_device, parse_minute, parse_part
from fleet_iot.sensor_processor.planning.planner import CHUNK_ITEMS, Chunk, plan_device

RECEIVED_AT = 1_795_445_343_250
RETENTION = Retention(minutes=35, hours=400, days=3650, anomalies=400)


class Tables:
    """The two tables of one device as dictionaries; each chunk moves the version on, as the condition demands."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.device: Item | None = None
        self.readings: dict[str, Item] = {}
        self.cache = DeviceCache()
        self.remembers = True
        self.open_hour: OpenHour | None = None

    def deliver(self, readings: Sequence[Reading]) -> tuple[Chunk, ...]:
        """Plans and writes a batch, as a processor does that no other one disturbs."""
        starts = {minute_of(reading.time) for reading in readings}
        known = {start: self.minute_item(start) for start in starts}
        device = None if self.device is None else parse_device(self.device)
        plan = plan_device(
            device=device,
            minutes={start: parse_minute(item, start=start) for start, item in known.items() if item is not None},
            parts=self.parts(device, readings),
            open_hour=self.open_hour if self.remembers else None,
            readings=readings,
            catalogue=self.catalogue,
            retention=RETENTION,
            cache=self.cache,
        )
        self.open_hour = plan.open_hour
        for chunk in plan.chunks:
            if chunk.device_item is not None:
                assert chunk.expected_version == self.version
                self.device = json.loads(chunk.device_item)
            items = map(json.loads, chunk.items)
            self.readings.update({item["bucket"]["S"]: item for item in items})
        return plan.chunks

    def parts(self, device: Device | None, readings: Sequence[Reading]) -> dict[PeriodKey, dict[int, Part]]:
        """Return the parts of the hours and days that the readings end or change."""
        before = None if device is None else device.newest_reading
        hours, days = closed_periods(before, [reading.time for reading in readings])
        name = readings[0].envelope.thing
        return {
            (name, level, start): {
                at: parse_part(self.readings[bucket], start=at)
                for bucket, at in part_buckets(level, start).items()
                if bucket in self.readings
            }
            for level, starts in ((Level.HOUR, hours), (Level.DAY, days))
            for start in starts
        }

    def minute_item(self, start: int) -> Item | None:
        """The minute item that starts then."""
        return self.readings.get(minute_bucket(start))

    @property
    def version(self) -> int | None:
        """The device's version, None where there is no device yet."""
        return None if self.device is None else int(self.device["version"]["N"])

    def history(self) -> dict[str, Item]:
        """The items of minutes, hours and days."""
        return {
            bucket: item for bucket, item in self.readings.items() if "#anomaly" not in bucket and "messages" in item
        }

    def minutes(self) -> dict[str, Any]:
        """Return the values of the minute items, by bucket."""
        return {
            bucket: parse_minute(item, start=0)
            for bucket, item in self.readings.items()
            if bucket.startswith("minute#")
        }


offsets = st.integers(-3 * 60_000, 0) | st.integers(-3 * 86_400_000, 0)
messages = st.lists(
    st.tuples(offsets, st.integers(0, 5), st.floats(-50, 120)), min_size=1, max_size=25, unique_by=lambda each: each[:2]
)


@pytest.mark.slow
@settings(max_examples=150)
@given(sent=messages, data=st.data())
def test_any_split_and_redelivery_gives_the_same_history(
    sent: list[tuple[int, int, float]], data: st.DataObject, reading: Any, catalogue: Catalogue
) -> None:
    """Messages in one batch, or shuffled, repeated and cut anyhow, end in equal minutes, hours and days."""
    readings = [
        reading(time=RECEIVED_AT + offset, sequence=sequence, metrics={"temperature": value, "vibration": -value})
        for offset, sequence, value in sent
    ]
    whole, pieces = Tables(catalogue), Tables(catalogue)
    whole.deliver(readings)
    shuffled = data.draw(st.permutations(readings + readings))
    at = 0
    while at < len(shuffled):
        size = data.draw(st.integers(1, 8))
        pieces.remembers = data.draw(st.booleans())
        pieces.deliver(shuffled[at : at + size])
        at += size

    assert whole.history() == pieces.history()
    assert {bucket for bucket in whole.history() if not bucket.startswith("minute")} == periods_of(readings)
    assert pieces.device is not None
    assert whole.device is not None
    assert int(pieces.device["messages"]["N"]) == int(whole.device["messages"]["N"]) == len(sent)


@pytest.mark.slow
@settings(max_examples=100)
@given(values=st.lists(st.floats(60, 110), min_size=1, max_size=40), sizes=st.lists(st.integers(1, 10), min_size=40))
def test_detection_does_not_depend_on_batches(
    values: list[float], sizes: list[int], reading: Any, catalogue: Catalogue
) -> None:
    """Messages in order end in the same anomalies and the same learned state however they are cut into batches."""
    readings = [
        reading(time=RECEIVED_AT - 50_000 + 1_000 * place, sequence=place, metrics={"temperature": value})
        for place, value in enumerate(values)
    ]
    whole, pieces = Tables(catalogue), Tables(catalogue)
    whole.deliver(readings)
    at = 0
    for size in sizes:
        pieces.deliver(readings[at : at + size]) if at < len(readings) else None
        at += size

    assert pieces.readings == whole.readings
    assert pieces.device is not None
    assert whole.device is not None
    assert pieces.device["detectors"] == whole.device["detectors"]


def periods_of(readings: Sequence[Reading]) -> set[str]:
    """The hours and days that are over for a device that sent these readings, by their range keys."""
    times = [datetime.fromtimestamp(reading.time / 1000, UTC) for reading in readings]
    hours, days = ({f"{time:{pattern}}" for time in times} for pattern in ("hour#%Y-%m-%dT%HZ", "day#%Y-%m-%d"))
    return (hours - {max(hours)}) | (days - {max(days)})


def test_duplicates_alone_write_nothing(reading: Any, catalogue: Catalogue) -> None:
    """A batch of known messages is settled without a write."""
    tables = Tables(catalogue)
    tables.deliver([reading()])

    (chunk,) = tables.deliver([reading(), reading()])

    assert (chunk.device_item, chunk.items, chunk.tally.duplicates) == (None, (), 2)


def test_many_minutes_are_split_in_order(reading: Any, catalogue: Catalogue) -> None:
    """A device that was offline for five hours is written in successive transactions, each one version on."""
    readings = [reading(time=RECEIVED_AT - minute * 60_000, sequence=minute) for minute in range(300)]
    tables = Tables(catalogue)

    chunks = tables.deliver(readings[::-1])

    assert [chunk.expected_version for chunk in chunks] == [None, *range(1, len(chunks))]
    assert max(1 + len(chunk.items) for chunk in chunks) <= CHUNK_ITEMS
    assert len(tables.minutes()) == 300
    items = [json.loads(item) for chunk in chunks for item in chunk.items]
    starts = [item["bucket"]["S"] for item in items if "ids" in item]
    assert starts == sorted(starts)


def test_a_storm_of_excursions_stays_within_a_transaction(reading: Any, catalogue: Catalogue) -> None:
    """A metric that goes over its limit again and again makes many events and no transaction that is too large."""
    readings = [
        reading(
            time=RECEIVED_AT - 61_000 * (1_000 - place),
            sequence=place,
            metrics={"vibration": 1.0 if place % 3 else 20.0},
        )
        for place in range(1_000)
    ]
    tables = Tables(catalogue)

    chunks = tables.deliver(readings)

    assert max(1 + len(chunk.items) for chunk in chunks) <= CHUNK_ITEMS
    assert sum(chunk.tally.anomalies for chunk in chunks) == 334
    assert sum(int(item["messages"]["N"]) for item in tables.readings.values() if "ids" in item) == 1_000


def test_periods_whose_minutes_may_have_expired_are_left(reading: Any, catalogue: Catalogue) -> None:
    """A device that comes back after months closes no hour and no day from the minutes that are left of it."""
    tables, day = Tables(catalogue), 86_400_000
    tables.deliver([reading(time=RECEIVED_AT - minute * 60_000, sequence=minute) for minute in range(30)])
    for minute in range(20):
        del tables.readings[minute_bucket(minute_of(RECEIVED_AT - minute * 60_000))]

    later = RECEIVED_AT + 34 * day
    tables.deliver([reading(time=later, received_at=later)])

    assert [] == [bucket for bucket in tables.readings if bucket.startswith(("hour#", "day#"))]


def test_a_late_reading_remakes_periods_that_are_whole(reading: Any, catalogue: Catalogue) -> None:
    """The hour and day of the oldest accepted reading are recomputed from all of their minutes."""
    tables, later = Tables(catalogue), RECEIVED_AT + RETENTION.max_age
    tables.deliver([reading(), reading(time=RECEIVED_AT - 60_000, sequence=1)])
    tables.deliver([reading(time=later, received_at=later)])
    tables.deliver([reading(sequence=2, arrived_at=later - 250, max_age=RETENTION.max_age)])

    assert {"3"} == {item["messages"]["N"] for key, item in tables.readings.items() if key[0] in "hd"}


def numbers_of(value: Any) -> list[Decimal]:
    """List all numbers of an item."""
    if not isinstance(value, dict):
        return []
    return [Decimal(text) for name, text in value.items() if name == "N"] + [
        number for each in value.values() for number in numbers_of(each)
    ]


@pytest.mark.parametrize("value", [6.9e-310, -5e-324, 1e-131, 9.999e11])
def test_numbers_of_all_items_are_in_the_range_of_dynamodb(value: float, reading: Any) -> None:
    """Those of events too, where a value of an uninitialised double is beyond a limit that is next to nothing."""
    catalogue = catalogue_of(temperature={"unit": "celsius", "min": 1e-310, "max": 1e-309})
    tables = Tables(catalogue)
    tables.deliver([reading(metrics={"temperature": value}), reading(time=RECEIVED_AT - 3_600_000, sequence=1)])

    assert [] != [bucket for bucket in tables.readings if bucket.startswith("anomaly#")]
    for item in (*tables.readings.values(), tables.device):
        for number in numbers_of(item):
            assert number == 0 or Decimal("1e-130") <= abs(number) < Decimal("1e126")


def catalogue_of(**metrics: dict[str, Any]) -> Catalogue:
    """Make a catalogue whose press monitors have these metrics."""
    document = {"application": "mfg", "device_types": {"press-monitor": {"metrics": metrics}}}
    return parse_catalogue(json.dumps(document).encode())


def events_of(tables: Tables) -> dict[str, set[str]]:
    """Return the ids of all events by what the table has of them: anomaly, ended."""
    found: dict[str, set[str]] = {"anomaly": set(), "escalated": set(), "ended": set()}
    for bucket in tables.readings:
        kind, _, event = bucket.partition("#")
        if kind in found:
            found[kind].add(event)
    return found


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("count", [60, 120])
def test_a_gateway_that_loses_power_is_an_event_of_each_metric(count: int, late: bool, reading: Any) -> None:
    """However many metrics pass a limit with one reading, each has its begin and its end, in transactions that fit."""
    names = [f"m{place}" for place in range(count)]
    tables = Tables(catalogue_of(**{name: {"unit": "V", "min": 10} for name in names}))
    first = RECEIVED_AT - 600_000
    tables.deliver([reading(time=RECEIVED_AT if late else first, sequence=0, metrics=dict.fromkeys(names, 230.0))])
    chunks: list[Chunk] = []
    for place in range(1, 55):
        value = 0.0 if place in (1, 2) else 230.0
        time = first + 10_000 * place
        chunks += tables.deliver([reading(time=time, sequence=place, metrics=dict.fromkeys(names, value))])

    events = events_of(tables)
    assert set(names) == {event.split("#")[1] for event in events["anomaly"]}
    assert count == len(events["anomaly"])
    assert late or events["ended"] <= events["anomaly"]
    over = {item["bucket"]["S"].partition("#")[2] for item in tables.readings.values() if "ended_at" in item}
    assert events["anomaly"] == over
    assert max(1 + len(chunk.items) for chunk in chunks) <= CHUNK_ITEMS


def test_a_thing_whose_device_type_changes_within_a_batch(reading: Any) -> None:
    """Each message counts by its own type; what runs of a metric that the new type lacks ends."""
    types = {
        "press-monitor": {"metrics": {"temperature": {"unit": "celsius", "max": 95}, "vibration": {"unit": "mm/s"}}},
        "oven-monitor": {"metrics": {"temperature": {"unit": "kelvin", "max": 400}}},
    }
    catalogue = parse_catalogue(json.dumps({"application": "mfg", "device_types": types}).encode())

    def message(place: int, value: float, device_type: str) -> Reading:
        sent = {"temperature": value, "vibration": 1.0}
        at = {"time": RECEIVED_AT - 1_000 + place, "sequence": place, "metrics": sent}
        plain: Reading = reading(**at)
        return msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, device_type=device_type))

    tables = Tables(catalogue)
    tables.deliver([message(0, 99.0, "press-monitor")])
    tables.deliver([message(1, 99.0, "press-monitor"), message(2, 450.0, "oven-monitor")])
    tables.deliver([message(3, 300.0, "oven-monitor"), message(4, 20.0, "press-monitor")])

    (minute,) = tables.minutes().values()
    assert {"temperature": 3, "temperature (kelvin)": 2, "vibration": 3} == {
        name: each.count for name, each in minute.metrics.items()
    }
    events = events_of(tables)
    assert (2, events["anomaly"]) == (len(events["anomaly"]), events["ended"])


def test_hours_and_days_mix_no_units(reading: Any) -> None:
    """After a change of the manifest's unit, an hour has numbers of both, and the day those of its hours."""
    units = ["celsius", "fahrenheit", "fahrenheit", "celsius"]
    tables = Tables(catalogue_of(temperature={"unit": "celsius"}))
    start = RECEIVED_AT - RECEIVED_AT % 3_600_000 - 7_200_000
    for place, unit in enumerate(units):
        tables.catalogue = catalogue_of(temperature={"unit": unit})
        value = 20.0 if unit == "celsius" else 68.0
        for repeat in range(2):
            time = start + 1_800_000 * place + 60_000 * repeat
            tables.remembers = False
            tables.deliver([reading(time=time, sequence=place, metrics={"temperature": value})])
    tables.deliver([reading(time=start + 86_400_000, received_at=start + 86_400_000)])

    periods = [item for key, item in sorted(tables.readings.items()) if key.startswith(("day#", "hour#"))]
    assert ["day", "hour", "hour"] == [item["bucket"]["S"][:4].strip("#") for item in periods]
    for item in periods:
        for numbers in item["metrics"]["M"].values():
            assert {"celsius": "20", "fahrenheit": "68"}[numbers["M"]["unit"]["S"]] == numbers["M"]["mean"]["N"]
    counts = {name: numbers["M"]["count"]["N"] for name, numbers in periods[0]["metrics"]["M"].items()}
    assert {"temperature": "4", "temperature (fahrenheit)": "4"} == counts


def test_a_message_ahead_of_the_clock_splits_no_event(reading: Any, catalogue: Catalogue) -> None:
    """One message of a clock that jumped five minutes ahead leaves a running event one event, which ends in time."""
    tables = Tables(catalogue)
    sent = [(place, 10_000 * place, 99.0 if place < 20 else 70.0) for place in range(40)]
    for place, time, value in sent:
        at = RECEIVED_AT + time
        if place == 5:
            tables.deliver([reading(time=at + 290_000, sequence=99, received_at=at, metrics={"temperature": 70.0})])
        tables.deliver([reading(time=at, sequence=place, received_at=at + 40, metrics={"temperature": value})])

    events = events_of(tables)
    assert (1, events["anomaly"]) == (len(events["anomaly"]), events["ended"])


def test_known_messages_among_new_ones_count_once(reading: Any, catalogue: Catalogue) -> None:
    """A batch that repeats one message of its minute adds the others."""
    readings = [reading(time=RECEIVED_AT - 500 + place, sequence=place) for place in range(500)]
    tables = Tables(catalogue)
    tables.deliver(readings[:1])

    (chunk,) = tables.deliver(readings)

    assert (chunk.tally.processed, chunk.tally.duplicates) == (499, 1)


def test_ids_from_stored_items_are_encoded(reading: Any, catalogue: Catalogue) -> None:
    """An id in a stored item is written back as it is, whatever characters it has."""
    tables = Tables(catalogue)
    tables.deliver([reading(sequence=1)])
    assert tables.device is not None
    for item in (tables.device, *tables.readings.values()):
        item["facility"] = item["device_type"] = {"S": 'sg-01"},"version":{"N":"7'}
    tables.device["certificate_id"] = {"S": "\\\n"}

    # From before the newest contact, so that who the device is stays as it was; and once with another content.
    tables.deliver([reading(sequence=1, received_at=RECEIVED_AT - 1, metrics={"temperature": 1.0})])

    assert tables.version == 2
    assert tables.device["certificate_id"]["S"] == "\\\n"
    minute = tables.minute_item(minute_of(RECEIVED_AT))
    assert minute is not None
    for item in (tables.device, minute):
        assert item["facility"]["S"] == item["device_type"]["S"] == 'sg-01"},"version":{"N":"7'


def test_large_minutes_are_split_by_size(reading: Any, catalogue: Catalogue) -> None:
    """Minutes that are nearly full do not end in one transaction that DynamoDB would refuse."""
    tables = Tables(catalogue)
    readings = [reading(time=RECEIVED_AT - minute * 60_000, sequence=minute) for minute in range(20)]
    tables.deliver(readings)
    for item in tables.readings.values():
        ids = b64decode(item["ids"]["B"]) + b"".join(number.to_bytes(8) + bytes(4) for number in range(9_000))
        item["ids"] = {"B": b64encode(ids).decode()}

    chunks = tables.deliver([reading(time=RECEIVED_AT - minute * 60_000, sequence=99) for minute in range(20)])

    assert len(chunks) > 1
    assert max(chunk.size for chunk in chunks) <= TRANSACTION_BYTES


def test_a_straggler_is_aggregated_and_not_learned(reading: Any, catalogue: Catalogue) -> None:
    """A reading older than the newest counts in its minute and leaves the learned state as it is."""
    tables = Tables(catalogue)
    tables.deliver([reading(time=RECEIVED_AT, sequence=2)])
    assert tables.device is not None
    learned = tables.device["detectors"]

    tables.deliver([reading(time=RECEIVED_AT - 120_000, sequence=1, metrics={"temperature": 50.0})])

    assert len(tables.minutes()) == 2
    assert tables.device["detectors"] == learned
    assert tables.device["last_sequence"] == {"N": "2"}


def test_stragglers_outside_a_limit_are_one_anomaly_a_minute(reading: Any, catalogue: Catalogue) -> None:
    """Readings that arrive out of order are checked against static limits, once a minute, metric and side."""
    tables = Tables(catalogue)
    tables.deliver([reading(time=RECEIVED_AT, sequence=100)])
    start = minute_of(RECEIVED_AT - 120_000)
    values = [120.0, 121.0, -30.0, 122.0]
    for sequence, value in enumerate(values):
        tables.deliver([reading(time=start + sequence, sequence=sequence, metrics={"temperature": value})])

    assert [item["value"]["N"] for bucket, item in tables.readings.items() if bucket.startswith("anomaly#")] == [
        "120",
        "-30",
    ]


def test_a_lost_state_is_told_and_learned_anew(reading: Any, catalogue: Catalogue) -> None:
    """A device whose learned state cannot be read is processed all the same, and the plan says so."""
    tables = Tables(catalogue)
    tables.deliver([reading()])
    assert tables.device is not None
    tables.device["detectors"] = {"B": b"damaged"}

    plan = plan_device(
        device=parse_device(tables.device),
        minutes={},
        parts={},
        open_hour=None,
        readings=[reading(sequence=18)],
        catalogue=catalogue,
        retention=RETENTION,
        cache=DeviceCache(),
    )

    assert plan.lost_state is not None
    assert plan.chunks[0].tally.processed == 1


def test_the_device_item_follows_the_newest_contact(reading: Any, catalogue: Catalogue) -> None:
    """First and last contact are those of arrival; the certificate is that of the last one."""
    tables = Tables(catalogue)
    tables.deliver([reading(sequence=1, principal="a" * 64)])
    tables.deliver([reading(sequence=2, received_at=RECEIVED_AT + 5_000, principal="b" * 64)])
    tables.deliver([reading(sequence=3, received_at=RECEIVED_AT - 5_000, principal="c" * 64)])

    assert tables.device is not None
    assert {name: tables.device[name] for name in ("first_contact", "last_contact", "certificate_id", "messages")} == {
        "first_contact": {"S": "2026-11-23T14:48:58.250Z"},
        "last_contact": {"S": "2026-11-23T14:49:08.250Z"},
        "certificate_id": {"S": "b" * 64},
        "messages": {"N": "3"},
    }


@pytest.mark.parametrize(("hours", "late"), [(0, "0"), (2, "1")])
def test_late_messages_are_counted_on_their_minute(hours: int, late: str, reading: Any, catalogue: Catalogue) -> None:
    """A message that arrives over an hour after its time is counted as late, once."""
    tables = Tables(catalogue)
    for _ in range(2):
        tables.deliver([reading(time=RECEIVED_AT - hours * 3_600_000)])

    assert [item["late"]["N"] for item in tables.readings.values()] == [late]
