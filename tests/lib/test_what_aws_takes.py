"""The stacks' other choices, planned by the real Terraform: AWS takes every attribute of them too.

`make compliance` plans the project's fleet on every run; these stacks are those that the sample has not.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from fleet_iot.lib.record.read import read_record
from fleet_iot.lib.specs import AuditSpec
from fleet_iot.lib.synthesis import settings
from fleet_iot.operations.assurance.compliance.checks import CHECKS, checks_in, service_rules
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from fleet_iot.operations.assurance.compliance.planning import plan_stacks
from fleet_iot.operations.assurance.compliance.requests import figures, judge_resource
from tests.operations.assurance.compliance.mutations import break_constraints
from tests.operations.assurance.compliance.mutations.edits import any_statement, edited, in_statement, put
from tests.operations.assurance.compliance.mutations.on_api import MUTATIONS
from tests.places import SAMPLE

pytestmark = [pytest.mark.cdktf, pytest.mark.slow]

ACCOUNT_ID = "123456789012"
RECORD = read_record(SAMPLE)
API_CHECKS = tuple(check for check in CHECKS if check.id == "api-takes-it")


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> PlannedInfrastructure:
    """Platform with the manifest's other choices, devices' endpoint, and a plant registered in bulk."""
    from fleet_iot.lib.synthesis import run as synthesis

    outdir = tmp_path_factory.mktemp("variants") / "cdktf.out"
    observability = dataclasses.replace(
        RECORD.fleet.observability, iot_logging="WARN", registry_events=False, certificate_audit=True
    )
    synthesis.synthesise(
        settings.read_settings(
            {
                "ENVIRONMENT_SUFFIX": "tst",
                "FLEET_ACCOUNT_ID": ACCOUNT_ID,
                "FLEET_OUTDIR": str(outdir),
                "FLEET_FACILITIES": "sg-01",
                "FLEET_IDENTITIES": str(outdir.parent / "identities"),
            },
            fleet=RECORD.fleet,
            facilities=RECORD.facilities.keys(),
            project=SAMPLE,
        ),
        fleet=dataclasses.replace(
            RECORD.fleet,
            retention="records",
            audit=AuditSpec(data_events="without-telemetry"),
            observability=observability,
        ),
        facilities={"sg-01": dataclasses.replace(RECORD.facilities["sg-01"], registration="bulk")},
        folder=RECORD.folder,
    )
    return plan_stacks(
        sorted((outdir / "stacks").iterdir()),
        environment_suffix="tst",
        retention="records",
        data_events="without-telemetry",
        region=RECORD.fleet.region,
        account_id=ACCOUNT_ID,
        logs=outdir.parent / "logs",
    )


def test_every_attribute_of_the_variants_is_mapped_and_taken(planned: PlannedInfrastructure) -> None:
    """No type and no attribute is without its call, no value is refused, no rule is broken."""
    types = {resource.type for resource in planned.resources}
    variants = {"aws_s3_bucket_object_lock_configuration", "aws_iot_logging_options", "aws_cloudcontrolapi_resource"}
    assert variants <= types
    assert "aws_iot_thing" not in types
    checks = (*API_CHECKS, *checks_in(service_rules))
    assert [] == [each for check in checks for each in check.run(planned) if not each.has_passed]
    assert figures(planned)["attributes"] > 900


def _unrecorded(planned: PlannedInfrastructure) -> list[tuple[str, str]]:
    (check,) = (each for each in CHECKS if each.id == "trail-data-events")
    return [(each.resource, each.problem) for each in check.run(planned) if not each.has_passed]


def test_without_telemetry_nothing_else_is_left_out(planned: PlannedInfrastructure) -> None:
    """Calls by people, by other roles, reads and deletions are recorded; what is left out fails where all is asked."""
    assert [] == _unrecorded(planned)
    assert {
        ("aws_dynamodb_table.table-devices", "BatchWriteItem by role-sensor-processor"),
        ("aws_dynamodb_table.table-lanes", "BatchWriteItem by role-sensor-processor"),
        ("aws_dynamodb_table.table-readings", "BatchWriteItem by role-sensor-processor"),
        ("aws_kinesis_stream.stream-telemetry", "PutRecord by role-topic-rule"),
        ("aws_s3_bucket.bucket-lanes", "PutObject by role-sensor-processor"),
        ("aws_s3_bucket.bucket-raw-archive", "PutObject by role-sensor-processor"),
    } == {
        (resource, problem.removeprefix("unrecorded: ").partition("-mfg-")[0])
        for resource, problem in _unrecorded(dataclasses.replace(planned, data_events="all"))
    }


@pytest.mark.parametrize(
    ("selector", "values", "value", "call"),
    [
        ("Table items: all but writes", "not_equals", "DeleteItem", "DeleteItem by role-sensor-processor"),
        ("Table items: all but writes", "not_equals", "Query", "Query by role-sensor-processor"),
        ("Table items: any call by others", "not_starts_with", "arn:aws:sts::", "BatchWriteItem by a-person"),
        ("Stream records: any call by others", "not_starts_with", "arn:aws:sts::", "PutRecord by a-person"),
    ],
)
def test_a_wider_gap_is_found(
    planned: PlannedInfrastructure, selector: str, values: str, value: str, call: str
) -> None:
    """One more call or caller that a selector leaves out fails the check."""

    def widen(body: dict[str, Any]) -> None:
        (fields,) = (each for each in body["advanced_event_selector"] if each["name"] == selector)
        next(each for each in fields["field_selector"] if each.get(values))[values].append(value)

    found = _unrecorded(edited("aws_cloudtrail", widen, id_="trail-data-events")(planned))
    assert any(call in problem for _, problem in found), found


def test_every_attribute_matters(planned: PlannedInfrastructure) -> None:
    """Beside any attribute, at any depth, one more that no call is known for fails, in every resource type."""
    seen: set[str] = set()
    for resource in planned.resources:
        if resource.type in seen:
            continue
        seen.add(resource.type)
        for body, path in _with_one_more(resource.body):
            problems = judge_resource(dataclasses.replace(resource, body=body), planned=planned).problems
            assert any(name.endswith("unheard_of") and "is in no AWS call" in said for name, said in problems), path
    assert len(seen) > 30


def _with_one_more(body: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """The body with an attribute more, at the top and in each nested block."""
    found = []

    def walk(value: Any, path: str, root: dict[str, Any]) -> None:
        if isinstance(value, dict):
            value["unheard_of"] = "x"
            found.append((copy.deepcopy(root), path))
            del value["unheard_of"]
            for key, each in value.items():
                if isinstance(each, list):
                    walk(each, f"{path}.{key}", root)
        elif isinstance(value, list):
            for each in value:
                walk(each, f"{path}[]", root)

    whole = {key: value for key, value in copy.deepcopy(body).items() if key not in ("lifecycle", "override_provider")}
    walk(whole, "", whole)
    return found


def test_each_constraint_and_rule_is_broken_and_caught(planned: PlannedInfrastructure) -> None:
    """On what Terraform planned: several hundred mutations derived from the models, and those written by hand."""
    trials = list(break_constraints(planned))
    assert len(trials) > 400
    assert [] == [trial.mutation for trial in trials if not trial.is_caught]
    checks = {check.id: check for check in (*API_CHECKS, *checks_in(service_rules))}
    of_things = {"attributes-fit"}
    for mutation in MUTATIONS:
        if mutation.check not in of_things:
            broken = mutation.apply(planned)
            assert any(not each.has_passed for each in checks[mutation.check].run(broken)), mutation.name


def test_faults_that_no_plan_shows_are_found_when_put_back(planned: PlannedInfrastructure) -> None:
    """Those that kept these stacks from being applied to an account: CreateTrail, CreateRole and the two of AWS IoT.

    A source in the trust of the trail's role, tag keys that differ only in case, and a plant's name in its own script
    as a description.
    """
    source = {"StringEquals": {"aws:SourceAccount": ACCOUNT_ID}, "ArnLike": {"aws:SourceArn": "arn:aws:cloudtrail:*"}}
    put_back = {
        "trust-bound": in_statement(
            "aws_iam_role", put("Condition", source), where=any_statement, id_="role-trail-logs"
        ),
        "tag-keys-apart": edited("aws_iam_role", put("tags_all.Environment", "prod")),
        "api-takes-it": edited("aws_iot_thing_group", put("properties.0.description", "Werk Köln")),
    }
    checks = {check.id: check for check in CHECKS}
    for check, apply in put_back.items():
        assert [] == [each for each in checks[check].run(planned) if not each.has_passed]
        assert [] != [each for each in checks[check].run(apply(planned)) if not each.has_passed], check
    types = edited("aws_iot_thing_type", put("properties.0.description", "プレス"))(planned)
    (found,) = (each for each in checks["api-takes-it"].run(types) if not each.has_passed)
    assert "properties[0].description" == found.attribute
    assert "iot.CreateThingType:thingTypeProperties.thingTypeDescription" in found.problem
