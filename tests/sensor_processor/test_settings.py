"""Settings: every fault named at once, at the first batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.sensor_processor.planning.items import Retention
from fleet_iot.sensor_processor.settings import SettingsError, read_settings

COMPLETE = {
    "READINGS_TABLE": "table-readings-dev",
    "DEVICES_TABLE": "table-devices-dev",
    "LANES_TABLE": "table-lanes-dev",
    "STATE_BUCKET": "bucket-mfg-lanes-dev",
    "ARCHIVE_BUCKET": "bucket-mfg-raw-archive-dev",
    "ENVIRONMENT_SUFFIX": "dev",
}


@pytest.fixture
def catalogue_file(tmp_path: Path) -> Path:
    """A catalogue with one device type."""
    file = tmp_path / "catalogue.json"
    metric = {"unit": "celsius", "min": None, "max": 95, "detector": "context"}
    file.write_text(
        json.dumps({"application": "mfg", "device_types": {"press-monitor": {"metrics": {"temperature": metric}}}})
    )
    return file


def test_what_is_not_said_has_a_default(catalogue_file: Path) -> None:
    """Namespace, retention and level have defaults, and the catalogue lies beside the package."""
    settings = read_settings(COMPLETE, default_catalogue=catalogue_file)

    assert (settings.metrics_namespace, settings.log_level) == ("Fleet", "INFO")
    assert settings.retention == Retention(minutes=90, hours=400, days=3650, anomalies=400)
    assert settings.catalogue.device_types["press-monitor"]["temperature"].maximum == 95
    assert (settings.anomaly_topic_arn, settings.lanes) == (None, 4)


def test_memory_beyond_the_usual_is_for_states(catalogue_file: Path) -> None:
    """Lambda says how much the function has; without it, and with less, states have 256 MB."""
    sizes = [
        read_settings(
            COMPLETE | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": size}, default_catalogue=catalogue_file
        ).state_bytes
        for size in ("", "512", "1024", "3008")
    ]
    assert sizes == [256_000_000, 256_000_000, 256_000_000, 2_240_000_000]


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    """One error names each variable that is missing or wrong."""
    with pytest.raises(SettingsError) as caught:
        read_settings(
            {"READINGS_TABLE": "t", "MINUTE_RETENTION_DAYS": "7", "LOG_LEVEL": "loud", "LANES": "6"},
            default_catalogue=tmp_path / "catalogue.json",
        )

    assert str(caught.value) == (
        "the sensor processor's environment is incomplete: DEVICES_TABLE is not set; LANES_TABLE is not set; "
        "STATE_BUCKET is not set; LANES is '6', not a power of two from 4 to 8192; ARCHIVE_BUCKET is not set; "
        "ENVIRONMENT_SUFFIX is not set; MINUTE_RETENTION_DAYS is '7', not a whole number of at least 16; "
        "LOG_LEVEL is 'loud', not one of DEBUG, INFO, WARNING, ERROR; "
        f"CATALOGUE_FILE {tmp_path / 'catalogue.json'} cannot be read (No such file or directory)"
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "the metric catalogue cannot be read"),
        ('{"application": "mfg"}', "device_types"),
        (
            '{"application": "mfg", "device_types": {"p": {"metrics": {"t\\"": {"unit": "c"}}}}}',
            "the metric catalogue has no metric's name: 't\"' in p",
        ),
        (
            '{"application": "mfg", "device_types": {"p": {"metrics": {"t": {"unit": "c", "detector": "magic"}}}}}',
            "the detector 'magic' for p.t; known are baseline, context, correlation, flatline, limits, machine, rate, "
            "seasonal",
        ),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_named(tmp_path: Path, document: str, message: str) -> None:
    """A faulty catalogue is reported with its variable, file and fault."""
    file = tmp_path / "catalogue.json"
    file.write_text(document)

    with pytest.raises(SettingsError) as caught:
        read_settings(COMPLETE | {"CATALOGUE_FILE": str(file)}, default_catalogue=tmp_path)

    assert f"CATALOGUE_FILE {file}: " in str(caught.value)
    assert message in str(caught.value)


def test_the_handler_names_what_is_missing(platform: Any, event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misconfigured function fails at its first batch with the variable's name."""
    monkeypatch.delenv("DEVICES_TABLE")

    with pytest.raises(SettingsError, match="DEVICES_TABLE is not set"):
        platform.handle(event())
