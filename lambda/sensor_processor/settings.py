"""The processor's settings, from environment variables; all problems are reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .ingest.catalogue import Catalogue, CatalogueError, parse_catalogue
from .planning.items import Retention

MIN_RETENTION_DAYS = 16
"""A minute item must outlive the last redelivery of its messages: 8 days of accepted age (reading.MAX_AGE_MS) and 7
days of the stream's retention. Deleted earlier, its messages would count twice."""

MIN_LANES = 4

MEMORY_MB, STATE_MB = 1_024, 256
"""Of the function, and of that for packed states; what it has beyond is for states too."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingsError(Exception):
    """Environment variables are missing or invalid; the message names each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of one process."""

    readings_table: str
    devices_table: str
    lanes_table: str
    state_bucket: str
    lanes: int
    state_bytes: int
    archive_bucket: str
    environment_suffix: str
    metrics_namespace: str
    retention: Retention
    log_level: str
    catalogue: Catalogue
    anomaly_topic_arn: str | None = None


def read_settings(environment: Mapping[str, str], *, default_catalogue: Path) -> Settings:
    """Read the settings from `environment`. Raises SettingsError."""
    problems: list[str] = []

    def required(name: str) -> str:
        value = environment.get(name, "")
        if not value:
            problems.append(f"{name} is not set")
        return value

    def days(name: str, default: str) -> int:
        text = environment.get(name) or default
        if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) and int(text) >= MIN_RETENTION_DAYS:
            return int(text)
        problems.append(f"{name} is {text!r}, not a whole number of at least {MIN_RETENTION_DAYS}")
        return 0

    settings = Settings(
        readings_table=required("READINGS_TABLE"),
        devices_table=required("DEVICES_TABLE"),
        lanes_table=required("LANES_TABLE"),
        state_bucket=required("STATE_BUCKET"),
        lanes=_lanes(environment.get("LANES") or "4", problems=problems),
        state_bytes=_state_bytes(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")),
        archive_bucket=required("ARCHIVE_BUCKET"),
        environment_suffix=required("ENVIRONMENT_SUFFIX"),
        metrics_namespace=environment.get("METRICS_NAMESPACE") or "Fleet",
        retention=Retention(
            minutes=days("MINUTE_RETENTION_DAYS", "90"),
            hours=days("HOUR_RETENTION_DAYS", "400"),
            days=days("DAY_RETENTION_DAYS", "3650"),
            anomalies=days("ANOMALY_RETENTION_DAYS", "400"),
        ),
        log_level=_level(environment.get("LOG_LEVEL") or "INFO", problems=problems),
        anomaly_topic_arn=environment.get("ANOMALY_TOPIC_ARN") or None,
        catalogue=_catalogue(Path(environment.get("CATALOGUE_FILE") or default_catalogue), problems=problems),
    )
    if problems:
        raise SettingsError(f"the sensor processor's environment is incomplete: {'; '.join(problems)}")
    return settings


def _lanes(text: str, *, problems: list[str]) -> int:
    number = int(text) if re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) else 0
    if number < MIN_LANES or number & (number - 1):
        problems.append(f"LANES is {text!r}, not a power of two from {MIN_LANES} to 8192")
        return MIN_LANES
    return number


def _state_bytes(memory_mb: str) -> int:
    """Return the bytes for packed states in a function of so much memory, which Lambda says."""
    more = int(memory_mb) - MEMORY_MB if memory_mb.isdecimal() else 0
    return (STATE_MB + max(0, more)) * 1_000_000


def _level(text: str, *, problems: list[str]) -> str:
    if text.upper() not in LEVELS:
        problems.append(f"LOG_LEVEL is {text!r}, not one of {', '.join(LEVELS)}")
    return text.upper()


def _catalogue(path: Path, *, problems: list[str]) -> Catalogue:
    try:
        return parse_catalogue(path.read_bytes())
    except OSError as error:
        problems.append(f"CATALOGUE_FILE {path} cannot be read ({error.strerror})")
    except CatalogueError as error:
        problems.append(f"CATALOGUE_FILE {path}: {error}")
    return Catalogue(application="", device_types={})
