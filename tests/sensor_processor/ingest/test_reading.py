"""Parsing of one message: what is taken, what is poison and why."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.ingest.reading import REASONS, PoisonReading, Reading, parse_envelope, parse_readings

RECEIVED_AT = 1_795_445_343_250
DAY = 24 * 60 * 60 * 1000


def parse(envelope: dict[str, Any], *, catalogue: Catalogue) -> Reading:
    (reading,) = parse_readings(
        sequence_number="1", envelope=parse_envelope(json.dumps(envelope).encode()), catalogue=catalogue, suffix="dev"
    )
    return reading


def reason_of(envelope: dict[str, Any], *, catalogue: Catalogue) -> str:
    with pytest.raises(PoisonReading) as caught:
        parse(envelope, catalogue=catalogue)
    return caught.value.reason


def test_a_valid_message_is_read(envelope: Any, payload: Any, catalogue: Catalogue) -> None:
    """Time, sequence and metrics come from the payload, identity from the envelope."""
    reading = parse(envelope(payload=payload(note="°C are fine")), catalogue=catalogue)

    assert (reading.time, reading.sequence, reading.metrics) == (
        RECEIVED_AT - 250,
        17,
        {"temperature": 71.25, "vibration": 3.1},
    )
    assert reading.envelope.thing == "sg-01-press-monitor-0001-dev"


POISON = {
    "empty": (b"", "empty"),
    "no object": (b'"text"', "malformed"),
    "empty array": (b"[]", "readings"),
    "cut off": (b'{"time": 17', "malformed"),
    "bad UTF-8 in a name": (b'{"time":1795445343000,"metrics":{"a\xff":1}}', "utf8"),
    "bad UTF-8 in a field that is skipped": (b'{"time":1795445343000,"metrics":{"a":1},"note":"\xff"}', "utf8"),
    "byte order mark within": (b'{"time":1795445343000,"metrics":{"a":1},"note":"\xef\xbb\xbf"}', "hostile_text"),
    "nothing but a C buffer": (b"\x00" * 64, "empty"),
    "nothing but white space": (b" \r\n", "empty"),
    "NaN": (b'{"time":1795445343000,"metrics":{"temperature":NaN}}', "malformed"),
    "Infinity": (b'{"time":1795445343000,"metrics":{"temperature":-Infinity}}', "malformed"),
    "1e400": (b'{"time":1795445343000,"metrics":{"temperature":1e400}}', "malformed"),
    "1e300": (b'{"time":1795445343000,"metrics":{"temperature":1e300}}', "value"),
    "a value as text": (b'{"time":1795445343000,"metrics":{"temperature":"71"}}', "malformed"),
    "a value as truth": (b'{"time":1795445343000,"metrics":{"temperature":true}}', "malformed"),
    "every value null": (b'{"time":1795445343000,"metrics":{"temperature":null}}', "metrics"),
    "null under no metric's name": (b'{"time":1795445343000,"metrics":{"temperature":1,"../..":null}}', "metric_name"),
    "metrics as list": (b'{"time":1795445343000,"metrics":[1]}', "malformed"),
    "no metrics": (b'{"time":1795445343000}', "malformed"),
    "empty metrics": (b'{"time":1795445343000,"metrics":{}}', "metrics"),
    "too many metrics": (
        json.dumps({"time": RECEIVED_AT, "metrics": {f"m{number}": 1 for number in range(257)}}).encode(),
        "metrics",
    ),
    "no time": (b'{"metrics":{"temperature":1}}', "malformed"),
    "time as text": (b'{"time":"now","metrics":{"temperature":1}}', "malformed"),
    "time with a fraction": (b'{"time":1795445343000.5,"metrics":{"temperature":1}}', "malformed"),
    "time as truth": (b'{"time":true,"metrics":{"temperature":1}}', "malformed"),
    "a negative time": (b'{"time":-1,"metrics":{"temperature":1}}', "old"),
    "an enormous time": (b'{"time":' + b"9" * 40 + b',"metrics":{"temperature":1}}', "future"),
    "a negative sequence": (b'{"time":1795445343000,"sequence":-1,"metrics":{"temperature":1}}', "sequence"),
    "a sequence beyond 2^53": (
        b'{"time":1795445343000,"sequence":9007199254740992,"metrics":{"temperature":1}}',
        "sequence",
    ),
    "deep nesting": (
        b'{"time":1795445343000,"metrics":{"a":1},"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "too_deep",
    ),
    "gzip junk": (gzip.compress(b'{"time":1}', mtime=0), "utf8"),
    "over 128 kB": (b" " * (128 * 1024 + 1), "too_large"),
    "NUL": (b'{"time":1795445343000,"metrics":{"temperature":1},"note":"\x00"}', "hostile_text"),
    "a control character": (b'{"time":1795445343000,"metrics":{"temperature":1},"note":"\x1b[2J"}', "hostile_text"),
    "an escaped control character": (
        b'{"time":1795445343000,"metrics":{"temperature":1},"note":"\\u001b[2J"}',
        "hostile_text",
    ),
    "an escaped backspace": (b'{"time":1795445343000,"metrics":{"temperature":1},"note":"\\b"}', "hostile_text"),
    "escaped NUL": (b'{"time":1795445343000,"metrics":{"temperature":1},"note":"\\u0000"}', "hostile_text"),
    "bidi": ('{"time":1795445343000,"metrics":{"temperature":1},"note":"\u202e"}'.encode(), "hostile_text"),
    "escaped bidi": (b'{"time":1795445343000,"metrics":{"temperature":1},"note":"\\u202E"}', "hostile_text"),
    "a path as metric name": (b'{"time":1795445343000,"metrics":{"../../etc/passwd":1}}', "metric_name"),
    "a lone surrogate": (b'{"time":1795445343000,"metrics":{"\\ud800":1}}', "malformed"),
}


@pytest.mark.parametrize(("body", "reason"), POISON.values(), ids=POISON)
def test_a_poisonous_payload_is_refused(body: bytes, reason: str, envelope: Any, catalogue: Catalogue) -> None:
    """Each kind of poison in a payload is refused with its reason code."""
    assert reason_of(envelope(payload=body), catalogue=catalogue) == reason


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"principal": "000000000000"}, "identity"),
        ({"principal": "A" * 64}, "identity"),
        ({"principal": "0" * 64 + "\n"}, "identity"),
        ({"principal": None}, "envelope"),
        ({"client_id": "sg-01-press-monitor-0002-dev"}, "identity"),
        ({"client_id": None}, "envelope"),
        ({"facility": "../sg-01"}, "ids"),
        ({"facility": "sg-01/"}, "ids"),
        ({"facility": "sg-01\n"}, "ids"),
        ({"facility": "SG-01"}, "ids"),
        ({"device_type": "press\u202emonitor"}, "ids"),
        ({"device_type": ".."}, "ids"),
        ({"thing": "a\x00-dev", "client_id": "a\x00-dev"}, "ids"),
        ({"thing": "a/b-dev", "client_id": "a/b-dev"}, "ids"),
        ({"thing": "x-prod", "client_id": "x-prod"}, "environment"),
        ({"device_type": "toaster"}, "device_type"),
        ({"raw": "not base64!"}, "base64"),
        ({"raw": "e30"}, "base64"),
        ({"raw": "é"}, "base64"),
        ({"raw": 17}, "envelope"),
        ({"received_at": "now"}, "envelope"),
        ({"received_at": 10**30}, "envelope"),
        ({"received_at": -1}, "envelope"),
    ],
)
def test_a_poisonous_envelope_is_refused(
    overrides: dict[str, Any], reason: str, envelope: Any, catalogue: Catalogue
) -> None:
    """Identities that are not proven, ids that are no ids and stamps of the wrong kind are refused."""
    assert reason_of(envelope(**overrides), catalogue=catalogue) == reason


def test_identity_comes_from_the_rule_alone(envelope: Any, payload: Any, catalogue: Catalogue) -> None:
    """A thing name in the payload changes nothing."""
    reading = parse(envelope(payload=payload(thing="other", principal="f" * 64)), catalogue=catalogue)

    assert (reading.envelope.thing, reading.envelope.principal) == ("sg-01-press-monitor-0001-dev", f"{1:064x}")


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (5 * 60_000, "taken"),
        (5 * 60_000 + 1, "future"),
        (-60 * 60_000, "taken"),
        (-60 * 60_000 - 1, "late"),
        (-8 * DAY, "late"),
        (-8 * DAY - 1, "old"),
    ],
)
def test_the_device_time_is_classified(
    offset: int, expected: str, envelope: Any, payload: Any, catalogue: Catalogue
) -> None:
    """A time up to five minutes ahead is taken, one over an hour behind is late, one over eight days behind is old."""
    stamped = envelope(payload=payload(time=RECEIVED_AT + offset))
    if expected in REASONS:
        assert reason_of(stamped, catalogue=catalogue) == expected
    else:
        assert parse(stamped, catalogue=catalogue).is_late == (expected == "late")


def test_age_counts_until_the_stream_accepted_the_record(reading: Any) -> None:
    """A record that was put into the stream again keeps the rule's time; its age is that of its own arrival."""
    at = {"time": RECEIVED_AT - DAY, "max_age": 30 * DAY}
    assert reading(**at, arrived_at=RECEIVED_AT + 29 * DAY).arrived_at == RECEIVED_AT + 29 * DAY
    assert reading(**at, arrived_at=0).arrived_at == RECEIVED_AT
    with pytest.raises(PoisonReading, match=r"old: the device time \d+ is more than 30 days before"):
        reading(**at, arrived_at=RECEIVED_AT + 29 * DAY + 1)


def test_messages_are_told_apart_by_time_and_sequence(reading: Any) -> None:
    """The same time and sequence make the same id whatever the content; without sequence the payload is the id."""
    same = reading(metrics={"temperature": 1.0})
    other = reading(metrics={"temperature": 2.0})
    unnumbered = reading(sequence=None, metrics={"temperature": 1.0})

    assert same.identity == other.identity
    assert same.content != other.content
    assert reading(sequence=18).identity != same.identity
    assert unnumbered.identity == reading(sequence=None, metrics={"temperature": 1.0}).identity
    assert unnumbered.identity != reading(sequence=None, metrics={"temperature": 2.0}).identity


OUTCOMES = REASONS | {"taken"}


def outcome_of(data: bytes, *, catalogue: Catalogue) -> str:
    try:
        parse_readings(sequence_number="1", envelope=parse_envelope(data), catalogue=catalogue, suffix="dev")
    except PoisonReading as poison:
        return poison.reason
    return "taken"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "time": st.integers() | st.just(RECEIVED_AT) | json_values,
        "sequence": st.integers() | json_values,
        "metrics": st.dictionaries(st.text() | st.just("temperature"), st.floats() | json_values) | json_values,
        "more": json_values,
    },
).map(lambda message: json.dumps(message).encode())


@pytest.mark.slow
@settings(max_examples=400)
@given(body=st.binary() | messages)
def test_no_payload_raises_anything_but_poison(body: bytes, envelope: Any, catalogue: Catalogue) -> None:
    """Whatever bytes a device sends, the parser returns a reading or raises PoisonReading with a known reason."""
    assert outcome_of(json.dumps(envelope(payload=body)).encode(), catalogue=catalogue) in OUTCOMES


@pytest.mark.slow
@settings(max_examples=400)
@given(
    data=st.binary()
    | st.fixed_dictionaries(
        {},
        optional={
            name: json_values | st.just(base64.b64encode(b"{}").decode())
            for name in ("raw", "facility", "device_type", "thing", "client_id", "principal", "received_at")
        },
    ).map(lambda stamps: json.dumps(stamps).encode())
)
def test_no_envelope_raises_anything_but_poison(data: bytes, catalogue: Catalogue) -> None:
    """Whatever a record's data, the parser returns a reading or raises PoisonReading with a known reason."""
    assert outcome_of(data, catalogue=catalogue) in OUTCOMES


def readings_of(payload: bytes, *, envelope: Any, catalogue: Catalogue) -> tuple[Reading, ...]:
    stamped = parse_envelope(json.dumps(envelope(payload=payload)).encode())
    return parse_readings(sequence_number="1", envelope=stamped, catalogue=catalogue, suffix="dev")


def test_an_array_is_the_messages_in_it(envelope: Any, payload: Any, catalogue: Catalogue) -> None:
    """Readings of one message have the id and content that each would have had in a message of its own."""
    messages = [payload(sequence=number, time=RECEIVED_AT - number) for number in range(3)] + [payload(sequence=None)]
    together = readings_of(b"[ " + b" ,\n".join(messages) + b"]", envelope=envelope, catalogue=catalogue)
    alone = [parse(envelope(payload=message), catalogue=catalogue) for message in messages]

    assert [(each.identity, each.content, each.time) for each in alone] == [
        (each.identity, each.content, each.time) for each in together
    ]
    assert {each.sequence_number for each in together} == {"1"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"[]", "readings"),
        (b"[" + b",".join([b'{"time":1,"metrics":{}}'] * 1_001) + b"]", "readings"),
        (b'[{"time":1,"metrics":{"temperature":1}}', "malformed"),
        (b'[[{"time":1,"metrics":{"temperature":1}}]]', "malformed"),
        (b"[1]", "malformed"),
    ],
)
def test_an_array_is_taken_whole_or_not_at_all(
    payload: bytes, reason: str, envelope: Any, catalogue: Catalogue
) -> None:
    """A payload that is no valid array of messages is refused like any other message."""
    with pytest.raises(PoisonReading) as caught:
        readings_of(payload, envelope=envelope, catalogue=catalogue)
    assert caught.value.reason == reason


def test_one_bad_reading_refuses_its_array(envelope: Any, payload: Any, catalogue: Catalogue) -> None:
    """A device that sends one reading from the future has its whole message in quarantine, where its bytes are kept."""
    array = b"[" + payload() + b"," + payload(time=RECEIVED_AT + DAY) + b"]"
    with pytest.raises(PoisonReading) as caught:
        readings_of(array, envelope=envelope, catalogue=catalogue)
    assert caught.value.reason == "future"


def test_units_are_those_of_the_manifest(envelope: Any, payload: Any, catalogue: Catalogue) -> None:
    """A device may say its units; another one than the manifest's is refused, of an unknown metric any is taken."""
    right = payload(units={"temperature": "celsius", "humidity": "percent"})
    assert parse(envelope(payload=right), catalogue=catalogue).metrics["temperature"] == 71.25
    wrong = payload(units={"temperature": "fahrenheit"})
    assert reason_of(envelope(payload=wrong), catalogue=catalogue) == "unit"
