"""What the environment decides about a synthesis; the only module of lib that reads environment variables."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.faults import PrerequisiteError
from lib.specs import FleetSpec

PROJECT = Path(__file__).resolve().parent.parent

DEFAULT_LAMBDA_ARCHITECTURE = "arm64"
"""The cheaper of the two, and every dependency has a wheel for it."""

LAMBDA_ARCHITECTURES = ("arm64", "x86_64")

SUFFIX_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?")
"""Sixteen characters keep the longest names (buckets: 63) in their limits; the generator asks for the same."""

ACCOUNT_ID_PATTERN = re.compile(r"[0-9]{12}")

BUCKET_NAME_LIMIT = 63
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One synthesis: which environment, which facilities, from which identities, into which folder."""

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


def read_settings(environment: Mapping[str, str], *, fleet: FleetSpec, facilities: Collection[str]) -> Settings:
    """The settings that `environment` gives, over those of the manifest; `facilities` are the ids that exist."""
    return Settings(
        environment_suffix=_matching(
            "ENVIRONMENT_SUFFIX",
            environment.get("ENVIRONMENT_SUFFIX") or fleet.environment_suffix,
            SUFFIX_PATTERN,
            "1 to 16 lower-case letters, digits and inner hyphens",
        ),
        account_id=_account_id(environment.get("FLEET_ACCOUNT_ID") or fleet.account_id),
        facilities=_chosen(environment.get("FLEET_FACILITIES", ""), facilities),
        outdir=Path(environment.get("FLEET_OUTDIR") or environment.get("CDKTF_OUTDIR") or PROJECT / "cdktf.out"),
        build=PROJECT / "build",
        identities=Path(environment.get("FLEET_IDENTITIES") or PROJECT / "identities"),
        requires_csrs=environment.get("FLEET_REQUIRE_CSRS", "") not in {"", "0"},
        lambda_architecture=_architecture(environment.get("FLEET_LAMBDA_ARCHITECTURE") or DEFAULT_LAMBDA_ARCHITECTURE),
        state_bucket=environment.get("TERRAFORM_STATE_BUCKET") or None,
        state_bucket_region=environment.get("TERRAFORM_STATE_BUCKET_REGION") or fleet.region,
    )


def _account_id(value: str | None) -> str | None:
    return value and _matching("FLEET_ACCOUNT_ID", value, ACCOUNT_ID_PATTERN, "12 digits")


def _architecture(value: str) -> str:
    if value not in LAMBDA_ARCHITECTURES:
        raise PrerequisiteError(
            f"FLEET_LAMBDA_ARCHITECTURE is '{value}', which AWS Lambda does not offer.",
            remedy=f"Set it to {' or '.join(LAMBDA_ARCHITECTURES)}, or unset it.",
        )
    return value


def _matching(name: str, value: str, pattern: re.Pattern[str], rule: str) -> str:
    if not pattern.fullmatch(value):
        raise PrerequisiteError(f"{name} is '{value}', but it must be {rule}.", remedy=f"Set {name} to such a value.")
    return value


def _chosen(text: str, facilities: Collection[str]) -> tuple[str, ...]:
    chosen = tuple(sorted({part.strip() for part in text.split(",")} - {""}))
    for facility in chosen:
        if facility not in facilities:
            raise PrerequisiteError(
                f"FLEET_FACILITIES names '{facility}', which is no generated facility.",
                remedy=f"Choose from {', '.join(sorted(facilities))}; `fleet generate` makes new ones.",
            )
    return chosen or tuple(sorted(facilities))
