"""AWS IoT's registry in memory: things, groups, certificates, policies, and bulk registration tasks."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
        """Every group is there whose name the project makes."""
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
        """Return all of it, to be compared with the requests."""
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
