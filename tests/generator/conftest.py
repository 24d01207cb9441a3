"""Builders of manifests and of projects in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.yaml import parse_document
from tests.places import PROJECT

ROOT = PROJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str


def manifest_data(**overrides: Any) -> dict[str, Any]:
    """A small valid manifest as data, with whole sections replaced."""
    metrics = {"temperature": {"unit": "celsius", "min": -10, "max": 95}, "vibration": {"unit": "mm/s", "max": 11.2}}
    press = {"description": "Hydraulic press", "sample_interval_s": 10, "metrics": metrics}
    pump = {"description": "Pump", "sample_interval_s": 5, "metrics": {"pressure": {"unit": "bar", "max": 9}}}
    return {
        "version": 1,
        "application": "mfg",
        "environment_suffix": "dev",
        "region": "ap-southeast-1",
        "tags": {"owner": "plant-operations"},
        "device_types": {"press": press, "pump": pump},
        "facilities": {
            "sg-01": {"name": "Tuas", "timezone": "Asia/Singapore", "things": {"press": 3, "pump": 2}},
            "th-01": {"name": "Rayong", "timezone": "Asia/Bangkok", "things": {"press": 4}},
        },
    } | overrides


def manifest_of(data: dict[str, Any]) -> FleetManifest:
    """The manifest in data, by way of its text."""
    return validate(parse_document(json.dumps(data, ensure_ascii=False), name="fleet.yaml"))


class Project:
    """A project in a folder of its own; `fleet` runs there as a user runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "lib" / "facilities"
        self.write(manifest_data())

    def write(self, data: dict[str, Any]) -> None:
        """Puts a manifest into the project."""
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")

    def fleet(self, *arguments: str) -> Run:
        """Runs `fleet` in the project's folder."""
        with contextlib.chdir(self.folder):
            result = CliRunner(catch_exceptions=False).invoke(main, arguments)
        return Run(exit_code=result.exit_code, stdout=result.stdout, stderr=result.stderr)

    def process(self, *arguments: str, environment: dict[str, str] | None = None, before: str = "") -> Run:
        """Runs `fleet` in a process of its own; `before` is Python to run first."""
        code = f"import sys; sys.argv[0] = 'fleet'\n{before}\nfrom fleet_iot.generator.cli.commands import main\nmain()"
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | (environment or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        return Run(exit_code=result.returncode, stdout=result.stdout, stderr=result.stderr)

    def files(self) -> dict[str, bytes]:
        """The whole tree."""
        return {
            str(path.relative_to(self.tree)): path.read_bytes()
            for path in sorted(self.tree.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a small manifest and nothing generated yet."""
    return Project(tmp_path)


@pytest.fixture
def data() -> Callable[..., dict[str, Any]]:
    """The builder of manifests as data."""
    return manifest_data


@pytest.fixture
def manifest() -> Callable[..., FleetManifest]:
    """The builder of valid manifests, from sections to replace."""
    return lambda **overrides: manifest_of(manifest_data(**overrides))
