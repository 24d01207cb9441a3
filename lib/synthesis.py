"""One synthesis, from settings and declarations to checked Terraform JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import packaging
from lib.bindings import App
from lib.counting import ENDPOINT_COUNTS, check_counts, facility_counts, platform_counts
from lib.endpoint_stack import EndpointStack
from lib.facility_stack import FacilityStack
from lib.faults import PrerequisiteError
from lib.fleet_stack import FleetStack
from lib.identities import csrs_file, read_csrs, refuse_shared_keys
from lib.limits import check_names
from lib.output import add_blocks, check_expressions, check_owner, read_resources, stack_file, staging
from lib.retention import RETENTIONS
from lib.settings import PROJECT, Settings
from lib.specs import FacilitySpec, FleetSpec
from lib.tap_stack import TapStack

CONTEXT = {"excludeStackIdFromLogicalIds": "true", "allowSepCharsInLogicalIds": "true"}
"""Resource addresses read like the resources' names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What was synthesised: the stacks to apply and destroy at will, platform first, and what a person should know.

    The `endpoint` is apart, for AWS lets it be destroyed only after a week.
    """

    stacks: tuple[str, ...]
    endpoint: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Stack:
    """A stack, how many resources of each type the manifest plans for it, and the manifest's key that names it."""

    stack: FleetStack
    planned: Mapping[str, int]
    manifest_key: tuple[str, ...] = ("environment_suffix",)

    @property
    def name(self) -> str:
        return str(self.stack.node.id)

    def complete(self, outdir: Path) -> None:
        """Adds the blocks that are no constructs to the synthesised file, and checks what it then holds."""
        path = stack_file(outdir, self.name)
        if self.stack.blocks:
            add_blocks(path, self.stack.blocks)
        check_expressions(path)
        resources = read_resources(path)
        check_counts(self.name, resources, planned=self.planned, declared=self.stack.declared())
        check_names(self.name, resources, key=self.manifest_key)


def synthesise(
    settings: Settings, *, fleet: FleetSpec, facilities: Mapping[str, FacilitySpec], folder: Path
) -> Synthesis:
    """Synthesises platform and chosen facilities into `settings.outdir`; `folder` holds the facilities' folders."""
    suffix = settings.environment_suffix
    csrs = {id_: read_csrs(csrs_file(settings.identities, suffix=suffix, facility=id_)) for id_ in settings.facilities}
    refuse_shared_keys(csrs)
    code = packaging.build_zip(
        source=PROJECT / "lambda" / "sensor_processor",
        lock=PROJECT / "requirements" / "lambda.txt",
        fleet=fleet,
        architecture=settings.lambda_architecture,
        build=settings.build / "lambda",
    )
    own_tags = {"application": fleet.application, "environment": suffix}
    shared: dict[str, Any] = {
        "environment_suffix": suffix,
        "aws_region": fleet.region,
        "state_bucket": settings.state_bucket,
        "state_bucket_region": settings.state_bucket_region,
        "default_tags": fleet.tags | own_tags,
        "account_id": settings.account_id,
        "access": settings.access,
    }
    retention = RETENTIONS[fleet.retention]
    platform, endpoint = f"tap-{suffix}", f"endpoint-{suffix}"
    stacks: list[_Stack] = []
    missing: dict[str, str] = {}
    with staging(settings.outdir) as staged:
        app = App(outdir=str(staged), context=CONTEXT)
        stacks.append(_Stack(TapStack(app, platform, fleet=fleet, code=code, **shared), platform_counts(fleet)))
        stacks.append(_Stack(EndpointStack(app, endpoint, application=fleet.application, **shared), ENDPOINT_COUNTS))
        for id_ in settings.facilities:
            facility = facilities[id_]
            stack = FacilityStack(
                app,
                f"facility-{id_}-{suffix}",
                application=fleet.application,
                retention=retention,
                facility=facility,
                folder=folder / facility.module,
                csrs=csrs[id_],
                **shared | {"default_tags": fleet.tags | facility.tags | own_tags},
            )
            if stack.things.without_csr:
                missing[id_] = f"{stack.things.without_csr} of {facility.thing_count} things have no CSR yet"
            certificates, has_markers = stack.things.certificates, retention.is_destroyable
            planned = facility_counts(facility, certificates=certificates, has_markers=has_markers)
            stacks.append(_Stack(stack, planned, manifest_key=("facilities", id_)))
        notes = _missing_csrs(missing, settings)
        for each in stacks:
            check_owner(settings.outdir, each.name, application=fleet.application)
        app.synth()
        for each in stacks:
            each.complete(staged)
    names = tuple(each.name for each in stacks if each.name != endpoint)
    return Synthesis(stacks=names, endpoint=endpoint, notes=notes)


def _missing_csrs(missing: Mapping[str, str], settings: Settings) -> tuple[str, ...]:
    """A note for each plant in `missing`, or one fault for all of them where every thing must have a CSR."""
    if missing and settings.requires_csrs:
        facts = "; ".join(f"{id_}: {fact}" for id_, fact in missing.items())
        which = "--all" if len(missing) > 1 else f"--facility {next(iter(missing))}"
        raise PrerequisiteError(
            f"{facts}, and FLEET_REQUIRE_CSRS asks for all.",
            remedy=f"Run `fleet keys create {which}`, or add theirs to {settings.identities}.",
        )
    return tuple(
        f"note: {id_}: {fact}: they are registered without certificate (`fleet keys create --facility {id_}`)."
        for id_, fact in missing.items()
    )
