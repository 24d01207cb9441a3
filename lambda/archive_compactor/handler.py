"""The Lambda function that a schedule invokes every hour.

An event may be `{"early": true}`: then the hour and the day that go on are compacted, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue

from .bucket import Bucket
from .compaction import Compactor

RESERVE_S = 180.0
"""Time that one generation or one day's merge may need; a run begins none with less."""

LAG = timedelta(days=4)
"""A date that is unfinished for longer is reported: its merge and its verification may need several runs each."""

CLIENT = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 6})


class UnfinishedError(Exception):
    """The run ended without having compacted everything: by itself it only lags, but the alarm must see it."""


def handle(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Compact the archive; return what was done. Raises where something is left undone."""
    catalogue = parse_catalogue(Path(os.environ.get("CATALOGUE_FILE", _CATALOGUE)).read_bytes())
    now = datetime.now(UTC)
    report = Compactor(
        bucket=Bucket(client=boto3.client("s3", config=CLIENT), name=os.environ["ARCHIVE_BUCKET"]),
        catalogue=catalogue.device_types,
        now=now,
        expires=os.environ.get("RAW_EXPIRES") == "true",
        has_time=lambda: context is None or context.get_remaining_time_in_millis() > RESERVE_S * 1000,
        is_early=event.get("early") is True,
    ).run()
    done = asdict(report)
    print(json.dumps({"level": "INFO", "message": "The archive was compacted.", **done}))
    behind = [day for day in report.unfinished if day < str(now.date() - LAG)]
    if report.left or report.overtaken or report.failed or behind:
        undone = [*report.failed, *report.overtaken, *(f"{day} is unfinished" for day in behind)]
        undone += [f"{report.left} raw objects are left"] if report.left else []
        raise UnfinishedError("; ".join(undone))
    return done


_CATALOGUE = str(Path(__file__).parents[2] / "catalogue.json")
