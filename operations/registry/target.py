"""Which AWS devices are onboarded to, where its journal lies, and how fast it may be called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.aws import ACCOUNT_ID, load
from fleet_iot.operations.pki.spent import journal_folder, journal_name, journals_folder
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.calls import Quotas, read_quotas
from fleet_iot.operations.registry.steps import THREADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One AWS: its IoT client, its journal, the file that parallel runs keep pace by, and its quotas.

    `quotas` is None where there are none (the local AWS); `policy_on` where the broker leaves no choice; `s3` where
    AWS IoT has no bulk registration that would read from it (the local AWS).
    """

    iot: Any
    account: str
    journal: Path
    rates: Path
    quotas: Quotas | None
    policy_on: str | None
    s3: Any = None


def local_target(project: Project, folder: Path) -> Target:
    """Return the local AWS in a folder; its journal goes with it. Raises EnvironmentFault where none is up."""
    local = load(folder)
    journals = journal_folder(local.folder)
    return Target(
        iot=local.client("iot", config=_config()),
        account=f"{ACCOUNT_ID}/{local.region}",
        journal=journals / journal_name(project),
        rates=journals / "rates.sqlite",
        quotas=None,
        # Its broker knows the policies of certificates alone (docs/local-aws.md).
        policy_on="certificate",
    )


def aws_target(project: Project) -> Target:
    """Return the account of the credentials, in the manifest's region. Raises EnvironmentFault."""
    region = project.fleet.region
    try:
        session = boto3.session.Session(region_name=region)
        account = str(session.client("sts", config=_config()).get_caller_identity()["Account"])
        iot = session.client("iot", config=_config())
        quotas = read_quotas(session.client("service-quotas"))
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"AWS does not say whose account this is: {error}", hint="set AWS_PROFILE, or log in"
        ) from None
    if project.fleet.account_id not in (None, account):
        raise EnvironmentFault(
            f"these credentials are of account {account}, the manifest's is {project.fleet.account_id}",
            hint="use the other account's credentials",
        )
    base = journals_folder()
    return Target(
        iot=iot,
        account=f"{account}/{region}",
        journal=base / f"{account}-{region}" / journal_name(project),
        rates=base / "rates.sqlite",
        quotas=quotas,
        policy_on=None,
        s3=session.client("s3"),
    )


def _config() -> Config:
    """No retries of its own: a second CreateCertificateFromCsr would make a second certificate."""
    return Config(
        retries={"total_max_attempts": 1},
        max_pool_connections=2 * THREADS,
        connect_timeout=5,
        read_timeout=30,
        # Half of a call's time; names and documents come from the approved record and were checked.
        parameter_validation=False,
    )
