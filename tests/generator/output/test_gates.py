"""Each gate lets the real artefact through, and stops what a broken template would make."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.output import gates
from fleet_iot.generator.plan.build import ThingRow
from tests.places import SAMPLE

PLANT = SAMPLE / "lib" / "facilities" / "sg_01"
TOPIC = "dt/mfg/sg-01/+/+/telemetry"
check_topic_rule = partial(gates.check_topic_rule, topic=TOPIC)
check_bulk, BULK = gates.check_bulk_registration, "bulk_registration_template.json"


def check_rows(path: str, content: bytes) -> None:
    """The gate of rows, on all of them at once."""
    gate = gates.ThingRowsGate(path, count=70)
    gate.check(content)
    gate.finish()


CASES: tuple[tuple[Callable[[str, bytes], object], str, str, str], ...] = (
    (gates.check_python, "__init__.py", "FACILITY = FacilitySpec(", "FACILITY = FacilitySpec((("),
    (gates.check_python, "__init__.py", "FACILITY = ", "import os\nFACILITY = "),
    (gates.check_python, "__init__.py", "FACILITY = ", "from os import system\nFACILITY = "),
    (gates.check_python, "__init__.py", "'sg-01'", "__import__('os').name"),
    (gates.check_python, "__init__.py", "'sg-01'", "eval('1')"),
    (gates.check_python, "__init__.py", "'sg-01'", "'a' + 'b'"),
    (gates.check_python, "__init__.py", "'sg-01'", "f'{1}'"),
    (gates.check_python, "__init__.py", "'sg-01'", "[x for x in 'a']"),
    (gates.check_python, "__init__.py", "'sg-01'", "(lambda: 1)"),
    (gates.check_python, "__init__.py", "'sg-01'", "FACILITY.id"),
    (gates.check_python, "__init__.py", "FACILITY = ", "def f(): pass\nFACILITY = "),
    (gates.check_python, "__init__.py", "Tuas", "T\u00fcas"),
    (gates.check_policy, "press-monitor.policy.json", "${iot:Connection.Thing.ThingName}/telemetry", "*"),
    (gates.check_policy, "press-monitor.policy.json", '"Allow"', '"Deny"'),
    (gates.check_policy, "press-monitor.policy.json", "sg-01", "s" * 1_200),
    (gates.check_policy, "press-monitor.policy.json", '"Effect": "Allow",', '"Effect": "Allow", "Effect": "Allow",'),
    (gates.check_policy, "press-monitor.policy.json", "]\n}", "}"),
    (check_topic_rule, "rule_telemetry_sg_01.sql", "/telemetry'", "/#'"),
    (check_topic_rule, "rule_telemetry_sg_01.sql", "SELECT ", "DELETE "),
    (check_topic_rule, "rule_telemetry_sg_01.sql", "telemetry'\n", "telemetry'\nSELECT 1\n"),
    (check_topic_rule, "rule_telemetry_sg_01.sql", "AS trace_id", "AS trace_id;"),
    (gates.check_provisioning, "provisioning_template.json", '"Parameters"', '"Parameter"'),
    (gates.check_provisioning, "provisioning_template.json", '{"Ref": "SerialNumber"}', '{"Ref": "Serial"}'),
    (gates.check_provisioning, "provisioning_template.json", "AWS::IoT::Policy", "AWS::IoT::Thing"),
    (gates.check_provisioning, "provisioning_template.json", '"sg-01"', f'"{"x" * 10_000}"'),
    (check_bulk, BULK, '"CSR": {"Type": "String"}', '"Csr": {"Type": "String"}'),
    (check_bulk, BULK, '{"Type": "String"},', '{"Type": "String"}, "Hall": {"Type": "String"},'),
    (check_bulk, BULK, "CertificateSigningRequest", "CertificatePem"),
    (check_bulk, BULK, '{"Ref": "ThingTypeName"}', '{"Fn::Join": ["", [{"Ref": "ThingTypeName"}]]}'),
    (gates.check_dashboard, "dashboard.json", '"ReadingsLate", "Facility"', '"ReadingsLost", "Facility"'),
    (gates.check_dashboard, "dashboard.json", '["Fleet/', '["Flee/'),
    (gates.check_dashboard, "dashboard.json", '"DeviceType", ', '"Type", '),
    (gates.check_json, "prefixes.json", "]", "],"),
    (gates.check_markdown, "RUNBOOK.md", "# Runbook", "{{ facility.name }}"),
    (check_rows, "things.jsonl", "\n", ""),
    (check_rows, "things.jsonl", '"name"', '"nom"'),
    (check_rows, "things.jsonl", "cnc-spindle-0001", "cnc-spindle-9999"),
)


@pytest.mark.parametrize(("check", "name", "old", "new"), CASES)
def test_gate_stops_the_broken_artefact(check: Callable[[str, bytes], object], name: str, old: str, new: str) -> None:
    """The real artefact passes; the same with one thing broken raises `GateError`, exit 5, with the file's name."""
    content = (PLANT / name).read_bytes()
    check(name, content)
    broken = content.replace(old.encode(), new.encode(), 1)
    assert content != broken
    with pytest.raises(GateError, match=name) as caught:
        check(name, broken)
    assert 5 == caught.value.exit_code


def blocks(count: int, *, first: int = 1) -> list[bytes]:
    """The rows of numbered things in blocks of up to a thousand."""
    row = '{"name":"p-1-press-%s","thing_type":"thing-type-press","device_type":"press","serial":"P-1-%s",'
    row += '"attributes":{"facility":"p-1","serial":"P-1-%s"}}\n'
    rows = [(row % ((f"{number:04d}",) * 3)).encode() for number in range(first, first + count)]
    return [b"".join(rows[at : at + 1_000]) for at in range(0, count, 1_000)]


def gated(chunks: list[bytes], *, count: int) -> int:
    """Pass the chunks through the gate of `count` rows, and return the number of lines that passed."""
    gate = gates.ThingRowsGate("things.jsonl", count=count)
    for chunk in chunks:
        gate.check(chunk)
    gate.finish()
    return sum(chunk.count(b"\n") for chunk in chunks)


@pytest.mark.parametrize(("count", "first"), [(1, 1), (2, 9), (70, 1), (1_000, 1), (1_000, 9_500), (12_345, 990)])
def test_rows_pass_as_the_generator_makes_them(count: int, first: int) -> None:
    """Blocks of numbered rows, over every change of digits."""
    assert count == gated(blocks(count, first=first), count=count)
    with pytest.raises(GateError, match=r"things\.jsonl"):
        gated(blocks(count, first=first), count=count + 1)


def test_rows_of_the_committed_plants_pass() -> None:
    """In one block, and each alone: several device types, lines and serials."""
    plants = sorted(PLANT.parent.glob("*/things.jsonl"))
    assert plants
    for plant in plants:
        content = plant.read_bytes()
        lines = content.splitlines(keepends=True)
        assert len(lines) == gated([content], count=len(lines)) == gated(lines, count=len(lines))


def _replaced(lines: list[bytes], place: int, row: bytes) -> list[bytes]:
    return [*lines[:place], row, *lines[place + 1 :]]


def _edited(old: bytes, new: bytes) -> Callable[[list[bytes], int], list[bytes]]:
    return lambda lines, at: _replaced(lines, at, lines[at].replace(old, new, 1))


BROKEN_ROWS: dict[str, Callable[[list[bytes], int], list[bytes]]] = {
    "garbage of the same length": lambda lines, at: _replaced(lines, at, b"X" * (len(lines[at]) - 1) + b"\n"),
    "a duplicate": lambda lines, at: _replaced(lines, at, lines[at - 1]),
    "a row twice": lambda lines, at: [*lines[:at], lines[at], *lines[at:]],
    "out of order": lambda lines, at: _replaced(_replaced(lines, at, lines[at + 1]), at + 1, lines[at]),
    "missing": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "a control character": _edited(b"p-1-press", b"p-1-pr\0ss"),
    "a serial that is cut": _edited(b'"serial"', b'"serial'),
    "a quote more": _edited(b"thing-type", b'"hing-type'),
    "another key": _edited(b'"serial"', b'"sERIAL"'),
    "a key twice": _edited(b'"thing_type"', b'"name":"a","thing_type"'),
    "a key of the attributes twice": _edited(b'{"facility"', b'{"facility":"x","facility"'),
    "a number for a text": _edited(b'"press",', b"1234567,"),
    "attributes that are text": lambda lines, at: _replaced(lines, at, lines[at].partition(b'{"fac')[0] + b'"x"}\n'),
    "two rows on a line": lambda lines, at: _replaced(lines, at, lines[at].rstrip() + lines[at]),
    "an empty line": lambda lines, at: [*lines[:at], b"\n", *lines[at:]],
    "no object": lambda lines, at: _replaced(lines, at, b"[]\n"),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
@pytest.mark.parametrize("place", [1, 500, 998])
def test_a_wrong_row_in_the_middle_of_a_block_is_stopped(name: str, place: int) -> None:
    """Every row of a block is looked at, also where the first and the last are right."""
    (block,) = blocks(1_000)
    broken = b"".join(BROKEN_ROWS[name](block.splitlines(keepends=True), place))
    assert broken != block
    with pytest.raises(GateError, match=r"things\.jsonl was not written"):
        gated([broken], count=1_000)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_any_changed_byte_of_a_block_is_stopped_or_is_another_thing(seed: int) -> None:
    """A byte that is put in, taken out or changed: refused, unless every row is still a thing in its order."""
    random = Random(seed)
    (block,) = blocks(1_000)
    for _ in range(20):
        place = random.randrange(len(block))
        broken = block[:place] + bytes(random.choices(range(256), k=random.randrange(3))) + block[place + 1 :]
        try:
            gated([broken], count=1_000)
        except GateError:
            continue
        things = [json.loads(line) for line in broken.splitlines()]
        names = [thing["name"] for thing in things]
        assert (1_000, True) == (len(set(names)), all(tuple(thing) == ThingRow.__struct_fields__ for thing in things))
        ends = [name.rpartition("-")[2] for name in names]
        assert ends == sorted(ends, key=lambda end: (len(end), end))


def test_blocks_follow_each_other() -> None:
    """A block that is missing, or comes twice or too early, is stopped."""
    first, second, third = blocks(3_000)
    gated([first, second, third], count=3_000)
    for order in ([first, third], [first, first, second], [second, first, third], [first, second, third[:-1]]):
        with pytest.raises(GateError):
            gated(order, count=3_000)
