"""Makes the emulator's IoT as strict as AWS's: inputs that fit the models, slow attachments, statuses that are final.

Wraps one function of the emulator, its IoT request handler: method, path, headers, body and query in; status, headers
and body out. What AWS does late is done late here too, on a clock that runs faster than AWS's.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_iot.operations.local.service_model import Constraint, input_of, judge, service_model

Response = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, dict[str, str], bytes, dict[str, Any]], Awaitable[Response]]
Scope = tuple[str, str]
"""Account and region, within which names are unique."""

DEFAULT_SPEED = 60.0
"""How many times faster than on AWS the delays below pass by default."""

SETTLING_S = 30.0
"""How long an attachment is not listed, and a detachment not done. AWS says "several seconds": this is longer, so that
nothing passes by luck. https://docs.aws.amazon.com/iot/latest/apireference/API_DetachThingPrincipal.html"""

POLICY_S = 300.0
"""How long a policy counts as attached after it was detached.
https://docs.aws.amazon.com/iot/latest/apireference/API_DeletePolicy.html"""

DEPRECATION_S = 300.0
"""How long a thing type must have been deprecated before it can be deleted.
https://docs.aws.amazon.com/iot/latest/apireference/API_DeleteThingType.html"""

DISCONNECTION_S = 180.0
"""How long devices stay connected with a certificate that is not ACTIVE any more; AWS says "within a few minutes".
https://docs.aws.amazon.com/iot/latest/apireference/API_UpdateCertificate.html"""

DELETABLE = frozenset({"INACTIVE", "REVOKED"})
"""https://docs.aws.amazon.com/iot/latest/apireference/API_DeleteCertificate.html"""

INTERNAL = frozenset({"PENDING_TRANSFER", "PENDING_ACTIVATION"})
"""Statuses that only AWS sets. https://docs.aws.amazon.com/iot/latest/apireference/API_UpdateCertificate.html"""

ATTACHING = {
    "AttachThingPrincipal": ("principal", "thingName", "principal"),
    "AttachPolicy": ("policy", "policyName", "target"),
    "AttachPrincipalPolicy": ("policy", "policyName", "principal"),
}
DETACHING = {
    "DetachThingPrincipal": ("principal", "thingName", "principal"),
    "DetachPolicy": ("policy", "policyName", "target"),
    "DetachPrincipalPolicy": ("policy", "policyName", "principal"),
}
"""By operation: what kind of attachment, and the members that name the thing or policy and what it is attached to."""

LISTING: Mapping[str, tuple[str, str, str, Callable[[Any], str]]] = {
    "ListThingPrincipals": ("principal", "thingName", "principals", str),
    "ListPrincipalThings": ("principal", "principal", "things", str),
    "ListAttachedPolicies": ("policy", "target", "policies", lambda each: str(each["policyName"])),
    "ListPrincipalPolicies": ("policy", "principal", "policies", lambda each: str(each["policyName"])),
    "ListTargetsForPolicy": ("policy", "policyName", "targets", str),
    "ListPolicyPrincipals": ("policy", "policyName", "principals", str),
}
"""By operation: the kind of attachment it lists, the member that says whose, the answer's list, and each other end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as the model sees it: its operation and the members of its input, by their names in the model."""

    operation: str
    members: Mapping[str, Any]


class Operations:
    """The operations of one service of the protocol rest-json, by method and path."""

    def __init__(self, service: str) -> None:
        self._service = service
        routes = []
        for name in service_model(service).operation_names:
            http = service_model(service).operation_model(name).http
            labels = re.split(r"\{(\w+)\+?\}", http["requestUri"].partition("?")[0])
            # A label matches any text: the request's path comes decoded, an ARN with its slashes.
            pattern = "".join(f"(?P<{part}>.+)" if i % 2 else re.escape(part) for i, part in enumerate(labels))
            literal = sum(len(part) for part in labels[::2])
            routes.append((-literal, name, http["method"], re.compile(pattern)))
        # The most literal first: /thing-groups/addThingToThingGroup is no group's name.
        self._routes = [route[1:] for route in sorted(routes, key=lambda route: route[:2])]

    def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]) -> Call:
        """Read a request; an operation that the model does not have is named ''."""
        for name, verb, pattern in self._routes:
            found = pattern.fullmatch(path) if verb == method else None
            if found:
                return Call(operation=name, members=self._members(name, found.groupdict(), headers, body, query))
        return Call(operation="", members={})

    def violations(self, call: Call) -> list[str]:
        """Return what AWS would say of each member that breaks a constraint, in its own words."""
        judged = judge(self._service, call.operation, call.members) if call.operation else ()
        return [_violation(each) for each in judged if not each.is_met and each.kind not in ("type", "member")]

    def _members(
        self, name: str, labels: dict[str, str], headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]
    ) -> dict[str, Any]:
        shape = input_of(self._service, name)
        if shape is None:
            return {}
        payload = shape.serialization.get("payload")
        document = _document(body)
        members: dict[str, Any] = {}
        for member, kind in shape.members.items():
            wire = kind.serialization.get("name", member)
            location = kind.serialization.get("location")
            if location == "uri":
                value: Any = labels.get(wire) or None
            elif location == "querystring":
                value = _from_text(query.get(wire), kind)
            elif location == "header":
                value = _from_text(headers.get(wire.lower()), kind)
            elif location is None and isinstance(document, dict):
                value = document if member == payload else document.get(wire)
            else:
                value = None
            if value is not None:
                members[member] = value
        return members


def _document(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError:
        return None


def _from_text(value: Any, kind: Any) -> Any:
    if isinstance(value, list):
        value = value[0] if value and kind.type_name != "list" else value
    if kind.type_name in {"integer", "long"} and isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]+", value) else value
    return value


def _violation(broken: Constraint) -> str:
    limit, size = broken.limit, "length" if broken.unit else "value"
    demand = {
        "required": "not be null",
        "enum": f"satisfy enum value set: [{', '.join(limit or ())}]" if broken.kind == "enum" else "",
        "pattern": f"satisfy regular expression pattern: {limit}",
        "min": f"have {size} greater than or equal to {limit}",
        "max": f"have {size} less than or equal to {limit}",
    }[broken.kind]
    given = "null" if broken.value is None else f"'{broken.value}'"
    return f"Value {given} at '{broken.path}' failed to satisfy constraint: Member must {demand}"


VERSIONED = {
    "UpdateThing": ("thing", "thingName", "/things/"),
    "DeleteThing": ("thing", "thingName", "/things/"),
    "UpdateThingGroup": ("thing group", "thingGroupName", "/thing-groups/"),
    "DeleteThingGroup": ("thing group", "thingGroupName", "/thing-groups/"),
}
"""By operation that accepts `expectedVersion`: what it changes, the member that names it, and where it is described.
https://docs.aws.amazon.com/iot/latest/apireference/API_UpdateThing.html"""


class StrictIot:
    """The emulator's IoT handler with AWS's rules and delays around it.

    Args:
        handler: The emulator's own.
        scope: Returns account and region of the current request.
        error: Builds an error's response from code, message and HTTP status.
        speed: How many times faster than on AWS delays pass.
        now: A clock in seconds.
        disconnect: Ends the MQTT sessions of a certificate, by scope and id.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        scope: Callable[[], Scope],
        error: Callable[[str, str, int], Response],
        speed: float = DEFAULT_SPEED,
        now: Callable[[], float] = time.monotonic,
        disconnect: Callable[[Scope, str], Awaitable[None]] | None = None,
    ) -> None:
        self._handler = handler
        self._scope = scope
        self._error = error
        self._speed = speed
        self._now = now
        self._disconnect = disconnect
        self._disconnecting: set[asyncio.Task[None]] = set()
        self._operations = Operations("iot")
        self._unseen_until: dict[tuple[Scope, str, frozenset[str]], float] = {}
        self._undone_until: dict[tuple[Scope, str, str, str], float] = {}
        self._deprecated: dict[tuple[Scope, str], float] = {}

    async def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Response:
        """Answer one request as AWS would."""
        call = self._operations.call(method, path, headers or {}, body, query)
        refused = self._invalid(call) or self._too_early(call) or await self._illegal(call)
        refused = refused or await self._outdated(call)
        if refused:
            return refused
        was_attached = call.operation in ATTACHING and await self._is_attached(call)
        answer = await self._handler(method, path, headers, body, query)
        if answer[0] < 300:
            self._note(call, was_attached=was_attached)
        return self._without_unseen(call, answer)

    def _invalid(self, call: Call) -> Response | None:
        said = self._operations.violations(call)
        if not said:
            return None
        count = f"{len(said)} validation error{'s' if len(said) > 1 else ''} detected: "
        return self._error("InvalidRequestException", count + "; ".join(said), 400)

    def _too_early(self, call: Call) -> Response | None:
        """Refuse what an earlier call has not finished."""
        members = call.members
        if call.operation == "DeleteThing" and self._is_undone("principal", 0, members.get("thingName")):
            text = f"Cannot delete. Thing {members['thingName']} is still attached to one or more principals"
            return self._error("InvalidRequestException", text, 400)
        if call.operation == "DeleteCertificate" and self._is_undone("principal", 1, members.get("certificateId")):
            text = f"Things must be detached before deletion (certificate: {members['certificateId']})"
            return self._error("DeleteConflictException", text, 409)
        if call.operation == "DeletePolicy" and self._is_undone("policy", 0, members.get("policyName")):
            text = f"Cannot delete the policy because it is attached to one or more principals: {members['policyName']}"
            return self._error("DeleteConflictException", text, 409)
        if call.operation == "DeleteThingType":
            since = self._deprecated.get((self._scope(), members.get("thingTypeName", "")))
            if since is not None and self._now() < since + DEPRECATION_S / self._speed:
                text = "Please wait for 5 minutes after deprecation and then retry"
                return self._error("InvalidRequestException", text, 400)
        return None

    async def _illegal(self, call: Call) -> Response | None:
        """Refuse a step that a certificate's status does not allow."""
        if call.operation not in {"UpdateCertificate", "DeleteCertificate"}:
            return None
        identifier = str(call.members.get("certificateId"))
        status, _, body = await self._handler("GET", f"/certificates/{identifier}", {}, b"", {})
        if status != 200:
            return None
        current = json.loads(body)["certificateDescription"]["status"]
        if call.operation == "DeleteCertificate":
            if current in DELETABLE:
                return None
            text = f"Certificate must be deactivated (not {current}) before deletion. Id: {identifier}"
            return self._error("CertificateStateException", text, 406)
        if current == "REVOKED":
            text = f"Certificate is REVOKED: its status cannot be changed. Id: {identifier}"
            return self._error("CertificateStateException", text, 406)
        if call.members.get("newStatus") in INTERNAL:
            text = f"Status {call.members['newStatus']} cannot be set by a caller. Id: {identifier}"
            return self._error("InvalidRequestException", text, 400)
        return None

    async def _outdated(self, call: Call) -> Response | None:
        """Refuse a change to a version that is not the current one."""
        expected = call.members.get("expectedVersion")
        if expected is None or call.operation not in VERSIONED:
            return None
        kind, member, path = VERSIONED[call.operation]
        name = call.members[member]
        status, _, body = await self._handler("GET", f"{path}{name}", {}, b"", {})
        if status != 200 or json.loads(body)["version"] == expected:
            return None
        text = f"The version for {kind} {name} does not match the expected version."
        return self._error("VersionConflictException", text, 409)

    async def _is_attached(self, call: Call) -> bool:
        """Return whether the call attaches what is attached already: AWS accepts it again, and it stays listed."""
        kind, one, other = ATTACHING[call.operation]
        name, target = str(call.members.get(one)), str(call.members.get(other))
        if kind == "principal":
            status, _, body = await self._handler("GET", f"/things/{name}/principals", {}, b"", {})
            return status == 200 and target in json.loads(body)["principals"]
        status, _, body = await self._handler("POST", f"/policy-targets/{name}", {}, b"", {})
        return status == 200 and target in json.loads(body)["targets"]

    def _note(self, call: Call, *, was_attached: bool) -> None:
        scope, now = self._scope(), self._now()
        if call.operation in ATTACHING and not was_attached:
            kind, one, other = ATTACHING[call.operation]
            ends = (call.members[one], call.members[other])
            self._unseen_until[scope, kind, frozenset(ends)] = now + SETTLING_S / self._speed
            self._undone_until.pop((scope, kind, *ends), None)
        elif call.operation in DETACHING:
            kind, one, other = DETACHING[call.operation]
            delay = SETTLING_S if kind == "principal" else POLICY_S
            self._undone_until[scope, kind, call.members[one], call.members[other]] = now + delay / self._speed
        elif call.operation == "DeprecateThingType":
            if call.members.get("undoDeprecate"):
                self._deprecated.pop((scope, call.members["thingTypeName"]), None)
            else:
                self._deprecated[scope, call.members["thingTypeName"]] = now

        elif call.operation == "UpdateCertificate" and call.members.get("newStatus") != "ACTIVE" and self._disconnect:
            # The task has the request's context, and with it account and region; kept here, or it may be collected.
            task = asyncio.create_task(self._end_sessions(str(call.members["certificateId"])))
            self._disconnecting.add(task)
            task.add_done_callback(self._disconnecting.discard)

    async def _end_sessions(self, certificate: str) -> None:
        """End the certificate's sessions when AWS would have done so, unless it is ACTIVE again."""
        await asyncio.sleep(DISCONNECTION_S / self._speed)
        status, _, body = await self._handler("GET", f"/certificates/{certificate}", {}, b"", {})
        is_active = status == 200 and json.loads(body)["certificateDescription"]["status"] == "ACTIVE"
        if self._disconnect and not is_active:
            await self._disconnect(self._scope(), certificate)

    def _is_undone(self, kind: str, end: int, name: str | None) -> bool:
        """Return whether a detachment of `name` (end 0: a thing or policy, 1: a certificate's id) is not done yet."""
        now = self._now()
        self._undone_until = {key: until for key, until in self._undone_until.items() if until > now}
        return any(
            (scope, of) == (self._scope(), kind) and ends[end].rpartition("/")[2] == name
            for scope, of, *ends in self._undone_until
        )

    def _without_unseen(self, call: Call, answer: Response) -> Response:
        status, headers, body = answer
        if call.operation not in LISTING or status != 200:
            return answer
        kind, whose, member, other_end = LISTING[call.operation]
        now, scope, end = self._now(), self._scope(), str(call.members.get(whose))
        self._unseen_until = {key: until for key, until in self._unseen_until.items() if until > now}
        document = json.loads(body)
        seen = [
            each
            for each in document.get(member, [])
            if (scope, kind, frozenset({end, other_end(each)})) not in self._unseen_until
        ]
        if len(seen) == len(document.get(member, [])):
            return answer
        return status, headers, json.dumps({**document, member: seen}).encode()
