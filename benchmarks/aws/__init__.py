"""DynamoDB, S3 and SNS in memory, as strict as AWS, that count what each call costs in AWS's units."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from botocore.exceptions import ClientError

Units = defaultdict[str, float]
"""Consumed by the calls: `write_units`, `read_units`, `s3_puts`, `s3_gets`, `messages`, and calls by operation."""


def new_units() -> Units:
    """Begin to count."""
    return defaultdict(float)


def refused(
    code: str,
    operation: str,
    message: str = "refused",
    *,
    status: int = 400,
    reasons: list[dict[str, Any]] | None = None,
    item: dict[str, Any] | None = None,
) -> ClientError:
    """Make an error as botocore raises it; `reasons` are those of a cancelled transaction."""
    answer: dict[str, Any] = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    if reasons is not None:
        answer["CancellationReasons"] = reasons
    if item is not None:
        answer["Item"] = item
    return ClientError(answer, operation)
