"""Limits of single members that AWS's pages give and its service models do not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_API = "https://docs.aws.amazon.com"
_SQS = f"{_API}/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"
_IAM = f"{_API}/IAM/latest/UserGuide/reference_iam-quotas.html"
_TIERING = f"{_API}/AmazonS3/latest/API/API_Tiering.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A pattern, or a range of a number or of a text's characters; `is_bare`: white space does not count."""

    page: str
    pattern: str = ""
    least: int = 0
    most: int = 0
    is_bare: bool = False

    def problem(self, value: Any) -> str:
        """What is wrong with a value; empty where nothing is."""
        if self.pattern:
            return "" if re.fullmatch(self.pattern, value) else f"is {value!r:.80}, not {self.pattern}"
        size = self._size(value)
        if not self.least <= size <= self.most:
            bare = " without white space" * self.is_bare
            return f"is {size:,.0f}{bare}; AWS takes {self.least:,} to {self.most:,}"
        return ""

    def _size(self, value: Any) -> float:
        """A number as it is, also where a service takes it as text; the length of anything else."""
        if isinstance(value, str):
            value = re.sub(r"\s", "", value) if self.is_bare else value
            return int(value) if re.fullmatch(r"-?\d+", value) else len(value)
        return len(value) if isinstance(value, dict | list) else float(value)


def _name(pattern: str, page: str) -> tuple[Limit, ...]:
    return (Limit(page=f"{_API}{page}", pattern=pattern),)


def _range(least: int, most: int, page: str, *, is_bare: bool = False) -> tuple[Limit, ...]:
    return (Limit(page=page, least=least, most=most, is_bare=is_bare),)


DOCUMENTED: Mapping[str, tuple[Limit, ...]] = {
    "cloudtrail.CreateTrail:Name": _name(
        r"(?=.{3,128}$)[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*", "/awscloudtrail/latest/APIReference/API_CreateTrail.html"
    ),
    "cloudwatch.PutDashboard:DashboardName": _name(
        r"[A-Za-z0-9_-]{1,255}", "/AmazonCloudWatch/latest/APIReference/API_PutDashboard.html"
    ),
    "cloudwatch.PutMetricAlarm:AlarmName": _name(
        r"[^\x00-\x1f\x7f]{1,255}", "/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"
    ),
    "dynamodb.CreateTable:TableName": _name(
        r"[a-zA-Z0-9_.-]{3,255}", "/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"
    ),
    "iam.CreateRole:AssumeRolePolicyDocument": _range(1, 2_048, _IAM, is_bare=True),
    "iam.PutRolePolicy:PolicyDocument": _range(1, 10_240, _IAM, is_bare=True),
    "iot.CreatePolicy:policyDocument": _range(1, 2_048, f"{_API}/general/latest/gr/iot-core.html", is_bare=True),
    "kinesis.IncreaseStreamRetentionPeriod:RetentionPeriodHours": _range(
        24, 8_760, f"{_API}/kinesis/latest/APIReference/API_IncreaseStreamRetentionPeriod.html"
    ),
    "kms.ScheduleKeyDeletion:PendingWindowInDays": _range(
        7, 30, f"{_API}/kms/latest/APIReference/API_ScheduleKeyDeletion.html"
    ),
    "kms.CreateAlias:AliasName": _name(
        r"alias/(?!aws/)[a-zA-Z0-9:/_-]+", "/kms/latest/APIReference/API_CreateAlias.html"
    ),
    "kms.CreateKey:Policy": _range(1, 32_768, f"{_API}/kms/latest/developerguide/resource-limits.html"),
    "lambda.CreateFunction:FunctionName": _name(r"[a-zA-Z0-9-_]{1,64}", "/lambda/latest/api/API_CreateFunction.html"),
    "lambda.CreateEventSourceMapping:BatchSize": _range(
        1, 10_000, f"{_API}/lambda/latest/api/API_CreateEventSourceMapping.html"
    ),
    "s3.CreateBucket:Bucket": _name(
        r"(?!xn--|sthree-|amzn-s3-demo-|\d+(\.\d+){3}$)(?!.*\.\.)(?!.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$)"
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "/AmazonS3/latest/userguide/bucketnamingrules.html",
    ),
    "s3.PutBucketIntelligentTieringConfiguration:IntelligentTieringConfiguration.Tierings[].Days": _range(
        90, 730, _TIERING
    ),
    "s3.PutBucketLifecycleConfiguration:LifecycleConfiguration.Rules[].ID": _range(
        1, 255, f"{_API}/AmazonS3/latest/API/API_LifecycleRule.html"
    ),
    "s3.PutBucketLifecycleConfiguration:LifecycleConfiguration.Rules[].Expiration.Days": _range(
        1, 2_147_483_647, f"{_API}/AmazonS3/latest/API/API_LifecycleExpiration.html"
    ),
    "s3.PutBucketPolicy:Policy": _range(1, 20_480, f"{_API}/AmazonS3/latest/userguide/add-bucket-policy.html"),
    "s3.PutObject:Key": _range(1, 1_024, f"{_API}/AmazonS3/latest/userguide/object-keys.html"),
    "s3.PutObjectTagging:Tagging.TagSet": _range(0, 10, f"{_API}/AmazonS3/latest/userguide/object-tagging.html"),
    "s3.PutBucketTagging:Tagging.TagSet": _range(0, 50, f"{_API}/AmazonS3/latest/userguide/CostAllocTagging.html"),
    "sns.CreateTopic:Name": _name(r"[A-Za-z0-9_-]{1,256}", "/sns/latest/api/API_CreateTopic.html"),
    "sqs.CreateQueue:QueueName": _name(
        r"[A-Za-z0-9_-]{1,80}", "/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"
    ),
    **{
        f"sqs.CreateQueue:Attributes.{name}": _range(least, most, _SQS)
        for name, least, most in (
            ("DelaySeconds", 0, 900),
            ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("VisibilityTimeout", 0, 43_200),
        )
    },
}
"""Member → its limits, each with its page."""
