"""The generator's table of AWS's limits is what botocore's models say, and names fit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_iot.generator import naming
from fleet_iot.generator.aws import limits as aws_limits
from fleet_iot.generator.aws.limits import TextLimit
from fleet_iot.lib import names as resource_names
from fleet_iot.lib.shared.limits import NAME_MAXIMA
from fleet_iot.lib.specs import suffixed
from fleet_iot.operations.assurance.compliance import aws_table
from fleet_iot.operations.assurance.compliance.calls import CALLS, DOCUMENTED

LONGEST = "a" * 32
SUFFIX = "s" * naming.SUFFIX_MAX_LENGTH


def test_the_table_is_what_the_models_say() -> None:
    """Run `python -m fleet_iot.operations.assurance.compliance.aws_table` where it is not."""
    assert aws_table.PATH.read_text("ascii") == aws_table.current()


def test_a_stale_table_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One whose limit botocore has changed; a second run changes nothing."""
    path = tmp_path / "aws_limits.json"
    path.write_text(aws_table.current().replace('"max": 36', '"max": 35'), "ascii")
    monkeypatch.setattr(aws_table, "PATH", path)
    aws_table.main()
    aws_table.main()
    assert ["wrote aws_limits.json", "aws_limits.json is up to date"] == capsys.readouterr().out.splitlines()
    assert '"max": 36' in path.read_text("ascii")


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        (aws_limits.THING_NAME, naming.named_thing(LONGEST, LONGEST, LONGEST)),
        (aws_limits.THING_TYPE_NAME, resource_names.thing_type(LONGEST)),
        (aws_limits.THING_GROUP_NAME, resource_names.thing_group(LONGEST, LONGEST)),
        (aws_limits.POLICY_NAME, resource_names.policy(LONGEST, LONGEST)),
        (aws_limits.TOPIC_RULE_NAME, resource_names.topic_rule(LONGEST)),
        (aws_limits.ATTRIBUTE_VALUE, naming.named_serial(LONGEST, LONGEST, LONGEST)),
    ],
)
def test_the_longest_names_that_the_manifest_can_make_fit(limit: TextLimit, name: str) -> None:
    """With the longest ids and suffix: so no rule has to ask. Templates and buckets do not fit; those have rules."""
    assert limit.takes(suffixed(name, SUFFIX))


def test_a_limit_takes_what_aws_takes() -> None:
    """Length and pattern both."""
    limit = aws_limits.TEMPLATE_NAME
    assert limit.takes("t" * 36)
    assert not limit.takes("t" * 37) and not limit.takes("") and not limit.takes("a.b")


@pytest.mark.parametrize("type_", sorted(NAME_MAXIMA.keys() - {"aws_s3_bucket_intelligent_tiering_configuration"}))
def test_names_are_as_long_in_lib_as_in_aws(type_: str) -> None:
    """The synthesis refuses names by a table of its own: it knows no botocore, and must say the same."""
    argument, maximum = NAME_MAXIMA[type_]
    call = CALLS[type_]
    member = f"{call.service}.{call.operation}:{call.members[argument].split()[0]}"
    limit = aws_table.limits_of(member)

    def is_taken(length: int) -> bool:
        name = ("alias/" if type_ == "aws_kms_alias" else "").ljust(length, "a")
        fits = length <= limit.get("max", length)
        return fits and not any(each.problem(name) for each in DOCUMENTED.get(member, ()))

    assert is_taken(maximum) and not is_taken(maximum + 1)
