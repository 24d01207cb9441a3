"""The two tables: what the fleet measured, minute by minute, and what is known of each device."""

from __future__ import annotations

from ..bindings import (
    Construct,
    DynamodbTable,
    DynamodbTableAttribute,
    DynamodbTablePointInTimeRecovery,
    DynamodbTableServerSideEncryption,
    DynamodbTableTtl,
)
from ..names import PlatformNames


class ReadingTable:
    """`readings` by device and minute (or anomaly), which age; `devices` by device, which stay."""

    def __init__(self, scope: Construct, *, names: PlatformNames, key_arn: str, is_protected: bool) -> None:
        self.readings = _table(
            scope,
            "table-readings",
            names=names,
            key_arn=key_arn,
            is_protected=is_protected,
            range_key="bucket",
            ttl_attribute="expires_at",
        )
        self.devices = _table(scope, "table-devices", names=names, key_arn=key_arn, is_protected=is_protected)


def _table(
    scope: Construct,
    name: str,
    *,
    names: PlatformNames,
    key_arn: str,
    is_protected: bool,
    range_key: str | None = None,
    ttl_attribute: str | None = None,
) -> DynamodbTable:
    keys = ["device", *([range_key] if range_key else [])]
    return DynamodbTable(
        scope,
        name,
        name=names.named(name),
        billing_mode="PAY_PER_REQUEST",
        hash_key="device",
        range_key=range_key,
        attribute=[DynamodbTableAttribute(name=key, type="S") for key in keys],
        ttl=DynamodbTableTtl(enabled=True, attribute_name=ttl_attribute) if ttl_attribute else None,
        point_in_time_recovery=DynamodbTablePointInTimeRecovery(enabled=True),
        server_side_encryption=DynamodbTableServerSideEncryption(enabled=True, kms_key_arn=key_arn),
        deletion_protection_enabled=is_protected,
    )
