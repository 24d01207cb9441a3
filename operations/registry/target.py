"""Find what registering devices needs of an AWS: its IoT client, its journal, and how fast it may be called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config

from fleet_iot.operations.aws import Aws
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


def target_of(project: Project, aws: Aws) -> Target:
    """Return what registering devices needs of an AWS; the journal of a local one is in its folder."""
    account = f"{aws.account}/{aws.region}"
    iot = aws.client("iot", config=_config())
    if aws.local is not None:
        journals = journal_folder(aws.local.folder)
        return Target(
            iot=iot,
            account=account,
            journal=journals / journal_name(project),
            rates=journals / "rates.sqlite",
            quotas=None,
            # Its broker knows only the policies of certificates (docs/local-aws.md).
            policy_on="certificate",
        )
    base = journals_folder()
    return Target(
        iot=iot,
        account=account,
        journal=base / account.replace("/", "-") / journal_name(project),
        rates=base / "rates.sqlite",
        quotas=read_quotas(aws.client("service-quotas")),
        policy_on=None,
        s3=aws.client("s3"),
    )


def _config() -> Config:
    """Return a configuration without retries: a second CreateCertificateFromCsr would make a second certificate."""
    return Config(
        retries={"total_max_attempts": 1},
        max_pool_connections=2 * THREADS,
        connect_timeout=5,
        read_timeout=30,
        # Half of a call's time; names and documents come from the approved record and were checked.
        parameter_validation=False,
    )
