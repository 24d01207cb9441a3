"""`fleet onboard --via aws-bulk`: against a service with AWS IoT's bulk registration, over the local AWS's S3."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.iot_service import Running, running
from benchmarks.onboarding import PLANT, SUFFIX, make_csrs, make_onboarding_project, python_path
from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.aws import LocalAws
from tests.operations.lists.builders import make_certificate, pem, quoted
from tests.operations.registry.site import asked_keys, keys_by_thing, thing_name

pytestmark = pytest.mark.local_aws

BUCKET = f"bucket-bench-raw-archive-{SUFFIX}"
BULK = ("--via", "aws-bulk")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """An S3 with the platform's archive."""
    started = emulator.start(folder=tmp_path_factory.mktemp("s3") / "local", region="ap-southeast-1")
    try:
        started.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "ap-southeast-1"}
        )
        yield started
    finally:
        emulator.stop(started)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A plant, the service and the S3."""

    project: Path
    service: Running
    local: LocalAws

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = self.service.environment(self.project.parent / "journals") | {
            "PYTHONPATH": python_path(self.project),
            "AWS_ENDPOINT_URL_S3": self.local.url,
            "AWS_CA_BUNDLE": str(self.local.authority),
            "AWS_ACCESS_KEY_ID": self.local.access_key,
            "AWS_SECRET_ACCESS_KEY": self.local.secret_key,
        }
        command = [sys.executable, "-m", "fleet_iot", "onboard", "--facility", PLANT, "--aws", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.project, env=environment, stdout=pipe, stderr=pipe, text=True)

    def onboard(self, *arguments: str, exit_code: int = 0) -> str:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        assert exit_code == process.returncode, f"{out}\n{err}"
        return out if exit_code == 0 else out + err

    def onboarded(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.onboard(*arguments, "--json", exit_code=exit_code).splitlines()[0])
        return result

    def uploads(self) -> list[str]:
        """The parameter files of this project's runs, newest last."""
        listed = self.local.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"bulk-registration/{PLANT}/")
        found = sorted(listed.get("Contents", ()), key=lambda each: each["LastModified"])
        return [str(each["Key"]) for each in found]


@pytest.fixture
def place(tmp_path: Path, local: LocalAws) -> Iterator[Place]:
    with at(tmp_path, local) as found:
        yield found


class at:  # noqa: N801 - reads like a function
    """A place with so many things; the service loses the answers of so many starts, and is so fast."""

    def __init__(
        self, folder: Path, local: LocalAws, *, things: int = 6, lose: float = 0.0, scale: float = 20.0
    ) -> None:
        self._project = make_onboarding_project(folder / "project", things=things)
        make_csrs(self._project)
        self._local = local
        self._service = running(
            scale=scale, lose=lose, s3=local.url, authority=local.authority, environment=local.environment()
        )

    def __enter__(self) -> Place:
        return Place(project=self._project, service=self._service.__enter__(), local=self._local)

    def __exit__(self, *error: Any) -> None:
        self._service.__exit__(*error)


@pytest.mark.slow
def test_one_task_registers_all(place: Place) -> None:
    """Each thing under its own key, with the policy on its certificate; no call a device is made from here."""
    told = json.loads(place.onboard(*BULK, "--dry-run", "--json"))
    assert (6, f"s3://{BUCKET}/bulk-registration/{PLANT}/") == (told["pairs"], told["upload"])
    assert {} == place.service.state()["calls"]
    result = place.onboarded(*BULK)
    assert (6, 0, None, []) == tuple(result[key] for key in ("onboarded", "failed", "ceiling", "orphans"))
    state = place.service.state()
    assert asked_keys(place.project) == keys_by_thing(state)
    assert 1 == result["calls"]["StartThingRegistrationTask"]
    assert {"CreateThing", "CreateCertificateFromCsr"}.isdisjoint(state["calls"])
    arns = sorted(each["certificateArn"] for each in state["certificates"].values())
    assert arns == state["policies"][f"policy-{PLANT}-press-{SUFFIX}"]
    assert 6 == place.onboarded(*BULK)["already"]
    key = place.uploads()[-1]
    lines = place.local.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()
    assert [thing_name(number) for number in range(1, 7)] == [json.loads(line)["ThingName"] for line in lines]


@pytest.mark.slow
def test_a_line_that_fails_is_a_row_to_run_again(place: Place) -> None:
    """With AWS IoT's reason, and the certificate that it has left behind; the other devices are done."""
    place_iot(place).create_thing(thingName=thing_name(2), attributePayload={"attributes": {"site": "elsewhere"}})
    result = place.onboarded(*BULK, exit_code=1)
    assert (5, 1, []) == (result["onboarded"], result["failed"], result["orphans"])
    failures = place.project / result["failures"]
    (reason,) = map(json.loads, (failures.parent / "reasons.jsonl").read_text().splitlines())
    assert (thing_name(2), True) == (reason["thing"], "is there already" in reason["reason"])
    assert reason["certificate_id"] in place.service.state()["certificates"]
    place_iot(place).delete_thing(thingName=thing_name(2))
    assert 1 == place.onboarded("--from", str(failures))["onboarded"]
    assert asked_keys(place.project) == keys_by_thing(place.service.state())


@pytest.mark.slow
def test_a_start_without_an_answer_is_found(tmp_path: Path, local: LocalAws) -> None:
    """By its parameter file: no second task, no second certificate. What was to be staged is inactive."""
    with at(tmp_path, local, lose=1.0) as place:
        assert "did not say whether it started" in place.onboard(*BULK, "--stage", exit_code=7)
        assert 6 == place.onboarded("--resume")["onboarded"]
        state = place.service.state()
        assert asked_keys(place.project) == keys_by_thing(state)
        assert 1 == state["calls"]["StartThingRegistrationTask"]
        assert {"INACTIVE"} == {each["status"] for each in state["certificates"].values()}
        assert {"activated": 6} == place.onboarded("--activate")


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path, local: LocalAws) -> None:
    """The task goes on without us; its reports are read when we are back."""
    with at(tmp_path, local, things=30, scale=1.0) as place:
        with place.start(*BULK) as process:
            wait_for_things(place, 1)
            process.kill()
        with place.start("--resume") as process:
            wait_for_things(place, 20)
            process.kill()
        assert 30 == place.onboarded("--resume")["onboarded"]
        assert asked_keys(place.project) == keys_by_thing(place.service.state())


@pytest.mark.slow
def test_a_task_that_is_stopped(tmp_path: Path, local: LocalAws) -> None:
    """Things that a stopped task has registered are kept, and the others are registered call by call."""
    with at(tmp_path, local, things=30, scale=0.3) as place:  # slowly: the task goes on until it is stopped
        with place.start(*BULK) as process:
            wait_for_things(place, 5)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert (7, True) == (process.returncode, "AWS IoT continues the bulk registration" in err)
        (task,) = place_iot(place).list_thing_registration_tasks(status="InProgress")["taskIds"]
        place_iot(place).stop_thing_registration_task(taskId=task)
        assert "is Cancelled" in place.onboard("--resume", exit_code=7)
        before = len(place.service.state()["things"])
        assert 5 <= before < 30
        result = place.onboarded("--resume", "--via", "api")
        assert (30, 30 - before) == (result["onboarded"], result["calls"]["CreateCertificateFromCsr"])
        assert asked_keys(place.project) == keys_by_thing(place.service.state())


def test_a_task_that_cannot_begin(place: Place, tmp_path: Path) -> None:
    """Another one runs; certificates are no CSRs; there is none on the local AWS: each says what to do."""
    path = tmp_path / "list.csv"
    path.write_text(f"name,certificate\n{thing_name(1)},{quoted(pem(make_certificate()))}\n")
    assert "use --via api" in place.onboard(*BULK, "--from", str(path), exit_code=2)
    template = (place.project / "lib" / "facilities" / "sg_01" / "bulk_registration_template.json").read_text()
    place.local.client("s3").put_object(Bucket=BUCKET, Key="other.jsonl", Body=b"{}\n" * 10_000)
    place_iot(place).start_thing_registration_task(
        templateBody=template,
        inputFileBucket=BUCKET,
        inputFileKey="other.jsonl",
        roleArn="arn:aws:iam::111122223333:role/other",
    )
    assert "one at a time" in place.onboard(*BULK, exit_code=7)
    command = [sys.executable, "-m", "fleet_iot", "onboard", "--facility", PLANT, *BULK]
    run = subprocess.run(command, cwd=place.project, capture_output=True, text=True, check=False)
    assert (2, True) == (run.returncode, "use --aws, or --via api" in run.stderr)


def wait_for_things(place: Place, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(place.service.state()["things"]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def place_iot(place: Place) -> Any:
    """A client of the service."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("iot", endpoint_url=place.service.url, region_name="ap-southeast-1", **keys)
