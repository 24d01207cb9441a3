"""Lists of devices, names and lines: which things they make, where their faults are, and what a plan says of them."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_iot.generator.manifest.inventory import name_order

PLANT = {"name": "Tuas", "timezone": "Asia/Singapore"}
NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9_]{0,5}\Z")
SERIALS = st.from_regex(r"\A[A-Z0-9#:=.-]{1,8}\Z")
VALUES = st.text("abcABC019_.,@/:#=[]-", max_size=6)
DEVICES = st.dictionaries(NAMES, st.tuples(SERIALS, VALUES), min_size=1, max_size=12).filter(
    lambda devices: len({serial for serial, _ in devices.values()}) == len(devices)
)


def listed(project: Any, data: Any, **files: str) -> None:
    """A project whose plants each take their presses from a list: `sg_01` for the plant sg-01."""
    plants = {}
    for name, text in files.items():
        id_ = name.replace("_", "-")
        ending = "jsonl" if text.startswith("{") else "csv"
        (project.folder / f"{id_}.{ending}").write_text(text, "utf-8")
        plants[id_] = PLANT | {"things": {"press": {"inventory": f"{id_}.{ending}"}}}
    project.write(data(facilities=plants))


def rows_of(project: Any, module: str = "sg_01") -> list[dict[str, Any]]:
    """The generated rows of a plant."""
    assert 0 == project.fleet("generate", "--allow", "breaks-identity", "--allow", "destroys-data").exit_code
    return [json.loads(line) for line in (project.tree / module / "things.jsonl").read_text().splitlines()]


def as_csv(devices: dict[str, tuple[str, str]], separator: str) -> str:
    """A list of devices as a spreadsheet writes it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_MINIMAL)
    writer.writerow(["name", "serial", "note"])
    writer.writerows([name, serial, note] for name, (serial, note) in devices.items())
    return text.getvalue()


def as_json_lines(devices: dict[str, tuple[str, str]]) -> str:
    """The same as JSON lines; an empty cell of a CSV is no attribute."""
    rows = (
        {"name": name, "serial": serial, "attributes": {"note": note} if note else {}}
        for name, (serial, note) in devices.items()
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(devices=DEVICES, separator=st.sampled_from([",", ";", "\t"]))
def test_each_format_gives_the_same_things(
    project: Any, data: Any, devices: dict[str, tuple[str, str]], separator: str
) -> None:
    """Every device comes back with its serial and attributes, sorted by name; the other format changes no byte."""
    listed(project, data, sg_01=as_csv(devices, separator))
    expected = [
        {
            "name": f"sg-01-press-{name}",
            "thing_type": "thing-type-press",
            "device_type": "press",
            "serial": devices[name][0],
            "attributes": {"facility": "sg-01", "serial": devices[name][0]}
            | ({"note": devices[name][1]} if devices[name][1] else {}),
        }
        for name in sorted(devices, key=name_order)
    ]
    assert expected == rows_of(project)
    backwards = dict(reversed(devices.items()))
    listed(project, data, sg_01=as_json_lines(backwards))
    assert project.fleet("plan").stdout.startswith("No changes")
    assert 0 == project.fleet("generate", "--check").exit_code


def test_things_that_move_to_another_list_are_a_move(project: Any, data: Any) -> None:
    """Ten devices that stand in another plant's list move, by their serials; none is deleted, none is made."""
    rows = [f"press_{number},SN-{number}\n" for number in range(24)]
    header = "name,serial\n"
    listed(project, data, sg_01=header + "".join(rows), th_01=header + "own,SN-999\n")
    rows_of(project)
    listed(
        project,
        data,
        sg_01=header + "".join(rows[:14]),
        th_01=header + "".join(f"from_sg_{number},SN-{number}\n" for number in range(14, 24)) + "own,SN-999\n",
    )
    (change,) = json.loads(project.fleet("plan", "--json").stdout)["changes"]
    assert ("things-moved", "sg-01", "th-01", 10) == tuple(change[key] for key in ("kind", "facility", "to", "count"))
    assert [{"first": "sg-01-press-press_14", "last": "sg-01-press-press_23", "count": 10}] == change["things"]
    assert [{"first": "th-01-press-from_sg_14", "last": "th-01-press-from_sg_23", "count": 10}] == change["become"]


def test_devices_without_serials_of_their_own_move_by_count(project: Any, data: Any) -> None:
    """Devices that no serial identifies are paired in the same way as things that are given by count."""
    listed(project, data, sg_01="name\na\nb\nc\n", th_01="name\nx\n")
    rows_of(project)
    listed(project, data, sg_01="name\na\n", th_01="name\nx\ny\nz\n")
    told = project.fleet("plan").stdout
    assert "sg-01 → th-01  2 press moved by count (sg-01-press-b … sg-01-press-c become th-01-press-y" in told


def test_thing_without_a_name_is_named_by_its_serial(project: Any, data: Any) -> None:
    """In lower case, with `_` for all that no name may hold."""
    listed(project, data, sg_01="serial\nSN-1002\n#A.7\n")
    assert ["sg-01-press-a_7", "sg-01-press-sn_1002"] == [row["name"] for row in rows_of(project)]


def test_one_list_serves_many_groups(project: Any, data: Any) -> None:
    """Each group takes the rows of its own plant and type, and a change in one plant's rows makes that one alone."""
    text = "facility,device_type,serial\nsg-01,press,A\nsg-01,pump,B\nth-01,press,C\n"
    (project.folder / "all.csv").write_text(text)
    group = {"inventory": "all.csv"}
    plants = {
        "sg-01": PLANT | {"things": {"press": group, "pump": group}},
        "th-01": PLANT | {"things": {"press": group}},
    }
    project.write(data(facilities=plants))
    assert [("press", "A"), ("pump", "B")] == [(row["device_type"], row["serial"]) for row in rows_of(project)]
    before = project.files()
    (project.folder / "all.csv").write_text(text + "th-01,press,D\n")
    assert 0 == project.fleet("generate").exit_code
    changed = {path for path, content in project.files().items() if before.get(path) != content}
    assert changed <= {".generated.json", *(path for path in before if path.startswith("th_01/"))}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"count": 6, "lines": {"a1": "1-2, 6", "b2": 3}}, ["a1", "a1", "b2", None, None, "a1"]),
        ({"count": 3, "line": "b2"}, ["b2", "b2", "b2"]),
        ({"count": 2, "lines": {"a1": 1}}, ["a1", None]),
        ({"names": {"north": {"line": "b2"}, "a": None}, "line": "a1"}, ["a1", "b2"]),
    ],
)
def test_line_gives_its_attributes(project: Any, data: Any, group: Any, expected: list[str | None]) -> None:
    """Company, plant, line, group and thing: the later overrides the earlier."""
    lines = {"a1": {"attributes": {"hall": "line", "floor": "line"}}, "b2": {}}
    plant = PLANT | {"attributes": {"hall": "plant", "site": "plant"}, "lines": lines, "things": {"press": group}}
    defaults = {"attributes": {"site": "company", "company": "company"}}
    project.write(data(facilities={"sg-01": plant}, defaults=defaults))
    rows = [row["attributes"] for row in rows_of(project)]
    assert expected == [row.get("line") for row in rows]
    assert ["line" if line == "a1" else "plant" for line in expected] == [row["hall"] for row in rows]
    assert [{"plant"}, {"company"}] == [{row[name] for row in rows} for name in ("site", "company")]
    overridden = plant | {"things": {"press": group | {"attributes": {"hall": "group"}}}}
    project.write(data(facilities={"sg-01": overridden}, defaults=defaults))
    assert {"group"} == {row["attributes"]["hall"] for row in rows_of(project)}


def test_more_things_change_no_line(project: Any, data: Any) -> None:
    """A count that grows, with the new numbers on a line that was there, only adds rows."""
    plant = PLANT | {"lines": {"a1": {}, "b2": {}}}
    for count, first in ((20, "1-10"), (24, "1-10, 21-24")):
        group = {"count": count, "lines": {"a1": first, "b2": "11-20"}}
        project.write(data(facilities={"sg-01": plant | {"things": {"press": group}}}))
        if count == 20:
            before = rows_of(project)
    (change,) = json.loads(project.fleet("plan", "--json").stdout)["changes"]
    assert ("things-added", 4) == (change["kind"], change["count"])
    assert before == rows_of(project)[:20]


def test_list_is_read_by_the_stacks(project: Any, data: Any) -> None:
    """Rows that are generated for named things are read in the same way as those of numbered things."""
    from fleet_iot.lib.record.read import read_things

    listed(project, data, sg_01="name,serial,note\nk_1,SN-1,x\n")
    rows = rows_of(project)
    (thing,) = read_things(project.tree / "sg_01" / "things.jsonl")
    assert rows == [{name: getattr(thing, name) for name in rows[0]}]


@pytest.mark.slow
def test_twenty_thousand_rows_have_no_quadratic_step(project: Any, data: Any) -> None:
    """A long list, in any order, is read, sorted and written: each thing once."""
    count = 20_000
    rows = "".join(f"SN-{number * 7919 % count}\n" for number in range(count))
    listed(project, data, sg_01=f"serial\n{rows}")
    slow = data(device_types=data()["device_types"], facilities={"sg-01": PLANT | {"things": {"press": {}}}})
    slow["device_types"]["press"]["sample_interval_s"] = 3600
    slow["facilities"]["sg-01"]["things"]["press"] = {"inventory": "sg-01.csv"}
    project.write(slow)
    assert 0 == project.fleet("generate").exit_code
    lines = (project.tree / "sg_01" / "things.jsonl").read_bytes().splitlines()
    assert count == len(lines) == len(set(lines))
