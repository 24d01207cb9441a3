"""The tables."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.cdktf


def test_the_tables_have_the_keys_that_the_processor_writes(stacks) -> None:
    """Readings by device and bucket, devices by device."""
    tables = stacks.platform.of("aws_dynamodb_table")
    assert {id_: (t["name"], t["hash_key"], t.get("range_key")) for id_, t in tables.items()} == {
        "table-readings": ("table-readings-tst", "device", "bucket"),
        "table-devices": ("table-devices-tst", "device", None),
    }
    assert tables["table-readings"]["attribute"] == [{"name": "device", "type": "S"}, {"name": "bucket", "type": "S"}]


def test_the_tables_are_on_demand_recoverable_and_destroyable(stacks) -> None:
    """Pay per request, point-in-time recovery, no deletion protection."""
    for table in stacks.platform.of("aws_dynamodb_table").values():
        assert table["billing_mode"] == "PAY_PER_REQUEST"
        assert table["point_in_time_recovery"] == {"enabled": True}
        assert table["deletion_protection_enabled"] is False


def test_readings_age_and_devices_stay(stacks) -> None:
    """The time to live is set where rows expire."""
    tables = stacks.platform.of("aws_dynamodb_table")
    assert tables["table-readings"]["ttl"] == {"attribute_name": "expires_at", "enabled": True}
    assert "ttl" not in tables["table-devices"]
