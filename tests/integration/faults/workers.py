"""Makes a process of the sensor processor on the stubs: one that remembers nothing yet."""

from __future__ import annotations

from random import Random

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters.archive import Archive
from fleet_iot.sensor_processor.adapters.notifier import Notifier
from fleet_iot.sensor_processor.adapters.store import Store
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.planning.device_cache import DeviceCache
from fleet_iot.sensor_processor.planning.items import Retention
from fleet_iot.sensor_processor.settings import Settings
from tests.integration.faults.chaos import Clock
from tests.integration.faults.stubs import S3, DynamoDb, Sns

REMEMBERED = 40
"""Devices, of the fifty that send to a shard: some are remembered, and some have to be read again."""


def new_worker(
    dynamo: DynamoDb, s3: S3, sns: Sns, *, catalogue: Catalogue, dice: Random, clock: Clock
) -> handler.Runtime:
    """A process with tokens and waits from `dice`, and the time of `clock`."""
    settings = Settings(
        readings_table="table-readings",
        devices_table="table-devices",
        archive_bucket="bucket",
        environment_suffix="dev",
        metrics_namespace="Fleet",
        retention=Retention(minutes=90, hours=400, days=3650, anomalies=400),
        log_level="ERROR",
        catalogue=catalogue,
    )
    return handler.Runtime(
        settings=settings,
        store=Store(client=dynamo, readings_table="table-readings", devices_table="table-devices", random=dice),
        archive=Archive(client=s3, bucket="bucket"),
        notifier=Notifier(topic_arn="topic", make_client=lambda: sns),
        cache=DeviceCache(capacity=REMEMBERED),
        random=dice,
        clock=clock,
        sleep=clock.sleep,
        write=lambda line: None,
    )
