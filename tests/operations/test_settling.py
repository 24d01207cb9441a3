"""Which of Terraform's errors are AWS's slowness, and how apply and destroy get over them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet_iot.operations.terraform import (
    ProviderSource,
    Terraform,
    TerraformError,
    TerraformFault,
    Unsettled,
    unsettled,
)

CERTIFICATE = f"arn:aws:iot:ap-southeast-1:000000000000:cert/{'be35' * 16}"
EARLY = f"reading IoT Thing Principal Attachment (sg-01-a-0001-dev|{CERTIFICATE}): empty result"
EARLY_POLICY = f"reading IoT Policy Attachment (policy-a|{CERTIFICATE}): empty result"
AT = "https response error StatusCode: 400, RequestID: 7b7c6303-8b49"
THING = f"deleting IoT Thing (a): operation error IoT: DeleteThing, {AT}, InvalidRequestException: Cannot delete. "
THING += "Thing a is still attached to one or more principals"
CERT = f"deleting IoT Certificate (be35): operation error IoT: DeleteCertificate, {AT}, "
CERT += f"DeleteConflictException: Things must be detached before deletion (arn: {CERTIFICATE})"
POLICY = f"deleting IoT Policy (p): operation error IoT: DeletePolicy, {AT}, DeleteConflictException: "
POLICY += "Cannot delete the policy because it is attached to one or more principals"

OTHERS = [
    f"creating IoT Thing Principal Attachment (a|{CERTIFICATE}): ResourceNotFoundException: no such thing",
    f"reading IoT Thing Principal Attachment (a|{CERTIFICATE}): AccessDeniedException: not authorized",
    "reading IoT Thing (a): empty result",
    "reading IoT Certificate (be35): couldn't find resource",
    f"deleting IoT Thing (a): operation error IoT: DeleteThing, {AT}, InvalidRequestException: bad name",
    f"creating IoT Thing (a): operation error IoT: CreateThing, {AT}, LimitExceededException: Throttling: too many",
    f"creating IAM Role (a): operation error IAM: CreateRole, {AT}, api error AccessDenied: not authorized",
    f"creating IoT Policy (a): operation error IoT: CreatePolicy, {AT}, MalformedPolicyException: Throttling: x",
    f"creating IoT Policy (a): operation error IoT: CreatePolicy, {AT}, ResourceAlreadyExistsException: it exists",
    "creating IAM Role (a): ThrottlingException: said by no service",
    "deleting S3 Bucket (b): operation error S3: DeleteBucket, DeleteConflictException: must be detached",
]


def error(summary: str, *, address: str = "aws_iot_thing_principal_attachment.a", detail: str = "") -> TerraformError:
    return TerraformError(address=address, summary=summary, detail=detail)


def test_what_aws_has_not_finished_is_recognised() -> None:
    """Attachments read back too early, with what Terraform has marked for them, and what still counts as attached."""
    expected = Unsettled(
        tainted=("aws_iot_thing_principal_attachment.a", "aws_iot_policy_attachment.a"),
        said="1 x Policy Attachment read back too early, 1 x Thing Principal Attachment read back too early",
    )
    assert expected == unsettled([error(EARLY), error(EARLY_POLICY, address="aws_iot_policy_attachment.a")])
    late = [error(text, address="") for text in (THING, CERT, CERT, POLICY)]
    said = "2 x Certificate not yet detached, 1 x Policy not yet detached, 1 x Thing not yet detached"
    assert Unsettled(tainted=(), said=said) == unsettled(late)


@pytest.mark.parametrize("separator", ["", "api error "])
@pytest.mark.parametrize(
    "code",
    ["ThrottlingException", "TooManyRequestsException", "ConcurrentModification", "SlowDown", "InternalFailure"],
)
def test_what_aws_asks_to_repeat_is_recognised(code: str, separator: str) -> None:
    """The error's code decides, for services with modelled errors and for others."""
    text = f"creating IAM Role (a): operation error IAM: CreateRole, exceeded maximum number of attempts, 25, {AT}, "
    assert Unsettled(tainted=(), said=f"1 x {code}") == unsettled([error(f"{text}{separator}{code}: wait")])
    with_host = f"creating S3 Bucket (a): operation error S3: CreateBucket, {AT}, HostID: x/y=, api error {code}: wait"
    assert unsettled([error(with_host)]) is not None


@pytest.mark.parametrize("text", OTHERS)
def test_nothing_else_is(text: str) -> None:
    """Any other error, beside one of these too, is not tried again; nor is a failure without an error."""
    assert unsettled([error(text)]) is None
    assert unsettled([error(EARLY), error(text)]) is None
    assert unsettled([]) is None


def terraform(tmp_path: Path, *, failures: list[list[dict[str, str]]]) -> tuple[Terraform, list[float]]:
    """A stand-in that fails as scripted, run by run, and keeps a state; and the pauses that were made."""
    binary, slept = tmp_path / "terraform", []
    for number, errors in enumerate(failures):
        events = [{"@message": "x", "diagnostic": {"severity": "error", **each}} for each in errors]
        (tmp_path / f"run-{number}").write_text("\n".join(json.dumps(event) for event in events) + "\n")
    binary.write_text(
        f"""#!/bin/sh
cd {tmp_path}; shift; echo "$@" >> calls
case "$1 $2" in
"state pull") cat state; exit;;
"state push") cat > pushed; exit;;
esac
n=$(ls | grep -c done-); touch done-$n
[ -e run-$n ] || exit 0
cat run-$n; exit 1
"""
    )
    binary.chmod(0o755)
    made = Terraform(
        binary=binary,
        provider=ProviderSource(mirror=tmp_path, is_packed=False, said=""),
        environment={"PATH": "/usr/bin:/bin"},
        logs=tmp_path / "logs",
        pauses=(1.0, 2.0),
        sleep=slept.append,
    )
    return made, slept


def state(*instances: dict[str, str]) -> str:
    resource = {"mode": "managed", "type": "aws_iot_thing_principal_attachment", "name": "a"}
    return json.dumps({"version": 4, "serial": 7, "lineage": "x", "resources": [{**resource, "instances": instances}]})


def test_an_apply_is_run_again_and_attachments_are_kept(tmp_path: Path) -> None:
    """An attachment read too early loses its mark, so that it is not made again; each new try is reported."""
    runner, slept = terraform(
        tmp_path, failures=[[{"summary": EARLY, "address": "aws_iot_thing_principal_attachment.a"}]]
    )
    (tmp_path / "state").write_text(state({"status": "tainted", "id": "a"}))
    said: list[str] = []
    runner.apply(tmp_path / "facility-a", say=said.append)
    line = "facility-a: apply again in 1 s, after: 1 x Thing Principal Attachment read back too early"
    assert ([line], [1.0]) == (said, slept)
    assert line in (tmp_path / "logs" / "terraform-facility-a.log").read_text()
    assert {**json.loads(state({"id": "a"})), "serial": 8} == json.loads((tmp_path / "pushed").read_text())


def test_a_mark_of_another_resource_stays(tmp_path: Path) -> None:
    """Only what these errors name is kept; what is broken is made again."""
    runner, _ = terraform(tmp_path, failures=[[{"summary": EARLY, "address": "aws_iot_thing_principal_attachment.b"}]])
    (tmp_path / "state").write_text(state({"status": "tainted", "id": "a"}))
    runner.apply(tmp_path / "facility-a")
    assert "tainted" in (tmp_path / "pushed").read_text()


def test_a_destroy_is_run_again_and_not_for_ever(tmp_path: Path) -> None:
    """After the last pause the fault is raised, with every error in it."""
    runner, slept = terraform(tmp_path, failures=[[{"summary": THING}, {"summary": CERT}]] * 3)
    with pytest.raises(TerraformFault) as fault:
        runner.destroy(tmp_path / "facility-a")
    assert ([1.0, 2.0], [THING, CERT]) == (slept, [each.summary for each in fault.value.errors])
    assert 3 == len((tmp_path / "calls").read_text().splitlines())


def test_any_other_error_ends_it_at_once(tmp_path: Path) -> None:
    """No second run, however many of the others there are; the message names it, and not one of those."""
    runner, slept = terraform(tmp_path, failures=[[{"summary": THING}, {"summary": "deleting IoT Thing (b): denied"}]])
    with pytest.raises(TerraformFault, match=r"of facility-a failed: deleting IoT Thing \(b\): denied \(and 1 more\)"):
        runner.destroy(tmp_path / "facility-a")
    assert ([], 1) == (slept, len((tmp_path / "calls").read_text().splitlines()))


def test_an_interrupted_one_is_not_run_again(tmp_path: Path) -> None:
    """Ctrl-C during a pause ends it."""
    runner, _ = terraform(tmp_path, failures=[[{"summary": THING}]])
    runner._sleep = lambda _: runner.interrupt()  # type: ignore[method-assign,assignment]
    with pytest.raises(Exception, match="destroy of facility-a was interrupted"):
        runner.destroy(tmp_path / "facility-a")
    assert 1 == len((tmp_path / "calls").read_text().splitlines())
