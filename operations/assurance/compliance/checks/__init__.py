"""The project's own checks, by theme: what no scanner knows of IoT, or of this platform's promises."""

from __future__ import annotations

from types import ModuleType

from fleet_iot.operations.assurance.compliance.checks import (
    devices,
    encryption,
    hygiene,
    permissions,
    records,
    service_rules,
)
from fleet_iot.operations.assurance.compliance.findings import Check


def checks_in(module: ModuleType) -> tuple[Check, ...]:
    """Return the checks that a module defines, in its order."""
    return tuple(value for value in vars(module).values() if isinstance(value, Check))


CHECKS = tuple(
    check
    for module in (permissions, encryption, records, devices, hygiene, service_rules)
    for check in checks_in(module)
)
