"""Bulk registration as AWS documents it: one task at a time reads its file from S3, registers line by line, reports.

https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html; of what AWS does not say, the worst is
done: a line that fails leaves the certificate that was made for it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from benchmarks.iot_service.registry import ACCOUNT, REGION, Registry, ServiceError

TEMPLATE_LIMIT = 10_240
LINE_LIMIT = 256 * 1024
_BUCKET, _KEY = re.compile(r"[a-zA-Z0-9._-]{3,256}"), re.compile(r"[a-zA-Z0-9!_.*'()\-/]{1,1024}")
_TYPES = {"AWS::IoT::Thing", "AWS::IoT::Certificate", "AWS::IoT::Policy"}
_LINK_S = 3_600


class Registrations:
    """The account's bulk registrations; `s3` is where their files lie, `pace` how many lines a second they do."""

    def __init__(self, registry: Registry, *, s3: Any, pace: float) -> None:
        self._registry, self._s3, self._pace = registry, s3, pace
        self._tasks: dict[str, dict[str, Any]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def start(self, body: dict[str, Any]) -> dict[str, Any]:
        template = _template(str(body["templateBody"]))
        if not _BUCKET.fullmatch(body["inputFileBucket"]) or not _KEY.fullmatch(body["inputFileKey"]):
            raise ServiceError("InvalidRequestException", 400, "bucket or key is not valid")
        if not str(body["roleArn"]).startswith(f"arn:aws:iam::{ACCOUNT}:role/"):
            raise ServiceError("InvalidRequestException", 400, "the role is not of this account")
        if self.ids("InProgress")["taskIds"]:
            raise ServiceError("InvalidRequestException", 400, "a bulk registration runs already in this account")
        task = {
            "taskId": str(uuid.uuid4()),
            "creationDate": time.time(),
            "status": "InProgress",
            "successCount": 0,
            "failureCount": 0,
            "percentageProgress": 0,
            **body,
        }
        self._tasks[task["taskId"]] = task
        running = asyncio.get_running_loop().create_task(self._run(task, template))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return {"taskId": task["taskId"]}

    def ids(self, status: str | None) -> dict[str, Any]:
        return {"taskIds": [id_ for id_, task in self._tasks.items() if status in (None, task["status"])]}

    def describe(self, task_id: str) -> dict[str, Any]:
        return {name: value for name, value in self._task(task_id).items() if name != "reports"}

    def stop(self, task_id: str) -> dict[str, Any]:
        task = self._task(task_id)
        if task["status"] != "InProgress":
            raise ServiceError("InvalidRequestException", 400, f"the task is {task['status']}")
        task["status"] = "Cancelling"
        return {}

    def reports(self, task_id: str, kind: str) -> dict[str, Any]:
        return {"resourceLinks": self._task(task_id).get("reports", {}).get(kind, []), "reportType": kind}

    def _task(self, task_id: str) -> dict[str, Any]:
        if task_id not in self._tasks:
            raise ServiceError("ResourceNotFoundException", 404, f"There is no task {task_id}")
        return self._tasks[task_id]

    async def _run(self, task: dict[str, Any], template: dict[str, Any]) -> None:
        try:
            lines = (await asyncio.to_thread(self._fetch, task)).splitlines()
        except Exception as error:
            task.update(status="Failed", message=f"cannot read the input file: {error}")
            return
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            await asyncio.sleep(1 / self._pace)
            if task["status"] == "Cancelling":
                break
            place = {"lineNumber": number, "offset": 0}
            try:
                results.append({**place, "response": self._register(template, line)})
            except (ServiceError, ValueError, KeyError) as error:
                errors.append({**place, "errorMessage": f"{type(error).__name__}: {error}"})
            task.update(successCount=len(results), failureCount=len(errors))
            task["percentageProgress"] = 100 * number // len(lines)
        task["reports"] = await asyncio.to_thread(self._keep, task, {"RESULTS": results, "ERRORS": errors})
        task["status"] = "Cancelled" if task["status"] == "Cancelling" else "Completed"

    def _fetch(self, task: dict[str, Any]) -> bytes:
        found = self._s3.get_object(Bucket=task["inputFileBucket"], Key=task["inputFileKey"])
        return bytes(found["Body"].read())

    def _keep(self, task: dict[str, Any], reports: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
        """Links to the reports; AWS keeps them in a bucket of its own."""
        links: dict[str, list[str]] = {}
        for kind, lines in reports.items():
            if lines:
                place = {"Bucket": task["inputFileBucket"], "Key": f"reports/{task['taskId']}/{kind}.jsonl"}
                text = "".join(json.dumps(line) + "\n" for line in lines)
                self._s3.put_object(**place, Body=text.encode())
                links[kind] = [self._s3.generate_presigned_url("get_object", Params=place, ExpiresIn=_LINK_S)]
        return links

    def _register(self, template: dict[str, Any], line: bytes) -> dict[str, Any]:
        """RegisterThing's answer. Raises for a line that cannot be."""
        if len(line) > LINE_LIMIT:
            raise ValueError("the line is too long")
        given = json.loads(line)
        if not all(isinstance(value, str) for value in given.values()):
            raise ValueError("a parameter is no string")
        resources = {
            resource["Type"]: _resolved(resource, given, template["Parameters"])
            for resource in template["Resources"].values()
        }
        kept = self._registry
        certificate = resources["AWS::IoT::Certificate"]["Properties"]
        made = kept.create_certificate(
            certificate["CertificateSigningRequest"], is_active=certificate["Status"] == "ACTIVE"
        )
        thing = resources["AWS::IoT::Thing"]
        wanted = thing["Properties"]
        name, arn = wanted["ThingName"], made["certificateArn"]
        if name in kept.things and thing["OverrideSettings"]["AttributePayload"] == "FAIL":
            raise ServiceError("ResourceConflictException", 409, f"Thing {name} is there already")
        body = {
            "attributePayload": {"attributes": wanted["AttributePayload"]},
            "thingTypeName": wanted["ThingTypeName"],
        }
        kept.create_thing(name, body)
        for group in wanted["ThingGroups"]:
            kept.add_to_group(name, kept.describe_group(group)["thingGroupName"])
        policy = resources["AWS::IoT::Policy"]["Properties"]["PolicyName"]
        kept.attach_policy(policy, arn)
        kept.attach(name, arn)
        arns = {"thing": f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/{name}", "certificate": arn, "policy": policy}
        return {"CertificatePem": made["certificatePem"], "ResourceArns": arns}


def _template(body: str) -> dict[str, Any]:
    """The template. Raises ServiceError as AWS IoT refuses it."""
    try:
        template: dict[str, Any] = json.loads(body)
        types = {resource["Type"] for resource in template["Resources"].values()}
        unknown = set(_references(template["Resources"])) - template["Parameters"].keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ServiceError("InvalidRequestException", 400, "the template is not valid") from None
    if len(body) > TEMPLATE_LIMIT or types != _TYPES or unknown or "Fn::" in body:
        raise ServiceError("InvalidRequestException", 400, f"the template is not valid: {sorted(unknown)}")
    return template


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"Ref"}:
            yield value["Ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _resolved(value: Any, given: dict[str, str], declared: dict[str, Any]) -> Any:
    """The value with parameters in the places of its references."""
    if isinstance(value, dict):
        if set(value) == {"Ref"}:
            name = value["Ref"]
            return given[name] if name in given else declared[name]["Default"]
        return {name: _resolved(item, given, declared) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, given, declared) for item in value]
    return value
