"""Onboard devices with AWS IoT's own bulk registration: upload parameters, start the task, read its reports.

The journal knows which devices a task was given before it is started. StartThingRegistrationTask has no idempotency
token, so a task whose start was not confirmed is found by its parameter file, whose name is unique. The run's later
steps ask AWS IoT for whatever a report leaves open.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import urllib3
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.names import BULK_REGISTRATION_ROLE, PlatformNames
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.calls import UnknownOutcomeError, code_of, message_of
from fleet_iot.operations.registry.journal import Journal, Step, Write
from fleet_iot.operations.registry.steps import (
    CLOCK_SKEW_S,
    SETTLE_S,
    Group,
    Meter,
    OnProgress,
    Work,
    pem_of,
    prepare_group,
    settle_certificates,
)
from fleet_iot.operations.registry.target import Target

TEMPLATE_FILE = "bulk_registration_template.json"
TEMPLATE_LIMIT = 10_240
"""Characters: https://docs.aws.amazon.com/iot/latest/apireference/API_StartThingRegistrationTask.html"""

PREFIX = "Attribute."
"""Before an attribute's name, in the name of its parameter."""
_OWN = ("facility", "serial")
"""Attributes that the template has already."""


def attributes_of(thing: ThingRow) -> tuple[str, ...]:
    """Return the names of the attributes to add to the template, the same for all devices of one task."""
    return tuple(sorted(thing.attributes.keys() - set(_OWN)))


def template_body(path: Path, attributes: Sequence[str], *, is_staged: bool) -> str:
    """Return the approved template with further attributes, and with certificates that are INACTIVE where devices are
    staged.

    Raises EnvironmentFault where there is none, RequestError where it would be longer than AWS IoT accepts.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise EnvironmentFault(
            f"{path} is missing or damaged", hint="run `fleet generate`, then review and commit it"
        ) from None
    payload = document["Resources"]["thing"]["Properties"]["AttributePayload"]
    for name in attributes:
        document["Parameters"][PREFIX + name] = {"Type": "String"}
        payload[name] = {"Ref": PREFIX + name}
    if is_staged:
        document["Resources"]["certificate"]["Properties"]["Status"] = "INACTIVE"
    body = json.dumps(document, separators=(",", ":"))
    if len(body) > TEMPLATE_LIMIT:
        raise RequestError(
            f"with all attributes of the things the template has {len(body)} characters, more than {TEMPLATE_LIMIT}",
            hint="onboard them with --via api",
        )
    return body


def parameter_line(thing: ThingRow, request: bytes, group: Group) -> bytes:
    """Return the parameters of one device; `request` is its CSR as DER. All values are strings."""
    parameters = {
        "ThingName": thing.name,
        "ThingTypeName": thing.thing_type,
        "ThingGroupName": group.thing_group,
        "PolicyName": group.policy,
        "SerialNumber": thing.serial,
        "CSR": pem_of(request, "CERTIFICATE REQUEST"),
        **{PREFIX + name: thing.attributes[name] for name in attributes_of(thing)},
    }
    return msgspec.json.encode(parameters) + b"\n"


# AWS does not document the report files. Its samples read `response.CertificatePem` and
# `response.ResourceArns.thing` of a result
# (https://github.com/aws-samples/aws-iot-device-management-workshop, bin/bulk-result.py); of an error only its
# line number is known. So every field may be missing here, and key names are compared without case.

_CHUNK = 1 << 16
_TIMEOUT_S = 60.0
_RETRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One line of a report: the line of the parameter file (from 1) or the thing that it is about, as far as it says;
    a result's certificate; an error's words."""

    line: int | None
    thing: str | None
    certificate_pem: str | None
    certificate_arn: str | None
    message: str


def read_report(lines: Iterator[bytes]) -> Iterator[Reported]:
    """Yield what the lines of a report say; one that is no JSON object says nothing."""
    for line in lines:
        try:
            described = _lowered(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if isinstance(described, dict):
            yield _reported(described, line)


def fetch_lines(url: str) -> Iterator[bytes]:
    """Yield the lines of the file behind a link. Raises EnvironmentFault where it does not come whole."""
    with _pool(url) as pool:
        rest = b""
        try:
            answer = pool.request("GET", url, preload_content=False, enforce_content_length=True)
            if answer.status != 200:
                raise EnvironmentFault(
                    f"a report of the bulk registration is not to be had: HTTP {answer.status}",
                    hint="go on with --resume: the links are signed again",
                )
            for chunk in answer.stream(_CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        except urllib3.exceptions.HTTPError as error:
            raise EnvironmentFault(
                f"a report of the bulk registration did not come whole: {error}", hint="go on with --resume"
            ) from None
        if rest:
            yield rest


def _pool(url: str) -> urllib3.PoolManager:
    """Use botocore's authorities and proxies: AWS_CA_BUNDLE, HTTPS_PROXY, NO_PROXY."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    authorities = os.environ.get("AWS_CA_BUNDLE") or None
    if proxy is None or urllib.request.proxy_bypass(parts.netloc):
        return urllib3.PoolManager(ca_certs=authorities, timeout=_TIMEOUT_S, retries=_RETRIES)
    return urllib3.ProxyManager(proxy, ca_certs=authorities, timeout=_TIMEOUT_S, retries=_RETRIES)


def _reported(described: dict[str, Any], line: bytes) -> Reported:
    response = described.get("response")
    response = response if isinstance(response, dict) else described
    arns = response.get("resourcearns")
    arns = arns if isinstance(arns, dict) else {}
    number, thing = described.get("linenumber"), _text(arns.get("thing")) or _text(described.get("thingname"))
    words = (_text(described.get(name)) for name in ("errormessage", "message", "error", "errorcode"))
    return Reported(
        line=int(str(number)) if str(number).isdigit() else None,
        thing=thing.rpartition("/")[2] if thing else None,
        certificate_pem=_text(response.get("certificatepem")),
        certificate_arn=_text(arns.get("certificate")),
        message=next((word for word in words if word), line.decode("utf-8", "replace").strip()),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name).lower(): _lowered(item) for name, item in value.items()}
    return value


_KEYS = """(SELECT coalesce(group_concat(key), '') FROM
    (SELECT key FROM json_each(CAST(line AS TEXT), '$.attributes') ORDER BY key))"""
"""A thing's attributes by name: those of one task are the same."""
_LEFT = f"""run = ? AND state = 'planned' AND certificate_id IS NULL AND NOT EXISTS
    (SELECT 1 FROM steps WHERE steps.thing = devices.thing AND step = '{Step.CERTIFICATE}') AND NOT EXISTS
    (SELECT 1 FROM task_lines WHERE task_lines.run = devices.run AND task_lines.thing = devices.thing)"""  # noqa: S608
"""Devices that a task can be given: one that was in a task is not given to another, but registered call by call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One bulk registration of a run: its parameter file in S3, and AWS IoT's id, None while unknown."""

    run: int
    part: int
    bucket: str
    key: str
    id: str | None
    begun: float


def open_task(journal: Journal, run: int) -> Task | None:
    """Return the run's task whose reports were not read yet."""
    query = "SELECT part, bucket, key, task, begun FROM tasks WHERE run = ? AND ended IS NULL"
    found = journal.read(query, run)
    if not found:
        return None
    part, bucket, key, id_, begun = found[0]
    return Task(run=run, part=part, bucket=bucket, key=key, id=id_, begun=begun)


def next_part(journal: Journal, run: int) -> tuple[int, str] | None:
    """Return the number of the run's next task and the attributes of its devices; None where no device is left for
    one."""
    found = journal.read(f"SELECT {_KEYS} FROM devices WHERE {_LEFT} ORDER BY thing LIMIT 1", run)  # noqa: S608
    if not found:
        return None
    ((last,),) = journal.read("SELECT coalesce(max(part), 0) FROM tasks WHERE run = ?", run)
    return int(last) + 1, str(found[0][0])


def intend(task: Task, attributes: str) -> tuple[Write, ...]:
    """Record the task and its lines before it is in AWS; each device may have a certificate from now on."""
    return (
        (
            "INSERT INTO tasks VALUES (?, ?, ?, ?, NULL, ?, NULL)",
            (task.run, task.part, task.bucket, task.key, task.begun),
        ),
        (
            f"""INSERT INTO task_lines SELECT run, ?, row_number() OVER (ORDER BY thing), thing
            FROM devices WHERE {_LEFT} AND {_KEYS} = ?""",  # noqa: S608 - our own words
            (task.part, task.run, attributes),
        ),
        (
            f"""INSERT INTO steps SELECT thing, '{Step.CERTIFICATE}', ?, NULL, lower(hex(fingerprint))
            FROM devices JOIN task_lines USING (run, thing) WHERE run = ? AND part = ?""",  # noqa: S608 - our own words
            (task.begun, task.run, task.part),
        ),
    )


def started(task: Task, task_id: str) -> Write:
    """Record AWS IoT's id of the task."""
    return "UPDATE tasks SET task = ? WHERE run = ? AND part = ?", (task_id, task.run, task.part)


def refused(task: Task) -> tuple[Write, ...]:
    """Record that the task was refused, and release its devices."""
    lines = "(SELECT thing FROM task_lines WHERE run = ? AND part = ?)"
    return (
        (
            f"DELETE FROM steps WHERE step = '{Step.CERTIFICATE}' AND ended IS NULL AND thing IN {lines}",  # noqa: S608
            (task.run, task.part),
        ),
        ("DELETE FROM task_lines WHERE run = ? AND part = ?", (task.run, task.part)),
        ("DELETE FROM tasks WHERE run = ? AND part = ?", (task.run, task.part)),
    )


def read_through(task: Task, *, at: float, is_complete: bool) -> tuple[Write, ...]:
    """Record that all reports of the task are in the journal; another task may register what it left undone."""
    ended: Write = ("UPDATE tasks SET ended = ? WHERE run = ? AND part = ?", (at, task.run, task.part))
    left: Write = (
        """DELETE FROM task_lines WHERE run = ? AND part = ?
        AND thing IN (SELECT thing FROM devices WHERE run = ? AND state = 'planned')""",
        (task.run, task.part, task.run),
    )
    return (ended,) if is_complete else (ended, left)


def lines_of(journal: Journal, task: Task) -> Iterator[tuple[ThingRow, bytes]]:
    """Yield each thing of the task and its CSR as DER, in the order of the lines; a slice at a time."""
    last, decode = 0, msgspec.json.Decoder(ThingRow).decode
    query = """SELECT task_lines.line, devices.line, der FROM task_lines JOIN devices USING (run, thing)
        WHERE run = ? AND part = ? AND task_lines.line > ? ORDER BY task_lines.line LIMIT 1000"""
    while found := journal.read(query, task.run, task.part, last):
        for number, line, der in found:
            yield decode(line), der
            last = number


def thing_of(journal: Journal, task: Task, *, line: int | None, thing: str | None) -> tuple[str, bytes] | None:
    """Return the thing that a report is about, and the digest of its key; None where it is none of the task's."""
    query = "SELECT thing, key FROM task_lines JOIN devices USING (run, thing) WHERE run = ? AND part = ? AND "
    if thing is not None:
        found = journal.read(f"{query} thing = ?", task.run, task.part, thing)
    else:
        found = journal.read(f"{query} task_lines.line = ?", task.run, task.part, line)
    return (str(found[0][0]), bytes(found[0][1])) if found else None


def failed(thing: str, *, reason: str, remedy: str) -> Write:
    """Fail the device, unless it turned out to be registered."""
    statement, values = entries.failed(thing, reason=reason, remedy=remedy)
    return f"{statement} AND state = 'planned'", values


_TOGETHER = 500
_THROTTLED = re.compile(r"throttl|rate exceeded|too ?many ?requests|limit ?exceeded", re.IGNORECASE)
"""A line that only came too fast is no failure: it is registered afterwards, call by call."""


def read_reports(work: Work, task: Task, task_id: str, sleep: Callable[[float], None], *, is_complete: bool) -> None:
    """Read the reports into the journal: devices that are done; then what was made and not reported; then failures."""
    writes: list[Write] = []
    for reported in _report(work, task_id, "RESULTS"):
        writes += _result(work, task, reported)
        if len(writes) >= _TOGETHER:
            work.journal.write(*writes)
            writes = []
    if writes:
        work.journal.write(*writes)
    settle_certificates(work, task.run, sleep=sleep)
    for reported in _report(work, task_id, "ERRORS"):
        found = thing_of(work.journal, task, line=reported.line, thing=reported.thing)
        if found is not None and not _THROTTLED.search(reported.message):
            reason = f"AWS IoT's bulk registration could not: {reported.message[:500]}"
            work.journal.write(failed(found[0], reason=reason, remedy="put that right and onboard the row again"))
    work.journal.write(*read_through(task, at=work.clock(), is_complete=is_complete))


def _report(work: Work, task_id: str, kind: str) -> Iterator[Reported]:
    """Yield the lines of all files of a report."""
    for page in work.calls.pages("ListThingRegistrationTaskReports", taskId=task_id, reportType=kind):
        for url in page.get("resourceLinks", ()):
            yield from read_report(fetch_lines(url))


def _result(work: Work, task: Task, reported: Reported) -> list[Write]:
    """Return the writes for a device reported as registered: done, if its certificate is of its key."""
    found = thing_of(work.journal, task, line=reported.line, thing=reported.thing)
    if found is None or reported.certificate_pem is None:
        return []
    thing, key = found
    certificate = x509.load_pem_x509_certificate(reported.certificate_pem.encode())
    certificate_id = certificate.fingerprint(hashes.SHA256()).hex()
    arn = reported.certificate_arn or ""
    if not arn.endswith(f"/{certificate_id}"):
        arn = work.calls.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"][
            "certificateArn"
        ]
    if key_digest(certificate.public_key()) != key:
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE")
        return [
            entries.orphan(certificate_id, thing=thing, at=work.clock()),
            entries.failed(
                thing,
                reason=f"AWS IoT attached the certificate {certificate_id}, which has another key than its CSR",
                remedy="it was made INACTIVE: delete it and the thing, and report it to AWS support",
            ),
        ]
    expires = certificate.not_valid_after_utc.timestamp()
    ended = work.journal.spent(key, certificate_id, certificate.public_bytes(Encoding.DER))
    if ended is not None:  # revoked or retired while AWS IoT's task went on
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE")
        reason = f"its key {ended.clause}; its certificate was made INACTIVE"
        return [
            entries.certificate(thing, certificate_id=certificate_id, arn=arn, status="INACTIVE", expires=expires),
            entries.end(thing, Step.CERTIFICATE, at=work.clock()),
            entries.failed(thing, reason=reason, remedy=ended.remedy),
        ]
    return [
        entries.certificate(thing, certificate_id=certificate_id, arn=arn, status=work.status, expires=expires),
        entries.end(thing, Step.CERTIFICATE, at=work.clock()),
        entries.done(thing),
    ]


ENDED = ("Completed", "Failed", "Cancelled")
FIRST_POLL_S, LONGEST_POLL_S = 0.5, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPlace:
    """A facility's bucket and prefix for parameter files, the role that reads them, and the template.

    `folder` keeps the files on this machine; `asks_to_stop` is called on an interrupt.
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
    """Register the run's devices by one task after the other (an account runs one at a time), until none is left.

    Without `starts`, only the one that was begun before is seen to its end. Raises EnvironmentFault for what stops all.
    """
    task_id: str | None = None
    meter = Meter(total=work.journal.count(run).get("planned", 0))
    task = open_task(work.journal, run)
    if task is None:
        settle_certificates(work, run, sleep=sleep)
    else:
        task_id = task.id or _find(work, task, sleep)
        if task_id is None and not starts:
            work.journal.write(*refused(task))
            return
    while task is not None or (starts and (task := _next(work, run, place)) is not None):
        task_id = task_id or _start(work, task, place)
        described = _watch(work, task_id, place, meter, on_progress, sleep)
        read_reports(work, task, task_id, sleep, is_complete=described["status"] == "Completed")
        if described["status"] != "Completed":
            raise EnvironmentFault(
                f"AWS IoT's bulk registration {task_id} is {described['status']}: "
                f"{described.get('message') or 'no reason'}",
                hint="what it did is in the journal; go on with --resume, or with --resume --via api",
            )
        task = task_id = None


def _next(work: Work, run: int, place: BulkPlace) -> Task | None:
    """Record and return the next task; not while another one runs in the account."""
    found = next_part(work.journal, run)
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
    work.journal.write(*intend(task, attributes))
    return task


def _find(work: Work, task: Task, sleep: Callable[[float], None]) -> str | None:
    """Return the task that an earlier try started without hearing of it."""
    sleep(SETTLE_S)
    for page in work.calls.pages("ListThingRegistrationTasks", maxResults=250):
        for task_id in page["taskIds"]:
            described = work.calls.call("DescribeThingRegistrationTask", taskId=task_id)
            is_old = described["creationDate"].timestamp() < task.begun - CLOCK_SKEW_S
            if not is_old and (described["inputFileBucket"], described["inputFileKey"]) == (task.bucket, task.key):
                work.journal.write(started(task, task_id))
                return str(task_id)
    return None


def _start(work: Work, task: Task, place: BulkPlace) -> str:
    """Upload the parameters and start the task; its id is in the journal when this returns."""
    path = place.folder / f"part-{task.part}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes: tuple[str, ...] = ()
    with path.open("wb") as file:
        for thing, request in lines_of(work.journal, task):
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
        work.journal.write(*refused(task))
        raise EnvironmentFault(
            f"AWS refuses the bulk registration: {code_of(error)}: {message_of(error)}",
            hint="apply the platform's stack (it makes role and bucket), see docs/onboarding.md, then --resume",
        ) from None
    except (BotoCoreError, S3UploadFailedError) as error:
        raise EnvironmentFault(
            f"the parameter file did not get to s3://{task.bucket}/{task.key}: {error}",
            hint="apply the platform's stack, check rights and network, then go on with --resume",
        ) from None
    work.journal.write(started(task, made["taskId"]))
    return str(made["taskId"])


def _watch(
    work: Work, task_id: str, place: BulkPlace, meter: Meter, on_progress: OnProgress, sleep: Callable[[float], None]
) -> dict[str, Any]:
    """Wait until the task has ended, and return its description."""
    pause, done, failed = FIRST_POLL_S, meter.done, meter.failed
    while True:
        try:
            described = work.calls.call("DescribeThingRegistrationTask", taskId=task_id)
            meter.done, meter.failed = (
                done + described.get("successCount", 0),
                failed + described.get("failureCount", 0),
            )
            on_progress(meter)
            if described["status"] in ENDED:
                return described
            sleep(pause)
            pause = min(LONGEST_POLL_S, pause * 1.5)
        except KeyboardInterrupt:
            if not place.asks_to_stop():
                raise EnvironmentFault(
                    f"AWS IoT continues the bulk registration {task_id}", hint="its reports are read with --resume"
                ) from None
            with suppress(ClientError):  # it has ended meanwhile
                work.calls.call("StopThingRegistrationTask", taskId=task_id)


def platform_names(project: Project, account: str) -> PlatformNames:
    """Return the platform as its stack names it in this account; `account` as `<id>/<region>`."""
    account_id, _, region = account.partition("/")
    return replace(project.names, account_id=account_id, region=region)


def upload_url(project: Project, facility: FacilitySpec, account: str) -> str:
    """Return the URL prefix of the facility's parameter files."""
    names = platform_names(project, account)
    return f"s3://{names.raw_archive}/{names.bulk_registration_prefix(facility.id)}"


def place_of(
    project: Project, facility: FacilitySpec, target: Target, run: int, *, asks_to_stop: Callable[[], bool]
) -> BulkPlace:
    """Return the facility's place. Raises EnvironmentFault for the local AWS, which has no bulk registration."""
    if target.s3 is None:
        raise EnvironmentFault(
            "the local AWS has no bulk registration of AWS IoT's own", hint="use --via api, or --aws"
        )
    names = platform_names(project, target.account)
    return BulkPlace(
        s3=target.s3,
        bucket=names.raw_archive,
        prefix=names.bulk_registration_prefix(facility.id),
        role_arn=names.role_arn(BULK_REGISTRATION_ROLE),
        template=project.record / facility.module / TEMPLATE_FILE,
        folder=project.build / "onboarding" / facility.id / f"run-{run}",
        asks_to_stop=asks_to_stop,
    )
