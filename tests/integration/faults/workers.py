"""Makes a process of the sensor processor on the stubs: one that remembers nothing yet."""

from __future__ import annotations

from random import Random

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters.archive import Archive
from fleet_iot.sensor_processor.adapters.lanes import LaneStore
from fleet_iot.sensor_processor.adapters.notifier import Notifier
from fleet_iot.sensor_processor.adapters.store import Store
from fleet_iot.sensor_processor.commit import LaneLog
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.planning.device_cache import DeviceCache
from fleet_iot.sensor_processor.planning.items import Retention
from fleet_iot.sensor_processor.planning.lane import LaneMemory
from fleet_iot.sensor_processor.planning.planner import Folder
from fleet_iot.sensor_processor.settings import Settings
from tests.integration.faults.chaos import Clock
from tests.integration.faults.stubs import S3, DynamoDb, Sns

REMEMBERED = 1_500_000
"""Bytes of unpacked devices: some devices are remembered, and some have to be unpacked again."""

LANES = 4


def new_worker(
    dynamo: DynamoDb, s3: S3, sns: Sns, *, catalogue: Catalogue, dice: Random, clock: Clock, lanes: int = LANES
) -> handler.Runtime:
    """A process with nonces and waits from `dice`, and the time of `clock`."""
    retention = Retention(minutes=90, hours=400, days=3650, anomalies=400)
    settings = Settings(
        readings_table="table-readings",
        devices_table="table-devices",
        lanes_table="table-lanes",
        state_bucket="bucket-lanes",
        lanes=lanes,
        archive_bucket="bucket",
        environment_suffix="dev",
        metrics_namespace="Fleet",
        retention=retention,
        log_level="ERROR",
        catalogue=catalogue,
    )
    return handler.Runtime(
        settings=settings,
        log=LaneLog(
            lanes=LaneStore(
                dynamodb=dynamo, s3=s3, table="table-lanes", bucket="bucket-lanes", lanes=lanes, random=dice
            ),
            store=Store(client=dynamo, readings_table="table-readings", devices_table="table-devices"),
            archive=Archive(client=s3, bucket="bucket"),
            notifier=Notifier(topic_arn="topic", make_client=lambda: sns),
            memory=LaneMemory(),
            folder=Folder(catalogue=catalogue, retention=retention, cache=DeviceCache(capacity=REMEMBERED)),
        ),
        random=dice,
        clock=clock,
        now=clock,
        sleep=clock.sleep,
        write=lambda line: None,
    )
