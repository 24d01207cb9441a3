"""Terraform as it is run, by a stand-in program that prints its arguments."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.terraform import PlannedChange, ProviderSource, Terraform


def terraform(tmp_path: Path, script: str, *, mirror: Path | None = None, **environment: str) -> Terraform:
    """A Terraform whose program is this shell script."""
    binary = tmp_path / "terraform"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    source = ProviderSource(mirror=mirror, is_packed=mirror is None, said="")
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment}
    return Terraform(binary=binary, provider=source, environment=variables, logs=tmp_path / "logs")


def test_a_mirror_is_given_to_init(tmp_path: Path) -> None:
    """Init takes the provider from the mirror, and a person's settings that would mislead it are not passed on."""
    seen = tmp_path / "seen"
    script = f'echo "$@" "[$TF_WORKSPACE$TF_CLI_CONFIG_FILE]" > {seen}'
    misleading = {"TF_WORKSPACE": "production", "TF_CLI_CONFIG_FILE": "/missing"}
    terraform(tmp_path, script, mirror=tmp_path / "mirror", **misleading).init(tmp_path / "tap-dev")
    expected = f"-chdir={tmp_path}/tap-dev init -no-color -input=false -plugin-dir={tmp_path}/mirror []\n"
    assert seen.read_text() == expected


def test_a_provider_that_cannot_be_had_names_the_remedy(tmp_path: Path) -> None:
    """The hint says how to give a mirror where init fails without one."""
    runner = terraform(tmp_path, 'echo "Error: Failed to query available provider packages"; exit 1')
    with pytest.raises(EnvironmentFault) as fault:
        runner.init(tmp_path / "tap-dev")
    assert fault.value.message == "terraform init of tap-dev failed: Failed to query available provider packages"
    assert "FLEET_PROVIDER_MIRROR" in (fault.value.hint or "")
    assert str(tmp_path / "logs" / "terraform-tap-dev.log") in (fault.value.hint or "")


def test_a_failed_apply_is_one_sentence_and_a_log(tmp_path: Path) -> None:
    """The first error with its resource, and how many more; all of it is in the log."""
    errors = [
        {"severity": "error", "summary": "creating role", "detail": "denied\nby policy", "address": "aws_iam_role.a"},
        {"severity": "error", "summary": "creating key", "detail": ""},
    ]
    events = [{"@level": "error", "@message": f"Error: {each['summary']}", "diagnostic": each} for each in errors]
    report = tmp_path / "report"
    report.write_text("\n".join(json.dumps(event) for event in events) + "\n")
    with pytest.raises(EnvironmentFault) as fault:
        terraform(tmp_path, f"cat {report}; exit 1", mirror=tmp_path).apply(tmp_path / "tap-dev")
    expected = "terraform apply of tap-dev failed: aws_iam_role.a: creating role: denied (and 1 more)"
    assert fault.value.message == expected
    log = (tmp_path / "logs" / "terraform-tap-dev.log").read_text()
    assert ["by policy" in log, "Error: creating key" in log] == [True, True]


def test_a_plan_gives_its_changes(tmp_path: Path) -> None:
    """Each planned change comes with its address and action."""
    change = {"resource": {"addr": "aws_iot_thing.a"}, "action": "create"}
    report = tmp_path / "report"
    report.write_text(json.dumps({"type": "version"}) + "\n" + json.dumps({"type": "planned_change", "change": change}))
    planned = terraform(tmp_path, f"cat {report}", mirror=tmp_path).plan(tmp_path / "tap-dev")
    assert planned == (PlannedChange(address="aws_iot_thing.a", action="create"),)


def test_a_saved_plan_gives_the_same_changes(tmp_path: Path) -> None:
    """Its document names some actions and reasons otherwise than the events of `plan`."""
    said = {
        "aws_kms_key.r": (["create", "delete"], "replace_because_cannot_update"),
        "aws_iam_role.t": (["delete", "create"], "replace_because_tainted"),
        "aws_iot_thing.d": (["delete"], "delete_because_no_resource_config"),
        "aws_iot_thing.c": (["create"], ""),
        "aws_iot_thing.n": (["no-op"], ""),
    }
    resources = [
        {"address": address, "change": {"actions": actions}} | ({"action_reason": reason} if reason else {})
        for address, (actions, reason) in said.items()
    ]
    report = tmp_path / "report"
    report.write_text(json.dumps({"resource_changes": resources}))
    found = terraform(tmp_path, f"cat {report}", mirror=tmp_path).saved_changes(tmp_path / "tap-dev", tmp_path / "plan")
    assert found == (
        PlannedChange(address="aws_kms_key.r", action="replace", reason="cannot_update"),
        PlannedChange(address="aws_iam_role.t", action="replace", reason="tainted"),
        PlannedChange(address="aws_iot_thing.d", action="delete", reason="delete_because_no_resource_config"),
        PlannedChange(address="aws_iot_thing.c", action="create"),
    )


@pytest.mark.slow
def test_an_interrupt_ends_what_runs(tmp_path: Path) -> None:
    """A command in another thread is ended with all that it started, and is a fault there."""
    running = tmp_path / "running"
    runner = terraform(tmp_path, f"touch {running}; sleep 600", mirror=tmp_path)
    faults: list[EnvironmentFault] = []

    def work() -> None:
        try:
            runner.apply(tmp_path)
        except EnvironmentFault as fault:
            faults.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    while not running.exists():
        time.sleep(0.01)
    runner.interrupt()
    thread.join(20)
    assert [fault.message.startswith(f"terraform apply of {tmp_path.name} failed") for fault in faults] == [True]


def test_a_plan_is_saved_and_shown_without_a_trace_in_the_log(tmp_path: Path) -> None:
    """`show` prints the contents of a state or plan, which does not belong in a log."""
    seen = tmp_path / "seen"
    runner = terraform(tmp_path, f'echo "$@" >> {seen}; echo \'{{"held":1}}\'', mirror=tmp_path)
    stack, plan = tmp_path / "tap-dev", tmp_path / "tap.plan"
    runner.plan(stack, saved=plan)
    assert [json.loads(runner.show(stack)), json.loads(runner.show(stack, plan))] == [{"held": 1}] * 2
    assert seen.read_text().splitlines() == [
        f"-chdir={stack} plan -input=false -parallelism=16 -out={plan} -json",
        f"-chdir={stack} show -no-color -json",
        f"-chdir={stack} show -no-color -json {plan}",
    ]
    assert "held" not in (tmp_path / "logs" / "terraform-tap-dev.log").read_text().partition("show")[2]
