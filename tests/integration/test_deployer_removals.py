"""Each action of the deployer's policies that the local AWS checks is removed once, and Terraform fails without it.

A phase (apply, refresh, destroy) begins without a kind of actions. A round runs Terraform on the unfinished stacks, and
grants what was denied and named in Terraform's errors. A denied action that no error names (S3 answers HEAD requests
without a text, and the provider retries it for minutes) is granted while others are named, then removed by itself: a
run that then fails, or does not end in time, is its proof. Apply and destroy are repeated while that proves more.
`FLEET_REMOVALS` says for which stacks: `all`, or `plants` without the platform, whose fixed waits take half an hour.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.assurance.deployer import Policy
from fleet_iot.operations.assurance.preflight import read_deployment
from fleet_iot.operations.local import deployment, emulator
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws
from fleet_iot.operations.local.deployment import DEPLOYER_ROLE, local_terraform
from fleet_iot.operations.processes import readable_by_owner_only
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.terraform import Terraform, TerraformFault
from tests.places import PROJECT, link_wheels

pytestmark = [
    pytest.mark.local_aws,
    pytest.mark.skipif("FLEET_REMOVALS" not in os.environ, reason="FLEET_REMOVALS: half an hour"),
]

MANIFEST = """\
version: 1
application: nhamay
environment_suffix: thu
region: ap-southeast-1
tags: {owner: bảo-trì}
retention: RETENTION
device_types:
  spritzguss:
    description: Spritzgiessmaschine
    sample_interval_s: 10
    metrics:
      temperature: {unit: celsius, min: 10, max: 260}
facilities:
  vn-01:
    name: Nhà máy Bình Dương
    timezone: Asia/Ho_Chi_Minh
    things: {spritzguss: 2}
  de-01:
    name: Werk Köln
    timezone: Europe/Berlin
    registration: bulk
    things: {spritzguss: 3}
"""
IS_WHOLE = os.environ.get("FLEET_REMOVALS") == "all"
ROUNDS = 80
ANYBODY = {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}
"""Needs no permission: a policy must have a statement."""
READS = re.compile(r"\w+:(Get|List|Describe)")
GRACE_S = {"apply": 400.0, "refresh": 20.0, "destroy": 400.0}
"""How long a run may last after a denial. An interrupted provider drops what it was making: much longer than its fixed
waits for that."""
LEFTOVER = re.compile(
    r"creating ([\w ]+) \(([^)]+)\): operation error (?:(?! creating ).)*?(?:AlreadyE|AlreadyO|InUse|Conflict)"
)
DELETIONS = {
    "CloudTrail Trail": ("cloudtrail", "delete_trail", "Name"),
    "CloudWatch Logs Log Group": ("logs", "delete_log_group", "logGroupName"),
    "DynamoDB Table": ("dynamodb", "delete_table", "TableName"),
    "Kinesis Stream": ("kinesis", "delete_stream", "StreamName"),
    "Lambda Function": ("lambda", "delete_function", "FunctionName"),
    "S3 Bucket": ("s3", "delete_bucket", "Bucket"),
}
"""By kind, as the provider's errors name it: service, operation and its argument."""

Work = Callable[[Terraform, Path], object]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A company of its own: one plant with two certificates, one with bulk registration.

    Plants that keep records put no objects into the platform's bucket.
    """
    root = tmp_path / "project"
    root.mkdir()
    (root / "fleet.yaml").write_text(MANIFEST.replace("RETENTION", "short" if IS_WHOLE else "records"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("FLEET_KEYS_DIR", str(tmp_path / "keys"))
    monkeypatch.setenv("FLEET_KEYS_PASSPHRASE", "a passphrase of tests")
    link_wheels(root)
    for line in ("generate", "keys create --all"):
        answer = CliRunner().invoke(main, line.split())
        assert 0 == answer.exit_code, answer.output
    return load_project(root)


@dataclass(kw_only=True)
class Deployer:
    """The role that Terraform works under, with the actions that are absent, and what its absence has shown."""

    local: LocalAws
    policies: tuple[Policy, ...]
    absent: set[str] = field(default_factory=set)
    checked: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    unnamed: set[str] = field(default_factory=set)
    tolerated: set[str] = field(default_factory=set)

    @property
    def actions(self) -> set[str]:
        """All actions of the policies."""
        return {action for policy in self.policies for each in policy.statements for action in each.actions}

    @property
    def removed(self) -> set[str]:
        """The actions whose absence has made Terraform fail."""
        return self.named | self.unnamed

    def limit(self, granted: Iterable[str] = ()) -> None:
        """Set the role's policies to all but what is absent, and begin a session of its own: its decisions are new."""
        iam, given = self.local.client("iam"), self.actions - self.absent | set(granted)
        for policy in self.policies:
            documents = [each.document() for each in policy.statements]
            for document in documents:
                document["Action"] = [each for each in document["Action"] if each in given]
            statements = [ANYBODY, *(document for document in documents if document["Action"])]
            text = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_role_policy(RoleName=DEPLOYER_ROLE, PolicyName=policy.name, PolicyDocument=text)
        session = self.local.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/{DEPLOYER_ROLE}", RoleSessionName="fleet-terraform"
        )["Credentials"]
        self.local.save_deployer(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])

    def decided(self, verdict: str) -> set[str]:
        """The actions that this session was allowed, or denied."""
        key = self.local.deployer_environment()["AWS_ACCESS_KEY_ID"]
        lines = (line.split() for line in self.local.decisions.read_text().splitlines())
        return {action for found, whose, action, _ in lines if (found, whose) == (verdict, key)}

    def run(self, work: Work, stacks: Iterable[Path], *, grace_s: float) -> tuple[dict[Path, str], set[str]]:
        """Run Terraform on stacks; return the errors of those that failed or were ended, and what was denied."""
        terraform, stacks = local_terraform(self.local), list(stacks)
        with ThreadPoolExecutor(len(stacks)) as pool:
            running: dict[Future[object], Path] = {pool.submit(work, terraform, stack): stack for stack in stacks}
            deadline = None
            while wait(running, timeout=1).not_done:
                if deadline is None and self.decided("denied"):
                    deadline = time.monotonic() + grace_s
                if deadline is not None and time.monotonic() > deadline:
                    terraform.interrupt()
            failed = {}
            for future, stack in running.items():
                try:
                    future.result()
                except TerraformFault as fault:
                    failed[stack] = " ".join(f"{error.summary} {error.detail}" for error in fault.errors) or str(fault)
        self.checked |= self.decided("allowed") & self.actions
        return failed, self.decided("denied")

    def delete_leftovers(self, errors: Iterable[str]) -> bool:
        """Delete, as root, what an ended provider made and did not note; return whether there was any.

        AWS refuses to make it again.
        """
        found = {(kind, name) for text in errors for kind, name in LEFTOVER.findall(text)}
        for kind, name in found:
            service, operation, argument = DELETIONS[kind]
            if kind == "S3 Bucket":
                empty_bucket(self.local.client("s3"), name)
            getattr(self.local.client(service), operation)(**{argument: name})
        return bool(found)

    def complete(self, name: str, work: Work, stacks: Iterable[Path], *, without: set[str]) -> None:
        """Run a phase round by round until every stack has succeeded."""
        self.absent |= without
        remaining, granted, begun = list(stacks), set[str](), time.monotonic()
        for number in range(1, ROUNDS + 1):
            self.limit(granted)
            failed, denied = self.run(work, remaining, grace_s=GRACE_S[name])
            named = {action for action in denied if any(f"{action} " in f"{text} " for text in failed.values())}
            unnamed = denied - named
            print(f"{name} {number}: {time.monotonic() - begun:.0f} s, {len(failed)} failed, {named=}, {unnamed=}")
            # Plants wait for the platform where it was just made.
            progressed = len(failed) < len(remaining)
            assert denied or progressed or self.delete_leftovers(failed.values()), failed
            remaining = list(failed)
            self.named |= named
            self.absent -= named
            if not failed:
                self.tolerated |= denied
                return
            if named:
                granted |= unnamed
            elif not unnamed:
                granted = set()
            elif len(unnamed) == 1:
                self.unnamed |= unnamed
                self.absent -= unnamed
                granted = set()
            else:
                granted = set(sorted(unnamed)[1:])
        raise AssertionError(f"{name} is not done after {ROUNDS} rounds")


@readable_by_owner_only()
def test_every_checked_action_is_needed(project: Project) -> None:
    """Without any one of them an apply, a refresh or a destroy fails; no other is denied, and none is tolerated."""
    policies = read_deployment(project, account_id=ACCOUNT_ID).policies
    local = emulator.start(folder=project.root / "local", region="ap-southeast-1", speed=6_000)
    try:
        deployment.deploy_as_role(local, {}, suffix=project.environment_suffix)
        deployer = Deployer(local=local, policies=policies)
        platform, *plants = deployment.synthesise(local, root=project.root)
        deployment.write_all_overrides([platform, *plants])
        stacks = [platform, *plants] if IS_WHOLE else plants
        if not IS_WHOLE:
            make_what_plants_refer_to(local, plants)
        for stack in stacks:
            local_terraform(local).init(stack)
        reads = {action for action in deployer.actions if READS.match(action)}
        deployer.complete("apply", Terraform.apply, stacks, without=deployer.actions - reads)
        deployer.complete("refresh", Terraform.plan, stacks, without=reads)
        fill_buckets(local.client("s3"))
        deployer.complete("destroy", Terraform.destroy, stacks, without=set())
        unneeded, before = deployer.checked - deployer.removed, set[str]()
        while unneeded and unneeded != before:  # reads that only making asks for, or that were granted at their moment
            before = unneeded
            deployer.complete("apply", Terraform.apply, stacks, without=unneeded)
            fill_buckets(local.client("s3"))
            deployer.complete("destroy", Terraform.destroy, stacks, without=set())
            unneeded = deployer.checked - deployer.removed
        print(
            f"{len(deployer.removed)} of {len(deployer.checked)} checked actions fail Terraform where they are absent, "
            f"{len(deployer.named)} by name; {sorted(deployer.unnamed)} are in no message; {sorted(unneeded)=}"
        )
        assert (set(), set()) == (deployer.tolerated, unneeded)
        assert deployer.removed <= deployer.actions
        # Whether a trail is made again or changed depends on when its provider was ended: then its calls are checked.
        if IS_WHOLE:
            assert deployer.actions - deployer.checked <= documented() <= deployer.actions - deployer.removed
    finally:
        emulator.stop(local)


def fill_buckets(s3: Any) -> None:
    """Put an object into each bucket: as devices and services do, until the platform is destroyed."""
    for bucket in s3.list_buckets()["Buckets"]:
        s3.put_object(Bucket=bucket["Name"], Key="of-a-service", Body=b"")


def empty_bucket(s3: Any, bucket: str) -> None:
    """Delete every version of every object."""
    listed = s3.list_object_versions(Bucket=bucket)
    for version in [*listed.get("Versions", ()), *listed.get("DeleteMarkers", ())]:
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def make_what_plants_refer_to(local: LocalAws, plants: Iterable[Path]) -> None:
    """Create, as root, the roles and thing types of the platform that the plants' stacks name."""
    text = "".join(path.read_text() for plant in plants for path in plant.glob("*.tf.json"))
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "iot.amazonaws.com"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    for role in set(re.findall(r":role/([\w-]+)", text)):
        local.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument=document)
    for thing_type in set(re.findall(r'"thing_type_name": "([\w-]+)"', text)):
        local.client("iot").create_thing_type(thingTypeName=thing_type)


def documented() -> set[str]:
    """The actions that docs/preflight.md lists as not checked by the local AWS."""
    page = (PROJECT / "docs" / "preflight.md").read_text(encoding="utf-8")
    block = page.partition("These it did not check")[2].split("```")[1]
    return set(block.split())
