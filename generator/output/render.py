"""Renders the files of the fleet and of each facility from the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import islice
from typing import Any

import msgspec

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.output import gates
from fleet_iot.generator.output.encoding import EncodingError, Identifier, encode_markdown
from fleet_iot.generator.output.templating import NONE, OwnTemplates, render_template
from fleet_iot.generator.plan.build import WATCHED, FacilityPlan, FleetPlan, facility_record, fleet_record, thing_rows
from fleet_iot.generator.plan.catalogue import plan_alarms
from fleet_iot.lib import names as resource_names
from fleet_iot.lib.specs import SUFFIX_TOKEN, FacilitySpec, FleetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A rendered file, checked by its gate; `chunks` are its bytes in order, to be read once."""

    path: str
    chunks: Iterable[bytes]


ROWS_A_CHUNK = 1_000
_ENCODE_LINES = msgspec.json.Encoder().encode_lines

_HEADING_HEIGHT, _WIDTH, _HEIGHT, _COLUMNS = 2, 12, 6, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Widget:
    """One graph, with a line for each device type; units of the dashboard's 24-column grid."""

    title: str
    metric: str
    device_types: tuple[str, ...]
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """The whole board."""

    heading: str
    namespace: str
    widgets: tuple[Widget, ...]


def plan_dashboard(facility: FacilityPlan) -> Dashboard:
    """Return the board of a facility: its name and size, then its metrics two in a row."""
    device_types = tuple(group.device_type.id for group in facility.groups)
    return Dashboard(
        heading=f"# {encode_markdown(facility.name)}\n{facility.thing_count} things, time zone "
        f"{encode_markdown(facility.timezone)}, facility `{facility.id}`",
        namespace=resource_names.metrics_namespace(SUFFIX_TOKEN),
        widgets=tuple(
            Widget(
                title=metric,
                metric=metric,
                device_types=device_types,
                x=place % _COLUMNS * _WIDTH,
                y=_HEADING_HEIGHT + place // _COLUMNS * _HEIGHT,
                width=_WIDTH,
                height=_HEIGHT,
            )
            for place, metric in enumerate(naming.PROCESSOR_METRICS)
        ),
    )


Gate = Callable[[str, bytes], object]
"""Takes path and content; raises `GateError` where they may not be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisioningNames:
    """Prefixes and suffix of names in the provisioning template."""

    thing_type_prefix: str
    thing_group_prefix: str
    policy_prefix: str
    suffix: str = f"-{SUFFIX_TOKEN}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryEntry:
    """One import of the registry; the alias is upper case, so that it hides neither a module nor a builtin."""

    id: str
    module: Identifier
    alias: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A declaration, and the names of the classes that it is made of."""

    value: FleetSpec | FacilitySpec
    classes: tuple[Identifier, ...]


def _record(value: FleetSpec | FacilitySpec) -> Record:
    return Record(value=value, classes=tuple(map(Identifier, sorted(_classes(value)))))


def _classes(value: object) -> set[str]:
    if isinstance(value, tuple):
        return {name for item in value for name in _classes(item)}
    if not is_dataclass(value):
        return set()
    return {type(value).__name__}.union(*(_classes(getattr(value, field.name)) for field in fields(value)))


def render_fleet(plan: FleetPlan) -> Artefact:
    """Render what all facilities share."""
    values = {"record": _record(fleet_record(plan))}
    return _templated(naming.FLEET_FILE, "fleet/fleet.py.j2", values, gate=gates.check_python)


def render_registry(facilities: Iterable[str]) -> Artefact:
    """Return the registry of the facilities with these ids."""
    modules = {id_: naming.module_of(id_) for id_ in sorted(facilities)}
    entries = tuple(
        RegistryEntry(id=id_, module=Identifier(module), alias=Identifier(f"PLANT_{module.upper()}"))
        for id_, module in modules.items()
    )
    return _templated(naming.REGISTRY_FILE, "fleet/__init__.py.j2", {"facilities": entries}, gate=gates.check_python)


def render_attributes() -> Artefact:
    """Return the .gitattributes that keep git from changing the files' line ends."""
    return Artefact(path=naming.ATTRIBUTES_FILE, chunks=(b"* -text\n",))


def render_facility(facility: FacilityPlan, *, own: OwnTemplates = NONE) -> Iterator[Artefact]:
    """Yield all files of one facility's folder; `own` are the project's own templates."""
    values = {
        "facility": facility,
        "record": _record(facility_record(facility)),
        "watched": WATCHED,
        "dashboard": plan_dashboard(facility),
        "alarms": plan_alarms(facility),
        "provisioning": ProvisioningNames(
            thing_type_prefix=resource_names.thing_type(""),
            thing_group_prefix=resource_names.thing_group(facility.id, ""),
            policy_prefix=resource_names.policy(facility.id, ""),
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
        yield Artefact(path=path, chunks=(own.render(name, path, values),))
    yield render_things(facility)


def render_things(facility: FacilityPlan) -> Artefact:
    """Render the rows of a facility's things, one chunk after the other."""
    path = f"{facility.module}/{facility.things_file}"
    return Artefact(path=path, chunks=_things_file(path, facility))


_FACILITY_FILES: dict[str, Gate] = {
    "__init__.py": gates.check_python,
    "RUNBOOK.md": gates.check_markdown,
    "dashboard.json": gates.check_dashboard,
    "bulk_registration_template.json": gates.check_bulk_registration,
    "prefixes.json": gates.check_json,
    "provisioning_template.json": gates.check_provisioning,
}


def _things_file(path: str, facility: FacilityPlan) -> Iterator[bytes]:
    """Yield the file's JSON lines in checked chunks, so that a plant of a million things needs no memory for them."""
    gate = gates.ThingRowsGate(path, count=facility.thing_count)
    rows = thing_rows(facility)
    while some := list(islice(rows, ROWS_A_CHUNK)):
        chunk = _ENCODE_LINES(some)
        gate.check(chunk)
        yield chunk
    gate.finish()


def _templated(path: str, template: str, values: dict[str, Any], *, gate: Gate) -> Artefact:
    try:
        content = render_template(template, values)
    except EncodingError as error:
        raise GateError(f"{path} was not written: {error}", hint=f"see templates/{template}") from None
    gate(path, content)
    return Artefact(path=path, chunks=(content,))
