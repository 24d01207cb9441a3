"""The streamed rows of things are what a JSON encoder would write."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_iot.generator.output.rows import BLOCK_BYTES, numbered_rows, thing_rows
from fleet_iot.generator.plan.build import plan_fleet

NAMES = st.text("abcABC019_.,@/:#-", min_size=1, max_size=8).filter(lambda name: name not in ("facility", "serial"))
VALUES = st.text("abcABC019_.,@/:#=[]-", max_size=8)


def rows_of(manifest: Any, facility: int = 0) -> list[str]:
    """The rows of one facility of a manifest."""
    return b"".join(map(bytes, thing_rows(plan_fleet(manifest).facilities[facility]))).decode().splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(attributes=st.dictionaries(NAMES, VALUES, max_size=4))
def test_row_decodes_to_its_thing(manifest: Any, attributes: dict[str, str]) -> None:
    """Every attribute that AWS takes comes back, facility and serial with them."""
    things = {"press": {"count": 2, "attributes": attributes}}
    facilities = {"sg-01": {"name": "Tuas", "timezone": "Asia/Singapore", "things": things}}
    expected = {
        "name": "sg-01-press-0002",
        "thing_type": "thing-type-press",
        "device_type": "press",
        "serial": "SG01-PRESS-0002",
        "attributes": {"facility": "sg-01", "serial": "SG01-PRESS-0002", **attributes},
    }
    line = rows_of(manifest(facilities=facilities))[1]
    assert expected == json.loads(line)
    assert list(expected) == list(json.loads(line))


@pytest.mark.parametrize("count", [1, 9, 11, 101, 999, 1_000, 1_001, 9_999, 10_000, 12_345, 100_001])
def test_rows_are_those_that_a_json_encoder_writes(manifest: Any, count: int) -> None:
    """Byte for byte, also across the borders of chunks and beyond four and five digits."""
    assert expected_rows(count) == b"".join(chunks_of(manifest, count))


@pytest.mark.parametrize("length", [1, 20, 3_000, 30_000, 500_000])
@given(first=st.integers(0, 200_000), count=st.integers(0, 2_500))
@settings(max_examples=20, deadline=None)
def test_rows_may_begin_at_any_number(length: int, first: int, count: int) -> None:
    """Each row has its own number wherever it stands, however many rows a block has."""
    parts, last = [b"<", b"|", b"x" * length + b"\n"], first + min(count, 5_000_000 // length) - 1
    expected = [b"<%04d|%04d" % (number, number) for number in range(first, last + 1)]
    rows = b"".join(map(bytes, numbered_rows(parts, first=first, last=last))).splitlines()
    assert expected == [row.rstrip(b"x") for row in rows]


def test_chunk_holds_until_the_next_is_asked_for(manifest: Any) -> None:
    """One that is used later is an error, and never other rows."""
    chunks = thing_rows(plan_fleet(manifest(facilities=plant(2_000))).facilities[0])
    first = next(chunks)
    next(chunks)
    with pytest.raises(ValueError, match="released"):
        bytes(first)


@pytest.mark.parametrize("length", [0, 200, 1_000, 20_000, 500_000])
def test_chunk_stays_small_however_long_its_rows_are(manifest: Any, length: int) -> None:
    """Long rows make chunks of fewer rows, each chunk whole rows, and change no byte of them."""
    attributes = {"note": "x" * length}
    plan = plan_fleet(manifest(facilities=plant(600)))
    facility = plan.facilities[0]
    group = facility.groups[0]
    run = replace(group.runs[0], attributes=tuple(sorted({"facility": "sg-01", **attributes}.items())))
    group = replace(group, runs=(run,))
    chunks = list(map(bytes, thing_rows(replace(facility, groups=(group,)))))
    assert expected_rows(600, attributes) == b"".join(chunks)
    assert all(len(chunk) <= BLOCK_BYTES or chunk.count(b"\n") == 1 for chunk in chunks)
    assert all(chunk.endswith(b"\n") for chunk in chunks)


def plant(count: int) -> dict[str, Any]:
    """One facility with presses alone."""
    return {"sg-01": {"name": "Tuas", "timezone": "UTC", "things": {"press": count}}}


def chunks_of(manifest: Any, count: int) -> list[bytes]:
    """The chunks of so many presses."""
    types = manifest().device_types["press"].model_dump() | {"sample_interval_s": 3_600}
    fleet = manifest(facilities=plant(count), device_types={"press": types})
    return list(map(bytes, thing_rows(plan_fleet(fleet).facilities[0])))


def expected_rows(count: int, attributes: dict[str, str] | None = None) -> bytes:
    """What a JSON encoder writes for so many presses."""
    lines = []
    for number in range(1, count + 1):
        serial = f"SG01-PRESS-{number:04d}"
        thing: dict[str, Any] = {"name": f"sg-01-press-{number:04d}", "thing_type": "thing-type-press"}
        thing |= {"device_type": "press", "serial": serial}
        thing["attributes"] = dict(sorted({"facility": "sg-01", **(attributes or {}), "serial": serial}.items()))
        lines.append(json.dumps(thing, separators=(",", ":")) + "\n")
    return "".join(lines).encode()


def test_things_of_the_plan_are_those_of_the_rows(manifest: Any) -> None:
    """A thing that is computed has the name and the serial of its row."""
    fleet = manifest()
    computed = [
        (thing.name, thing.serial) for group in plan_fleet(fleet).facilities[0].groups for thing in group.things()
    ]
    written = [(row["name"], row["serial"]) for row in map(json.loads, rows_of(fleet))]
    assert computed == written


def test_raising_a_count_only_adds_lines(manifest: Any) -> None:
    """Rows that exist keep every byte."""
    facilities = {"sg-01": {"name": "Tuas", "timezone": "UTC", "things": {"press": 3, "pump": 2}}}
    before = rows_of(manifest(facilities=facilities))
    facilities["sg-01"]["things"] = {"press": 5, "pump": 2}
    after = rows_of(manifest(facilities=facilities))
    assert before == [line for line in after if line in before]
    assert 2 == len(after) - len(before)
