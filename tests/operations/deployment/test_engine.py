"""The order of a deployment, its retries and remainders; a stand-in for Terraform fails as scripted."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault, GateError, OutcomeError, StaleError
from fleet_iot.operations.deployment import bundle as bundles
from fleet_iot.operations.deployment import engine
from fleet_iot.operations.terraform import ProviderSource, Terraform
from tests.operations.deployment.test_bundle import BINDING, DONE

PLATFORM, PLANT, OTHER = "tap-prod", "facility-mu-01-prod", "facility-hp-01-prod"

THROTTLED = "creating IAM Role (a): operation error IAM: CreateRole, https response error StatusCode: 400, "
THROTTLED += "RequestID: 7b7c, api error Throttling: Rate exceeded"

PROGRAM = """#!{python}
import json, pathlib, sys, time
stack = pathlib.Path(sys.argv[1].removeprefix("-chdir="))
command, arguments = sys.argv[2], sys.argv[3:]
if command in ("init", "version"):
    print(json.dumps({{"terraform_version": "1.11.4"}}))
    sys.exit()
if command == "show":
    print(pathlib.Path(arguments[-1]).read_text())
    sys.exit()
if command == "state":
    state = stack / "state.json"
    print(state.read_text() if state.exists() else "{{}}")
    sys.exit()
with (stack.parent / "calls").open("a") as calls:
    calls.write(f"{{command}} {{stack.name}}\\n")
answers = stack / f"{{command}}.json"
script = json.loads(answers.read_text()) if answers.exists() else []
answer = script.pop(0) if script else {{}}
answers.write_text(json.dumps(script))
time.sleep(answer.get("seconds", 0))
for argument in arguments:
    if argument.startswith("-out="):
        planned = [
            {{"address": address, "change": {{"actions": ["delete", "create"] if action == "replace" else [action]}}}}
            for address, action in {{**answer.get("changes", {{}}), "aws_iam_role.same": "no-op"}}.items()
        ]
        pathlib.Path(argument.removeprefix("-out=")).write_text(json.dumps({{"resource_changes": planned}}))
for address, action in answer.get("changes", {{}}).items():
    change = {{"resource": {{"addr": address}}, "action": action}}
    print(json.dumps({{"type": "planned_change", "change": change}}))
for summary in answer.get("errors", []):
    print(json.dumps({{"@message": summary, "diagnostic": {{"severity": "error", "summary": summary}}}}))
sys.exit(bool(answer.get("errors")))
"""

Scripts = dict[str, list[dict[str, object]]]
MakeTarget = Callable[..., engine.Target]


@pytest.fixture
def target(tmp_path: Path) -> MakeTarget:
    """Makes a target with a Terraform that answers, stack by stack, as scripted."""
    binary = tmp_path / "terraform"
    binary.write_text(PROGRAM.format(python=sys.executable))
    binary.chmod(0o755)

    def make(*, plans: Scripts, applies: Scripts | None = None) -> engine.Target:
        for scripts, command in ((plans, "plan"), (applies or {}, "apply")):
            for name, answers in scripts.items():
                stack = tmp_path / "stacks" / name
                stack.mkdir(parents=True, exist_ok=True)
                (stack / "cdk.tf.json").write_text("{}")
                (stack / f"{command}.json").write_text(json.dumps(answers))
        terraform = Terraform(
            binary=binary,
            provider=ProviderSource(mirror=tmp_path, is_packed=False, said=""),
            environment={"PATH": "/usr/bin:/bin"},
            logs=tmp_path / "logs",
            pauses=(0.0, 0.0),
        )
        return engine.Target(
            binding=BINDING,
            root=tmp_path,
            build=tmp_path,
            output=tmp_path,
            declared=frozenset({"mu-01", "hp-01"}),
            variables={},
            terraform=terraform,
            say=said.append,
        )

    said: list[str] = []
    return make


def calls(target: engine.Target) -> list[str]:
    return (target.output / "stacks" / "calls").read_text().splitlines()


def planned(target: engine.Target, *names: str) -> tuple[bundles.Bundle, Path]:
    folder = target.output / "bundle"
    made, _ = engine.plan(target, [target.stack(name) for name in names], folder)
    return made, folder


def statuses(done: engine.Deployed) -> dict[str, str]:
    return {outcome.stack: outcome.status for outcome in done.outcomes}


def test_the_platform_comes_first_and_goes_last() -> None:
    """Plants are independent of each other; the endpoint is the last to come and goes before the platform."""
    names = ["endpoint-prod", PLANT, PLATFORM, OTHER]
    assert [[PLATFORM], [OTHER, PLANT], ["endpoint-prod"]] == engine.stages(names)
    assert [[OTHER, PLANT], ["endpoint-prod"], [PLATFORM]] == engine.stages(names, is_destroy=True)
    assert [[PLANT]] == engine.stages([PLANT])


def test_all_is_planned_before_anything_is_applied(target: MakeTarget) -> None:
    """What does not change is not applied; the summary has each stack, in order."""
    change = [{"changes": {"aws_iot_thing.a": "create"}}]
    site = target(plans={PLATFORM: change, PLANT: change, OTHER: [{}]})
    done = engine.apply(site, *planned(site, PLATFORM, PLANT, OTHER))
    assert {PLATFORM: "applied", OTHER: "unchanged", PLANT: "applied"} == statuses(done)
    assert [PLATFORM, OTHER, PLANT] == [outcome.stack for outcome in done.outcomes]
    assert ["plan", "plan", "plan", "apply", "apply"] == [call.split()[0] for call in calls(site)]
    assert [f"apply {PLATFORM}", f"apply {PLANT}"] == calls(site)[3:]
    assert [1, 0, 1] == [outcome.added for outcome in done.outcomes]


def test_a_transient_failure_is_tried_again_with_what_remains(target: MakeTarget) -> None:
    """The saved plan is stale then: the rest of it is planned, and applied."""
    site = target(
        plans={
            PLATFORM: [
                {"changes": {"aws_iam_role.a": "create", "aws_iam_role.b": "create"}},
                {"changes": {"aws_iam_role.b": "create"}},
            ]
        },
        applies={PLATFORM: [{"errors": [THROTTLED]}]},
    )
    done = engine.apply(site, *planned(site, PLATFORM))
    assert ({PLATFORM: "applied"}, None) == (statuses(done), done.fault)
    assert ["plan", "apply", "plan", "apply"] == [call.split()[0] for call in calls(site)]


def test_a_remainder_that_was_not_planned_is_refused(target: MakeTarget) -> None:
    """Somebody else has changed AWS in between: nothing is done that nobody approved."""
    site = target(
        plans={PLATFORM: [{"changes": {"aws_iam_role.a": "create"}}, {"changes": {"aws_s3_bucket.b": "delete"}}]},
        applies={PLATFORM: [{"errors": [THROTTLED]}]},
    )
    done = engine.apply(site, *planned(site, PLATFORM))
    assert isinstance(done.fault, OutcomeError) and "aws_s3_bucket.b, which was not planned" in done.fault.message
    assert ["plan", "apply", "plan"] == [call.split()[0] for call in calls(site)]


def test_after_a_failure_nothing_more_is_begun(target: MakeTarget) -> None:
    """The plants wait for the platform; of the plants, the one that runs beside the failing one is finished."""
    change = [{"changes": {"aws_iam_role.a": "create"}}]
    site = target(
        plans=dict.fromkeys((PLATFORM, PLANT, OTHER), change),
        applies={PLATFORM: [{"errors": ["creating IAM Role (a): AccessDenied"]}]},
    )
    made, folder = planned(site, PLATFORM, PLANT, OTHER)
    done = engine.apply(site, made, folder)
    assert {PLATFORM: "failed", PLANT: "not applied", OTHER: "not applied"} == statuses(done)
    assert done.fault and "AccessDenied" in done.fault.message
    site = target(plans={PLATFORM: change}, applies={OTHER: [{"errors": ["denied"]}], PLANT: [{"seconds": 1}]})
    done = engine.apply(site, made, folder)
    assert {PLATFORM: "applied", PLANT: "applied", OTHER: "failed"} == statuses(done)


def test_a_bundle_is_taken_up_where_it_was_left(target: MakeTarget) -> None:
    """Applied stacks are skipped; one that was begun gets a plan of what remains; the others their own."""
    change = [{"changes": {"aws_iam_role.a": "create"}}]
    site = target(plans=dict.fromkeys((PLATFORM, PLANT, OTHER), change))
    made, folder = planned(site, PLATFORM, PLANT, OTHER)
    bundles.note_progress(folder, PLATFORM, DONE)
    bundles.note_progress(folder, PLANT, bundles.Progress(step=bundles.BEGUN))
    before = len(calls(site))
    done = engine.apply(site, made, folder)
    assert {PLATFORM: "applied before", PLANT: "applied", OTHER: "applied"} == statuses(done)
    assert sorted([f"plan {PLANT}", f"apply {PLANT}", f"apply {OTHER}"]) == sorted(calls(site)[before:])


@pytest.mark.parametrize(
    ("summary", "message", "hint"),
    [
        ("Saved plan is stale", f"the state of {PLATFORM} has changed since it was planned", "plan it again"),
        ("Error acquiring the state lock", f"the state of {PLATFORM} is locked by", "force-unlock"),
    ],
)
def test_terraforms_errors_of_state_are_explained(target: MakeTarget, summary: str, message: str, hint: str) -> None:
    """A stale plan and a locked state are a sentence and a remedy."""
    site = target(
        plans={PLATFORM: [{"changes": {"aws_iam_role.a": "create"}}]}, applies={PLATFORM: [{"errors": [summary]}]}
    )
    made, folder = planned(site, PLATFORM)
    fault = engine.apply(site, made, folder).fault
    assert isinstance(fault, EnvironmentFault) and fault.message.startswith(message) and hint in (fault.hint or "")
    assert {PLATFORM: bundles.Progress(step=bundles.REFUSED)} == bundles.read_progress(folder), (
        "it is not one that was begun"
    )


def test_an_approved_plan_is_judged_by_its_plan_files(target: MakeTarget) -> None:
    """Changes that plan.json leaves out, or calls otherwise, are refused; the digests of the files still hold."""
    deleted = {"aws_s3_bucket.a": "delete", "aws_iam_role.b": "create", "aws_kms_key.c": "replace"}
    site = target(plans={PLATFORM: [{"changes": deleted}], PLANT: [{}]})
    made, folder = planned(site, PLATFORM, PLANT)
    engine.compare(site, made, folder)
    plant, platform = made.stacks
    for changes in (
        platform.changes[1:],
        (),
        (dataclasses.replace(platform.changes[0], action="update"), *platform.changes[1:]),
        (*platform.changes[:2], dataclasses.replace(platform.changes[2], reason=bundles.UNFINISHED)),
    ):
        forged = dataclasses.replace(made, stacks=(plant, dataclasses.replace(platform, changes=changes)))
        bundles.save(forged, folder)
        with pytest.raises(GateError, match=f"other changes of {PLATFORM} than {PLATFORM}.plan"):
            engine.compare(site, bundles.load(folder)[0], folder)


def test_a_finished_rotation_needs_no_permission(target: MakeTarget) -> None:
    """Neither when it is planned nor when it is approved; plan.json cannot call another deletion one."""
    deleted = {"aws_iot_certificate.a": "delete", "aws_iot_certificate.b": "delete"}
    site = target(plans={PLANT: [{"changes": deleted}]})
    attachment = {"thing": "${aws_iot_thing.a.name}", "principal": "${aws_iot_certificate.a_2.arn}"}
    resources = {
        "aws_iot_thing": {"a": {"name": "a"}, "b": {"name": "b"}},
        "aws_iot_certificate": {"a_2": {"active": True}},
        "aws_iot_thing_principal_attachment": {"a_2": attachment},
    }
    (site.stack(PLANT) / "cdk.tf.json").write_text(json.dumps({"resource": resources}))
    made, folder = planned(site, PLANT)
    assert [(f"{PLANT}: aws_iot_certificate.b",)] == list(made.dangers.values())
    engine.compare(site, bundles.load(folder)[0], folder)
    (stack,) = made.stacks
    changes = tuple(dataclasses.replace(each, reason=bundles.ROTATED) for each in stack.changes)
    forged = dataclasses.replace(made, stacks=(dataclasses.replace(stack, changes=changes),))
    with pytest.raises(GateError, match="other changes"):
        engine.compare(site, forged, folder)


@pytest.mark.parametrize("now", [{}, {"lineage": "6a5f", "serial": 5}, {"lineage": "0b0b", "serial": 4}])
def test_a_stack_is_applied_before_only_in_the_state_that_this_left(target: MakeTarget, now: dict[str, object]) -> None:
    """One that was destroyed or changed since is refused, before anything else is applied."""
    change = [{"changes": {"aws_iam_role.a": "create"}}]
    site = target(plans=dict.fromkeys((PLATFORM, PLANT), change))
    made, folder = planned(site, PLATFORM, PLANT)
    state = site.stack(PLATFORM) / "state.json"
    for name in (PLATFORM, PLANT):
        (site.stack(name) / "state.json").write_text(json.dumps({"lineage": DONE.lineage, "serial": DONE.serial}))
    engine.apply(site, made, folder)
    assert DONE == bundles.read_progress(folder)[PLATFORM]
    engine.compare(site, made, folder)
    assert {PLATFORM: "applied before", PLANT: "applied before"} == statuses(engine.apply(site, made, folder))
    state.write_text(json.dumps(now))
    with pytest.raises(StaleError, match=f"the state of {PLATFORM} has changed since this plan was applied"):
        engine.compare(site, made, folder)
    if not now:
        bundles.note_progress(folder, PLATFORM, bundles.Progress(step=bundles.APPLIED))
        with pytest.raises(StaleError):
            engine.compare(site, made, folder)


def test_two_deployments_do_not_meet(tmp_path: Path) -> None:
    """The second is refused while the first works."""
    refused = pytest.raises(EnvironmentFault, match="another deployment")
    with engine.reserved(tmp_path), refused, engine.reserved(tmp_path):
        pass
    with engine.reserved(tmp_path):
        pass


def test_a_facility_that_left_the_record_keeps_its_stack(target: MakeTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what Terraform destroys; declared ones are synthesised, and where there is none, nothing is."""
    asked: list[str] = []

    def run_synthesis(root: Path, variables: dict[str, str], *, log: Path | None) -> SimpleNamespace:
        asked.append(variables["FLEET_FACILITIES"])
        return SimpleNamespace(stdout=f"{PLATFORM}\n{PLANT}\n", stderr="")

    monkeypatch.setattr(engine, "run_synthesis", run_synthesis)
    site = target(plans={})
    names = [stack.name for stack in engine.stacks_of(site, facilities=["mu-01", "left-01"], has_endpoint=True)]
    assert [PLATFORM, PLANT, "endpoint-prod", "facility-left-01-prod"] == names
    assert ["facility-left-01-prod"] == [stack.name for stack in engine.stacks_of(site, facilities=["left-01"])]
    assert ["mu-01"] == asked


OUTLIVED = """
import pathlib, sys
from fleet_iot.operations.terraform import ProviderSource, Terraform
folder = pathlib.Path(sys.argv[1])
Terraform(binary=folder / "terraform", provider=ProviderSource(mirror=folder, is_packed=False, said=""),
          environment={"PATH": "/usr/bin:/bin"}, logs=folder / "logs").apply(folder / "stacks" / "tap-prod")
"""


@pytest.mark.slow
def test_terraform_outlives_a_killed_run_and_the_next_waits(target: MakeTarget) -> None:
    """It finishes, since nothing that it writes to is gone; until then no other run works on its stack."""
    site = target(plans={}, applies={PLATFORM: [{"seconds": 3, "changes": {"aws_iam_role.a": "create"}}]})
    with subprocess.Popen([sys.executable, "-c", OUTLIVED, str(site.output)]) as run:
        deadline = time.monotonic() + 60
        while not (site.output / "stacks" / "calls").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    site.terraform.plan(site.stack(PLATFORM))
    assert time.monotonic() - begun > 1.0
    assert [f"apply {PLATFORM}", f"plan {PLATFORM}"] == calls(site)


INTERRUPTED = """
import pathlib, signal, sys, threading
from fleet_iot.operations.deployment import engine
from fleet_iot.operations.terraform import ProviderSource, Terraform
folder, stacks = pathlib.Path(sys.argv[1]), sys.argv[2:]
terraform = Terraform(binary=folder / "terraform", provider=ProviderSource(mirror=folder, is_packed=False, said=""),
                      environment={"PATH": "/usr/bin:/bin"}, logs=folder / "logs")
engine.run_each(terraform, stacks, lambda name: terraform.apply(folder / "stacks" / name), finishing=print)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "is_finished"), [(1, True), (2, False)])
def test_an_interrupt_finishes_what_runs(target: MakeTarget, signals: int, is_finished: bool) -> None:
    """No other stack is begun; a second interrupt ends Terraform too."""
    names = [PLATFORM, PLANT, OTHER]
    answer: dict[str, object] = {"seconds": 4, "changes": {"aws_iam_role.a": "create"}}
    site = target(plans={}, applies={name: [answer] for name in names})
    command = [sys.executable, "-c", INTERRUPTED, str(site.output), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as run:
        deadline = time.monotonic() + 60
        while len(calls(site) if (site.output / "stacks" / "calls").exists() else []) < engine.AT_ONCE:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for _ in range(signals):
            run.send_signal(signal.SIGINT)
            time.sleep(0.5)
        said, _ = run.communicate(timeout=60)
    assert "finishing what Terraform is applying" in said
    assert engine.AT_ONCE == len(calls(site))
    reports = [(site.output / "logs" / f"terraform-{name}.jsonl").read_text() for name in names[: engine.AT_ONCE]]
    assert [is_finished] * engine.AT_ONCE == ["planned_change" in report for report in reports]


def state(arn: str, mode: str = "managed") -> str:
    """A state with one resource that has an ARN, and one without."""
    bodies = ({"arn": arn, "policy": "arn:aws:iam::333333333333:root"}, {"id": "x"})
    resources = [{"mode": mode, "type": "aws_x", "name": "x", "instances": [{"attributes": each}]} for each in bodies]
    return json.dumps({"serial": 4, "resources": resources})


@pytest.mark.parametrize("is_destroy", [False, True])
def test_a_state_of_another_account_is_refused(target: MakeTarget, is_destroy: bool) -> None:
    """Nothing is planned, for a deployment or a destruction: two accounts may share a state bucket and a suffix."""
    site = target(plans={PLATFORM: [{}], PLANT: [{}]})
    (site.stack(PLANT) / "state.json").write_text(state("arn:aws:iot:eu-central-1:210987654321:thing/a"))
    with pytest.raises(GateError, match=f"state of {PLANT} is of account 210987654321, and this is 123456789012") as it:
        engine.plan(site, [site.stack(PLATFORM), site.stack(PLANT)], site.output / "bundle", is_destroy=is_destroy)
    assert "TERRAFORM_STATE_BUCKET" in (it.value.hint or "")
    assert not (site.output / "stacks" / "calls").exists()


@pytest.mark.parametrize(
    ("arn", "mode"),
    [
        ("arn:aws-cn:iot:cn-north-1:123456789012:thing/a", "managed"),
        ("arn:aws:s3:::a-bucket", "managed"),
        ("arn:aws:iam::aws:policy/x", "managed"),
        ("arn:aws:iam::210987654321:role/x", "data"),
    ],
)
def test_a_state_of_this_account_is_planned(target: MakeTarget, arn: str, mode: str) -> None:
    """What another account's resources are only read from, and ARNs without an account, say nothing."""
    site = target(plans={PLANT: [{}]})
    (site.stack(PLANT) / "state.json").write_text(state(arn, mode))
    assert not planned(site, PLANT)[0].has_changes
