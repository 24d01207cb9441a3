"""Makes the artefacts of the fleet and of each facility from the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.output import extension, gates
from fleet_iot.generator.output.artefact import Artefact, Chunk
from fleet_iot.generator.output.dashboard import plan_dashboard
from fleet_iot.generator.output.encoding import EncodingError, Identifier
from fleet_iot.generator.output.rows import thing_rows
from fleet_iot.generator.output.templating import render_template
from fleet_iot.generator.plan.alarm_names import plan_alarms
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan

Gate = Callable[[str, bytes], object]
"""Takes path and content; raises `GateError` where they may not be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisioningNames:
    """What the provisioning template joins with a device type to make names."""

    thing_type_prefix: str
    thing_group_prefix: str
    policy_prefix: str
    suffix: str = f"-{naming.SUFFIX_TOKEN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One import of the registry; the alias is upper case, so that it hides neither a module nor a builtin."""

    id: str
    module: Identifier
    alias: Identifier


def render_fleet(plan: FleetPlan) -> Artefact:
    """What all facilities share."""
    return _templated(naming.FLEET_FILE, "fleet/fleet.py.j2", {"fleet": plan}, gate=gates.check_python)


def render_registry(facilities: Iterable[str]) -> Artefact:
    """The registry of the facilities with these ids."""
    modules = {id_: naming.module_of(id_) for id_ in sorted(facilities)}
    entries = tuple(
        RegistryEntry(id=id_, module=Identifier(module), alias=Identifier(f"PLANT_{module.upper()}"))
        for id_, module in modules.items()
    )
    return _templated(naming.REGISTRY_FILE, "fleet/__init__.py.j2", {"facilities": entries}, gate=gates.check_python)


def render_attributes() -> Artefact:
    """Return the .gitattributes that keep git from changing the files' line ends."""
    return Artefact(path=naming.ATTRIBUTES_FILE, chunks=lambda: (b"* -text\n",))


def render_facility(facility: FacilityPlan, *, own: extension.OwnTemplates = extension.NONE) -> Iterator[Artefact]:
    """All files of one facility's folder; `own` are the project's own templates."""
    values = {
        "facility": facility,
        "dashboard": plan_dashboard(facility),
        "alarms": plan_alarms(facility),
        "provisioning": ProvisioningNames(
            thing_type_prefix=naming.thing_type(""),
            thing_group_prefix=naming.thing_group(facility.id, ""),
            policy_prefix=naming.policy(facility.id, ""),
        ),
    }
    for name, gate in _FACILITY_FILES.items():
        yield _templated(f"{facility.module}/{name}", f"facility/{name}.j2", values, gate=gate)
    yield _templated(
        f"{facility.module}/{facility.topic_rule_file}",
        "facility/topic_rule.sql.j2",
        values,
        gate=partial(gates.check_topic_rule, topic=facility.topic),
    )
    for group in facility.groups:
        path = f"{facility.module}/{group.policy_file}"
        policy = {"policy": group.policy_document}
        yield _templated(path, "facility/policy.json.j2", policy, gate=gates.check_policy)
    for name in own.outputs:
        path = f"{facility.module}/{name}"
        yield Artefact(path=path, chunks=partial(_own_content, own, name, path, values))
    yield render_things(facility)


def render_things(facility: FacilityPlan) -> Artefact:
    """The rows of a facility's things, streamed through their gate."""
    path = f"{facility.module}/{facility.things_file}"
    return Artefact(path=path, chunks=partial(_gated_rows, path, facility))


_FACILITY_FILES: dict[str, Gate] = {
    "__init__.py": gates.check_python,
    "RUNBOOK.md": gates.check_markdown,
    "dashboard.json": gates.check_dashboard,
    "bulk_registration_template.json": gates.check_bulk_registration,
    "prefixes.json": gates.check_json,
    "provisioning_template.json": gates.check_provisioning,
}


def _own_content(own: extension.OwnTemplates, name: str, path: str, values: dict[str, Any]) -> tuple[bytes]:
    return (own.render(name, path, values),)


def _gated_rows(path: str, facility: FacilityPlan) -> Iterator[Chunk]:
    gate = gates.ThingRowsGate(path, count=facility.thing_count)
    for chunk in thing_rows(facility):
        gate.check(chunk)
        yield chunk
    gate.finish()


def _templated(path: str, template: str, values: dict[str, Any], *, gate: Gate) -> Artefact:
    def chunks() -> tuple[bytes]:
        try:
            content = render_template(template, values)
        except EncodingError as error:
            raise GateError(f"{path} was not written: {error}", hint=f"see templates/{template}") from None
        gate(path, content)
        return (content,)

    return Artefact(path=path, chunks=chunks)
