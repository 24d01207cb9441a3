"""What the people of a plant look at: its dashboard."""

from __future__ import annotations

from pathlib import Path

from ..bindings import CloudwatchDashboard, Construct
from ..names import PlatformNames
from ..shared.documents import read_document
from ..specs import FacilitySpec


class FacilityDashboard:
    """The generated dashboard, under the plant's name for it."""

    def __init__(self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path) -> None:
        self.dashboard = CloudwatchDashboard(
            scope,
            facility.dashboard,
            dashboard_name=names.account_wide(facility.dashboard),
            dashboard_body=read_document(folder / "dashboard.json", account_id=names.account_id, suffix=names.suffix),
        )
