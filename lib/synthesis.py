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
from lib.identities import csrs_file, read_csrs
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


def synthesise(
    settings: Settings, *, fleet: FleetSpec, facilities: Mapping[str, FacilitySpec], folder: Path
) -> Synthesis:
    """Synthesises platform and chosen facilities into `settings.outdir`; `folder` holds the facilities' folders."""
    suffix = settings.environment_suffix
    csrs = {id_: read_csrs(csrs_file(settings.identities, suffix=suffix, facility=id_)) for id_ in settings.facilities}
    code = packaging.build_zip(
        source=PROJECT / "lambda" / "sensor_processor",
        lock=PROJECT / "requirements" / "lambda.txt",
        fleet=fleet,
        architecture=settings.lambda_architecture,
        build=settings.build / "lambda",
    )
    settings.outdir.mkdir(parents=True, exist_ok=True)
    app = App(outdir=str(settings.outdir), context=CONTEXT)
    own_tags = {"application": fleet.application, "environment": suffix}
    shared: dict[str, Any] = {
        "environment_suffix": suffix,
        "aws_region": fleet.region,
        "state_bucket": settings.state_bucket,
        "state_bucket_region": settings.state_bucket_region,
        "default_tags": fleet.tags | own_tags,
        "account_id": settings.account_id,
    }
    platform = f"tap-{suffix}"
    TapStack(app, platform, fleet=fleet, code=code, **shared)
    endpoint = f"endpoint-{suffix}"
    EndpointStack(app, endpoint, application=fleet.application, **shared)
    planned: dict[str, Mapping[str, int]] = {platform: platform_counts(fleet), endpoint: ENDPOINT_COUNTS}
    notes = []
    for id_ in settings.facilities:
        facility, name = facilities[id_], f"facility-{id_}-{suffix}"
        stack = FacilityStack(
            app,
            name,
            application=fleet.application,
            facility=facility,
            folder=folder / facility.module,
            csrs=csrs[id_],
            **shared | {"default_tags": fleet.tags | facility.tags | own_tags},
        )
        notes += _missing_identities(facility, stack.things.without_csr, settings)
        planned[name] = facility_counts(facility, certificates=stack.things.certificates)
    app.synth()
    for name, counts in planned.items():
        check_counts(name, outdir=settings.outdir, planned=counts)
    return Synthesis(stacks=tuple(name for name in planned if name != endpoint), endpoint=endpoint, notes=tuple(notes))


def _missing_identities(facility: FacilitySpec, missing: int, settings: Settings) -> list[str]:
    if not missing:
        return []
    fact = f"{facility.id}: {missing} of {facility.thing_count} things have no CSR yet"
    if settings.requires_csrs:
        raise PrerequisiteError(
            f"{fact}, and FLEET_REQUIRE_CSRS asks for all.",
            remedy=f"Run `fleet keys create --facility {facility.id}`, or add theirs to {settings.identities}.",
        )
    return [f"note: {fact}: they are registered without certificate (`fleet keys create --facility {facility.id}`)."]
