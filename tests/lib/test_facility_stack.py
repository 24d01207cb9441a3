"""A plant's stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.lib.record.read import read_record
from fleet_iot.lib.specs import FacilitySpec, suffixed
from tests.places import SAMPLE

pytestmark = pytest.mark.cdktf
PLANTS = tuple(read_record(SAMPLE).facilities.values())
ACCOUNT = "123456789012"


def _folder(facility: FacilitySpec) -> Path:
    return SAMPLE / "lib" / "facilities" / facility.module


def _as_terraform_reads(text: str) -> str:
    return text.replace("$${", "${")


@pytest.fixture(params=PLANTS, ids=lambda facility: facility.id)
def plant(request: pytest.FixtureRequest) -> FacilitySpec:
    """Each generated plant in turn."""
    return request.param


def test_groups_and_their_parent_carry_properties(stacks: Any, plant: FacilitySpec) -> None:
    """A group for each device type below the plant's, each with a description and attributes."""
    groups = stacks.facility(plant.id).of("aws_iot_thing_group")
    parent = f"${{aws_iot_thing_group.{plant.thing_group}.name}}"
    assert {group["name"]: group.get("parent_group_name") for group in groups.values()} == {
        f"{plant.thing_group}-tst": None,
        **{f"{group.thing_group}-tst": parent for group in plant.groups},
    }
    for group in groups.values():
        assert group["properties"]["attribute_payload"]["attributes"]["facility"] == plant.id
        assert plant.name in group["properties"]["description"]


def test_device_policies_are_the_generated_ones(stacks: Any, plant: FacilitySpec) -> None:
    """AWS gets the approved document, its own variables untouched, with account and environment filled in."""
    policies = stacks.facility(plant.id).of("aws_iot_policy")
    for group in plant.groups:
        generated = json.loads((_folder(plant) / group.policy_file).read_text())
        synthesised = _as_terraform_reads(policies[group.policy]["policy"])
        rule = f"{plant.topic_rule}_tst"
        assert (
            json.loads(
                synthesised.replace(ACCOUNT, "ACCOUNT_ID").replace(rule, f"{plant.topic_rule}_ENVIRONMENT_SUFFIX")
            )
            == generated
        )
        assert "${iot:Connection.Thing.ThingName}" in synthesised
        assert policies[group.policy]["name"] == f"{group.policy}-tst"


def test_the_rule_runs_the_generated_statement_for_this_environment(stacks: Any, plant: FacilitySpec) -> None:
    """The approved SQL and a WHERE on the environment's suffix."""
    rule = stacks.facility(plant.id).one("aws_iot_topic_rule", plant.topic_rule)
    generated = " ".join((_folder(plant) / plant.topic_rule_file).read_text().split())
    assert rule["sql"] == f"{generated} WHERE regexp_matches(clientid(), '-tst$')"
    assert f"FROM 'dt/mfg/{plant.id}/+/+/telemetry'" in rule["sql"]
    assert (rule["name"], rule["sql_version"], rule["enabled"]) == (f"{plant.topic_rule}_tst", "2016-03-23", True)


def test_the_rule_puts_into_the_stream_and_stores_what_fails(stacks: Any, plant: FacilitySpec) -> None:
    """Kinesis by client id, S3 by error key, each with a role of its own."""
    rule = stacks.facility(plant.id).one("aws_iot_topic_rule", plant.topic_rule)
    assert rule["kinesis"] == [
        {
            "stream_name": "stream-telemetry-tst",
            "partition_key": "$${clientid()}",
            "role_arn": f"arn:aws:iam::{ACCOUNT}:role/role-topic-rule-mfg-ap-southeast-1-tst",
        }
    ]
    assert rule["error_action"]["s3"] == {
        "bucket_name": f"bucket-mfg-raw-archive-{ACCOUNT}-tst",
        "key": f"iot-rule-errors/facility={plant.id}/$${{timestamp()}}-$${{newuuid()}}.json",
        "role_arn": f"arn:aws:iam::{ACCOUNT}:role/role-rule-errors-mfg-ap-southeast-1-tst",
    }


def test_what_the_plant_refers_to_by_name_is_in_the_platform(stacks: Any, plant: FacilitySpec) -> None:
    """Stream, bucket, roles and thing types have the same names on both sides."""
    platform, stack = stacks.platform, stacks.facility(plant.id)
    rule = stack.one("aws_iot_topic_rule", plant.topic_rule)
    template = stack.one("aws_iot_provisioning_template", plant.provisioning_template)
    roles = {f"arn:aws:iam::{ACCOUNT}:role/{role['name']}" for role in platform.of("aws_iam_role").values()}
    assert {rule["kinesis"][0]["role_arn"], rule["error_action"]["s3"]["role_arn"]} <= roles
    assert template["provisioning_role_arn"] in roles
    assert rule["kinesis"][0]["stream_name"] in {s["name"] for s in platform.of("aws_kinesis_stream").values()}
    assert rule["error_action"]["s3"]["bucket_name"] in {b["bucket"] for b in platform.of("aws_s3_bucket").values()}
    types = {kind["name"] for kind in platform.of("aws_iot_thing_type").values()}
    assert {thing["thing_type_name"] for thing in stack.of("aws_iot_thing").values()} <= types


def test_template_and_dashboard_are_the_generated_ones(stacks: Any, plant: FacilitySpec) -> None:
    """Both are JSON, named after the plant, and hold no token any more; nobody can register by the template."""
    stack = stacks.facility(plant.id)
    template = stack.one("aws_iot_provisioning_template", plant.provisioning_template)
    dashboard = stack.one("aws_cloudwatch_dashboard", plant.dashboard)
    assert (template["name"], template["enabled"]) == (f"{plant.provisioning_template}-tst", False)
    assert dashboard["dashboard_name"] == f"{plant.dashboard}-mfg-ap-southeast-1-tst"
    for body in (template["template_body"], dashboard["dashboard_body"]):
        text = _as_terraform_reads(body)
        assert isinstance(json.loads(text), dict)
        assert ("ENVIRONMENT_SUFFIX" in text, "ACCOUNT_ID" in text) == (False, False)


def test_every_device_type_has_its_prefix_and_the_plant_its_tiering(stacks: Any, plant: FacilitySpec) -> None:
    """Marker objects show the archive's layout; Intelligent-Tiering is bound to the plant's prefix."""
    stack = stacks.facility(plant.id)
    assert sorted(marker["key"] for marker in stack.of("aws_s3_object").values()) == sorted(
        f"archive/facility={plant.id}/device_type={group.device_type}/" for group in plant.groups
    )
    tiering = stack.one("aws_s3_bucket_intelligent_tiering_configuration", f"tiering-{plant.id}")
    assert tiering["filter"] == {"prefix": f"archive/facility={plant.id}/"}
    assert [(tier["access_tier"], tier["days"]) for tier in tiering["tiering"]] == [
        ("ARCHIVE_ACCESS", 90),
        ("DEEP_ARCHIVE_ACCESS", 180),
    ]


def test_every_declared_thing_is_in_the_stack(stacks: Any, plant: FacilitySpec) -> None:
    """Name, type and attributes of each line, with the environment's suffix."""
    declared = [json.loads(line) for line in (_folder(plant) / plant.things_file).read_text().splitlines()]
    assert list(stacks.facility(plant.id).of("aws_iot_thing").values()) == [
        {
            "name": suffixed(thing["name"], "tst"),
            "thing_type_name": f"{thing['thing_type']}-tst",
            "attributes": thing["attributes"],
        }
        for thing in sorted(declared, key=lambda thing: thing["name"])
    ]


def test_every_reference_between_things_resolves(stacks: Any, plant: FacilitySpec) -> None:
    """Attachments and memberships name things, certificates, policies and groups that the stack holds."""
    stack = stacks.facility(plant.id)
    known = set(stack.addresses)
    for kind in ("thing_group_membership", "policy_attachment", "thing_principal_attachment"):
        for body in stack.of(f"aws_iot_{kind}").values():
            for reference in body.values():
                assert reference.removeprefix("${").rpartition(".")[0] in known


def test_certificates_come_from_csrs_alone(stacks: Any, identities: Path) -> None:
    """As many as there are CSRs, each active and with its thing's own CSR; none where there are none."""
    certificates = {plant.id: stacks.facility(plant.id).of("aws_iot_certificate") for plant in PLANTS}
    assert {id_: len(found) for id_, found in certificates.items()} == {"sg-01": 70, "my-jb-01": 3, "th-ry-01": 0}
    lines = (identities / "tst" / "sg-01.csrs.jsonl").read_text().splitlines()
    csrs = {entry["thing"]: entry["csr"] for entry in map(json.loads, lines)}
    assert {f"{id_}-tst": body for id_, body in certificates["sg-01"].items()} == {
        thing: {"active": True, "csr": csr} for thing, csr in csrs.items()
    }


def test_things_without_csr_are_said_one_line_a_plant(stacks: Any) -> None:
    """The note counts them and names the command that makes them; notes of the lock of keys follow."""
    assert stacks.notes[:2] == (
        "note: my-jb-01: 53 of 56 things have no CSR yet: they are registered without certificate "
        "(`fleet keys create --facility my-jb-01`).",
        "note: th-ry-01: 68 of 68 things have no CSR yet: they are registered without certificate "
        "(`fleet keys create --facility th-ry-01`).",
    )


def test_markers_carry_no_tags_whatever_the_fleet_has(stacks: Any, plant: FacilitySpec) -> None:
    """S3 takes ten tags an object, where everything else takes fifty."""
    for marker in stacks.facility(plant.id).of("aws_s3_object").values():
        assert "tags" not in marker
        assert marker["override_provider"] == {"default_tags": {"tags": {}}}
