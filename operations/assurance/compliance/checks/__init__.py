"""The project's own checks, by theme: what no scanner knows of IoT, or of this platform's promises."""

from __future__ import annotations

from fleet_iot.operations.assurance.compliance.checks import (
    api,
    audit,
    devices,
    durability,
    encryption,
    hygiene,
    least_privilege,
    service_rules,
    trust,
    watching,
)
from fleet_iot.operations.assurance.compliance.findings import Check

CHECKS: tuple[Check, ...] = (
    *least_privilege.CHECKS,
    *trust.CHECKS,
    *encryption.CHECKS,
    *audit.CHECKS,
    *watching.CHECKS,
    *durability.CHECKS,
    *devices.CHECKS,
    *hygiene.CHECKS,
    *api.CHECKS,
    *service_rules.CHECKS,
)
"""All of them, in the order of the report."""
