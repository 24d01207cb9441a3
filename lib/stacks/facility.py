"""One plant: its groups, policies, rule, template, dashboard and archive prefixes, and its things."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..bindings import Construct
from ..constructs.fleet_provisioning import FleetProvisioning
from ..constructs.observability import FacilityAlarms, FacilityDashboard
from ..constructs.storage import FacilityArchive
from ..constructs.telemetry_stream import TelemetryRule
from ..constructs.thing_registry import ThingRegistry
from ..shared.context import OWN, Access, Retention
from ..shared.text import literal
from ..shared.things import ThingBlocks, read_things, thing_blocks
from ..specs import FacilitySpec
from .base import FleetStack


class FacilityStack(FleetStack):
    """The plant `facility`, declared in `folder`; refers to the platform by name alone.

    `csrs` are the certificate requests of its things by full name; of a plant that registers its things in bulk,
    Terraform owns everything but the things.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment_suffix: str,
        aws_region: str,
        state_bucket: str | None,
        state_bucket_region: str,
        default_tags: Mapping[str, str],
        account_id: str | None,
        application: str,
        retention: Retention,
        facility: FacilitySpec,
        folder: Path,
        csrs: Mapping[str, str],
        access: Access = OWN,
    ) -> None:
        facility = literal(facility)
        super().__init__(
            scope,
            id_,
            application=application,
            environment_suffix=environment_suffix,
            aws_region=aws_region,
            account_id=account_id,
            state_bucket=state_bucket,
            state_bucket_region=state_bucket_region,
            default_tags=default_tags,
            access=access,
        )
        ThingRegistry(self, names=self.names, facility=facility, folder=folder)
        TelemetryRule(self, names=self.names, facility=facility, folder=folder)
        FleetProvisioning(self, names=self.names, facility=facility, folder=folder)
        FacilityDashboard(self, names=self.names, facility=facility, folder=folder)
        FacilityAlarms(self, names=self.names, facility=facility)
        self.archive = FacilityArchive(
            self, names=self.names, facility=facility, folder=folder, has_markers=retention.is_destroyable
        )
        self.things = ThingBlocks(blocks={}, certificates=0, without_csr=0)
        if facility.registration == "terraform":
            things = read_things(folder / facility.things_file)
            self.things = thing_blocks(things, facility=facility, suffix=environment_suffix, csrs=csrs)
            self.blocks = self.things.blocks
