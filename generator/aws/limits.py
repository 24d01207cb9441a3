"""Limits of AWS that the manifest decides about: regions, texts, and quotas that a fleet comes near as it grows.

`python -m fleet_iot.operations.assurance.compliance.aws_table` makes `limits.json` from botocore's models; a test
fails where it is stale. The generator itself imports no AWS client.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from fleet_iot.generator.aws.java_regex import matches

TABLE = "limits.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimit:
    """The length that a text may have, in characters, and the pattern (Java's) that it must match as a whole."""

    min: int = 0
    max: int
    pattern: str = ""

    def takes(self, text: str) -> bool:
        """Return whether AWS accepts the text."""
        return self.min <= len(text) <= self.max and (not self.pattern or matches(self.pattern, text))


_ROWS: dict[str, dict[str, int | str]] = json.loads((files("fleet_iot.generator.aws") / TABLE).read_text("ascii"))


def _limit(member: str) -> TextLimit:
    row = _ROWS[member]
    return TextLimit(min=int(row.get("min", 0)), max=int(row["max"]), pattern=str(row.get("pattern", "")))


ATTRIBUTE_NAME = _limit("iot.CreateThing:attributePayload.attributes{key}")
ATTRIBUTE_VALUE = _limit("iot.CreateThing:attributePayload.attributes{value}")
POLICY_NAME = _limit("iot.CreatePolicy:policyName")
ROLE_NAME = _limit("iam.CreateRole:RoleName")
TAG_KEY = _limit("iam.CreateRole:Tags[].Key")
TAG_VALUE = _limit("iam.CreateRole:Tags[].Value")
TEMPLATE_BODY = _limit("iot.CreateProvisioningTemplate:templateBody")
TEMPLATE_NAME = _limit("iot.CreateProvisioningTemplate:templateName")
THING_GROUP_NAME = _limit("iot.CreateThingGroup:thingGroupName")
THING_NAME = _limit("iot.CreateThing:thingName")
THING_TYPE_DESCRIPTION = _limit("iot.CreateThingType:thingTypeProperties.thingTypeDescription")
THING_TYPE_NAME = _limit("iot.CreateThingType:thingTypeName")
TOPIC_RULE_NAME = _limit("iot.CreateTopicRule:ruleName")


REGIONS = (
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-5",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
)
"""The AWS regions where both AWS IoT Core and Kinesis Data Streams exist, in the partition `aws`.

Source: https://docs.aws.amazon.com/general/latest/gr/iot-core.html and botocore's endpoints, November 2026.
"""


_GENERAL = "https://docs.aws.amazon.com/general/latest/gr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The number of something that an account may have in one region, unless AWS has raised it.

    `of_each_plant` are those that one facility makes, `of_platform` at most those that all share.
    """

    id: str
    what: str
    most: int
    page: str
    of_each_plant: int = 0
    of_platform: int = 0


QUOTAS = (
    Quota(
        id="metrics_insights_alarms",
        what="alarms on Metrics Insights queries",
        most=200,
        page="https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html",
        of_each_plant=1,
    ),
    Quota(
        id="provisioning_templates",
        what="provisioning templates",
        most=256,
        page=f"{_GENERAL}/iot-core.html",
        of_each_plant=1,
    ),
    Quota(
        id="topic_rules",
        what="topic rules",
        most=1_000,
        page=f"{_GENERAL}/iot-core.html",
        of_each_plant=1,
        of_platform=7,
    ),
    Quota(
        id="tiering_configurations",
        what="Intelligent-Tiering configurations of one bucket",
        most=1_000,
        page="https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-intelligent-tiering.html",
        of_each_plant=1,
    ),
    Quota(
        id="iam_roles",
        what="IAM roles",
        most=1_000,
        page="https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html",
    ),
    Quota(
        id="metric_filters",
        what="metric filters of one log group",
        most=100,
        page="https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html",
    ),
)
"""Device policies, things, thing types and groups, and alarms as such have no quota for an account."""

FREE_DASHBOARDS, DASHBOARD_USD = 3, 3
"""Each further one costs so much a month: https://aws.amazon.com/cloudwatch/pricing/"""


def dashboards_usd(dashboards: int) -> int:
    """Return the monthly cost of an account's dashboards, in USD."""
    return max(0, dashboards - FREE_DASHBOARDS) * DASHBOARD_USD
