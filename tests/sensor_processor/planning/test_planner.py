"""Folding: the same messages end in the same items, however they are split, ordered and repeated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.sensor_processor.ingest.catalogue import Catalogue, parse_catalogue
from fleet_iot.sensor_processor.ingest.reading import Reading
from fleet_iot.sensor_processor.numbers.minute import minute_bucket
from fleet_iot.sensor_processor.numbers.period import Level, day_of, hour_of, period_bucket
from fleet_iot.sensor_processor.planning.device_cache import DeviceCache
from fleet_iot.sensor_processor.planning.device_state import pack_state, unpack_state
from fleet_iot.sensor_processor.planning.items import (
    Item,
    Retention,
    base_bucket,
    highest_revisions,
    parse_minute,
    parse_period,
)
from fleet_iot.sensor_processor.planning.lane import Resident
from fleet_iot.sensor_processor.planning.planner import Folded, Folder, Stored, wanted_of

RECEIVED_AT = 1_795_445_343_250
RETENTION = Retention(minutes=35, hours=400, days=3650, anomalies=400)
WEEK_MS = 7 * 86_400_000


class Device:
    """One device's state, and the readings table as a dictionary."""

    def __init__(self, catalogue: Catalogue, *, capacity: int = 10_000_000) -> None:
        self.folder = Folder(catalogue=catalogue, retention=RETENTION, cache=DeviceCache(capacity=capacity))
        self.resident: Resident | None = None
        self.items: dict[str, Item] = {}
        self.described: Item = {}
        self.notices: list[str] = []
        self.version = 0

    def deliver(self, readings: Sequence[Reading]) -> Folded:
        """Fold and emit a batch, as a processor does that no other one disturbs."""
        name = readings[0].envelope.thing
        stored = Stored()
        if self.resident is not None:
            wanted = wanted_of(unpack_state(self.resident.packed), readings)
            for start in wanted.minutes:
                if item := self.highest(minute_bucket(start)):
                    stored.minutes[start] = parse_minute(item, start=start)
            for level, starts, found in (
                (Level.HOUR, wanted.hours, stored.hours),
                (Level.DAY, wanted.days, stored.days),
            ):
                for start in starts:
                    if item := self.highest(period_bucket(level, start)):
                        found[start] = parse_period(item, level=level, start=start)
        self.version += 1
        return self._emit(
            self.folder.fold(name, self.resident, readings=readings, stored=stored, revision=self.version)
        )

    def close(self, name: str = "sg-01-press-monitor-0001-dev") -> None:
        """Let a week pass."""
        assert self.resident is not None
        self.version += 1
        self._emit(self.folder.close(name, self.resident, now=RECEIVED_AT + WEEK_MS, revision=self.version))

    def _emit(self, folded: Folded) -> Folded:
        if folded.resident is not None:
            self.resident = folded.resident
        for item in map(json.loads, (*folded.outbox.items, *folded.outbox.begins)):
            assert self.items.setdefault(item["bucket"]["S"], item) == item
        for _, item in folded.outbox.devices:
            self.described = json.loads(item)
        self.notices += folded.outbox.notices
        return folded

    def highest(self, bucket: str) -> Item | None:
        """Return the highest revision of a minute, hour or day."""
        return max((item for key, item in self.items.items() if key.startswith(bucket)), key=_key, default=None)

    def history(self) -> dict[str, Item]:
        """Return the highest revisions of minutes, hours and days, when all of them are over."""
        self.close()
        items = sorted((item for item in self.items.values() if "messages" in item), key=_key)
        return {base_bucket(item["bucket"]["S"]): {**item, "bucket": {}} for item in highest_revisions(items)}


def _key(item: Any) -> str:
    return str(item["bucket"]["S"])


offsets = st.integers(-3 * 60_000, 0) | st.integers(-3 * 86_400_000, 0)
messages = st.lists(
    st.tuples(offsets, st.integers(0, 5), st.floats(-50, 120)), min_size=1, max_size=25, unique_by=lambda each: each[:2]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(sent=messages, data=st.data())
def test_any_split_and_redelivery_gives_the_same_history(
    sent: list[tuple[int, int, float]], data: st.DataObject, reading: Any, catalogue: Catalogue
) -> None:
    """Messages in one batch, or shuffled, repeated and cut anyhow, end in equal minutes, hours and days."""
    readings = [
        reading(time=RECEIVED_AT + offset, sequence=sequence, metrics={"temperature": value, "vibration": -value})
        for offset, sequence, value in sent
    ]
    whole, pieces = Device(catalogue), Device(catalogue, capacity=data.draw(st.sampled_from([0, 10_000_000])))
    whole.deliver(readings)
    shuffled = data.draw(st.permutations(readings + readings))
    at = 0
    while at < len(shuffled):
        size = data.draw(st.integers(1, 8))
        pieces.deliver(shuffled[at : at + size])
        at += size

    history = pieces.history()
    assert whole.history() == history
    assert {bucket for bucket in history if not bucket.startswith("minute")} == _periods(readings)
    assert int(pieces.described["messages"]["N"]) == int(whole.described["messages"]["N"]) == len(sent)


def _periods(readings: Sequence[Reading]) -> set[str]:
    """The hours and days of these readings, by their range keys."""
    times = [datetime.fromtimestamp(reading.time / 1000, UTC) for reading in readings]
    return {f"{time:{pattern}}" for time in times for pattern in ("hour#%Y-%m-%dT%HZ", "day#%Y-%m-%d")}


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(60, 110), min_size=1, max_size=40), sizes=st.lists(st.integers(1, 10), min_size=40))
def test_detection_does_not_depend_on_batches(
    values: list[float], sizes: list[int], reading: Any, catalogue: Catalogue
) -> None:
    """Messages in order end in the same anomalies and the same learned state however they are cut into batches."""
    readings = [
        reading(time=RECEIVED_AT - 50_000 + 1_000 * place, sequence=place, metrics={"temperature": value})
        for place, value in enumerate(values)
    ]
    whole, pieces = Device(catalogue), Device(catalogue, capacity=0)
    whole.deliver(readings)
    at = 0
    for size in sizes:
        if at < len(readings):
            pieces.deliver(readings[at : at + size])
        at += size

    assert whole.resident is not None
    assert pieces.resident is not None
    assert unpack_state(whole.resident.packed).detectors == unpack_state(pieces.resident.packed).detectors
    assert whole.notices == pieces.notices
    assert whole.history() == pieces.history()


def test_duplicates_alone_change_nothing(reading: Any, catalogue: Catalogue) -> None:
    """A batch of known messages is settled without a commit."""
    device = Device(catalogue)
    device.deliver([reading()])

    folded = device.deliver([reading(), reading()])

    assert (folded.resident, bool(folded.outbox), folded.tally.duplicates) == (None, False, 2)


def test_a_minute_is_emitted_when_it_closes_and_again_with_each_late_reading(
    reading: Any, catalogue: Catalogue
) -> None:
    """The first revision has the minute's key, later ones the lane's version after it."""
    device, minute = Device(catalogue), "minute#2026-11-23T14:49Z"
    at = RECEIVED_AT - RECEIVED_AT % 60_000
    device.deliver([reading(time=at, sequence=1, received_at=at + 500)])
    assert device.items == {}
    device.deliver([reading(time=at + 65_000, sequence=2, received_at=at + 65_500)])
    assert [*device.items] == [minute]
    device.deliver([reading(time=at + 1, sequence=3, received_at=at + 66_000)])

    assert [*device.items] == [minute, f"{minute}#000000000000003"]
    assert [item["messages"]["N"] for item in device.items.values()] == ["1", "2"]


def test_a_late_hour_is_its_last_revision_and_the_reading(reading: Any, catalogue: Catalogue) -> None:
    """Minutes that have expired are not missed: the hour and day keep what they had."""
    device = Device(catalogue)
    times = [RECEIVED_AT - 3 * 3_600_000 + 60_000 * place for place in range(5)]
    device.deliver([reading(time=time, sequence=place) for place, time in enumerate(times)])
    device.deliver([reading(time=RECEIVED_AT, sequence=10)])
    device.close()
    for key in [key for key in device.items if key.startswith("minute#")]:
        del device.items[key]

    device.deliver([reading(time=times[0] + 1, sequence=11)])

    hour, day = device.highest(period_bucket(Level.HOUR, hour_of(times[0]))), device.highest("day#2026-11-23")
    assert hour is not None
    assert day is not None
    assert (hour["messages"]["N"], day["messages"]["N"]) == ("6", "7")
    assert day_of(times[0]) == day_of(RECEIVED_AT)


def test_a_skewed_clock_does_not_close_minutes_early(reading: Any, catalogue: Catalogue) -> None:
    """A message four minutes ahead closes nothing: a minute is over by the device's clock, but not before arrival."""
    device = Device(catalogue)
    device.deliver([reading(time=RECEIVED_AT - 1_000, sequence=1)])
    device.deliver([reading(time=RECEIVED_AT + 240_000, sequence=2)])

    assert device.items == {}


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

    device = Device(catalogue)
    device.deliver([message(0, 99.0, "press-monitor")])
    device.deliver([message(1, 99.0, "press-monitor"), message(2, 450.0, "oven-monitor")])
    device.deliver([message(3, 300.0, "oven-monitor"), message(4, 20.0, "press-monitor")])

    minute = device.history()["minute#2026-11-23T14:49Z"]
    assert {"temperature": "3", "temperature (kelvin)": "2", "vibration": "3"} == {
        name: each["M"]["count"]["N"] for name, each in minute["metrics"]["M"].items()
    }
    events = events_of(device)
    assert (2, events["anomaly"]) == (len(events["anomaly"]), events["ended"])


def catalogue_of(**metrics: dict[str, Any]) -> Catalogue:
    """Make a catalogue whose press monitors have these metrics."""
    document = {"application": "mfg", "device_types": {"press-monitor": {"metrics": metrics}}}
    return parse_catalogue(json.dumps(document).encode())


def events_of(device: Device) -> dict[str, set[str]]:
    """Return the ids of all events by what the table has of them: anomaly, escalated, ended."""
    found: dict[str, set[str]] = {"anomaly": set(), "escalated": set(), "ended": set()}
    for bucket in device.items:
        kind, _, event = bucket.partition("#")
        if kind in found:
            found[kind].add(event)
    return found


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
    device = Device(catalogue_of(temperature={"unit": "celsius", "min": 1e-310, "max": 1e-309}))
    device.deliver([reading(metrics={"temperature": value}), reading(time=RECEIVED_AT - 3_600_000, sequence=1)])
    device.close()

    assert [] != [bucket for bucket in device.items if bucket.startswith("anomaly#")]
    for item in (*device.items.values(), device.described):
        for number in numbers_of(item):
            assert number == 0 or Decimal("1e-130") <= abs(number) < Decimal("1e126")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("count", [60, 120])
def test_a_gateway_that_loses_power_is_an_event_of_each_metric(count: int, late: bool, reading: Any) -> None:
    """However many metrics pass a limit with one reading, each has its begin and its end."""
    names = [f"m{place}" for place in range(count)]
    device = Device(catalogue_of(**{name: {"unit": "V", "min": 10} for name in names}))
    first = RECEIVED_AT - 600_000
    device.deliver([reading(time=RECEIVED_AT if late else first, sequence=0, metrics=dict.fromkeys(names, 230.0))])
    for place in range(1, 55):
        value = 0.0 if place in (1, 2) else 230.0
        time = first + 10_000 * place
        device.deliver([reading(time=time, sequence=place, metrics=dict.fromkeys(names, value))])

    events = events_of(device)
    assert set(names) == {event.split("#")[1] for event in events["anomaly"]}
    assert count == len(events["anomaly"])
    assert late or events["ended"] <= events["anomaly"]
    over = {bucket.partition("#")[2] for bucket, item in device.items.items() if "ended_at" in item}
    assert events["anomaly"] == over


def test_a_storm_of_excursions_is_told_whole(reading: Any, catalogue: Catalogue) -> None:
    """A metric that goes over its limit again and again in one batch makes an event each time."""
    readings = [
        reading(
            time=RECEIVED_AT - 61_000 * (1_000 - place),
            sequence=place,
            metrics={"vibration": 1.0 if place % 3 else 20.0},
        )
        for place in range(1_000)
    ]
    device = Device(catalogue)

    folded = device.deliver(readings)

    assert (folded.tally.processed, folded.tally.anomalies, len(events_of(device)["anomaly"])) == (1_000, 334, 334)
    begun = [json.loads(notice) for notice in device.notices if json.loads(notice)["kind"] == "begin"]
    assert len(begun) == 334


def test_hours_and_days_mix_no_units(reading: Any) -> None:
    """After a change of the manifest's unit, an hour has numbers of both, and the day those of its hours."""
    units = ["celsius", "fahrenheit", "fahrenheit", "celsius"]
    device = Device(catalogue_of(), capacity=0)
    start = RECEIVED_AT - RECEIVED_AT % 3_600_000 - 7_200_000
    for place, unit in enumerate(units):
        device.folder = msgspec.structs.replace(device.folder, catalogue=catalogue_of(temperature={"unit": unit}))
        value = 20.0 if unit == "celsius" else 68.0
        for repeat in range(2):
            time = start + 1_800_000 * place + 60_000 * repeat
            device.deliver([reading(time=time, sequence=place, metrics={"temperature": value})])

    periods = [item for key, item in sorted(device.history().items()) if key.startswith(("day#", "hour#"))]
    assert len(periods) == 3
    for item in periods:
        for numbers in item["metrics"]["M"].values():
            assert {"celsius": "20", "fahrenheit": "68"}[numbers["M"]["unit"]["S"]] == numbers["M"]["mean"]["N"]
    counts = {name: numbers["M"]["count"]["N"] for name, numbers in periods[0]["metrics"]["M"].items()}
    assert {"temperature": "4", "temperature (fahrenheit)": "4"} == counts


def test_a_message_ahead_of_the_clock_splits_no_event(reading: Any, catalogue: Catalogue) -> None:
    """One message of a clock that jumped five minutes ahead leaves a running event one event, which ends in time."""
    device = Device(catalogue)
    sent = [(place, 10_000 * place, 99.0 if place < 20 else 70.0) for place in range(40)]
    for place, time, value in sent:
        at = RECEIVED_AT + time
        if place == 5:
            device.deliver([reading(time=at + 290_000, sequence=99, received_at=at, metrics={"temperature": 70.0})])
        device.deliver([reading(time=at, sequence=place, received_at=at + 40, metrics={"temperature": value})])

    events = events_of(device)
    assert (1, events["anomaly"]) == (len(events["anomaly"]), events["ended"])


def test_known_messages_among_new_ones_count_once(reading: Any, catalogue: Catalogue) -> None:
    """A batch that repeats one message of its minute adds the others."""
    readings = [reading(time=RECEIVED_AT - 500 + place, sequence=place) for place in range(500)]
    device = Device(catalogue)
    device.deliver(readings[:1])

    folded = device.deliver(readings)

    assert (folded.tally.processed, folded.tally.duplicates) == (499, 1)


def test_a_straggler_is_aggregated_and_not_learned(reading: Any, catalogue: Catalogue) -> None:
    """A reading older than the newest counts in its minute and leaves the learned state as it is."""
    device = Device(catalogue)
    device.deliver([reading(time=RECEIVED_AT, sequence=2)])
    assert device.resident is not None
    learned = unpack_state(device.resident.packed).detectors

    device.deliver([reading(time=RECEIVED_AT - 120_000, sequence=1, metrics={"temperature": 50.0})])

    assert device.resident is not None
    assert unpack_state(device.resident.packed).detectors == learned
    history = device.history()
    assert ["1", "1"] == [item["messages"]["N"] for key, item in history.items() if key.startswith("minute#")]
    assert device.described["last_sequence"] == {"N": "2"}


def test_stragglers_outside_a_limit_are_one_anomaly_a_minute(reading: Any, catalogue: Catalogue) -> None:
    """Readings that arrive out of order are checked against static limits, once a minute, metric and side."""
    device = Device(catalogue)
    device.deliver([reading(time=RECEIVED_AT, sequence=100)])
    start = RECEIVED_AT - RECEIVED_AT % 60_000 - 120_000
    for sequence, value in enumerate([120.0, 121.0, -30.0, 122.0]):
        device.deliver([reading(time=start + sequence, sequence=sequence, metrics={"temperature": value})])

    assert [item["value"]["N"] for key, item in device.items.items() if key.startswith("anomaly#")] == ["120", "-30"]


def test_a_lost_state_is_told_and_learned_again(reading: Any, catalogue: Catalogue) -> None:
    """A device whose learned state cannot be read is processed all the same, and the outcome says so."""
    device = Device(catalogue, capacity=0)
    device.deliver([reading()])
    assert device.resident is not None
    state = unpack_state(device.resident.packed)
    state.detectors = b"damaged"
    device.resident = pack_state("sg-01-press-monitor-0001-dev", state)

    folded = device.deliver([reading(sequence=18)])

    assert folded.lost_state is not None
    assert folded.tally.processed == 1


def test_a_device_is_described_when_it_changes_and_else_four_times_an_hour(reading: Any, catalogue: Catalogue) -> None:
    """First and last contact are those of arrival; the certificate is that of the last one."""
    device = Device(catalogue)
    device.deliver([reading(sequence=1, principal="a" * 64)])
    device.deliver([reading(sequence=2, received_at=RECEIVED_AT + 5_000, principal="b" * 64)])
    assert (device.described["certificate_id"]["S"], device.described["messages"]["N"]) == ("b" * 64, "2")
    written = 0
    for place in range(60):
        at = RECEIVED_AT + 60_000 * (place + 1)
        folded = device.deliver([reading(sequence=3 + place, time=at, received_at=at, principal="b" * 64)])
        written += len(folded.outbox.devices)
    assert written == 4
    device.close()
    assert (device.described["messages"]["N"], device.described["first_contact"]["S"]) == (
        "62",
        "2026-11-23T14:49:03.250Z",
    )


@pytest.mark.parametrize(("hours", "late"), [(0, "0"), (2, "1")])
def test_late_messages_are_counted_on_their_minute(hours: int, late: str, reading: Any, catalogue: Catalogue) -> None:
    """A message that arrives over an hour after its time is counted as late, once."""
    device = Device(catalogue)
    for _ in range(2):
        device.deliver([reading(time=RECEIVED_AT - hours * 3_600_000)])

    assert {item["late"]["N"] for item in device.history().values()} == {late}
