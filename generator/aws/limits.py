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

LARGE_REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
"""Regions with higher defaults."""

_IOT = f"{_GENERAL}/iot-core.html#limits_iot"
_KINESIS = "https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html"
_DYNAMODB = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"
_WARM = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadQuota:
    """The load that a service takes by default, in one account and region.

    Args:
        measure: The property of the load that it limits.
        what: The load, for people: it follows a number.
        name: The quota's name in Service Quotas.
        most: In any region; `most_in_large` in `LARGE_REGIONS`, where that is more.
        remedy: What to do beyond.
        service: The service's code in Service Quotas, and in `pattern` the quota's name there, as a regular expression;
            empty where Service Quotas does not have it.
        is_error: AWS raises it for nobody, or only after the fleet has been divided.
    """

    id: str
    measure: str
    what: str
    name: str
    most: float
    page: str
    remedy: str
    most_in_large: float = 0
    service: str = ""
    pattern: str = ""
    is_error: bool = False

    def of(self, region: str) -> float:
        """Return the default of a region."""
        return max(self.most, self.most_in_large) if region in LARGE_REGIONS else self.most


_RAISE = "have AWS raise it"

LOAD_QUOTAS = (
    LoadQuota(
        id="iot_connections",
        measure="devices",
        what="devices are connected at once",
        name="AWS IoT's maximum concurrent client connections per account",
        most=500_000,
        service="iotcore",
        pattern=r"concurrent client connections per account",
        page=_IOT,
        remedy=_RAISE,
    ),
    LoadQuota(
        id="iot_publishes",
        measure="messages",
        what="messages are published a second",
        name="AWS IoT's inbound publish requests per second per account",
        most=2_000,
        most_in_large=20_000,
        service="iotcore",
        pattern=r"^inbound publish requests per second per account",
        page=_IOT,
        remedy=f"{_RAISE}, or send arrays of readings",
    ),
    LoadQuota(
        id="iot_rule_evaluations",
        measure="messages",
        what="rules are evaluated a second",
        name="AWS IoT's rule evaluations per second per account",
        most=20_000,
        service="iotcore",
        pattern=r"rule evaluations per second per (AWS )?account",
        page=_IOT,
        remedy=f"{_RAISE}, or send arrays of readings",
    ),
    LoadQuota(
        id="stream_megabytes",
        measure="megabytes",
        what="MB enter the stream a second",
        name="an on-demand stream's write throughput",
        most=200,
        most_in_large=10_000,
        page=_KINESIS,
        remedy="send arrays of readings, or divide the plants among accounts or regions",
        is_error=True,
    ),
    LoadQuota(
        id="stream_records",
        measure="messages",
        what="records enter the stream a second",
        name="an on-demand stream's write throughput, at 1,000 records a second and MB,",
        most=200_000,
        most_in_large=10_000_000,
        page=_KINESIS,
        remedy="send arrays of readings, or divide the plants among accounts or regions",
        is_error=True,
    ),
    LoadQuota(
        id="lambda_concurrency",
        measure="shards",
        what="shards are processed at once",
        name="Lambda's concurrent executions",
        most=1_000,
        service="lambda",
        pattern=r"^concurrent executions$",
        page="https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html",
        remedy=f"{_RAISE}, or send arrays of readings",
    ),
    LoadQuota(
        id="table_writes",
        measure="peak_writes",
        what="units are written to DynamoDB in the second when minutes end",
        name="DynamoDB's table-level write throughput",
        most=40_000,
        service="dynamodb",
        pattern=r"^table-level write throughput",
        page=_DYNAMODB,
        remedy=_RAISE,
    ),
    LoadQuota(
        id="table_warm_writes",
        measure="peak_writes",
        what="units are written to DynamoDB in the second when minutes end",
        name="a new table's warm throughput of writes",
        most=4_000,
        page=_WARM,
        remedy="set the warm throughput of table-readings before all devices send, or connect the plants one by one",
    ),
)
"""Along a reading's way. Defaults: an account may have more; ask Service Quotas."""
