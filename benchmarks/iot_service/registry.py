"""What the service keeps: things, certificates and what hangs together, with AWS IoT's own answers and errors."""

from __future__ import annotations

import datetime
import hashlib
import time
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
        """As AWS; but `refuse-after-N-things` takes the right away after N more, and `refuse-no-more` gives it back."""
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
        """All of it, for whoever holds it against what was asked for."""
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
