"""Settings from the environment, and the values that are refused there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fleet_iot.lib.faults import ManifestError, PrerequisiteError, RequestError
from fleet_iot.lib.shared.context import Access
from fleet_iot.lib.specs import FleetSpec
from fleet_iot.lib.synthesis.settings import read_settings
from tests.places import SAMPLE

PLANTS = ("a-1", "b-1")


def test_the_manifest_decides_where_the_environment_says_nothing(fleet: FleetSpec) -> None:
    """Suffix, region of the state and facilities come from the declarations by default."""
    settings = read_settings({}, fleet=fleet, facilities=PLANTS, project=SAMPLE)
    assert (settings.environment_suffix, settings.state_bucket_region) == (fleet.environment_suffix, fleet.region)
    assert settings.facilities == PLANTS
    assert (settings.state_bucket, settings.account_id, settings.requires_csrs) == (None, None, False)
    assert (settings.outdir, settings.identities) == (SAMPLE / "cdktf.out", SAMPLE / "identities")


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
            "TERRAFORM_STATE_ROLE_ARN": "arn:aws:iam::123456789012:role/terraform-state",
            "TERRAFORM_STATE_KEY_ARN": "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab",
            "FLEET_ASSUME_ROLE_ARN": "arn:aws:iam::210987654321:role/deploy/fleet",
        },
        fleet=dataclasses.replace(fleet, account_id="123456789012"),
        facilities=PLANTS,
        project=SAMPLE,
    )
    assert (settings.environment_suffix, settings.account_id) == ("prod-2", "210987654321")
    assert (settings.facilities, settings.requires_csrs) == (("b-1",), True)
    assert (settings.outdir, settings.identities) == (Path("here/out"), Path("ids"))
    assert (settings.lambda_architecture, settings.state_bucket) == ("x86_64", "states")
    assert settings.state_bucket_region == "eu-west-1"
    assert settings.access == Access(
        role_arn="arn:aws:iam::210987654321:role/deploy/fleet",
        state_role_arn="arn:aws:iam::123456789012:role/terraform-state",
        state_key_arn="arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab",
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ENVIRONMENT_SUFFIX", "Prod", "ENVIRONMENT_SUFFIX is 'Prod', but it must be 1 to 16 lower-case letters"),
        ("ENVIRONMENT_SUFFIX", "dev-", "ENVIRONMENT_SUFFIX is 'dev-'"),
        ("ENVIRONMENT_SUFFIX", "x" * 17, "1 to 16"),
        ("FLEET_ACCOUNT_ID", "12345", "FLEET_ACCOUNT_ID is '12345', but it must be 12 digits."),
        ("ENVIRONMENT_SUFFIX", "s3alias", "-s3alias ends in -s3alias, which S3 keeps for itself."),
        ("TERRAFORM_STATE_BUCKET", "States", "TERRAFORM_STATE_BUCKET is 'States', which is not 3 to 63 lower-case"),
        ("TERRAFORM_STATE_BUCKET", "s3://states", "is not 3 to 63 lower-case"),
        ("TERRAFORM_STATE_BUCKET", "s" * 64, "which is 1 longer than S3's 63 characters."),
        ("TERRAFORM_STATE_BUCKET", "a..b", "which has two dots in a row"),
        ("TERRAFORM_STATE_BUCKET", "10.0.0.1", "or is an IP address"),
        ("TERRAFORM_STATE_BUCKET", "xn--states", "begins with xn--, which S3 keeps for itself"),
        ("TERRAFORM_STATE_BUCKET_REGION", "Singapore", "TERRAFORM_STATE_BUCKET_REGION is 'Singapore'"),
        ("FLEET_LAMBDA_ARCHITECTURE", "riscv", "FLEET_LAMBDA_ARCHITECTURE is 'riscv'"),
        ("FLEET_ASSUME_ROLE_ARN", "deploy", "FLEET_ASSUME_ROLE_ARN is 'deploy', which is not a role's ARN."),
        ("FLEET_ASSUME_ROLE_ARN", "arn:aws:iam::1:role/x", "which is not a role's ARN."),
        ("TERRAFORM_STATE_ROLE_ARN", "arn:aws:iam::123456789012:user/x", "which is not a role's ARN."),
        ("TERRAFORM_STATE_KEY_ARN", "alias/state", "which is not a KMS key's ARN."),
    ],
)
def test_a_bad_variable_is_named_with_its_value(fleet: FleetSpec, variable: str, value: str, message: str) -> None:
    """A value that AWS or the declarations refuse is an environment fault (exit 7) with a remedy."""
    with pytest.raises(PrerequisiteError) as caught:
        read_settings({variable: value}, fleet=fleet, facilities=PLANTS, project=SAMPLE)
    assert message in caught.value.message
    assert caught.value.exit_code == 7
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("value", "message"),
    [("a-1,c-1", "names 'c-1', which is no generated facility."), (" , ", "which names no facility.")],
)
def test_an_unknown_facility_is_usage(fleet: FleetSpec, value: str, message: str) -> None:
    """`FLEET_FACILITIES` has the exit code of `--facility` for the same mistake."""
    with pytest.raises(RequestError, match=message) as caught:
        read_settings({"FLEET_FACILITIES": value}, fleet=fleet, facilities=PLANTS, project=SAMPLE)
    assert caught.value.exit_code == 2


def test_a_role_of_another_account_is_refused(fleet: FleetSpec) -> None:
    """The provider would refuse the account, but only at plan, and in words that name neither variable."""
    role = {"FLEET_ASSUME_ROLE_ARN": "arn:aws:iam::210987654321:role/deploy"}
    with pytest.raises(
        PrerequisiteError, match="of account 210987654321, but the platform is for account 123456789012"
    ):
        read_settings(role | {"FLEET_ACCOUNT_ID": "123456789012"}, fleet=fleet, facilities=PLANTS, project=SAMPLE)
    settings = read_settings(role, fleet=fleet, facilities=PLANTS, project=SAMPLE)
    assert settings.access.role_arn == role["FLEET_ASSUME_ROLE_ARN"]


def test_a_csr_switch_of_zero_is_off(fleet: FleetSpec) -> None:
    """FLEET_REQUIRE_CSRS=0 asks for nothing."""
    assert not read_settings({"FLEET_REQUIRE_CSRS": "0"}, fleet=fleet, facilities=PLANTS, project=SAMPLE).requires_csrs


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"environment_suffix": "Prod"}, "environment_suffix", "environment_suffix is 'Prod', but it must be 1 to 16"),
        ({"account_id": "12345"}, "account_id", "account_id is '12345', but it must be 12 digits."),
        (
            {"application": "a" * 32, "account_id": "123456789012"},
            "application",
            f"the bucket's name bucket-{'a' * 32}-raw-archive-123456789012-dev is 5 longer than S3's 63 characters.",
        ),
        (
            {"application": "a" * 22},
            "application",
            f"the role's name role-fleet-provisioning-{'a' * 22}-ap-southeast-1-dev is 1 longer than IAM's 64",
        ),
        (
            {"environment_suffix": "x--x-s3"},
            "environment_suffix",
            "the bucket's name bucket-mfg-raw-archive-x--x-s3 ends in --x-s3, which S3 keeps for itself.",
        ),
    ],
)
def test_what_the_manifest_says_is_refused_by_its_key(
    fleet: FleetSpec, changes: dict[str, str], key: str, message: str
) -> None:
    """A value that no variable overrides is the manifest's fault (exit 3), and the fault names the key."""
    with pytest.raises(ManifestError) as caught:
        read_settings({}, fleet=dataclasses.replace(fleet, **changes), facilities=PLANTS, project=SAMPLE)
    assert message in caught.value.message
    assert (3, (key,)) == (caught.value.exit_code, caught.value.key)


def test_a_suffix_that_makes_a_bucket_too_long_is_named_as_the_variable(fleet: FleetSpec) -> None:
    """The manifest fits; with the environment's suffix and account it does not."""
    with pytest.raises(PrerequisiteError) as caught:
        read_settings(
            {"ENVIRONMENT_SUFFIX": "x" * 16, "FLEET_ACCOUNT_ID": "123456789012"},
            fleet=dataclasses.replace(fleet, application="packaging-lines"),
            facilities=PLANTS,
            project=SAMPLE,
        )
    assert caught.value.message.startswith(f"With ENVIRONMENT_SUFFIX '{'x' * 16}' the bucket's name bucket-packaging")
