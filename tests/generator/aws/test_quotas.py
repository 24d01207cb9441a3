"""Quotas of an account that a fleet outgrows: by its number of plants, and by its load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet_iot.generator.aws.limits import LOAD_QUOTAS, QUOTAS
from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.manifest.load import read_with_warnings


def manifest(folder: Path, *, plants: int) -> Path:
    """A small manifest of many plants."""
    facilities = {f"p-{n:04d}": {"name": "P", "timezone": "UTC", "things": {"press": 1}} for n in range(plants)}
    press = {"description": "Press", "sample_interval_s": 3600, "metrics": {"load": {"unit": "t", "max": 1}}}
    path = folder / "fleet.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "application": "mfg",
                "environment_suffix": "dev",
                "region": "eu-west-1",
                "device_types": {"press": press},
                "facilities": facilities,
            },
            sort_keys=False,
        )
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("plants", "told"), [(3, 0), (200, 0), (201, 1), (257, 2), (993, 2), (994, 3), (1001, 4)])
def test_each_quota_is_told_from_the_first_plant_beyond(tmp_path: Path, plants: int, told: int) -> None:
    """Located at the facilities, with number, quota and AWS's page; the platform's own rules count as well."""
    _, warnings = read_with_warnings(manifest(tmp_path, plants=plants), name="fleet.yaml")
    assert told == len(warnings)
    for warning in warnings:
        assert (True, "account-quotas", 13) == (warning.is_warning, warning.rule, warning.location.line)
        assert f"{plants:,} facilities make " in warning.message
        assert "https://docs.aws.amazon.com/" in warning.hint


def test_a_warning_is_told_beside_no_fault(tmp_path: Path) -> None:
    """No warning is printed while the manifest has an error."""
    path = manifest(tmp_path, plants=201)
    path.write_text(path.read_text().replace("eu-west-1", "eu-west-9"))
    result = CliRunner().invoke(main, ["validate", "--manifest", str(path)])
    assert 3 == result.exit_code
    assert "warning: " not in result.stderr and "1 error;" in result.stderr


def loaded(folder: Path, *, devices: int, interval: float, **more: Any) -> Path:
    """A manifest of one plant with many presses, whose stream was warmed for all of them."""
    path = manifest(folder, plants=1)
    document = yaml.safe_load(path.read_text()) | more
    document["device_types"]["press"]["sample_interval_s"] = interval
    document["facilities"]["p-0000"] |= {"registration": "bulk", "things": {"press": devices}}
    document["stream"] = {"start_capacity": {"records_per_second": 10**8, "megabytes_per_second": 10**5}}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("devices", "interval", "region", "exceeded"),
    [
        (1_000, 10, "eu-west-1", []),
        (20_000, 10, "ap-southeast-1", []),
        (20_010, 10, "ap-southeast-1", ["AWS IoT's inbound publish"]),
        (38_000, 10, "eu-west-1", []),
        (41_000, 10, "eu-west-1", ["a new table's warm throughput"]),
        (210_000, 10, "eu-west-1", ["AWS IoT's inbound publish", "AWS IoT's rule", "a new table's warm"]),
        (
            1_000_000,
            10,
            "eu-west-1",
            [
                "AWS IoT's inbound",
                "AWS IoT's maximum",
                "AWS IoT's rule",
                "DynamoDB's table-level",
                "a new table's warm",
            ],
        ),
    ],
)
def test_the_load_is_compared_with_each_service(
    tmp_path: Path, devices: int, interval: float, region: str, exceeded: list[str]
) -> None:
    """A warning at the facilities says how much, of what, and AWS's page; defaults of large regions are higher."""
    path = loaded(tmp_path, devices=devices, interval=interval, region=region)
    _, warnings = read_with_warnings(path, name="fleet.yaml")
    warnings = tuple(warning for warning in warnings if warning.rule != "archive-load")
    texts = sorted(warning.message.partition("; ")[2] for warning in warnings)
    assert [True] * len(exceeded) == [text.startswith(start) for text, start in zip(texts, exceeded, strict=True)]
    for warning in warnings:
        assert (True, "load-quotas") == (warning.is_warning, warning.rule)
        assert "https://docs.aws.amazon.com/" in warning.hint


def test_more_than_one_stream_takes_is_refused(tmp_path: Path) -> None:
    """200 MB/s and 200,000 records/s are what an on-demand stream grows to outside the largest regions: exit 3."""
    path = loaded(tmp_path, devices=1_000_000, interval=4, region="ap-southeast-1")
    result = CliRunner().invoke(main, ["validate", "--manifest", str(path)])
    assert 3 == result.exit_code
    assert "250,000 records enter the stream a second; an on-demand stream's write throughput" in result.stderr
    assert "divide the plants among accounts or regions" in result.stderr


def test_the_archive_is_compacted_up_to_a_load(tmp_path: Path) -> None:
    """A warning at the facilities beyond 5,000 readings a second."""
    for devices, told in ((50_000, 0), (50_010, 1)):
        _, warnings = read_with_warnings(loaded(tmp_path, devices=devices, interval=10), name="fleet.yaml")
        assert told == [warning.rule for warning in warnings].count("archive-load")


def test_reserved_invocations_serve_all_shards(tmp_path: Path) -> None:
    """A warning at the key where no more are reserved than the stream has shards under the load: one is for sweeps."""
    for reserved, told in ((4, 1), (5, 0)):
        path = loaded(tmp_path, devices=100, interval=10, processor={"reserved_concurrency": reserved})
        _, warnings = read_with_warnings(path, name="fleet.yaml")
        assert ["reserved-invocations"] * told == [warning.rule for warning in warnings]


def test_quotas_have_their_pages() -> None:
    """Each id once, with the page that a person can hold it against."""
    assert len({quota.id for quota in QUOTAS}) == len(QUOTAS)
    assert all(quota.page.startswith("https://docs.aws.amazon.com/") for quota in (*QUOTAS, *LOAD_QUOTAS))
