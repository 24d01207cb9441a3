"""Workers as Lambda has them, without threads and real waits: one thread, so one seed is one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from msgspec import structs

from benchmarks.function import TOPIC, Clients, Clock, environment, new_process
from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.planning.device_cache import DeviceCache
from tests.integration.faults.load import CATALOGUE
from tests.integration.faults.stubs import S3, DynamoDb, Sns

REMEMBERED = 1_500_000
"""Bytes of unpacked devices: some devices are remembered, and some have to be unpacked again."""


def new_worker(
    dynamo: DynamoDb, s3: S3, sns: Sns, *, dice: Random, clock: Clock, catalogue: Mapping[str, Any] = CATALOGUE
) -> handler.Runtime:
    """A process with nonces and waits from `dice`, and the time of `clock`."""
    clients = Clients(dynamodb=dynamo, s3=s3, sns=sns)
    with environment(catalogue, ANOMALY_TOPIC_ARN=TOPIC, LOG_LEVEL="ERROR"):
        process = new_process(clients, dice=dice, clock=clock, sleep=clock.sleep)
    folder = structs.replace(process.log.folder, cache=DeviceCache(capacity=REMEMBERED))
    return replace(process, log=replace(process.log, folder=folder))
