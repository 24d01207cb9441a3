"""The emulator's IoT with AWS's rules around it, in this process and on a clock that the tests move."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import botocore.session
import pytest
from botocore.awsrequest import prepare_request_dict
from botocore.serialize import create_serializer
from ministack.core.responses import error_response_json, get_account_id, get_region
from ministack.services import iot

from fleet_iot.operations.local.certificates import write_key_and_request
from fleet_iot.operations.local.strictness import (
    DEPRECATION_S,
    DISCONNECTION_S,
    POLICY_S,
    SETTLING_S,
    Operations,
    StrictIot,
)
from tests.places import PROJECT

MODEL = botocore.session.get_session().get_service_model("iot")


class Iot:
    """The strict handler, asked as botocore asks it, with a clock of its own."""

    def __init__(self, *, speed: float = 1.0) -> None:
        self.time = 1000.0
        self._handler = StrictIot(
            iot.handle_request,
            scope=lambda: (get_account_id(), get_region()),
            error=error_response_json,
            speed=speed,
            now=lambda: self.time,
        )
        self._serializer = create_serializer("rest-json", include_validation=False)

    def ask(self, operation: str, **members: Any) -> tuple[str, dict[str, Any]]:
        """The error's code ('' for none) and the answer."""
        request = self._serializer.serialize_to_request(members, MODEL.operation_model(operation))
        prepare_request_dict(request, endpoint_url="https://iot")
        path, _, query = request["url"].removeprefix("https://iot").partition("?")
        body = request["body"] if isinstance(request["body"], bytes) else str(request["body"]).encode()
        headers = {name.lower(): value for name, value in request["headers"].items()}
        status, _, answer = asyncio.run(
            self._handler.handle(request["method"], _decoded(path), headers, body, parse_qs(query))
        )
        document = json.loads(answer or b"{}")
        return ("" if status < 300 else str(document["__type"])), document

    def code(self, operation: str, **members: Any) -> str:
        """The error's code alone."""
        return self.ask(operation, **members)[0]


def _decoded(path: str) -> str:
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), path)


@pytest.fixture
def strict() -> Iterator[Iot]:
    """An empty registry, at AWS's own pace."""
    iot.reset()
    yield Iot()
    iot.reset()


@pytest.fixture
def certificate(strict: Iot, tmp_path: Path) -> str:
    """The ARN of an active certificate."""
    request = write_key_and_request(key=tmp_path / "key", common_name="x")
    return str(
        strict.ask("CreateCertificateFromCsr", certificateSigningRequest=request, setAsActive=True)[1]["certificateArn"]
    )


def test_an_attachment_is_seen_late(strict: Iot, certificate: str) -> None:
    """Thing and certificate find each other only when the attachment has settled, and one made again hides nothing."""
    strict.ask("CreateThing", thingName="a")
    strict.ask("AttachThingPrincipal", thingName="a", principal=certificate)
    strict.time += SETTLING_S - 1
    assert [] == strict.ask("ListThingPrincipals", thingName="a")[1]["principals"]
    assert [] == strict.ask("ListPrincipalThings", principal=certificate)[1]["things"]
    strict.time += 2
    assert [certificate] == strict.ask("ListThingPrincipals", thingName="a")[1]["principals"]
    assert ["a"] == strict.ask("ListPrincipalThings", principal=certificate)[1]["things"]
    strict.ask("AttachThingPrincipal", thingName="a", principal=certificate)
    assert ["a"] == strict.ask("ListPrincipalThings", principal=certificate)[1]["things"]


def test_a_policy_is_seen_late_and_stays_for_five_minutes(strict: Iot, certificate: str) -> None:
    """It is listed when it has settled, and cannot be deleted until five minutes after it was detached."""
    strict.ask("CreatePolicy", policyName="p", policyDocument='{"Version":"2012-10-17","Statement":[]}')
    strict.ask("AttachPolicy", policyName="p", target=certificate)
    assert [] == strict.ask("ListAttachedPolicies", target=certificate)[1]["policies"]
    assert [] == strict.ask("ListTargetsForPolicy", policyName="p")[1]["targets"]
    strict.time += SETTLING_S + 1
    assert ["p"] == [
        each["policyName"] for each in strict.ask("ListAttachedPolicies", target=certificate)[1]["policies"]
    ]
    assert [certificate] == strict.ask("ListTargetsForPolicy", policyName="p")[1]["targets"]
    strict.ask("DetachPolicy", policyName="p", target=certificate)
    assert "DeleteConflictException" == strict.code("DeletePolicy", policyName="p")
    strict.time += POLICY_S + 1
    assert "" == strict.code("DeletePolicy", policyName="p")


def test_a_detachment_is_done_late(strict: Iot, certificate: str) -> None:
    """Until it is, neither the thing nor the certificate can be deleted; attached again, they are attached."""
    identifier = certificate.rpartition("/")[2]
    strict.ask("CreateThing", thingName="a")
    strict.ask("AttachThingPrincipal", thingName="a", principal=certificate)
    strict.ask("DetachThingPrincipal", thingName="a", principal=certificate)
    strict.ask("UpdateCertificate", certificateId=identifier, newStatus="INACTIVE")
    assert "InvalidRequestException" == strict.code("DeleteThing", thingName="a")
    assert "DeleteConflictException" == strict.code("DeleteCertificate", certificateId=identifier)
    assert "DeleteConflictException" == strict.code("DeleteCertificate", certificateId=identifier, forceDelete=True)
    strict.time += SETTLING_S + 1
    assert "" == strict.code("DeleteCertificate", certificateId=identifier)
    assert "" == strict.code("DeleteThing", thingName="a")


@pytest.mark.parametrize("status", ["ACTIVE", "INACTIVE", "REVOKED"])
def test_revoked_is_final(strict: Iot, certificate: str, status: str) -> None:
    """No status comes after REVOKED; such a certificate can be deleted."""
    identifier = certificate.rpartition("/")[2]
    assert "" == strict.code("UpdateCertificate", certificateId=identifier, newStatus="REVOKED")
    assert "CertificateStateException" == strict.code("UpdateCertificate", certificateId=identifier, newStatus=status)
    described = strict.ask("DescribeCertificate", certificateId=identifier)[1]["certificateDescription"]
    assert "REVOKED" == described["status"]
    assert "" == strict.code("DeleteCertificate", certificateId=identifier)


def test_an_active_certificate_is_not_deleted(strict: Iot, certificate: str) -> None:
    """It must be INACTIVE or REVOKED, and callers set no status that AWS keeps to itself."""
    identifier = certificate.rpartition("/")[2]
    assert "CertificateStateException" == strict.code("DeleteCertificate", certificateId=identifier)
    pending = strict.code("UpdateCertificate", certificateId=identifier, newStatus="PENDING_ACTIVATION")
    assert "InvalidRequestException" == pending
    assert "" == strict.code("UpdateCertificate", certificateId=identifier, newStatus="INACTIVE")
    assert "" == strict.code("DeleteCertificate", certificateId=identifier)


def test_a_thing_type_is_deleted_five_minutes_after_its_deprecation(strict: Iot) -> None:
    """Earlier is refused; one that is in use again must wait again."""
    strict.ask("CreateThingType", thingTypeName="t")
    strict.ask("DeprecateThingType", thingTypeName="t")
    strict.time += DEPRECATION_S - 1
    assert "InvalidRequestException" == strict.code("DeleteThingType", thingTypeName="t")
    strict.ask("DeprecateThingType", thingTypeName="t", undoDeprecate=True)
    strict.time += 2
    strict.ask("DeprecateThingType", thingTypeName="t")
    assert "InvalidRequestException" == strict.code("DeleteThingType", thingTypeName="t")
    strict.time += DEPRECATION_S + 1
    assert "" == strict.code("DeleteThingType", thingTypeName="t")


def test_delays_pass_as_many_times_faster_as_asked(certificate: str, strict: Iot) -> None:
    """At sixty times AWS's speed an attachment settles in half a second."""
    fast = Iot(speed=60.0)
    fast.ask("CreateThing", thingName="a")
    fast.ask("AttachThingPrincipal", thingName="a", principal=certificate)
    assert [] == fast.ask("ListThingPrincipals", thingName="a")[1]["principals"]
    fast.time += SETTLING_S / 60 + 0.01
    assert [certificate] == fast.ask("ListThingPrincipals", thingName="a")[1]["principals"]


REFUSED = {
    "description not in ASCII": (
        "CreateThingGroup",
        {"thingGroupName": "g", "thingGroupProperties": {"thingGroupDescription": "Größe"}},
    ),
    "type's description not in ASCII": (
        "CreateThingType",
        {"thingTypeName": "t", "thingTypeProperties": {"thingTypeDescription": "压力机"}},
    ),
    "group's name": ("CreateThingGroup", {"thingGroupName": "a b"}),
    "name too long": ("CreateThingType", {"thingTypeName": "t" * 129}),
    "attribute with a space": ("CreateThing", {"thingName": "a", "attributePayload": {"attributes": {"line": "b 2"}}}),
    "attribute's name": ("CreateThing", {"thingName": "a", "attributePayload": {"attributes": {"größe": "2"}}}),
    "rule's name": ("CreateTopicRule", {"ruleName": "a-b", "topicRulePayload": {"sql": "SELECT 1", "actions": []}}),
    "rule without actions": ("CreateTopicRule", {"ruleName": "a", "topicRulePayload": {"sql": "SELECT 1"}}),
    "template's name": (
        "CreateProvisioningTemplate",
        {"templateName": "t" * 37, "templateBody": "{}", "provisioningRoleArn": "arn:aws:iam::1:role/r" + "x" * 9},
    ),
    "status": ("UpdateCertificate", {"certificateId": "a" * 64, "newStatus": "GONE"}),
    "certificate's id": ("UpdateCertificate", {"certificateId": "a" * 63, "newStatus": "ACTIVE"}),
    "number of results": ("ListThings", {"maxResults": 251}),
    "tag's key": ("CreatePolicy", {"policyName": "p", "policyDocument": "{}", "tags": [{"Key": "a;b", "Value": ""}]}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_input_that_does_not_fit_the_model_is_refused(strict: Iot, name: str) -> None:
    """As AWS refuses it, naming the member and the constraint."""
    operation, members = REFUSED[name]
    code, answer = strict.ask(operation, **members)
    assert ("InvalidRequestException", True) == (code, "failed to satisfy constraint: Member must" in answer["message"])


def test_input_that_fits_is_taken(strict: Iot) -> None:
    """Printable ASCII in descriptions, letters of any script in tags."""
    properties = {"thingGroupDescription": "Tuas Plant 1 (a-z, ~!)"}
    tags = [{"Key": "名前", "Value": "Größe 2"}]
    assert "" == strict.code("CreateThingGroup", thingGroupName="g:1_-", thingGroupProperties=properties, tags=tags)


def test_a_change_of_another_version_is_refused(strict: Iot) -> None:
    """Only the expected version of a thing or group is updated or deleted."""
    strict.ask("CreateThing", thingName="a")
    strict.ask("CreateThingGroup", thingGroupName="g")
    for operation, named in (("UpdateThing", {"thingName": "a"}), ("UpdateThingGroup", {"thingGroupName": "g"})):
        more: dict[str, Any] = {"thingGroupProperties": {}} if "thingGroupName" in named else {}
        assert "" == strict.code(operation, **named, **more, expectedVersion=1)
        assert "VersionConflictException" == strict.code(operation, **named, **more, expectedVersion=1)
        deletion = operation.replace("Update", "Delete")
        assert "VersionConflictException" == strict.code(deletion, **named, expectedVersion=1)
        assert "" == strict.code(deletion, **named, expectedVersion=2)


def test_every_operation_finds_its_own_route() -> None:
    """A request that botocore makes for an operation is read as that operation, with the members it was made of."""
    model = Operations("iot")
    serializer = create_serializer("rest-json", include_validation=False)
    others = {}
    for name in MODEL.operation_names:
        shape = MODEL.operation_model(name).input_shape
        labels = [
            member
            for member, kind in (shape.members.items() if shape else ())
            if kind.serialization.get("location") == "uri"
        ]
        given = {label: str(number) for number, label in enumerate(labels)}
        request = serializer.serialize_to_request(given, MODEL.operation_model(name))
        call = model.call(request["method"], request["url_path"], {}, b"", {})
        if (call.operation, {label: call.members.get(label) for label in labels}) != (name, given):
            others[name] = call.operation
    assert {} == others


def test_the_emulator_has_the_seams_that_are_wrapped() -> None:
    """The pinned version is the installed one, and its IoT handler takes and gives what the wrapping expects."""
    pinned = re.search(r"^ministack==(\S+)", (PROJECT / "requirements" / "main.in").read_text(), re.MULTILINE)
    assert pinned and pinned[1] == version("ministack")
    parameters = list(inspect.signature(iot.handle_request).parameters)
    assert ["method", "path", "headers", "body", "query_params"] == parameters
    assert inspect.iscoroutinefunction(iot.handle_request)
    assert isinstance(iot._connected_clients, dict)
    session = iot._WSSession(None, "1", "r")
    assert (None, True) == (session.certificate_id, inspect.iscoroutinefunction(session.cleanup))


@pytest.mark.slow
@pytest.mark.parametrize(("then", "ended"), [("REVOKED", 1), ("INACTIVE", 1), ("ACTIVE", 0)])
def test_sessions_end_with_their_certificates_status(strict: Iot, certificate: str, then: str, ended: int) -> None:
    """Of that certificate only, and not where it is ACTIVE again by then."""
    identifier, found = certificate.rpartition("/")[2], []

    async def disconnect(scope: tuple[str, str], of: str) -> None:
        found.append((scope, of))

    handler = StrictIot(
        iot.handle_request,
        scope=lambda: ("1", "r"),
        error=error_response_json,
        speed=DISCONNECTION_S * 50,
        disconnect=disconnect,
    )

    async def change() -> None:
        for status in ("INACTIVE", then):
            await handler.handle("PUT", f"/certificates/{identifier}", {}, b"", {"newStatus": [status]})
        assert [] == found
        await asyncio.sleep(0.2)

    asyncio.run(change())
    assert set(found) == ({(("1", "r"), identifier)} if ended else set())
