"""The streamed rows of things are what a JSON encoder would write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_iot.generator.output.render import render_things
from fleet_iot.generator.plan.build import plan_fleet

NAMES = st.text("abcABC019_.,@/:#-", min_size=1, max_size=8).filter(lambda name: name not in ("facility", "serial"))
VALUES = st.text("abcABC019_.,@/:#=[]-", max_size=8)


def rows_of(manifest: Any, facility: int = 0) -> list[str]:
    """The rows of one facility of a manifest."""
    return b"".join(render_things(plan_fleet(manifest).facilities[facility]).chunks).decode().splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
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


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 9, 11, 101, 999, 1_000, 1_001, 9_999, 10_000, 12_345, 100_001])
def test_rows_are_those_that_a_json_encoder_writes(manifest: Any, count: int) -> None:
    """Byte for byte, also across the borders of chunks and beyond four and five digits."""
    assert expected_rows(count) == b"".join(chunks_of(manifest, count))


def plant(count: int) -> dict[str, Any]:
    """One facility with presses alone."""
    return {"sg-01": {"name": "Tuas", "timezone": "UTC", "things": {"press": count}}}


def chunks_of(manifest: Any, count: int) -> list[bytes]:
    """The chunks of so many presses."""
    types = manifest().device_types["press"].model_dump() | {"sample_interval_s": 3_600}
    fleet = manifest(facilities=plant(count), device_types={"press": types})
    return list(render_things(plan_fleet(fleet).facilities[0]).chunks)


def expected_rows(count: int, attributes: dict[str, str] | None = None) -> bytes:
    """Return the rows that a JSON encoder writes for so many presses."""
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
