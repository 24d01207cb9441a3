"""`fleet explain`: what a name is, and where in the manifest it comes from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet_iot.generator.manifest.load import read_manifest
from fleet_iot.generator.plan.build import plan_fleet
from fleet_iot.generator.plan.catalogue import entries, plan_alarms
from fleet_iot.lib import specs
from fleet_iot.lib.names import PLATFORM_ALARMS, PLATFORM_RESOURCES
from tests.places import PROJECT, SAMPLE

MANIFEST = """\
version: 1
application: mfg
environment_suffix: dev
region: ap-southeast-1
device_types:
  press:
    description: Hydraulic press
    sample_interval_s: 10
    metrics:
      vibration: {unit: mm/s, max: 11.2}
facilities:
  sg-01:
    name: Tuas
    timezone: Asia/Singapore
    things:
      press: {count: 3, attributes: {line: b2}}
"""
THING = ("thing", "facilities.sg-01.things.press", 16)
NAMES = {
    "sg-01-press-0002": THING,
    "sg-01-press-0002-dev": THING,
    "sg-01-press-0002-prod": THING,
    "SG01-PRESS-0002": THING,
    "arn:aws:iot:ap-southeast-1:123456789012:thing/sg-01-press-0002-dev": THING,
    "dt/mfg/sg-01/press/sg-01-press-0001/telemetry": ("topic", *THING[1:]),
    "dt/mfg/sg-01/press/sg-01-press-0001-dev/telemetry": ("topic", *THING[1:]),
    "$aws/rules/rule_telemetry_sg_01_dev/dt/mfg/sg-01/press/sg-01-press-0001-dev/telemetry": ("topic", *THING[1:]),
    "cmd/mfg/sg-01/press/sg-01-press-0003-dev/request": ("topic", *THING[1:]),
    "cmd/mfg/sg-01/press/sg-01-press-0003-dev/response": ("topic", *THING[1:]),
    "dt/mfg/sg-01/+/+/telemetry": ("topic filter", "facilities.sg-01", 12),
    "policy-sg-01-press": ("policy", *THING[1:]),
    "policy-sg-01-press-dev": ("policy", *THING[1:]),
    "thing-group-sg-01-press-dev": ("thing group", *THING[1:]),
    "thing-group-sg-01-dev": ("thing group", "facilities.sg-01", 12),
    "thing-type-press-dev": ("thing type", "device_types.press", 6),
    "press": ("device type", "device_types.press", 6),
    "vibration": ("metric", "device_types.press.metrics.vibration", 10),
    "sg-01": ("facility", "facilities.sg-01", 12),
    "rule_telemetry_sg_01": ("topic rule", "facilities.sg-01", 12),
    "rule_telemetry_sg_01_dev": ("topic rule", "facilities.sg-01", 12),
    "template-sg-01-dev": ("provisioning template", "facilities.sg-01", 12),
    "dashboard-sg-01": ("dashboard", "facilities.sg-01", 12),
    "archive/facility=sg-01/device_type=press/": ("prefix", *THING[1:]),
    "s3://bucket-mfg-raw-archive-dev/archive/facility=sg-01/device_type=press/date=2026-11-23/a.ndjson.gz": (
        "prefix",
        *THING[1:],
    ),
    "quarantine/facility=sg-01/date=2026-11-23/": ("prefix", "facilities.sg-01", 12),
    "iot-rule-errors/facility=sg-01/1764000000000-abc.json": ("prefix", "facilities.sg-01", 12),
    "lib/facilities/sg_01/things.jsonl": ("folder", "facilities.sg-01", 12),
    "lib/facilities/sg_01/press.policy.json": ("file", *THING[1:]),
    "lib/facilities/sg_01/dashboard.json": ("file", "facilities.sg-01", 12),
    "sg_01": ("folder", "facilities.sg-01", 12),
    "rule_telemetry_sg_01_ENVIRONMENT_SUFFIX": ("topic rule", "facilities.sg-01", 12),
    "arn:aws:iot:ap-southeast-1:ACCOUNT_ID:topic/dt/mfg/sg-01/press/${iot:Connection.Thing.ThingName}/telemetry": (
        "topic",
        *THING[1:],
    ),
    "arn:aws:s3:::bucket-mfg-raw-archive-dev": ("S3 bucket", "application", 2),
    "arn:aws:s3:::bucket-mfg-raw-archive-dev/archive/facility=sg-01/device_type=press/x": ("prefix", *THING[1:]),
    "arn:aws:dynamodb:ap-southeast-1:123456789012:table/table-devices-dev": ("DynamoDB table", "environment_suffix", 3),
    "arn:aws:logs:ap-southeast-1:123456789012:log-group:/aws/lambda/function-sensor-processor-dev": (
        "log group",
        "environment_suffix",
        3,
    ),
    "table-readings-dev": ("DynamoDB table", "environment_suffix", 3),
    "alias/key-data-dev": ("KMS alias", "environment_suffix", 3),
    "bucket-mfg-raw-archive": ("S3 bucket", "application", 2),
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_name_is_explained_with_its_place(project: Any, name: str, expected: tuple[str, str, int]) -> None:
    """Each kind of name, with and without suffix, leads to the line that it comes from."""
    (project.folder / "fleet.yaml").write_text(MANIFEST)
    result = project.fleet("explain", name, "--json")
    (found,) = json.loads(result.stdout)["explanations"]
    assert (0, expected) == (result.exit_code, (found["kind"], found["source"]["key"], found["source"]["line"]))


def test_text_tells_place_and_what_belongs_to_a_thing(project: Any) -> None:
    """A person reads kind, sentence, place and the names around it."""
    (project.folder / "fleet.yaml").write_text(MANIFEST)
    assert (
        """\
sg-01-press-0002: thing
  Number 2 of 3 press (Hydraulic press) in sg-01, Tuas.
  from                fleet.yaml:16  facilities.sg-01.things.press
  in AWS              sg-01-press-0002-dev
  serial              SG01-PRESS-0002
  telemetry           dt/mfg/sg-01/press/sg-01-press-0002-dev/telemetry
  basic ingest        $aws/rules/rule_telemetry_sg_01_dev/dt/mfg/sg-01/press/sg-01-press-0002-dev/telemetry
  hears               cmd/mfg/sg-01/press/sg-01-press-0002-dev/request
  answers             cmd/mfg/sg-01/press/sg-01-press-0002-dev/response
  thing type          thing-type-press-dev
  thing group         thing-group-sg-01-press-dev
  policy              policy-sg-01-press-dev
  topic rule          rule_telemetry_sg_01_dev
  archive             archive/facility=sg-01/device_type=press/
  attribute facility  sg-01
  attribute line      b2
"""
        == project.fleet("explain", "sg-01-press-0002").stdout
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sg-01-pres-0002", "did you mean `sg-01-press-0002`?"),
        ("policy-sg-01-pres", "did you mean `policy-sg-01-press`?"),
        ("vibratoin", "did you mean `vibration`?"),
        ("sg-01-press-0004", "raise the count to add"),
        (
            "dt/other/sg-01/press/sg-01-press-0001/telemetry",
            "did you mean `dt/mfg/sg-01/press/sg-01-press-0001/telemetry`?",
        ),
        ("sg-01-press-00002", "raise the count to add"),
        ("", "facilities: sg-01"),
    ],
)
def test_unknown_name_is_told_with_the_nearest(project: Any, name: str, hint: str) -> None:
    """An unknown name is a usage fault, and its hint gives a remedy."""
    (project.folder / "fleet.yaml").write_text(MANIFEST)
    result = project.fleet("explain", name)
    assert (2, f"hint: {hint}") == (result.exit_code, result.stderr.splitlines()[-1])


def test_a_serial_or_mac_of_the_record_is_explained(project: Any, data: Any) -> None:
    """In any spelling, once the record has it; another attribute is no name."""
    press = {"names": {"k1": {"serial": "SN-1001", "attributes": {"mac": "00:1A:2B:3C:4D:5E", "hall": "north"}}}}
    plants = data()["facilities"]
    plants["sg-01"]["things"] = {"press": press}
    project.write(data(facilities=plants))
    assert 2 == project.fleet("explain", "sn_1001").exit_code
    assert 0 == project.fleet("generate").exit_code
    for name in ("sn_1001", "sn1001", "001a.2b3c.4d5e", "SG-01-Press-K1"):
        assert project.fleet("explain", name).stdout.startswith("sg-01-press-k1: thing"), name
    assert 2 == project.fleet("explain", "north").exit_code


def test_name_of_two_things_is_explained_twice(project: Any, data: Any) -> None:
    """A facility may be called as a device type is."""
    facilities = {"press": {"name": "Tuas", "timezone": "Asia/Singapore", "things": {"press": 3}}}
    project.write(data(facilities=facilities))
    found = json.loads(project.fleet("explain", "press", "--json").stdout)["explanations"]
    assert ["device type", "facility"] == [item["kind"] for item in found]


def test_suffix_of_the_environment_is_known(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable ENVIRONMENT_SUFFIX names the environment whose names are asked for."""
    monkeypatch.setenv("ENVIRONMENT_SUFFIX", "prod-2")
    assert 0 == project.fleet("explain", "rule_telemetry_sg_01_prod_2").exit_code
    assert 0 == project.fleet("explain", "table-readings-prod-2").exit_code


def test_platform_names_are_those_of_the_stacks() -> None:
    """Every platform resource that is explained is synthesised, and so is every topic rule the other way round."""
    lines = (PROJECT / "tests" / "lib" / "platform_addresses.txt").read_text().splitlines()
    named = {line.rpartition(".")[2] for line in lines}
    spelled = (name.replace("/aws/lambda/function", "log-group").replace("/", "-") for name in PLATFORM_RESOURCES)
    assert [] == [name for name in spelled if name not in named]
    assert {name for name in named if name.startswith("rule_")} <= PLATFORM_RESOURCES.keys()


@pytest.mark.parametrize(
    "name",
    [
        "role-topic-rule",
        "role-topic-rule-dev",
        "role-topic-rule-mfg-ap-southeast-1",
        "role-topic-rule-mfg-ap-southeast-1-dev",
        "arn:aws:iam::123456789012:role/role-topic-rule-mfg-ap-southeast-1-dev",
    ],
)
def test_a_role_is_known_by_its_short_name_and_by_its_whole_one(project: Any, name: str) -> None:
    """Its name in AWS holds application and region, as roles are global in an account."""
    (found,) = json.loads(project.fleet("explain", name, "--json").stdout)["explanations"]
    assert ("IAM role", "role-topic-rule-mfg-ap-southeast-1-dev") == (found["kind"], found["deployed_name"])


def test_alarms_are_those_of_the_stacks() -> None:
    """Whoever is called can ask what an alarm is: each that is synthesised is explained, and no other."""
    folder = PROJECT / "tests" / "lib"
    told = {
        stack: {
            line.rpartition(".")[2] for line in (folder / stack).read_text().splitlines() if "_metric_alarm" in line
        }
        for stack in ("platform_addresses.txt", "facility_addresses.txt")
    }
    plan = plan_fleet(read_manifest(SAMPLE / "fleet.yaml", name="fleet.yaml"))
    plant = next(facility for facility in plan.facilities if facility.id == "sg-01")
    # The audit of certificates is made only where the manifest asks for it.
    assert told["platform_addresses.txt"] == PLATFORM_ALARMS.keys() - {"alarm-certificate-expiry"}
    assert told["facility_addresses.txt"] == {alarm.name for alarm in plan_alarms(plant)}
    explained = {entry.name for entry in entries(plan)}
    assert PLATFORM_ALARMS.keys() | told["facility_addresses.txt"] <= explained


def test_deployed_names_are_those_of_the_specs(manifest: Any) -> None:
    """Names get their suffix here as they get it at synthesis."""
    deployed = [entry for entry in entries(plan_fleet(manifest())) if entry.deployed is not None]
    assert [specs.suffixed(entry.name, "dev") for entry in deployed] == [entry.deployed for entry in deployed]


@pytest.mark.slow
def test_terminal_without_the_letters_of_a_name_is_no_obstacle(project: Any) -> None:
    """Names of plants may be in any script; what a terminal lacks is a question mark."""
    (project.folder / "fleet.yaml").write_text(MANIFEST.replace("Tuas", "โรงงาน"), "utf-8")
    result = project.process("explain", "sg-01", environment={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert (0, "  ??????: 3 things, registered by terraform.") == (result.exit_code, result.stdout.splitlines()[1])
