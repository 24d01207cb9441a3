"""What the environment decides, and what it may not say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lib.faults import PrerequisiteError
from lib.settings import PROJECT, read_settings
from lib.specs import FleetSpec

PLANTS = ("a-1", "b-1")


def test_the_manifest_decides_where_the_environment_says_nothing(fleet: FleetSpec) -> None:
    """Suffix, region of the state and facilities come from the declarations by default."""
    settings = read_settings({}, fleet=fleet, facilities=PLANTS)
    assert (settings.environment_suffix, settings.state_bucket_region) == (fleet.environment_suffix, fleet.region)
    assert settings.facilities == PLANTS
    assert (settings.state_bucket, settings.account_id, settings.requires_csrs) == (None, None, False)
    assert (settings.outdir, settings.identities) == (PROJECT / "cdktf.out", PROJECT / "identities")


def test_the_environment_overrides_the_manifest(fleet: FleetSpec) -> None:
    """Each variable replaces the value that it names."""
    settings = read_settings(
        {
            "ENVIRONMENT_SUFFIX": "prod-2",
            "FLEET_ACCOUNT_ID": "210987654321",
            "FLEET_FACILITIES": " b-1 ,",
            "FLEET_OUTDIR": "here/out",
            "FLEET_IDENTITIES": "ids",
            "FLEET_REQUIRE_CSRS": "1",
            "FLEET_LAMBDA_ARCHITECTURE": "x86_64",
            "TERRAFORM_STATE_BUCKET": "states",
            "TERRAFORM_STATE_BUCKET_REGION": "eu-west-1",
        },
        fleet=dataclasses.replace(fleet, account_id="123456789012"),
        facilities=PLANTS,
    )
    assert (settings.environment_suffix, settings.account_id) == ("prod-2", "210987654321")
    assert (settings.facilities, settings.requires_csrs) == (("b-1",), True)
    assert (settings.outdir, settings.identities) == (Path("here/out"), Path("ids"))
    assert (settings.lambda_architecture, settings.state_bucket) == ("x86_64", "states")
    assert settings.state_bucket_region == "eu-west-1"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ENVIRONMENT_SUFFIX", "Prod", "ENVIRONMENT_SUFFIX is 'Prod', but it must be 1 to 16 lower-case letters"),
        ("ENVIRONMENT_SUFFIX", "dev-", "ENVIRONMENT_SUFFIX is 'dev-'"),
        ("ENVIRONMENT_SUFFIX", "x" * 17, "1 to 16"),
        ("FLEET_ACCOUNT_ID", "12345", "FLEET_ACCOUNT_ID is '12345', but it must be 12 digits."),
        ("FLEET_FACILITIES", "a-1,c-1", "FLEET_FACILITIES names 'c-1', which is no generated facility."),
        ("FLEET_LAMBDA_ARCHITECTURE", "riscv", "FLEET_LAMBDA_ARCHITECTURE is 'riscv'"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(fleet: FleetSpec, variable: str, value: str, message: str) -> None:
    """A value that AWS or the declarations refuse is an environment fault (exit 7) with a remedy."""
    with pytest.raises(PrerequisiteError) as caught:
        read_settings({variable: value}, fleet=fleet, facilities=PLANTS)
    assert message in caught.value.message
    assert caught.value.exit_code == 7
    assert caught.value.remedy


def test_a_csr_switch_of_zero_is_off(fleet: FleetSpec) -> None:
    """FLEET_REQUIRE_CSRS=0 asks for nothing."""
    assert not read_settings({"FLEET_REQUIRE_CSRS": "0"}, fleet=fleet, facilities=PLANTS).requires_csrs
