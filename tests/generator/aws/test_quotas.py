"""Quotas of an account that a fleet outgrows: a warning at the facilities, and what dashboards cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from fleet_iot.generator.aws.limits import QUOTAS, dashboards_usd
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


def test_dashboards_cost_from_the_fourth() -> None:
    """3 USD a month each."""
    assert [0, 0, 3, 741] == [dashboards_usd(number) for number in (0, 3, 4, 250)]


def test_quotas_have_their_pages() -> None:
    """Each id once, with the page that a person can hold it against."""
    assert len({quota.id for quota in QUOTAS}) == len(QUOTAS)
    assert all(quota.page.startswith("https://docs.aws.amazon.com/") for quota in QUOTAS)
