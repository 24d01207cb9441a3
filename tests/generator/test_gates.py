"""Each gate lets the real artefact through, and stops what a broken template would make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from generator import gates
from generator.diagnostics import GateError

PLANT = Path(__file__).parents[2] / "lib" / "facilities" / "sg_01"
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


def test_rows_out_of_order_or_missing_are_stopped() -> None:
    """Rows are strictly ascending, and every thing is there."""
    lines = (PLANT / "things.jsonl").read_bytes().splitlines(keepends=True)
    for rows in (lines[:-1], lines + lines[-1:], lines[:1] + lines[:1] + lines[2:]):
        gate = gates.ThingRowsGate("things.jsonl", count=70)
        with pytest.raises(GateError):  # noqa: PT012
            for row in rows:
                gate.check(row)
            gate.finish()
