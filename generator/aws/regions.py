"""The AWS regions where both AWS IoT Core and Kinesis Data Streams exist, in the partition `aws`.

Source: https://docs.aws.amazon.com/general/latest/gr/iot-core.html and botocore's endpoints, November 2026.
"""

from __future__ import annotations

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
