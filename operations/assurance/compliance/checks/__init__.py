"""The project's own checks, by theme: what no scanner knows of IoT, or of this platform's promises."""

from __future__ import annotations

from fleet_iot.operations.assurance.compliance.checks import (
    audit,
    devices,
    durability,
    encryption,
    hygiene,
    permissions,
    service_rules,
)
from fleet_iot.operations.assurance.compliance.findings import Check

CHECKS: tuple[Check, ...] = (
    *permissions.CHECKS,
    *encryption.CHECKS,
    *audit.CHECKS,
    *durability.CHECKS,
    *devices.CHECKS,
    *hygiene.CHECKS,
    *service_rules.CHECKS,
)
"""All of them, in the order of the report."""
