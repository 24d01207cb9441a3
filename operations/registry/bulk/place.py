"""Where bulk registrations of a facility have their parameter files, role and template."""

from __future__ import annotations

from collections.abc import Callable

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.names import BULK_REGISTRATION_ROLE, PlatformNames
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.bulk.parameters import TEMPLATE_FILE
from fleet_iot.operations.registry.bulk.run import BulkPlace
from fleet_iot.operations.registry.target import Target


def platform_names(project: Project, account: str) -> PlatformNames:
    """The platform as its stack names it in this account; `account` as `<id>/<region>`."""
    account_id, _, region = account.partition("/")
    return PlatformNames(
        application=project.fleet.application,
        suffix=project.environment_suffix,
        region=region,
        account_id=account_id,
        bucket_account_id=project.account_id,
    )


def upload_url(project: Project, facility: FacilitySpec, account: str) -> str:
    """Below which URL the facility's parameter files lie."""
    names = platform_names(project, account)
    return f"s3://{names.raw_archive}/{names.bulk_registration_prefix(facility.id)}"


def place_of(
    project: Project, facility: FacilitySpec, target: Target, run: int, *, asks_to_stop: Callable[[], bool]
) -> BulkPlace:
    """Raises EnvironmentFault where there is no bulk registration."""
    if target.s3 is None:
        raise EnvironmentFault(
            "the local AWS has no bulk registration of AWS IoT's own", hint="use --via api, or --aws"
        )
    names = platform_names(project, target.account)
    return BulkPlace(
        s3=target.s3,
        bucket=names.raw_archive,
        prefix=names.bulk_registration_prefix(facility.id),
        role_arn=names.role_arn(BULK_REGISTRATION_ROLE),
        template=project.root / "lib" / "facilities" / facility.module / TEMPLATE_FILE,
        folder=project.root / "build" / "onboarding" / facility.id / f"run-{run}",
        asks_to_stop=asks_to_stop,
    )
