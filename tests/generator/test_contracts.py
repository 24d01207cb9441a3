"""Agreement of the generator's output with the programs that read it: specs, stacks, sensor processor, editors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_iot.generator import naming
from fleet_iot.generator.aws import limits as aws_limits
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.manifest import rules
from fleet_iot.generator.manifest.load import read_manifest
from fleet_iot.generator.manifest.models import FleetManifest, keys_at
from fleet_iot.generator.manifest.project import find_project
from fleet_iot.generator.manifest.rates import expected_load
from fleet_iot.generator.manifest.schema import SCHEMA_FILE, schema_text
from fleet_iot.generator.output import index
from fleet_iot.generator.plan.build import FleetPlan, facility_record, fleet_record, plan_fleet
from fleet_iot.lib import specs
from fleet_iot.lib.record import read as record
from fleet_iot.lib.shared import limits
from fleet_iot.lib.specs import ACCOUNT_ID_TOKEN, SUFFIX_TOKEN
from fleet_iot.sensor_processor.ingest import log as metrics
from tests.places import SAMPLE

RECORD = record.read_record(SAMPLE)
FACILITIES, FLEET = RECORD.facilities, RECORD.fleet


def sample_plan() -> FleetPlan:
    """The plan of the sample's manifest."""
    return plan_fleet(read_manifest(SAMPLE / "fleet.yaml", name="fleet.yaml"))


def test_generated_declarations_are_the_plan() -> None:
    """Read as data, the generated Python holds what the manifest planned, field by field."""
    plan = sample_plan()
    assert {facility.id: facility_record(facility) for facility in plan.facilities} == FACILITIES
    assert fleet_record(plan) == FLEET


def test_files_that_declarations_name_are_there() -> None:
    """Policies, rule and things lie beside the declaration."""
    for facility in FACILITIES.values():
        folder = SAMPLE / "lib" / "facilities" / facility.module
        names = [facility.things_file, facility.topic_rule_file, *(group.policy_file for group in facility.groups)]
        assert [] == [name for name in names if not (folder / name).is_file()]
        assert facility.thing_count == len((folder / facility.things_file).read_text().splitlines())


def test_dashboard_shows_what_the_processor_emits() -> None:
    """Both programs hold the same metrics and dimensions."""
    assert sorted(metrics.METRICS) == sorted(naming.PROCESSOR_METRICS)
    assert metrics.DIMENSIONS == naming.METRICS_DIMENSIONS


def test_tokens_are_those_of_the_specs() -> None:
    """`specs.fill` leaves no token in a generated policy, and the rule in it has the name that the stack gives it."""
    policy = (SAMPLE / "lib/facilities/sg_01/press-monitor.policy.json").read_text()
    filled = specs.fill(policy, account_id="123456789012", suffix="a-b")
    assert ACCOUNT_ID_TOKEN not in filled
    assert SUFFIX_TOKEN not in filled
    assert f"$aws/rules/{specs.suffixed(FACILITIES['sg-01'].topic_rule, 'a-b')}/dt/" in filled


def test_record_size_is_that_of_a_real_record() -> None:
    """The estimate of a record lies within a tenth of one as the topic rule makes it."""
    message = {"time": 1764000000000, "sequence": 17, "metrics": {"pressure": 120.25, "temperature": 71.25}}
    raw = len(json.dumps(message)) * 4 / 3
    thing = "sg-01-press-0001-dev"
    fields = {"facility": "sg-01", "device_type": "press", "thing": thing, "client_id": thing, "principal": "a" * 64}
    fields |= {"raw": "", "received_at": 1764000000123, "trace_id": "0f5ac0d4-8d86-4a5e-9d56-0d6c7d1f3a11"}
    actual = len(json.dumps(fields)) + raw + len(thing)
    press = FleetManifest.model_validate(
        {
            "version": 1,
            "application": "mfg",
            "environment_suffix": "dev",
            "region": "eu-west-1",
            "device_types": {
                "press": {
                    "description": "x",
                    "sample_interval_s": 10,
                    "metrics": {name: {"unit": "x", "max": 1} for name in message["metrics"]},
                }
            },
            "facilities": {"sg-01": {"name": "x", "timezone": "UTC", "things": {"press": 20}}},
        }
    )
    load = expected_load(press)
    estimate = load.groups[0].record_bytes(1)
    assert 0.9 < estimate / actual < 1.1
    assert 2.0 == load.messages
    assert load.megabytes == pytest.approx(2 * estimate / 1_000_000)


def test_schema_is_fresh() -> None:
    """`python -m fleet_iot.generator.manifest.schema` has been run since the models changed."""
    assert schema_text() == SCHEMA_FILE.read_text()


def test_manifest_points_editors_to_the_schema() -> None:
    """The first line of the sample's manifest is the modeline that editors read."""
    first = (SAMPLE / "fleet.yaml").read_text().splitlines()[0]
    assert f"# yaml-language-server: $schema={os.path.relpath(SCHEMA_FILE, SAMPLE)}" == first


def test_every_part_of_the_schema_has_its_keys_for_hints() -> None:
    """A model that joins the manifest is known to the did-you-mean, too."""
    paths = [(), ("stream",), ("stream", "start_capacity"), ("processor",), ("device_types", "x")]
    paths += [
        ("device_types", "x", "running"),
        ("device_types", "x", "metrics", "y"),
        ("facilities", "x"),
        ("facilities", "x", "things", "y"),
    ]
    paths += [("defaults",), ("facilities", "x", "contact"), ("facilities", "x", "lines", "y")]
    paths += [("facilities", "x", "things", "y", "names", "z")]
    paths += [("audit",), ("history",), ("observability",), ("observability", "alarms"), ("facilities", "x", "alarms")]
    schema = json.loads(schema_text())
    models = [schema, *schema["$defs"].values()]
    assert sorted(sorted(model["properties"]) for model in models) == sorted(sorted(keys_at(path)) for path in paths)


def test_project_is_found_upward(tmp_path: Path) -> None:
    """The nearest folder with a manifest is the project; without one, the remedy is told and the exit code is 7."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "fleet.yaml").touch()
    assert tmp_path / "a" == find_project(tmp_path / "a" / "b")
    (tmp_path / "a" / "fleet.yaml").unlink()
    with pytest.raises(EnvironmentFault) as caught:
        find_project(tmp_path / "a")
    assert 7 == caught.value.exit_code
    assert "hint: go into the project's folder, or name the manifest: --manifest PATH" in caught.value.lines()


@pytest.mark.slow
def test_generator_needs_no_other_program() -> None:
    """Generating imports neither AWS's library nor cdktf."""
    code = (
        "import sys; from click.testing import CliRunner; from fleet_iot.generator.cli.commands import main; "
        "assert CliRunner().invoke(main, ['generate', '--check']).exit_code == 0; "
        "print([name for name in ('boto3', 'cdktf', 'lib.app', 'lib.facilities', 'operations') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=SAMPLE, capture_output=True, text=True, check=True)
    assert "[]\n" == result.stdout


def test_the_index_is_the_one_that_synthesis_checks() -> None:
    """File, folder and format; each side writes or reads them by itself."""
    assert (naming.INDEX_FILE, index.FORMAT) == (record.INDEX_FILE, record.FORMAT)


def test_manifest_and_synthesis_know_the_same_limits_of_names() -> None:
    """Names that `fleet validate` accepts are accepted by synthesis in the same environment."""
    assert limits.BUCKET_MAXIMUM == rules.BUCKET_NAME_MAXIMUM
    assert limits.NAME_MAXIMA["aws_iot_provisioning_template"] == ("name", aws_limits.TEMPLATE_NAME.max)
    # No id and no suffix has a dot.
    assert {ending for ending in limits.BUCKET_ENDINGS if "." not in ending} == set(rules.BUCKET_NAME_ENDINGS)
