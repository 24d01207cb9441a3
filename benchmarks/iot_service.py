"""An AWS IoT that enforces its quotas, for benchmarks and tests; a process of its own on loopback.

`python -m benchmarks.iot_service --scale S` speaks the REST shapes of what onboarding calls, throttles each API by a
token bucket of one second's burst, and signs certificates from CSRs. It prints its port and ends with its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_iot.generator.diff.calls import QUOTAS

ACCOUNT = "111122223333"
REGION = "ap-southeast-1"
_ARN = f"arn:aws:iot:{REGION}:{ACCOUNT}:"


class ServiceError(Exception):
    """An error as AWS IoT answers it."""

    def __init__(self, code: str, status: int, message: str, **more: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.body = {"message": message, **more}


class Registry:
    """One account's devices."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Any]] = {}
        self.certificates: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, set[str]] = {}
        self.tasks: Any = None
        """The account's bulk registrations, where it has any."""
        self._allowed: int | None = None
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a service of the benchmark")])
        self._start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        self._end = datetime.datetime(2049, 12, 31, tzinfo=datetime.UTC)

    def create_thing(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """As AWS; but `refuse-after-N-things` removes the permission after N more, and `refuse-no-more` restores it."""
        if name.startswith("refuse-"):
            parts = name.split("-")
            self._allowed = len(self.things) + int(parts[2]) if parts[1] == "after" else None
            return {"thingName": name}
        if self._allowed is not None and len(self.things) >= self._allowed:
            raise ServiceError("AccessDeniedException", 403, "not authorized to perform: iot:CreateThing")
        config = (body.get("thingTypeName"), body.get("attributePayload", {}).get("attributes", {}))
        known = self.things.setdefault(name, {"config": config, "principals": [], "groups": []})
        if known["config"] != config:
            raise ServiceError("ResourceAlreadyExistsException", 409, f"Thing {name} exists with another configuration")
        return {"thingName": name, "thingArn": f"{_ARN}thing/{name}", "thingId": name}

    def create_certificate(self, request: str, *, is_active: bool) -> dict[str, Any]:
        csr = x509.load_pem_x509_csr(request.encode())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self._name)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._start)
            .not_valid_after(self._end)
            .sign(self._key, hashes.SHA256())
        )
        return self._keep(certificate, "ACTIVE" if is_active else "INACTIVE")

    def register_certificate(self, pem: str, status: str) -> dict[str, Any]:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        found = certificate.fingerprint(hashes.SHA256()).hex()
        if found in self.certificates:
            raise ServiceError("ResourceAlreadyExistsException", 409, "The certificate exists", resourceId=found)
        return self._keep(certificate, status)

    def describe_certificate(self, certificate_id: str) -> dict[str, Any]:
        return {"certificateDescription": self._certificate(certificate_id)}

    def update_certificate(self, certificate_id: str, status: str) -> dict[str, Any]:
        """As AWS: what was revoked stays so."""
        certificate = self._certificate(certificate_id)
        if certificate["status"] == "REVOKED" and status != "REVOKED":
            raise ServiceError("CertificateStateException", 406, "The certificate is revoked")
        certificate["status"] = status
        return {}

    def list_certificates(self, size: int, marker: str) -> dict[str, Any]:
        """Newest first."""
        ids = list(self.certificates)[::-1]
        start = int(marker or 0)
        wanted = ("certificateArn", "certificateId", "status", "creationDate")
        page = [{name: self.certificates[id_][name] for name in wanted} for id_ in ids[start : start + size]]
        more = {"nextMarker": str(start + size)} if start + size < len(ids) else {}
        return {"certificates": page, **more}

    def attach(self, thing: str, principal: str) -> dict[str, Any]:
        self._certificate(principal.rpartition("/")[2])
        principals = self._thing(thing)["principals"]
        if principal not in principals:
            principals.append(principal)
        return {}

    def principals(self, thing: str) -> dict[str, Any]:
        return {"principals": self._thing(thing)["principals"]}

    def things_of(self, principal: str) -> dict[str, Any]:
        return {"things": [name for name, thing in self.things.items() if principal in thing["principals"]]}

    def add_to_group(self, thing: str, group: str) -> dict[str, Any]:
        groups = self._thing(thing)["groups"]
        if group not in groups:
            groups.append(group)
        return {}

    def attach_policy(self, policy: str, target: str) -> dict[str, Any]:
        self.policies.setdefault(policy, set()).add(target)
        return {}

    def describe_group(self, name: str) -> dict[str, Any]:
        """Describe a group: every one exists whose name the project makes."""
        if not name.startswith("thing-group-"):
            raise ServiceError("ResourceNotFoundException", 404, f"There is no thing group {name}")
        return {"thingGroupName": name, "thingGroupArn": f"{_ARN}thinggroup/{name}", "thingGroupId": name}

    def describe_thing(self, name: str) -> dict[str, Any]:
        thing_type, attributes = self._thing(name)["config"]
        return {"thingName": name, "thingTypeName": thing_type, "attributes": attributes}

    def delete_thing(self, name: str) -> dict[str, Any]:
        if self.things.get(name, {}).get("principals"):
            raise ServiceError("InvalidRequestException", 400, f"Thing {name} has principals")
        self.things.pop(name, None)
        return {}

    def detach(self, thing: str, principal: str) -> dict[str, Any]:
        principals = self._thing(thing)["principals"]
        if principal in principals:
            principals.remove(principal)
        return {}

    def remove_from_group(self, thing: str, group: str) -> dict[str, Any]:
        self._thing(thing)["groups"] = [name for name in self._thing(thing)["groups"] if name != group]
        return {}

    def detach_policy(self, policy: str, target: str) -> dict[str, Any]:
        self.policies.get(policy, set()).discard(target)
        return {}

    def policies_of(self, target: str) -> dict[str, Any]:
        return {"policies": [{"policyName": name} for name, targets in self.policies.items() if target in targets]}

    def delete_certificate(self, certificate_id: str) -> dict[str, Any]:
        """As AWS: never one that is active or in use."""
        certificate = self._certificate(certificate_id)
        if certificate["status"] == "ACTIVE":
            raise ServiceError("CertificateStateException", 406, "The certificate is active")
        arn = certificate["certificateArn"]
        if self.things_of(arn)["things"] or self.policies_of(arn)["policies"]:
            raise ServiceError("DeleteConflictException", 409, "The certificate is in use")
        del self.certificates[certificate_id]
        return {}

    def state(self) -> dict[str, Any]:
        """Return the whole content, to be compared with the requests."""
        return {
            "things": self.things,
            "certificates": self.certificates,
            "policies": {name: sorted(targets) for name, targets in self.policies.items()},
        }

    def _keep(self, certificate: x509.Certificate, status: str) -> dict[str, Any]:
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        id_ = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
        answer = {"certificateArn": f"{_ARN}cert/{id_}", "certificateId": id_, "certificatePem": pem}
        self.certificates[id_] = {**answer, "status": status, "creationDate": time.time()}
        return answer

    def _thing(self, name: str) -> dict[str, Any]:
        if name not in self.things:
            raise ServiceError("ResourceNotFoundException", 404, f"There is no thing {name}")
        return self.things[name]

    def _certificate(self, certificate_id: str) -> dict[str, Any]:
        if certificate_id not in self.certificates:
            raise ServiceError("ResourceNotFoundException", 404, f"There is no certificate {certificate_id}")
        return self.certificates[certificate_id]


# Bulk registration: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html. Where AWS documents
# nothing, the worst case is simulated: a line that fails leaves the certificate that was made for it.

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
    """Return the template. Raises ServiceError where AWS IoT refuses it."""
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
    """Return the value with parameters in the places of its references."""
    if isinstance(value, dict):
        if set(value) == {"Ref"}:
            name = value["Ref"]
            return given[name] if name in given else declared[name]["Default"]
        return {name: _resolved(item, given, declared) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, given, declared) for item in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: `parts` are what the path's pattern caught."""

    parts: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: dict[str, Any]


ENDPOINTS = {"iot:Data-ATS": "a1b2c3-ats.iot.example"}

Answer = Callable[[Registry, Asked], dict[str, Any]]

_TASKS = "/thing-registration-tasks"

ROUTES: tuple[tuple[str, str, str, Answer], ...] = (
    ("CreateThing", "POST", "/things/([^/]+)", lambda kept, asked: kept.create_thing(asked.parts[0], asked.body)),
    (
        *("CreateCertificateFromCsr", "POST", "/certificates"),
        lambda kept, asked: kept.create_certificate(
            asked.body["certificateSigningRequest"], is_active=asked.query.get("setAsActive") == "true"
        ),
    ),
    (
        *("RegisterCertificateWithoutCA", "POST", "/certificate/register-no-ca"),
        lambda kept, asked: kept.register_certificate(asked.body["certificatePem"], asked.body["status"]),
    ),
    (
        *("AttachThingPrincipal", "PUT", "/things/([^/]+)/principals"),
        lambda kept, asked: kept.attach(asked.parts[0], asked.headers["x-amzn-principal"]),
    ),
    ("ListThingPrincipals", "GET", "/things/([^/]+)/principals", lambda kept, asked: kept.principals(asked.parts[0])),
    (
        *("ListPrincipalThings", "GET", "/principals/things"),
        lambda kept, asked: kept.things_of(asked.headers["x-amzn-principal"]),
    ),
    (
        *("AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup"),
        lambda kept, asked: kept.add_to_group(asked.body["thingName"], asked.body["thingGroupName"]),
    ),
    ("DescribeThingGroup", "GET", "/thing-groups/([^/]+)", lambda kept, asked: kept.describe_group(asked.parts[0])),
    (
        *("AttachPolicy", "PUT", "/target-policies/([^/]+)"),
        lambda kept, asked: kept.attach_policy(asked.parts[0], asked.body["target"]),
    ),
    (
        "DetachPolicy",
        "POST",
        "/target-policies/([^/]+)",
        lambda kept, asked: kept.detach_policy(asked.parts[0], asked.body["target"]),
    ),
    (
        *("ListAttachedPolicies", "POST", "/attached-policies/(.+)"),
        lambda kept, asked: kept.policies_of(asked.parts[0]),
    ),
    (
        *("DetachThingPrincipal", "DELETE", "/things/([^/]+)/principals"),
        lambda kept, asked: kept.detach(asked.parts[0], asked.headers["x-amzn-principal"]),
    ),
    ("DescribeThing", "GET", "/things/([^/]+)", lambda kept, asked: kept.describe_thing(asked.parts[0])),
    ("DeleteThing", "DELETE", "/things/([^/]+)", lambda kept, asked: kept.delete_thing(asked.parts[0])),
    (
        *("RemoveThingFromThingGroup", "PUT", "/thing-groups/removeThingFromThingGroup"),
        lambda kept, asked: kept.remove_from_group(asked.body["thingName"], asked.body["thingGroupName"]),
    ),
    (
        *("DeleteCertificate", "DELETE", "/certificates/([^/]+)"),
        lambda kept, asked: kept.delete_certificate(asked.parts[0]),
    ),
    (
        *("ListCertificates", "GET", "/certificates"),
        lambda kept, asked: kept.list_certificates(int(asked.query["pageSize"]), asked.query.get("marker", "")),
    ),
    (
        *("DescribeCertificate", "GET", "/certificates/([^/]+)"),
        lambda kept, asked: kept.describe_certificate(asked.parts[0]),
    ),
    (
        *("UpdateCertificate", "PUT", "/certificates/([^/]+)"),
        lambda kept, asked: kept.update_certificate(asked.parts[0], asked.query["newStatus"]),
    ),
    (
        "DescribeEndpoint",
        "GET",
        "/endpoint",
        lambda kept, asked: {"endpointAddress": ENDPOINTS[asked.query["endpointType"]]},
    ),
    ("StartThingRegistrationTask", "POST", _TASKS, lambda kept, asked: kept.tasks.start(asked.body)),
    ("ListThingRegistrationTasks", "GET", _TASKS, lambda kept, asked: kept.tasks.ids(asked.query.get("status"))),
    (
        *("DescribeThingRegistrationTask", "GET", f"{_TASKS}/([^/]+)"),
        lambda kept, asked: kept.tasks.describe(asked.parts[0]),
    ),
    (
        *("StopThingRegistrationTask", "PUT", f"{_TASKS}/([^/]+)/cancel"),
        lambda kept, asked: kept.tasks.stop(asked.parts[0]),
    ),
    (
        *("ListThingRegistrationTaskReports", "GET", f"{_TASKS}/([^/]+)/reports"),
        lambda kept, asked: kept.tasks.reports(asked.parts[0], asked.query["reportType"]),
    ),
)
_COMPILED = tuple((api, method, re.compile(pattern), answer) for api, method, pattern, answer in ROUTES)


def find_route(method: str, path: str) -> tuple[str, tuple[str, ...], Answer]:
    """Return API, parts of the path, and handler. Raises ServiceError for an unknown route."""
    for api, wanted, pattern, answer in _COMPILED:
        found = pattern.fullmatch(path) if wanted == method else None
        if found:
            return api, tuple(urllib.parse.unquote(part) for part in found.groups()), answer
    raise ServiceError("UnknownOperationException", 404, f"{method} {path}")


def identity_answer() -> bytes:
    """STS's GetCallerIdentity."""
    result = f"<Account>{ACCOUNT}</Account><Arn>arn:aws:iam::{ACCOUNT}:user/benchmark</Arn><UserId>benchmark</UserId>"
    return (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<GetCallerIdentityResult>{result}</GetCallerIdentityResult></GetCallerIdentityResponse>"
    ).encode()


def quotas_answer(quotas: Mapping[str, float], scale: float) -> bytes:
    """Service Quotas' ListServiceQuotas: what a client sees of the quotas, whose time runs faster by the scale."""
    listed = [{"QuotaName": f"{api} API TPS", "Value": quota * scale} for api, quota in quotas.items()]
    return json.dumps({"Quotas": listed}).encode()


class Buckets:
    """A token bucket for each API: one second's calls, refilled at the quota; others are not throttled."""

    def __init__(self, quotas: Mapping[str, float], *, scale: float) -> None:
        """`quotas` in calls a second; at scale 10 a second of theirs passes in a tenth of one."""
        self._quotas = dict(quotas)
        self._scale = scale
        self._tokens = dict(quotas)
        self._at: dict[str, float] = {}
        self.calls: Counter[str] = Counter()
        self.throttles: Counter[str] = Counter()

    def take(self, api: str, now: float) -> bool:
        """Takes a token of the API's; False where there is none, which is a throttle."""
        self.calls[api] += 1
        quota = self._quotas.get(api)
        if quota is None:
            return True
        passed = (now - self._at.get(api, now)) * self._scale
        tokens = min(quota, self._tokens[api] + passed * quota)
        self._at[api] = now
        self._tokens[api] = tokens - 1 if tokens >= 1 else tokens
        if tokens < 1:
            self.throttles[api] += 1
        return tokens >= 1


_LOSABLE = ("CreateCertificateFromCsr", "StartThingRegistrationTask")


class Service:
    """Answer requests, one after the other on each connection."""

    def __init__(self, *, scale: float, lose: float, seed: int, s3: Any = None) -> None:
        """`lose` is the share of what is made and whose answer is lost; `s3` has the files of bulk registrations."""
        self._quotas = {api: float(quota) for api, quota in QUOTAS.items()}
        self._scale = scale
        self._buckets = Buckets(self._quotas, scale=scale)
        self._registry = Registry()
        pace = self._quotas["CreateCertificateFromCsr"] * scale
        self._registry.tasks = Registrations(self._registry, s3=s3, pace=pace)
        self._lose = lose
        self._random = random.Random(seed)  # noqa: S311 - no secret

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                method, target, _ = first.split(" ", 2)
                pairs = (line.split(":", 1) for line in lines if ":" in line)
                headers = {name.strip().lower(): value.strip() for name, value in pairs}
                if "100-continue" in headers.get("expect", ""):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length") or 0))
                answer = self.answer(method, target, headers, body)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """Return the whole answer; None where it is lost."""
        url = urllib.parse.urlsplit(target)
        if url.path == "/_service/state":
            counted = {"calls": self._buckets.calls, "throttles": self._buckets.throttles}
            return _response(200, json.dumps(self._registry.state() | counted).encode())
        if "x-amz-target" in headers:
            return _response(200, quotas_answer(self._quotas, self._scale))
        if b"Action=GetCallerIdentity" in body:
            return _response(200, identity_answer(), kind="text/xml")
        try:
            api, parts, route = find_route(method, url.path)
            if not self._buckets.take(api, time.monotonic()):
                raise ServiceError("ThrottlingException", 400, "Rate exceeded")
            query = dict(urllib.parse.parse_qsl(url.query))
            asked = Asked(parts=parts, query=query, headers=headers, body=json.loads(body) if body else {})
            made = route(self._registry, asked)
        except ServiceError as error:
            return _response(error.status, json.dumps(error.body).encode(), error=error.code)
        if api in _LOSABLE and self._random.random() < self._lose:
            return None
        return _response(200, json.dumps(made).encode())


def _response(status: int, body: bytes, *, kind: str = "application/json", error: str = "") -> bytes:
    extra = f"x-amzn-ErrorType: {error}\r\n" if error else ""
    head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def _s3(url: str, authority: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=url, verify=authority, config=config, region_name=REGION)


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.iot_service", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much faster the quotas' time runs (1)")
    parser.add_argument("--lose", type=float, default=0.0, help="share of new certificates whose answer is lost (0)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--s3", default="", help="where the files of bulk registrations lie: the URL of an S3")
    parser.add_argument("--authority", help="who signed its TLS certificate: a file")
    given = parser.parse_args()
    s3 = _s3(given.s3, given.authority) if given.s3 else None
    service = Service(scale=given.scale, lose=given.lose, seed=given.seed, s3=s3)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    # End with the parent, which has the other end of standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service that runs on loopback."""

    url: str
    scale: float

    def environment(self, journals: Path) -> dict[str, str]:
        """Return this process's environment, with this service as AWS and journals in a folder."""
        steering = ("FLEET_", "ENVIRONMENT_", "AWS_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "FLEET_JOURNAL_DIR": str(journals),
        }

    def state(self) -> dict[str, Any]:
        """Return the registry's content, and the calls and throttles by API."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/_service/state", timeout=60) as answer:
            state: dict[str, Any] = json.loads(answer.read())
            return state


@contextmanager
def running(
    *,
    scale: float,
    lose: float = 0.0,
    seed: int = 1,
    s3: str = "",
    authority: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a service until the end; for bulk registrations, `s3`, who signed its certificate, and keys for it."""
    command = [sys.executable, "-m", "benchmarks.iot_service"]
    command += ["--scale", str(scale), "--lose", str(lose), "--seed", str(seed)]
    command += ["--s3", s3, "--authority", str(authority)] if s3 else []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe) as process:
        try:
            port = int(process.stdout.readline() if process.stdout else "")
            yield Running(url=f"http://127.0.0.1:{port}", scale=scale)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(_main())
