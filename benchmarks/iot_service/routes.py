"""Route requests to the registry, and throttle them at the quotas."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.iot_service.registry import ACCOUNT, Registry, ServiceError


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
