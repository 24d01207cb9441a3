"""Apply the project's stacks to the local AWS, destroy them, start the services that they need, and await them."""

from __future__ import annotations

import json
import platform
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleet_iot
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.text import counted
from fleet_iot.lib.record.place import VARIABLE
from fleet_iot.operations.deployment import engine
from fleet_iot.operations.deployment.devices import release_policies
from fleet_iot.operations.local import emulator, event_source, rules_engine
from fleet_iot.operations.local.aws import (
    ACCOUNT_ID,
    LocalAws,
    applied_stacks,
    await_ready,
    count_resources,
    load,
    read_statistics,
    require_running,
    save,
)
from fleet_iot.operations.local.overrides import (
    LASTING_DRIFT,
    PLATFORM_PREFIX,
    REPUBLISH_TOPIC,
    Adaptation,
    republish_role,
    write_overrides,
)
from fleet_iot.operations.local.rules_engine import remove_identity
from fleet_iot.operations.processes import readable_by_owner_only, start_child
from fleet_iot.operations.progress import Patience
from fleet_iot.operations.project import Project
from fleet_iot.operations.terraform import PlannedChange, Say, Terraform, silent, terraform_for

# Wait until everything that devices have published has passed rules engine, stream and function.

STILL_SECONDS = 120.0
"""Seconds without progress before giving up: the function may need a minute for one batch."""

LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The work that the services have done so far, in messages (`put`, `errors`), records, invocations and sweeps."""

    put: int
    errors: int
    sweeps: int
    read: int
    done: int
    redelivered: int
    discarded: int
    failures: int
    invocations: int


def wait_until_drained(local: LocalAws, *, seconds: float = STILL_SECONDS) -> Drained:
    """Wait until all that was published before the call is processed, for as long as there is progress.

    A probe follows the messages through the rules engine. Then the event source must find the stream at its end, with
    every batch done, in a look that began after the probe came through, and every minute so far is in the tables.

    Args:
        local: Where rules engine and event source run.
        seconds: How long there may be no progress.

    Returns:
        The totals of both.

    Raises:
        EnvironmentFault: One of them has ended, or there was no progress for too long.
    """
    patience = Patience(seconds)
    local = load(local.folder)
    nonce = str(uuid.uuid4())
    local.client("iot-data").publish(topic=f"{REPUBLISH_TOPIC}/{rules_engine.PROBE}", qos=1, payload=nonce.encode())
    passed_at: float | None = None
    while True:
        engine = _statistics(local, rules_engine.NAME, rules_engine.STATISTICS)
        source = _statistics(local, event_source.NAME, event_source.STATISTICS)
        if passed_at is None and engine.get("probe") == nonce and not engine["outstanding"]:
            # The source's statistics may be older: only a look after this moment counts, with a sweep.
            (local.folder / event_source.SETTLE).touch()
            passed_at = time.time()
        elif (
            passed_at is not None
            and source.get("idle_at", 0.0) > passed_at
            and not (local.folder / event_source.SETTLE).exists()
        ):
            return Drained(put=engine["put"], errors=engine["errors"], sweeps=source["sweeps"], **source["totals"])
        if patience.is_over(_moved(engine, source)):
            what = (
                f"the rules engine still has {engine.get('outstanding', 'all')} messages to forward"
                if passed_at is None
                else f"the event source has not reached the stream's end{_last_error(source)}"
            )
            raise EnvironmentFault(
                f"the local AWS made no progress for {seconds:.0f} seconds: {what}", hint=f"look into {local.logs}"
            )
        time.sleep(LOOK_SECONDS)


def _moved(engine: Mapping[str, Any], source: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what changes while messages advance. Retries and failures do not count: they can go on for ever."""
    totals = source.get("totals", {})
    return (
        *(engine.get(name) for name in ("received", "put", "errors", "outstanding", "probe")),
        *(totals.get(name) for name in ("read", "done", "discarded")),
    )


def _statistics(local: LocalAws, name: str, file: str) -> dict[str, Any]:
    require_running(local.child(name), name=name)
    return read_statistics(local.folder / file)


def _last_error(source: Mapping[str, Any]) -> str:
    return f" (last error: {source['last_error']})" if source.get("last_error") else ""


# Apply the stacks, start the services, destroy the stacks.

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""As terraform.PAUSES_S, at the local AWS's pace: half a second for what AWS needs many for."""

ELSEWHERE = ("TERRAFORM_STATE_", "FLEET_ASSUME_ROLE_ARN")
"""Variables that would point Terraform to an account, or to a state, of AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The result of an apply: the stacks, platform first, with their numbers of resources."""

    resources: dict[str, int]
    adaptations: tuple[Adaptation, ...]


def local_terraform(local: LocalAws, base: Mapping[str, str] | None = None) -> Terraform:
    """Return Terraform for the local AWS, in the environment `base` (default: this process's)."""
    environment = local.environment(base) | local.deployer_environment()
    return terraform_for(environment=environment, logs=local.logs, pauses=PAUSES_S)


DEPLOYER_ROLE = "deployer"
SESSION_SECONDS = 43_200
"""AWS's longest session: it lasts for all that is done with one local AWS."""


@readable_by_owner_only()
def deploy_as_role(local: LocalAws, policies: Mapping[str, str], *, suffix: str) -> None:
    """Run Terraform from now on under a role that has these policies, by name, in place of root.

    The role also has the rights to the one role that exists only here, see `overrides.republish_role`.
    """
    iam, root = local.client("iam"), {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": root}
    role = iam.create_role(
        RoleName=DEPLOYER_ROLE,
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        MaxSessionDuration=SESSION_SECONDS,
    )["Role"]["Arn"]
    for name, document in policies.items():
        arn = iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"]
        iam.attach_role_policy(RoleName=DEPLOYER_ROLE, PolicyArn=arn)
    own = {"Effect": "Allow", "Action": "iam:*", "Resource": f"arn:aws:iam::{ACCOUNT_ID}:role/{republish_role(suffix)}"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [own]})
    iam.put_role_policy(RoleName=DEPLOYER_ROLE, PolicyName="of-the-local-aws", PolicyDocument=document)
    session = local.client("sts").assume_role(
        RoleArn=role, RoleSessionName="fleet-terraform", DurationSeconds=SESSION_SECONDS
    )["Credentials"]
    local.save_deployer(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])


def synthesis_variables(
    local: LocalAws, *, environment: str | None = None, identities: Path | None = None
) -> dict[str, str]:
    """Return the environment in which the stacks for the local AWS are synthesised."""
    variables = {k: v for k, v in local.environment().items() if not k.startswith(ELSEWHERE)}
    variables |= {
        VARIABLE: environment or "",
        "FLEET_ACCOUNT_ID": ACCOUNT_ID,
        "FLEET_LAMBDA_ARCHITECTURE": "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64",
    }
    return variables | ({"FLEET_IDENTITIES": str(identities.resolve())} if identities is not None else {})


@readable_by_owner_only()
def synthesise(
    local: LocalAws,
    *,
    root: Path,
    environment: str | None = None,
    facilities: Iterable[str] = (),
    identities: Path | None = None,
    say: Say = silent,
) -> tuple[Path, ...]:
    """Synthesise platform and facilities (all, or those given); return the stacks' folders, the platform's first."""
    return engine.synthesise(
        root=root,
        output=local.output,
        variables=synthesis_variables(local, environment=environment, identities=identities),
        facilities=facilities,
        log=local.logs / "synthesis.log",
        say=say,
    )


@readable_by_owner_only()
def apply(
    local: LocalAws,
    *,
    root: Path,
    environment: str | None = None,
    facilities: Iterable[str] = (),
    identities: Path | None = None,
    redeliver: float = 0.0,
    seed: int = 0,
    say: Say = silent,
) -> Applied:
    """Synthesise and apply the stacks, then start rules engine and event source."""
    emulator.require_emulator(local)
    terraform = local_terraform(local)
    say(terraform.provider.said)
    stacks = synthesise(
        local, root=root, environment=environment, facilities=facilities, identities=identities, say=say
    )
    adaptations = write_all_overrides(stacks)
    for adaptation in adaptations:
        say(f"for the emulator: {adaptation.resource_type}: {adaptation.change} ({adaptation.reason})")
    engine.prepare(terraform, stacks, say=say)
    apply_stacks(terraform, stacks, say=say)
    start_services(local, redeliver=redeliver, seed=seed)
    return Applied(resources={stack.name: count_resources(stack) for stack in stacks}, adaptations=adaptations)


def write_all_overrides(stacks: Iterable[Path]) -> tuple[Adaptation, ...]:
    """Write the override files of all stacks; return the adaptations that they needed, each once."""
    stacks = tuple(stacks)
    suffix = next(
        stack.name.removeprefix(PLATFORM_PREFIX) for stack in stacks if stack.name.startswith(PLATFORM_PREFIX)
    )
    used = [adaptation for stack in stacks for adaptation in write_overrides(stack, suffix=suffix)]
    return tuple(dict.fromkeys(used))


def apply_stacks(terraform: Terraform, stacks: Iterable[Path], *, say: Say = silent) -> None:
    """Apply the platform, then the facilities, two at a time."""
    folders = {stack.name: stack for stack in stacks}

    def work(name: str) -> None:
        terraform.apply(folders[name], say=say)
        say(f"{name}: {counted(count_resources(folders[name]), 'resource')}")

    for stage in engine.stages(folders):
        engine.run_each(terraform, stage, work)


@readable_by_owner_only()
def plan(local: LocalAws) -> dict[str, tuple[PlannedChange, ...]]:
    """Return what another apply would change, by stack, without overrides.LASTING_DRIFT.

    Until the second apply, the emulator adds overrides.FIRST_PLAN_DRIFT to it.
    """
    emulator.require_emulator(local)
    terraform = local_terraform(local)
    return {stack.name: without_drift(terraform.plan(stack)) for stack in applied_stacks(local)}


def without_drift(changes: Iterable[PlannedChange]) -> tuple[PlannedChange, ...]:
    """Filter out updates of the types in overrides.LASTING_DRIFT."""
    return tuple(
        change
        for change in changes
        if change.action != "update" or change.address.partition(".")[0] not in LASTING_DRIFT
    )


@readable_by_owner_only()
def destroy(local: LocalAws, *, say: Say = silent) -> tuple[str, ...]:
    """Stop the services and destroy every stack that has a state, the platform last.

    Returns:
        The names of the stacks, in that order.

    Raises:
        OutcomeError: devices that Terraform did not make are still registered; nothing is destroyed.
    """
    emulator.require_emulator(local)
    folders = {stack.name: stack for stack in applied_stacks(local)}
    before_destroy(local, folders.values())
    terraform = local_terraform(local)

    def work(name: str) -> None:
        terraform.destroy(folders[name], say=say)
        say(f"{name}: destroyed")

    ordered = engine.stages(folders, is_destroy=True)
    for stage in ordered:
        engine.run_each(terraform, stage, work)
    return tuple(name for stage in ordered for name in stage)


def target(local: LocalAws, project: Project, *, identities: Path | None = None, say: Say = silent) -> engine.Target:
    """Return the local AWS as the target of a deployment."""
    emulator.require_emulator(local)
    terraform = local_terraform(local)
    say(terraform.provider.said)
    return engine.Target(
        binding=engine.binding(
            project, account=ACCOUNT_ID, region=local.region, state=engine.LOCAL_STATE, terraform=terraform
        ),
        root=project.root,
        build=project.build,
        declared=frozenset(facility.id for facility in project.facilities),
        output=local.output,
        variables=synthesis_variables(local, environment=project.environment, identities=identities),
        terraform=terraform,
        adapt=write_all_overrides,
        is_drift=lambda change: not without_drift([change]),
        is_local=True,
        say=say,
    )


def before_destroy(local: LocalAws, stacks: Iterable[Path]) -> None:
    """Stop the services, and release what would keep Terraform from destroying these stacks.

    Raises:
        OutcomeError: devices that Terraform did not register are still registered.
    """
    stacks = tuple(stacks)
    release_policies(local.client("iot"), stacks, otherwise="; or end this local AWS: fleet local down")
    if any(stack.name.startswith(PLATFORM_PREFIX) for stack in stacks):
        stop_services(local)
        remove_identity(local)


@readable_by_owner_only()
def start_services(local: LocalAws, *, redeliver: float = 0.0, seed: int = 0) -> LocalAws:
    """Start rules engine and event source, or restart them, and wait until they are ready."""
    local = load(local.folder)
    stop_services(local)
    faults = ("--redeliver", str(redeliver), "--seed", str(seed))
    services = (
        (rules_engine.NAME, rules_engine.__name__, rules_engine.STATISTICS, ()),
        (event_source.NAME, event_source.__name__, event_source.STATISTICS, faults),
    )
    started = []
    for name, module, statistics, arguments in services:
        child = start_child(
            name=name,
            command=[sys.executable, "-P", "-m", module, "--dir", str(local.folder), *arguments],
            environment=local.service_environment(),
            log=local.logs / f"{name}.log",
            folder=Path(fleet_iot.__file__).resolve().parents[1],
        )
        local = local.with_child(child)
        save(local)
        started.append((child, local.folder / statistics))
    for child, path in started:
        await_ready(child, path)
    return local


def stop_services(local: LocalAws) -> None:
    """End rules engine and event source; started again, they continue from their statistics."""
    local = load(local.folder)
    for name in (rules_engine.NAME, event_source.NAME):
        emulator.stop_child(local, name)
