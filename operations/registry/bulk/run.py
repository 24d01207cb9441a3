"""Has AWS IoT itself register a run's devices: uploads their parameters, starts the task, and watches it.

Which devices a task was given is in the journal before it is started. StartThingRegistrationTask has no token that
would keep a second one from being made, so a task whose start was never heard of is looked for by its parameter file,
whose name no other has. What a report leaves open, the run's later steps find out from AWS IoT.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.registry.bulk import tasks
from fleet_iot.operations.registry.bulk.parameters import attributes_of, parameter_line, template_body
from fleet_iot.operations.registry.bulk.reading import read_reports
from fleet_iot.operations.registry.bulk.tasks import Task
from fleet_iot.operations.registry.calls import UnknownOutcomeError, code_of, message_of
from fleet_iot.operations.registry.orphans import CLOCK_SKEW_S, SETTLE_S, settle_certificates
from fleet_iot.operations.registry.run import Meter, OnProgress, prepare_group
from fleet_iot.operations.registry.steps import Work

ENDED = ("Completed", "Failed", "Cancelled")
FIRST_POLL_S, LONGEST_POLL_S = 0.5, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlace:
    """Where a facility's parameter files lie, with which role AWS IoT reads them, and which template it gets.

    `folder` keeps the files on this machine; `asks_to_stop` is asked when somebody interrupts.
    """

    s3: Any
    bucket: str
    prefix: str
    role_arn: str
    template: Path
    folder: Path
    asks_to_stop: Callable[[], bool]


def run_tasks(
    work: Work,
    run: int,
    place: BulkPlace,
    *,
    on_progress: OnProgress,
    starts: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Registers the run's devices by one task after the other (an account runs one at a time), until none is left.

    Without `starts`, only the one that was begun before is seen to its end. Raises EnvironmentFault for what stops all.
    """
    task_id: str | None = None
    meter = Meter(total=work.journal.count(run).get("planned", 0))
    task = tasks.open_task(work.journal, run)
    if task is None:
        settle_certificates(work, run, sleep=sleep)
    else:
        task_id = task.id or _find(work, task, sleep)
        if task_id is None and not starts:
            work.journal.write(*tasks.refused(task))
            return
    while task is not None or (starts and (task := _next(work, run, place)) is not None):
        task_id = task_id or _start(work, task, place)
        told = _watch(work, task_id, place, meter, on_progress, sleep)
        read_reports(work, task, task_id, sleep, is_complete=told["status"] == "Completed")
        if told["status"] != "Completed":
            raise EnvironmentFault(
                f"AWS IoT's bulk registration {task_id} is {told['status']}: {told.get('message') or 'no reason'}",
                hint="what it did is in the journal; go on with --resume, or with --resume --via api",
            )
        task = task_id = None


def _next(work: Work, run: int, place: BulkPlace) -> Task | None:
    """The next task, in the journal; not while another one runs in the account."""
    found = tasks.next_part(work.journal, run)
    if found is None:
        return None
    for group in work.groups.values():
        prepare_group(work, group, policy_on=work.policy_on)
    running = work.calls.call("ListThingRegistrationTasks", status="InProgress")["taskIds"]
    if running:
        raise EnvironmentFault(
            f"AWS IoT runs the bulk registration {running[0]} in this account, and one at a time",
            hint="wait for it, then go on with --resume; or --resume --via api",
        )
    part, attributes = found
    key = f"{place.prefix}run-{run}-part-{part}-{uuid.uuid4()}.jsonl"
    task = Task(run=run, part=part, bucket=place.bucket, key=key, id=None, begun=work.clock())
    work.journal.write(*tasks.intend(task, attributes))
    return task


def _find(work: Work, task: Task, sleep: Callable[[float], None]) -> str | None:
    """The task that an earlier try started without hearing of it."""
    sleep(SETTLE_S)
    token: dict[str, str] = {}
    while True:
        page = work.calls.call("ListThingRegistrationTasks", maxResults=250, **token)
        for task_id in page["taskIds"]:
            told = work.calls.call("DescribeThingRegistrationTask", taskId=task_id)
            is_old = told["creationDate"].timestamp() < task.begun - CLOCK_SKEW_S
            if not is_old and (told["inputFileBucket"], told["inputFileKey"]) == (task.bucket, task.key):
                work.journal.write(tasks.started(task, task_id))
                return str(task_id)
        if not page.get("nextToken"):
            return None
        token = {"nextToken": page["nextToken"]}


def _start(work: Work, task: Task, place: BulkPlace) -> str:
    """Uploads the parameters and starts the task; its id is in the journal when this returns."""
    path = place.folder / f"part-{task.part}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes: tuple[str, ...] = ()
    with path.open("wb") as file:
        for thing, request in tasks.lines_of(work.journal, task):
            attributes = attributes_of(thing)
            file.write(parameter_line(thing, request, work.groups[thing.device_type]))
    body = template_body(place.template, attributes, is_staged=work.is_staged)
    try:
        place.s3.upload_file(str(path), task.bucket, task.key)
        made = work.calls.call_once(
            "StartThingRegistrationTask",
            templateBody=body,
            inputFileBucket=task.bucket,
            inputFileKey=task.key,
            roleArn=place.role_arn,
        )
    except UnknownOutcomeError as error:
        raise EnvironmentFault(
            f"AWS IoT did not say whether it started the bulk registration: {error}", hint="go on with --resume"
        ) from None
    except ClientError as error:
        work.journal.write(*tasks.refused(task))
        raise EnvironmentFault(
            f"AWS refuses the bulk registration: {code_of(error)}: {message_of(error)}",
            hint="apply the platform's stack (it makes role and bucket), see docs/onboarding.md, then --resume",
        ) from None
    except (BotoCoreError, S3UploadFailedError) as error:
        raise EnvironmentFault(
            f"the parameter file did not get to s3://{task.bucket}/{task.key}: {error}",
            hint="apply the platform's stack, check rights and network, then go on with --resume",
        ) from None
    work.journal.write(tasks.started(task, made["taskId"]))
    return str(made["taskId"])


def _watch(
    work: Work,
    task_id: str,
    place: BulkPlace,
    meter: Meter,
    on_progress: OnProgress,
    sleep: Callable[[float], None],
) -> dict[str, Any]:
    """What AWS IoT says of the task once it has ended."""
    pause, done, failed = FIRST_POLL_S, meter.done, meter.failed
    while True:
        try:
            told = work.calls.call("DescribeThingRegistrationTask", taskId=task_id)
            meter.done, meter.failed = done + told.get("successCount", 0), failed + told.get("failureCount", 0)
            on_progress(meter)
            if told["status"] in ENDED:
                return told
            sleep(pause)
            pause = min(LONGEST_POLL_S, pause * 1.5)
        except KeyboardInterrupt:
            if not place.asks_to_stop():
                raise EnvironmentFault(
                    f"AWS IoT goes on with the bulk registration {task_id}", hint="its reports are read with --resume"
                ) from None
            with suppress(ClientError):  # it has ended meanwhile
                work.calls.call("StopThingRegistrationTask", taskId=task_id)
