"""What AWS takes for a name."""

from __future__ import annotations

import pytest

from lib.faults import SynthesisError
from lib.limits import bucket_fault, check_names


@pytest.mark.parametrize("name", ["abc", "bucket-mfg-raw-archive-dev", "my.states", "a" * 63])
def test_a_good_bucket_has_no_fault(name: str) -> None:
    """Lower-case letters, digits, hyphens and single dots."""
    assert bucket_fault(name) is None


@pytest.mark.parametrize("name", ["ab", "a_b", "-abc", "abc-", "Abc", "a" * 64, "a..b", "192.168.5.4", "x.mrap", "é-é"])
def test_a_bucket_that_s3_refuses_has_one(name: str) -> None:
    """Length, alphabet, ends, dots, addresses and what S3 keeps for itself."""
    assert bucket_fault(name)


def test_a_name_beyond_its_services_limit_stops_synthesis() -> None:
    """The fault names address, stack, name, limit and by how much, and knows the manifest's key."""
    resources = {"aws_iot_provisioning_template": {"template-x": {"name": "t" * 40}}}
    with pytest.raises(SynthesisError) as caught:
        check_names("facility-x-dev", resources, key=("facilities", "x"))
    assert caught.value.message == (
        f"aws_iot_provisioning_template.template-x of facility-x-dev would be named {'t' * 40}, "
        "longer than AWS's 36 characters."
    )
    assert caught.value.remedy.endswith("by 4.")
    assert caught.value.key == ("facilities", "x")


def test_a_name_that_terraform_makes_is_left_to_it() -> None:
    """An expression's length says nothing of the name's."""
    check_names("s", {"aws_s3_bucket": {"b": {"bucket": "${" + "a" * 80 + "}"}}}, key=())
