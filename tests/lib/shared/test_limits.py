"""Names that AWS accepts."""

from __future__ import annotations

import pytest

from fleet_iot.lib.faults import ManifestError, SynthesisError
from fleet_iot.lib.shared.limits import bucket_fault, check_names, check_tags


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


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({"Environment": "prod", "environment": "dev"}, "'Environment' and 'environment', which are the same to IAM"),
        ({"Straße": "a", "STRASSE": "b"}, "which are the same to IAM"),
        ({"AWS:x": "a"}, "is reserved by AWS"),
        ({"": "a"}, "does not have 1 to 128 characters"),
        ({"k" * 129: "a"}, "does not have 1 to 128 characters"),
        ({"k": "v" * 257}, "does not have 1 to 256 characters"),
        ({"k": ""}, "does not have 1 to 256 characters"),
        ({"k": "${file(1)}"}, "AWS accepts letters, digits, spaces"),
        ({"k{": "v"}, "AWS accepts letters, digits, spaces"),
        ({f"k{number}": "v" for number in range(51)}, "are 51, more than AWS's 50"),
    ],
)
def test_tags_that_aws_refuses(tags: dict[str, str], fault: str) -> None:
    """Case, prefix, alphabet, lengths and number, wherever the tags come from."""
    with pytest.raises(ManifestError) as caught:
        check_tags(tags)
    assert fault in caught.value.message
    assert (caught.value.key, caught.value.exit_code) == (("tags",), 3)


def test_tags_that_aws_takes() -> None:
    """Any script, all the punctuation, fifty of them."""
    check_tags({"部门": "生产", "a b_.:/=+-@": "4711", **{f"k{number}": "v" for number in range(48)}})
