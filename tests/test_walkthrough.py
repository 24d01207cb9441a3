"""The walk-through of CONTRIBUTING: its patch adds a setting to a metric, from the manifest to a finding."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.places import PROJECT, SAMPLE

PATCH = PROJECT / "docs" / "walkthrough" / "deadband.patch"
MOST_FILES_OF_CODE = 5
FACILITY = "sg-01"

FINDINGS = """
import json, sys
from fleet_iot.sensor_processor.detection import DeviceDetectors
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
metrics = parse_catalogue(sys.stdin.buffer.read()).device_types["press-monitor"]
detectors, kinds = DeviceDetectors(), []
for place, value in enumerate([70.0, 96.0] + [94.5] * 30):
    found = detectors.learn((1_795_443_543_000 + place * 10_000, place), {"temperature": value}, metrics=metrics)
    kinds += [(place, each.kind) for each in found if each.detector == "limits"]
print(json.dumps(kinds))
"""
"""A temperature that goes half a degree back below its limit of 95, read every ten seconds."""


def _copy(folder: Path) -> Path:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        source, target = PROJECT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    if (wheels := PROJECT / "build" / "lambda").is_dir():
        shutil.copytree(wheels, folder / SAMPLE.relative_to(PROJECT) / "build" / "lambda", symlinks=True)
    return folder


def test_the_patch_touches_few_files_of_code() -> None:
    """Model, record, the processor's catalogue and its use; the tests and the documents are not counted."""
    files = re.findall(r"^\+\+\+ b/(.*)$", PATCH.read_text(encoding="utf-8"), flags=re.MULTILINE)
    code = [file for file in files if not file.startswith(("tests/", "docs/"))]
    assert 0 < len(code) <= MOST_FILES_OF_CODE
    assert any(file.startswith("tests/") for file in files)
    assert "docs/manifest.md" in files


def test_the_patch_applies() -> None:
    """To the code as it is."""
    subprocess.run(["git", "apply", "--check", str(PATCH)], cwd=PROJECT, check=True)


@pytest.mark.cdktf
@pytest.mark.slow
def test_the_patch_takes_the_setting_from_the_manifest_to_a_finding(tmp_path: Path) -> None:
    """Applied to a copy: generated, synthesised, and the processor ends the event where it did not before."""
    copy = _copy(tmp_path / "copy")
    sample = copy / SAMPLE.relative_to(PROJECT)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ENVIRONMENT_"))}
    kept |= {"PYTHONPATH": str(copy), "FLEET_ACCOUNT_ID": "123456789012", "FLEET_FACILITIES": FACILITY}

    def run(*command: str, folder: Path = sample, stdin: bytes | None = None) -> str:
        done = subprocess.run(command, cwd=folder, env=kept, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def findings() -> list[tuple[int, str]]:
        run(sys.executable, "-m", "fleet_iot.lib.app")
        platform = json.loads((sample / "cdktf.out" / "stacks" / "tap-dev" / "cdk.tf.json").read_text())
        function = platform["resource"]["aws_lambda_function"]["function-sensor-processor"]
        archive = sample / "cdktf.out" / "stacks" / "tap-dev" / function["filename"]
        with zipfile.ZipFile(archive) as zipped:
            catalogue = zipped.read("catalogue.json")
        return [tuple(each) for each in json.loads(run(sys.executable, "-c", FINDINGS, stdin=catalogue))]

    assert findings() == [(1, "begin")]

    run("git", "apply", str(PATCH), folder=copy)
    manifest = sample / "fleet.yaml"
    changed, edits = re.subn(
        r"(press-monitor:.*?\n\s+temperature: \{[^}]*)\}",
        r"\1, deadband: 0.004}",
        manifest.read_text(),
        flags=re.DOTALL,
    )
    assert edits == 1
    manifest.write_text(changed)
    run(sys.executable, "-m", "fleet_iot.generator.manifest.schema")
    run(sys.executable, "-m", "fleet_iot", "generate")
    assert "deadband=0.004" in (sample / "lib" / "facilities" / "fleet.py").read_text()
    assert findings() == [(1, "begin"), (8, "end")]
