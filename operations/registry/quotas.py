"""The account's quotas: read live from Service Quotas, else AWS's defaults; and what a list takes at them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diff.calls import QUOTAS

HEAD_ROOM = 0.05
"""The share of each quota that is left to whoever else works on the account."""

_NAME = re.compile(r"(\w+) API TPS")
"""What Service Quotas calls them, such as `CreateThing API TPS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Calls a second by API; `is_live` where the account itself was asked."""

    per_second: Mapping[str, float]
    is_live: bool

    def rates(self) -> dict[str, float]:
        """The pace to keep: below the quota by the head-room."""
        return {api: quota * (1 - HEAD_ROOM) for api, quota in self.per_second.items()}


def read_quotas(service_quotas: Any) -> Quotas:
    """The quotas in force. An account that does not let them be read has the defaults, or more."""
    found: dict[str, float] = {}
    try:
        for page in service_quotas.get_paginator("list_service_quotas").paginate(ServiceCode="iotcore"):
            for quota in page["Quotas"]:
                name = _NAME.fullmatch(str(quota.get("QuotaName", "")))
                if name and name[1] in QUOTAS and quota.get("Value", 0) > 0:
                    found[name[1]] = float(quota["Value"])
    except (BotoCoreError, ClientError):
        found = {}
    return Quotas(per_second={api: float(value) for api, value in QUOTAS.items()} | found, is_live=bool(found))


def calls_for(*, devices: int, certificates: int, policy_on: str, groups: int) -> dict[str, int]:
    """How often each API is called for so many devices, `certificates` of which bring their own."""
    policies = devices if policy_on == "certificate" else groups
    counts = {
        "CreateThing": devices,
        "CreateCertificateFromCsr": devices - certificates,
        "RegisterCertificateWithoutCA": certificates,
        "AttachThingPrincipal": devices,
        "AddThingToThingGroup": devices,
        "AttachPolicy": policies if devices else 0,
    }
    return {api: count for api, count in counts.items() if count}


def least_seconds(calls: Mapping[str, int], rates: Mapping[str, float]) -> tuple[float, str | None]:
    """The seconds that the slowest API needs, and which it is; quotas of different APIs run beside each other."""
    times = [(count / rates[api], api) for api, count in calls.items() if api in rates]
    return max(times, default=(0.0, None))
