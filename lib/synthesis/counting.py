"""Counts what was synthesised against what was planned: CDKTF merges resources whose ids look alike, silently."""

from __future__ import annotations

from collections.abc import Mapping

from ..faults import SynthesisError
from ..shared.things import Blocks
from ..specs import FacilitySpec, FleetSpec

ENDPOINT_COUNTS = {"aws_iot_domain_configuration": 1}
"""Resource type → number in the stack of the devices' endpoint."""


PLANT_ALARMS = 4
"""Of a plant as a whole: rule failures, rule throttles, quarantine, anomalies; each device type has one for silence."""


def platform_counts(fleet: FleetSpec) -> dict[str, int]:
    """Resource type → number in the platform's stack, as far as the manifest decides it."""
    return {"aws_iot_thing_type": len(fleet.device_types)}


def facility_counts(facility: FacilitySpec, *, certificates: int, has_markers: bool) -> dict[str, int]:
    """Resource type → number in the stack of `facility`, `certificates` of whose things have a CSR.

    `has_markers`: its prefixes in the archive are marked by an object each.
    """
    things = facility.thing_count if facility.registration == "terraform" else 0
    return {
        "aws_iot_thing": things,
        "aws_iot_thing_group_membership": things,
        "aws_iot_certificate": certificates,
        "aws_iot_policy_attachment": certificates,
        "aws_iot_thing_principal_attachment": certificates,
        "aws_iot_thing_group": 1 + len(facility.groups),
        "aws_iot_policy": len(facility.groups),
        "aws_s3_object": len(facility.groups) if has_markers else 0,
        "aws_iot_topic_rule": 1,
        "aws_iot_provisioning_template": 1,
        "aws_cloudwatch_dashboard": 1,
        "aws_cloudwatch_metric_alarm": PLANT_ALARMS + len(facility.groups),
    }


def check_counts(stack: str, resources: Blocks, *, planned: Mapping[str, int], declared: Mapping[str, int]) -> None:
    """Raises where `resources`, read from the file of `stack`, are not as many of each type as they should be.

    `planned` is what the manifest decides; `declared` every construct and block that was made. Neither would do alone:
    a thing that nobody declared is missing from both file and `declared`, and the manifest knows nothing of the
    platform's buckets and roles.
    """
    for kind in sorted({*resources, *planned, *declared}):
        found = len(resources.get(kind, {}))
        for expected in (planned.get(kind, found), declared.get(kind, 0)):
            if found != expected:
                raise SynthesisError(
                    f"Stack {stack} holds {found} {kind} where {expected} were planned.",
                    remedy="Run `fleet generate`; if it changes nothing, two ids are merged: please report it.",
                )
