"""Assumptions of the proof about certificates, compared with the Terraform blocks that attach them."""

from __future__ import annotations

from collections import Counter

import pytest

from fleet_iot.lib.record.read import read_record, read_things
from fleet_iot.lib.shared.things import thing_blocks
from fleet_iot.lib.specs import FacilitySpec
from tests.lib.shared.test_things import held
from tests.places import SAMPLE

FACILITIES = read_record(SAMPLE).facilities


@pytest.mark.parametrize("facility", FACILITIES.values(), ids=FACILITIES.keys())
def test_a_certificate_belongs_to_one_thing_and_carries_its_groups_policy(facility: FacilitySpec) -> None:
    """Each thing has a certificate of its own, with the policy of its device type in its facility and no other."""
    things = list(read_things(SAMPLE / "lib" / "facilities" / facility.module / facility.things_file))
    requests = {f"{thing.name}-dev": (held("CSR", thing=f"{thing.name}-dev"),) for thing in things}
    blocks = thing_blocks(iter(things), facility=facility, suffix="dev", requests=requests).blocks
    policies = {group.device_type: group.policy for group in facility.groups}
    for thing in things:
        certificate = f"${{aws_iot_certificate.{thing.name}.arn}}"
        assert (
            f"${{aws_iot_policy.{policies[thing.device_type]}.name}}"
            == (blocks["aws_iot_policy_attachment"][thing.name]["policy"])
        )
        assert certificate == blocks["aws_iot_policy_attachment"][thing.name]["target"]
        assert certificate == blocks["aws_iot_thing_principal_attachment"][thing.name]["principal"]
    for kind, target in (("aws_iot_policy_attachment", "target"), ("aws_iot_thing_principal_attachment", "principal")):
        assert {1} == set(Counter(block[target] for block in blocks[kind].values()).values())
        assert len(things) == len(blocks[kind])
