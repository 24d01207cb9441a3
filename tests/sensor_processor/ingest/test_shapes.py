"""Messages that small devices really send: each shape is read as what it means, or refused by a reason naming it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.ingest.reading import PoisonReading, Reading, parse_envelope, parse_readings

NOW = 1_795_445_343_000
PLAIN = f'{{"time":{NOW},"sequence":17,"metrics":{{"temperature":20.5,"vibration":3.1}}}}'.encode()


@pytest.fixture
def read(envelope: Any, catalogue: Catalogue) -> Any:
    """Parses one payload."""

    def parse(payload: bytes) -> tuple[Reading, ...]:
        stamped = parse_envelope(json.dumps(envelope(payload=payload)).encode())
        return parse_readings("1", stamped, catalogue=catalogue, suffix="dev")

    return parse


FRAMES = {
    "line end": PLAIN + b"\n",
    "CR LF": PLAIN + b"\r\n",
    "white space in front": b" \r\n\t" + PLAIN,
    "C string": PLAIN + b"\x00",
    "fixed buffer": PLAIN + b"\x00" * 80,
    "line end in a fixed buffer": PLAIN + b"\r\n" + b"\x00" * 8,
    "fixed buffer with a line end": PLAIN + b"\x00\n",
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "byte order mark and white space": b"\n\xef\xbb\xbf\n" + PLAIN + b"\x00",
    "array": b"[" + PLAIN + b"]",
    "array after white space": b" [ " + PLAIN + b"\n]\n",
    "array in a fixed buffer": b"[" + PLAIN + b"]\x00\x00",
    "array after a byte order mark": b"\xef\xbb\xbf[" + PLAIN + b"]",
}


@pytest.mark.parametrize("payload", FRAMES.values(), ids=FRAMES)
def test_what_surrounds_a_message_is_no_part_of_it(payload: bytes, read: Any) -> None:
    """The reading, its id and its content are those of the bare object."""
    (bare,), (framed,) = read(PLAIN), read(payload)
    seen = [(each.identity, each.content, each.time, dict(each.metrics)) for each in (bare, framed)]
    assert seen[0] == seen[1]


def test_a_message_without_sequence_is_one_message_in_every_frame(read: Any) -> None:
    """Its hash is only of the object: sent again by itself, with a line end or in an array, it counts once."""
    plain = PLAIN.replace(b'"sequence":17,', b"")
    frames = (plain, plain + b"\n", b"[" + plain + b"]", plain + b"\x00", plain + b"\n" + PLAIN)
    assert 1 == len({read(frame)[0].identity for frame in frames})


@pytest.mark.parametrize("plain", [PLAIN, PLAIN.replace(b'"sequence":17,', b"")])
def test_white_space_between_tokens_is_no_part_of_a_message(plain: bytes, read: Any) -> None:
    """A gateway that writes the same JSON with other spaces and line ends repeats a message; spaces in texts count."""
    plain = plain[:-1] + b',"note":"a: b"}'
    document = json.loads(plain)
    spellings = [json.dumps(document, indent=indent).encode() for indent in (None, 1, 4)]
    spellings += [b"[\n " + spellings[1].replace(b"\n", b"\r\n") + b"\n]", plain.replace(b":[", b" :\t[")]
    assert 1 == len({(each.identity, each.content) for spelling in (plain, *spellings) for each in read(spelling)})
    assert read(plain)[0].content != read(plain.replace(b"a: b", b"a:b"))[0].content


@pytest.mark.parametrize("joint", [b"\n", b"\r\n", b"\n\n"])
def test_objects_on_lines_are_an_array(joint: bytes, read: Any) -> None:
    """NDJSON gives the readings that an array of the same objects gives."""
    objects = [with_sequence(str(number).encode()) for number in range(3)]
    lines, array = read(joint.join([*objects, b""])), read(b"[" + b",".join(objects) + b"]")
    assert [each.identity for each in lines] == [each.identity for each in array]


def test_a_null_metric_was_not_measured(read: Any) -> None:
    """The other metrics of its reading count; in an array the reading that measured nothing is passed over."""
    (reading,) = read(PLAIN.replace(b"3.1", b"null"))
    assert {"temperature": 20.5} == reading.metrics
    nothing = b'{"time":%d,"metrics":{"temperature":null,"vibration":null}}' % NOW
    assert [17] == [each.sequence for each in read(b"[" + nothing + b"," + PLAIN + b"]")]
    assert [17] == [each.sequence for each in read(nothing + b"\n" + PLAIN)]


def test_null_and_unsent_are_one(read: Any) -> None:
    """A sequence or units of null are as if they were not sent."""
    (reading,) = read(PLAIN.replace(b'"sequence":17', b'"sequence":null,"units":null'))
    assert reading.sequence is None


def test_whole_numbers_may_be_written_as_floats(read: Any) -> None:
    """JSON has one kind of number: a device whose numbers are all doubles sends 17.0 and 1.795445343e12."""
    (reading,) = read(with_sequence(b"17.0").replace(str(NOW).encode(), b"1.795445343e12"))
    assert (NOW, 17, True) == (reading.time, reading.sequence, isinstance(reading.time, int))
    assert reading.identity == read(PLAIN)[0].identity


@pytest.mark.parametrize(
    "number",
    [
        *("9007199254740991", "9007199254740991.0", "90071992547409.91e2", "9007199254740991000E-3", "0.000", "-0.0"),
        *("1.5e00000000001", "0e-9", "0e" + "9" * 40, "9007199254740991" + "0" * 40 + "e-40"),
    ],
)
def test_a_sequence_that_is_whole_is_taken(number: str, read: Any) -> None:
    """However it is written."""
    assert (
        Decimal(number if len(number) < 40 or "e-" in number else "0")
        == read(with_sequence(number.encode()))[0].sequence
    )


@pytest.mark.parametrize(
    "number",
    [
        *("9007199254740991.4", "9007199254740990.99999999", "17.00000000000000000001", "1e-400", "0.1", "17e-1"),
        *("-0.4", "170e-2", "1e-" + "9" * 40, "0.5e" + "0" * 40, "17." + "0" * 5000 + "1"),
    ],
)
def test_a_sequence_that_is_not_whole_is_refused(number: str, read: Any) -> None:
    """Also where the double that is next to it is whole."""
    with pytest.raises(PoisonReading, match=f"sequence is {re.escape(number[:32])}…?: send a counter") as caught:
        read(with_sequence(number.encode()))
    assert ("malformed", True) == (caught.value.reason, len(str(caught.value)) < 100)
    with pytest.raises(PoisonReading, match=r"time is 1795445343000\.00001: send milliseconds"):
        read(with_time(f"{NOW}.00001"))


def test_escaped_line_ends_are_text(read: Any) -> None:
    """Tabs and line ends within a text pass; so does a backslash before what looks like an escape."""
    assert 1 == len(read(PLAIN[:-1] + rb',"note":"a\tb\r\nc\u000a\\u0000\\b"}'))


def with_sequence(value: bytes) -> bytes:
    """A message with this sequence number."""
    return PLAIN.replace(b'"sequence":17', b'"sequence":' + value)


def with_metric(value: bytes) -> bytes:
    """A message whose vibration is this text."""
    return PLAIN.replace(b"3.1", value)


def with_time(value: object) -> bytes:
    """A message with this time."""
    return PLAIN.replace(str(NOW).encode(), str(value).encode())


REFUSED = {
    "seconds": (with_time(NOW // 1000), "old", ": these look like seconds; send milliseconds"),
    "an RTC's 2000-01-01 in seconds": (with_time(946_684_800), "old", "these look like seconds"),
    "microseconds": (with_time(NOW * 1000), "future", "these look like microseconds; send milliseconds"),
    "nanoseconds": (with_time(NOW * 1_000_000), "future", "these look like nanoseconds"),
    "uptime": (with_time(86_400), "old", "time since the device started"),
    "a true old time": (with_time(NOW - 9 * 86_400_000), "old", "by more than 691200000 ms"),
    "seconds with a fraction": (with_time(f"{NOW // 1000}.25"), "malformed", "time is 1795445343.25: send millisec"),
    "ISO 8601": (with_time('"2026-11-23T14:49:03Z"'), "malformed", "time is a text ('2026-11-23T14:49:03Z')"),
    "time as text": (with_time(f'"{NOW}"'), "malformed", f"time is a text ('{NOW}'): send milliseconds"),
    "time as null": (with_time("null"), "malformed", "time is null"),
    "another name for time": (PLAIN.replace(b'"time"', b'"ts"'), "malformed", "there is no time, but 'ts'"),
    "upper case": (PLAIN.replace(b'"metrics"', b'"Metrics"'), "malformed", "there is no metrics, but 'Metrics'"),
    "flat": (b'{"time":%d,"temperature":20}' % NOW, "malformed", "no metrics, but 'temperature' beside the other"),
    "sequence as text": (with_sequence(b'"17"'), "malformed", "sequence is a text ('17')"),
    "sequence with a fraction": (with_sequence(b"17.5"), "malformed", "sequence is 17.5"),
    "number as text": (with_metric(b'"12.5"'), "malformed", "metrics.vibration is a text ('12.5'): send a number"),
    "true": (with_metric(b"true"), "malformed", "metrics.vibration is a truth value (true)"),
    "object": (with_metric(b'{"value":3}'), "malformed", "metrics.vibration is an object"),
    "list": (with_metric(b"[3]"), "malformed", "metrics.vibration is an array"),
    "too large": (with_metric(b"1e12"), "value", "metrics.vibration is 1000000000000.0"),
    "beyond a double": (with_metric(b"1e400"), "malformed", "metrics.vibration is 1e400"),
    "NaN": (with_metric(b"NaN"), "malformed", "metrics.vibration is NaN, which is no JSON: send null"),
    "nan of printf": (with_metric(b"nan"), "malformed", "metrics.vibration is nan"),
    "-nan of printf": (with_metric(b"-nan"), "malformed", "metrics.vibration is -nan"),
    "inf of printf": (with_metric(b"inf"), "malformed", "metrics.vibration is inf"),
    "-Infinity": (with_metric(b"-Infinity"), "malformed", "metrics.vibration is -Infinity"),
    "a wrong name": (PLAIN.replace(b"vibration", b"vib ration"), "metric_name", "'vib ration'"),
    "an odd name with an odd value": (
        PLAIN.replace(b'"vibration":3.1', b'"vib ration":"x"'), "malformed", "metrics['vib ration'] is a text"),
    "metrics as pairs": (
        b'{"time":%d,"metrics":[{"name":"a","value":1}]}' % NOW, "malformed", "metrics is an array: send an object"),
    "unit as a number": (PLAIN[:-1] + b',"units":{"vibration":1}}', "malformed", "units.vibration is a number"),
    "trailing comma": (PLAIN[:-2] + b",}}", "malformed", "trailing comma in object"),
    "trailing comma in an array": (b"[" + PLAIN + b",]", "malformed", "trailing comma in array"),
    "cut off": (PLAIN[:60], "malformed", "the JSON is cut off after 60 bytes"),
    "half a surrogate pair": (PLAIN[:-1] + rb',"n":"\ud800"}', "malformed", "an escaped surrogate stands alone"),
    "joined objects": (PLAIN + PLAIN, "malformed", "several values in one message are an array, or an object a line"),
    "single quotes": (PLAIN.replace(b'"', b"'"), "malformed", 'JSON quotes with " alone'),
    "NUL in front": (b"\x00\x00" + PLAIN, "hostile_text", "begins with NUL (byte 0)"),
    "NUL and what was in the buffer": (
        PLAIN + b"\x00old}", "hostile_text", "and 4 bytes after it: send the message at its own length"),
    "a control character": (PLAIN[:-1] + b',"n":"\x1b"}', "hostile_text", "control character U+001B (byte"),
    "an escaped control character": (PLAIN[:-1] + rb',"n":"\u001b"}', "hostile_text", r"character \u001b (byte"),
    "UTF-16": (PLAIN.decode().encode("utf-16-le"), "utf8", "looks like UTF-16"),
    "UTF-16 with its mark": (PLAIN.decode().encode("utf-16"), "utf8", "looks like UTF-16"),
    "one of an array": (b"[" + PLAIN + b"," + with_metric(b'"x"') + b"]", "malformed",
                        "reading 2 of 2: metrics.vibration is a text ('x')"),
    "one of the lines": (PLAIN + b"\n" + with_metric(b"1e13"), "value", "reading 2 of 2: metrics.vibration is"),
    "a broken line": (PLAIN + b"\n" + with_metric(b"nan"), "malformed", "reading 2 of 2: "),
    "nothing measured": (b'{"time":%d,"metrics":{"temperature":null}}' % NOW, "metrics", "every metric is null"),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "reason", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_what_is_wrong(payload: bytes, reason: str, words: str, read: Any) -> None:
    """The reason code, and a detail that says which field, where, and what to send."""
    with pytest.raises(PoisonReading) as caught:
        read(payload)
    assert (reason, True) == (caught.value.reason, words in caught.value.detail), caught.value
