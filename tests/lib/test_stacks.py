"""All stacks together: what holds for every one of them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.lib.faults import PrerequisiteError
from fleet_iot.lib.record.read import read_record
from fleet_iot.lib.shared.context import Access
from fleet_iot.operations.terraform import terraform_for
from tests.places import SAMPLE

pytestmark = pytest.mark.cdktf
FOLDER = Path(__file__).parent
RECORD = read_record(SAMPLE)
FLEET = RECORD.fleet
SUFFIX = "tst"
NUMBER = re.compile(r"-[0-9]{4,}$")
NAMES = ("tap-tst", "endpoint-tst", *(f"facility-{id_}-tst" for id_ in sorted(RECORD.facilities)))
LEGIT_EMPTIES = {"/outputs"}
"""CDKTF's own note of a stack's outputs, of which there are none."""
NO_DEFAULT_TAGS = "/override_provider/default_tags/tags"
"""Path of the setting that keeps the provider's default tags off an object; S3 allows ten tags."""


def _empties(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict | list):
        if not value:
            yield path
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _empties(inner, path if key == "//" else f"{path}/{key}")


def test_plants_depend_on_the_platform(stacks: Any, records: Any) -> None:
    """Every plant's stack, also where one is chosen, in the file from which cdktf-cli reads the order."""
    for synthesised in (stacks, records):
        manifest = json.loads((synthesised.outdir / "manifest.json").read_text())
        assert {name: body["dependencies"] for name, body in manifest["stacks"].items()} == {
            name: [f"tap-{SUFFIX}"] if name.startswith("facility-") else [] for name in synthesised.documents
        }


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_a_stack_is_empty(stacks: Any, name: str) -> None:
    """A dict inside a list loses its keys in the bindings, silently; what is left of it is an empty block."""
    assert {path for path in _empties(stacks[name].document) if not path.endswith(NO_DEFAULT_TAGS)} <= LEGIT_EMPTIES


@pytest.mark.parametrize("name", NAMES)
def test_terraform_accepts_the_stack(stacks: Any, name: str, tmp_path: Path) -> None:
    """`terraform validate` knows every type, argument and reference."""
    folder = stacks.outdir / "stacks" / name
    terraform = terraform_for(environment=os.environ, logs=tmp_path)
    terraform.init(folder)
    assert "Success! The configuration is valid" in terraform.validate(folder)


@pytest.mark.parametrize("name", NAMES)
def test_the_backend_is_explicit_and_names_no_machine(stacks: Any, name: str) -> None:
    """Without a state bucket the state lies in the stack's own folder, and no path in the output is absolute."""
    document = stacks[name].document
    assert document["terraform"]["backend"] == {"local": {"path": f"terraform.{name}.tfstate"}}
    assert str(stacks.outdir.parent) not in json.dumps(document)
    assert str(Path.home()) not in json.dumps(document)


@pytest.mark.parametrize("name", NAMES)
def test_the_provider_is_bound_to_region_and_account(stacks: Any, name: str) -> None:
    """It refuses another account than the one that the ARNs are for, and tags everything, with a plant's own tags."""
    document = stacks[name].document
    plants = {f"facility-{id_}-tst": plant for id_, plant in RECORD.facilities.items()}
    own = plants[name].tags if name in plants else {}
    assert (name == "facility-sg-01-tst") == ("cost-centre" in own)
    assert document["terraform"]["required_providers"]["aws"]["version"] == "5.100.0"
    assert document["provider"]["aws"] == [
        {
            "region": FLEET.region,
            "allowed_account_ids": ["123456789012"],
            "default_tags": [{"tags": {**FLEET.tags, **own, "application": FLEET.application, "environment": "tst"}}],
        }
    ]


def test_a_facility_alone_is_the_same_as_in_the_whole(stacks: Any, synthesis_of: Callable[..., Any]) -> None:
    """Synthesising one plant leaves platform and plant as they are with all plants, to the byte."""
    alone = synthesis_of(facilities=("sg-01",))
    assert sorted(alone.documents) == ["endpoint-tst", "facility-sg-01-tst", "tap-tst"]
    for name in alone.documents:
        path = Path("stacks") / name / "cdk.tf.json"
        assert (alone.outdir / path).read_bytes() == (stacks.outdir / path).read_bytes()


def test_a_state_bucket_makes_an_encrypted_locked_backend(synthesis_of: Callable[..., Any]) -> None:
    """One state for each stack, below application and environment, locked without a table."""
    found = synthesis_of(facilities=("sg-01",), state_bucket="states", state_bucket_region="eu-west-1")
    for name, document in found.documents.items():
        assert document["terraform"]["backend"] == {
            "s3": {
                "bucket": "states",
                "key": f"mfg/tst/{name}.tfstate",
                "region": "eu-west-1",
                "encrypt": True,
                "use_lockfile": True,
            }
        }


def test_another_account_is_reached_by_a_role(synthesis_of: Callable[..., Any]) -> None:
    """Provider and state have a role each, and the state a key; every stack has them, and none an external id."""
    access = Access(
        role_arn="arn:aws:iam::123456789012:role/deploy",
        state_role_arn="arn:aws:iam::210987654321:role/state",
        state_key_arn="arn:aws:kms:eu-west-1:210987654321:key/1",
    )
    found = synthesis_of(facilities=("sg-01",), state_bucket="states", state_bucket_region="eu-west-1", access=access)
    for document in found.documents.values():
        (provider,) = document["provider"]["aws"]
        assert provider["assume_role"] == [{"role_arn": access.role_arn, "session_name": "fleet-terraform"}]
        backend = document["terraform"]["backend"]["s3"]
        assert backend["assume_role"] == {"role_arn": access.state_role_arn, "session_name": "fleet-terraform"}
        assert (backend["encrypt"], backend["kms_key_id"]) == (True, access.state_key_arn)
        assert "external_id" not in json.dumps(document)


def test_an_unknown_account_is_looked_up(synthesis_of: Callable[..., Any]) -> None:
    """Then ARNs hold Terraform's expression, and bucket names no account."""
    found = synthesis_of(account_id=None, facilities=("sg-01",))
    plant, platform = found.facility("sg-01"), found.platform
    looked_up = "${data.aws_caller_identity.current.account_id}"
    assert "current" in plant.document["data"]["aws_caller_identity"]
    rule = plant.one("aws_iot_topic_rule", "rule_telemetry_sg_01")
    assert rule["kinesis"][0]["role_arn"] == f"arn:aws:iam::{looked_up}:role/role-topic-rule-mfg-ap-southeast-1-tst"
    assert f":{looked_up}:client/$${{iot:Connection" in plant.one("aws_iot_policy", "policy-sg-01-conveyor")["policy"]
    assert platform.one("aws_s3_bucket", "bucket-raw-archive")["bucket"] == "bucket-mfg-raw-archive-tst"
    assert "allowed_account_ids" not in platform.document["provider"]["aws"][0]


def test_the_platform_alone_is_the_same_as_in_the_whole(stacks: Any, synthesis_of: Callable[..., Any]) -> None:
    """Without any plant, platform and endpoint are as they are with all of them, to the byte."""
    alone = synthesis_of(facilities=())
    assert sorted(alone.documents) == ["endpoint-tst", "tap-tst"]
    for name in alone.documents:
        path = Path("stacks") / name / "cdk.tf.json"
        assert (alone.outdir / path).read_bytes() == (stacks.outdir / path).read_bytes()


def _recorded(name: str, addresses: list[str]) -> list[str]:
    """The addresses in a golden file; `UPDATE_GOLDEN=1` writes it anew: read the difference before committing."""
    file = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text("".join(f"{address}\n" for address in addresses))
    return file.read_text().split()


def test_the_platforms_addresses_are_the_recorded_ones(stacks: Any) -> None:
    """Another address destroys and re-creates: whoever means it changes platform_addresses.txt in the same commit."""
    assert stacks.platform.addresses == _recorded("platform_addresses.txt", stacks.platform.addresses)
    assert stacks["endpoint-tst"].addresses == ["aws_iot_domain_configuration.endpoint-devices"]


def test_a_plants_addresses_are_the_recorded_ones(stacks: Any) -> None:
    """The same for a plant, in facility_addresses.txt; things, of which all have a certificate, by their group."""
    found = sorted({NUMBER.sub("-*", address) for address in stacks.facility("sg-01").addresses})
    assert found == _recorded("facility_addresses.txt", found)


@pytest.mark.parametrize("id_", sorted(RECORD.facilities))
def test_a_things_addresses_are_its_name(stacks: Any, id_: str) -> None:
    """Thing and membership of every declared name, and no others: no index that another count would shift."""
    rows = (RECORD.folder / RECORD.facilities[id_].module / "things.jsonl").read_text()
    names = {json.loads(row)["name"] for row in rows.splitlines()}
    for kind in ("aws_iot_thing", "aws_iot_thing_group_membership"):
        assert set(stacks.facility(id_).of(kind)) == names


def test_a_moved_construct_has_another_address(
    synthesis_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded addresses catch a construct that goes below another, which CDKTF itself says nothing of."""
    from fleet_iot.lib import tap_stack
    from fleet_iot.lib.bindings import Construct
    from fleet_iot.lib.constructs.telemetry_stream import TelemetryStream

    monkeypatch.setattr(
        tap_stack, "TelemetryStream", lambda scope, **given: TelemetryStream(Construct(scope, "telemetry"), **given)
    )
    moved = synthesis_of(facilities=()).platform.addresses
    recorded = (FOLDER / "platform_addresses.txt").read_text().split()
    assert len(recorded) == len(moved)
    assert "aws_kinesis_stream.stream-telemetry" in set(recorded) - set(moved)


def test_thing_types_are_the_platforms(stacks: Any) -> None:
    """One for each device type of the manifest, with its description."""
    types = stacks.platform.of("aws_iot_thing_type")
    assert {kind["name"]: kind["properties"] for kind in types.values()} == {
        f"{device_type.thing_type}-tst": {"description": device_type.description} for device_type in FLEET.device_types
    }


def test_devices_speak_tls_1_2_or_later(stacks: Any) -> None:
    """The endpoint's security policy takes nothing older."""
    configuration = stacks["endpoint-tst"].one("aws_iot_domain_configuration", "endpoint-devices")
    assert configuration == {
        "name": "endpoint-devices-tst",
        "service_type": "DATA",
        "tls_config": {"security_policy": "IoTSecurityPolicy_TLS13_1_2_2022_10"},
    }


def test_everything_can_be_destroyed(stacks: Any) -> None:
    """No resource refuses its destruction, and every bucket gives up its contents."""
    for name in NAMES:
        for kind, bodies in stacks[name].document["resource"].items():
            for body in bodies.values():
                assert "prevent_destroy" not in json.dumps(body)
                assert body.get("deletion_protection_enabled", False) is False
                assert kind != "aws_s3_bucket" or body["force_destroy"] is True


@pytest.mark.parametrize(
    ("plants", "counted", "command"),
    [
        (("sg-01", "my-jb-01"), "my-jb-01: 53 of 56 things have no CSR yet", "--facility my-jb-01"),
        (
            ("my-jb-01", "th-ry-01"),
            "my-jb-01: 53 of 56 things have no CSR yet; th-ry-01: 68 of 68 things have no CSR yet",
            "--all",
        ),
    ],
    ids=["one plant", "two plants"],
)
def test_missing_csrs_can_be_an_error(
    synthesis_of: Callable[..., Any], plants: tuple[str, ...], counted: str, command: str
) -> None:
    """FLEET_REQUIRE_CSRS counts those of every plant that lacks some, and names the command that makes them."""
    with pytest.raises(PrerequisiteError) as caught:
        synthesis_of(requires_csrs=True, facilities=plants)
    assert caught.value.message == f"{counted}, and FLEET_REQUIRE_CSRS asks for all."
    assert caught.value.remedy.startswith(f"Run `fleet keys create {command}`")


def test_a_plant_in_bulk_has_no_lock(tmp_path: Path, settings_with: Callable[..., Any]) -> None:
    """A stack without the things that Terraform has registered would delete them."""
    from fleet_iot.lib.synthesis import run as synthesis

    lock = tmp_path / "tst" / "sg-01.lock.jsonl"
    lock.parent.mkdir()
    lock.touch()
    chosen = settings_with(outdir=tmp_path / "out", identities=tmp_path, facilities=("sg-01",))
    bulk = {"sg-01": dataclasses.replace(RECORD.facilities["sg-01"], registration="bulk")}
    with pytest.raises(PrerequisiteError, match="which is in bulk now") as caught:
        synthesis.synthesise(chosen, fleet=FLEET, facilities=bulk, folder=RECORD.folder)
    assert "fleet device adopt --facility sg-01" in caught.value.remedy
    assert not chosen.outdir.exists()


def test_the_processors_settings_come_from_the_manifest(
    tmp_path: Path, settings_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function has the reserved concurrency that the manifest sets, and its batches the window."""
    from fleet_iot.lib.synthesis import run as synthesis

    chosen = settings_with(outdir=tmp_path / "out", identities=tmp_path, facilities=("sg-01",))
    fleet = dataclasses.replace(FLEET, reserved_concurrency=5, window_s=30)
    synthesis.synthesise(chosen, fleet=fleet, facilities=RECORD.facilities, folder=RECORD.folder)
    document = json.loads((tmp_path / "out" / "stacks" / "tap-tst" / "cdk.tf.json").read_text())
    function = document["resource"]["aws_lambda_function"]["function-sensor-processor"]
    assert function["reserved_concurrent_executions"] == 5
    (mapping,) = document["resource"]["aws_lambda_event_source_mapping"].values()
    assert mapping["maximum_batching_window_in_seconds"] == 30
