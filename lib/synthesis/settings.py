"""Read the settings of a synthesis from environment variables; the only module of lib that does."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..faults import ManifestError, PrerequisiteError, RequestError
from ..names import LONGEST_ROLE, PlatformNames
from ..record.place import MANIFEST, nearest_project
from ..shared.context import OWN, Access
from ..shared.limits import BUCKET_ENDINGS, bucket_fault, role_fault
from ..specs import SUFFIX_PATTERN, SUFFIX_RULE, FleetSpec, chosen_suffix

PROVIDER_LOCK = "terraform.lock.hcl"
"""In the project's folder: hashes of the AWS provider for the platforms where Terraform runs, over the lock here."""
LOCKED_PLATFORM = ("linux", "x86_64")
"""The platform of the lock here; on others Terraform would refuse the provider."""

DEFAULT_LAMBDA_ARCHITECTURE = "arm64"
"""The cheaper of the two; every dependency has a wheel for it."""

LAMBDA_ARCHITECTURES = ("arm64", "x86_64")

ACCOUNT_ID_PATTERN = re.compile(r"[0-9]{12}")

ROLE_PATTERN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/[\w+=,.@/-]{1,576}", re.ASCII)
KEY_PATTERN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:([0-9]{12}):key/[a-zA-Z0-9-]{1,128}", re.ASCII)

REGION_PATTERN = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one synthesis.

    Args:
        account_id: None to look it up from the credentials at hand.
        facilities: Ids of the facilities to synthesise.
        build: Folder of the Lambda's zip and wheels.
        identities: Folder of the CSRs and their locks.
        requires_csrs: Refuse things without a CSR.
        lambda_architecture: `arm64` or `x86_64`.
        provider_lock: Terraform's dependency lock file for every stack; None for none.
    """

    environment_suffix: str
    account_id: str | None
    facilities: tuple[str, ...]
    outdir: Path
    build: Path
    identities: Path
    requires_csrs: bool
    lambda_architecture: str
    state_bucket: str | None
    state_bucket_region: str
    access: Access = OWN
    provider_lock: Path | None = None


def find_project(start: Path) -> Path:
    """Return the nearest folder, from `start` upward, with a manifest; raise `PrerequisiteError` without one."""
    if found := nearest_project(start):
        return found
    raise PrerequisiteError(
        f"there is no {MANIFEST} in {start} or in a folder above it.", remedy="Go into the project's folder."
    )


def read_suffix(environment: Mapping[str, str], fleet: FleetSpec) -> str:
    """Return the suffix of this environment: `ENVIRONMENT_SUFFIX`, else the manifest's.

    Raises:
        PrerequisiteError: the variable is not a valid suffix.
        ManifestError: the manifest's is not.
    """
    try:
        suffix = chosen_suffix(environment, fleet.environment_suffix)
    except ValueError as error:
        raise PrerequisiteError(f"{error}.", remedy="Set ENVIRONMENT_SUFFIX to such a value.") from None
    if not SUFFIX_PATTERN.fullmatch(suffix):
        raise ManifestError(
            f"environment_suffix is {suffix!r}, but it must be {SUFFIX_RULE}.",
            remedy="Correct it and run `fleet generate`, or set ENVIRONMENT_SUFFIX.",
            key=("environment_suffix",),
            value=suffix,
        )
    return suffix


def read_account_id(environment: Mapping[str, str], fleet: FleetSpec) -> str | None:
    """Return the account of this environment: `FLEET_ACCOUNT_ID`, else the manifest's, else None.

    Raises:
        PrerequisiteError: the variable is not an account id.
        ManifestError: the manifest's is not.
    """
    given = environment.get("FLEET_ACCOUNT_ID")
    account_id = given or fleet.account_id
    if account_id is None or ACCOUNT_ID_PATTERN.fullmatch(account_id):
        return account_id
    if given:
        raise PrerequisiteError(
            f"FLEET_ACCOUNT_ID is {given!r}, but it must be 12 digits.", remedy="Set FLEET_ACCOUNT_ID to such a value."
        )
    raise ManifestError(
        f"account_id is {account_id!r}, but it must be 12 digits.",
        remedy="Correct it and run `fleet generate`, or set FLEET_ACCOUNT_ID.",
        key=("account_id",),
        value=account_id,
    )


def read_settings(
    environment: Mapping[str, str], *, fleet: FleetSpec, facilities: Collection[str], project: Path
) -> Settings:
    """Read the settings from environment variables, with defaults from the manifest.

    Args:
        environment: Environment variables.
        facilities: Ids of all generated facilities.
        project: The project's folder.
    """
    suffix = read_suffix(environment, fleet)
    account_id = read_account_id(environment, fleet)
    _check_names(environment, fleet, suffix=suffix, account_id=account_id)
    return Settings(
        environment_suffix=suffix,
        account_id=account_id,
        facilities=_chosen(environment.get("FLEET_FACILITIES", ""), facilities),
        outdir=Path(environment.get("FLEET_OUTDIR") or environment.get("CDKTF_OUTDIR") or project / "cdktf.out"),
        build=project / "build",
        identities=Path(environment.get("FLEET_IDENTITIES") or project / "identities"),
        requires_csrs=environment.get("FLEET_REQUIRE_CSRS", "") not in {"", "0"},
        lambda_architecture=_architecture(environment.get("FLEET_LAMBDA_ARCHITECTURE") or DEFAULT_LAMBDA_ARCHITECTURE),
        state_bucket=_state_bucket(environment.get("TERRAFORM_STATE_BUCKET")),
        state_bucket_region=_state_bucket_region(environment.get("TERRAFORM_STATE_BUCKET_REGION")) or fleet.region,
        access=Access(
            role_arn=_role(environment, account_id=account_id),
            state_role_arn=_arn(environment, "TERRAFORM_STATE_ROLE_ARN", ROLE_PATTERN, "a role's"),
            state_key_arn=_arn(environment, "TERRAFORM_STATE_KEY_ARN", KEY_PATTERN, "a KMS key's"),
        ),
        provider_lock=_provider_lock(project),
    )


def require_account(settings: Settings) -> None:
    """Raise PrerequisiteError where no account is given.

    Bucket names are global. Without the account id in them they may be another account's bucket, to which a facility
    would write. The local AWS and the compliance gate set an account of their own.
    """
    if settings.account_id is None:
        raise PrerequisiteError(
            "the AWS account is not given, and bucket names, which are global, contain it.",
            remedy="Set FLEET_ACCOUNT_ID to its 12 digits; or set `account_id` in fleet.yaml and run `fleet generate "
            "--allow destroys-data`: buckets get other names, so where some are deployed, move their data first.",
        )


def _check_names(environment: Mapping[str, str], fleet: FleetSpec, *, suffix: str, account_id: str | None) -> None:
    """Raise where S3 would reject a bucket name of the platform, or IAM a role name."""
    names = PlatformNames(
        application=fleet.application,
        suffix=suffix,
        region=fleet.region,
        account_id=account_id or "",
        bucket_account_id=account_id,
    )
    buckets = (names.raw_archive, names.access_logs, names.audit_bucket, names.lanes)
    role = names.account_wide(LONGEST_ROLE)
    faults = {f"bucket's name {name}": bucket_fault(name) for name in buckets} | {
        f"role's name {role}": role_fault(role)
    }
    for name, fault in faults.items():
        if fault and environment.get("ENVIRONMENT_SUFFIX"):
            raise PrerequisiteError(
                f"With ENVIRONMENT_SUFFIX '{suffix}' the {name} {fault}.",
                remedy="Set ENVIRONMENT_SUFFIX to another or shorter one.",
            )
        if fault:
            key = "environment_suffix" if name.endswith(BUCKET_ENDINGS) else "application"
            raise ManifestError(
                f"the {name} {fault}.",
                remedy="Choose another or shorter `application` or `environment_suffix`, and run `fleet generate`.",
                key=(key,),
            )


def _provider_lock(project: Path) -> Path | None:
    own = project / PROVIDER_LOCK
    if own.is_file():
        return own
    return Path(__file__).with_name(PROVIDER_LOCK) if (sys.platform, platform.machine()) == LOCKED_PLATFORM else None


def _state_bucket(name: str | None) -> str | None:
    fault = bucket_fault(name) if name else None
    if fault:
        raise PrerequisiteError(
            f"TERRAFORM_STATE_BUCKET is '{name}', which {fault}.",
            remedy="Set it to a bucket's name, no ARN or URL.",
        )
    return name or None


def _state_bucket_region(region: str | None) -> str | None:
    if region and not REGION_PATTERN.fullmatch(region):
        raise PrerequisiteError(
            f"TERRAFORM_STATE_BUCKET_REGION is '{region}', which is no region's code.",
            remedy="Set it to one such as ap-southeast-1, or unset it.",
        )
    return region or None


def _arn(environment: Mapping[str, str], variable: str, pattern: re.Pattern[str], whose: str) -> str | None:
    value = environment.get(variable) or None
    if value and not pattern.fullmatch(value):
        raise PrerequisiteError(
            f"{variable} is '{value}', which is not {whose} ARN.", remedy=f"Set it to {whose} ARN, or unset it."
        )
    return value


def _role(environment: Mapping[str, str], *, account_id: str | None) -> str | None:
    """Return the provider's role, which must be of the platform's account: the provider accepts no other."""
    variable = "FLEET_ASSUME_ROLE_ARN"
    arn = _arn(environment, variable, ROLE_PATTERN, "a role's")
    match = ROLE_PATTERN.fullmatch(arn or "")
    if match and account_id and match[1] != account_id:
        raise PrerequisiteError(
            f"{variable} names a role of account {match[1]}, but the platform is for account {account_id}.",
            remedy="Name a role of that account, or correct FLEET_ACCOUNT_ID or the manifest's account_id.",
        )
    return arn


def _architecture(value: str) -> str:
    if value not in LAMBDA_ARCHITECTURES:
        raise PrerequisiteError(
            f"FLEET_LAMBDA_ARCHITECTURE is '{value}', which AWS Lambda does not offer.",
            remedy=f"Set it to {' or '.join(LAMBDA_ARCHITECTURES)}, or unset it.",
        )
    return value


def _chosen(text: str, facilities: Collection[str]) -> tuple[str, ...]:
    chosen = tuple(sorted({part.strip() for part in text.split(",")} - {""}))
    if text and not chosen:
        raise RequestError(
            f"FLEET_FACILITIES is {text!r}, which names no facility.",
            remedy=f"Choose from {', '.join(sorted(facilities))}, or unset it for all.",
        )
    for facility in chosen:
        if facility not in facilities:
            raise RequestError(
                f"FLEET_FACILITIES names {facility!r}, which is no generated facility.",
                remedy=f"Choose from {', '.join(sorted(facilities))}; `fleet generate` makes new ones.",
            )
    return chosen or tuple(sorted(facilities))
