"""AWS's quotas that a fleet comes near as it grows; the generator and the compliance gate count against the same."""

from __future__ import annotations

from dataclasses import dataclass

_GENERAL = "https://docs.aws.amazon.com/general/latest/gr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many of something an account has in one region, unless AWS has raised it.

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
