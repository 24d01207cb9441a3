"""Run `lib.app` with one construct for each resource of each thing: the peer of the benchmark `synthesis`."""

from __future__ import annotations

import sys
from typing import Any

from cdktf_cdktf_provider_aws.iot_certificate import IotCertificate
from cdktf_cdktf_provider_aws.iot_policy_attachment import IotPolicyAttachment
from cdktf_cdktf_provider_aws.iot_thing import IotThing
from cdktf_cdktf_provider_aws.iot_thing_group_membership import IotThingGroupMembership
from cdktf_cdktf_provider_aws.iot_thing_principal_attachment import IotThingPrincipalAttachment

from fleet_iot.lib import app, bindings
from fleet_iot.lib.shared.context import StackContext
from fleet_iot.lib.stacks import FacilityStack
from fleet_iot.lib.synthesis import run as synthesis

CONSTRUCTS = {
    "aws_iot_thing": IotThing,
    "aws_iot_thing_group_membership": IotThingGroupMembership,
    "aws_iot_certificate": IotCertificate,
    "aws_iot_policy_attachment": IotPolicyAttachment,
    "aws_iot_thing_principal_attachment": IotThingPrincipalAttachment,
}


class ConstructEachStack(FacilityStack):
    """The same stack, with a construct for each block of its things."""

    def __init__(self, scope: bindings.Construct, id_: str, context: StackContext, **arguments: Any) -> None:
        super().__init__(scope, id_, context, **arguments)
        for kind, blocks in self.things.blocks.items():
            for thing, block in blocks.items():
                CONSTRUCTS[kind](self, f"{kind}-{thing}", **block).override_logical_id(thing)
        self.blocks = {}


if __name__ == "__main__":
    setattr(synthesis, FacilityStack.__name__, ConstructEachStack)
    sys.exit(app.main())
