"""Rows of a million things in 200 facilities: the writer of `fleet generate`, a JSON encoder for each row, the disk."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.result import Result, interleaved, peak_memory_mb, timed
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.generator.output import render, writer
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan, ThingGroupPlan, plan_fleet

ROOT = Path(__file__).parents[1]
FACILITIES = 200
TYPES = ("press-monitor", "cnc-spindle", "compressor", "boiler", "conveyor")
THINGS = 1_000_000


def run(rounds: int, *, things: int = THINGS, facilities: int = FACILITIES) -> Result:
    """Measures all of them on the same rows, and checks that they write the same bytes."""
    text = manifest_text(things=things, facilities=facilities)
    plan = plan_fleet(validate(parse_document(text, name="fleet.yaml")))
    things = sum(facility.thing_count for facility in plan.facilities)
    with TemporaryDirectory(prefix="fleet-benchmark-") as folder:
        contest = _Contest(plan, Path(folder))
        times = interleaved(
            {
                "ours": contest.ours,
                "limit": contest.limit,
                "json_dumps": contest.json_dumps,
                "whole_command": lambda: contest.whole_command(text),
            },
            rounds=rounds,
        )
    best = {name: of.best for name, of in times.items()}
    return Result(
        benchmark="generate_rows",
        unit="rows/s",
        ours=things / best["ours"],
        peers={"json_dumps": things / best["json_dumps"]},
        limit=things / best["limit"],
        peak_memory_mb=max(peak_memory_mb(), contest.command_memory_mb),
        details={
            "things": things,
            "facilities": len(plan.facilities),
            "bytes": contest.size,
            "rounds": rounds,
            "best_s": {name: round(seconds, 4) for name, seconds in best.items()},
            "median_s": {name: round(of.median, 4) for name, of in times.items()},
            "times_limit": round(best["ours"] / best["limit"], 2),
            "whole_command_times_ours": round(best["whole_command"] / best["ours"], 2),
            "whole_command_memory_mb": round(contest.command_memory_mb, 1),
            "limit": "writing the same bytes to as many files",
        },
    )


def manifest_text(*, things: int, facilities: int) -> str:
    """Return the manifest of such a fleet in block style, as people write it; each of its parts is written out."""
    data = json.loads(json.dumps(manifest_data(things=things, facilities=facilities)))
    return str(yaml.safe_dump(data, sort_keys=False))


def manifest_data(*, things: int, facilities: int) -> dict[str, Any]:
    """Return a fleet of so many things, spread evenly over facilities and device types."""
    metrics = {"temperature": {"unit": "celsius", "min": -10, "max": 95}}
    device_type = {"description": "A device", "sample_interval_s": 3_600, "metrics": metrics}
    count = max(1, things // (facilities * len(TYPES)))
    plant = {"name": "Plant", "timezone": "Asia/Singapore", "things": dict.fromkeys(TYPES, count)}
    return {
        "version": 1,
        "application": "mfg",
        "environment_suffix": "dev",
        "region": "ap-southeast-1",
        "device_types": dict.fromkeys(TYPES, device_type),
        "facilities": {f"sg-{number:03d}": plant for number in range(1, facilities + 1)},
    }


class _Contest:
    """The contestants; each starts from an empty folder, and leaves what it wrote to be compared and removed."""

    def __init__(self, plan: FleetPlan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._digests: dict[str, str] = {}
        self.size = 0
        self.command_memory_mb = 0.0

    def ours(self) -> float:
        """Write the rows as `fleet generate` does: rendered, gated, hashed, staged, moved into the tree."""
        return self._compared(lambda root: timed(lambda: write_rows(self._plan, root)))

    def json_dumps(self) -> float:
        """Write each row by `json.dumps` in a loop, without gate and hash."""
        return self._compared(lambda root: timed(lambda: _dump_rows(self._plan, root)))

    def limit(self) -> float:
        """Only writing: the time in which the rows are made does not count."""
        return self._compared(lambda root: _write_bytes(self._plan, root))

    def whole_command(self, manifest: str) -> float:
        """`fleet generate` of the same fleet in a process of its own, from nothing to the whole tree."""
        with TemporaryDirectory(dir=self._folder) as project:
            (Path(project) / "fleet.yaml").write_text(manifest, "ascii")
            start = time.perf_counter()
            self.command_memory_mb = max(self.command_memory_mb, _run_generate(project))
            seconds = time.perf_counter() - start
            self._compare(Path(project) / "lib" / "facilities")
        return seconds

    def _compared(self, contestant: Callable[[Path], float]) -> float:
        with TemporaryDirectory(dir=self._folder) as root:
            seconds = contestant(Path(root))
            self._compare(Path(root))
        return seconds

    def _compare(self, root: Path) -> None:
        digests, size = {}, 0
        for facility in self._plan.facilities:
            path = root / facility.module / facility.things_file
            with path.open("rb") as file:
                digests[facility.id] = hashlib.file_digest(file, "sha256").hexdigest()
            size += path.stat().st_size
        self._digests, self.size = self._digests or digests, size
        if digests != self._digests:
            raise AssertionError("the contestants wrote other bytes")


def write_rows(plan: FleetPlan, root: Path) -> writer.Change:
    """Hands the rows of all facilities to the writer that `fleet generate` uses."""
    with writer.opened(root), writer.staging(root) as stage:
        for facility in plan.facilities:
            things = render.render_things(facility)
            stage.add(things.path, things.chunks)
        return stage.commit(removing=())


def _dump_rows(plan: FleetPlan, root: Path) -> None:
    for facility in plan.facilities:
        with _things_file(root, facility).open("wb") as file:
            for group in facility.groups:
                for row in _rows(group):
                    file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def _rows(group: ThingGroupPlan) -> Iterator[dict[str, Any]]:
    fixed = dict(group.attributes)
    thing_type, device_type = group.device_type.thing_type, group.device_type.id
    for number in range(1, group.count + 1):
        serial = f"{group.serial_prefix}{number:04d}"
        yield {
            "name": f"{group.name_prefix}{number:04d}",
            "thing_type": thing_type,
            "device_type": device_type,
            "serial": serial,
            "attributes": {**fixed, "serial": serial},
        }


def _write_bytes(plan: FleetPlan, root: Path) -> float:
    seconds = 0.0
    for facility in plan.facilities:
        content = b"".join(render.render_things(facility).chunks)
        start = time.perf_counter()
        with _things_file(root, facility).open("wb") as file:
            file.write(content)
        seconds += time.perf_counter() - start
    return seconds


def _things_file(root: Path, facility: FacilityPlan) -> Path:
    folder = root / facility.module
    folder.mkdir()
    return folder / facility.things_file


def _run_generate(project: str) -> float:
    """Run the command and return the most memory that it used, in MB."""
    command = [sys.executable, "-m", "fleet_iot", "generate"]
    subprocess.run(
        command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True
    )
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1_000_000 if sys.platform == "darwin" else 1_000)
