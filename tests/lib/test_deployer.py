"""The deployer's policies cover every synthesis, and no more than what is in it."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.lib.names import PlatformNames
from fleet_iot.lib.shared.context import Access
from fleet_iot.operations.assurance.compliance.scanners import require_scanners, scan_roles
from fleet_iot.operations.assurance.deployer import (
    CALLER,
    DEPLOYER,
    POLICIES_OF_A_ROLE,
    POLICY_CHARACTERS,
    STATE,
    Policy,
    Scope,
    StateStore,
    deployer_policies,
    read_resources,
)
from tests.lib.conftest import ACCOUNT_ID, FLEET, SUFFIX
from tests.places import PROJECT

pytestmark = pytest.mark.cdktf

NAMES = PlatformNames(
    application=FLEET.application,
    suffix=SUFFIX,
    region=FLEET.region,
    account_id=ACCOUNT_ID,
    bucket_account_id=ACCOUNT_ID,
)
STORE = StateStore(
    bucket="company-states",
    prefix=f"{FLEET.application}/{SUFFIX}",
    region="eu-west-1",
    key_arn="arn:aws:kms:eu-west-1:210987654321:key/1234abcd-12ab-34cd-56ef-1234567890ab",
)
ROLE, STATE_ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/deploy-fleet", "arn:aws:iam::210987654321:role/fleet-states"


def policies(stacks: Any, scope: Scope | None = None, *, only: str = "*") -> tuple[Policy, ...]:
    folders = [each for each in sorted((stacks.outdir / "stacks").iterdir()) if fnmatch.fnmatch(each.name, only)]
    return deployer_policies(read_resources(folders), scope or Scope(names=NAMES))


def granted(found: tuple[Policy, ...], of: str = DEPLOYER) -> dict[str, set[str]]:
    """Action → the resources that any statement allows it on."""
    actions: dict[str, set[str]] = {}
    for statement in (each for policy in found if policy.of == of for each in policy.statements):
        for action in statement.actions:
            actions.setdefault(action, set()).update(statement.resources)
    return actions


@pytest.mark.parametrize("choice", ["stacks", "records"])
def test_every_type_of_every_synthesis_has_its_permissions(choice: str, request: pytest.FixtureRequest) -> None:
    """Each document is one that IAM accepts: small enough, few enough for a role, each id once."""
    found = policies(request.getfixturevalue(choice))
    assert len(found) < POLICIES_OF_A_ROLE
    for policy in found:
        document = json.loads(policy.text)
        assert (True, "2012-10-17") == (policy.size <= POLICY_CHARACTERS, document["Version"])
        sids = [each["Sid"] for each in document["Statement"]]
        assert len(sids) == len(set(sids)) and all(sid.isalnum() for sid in sids)


def test_no_action_has_a_wildcard_and_none_names_everything_without_need(stacks: Any) -> None:
    """Actions on `*` are those that AWS authorises without a resource; all but IAM's name the region."""
    for statement in (each for policy in policies(stacks) for each in policy.statements):
        assert not any("*" in action for action in statement.actions)
        if "*" in statement.resources:
            assert ("*",) == statement.resources
            assert statement.conditions, statement.sid


def test_the_scanner_finds_every_action_and_its_resource(stacks: Any, records: Any) -> None:
    """Every action exists, and supports a resource of its statement; KMS's two kinds are allowed one by one."""
    texts = {each.name: each.text for each in policies(stacks)}
    texts |= {f"{each.name}-records": each.text for each in policies(records)}
    scan = scan_roles(require_scanners(PROJECT), texts)
    assert len(texts) == scan.resources
    found = {each.check.partition(" ")[0] for each in scan.findings}
    # It manages permissions, since it makes roles; aliases: see below; alarms: AWS requires `*` to read them.
    expected = {"RESOURCE_POLICY_PRIVILEGE_ESCALATION", "PERMISSIONS_MANAGEMENT_ACTIONS", "PRIVILEGE_ESCALATION"}
    assert found <= expected | {"RESOURCE_MISMATCH", "RESOURCE_STAR", "role-policy"}
    mismatched = {each.check for each in scan.findings if each.check.startswith("RESOURCE_MISMATCH")}
    assert mismatched <= {"RESOURCE_MISMATCH kms:CreateAlias kms:DeleteAlias kms:UpdateAlias"}
    assert {"alias/key-*", "key/*"} == {
        each.rpartition(":")[2].removesuffix(f"-{SUFFIX}") for each in granted(policies(stacks))["kms:CreateAlias"]
    }


def test_records_may_not_be_deleted(stacks: Any, records: Any) -> None:
    """With `retention: records` no bucket is emptied, and so no policy allows it; otherwise the buckets' objects."""
    archive = f"arn:aws:s3:::{NAMES.raw_archive}/*"
    assert archive in granted(policies(stacks))["s3:DeleteObjectVersion"]
    kept = granted(policies(records, only="tap-*"))
    assert [] == [action for action in kept if action.startswith("s3:DeleteObject")]
    assert [] == [action for action in granted(policies(stacks)) if "Bypass" in action or action.endswith("Retention")]


def test_a_plants_deployer_reaches_only_that_plant(stacks: Any) -> None:
    """Only its stack: no ARN fits another plant's thing, group, policy, rule or object, nor the platform."""
    found = policies(stacks, Scope(names=NAMES, plants=("sg-01",)), only="facility-sg-01-*")
    allowed = {arn for arns in granted(found).values() for arn in arns} - {"*"}
    iot = f"arn:aws:iot:{FLEET.region}:{ACCOUNT_ID}"
    own = {
        f"{iot}:thing/sg-01-press-monitor-0001-{SUFFIX}": True,
        f"{iot}:thinggroup/thing-group-sg-01-{SUFFIX}": True,
        f"{iot}:thing/th-ry-01-boiler-0001-{SUFFIX}": False,
        f"{iot}:thinggroup/thing-group-sg-012-{SUFFIX}": False,
        f"{iot}:policy/policy-th-ry-01-boiler-{SUFFIX}": False,
        f"{iot}:rule/rule_telemetry_th_ry_01_{SUFFIX}": False,
        f"{iot}:rule/rule_events_presence_{SUFFIX}": False,
        f"arn:aws:cloudwatch:{FLEET.region}:{ACCOUNT_ID}:alarm:alarm-root-use-{SUFFIX}": False,
        f"arn:aws:s3:::{NAMES.raw_archive}/raw/facility=th-ry-01/x": False,
        f"arn:aws:dynamodb:{FLEET.region}:{ACCOUNT_ID}:table/table-readings-{SUFFIX}": False,
    }
    assert own == {arn: any(fnmatch.fnmatchcase(arn, pattern) for pattern in allowed) for arn in own}
    assert "iam:CreateRole" not in granted(found)


def test_roles_are_passed_to_the_service_that_works_under_them(stacks: Any) -> None:
    """Each role of the stacks to the one service of its trust, and no other role."""
    passed = {
        str(each.conditions["StringEquals"]["iam:PassedToService"]): {arn.rpartition("/")[2] for arn in each.resources}
        for policy in policies(stacks)
        for each in policy.statements
        if each.actions == ("iam:PassRole",)
    }
    trusted: dict[str, set[str]] = {}
    for body in stacks.platform.of("aws_iam_role").values():
        service = json.loads(body["assume_role_policy"])["Statement"][0]["Principal"]["Service"]
        trusted.setdefault(service, set()).add(body["name"])
    # Operations pass the role of bulk registration when they start a task; the stacks do not.
    trusted["iot.amazonaws.com"] -= {NAMES.account_wide("role-bulk-registration")}
    assert trusted == passed


def test_state_and_roles_have_policies_of_their_own(stacks: Any) -> None:
    """With a role for the provider and one for the state, the caller may only assume the two."""
    scope = Scope(names=NAMES, state=STORE, access=Access(role_arn=ROLE, state_role_arn=STATE_ROLE))
    found = policies(stacks, scope)
    assert {"sts:AssumeRole": {ROLE, STATE_ROLE}} == granted(found, CALLER)
    state = granted(found, STATE)
    assert {f"arn:aws:s3:::company-states/{FLEET.application}/{SUFFIX}/*"} == state["s3:PutObject"]
    assert {STORE.key_arn} == state["kms:GenerateDataKey"]
    # Without a role for the state, it is reached with the credentials at hand.
    at_hand = policies(stacks, Scope(names=NAMES, state=STORE, access=Access(role_arn=ROLE)))
    assert {"sts:AssumeRole", "s3:PutObject"} <= granted(at_hand, CALLER).keys()
    assert {DEPLOYER} == {each.of for each in policies(stacks, Scope(names=NAMES, state=STORE))}


def _unknown(resources: list[Any]) -> list[Any]:
    return [*resources, ("aws_instance", "x", {})]


def _misnamed(resources: list[Any]) -> list[Any]:
    return [*resources, ("aws_sqs_queue", "x", {"name": "queue-of-others"})]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_unknown, "aws_instance.x: no permissions are known for this type"),
        (_misnamed, "aws_sqs_queue.x: the name queue-of-others is outside the names that the deployer's policy covers"),
    ],
)
def test_what_no_policy_would_cover_is_refused(change: Callable[..., Any], said: str) -> None:
    """A type without permissions, or a name outside of them, is a fault of the gate, never a gap in the policy."""
    with pytest.raises(GateError, match=said):
        deployer_policies(change([]), Scope(names=NAMES))


def test_many_plants_split_into_policies_that_fit(stacks: Any) -> None:
    """A hundred plants by name need several documents, each within the limit."""
    plants = tuple(f"plant-{n:03}" for n in range(100))
    found = policies(stacks, Scope(names=dataclasses.replace(NAMES), plants=plants), only="nothing")
    assert () == tuple(each for each in found if each.statements)
    resources = [("aws_iot_policy", "p", {"name": f"policy-plant-001-press-{SUFFIX}"})]
    split = deployer_policies(resources, Scope(names=NAMES, plants=plants))
    assert len(split) > 1 and all(each.size <= POLICY_CHARACTERS for each in split)
    assert 100 == len({arn for each in split for statement in each.statements for arn in statement.resources})


def test_a_document_is_read_as_json(stacks: Any, tmp_path: Path) -> None:
    """As `aws iam create-policy --policy-document file://…` reads it."""
    for policy in policies(stacks):
        (tmp_path / "p.json").write_text(policy.text)
        statements = json.loads((tmp_path / "p.json").read_text())["Statement"]
        assert all({"Sid", "Effect", "Action", "Resource"} <= each.keys() for each in statements)
