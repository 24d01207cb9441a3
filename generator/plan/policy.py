"""Works out what a device may do: which ARNs its policy grants."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_iot.generator import naming


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPlan:
    """The ARNs that a device policy grants; the thing's own name is AWS's variable in them."""

    connect: str
    publish: tuple[str, ...]
    subscribe: str
    receive: str


def policy_plan(application: str, region: str, facility: str, device_type: str) -> PolicyPlan:
    """What a device of this type in this facility may do: speak and listen on topics that hold its own name."""
    who = (application, facility, device_type, naming.THING_NAME_VARIABLE)
    telemetry, request = naming.telemetry_topic(*who), naming.request_topic(*who)
    rule = f"{naming.topic_rule(facility)}_{naming.SUFFIX_TOKEN}"
    published = (telemetry, naming.basic_ingest_topic(rule, telemetry), naming.response_topic(*who))
    return PolicyPlan(
        connect=naming.iot_arn(region, f"client/{naming.THING_NAME_VARIABLE}"),
        publish=tuple(naming.iot_arn(region, f"topic/{topic}") for topic in published),
        subscribe=naming.iot_arn(region, f"topicfilter/{request}"),
        receive=naming.iot_arn(region, f"topic/{request}"),
    )
