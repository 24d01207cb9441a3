"""Estimates the AWS calls of a change, and their duration at the default quotas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fleet_iot.generator.diff.impact import Kind, PlannedChange

QUOTAS: dict[str, int] = {
    "AddThingToThingGroup": 100,
    "AttachPolicy": 15,
    "AttachThingPrincipal": 100,
    "CreateCertificateFromCsr": 15,
    "CreatePolicy": 10,
    "CreateThing": 100,
    "CreateThingGroup": 25,
    "CreateThingType": 15,
    "DeleteCertificate": 10,
    "DeleteThing": 100,
    "DeleteThingType": 15,
    "DeprecateThingType": 15,
    "DescribeCertificate": 10,
    "DescribeThing": 350,
    "DetachPolicy": 15,
    "DetachThingPrincipal": 100,
    "ListAttachedPolicies": 15,
    "ListCertificates": 10,
    "ListPrincipalThings": 10,
    "ListThingPrincipals": 10,
    "ListThings": 10,
    "ListThingsInThingGroup": 25,
    "RegisterCertificateWithoutCA": 10,
    "RemoveThingFromThingGroup": 100,
    "UpdateCertificate": 10,
    "UpdateThing": 100,
}
"""Calls a second by default: https://docs.aws.amazon.com/general/latest/gr/iot-core.html#iot-core-control-plane-limits.

An account's own may be higher (`aws service-quotas list-service-quotas --service-code iotcore`); calls that are not
here are few.
"""

DEPRECATION_S = 300
"""A thing type can be deleted so long after it was deprecated:
https://docs.aws.amazon.com/iot/latest/apireference/API_DeleteThingType.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Calls of one API for each of something that a change counts: `per` is its field, or `change` itself."""

    api: str
    per: str
    times: int = 1


def _each(per: str, *apis: str) -> tuple[Cost, ...]:
    return tuple(Cost(api=api, per=per) for api in apis)


_ONBOARD = _each(
    "count", "CreateCertificateFromCsr", "AttachPolicy", "CreateThing", "AttachThingPrincipal", "AddThingToThingGroup"
)
_RETIRE = _each(
    "count",
    "DetachPolicy",
    "DetachThingPrincipal",
    "UpdateCertificate",
    "DeleteCertificate",
    "RemoveThingFromThingGroup",
    "DeleteThing",
)
_NO_CERTIFICATE = _each("count", "DetachPolicy", "DetachThingPrincipal", "UpdateCertificate", "DeleteCertificate")
_CERTIFICATE_ANEW = (
    *_NO_CERTIFICATE,
    *_each("count", "CreateCertificateFromCsr", "AttachPolicy", "AttachThingPrincipal"),
)
_PLATFORM_ALARMS, _PLANT_ALARMS = 5, 4
"""Alarms with a threshold of the manifest: of the platform, and of a plant without those of its groups."""
_GROUPS = (
    *_each("groups_made", "CreateThingGroup", "CreatePolicy", "PutObject", "PutMetricAlarm"),
    *_each("groups_gone", "DeletePolicy", "DeleteThingGroup", "DeleteObject", "DeleteAlarms"),
)
_PLANT = (
    *_each(
        "facilities",
        "CreateThingGroup",
        "CreateTopicRule",
        "CreateProvisioningTemplate",
        "PutDashboard",
        "PutBucketIntelligentTieringConfiguration",
    ),
    Cost(api="PutMetricAlarm", per="facilities", times=_PLANT_ALARMS),
)
_NO_PLANT = (
    *_each(
        "facilities",
        "DeleteThingGroup",
        "DeleteTopicRule",
        "DeleteProvisioningTemplate",
        "DeleteDashboards",
        "DeleteBucketIntelligentTieringConfiguration",
    ),
    Cost(api="DeleteAlarms", per="facilities", times=_PLANT_ALARMS),
)
_BUCKETS = tuple(Cost(api=api, per="change", times=3) for api in ("CreateBucket", "DeleteBucket"))
_NO_TYPE = _each("change", "DeprecateThingType", "DeleteThingType")
_GROUPS_ANEW = _each("groups", "CreateThingGroup", "CreatePolicy", "PutObject", "PutMetricAlarm")
_RETENTION = (
    *(Cost(api=api, per="change", times=2) for api in ("PutObjectLockConfiguration", "UpdateTable")),
    *(Cost(api=api, per="change", times=3) for api in ("PutBucketLifecycleConfiguration", "PutRetentionPolicy")),
)
_SELECTORS = _each("change", "PutEventSelectors")
_FUNCTION = _each("change", "UpdateFunctionCode")
_TOGETHER = {"UpdateFunctionCode"}
"""However many changes there are: one call brings them all."""

COSTS: dict[Kind, tuple[Cost, ...]] = {
    Kind.APPLICATION: (*_BUCKETS, *_each("groups", "CreatePolicyVersion"), *_each("facilities", "ReplaceTopicRule")),
    Kind.REGION: (*_BUCKETS, *_ONBOARD, *_RETIRE, *_GROUPS_ANEW, *_PLANT, *_NO_PLANT),
    Kind.ACCOUNT: _BUCKETS,
    Kind.SUFFIX: (*_ONBOARD, *_GROUPS_ANEW, *_PLANT),
    Kind.PROCESSOR: _each("change", "PutFunctionConcurrency"),
    Kind.OBSERVABILITY: (Cost(api="PutMetricAlarm", per="change", times=_PLATFORM_ALARMS),),
    Kind.RETENTION_LENGTHENED: _RETENTION,
    Kind.RETENTION_SHORTENED: _RETENTION,
    Kind.AUDIT_WIDENED: _SELECTORS,
    Kind.AUDIT_NARROWED: _SELECTORS,
    Kind.TYPE_ADDED: (*_each("change", "CreateThingType"), *_FUNCTION),
    Kind.TYPE_REMOVED: (*_NO_TYPE, *_FUNCTION),
    Kind.TYPE_RENAMED: (*_each("change", "CreateThingType"), *_NO_TYPE, *_FUNCTION, *_ONBOARD, *_RETIRE),
    Kind.TYPE_DESCRIPTION: (*_each("change", "CreateThingType"), *_NO_TYPE, *_ONBOARD, *_RETIRE),
    Kind.METRIC_ADDED: _FUNCTION,
    Kind.METRIC_REMOVED: _FUNCTION,
    Kind.METRIC_UNIT: _FUNCTION,
    Kind.METRIC_LIMITS: _FUNCTION,
    Kind.METRIC_DETECTOR: _FUNCTION,
    Kind.FACILITY_ADDED: _PLANT,
    Kind.FACILITY_REMOVED: _NO_PLANT,
    Kind.FACILITY_NAME: (
        *_each("facilities", "UpdateThingGroup", "ReplaceTopicRule", "UpdateProvisioningTemplate", "PutDashboard"),
        *_each("groups", "UpdateThingGroup"),
    ),
    Kind.FACILITY_ALARMS: (
        Cost(api="PutMetricAlarm", per="facilities", times=_PLANT_ALARMS),
        *_each("groups", "PutMetricAlarm"),
    ),
    Kind.THINGS_ADDED: _ONBOARD,
    Kind.THINGS_CHANGED: _each("count", "UpdateThing"),
    Kind.THINGS_RETIRED: _RETIRE,
    Kind.THINGS_REPLACED: (
        *_each("count", "CreateCertificateFromCsr", "AttachPolicy", "AttachThingPrincipal", "UpdateThing"),
        *_each("count", "DetachPolicy", "DetachThingPrincipal", "UpdateCertificate", "DeleteCertificate"),
    ),
    Kind.KEYS_CHANGED: _CERTIFICATE_ANEW,
    Kind.CERTIFICATES_REPLACED: _CERTIFICATE_ANEW,
    Kind.CERTIFICATES_REMOVED: _NO_CERTIFICATE,
    Kind.THINGS_RENAMED: (*_RETIRE, *_ONBOARD),
    Kind.THINGS_MOVED: (*_RETIRE, *_ONBOARD),
}
"""Calls of each kind of change; others make few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """All calls by API, and the seconds that the slowest API needs for them; waiting included."""

    calls: tuple[tuple[str, int], ...]
    seconds: float
    slowest: str | None
    waiting_s: int


def calls_of(change: PlannedChange) -> Counter[str]:
    """Return how often a change calls each API."""
    calls: Counter[str] = Counter()
    for cost in (*COSTS.get(change.kind, ()), *_GROUPS):
        calls[cost.api] += cost.times * (1 if cost.per == "change" else int(getattr(change, cost.per)))
    return +calls


def bill(changes: Iterable[PlannedChange]) -> Bill:
    """Sum up the calls of changes. APIs have separate quotas and run in parallel, so the slowest one counts."""
    calls: Counter[str] = sum((calls_of(change) for change in changes), Counter())
    calls = Counter({api: 1 if api in _TOGETHER else count for api, count in calls.items()})
    slowest = max(
        (api for api in sorted(calls) if api in QUOTAS), key=lambda api: calls[api] / QUOTAS[api], default=None
    )
    waiting = DEPRECATION_S if calls["DeleteThingType"] else 0
    return Bill(
        calls=tuple(sorted(calls.items())),
        seconds=(calls[slowest] / QUOTAS[slowest] if slowest else 0.0) + waiting,
        slowest=slowest,
        waiting_s=waiting,
    )
