"""Preflight's findings on accounts in many states, with botocore's own clients and stubbed or simulated answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.stub import Stubber
from click.testing import CliRunner
from moto import mock_aws

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.names import PlatformNames
from fleet_iot.operations import aws as aws_module
from fleet_iot.operations.assurance import preflight as module
from fleet_iot.operations.assurance.deployer import DEPLOYER, Policy, Scope, Statement, StateStore, deployer_policies
from fleet_iot.operations.assurance.preflight import (
    ERROR,
    OK,
    WARNING,
    Caller,
    Deployment,
    Finding,
    LiveQuotas,
    check_account,
    check_buckets,
    check_caller,
    check_machine,
    check_permissions,
    check_quotas,
    check_region,
    check_state,
    check_trails,
    load_of,
    preflight,
    read_caller,
    summary,
)
from fleet_iot.operations.aws import Aws
from fleet_iot.operations.deployment.state_bucket import BLOCKED
from fleet_iot.operations.project import Project, load_project
from tests.places import SAMPLE

ACCOUNT, REGION = "123456789012", "ap-southeast-1"
NAMES = PlatformNames(application="nhamay", suffix="thu", region=REGION, account_id=ACCOUNT, bucket_account_id=ACCOUNT)
TAGS = [{"Key": "application", "Value": "nhamay"}, {"Key": "environment", "Value": "thu"}]
STORE = StateStore(bucket="company-states", prefix="nhamay/thu", region=REGION, key_arn=None)
RESOURCES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("aws_s3_bucket", "raw", {"bucket": NAMES.raw_archive}),
    ("aws_kinesis_stream", "stream", {"name": "stream-telemetry-thu"}),
    ("aws_iot_topic_rule", "rule", {"name": "rule_telemetry_vn_01_thu"}),
    ("aws_cloudtrail", "trail", {"name": NAMES.trail}),
    ("aws_cloudtrail", "data", {"name": NAMES.data_trail}),
    ("aws_iot_event_configurations", "events", {}),
)


def deployment(*more: tuple[str, str, dict[str, Any]], state: StateStore | None = None) -> Deployment:
    resources = (*RESOURCES, *more)
    policies = deployer_policies(resources, Scope(names=NAMES, state=state))
    return Deployment(names=NAMES, resources=resources, policies=policies, state=state)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """An account that moto plays in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield Aws(account=ACCOUNT, region=REGION, session=boto3.session.Session(region_name=REGION))


def stubbed(service: str, *answers: tuple[str, dict[str, Any] | str]) -> Any:
    """A client of botocore's that answers these operations in turn; a text is an error's code."""
    client = boto3.client(service, region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x")
    stubber = Stubber(client)
    for operation, answer in answers:
        if isinstance(answer, str):
            stubber.add_client_error(operation, service_error_code=answer, http_status_code=403)
        else:
            stubber.add_response(operation, answer)
    stubber.activate()
    return client


def aws_of(**clients: Any) -> Aws:
    session = SimpleNamespace(client=lambda service, config=None: clients[service.replace("-", "_")])
    return Aws(account=ACCOUNT, region=REGION, session=session)


def identity(arn: str) -> Any:
    return stubbed("sts", ("get_caller_identity", {"Arn": arn, "Account": ACCOUNT, "UserId": "x"}))


ROLE = {"Path": "/", "RoleId": "AROA2345678901234567", "CreateDate": "2026-11-29T00:00:00Z"}


def test_a_roles_path_is_looked_up() -> None:
    """A session's ARN has no path: the simulation needs the ARN of the role itself, here one of single sign-on."""
    name = "AWSReservedSSO_deploy_0123456789abcdef"
    arn = f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/{name}"
    boundary = {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": f"arn:aws:iam::{ACCOUNT}:policy/edge"}
    role = {**ROLE, "RoleName": name, "Arn": arn, "PermissionsBoundary": boundary}
    found = read_caller(
        aws_of(
            sts=identity(f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/thi"),
            iam=stubbed("iam", ("get_role", {"Role": role})),
        )
    )
    assert ("role", arn, boundary["PermissionsBoundaryArn"]) == (found.kind, found.arn, found.boundary)
    assert [OK, OK] == [each.status for each in check_caller(found)]


@pytest.mark.parametrize(
    ("arn", "answers", "kind", "status"),
    [
        (f"arn:aws:iam::{ACCOUNT}:root", (), "root", WARNING),
        (f"arn:aws:iam::{ACCOUNT}:user/plant/thi", (("get_user", "AccessDenied"),), "user", WARNING),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/thi", (("get_role", "AccessDenied"),), "role", OK),
        (f"arn:aws:sts::{ACCOUNT}:federated-user/thi", (), "federated-user", WARNING),
    ],
)
def test_every_kind_of_caller_is_named(arn: str, answers: Any, kind: str, status: str) -> None:
    """Root, a user, a role that may not look itself up, a federated user: each with its remedy or none."""
    found = read_caller(aws_of(sts=identity(arn), iam=stubbed("iam", *answers)))
    assert (kind, [status]) == (found.kind, [each.status for each in check_caller(found)])


def simulated(*decisions: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    results = [
        {"EvalActionName": action, "EvalDecision": decision, "EvalResourceName": "*", **more}
        for action, decision, more in decisions
    ]
    return {"EvaluationResults": results, "IsTruncated": False}


STATEMENT = Statement(
    sid="Queues", actions=("sqs:CreateQueue", "sqs:TagQueue"), resources=("arn:aws:sqs:x:1:queue-*-thu",)
)
ONE = Policy(name="p", of=DEPLOYER, statements=(STATEMENT,))
CALLER = Caller(session_arn="arn:aws:sts::1:assumed-role/d/x", kind="role", arn=f"arn:aws:iam::{ACCOUNT}:role/d")


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (
            simulated(("sqs:CreateQueue", "allowed", {}), ("sqs:TagQueue", "allowed", {})),
            OK,
            "2 actions: all are allowed",
        ),
        (
            simulated(("sqs:CreateQueue", "implicitDeny", {}), ("sqs:TagQueue", "allowed", {})),
            ERROR,
            "1 of 2 actions are denied: sqs:CreateQueue",
        ),
        (
            simulated(
                (
                    "sqs:CreateQueue",
                    "implicitDeny",
                    {"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False}},
                )
            ),
            ERROR,
            "1 of 2 actions are denied; 1 of them by the permissions boundary: sqs:CreateQueue",
        ),
    ],
)
def test_permissions_are_simulated(answer: dict[str, Any], status: str, said: str) -> None:
    """What IAM denies is named, and whether the boundary is why."""
    client = stubbed("iam", ("simulate_principal_policy", answer))
    chosen = replace(deployment(), policies=(ONE,))
    (found,) = check_permissions(aws_of(iam=client), CALLER, chosen)
    assert (status, said) == (found.status, found.what)


def test_the_simulation_knows_the_conditions_values() -> None:
    """Region, tags and passed service reach IAM as context, else every conditional statement would be denied."""
    statement = replace(
        STATEMENT,
        conditions={"StringEquals": {"kms:ViaService": ["s3.x", "sqs.x"]}, "Null": {"aws:ResourceTag/a": "true"}},
    )
    assert [{"ContextKeyName": "kms:ViaService", "ContextKeyType": "string", "ContextKeyValues": ["s3.x"]}] == (
        module._context(statement)
    )
    assert ["arn:aws:sqs:x:1:queue-preflight-thu"] == module._examples(statement)


def test_a_denied_call_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the missing permission; the other checks run on."""
    client = stubbed("iam", ("simulate_principal_policy", "AccessDenied"))
    chosen = replace(deployment(), policies=(ONE,))
    (found,) = module._guarded("permissions", lambda: check_permissions(aws_of(iam=client), CALLER, chosen))
    assert (WARNING, "not checked: SimulatePrincipalPolicy is denied") == (found.status, found.what)
    unknown = replace(CALLER, arn="")
    (found,) = check_permissions(aws_of(), unknown, chosen)
    assert (WARNING, True) == (found.status, found.what.startswith("not checked"))


def test_no_answer_ends_the_run() -> None:
    """Where AWS does not answer, nothing is judged: exit 7."""

    def unreachable() -> Iterator[Finding]:
        raise EndpointConnectionError(endpoint_url="https://sts")
        yield

    with pytest.raises(EnvironmentFault, match="AWS does not answer"):
        list(module._guarded("caller", unreachable))


def test_bucket_names_are_free_own_or_anothers(account: Aws) -> None:
    """404 is free; ours has our tags and region; 403 is somebody else's."""
    s3 = account.client("s3")

    def status() -> tuple[str, str]:
        (found,) = check_buckets(account, deployment())
        return found.status, found.what.removeprefix(NAMES.raw_archive).strip()

    assert (OK, "is free") == status()
    s3.create_bucket(Bucket=NAMES.raw_archive, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert ERROR == status()[0]
    s3.put_bucket_tagging(Bucket=NAMES.raw_archive, Tagging={"TagSet": TAGS})
    assert (OK, "exists, of this environment") == status()
    s3.delete_bucket(Bucket=NAMES.raw_archive)
    elsewhere = boto3.client("s3", region_name="eu-west-1")
    elsewhere.create_bucket(Bucket=NAMES.raw_archive, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert (ERROR, "exists in eu-west-1") == status()
    (found,) = check_buckets(aws_of(s3=stubbed("s3", ("head_bucket", "403"))), deployment())
    assert (ERROR, True) == (found.status, "belongs to another account" in found.what)


def test_the_state_bucket_is_checked(account: Aws) -> None:
    """None is a warning; a missing, foreign, unversioned or public one an error, as for a deployment."""
    s3 = account.client("s3")

    def status(store: StateStore | None = STORE) -> tuple[str, str]:
        (found,) = check_state(account, deployment(state=store))
        return found.status, found.what

    assert WARNING == status(None)[0]
    assert (ERROR, "the state bucket company-states does not exist") == status()
    s3.create_bucket(Bucket=STORE.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert (ERROR, True) == (status()[0], " lacks versioning " in status()[1])
    s3.put_bucket_versioning(Bucket=STORE.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_public_access_block(Bucket=STORE.bucket, PublicAccessBlockConfiguration=BLOCKED)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=STORE.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert (OK, f"s3://company-states in {REGION}: versioned, encrypted and private") == status()
    assert ERROR == status(replace(STORE, region="eu-west-1"))[0]


def test_account_wide_settings_of_others_are_named(account: Aws) -> None:
    """Events that are on already, a log or an audit that somebody set up: the stacks would replace them."""
    logging = ("aws_iot_logging_options", "log", {"role_arn": "x"})
    audit = ("aws_cloudcontrolapi_resource", "audit", {})
    events = {"THING": {"Enabled": True}, "JOB": {"Enabled": False}}
    answers = [
        ("describe_endpoint", {"endpointAddress": "x-ats.iot.ap-southeast-1.amazonaws.com"}),
        ("describe_event_configurations", {"eventConfigurations": events}),
        ("get_topic_rule", "UnauthorizedException"),
        ("get_v2_logging_options", {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/others", "defaultLogLevel": "INFO"}),
        (
            "describe_account_audit_configuration",
            {"auditCheckConfigurations": {"LOGGING_DISABLED_CHECK": {"enabled": True}}},
        ),
        ("get_indexing_configuration", {"thingIndexingConfiguration": {"thingIndexingMode": "REGISTRY"}}),
    ]
    found = list(check_account(aws_of(iot=stubbed("iot", *answers)), deployment(logging, audit)))
    assert {"events": WARNING, "logging": WARNING, "audit": WARNING, "indexing": OK, "endpoint": OK} == {
        each.check: each.status for each in found
    }
    assert all(each.remedy for each in found if each.status == WARNING)


@pytest.mark.parametrize(("others", "status", "remedy"), [(3, OK, ""), (5, ERROR, "delete 2 of trail-0, ")])
def test_a_sixth_trail_does_not_fit(others: int, status: str, remedy: str) -> None:
    """Trails of other regions that cover this one are among the five; the platform's own are two of them."""
    trails = {"trailList": [{"Name": f"trail-{n}"} for n in range(others)]}
    (found,) = check_trails(aws_of(cloudtrail=stubbed("cloudtrail", ("describe_trails", trails))), deployment())
    assert (status, True) == (found.status, found.remedy.startswith(remedy))
    again = {"trailList": [*trails["trailList"][:3], {"Name": NAMES.trail}]}
    (found,) = check_trails(aws_of(cloudtrail=stubbed("cloudtrail", ("describe_trails", again))), deployment())
    assert OK == found.status


PUBLISHES = "Inbound publish requests per second per account"


def quotas(publishes: float = 1, **values: float) -> Any:
    """A stub of Service Quotas by service code."""
    names = {"kinesis": "On-demand data streams", "iotcore": "Maximum number of rules per AWS account"}
    published = {"QuotaName": PUBLISHES, "Value": publishes}

    class Pages:
        def get_paginator(self, _: str) -> Any:
            return self

        def paginate(self, ServiceCode: str) -> Any:  # noqa: N803 - the API's word
            if ServiceCode not in values:
                error = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
                raise ClientError(error, "ListServiceQuotas")
            listed = {"QuotaName": names[ServiceCode], "Value": values[ServiceCode]}
            return [{"Quotas": [listed, published] if ServiceCode == "iotcore" else [listed]}]

    return Pages()


def test_live_quotas_are_compared(account: Aws) -> None:
    """What is there and what is added against the live quota; AWS's default, and a warning, where it cannot be read."""
    account.client("kinesis").create_stream(StreamName="of-others", StreamModeDetails={"StreamMode": "ON_DEMAND"})
    real = account.session
    session = SimpleNamespace(
        client=lambda service, config=None: (
            quotas(kinesis=1, iotcore=2_000, publishes=0.5) if service == "service-quotas" else real.client(service)
        )
    )
    load = load_of(load_project(SAMPLE))
    assert load is not None
    findings = list(check_quotas(replace(account, session=session), deployment(), load))
    found = {each.what.partition(":")[0]: each for each in findings}
    assert (ERROR, "on-demand streams: 2 of 1") == (found["on-demand streams"].status, found["on-demand streams"].what)
    assert "topic rules: 1 of 2,000" == found["topic rules"].what
    assert "buckets: 1 of 10,000, AWS's default" == found["buckets"].what
    (unread,) = [each for each in found.values() if each.status == WARNING]
    assert "allow servicequotas:ListServiceQuotas" == unread.remedy
    (published,) = [each for each in findings if "published" in each.what]
    assert f"{load.messages:,.0f} messages are published a second" in published.what
    assert (ERROR, True) == (published.status, published.remedy.startswith("have AWS raise it"))
    connected = (
        f"{load.devices} devices are connected at once; AWS IoT's maximum concurrent client connections per account"
    )
    assert OK == found[f"{connected} is 500,000, AWS's default"].status


def test_the_load_of_a_faulty_manifest_is_not_compared(account: Aws, tmp_path: Path) -> None:
    """The record is deployed as it is; what is known of the account is still compared."""
    (tmp_path / "fleet.yaml").write_text("version: 1\n")
    assert load_of(replace(load_project(SAMPLE), root=tmp_path)) is None
    real = account.session
    session = SimpleNamespace(
        client=lambda service, config=None: quotas() if service == "service-quotas" else real.client(service)
    )
    found = list(check_quotas(replace(account, session=session), deployment(), None))
    assert "fleet validate" in [each.remedy for each in found]
    assert "topic rules" in {each.what.partition(":")[0] for each in found}


def test_a_denied_service_is_asked_once() -> None:
    """The services whose quotas cannot be read are listed, each once."""
    live = LiveQuotas(aws_of(service_quotas=quotas()))
    assert (None, None) == (live.value("iot", "x"), live.value("iot", "y"))
    assert {"iotcore"} == live.unread


def test_an_unknown_region_is_found_before_anything_is_asked() -> None:
    """No endpoint resolves there; the remedy lists the regions."""
    project = load_project(SAMPLE)
    elsewhere = replace(project, fleet=replace(project.fleet, region="ap-southeast-99"))

    def never() -> Aws:
        raise AssertionError("no AWS is asked")

    (found,) = [each for each in preflight(elsewhere, aws=never) if each.check == "region"]
    assert (ERROR, True) == (found.status, "eu-central-1" in found.remedy)
    assert [OK] == [each.status for each in check_region(project)]


def test_an_old_terraform_is_an_error(tmp_path: Path) -> None:
    """Before 1.10 no state is locked in S3; a missing one is named with its remedy."""
    fake = tmp_path / "terraform"
    for version, status in (("1.9.8", ERROR), ("1.11.4", OK)):
        fake.write_text(f"#!/bin/sh\necho 'Terraform v{version}'\n")
        fake.chmod(0o755)
        found = {each.check: each for each in check_machine({"PATH": str(tmp_path), "HOME": str(tmp_path)})}
        assert (status, f"terraform {version} ({fake})") == (found["terraform"].status, found["terraform"].what)
        assert (OK, OK) == (found["node"].status, found["python"].status)
    missing = {each.check: each for each in check_machine({"PATH": str(tmp_path / "none")})}
    assert ERROR == missing["terraform"].status and missing["terraform"].remedy
    strange = {each.check: each for each in check_machine({"PATH": str(tmp_path), "JSII_NODE": "/nowhere/node"})}
    assert (ERROR, "there is no Node.js") == (strange["node"].status, strange["node"].what)


@pytest.fixture
def in_sample(monkeypatch: pytest.MonkeyPatch) -> Project:
    """The sample is the project, its synthesis is given."""
    monkeypatch.chdir(SAMPLE)
    monkeypatch.setenv("FLEET_ACCOUNT_ID", ACCOUNT)
    for name in ("FLEET_ENV", "ENVIRONMENT_SUFFIX", "FLEET_ASSUME_ROLE_ARN", "TERRAFORM_STATE_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "read_deployment", lambda *_, **__: deployment())
    return load_project(SAMPLE)


@pytest.mark.parametrize(
    ("code", "said"), [("ExpiredToken", "ExpiredToken"), ("InvalidClientTokenId", "InvalidClientTokenId")]
)
def test_credentials_that_do_not_work_end_the_run(
    code: str, said: str, in_sample: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Expired or unknown keys are exit 7, in AWS's words."""
    session = SimpleNamespace(client=lambda service, config=None: stubbed("sts", ("get_caller_identity", code)))
    monkeypatch.setattr(aws_module, "open_session", lambda region_name=None: session)
    answer = CliRunner().invoke(main, ["preflight", "--aws"])
    assert (7, True) == (answer.exit_code, said in answer.output), answer.output


def test_the_command_reports_and_exits(in_sample: Project, account: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """As lines and as JSON: exit 1 with an error, 0 with warnings only; a role is assumed where one is set."""
    found = (
        Finding(status=OK, check="caller", what="role"),
        Finding(status=WARNING, check="state", what="none", remedy="set it"),
    )
    monkeypatch.setattr("fleet_iot.operations.cli.preflight.preflight", lambda project, **_: found)
    answer = CliRunner().invoke(main, ["preflight", "--aws"])
    assert (0, "0 errors, 1 warning, 1 ok") == (answer.exit_code, answer.output.splitlines()[-1]), answer.output
    assert "0 errors, 1 warning, 1 ok" == summary(found)
    worse = (*found, Finding(status=ERROR, check="trails", what="6 of 5", remedy="delete one"))
    monkeypatch.setattr("fleet_iot.operations.cli.preflight.preflight", lambda project, **_: worse)
    answer = CliRunner().invoke(main, ["preflight", "--aws", "--json"])
    assert 1 == answer.exit_code
    assert ["ok", "warning", "error"] == [each["status"] for each in json.loads(answer.stdout)["findings"]]


def test_the_policies_are_written(in_sample: Project, tmp_path: Path) -> None:
    """One file a policy, and the commands that make them; no AWS is asked where the account is known."""
    answer = CliRunner().invoke(main, ["preflight", "--policy", str(tmp_path / "p")])
    assert 0 == answer.exit_code, answer.output
    (written,) = sorted((tmp_path / "p").iterdir())
    assert "2012-10-17" == json.loads(written.read_text())["Version"]
    assert f"aws iam create-policy --policy-name {written.stem} --policy-document file://{written}" in answer.output
