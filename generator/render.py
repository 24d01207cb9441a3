"""Makes the artefacts of the fleet and of each facility from the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from generator import naming
from generator.artefact import Artefact
from generator.dashboard import plan_dashboard
from generator.encoding import Identifier
from generator.plan import FacilityPlan, FleetPlan, ThingGroupPlan
from generator.rows import thing_rows
from generator.templating import render_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """How raw readings age in the archive."""

    intelligent_tiering_after_days: int = 30
    glacier_after_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisioningNames:
    """What the provisioning template joins with a device type to make names."""

    thing_type_prefix: str
    thing_group_prefix: str
    policy_prefix: str
    suffix: str = f"-{naming.SUFFIX_TOKEN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One import of the registry."""

    id: str
    module: Identifier


def render_fleet(plan: FleetPlan) -> Artefact:
    """What all facilities share."""
    return _templated(naming.FLEET_FILE, None, "fleet/fleet.py.j2", {"fleet": plan})


def render_registry(facilities: Iterable[str]) -> Artefact:
    """The registry of the facilities with these ids."""
    entries = tuple(RegistryEntry(id=id_, module=Identifier(naming.module_of(id_))) for id_ in sorted(facilities))
    return _templated(naming.REGISTRY_FILE, None, "fleet/__init__.py.j2", {"facilities": entries})


def render_facility(facility: FacilityPlan) -> Iterator[Artefact]:
    """All files of one facility's folder."""
    values = {
        "facility": facility,
        "dashboard": plan_dashboard(facility),
        "lifecycle": Lifecycle(),
        "provisioning": ProvisioningNames(
            thing_type_prefix=naming.thing_type(""),
            thing_group_prefix=naming.thing_group(facility.id, ""),
            policy_prefix=naming.policy(facility.id, ""),
        ),
    }
    for name in ("__init__.py", "RUNBOOK.md", "dashboard.json", "prefixes.json", "provisioning_template.json"):
        yield _templated(f"{facility.module}/{name}", facility.id, f"facility/{name}.j2", values)
    rule = f"{facility.module}/{facility.topic_rule_file}"
    yield _templated(rule, facility.id, "facility/topic_rule.sql.j2", values)
    for group in facility.groups:
        yield _policy(facility, group)
    yield Artefact(
        path=f"{facility.module}/{facility.things_file}",
        facility=facility.id,
        chunks=lambda: thing_rows(facility),
    )


def _policy(facility: FacilityPlan, group: ThingGroupPlan) -> Artefact:
    path = f"{facility.module}/{group.policy_file}"
    return _templated(path, facility.id, "facility/policy.json.j2", {"policy": group.policy_document})


def _templated(path: str, facility: str | None, template: str, values: dict[str, Any]) -> Artefact:
    def chunks() -> list[bytes]:
        return [render_template(template, values)]

    return Artefact(path=path, facility=facility, chunks=chunks)
