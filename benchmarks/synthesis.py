"""Measure the synthesis of 10,000 things against one of 10 things, and against a construct for each resource."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.project import ROOT, lifted_manifest, make_project, synthesis_environment, write_csrs
from benchmarks.result import Result, interleaved

FEW = 10
MANY = 10_000
PLANT = "sg-01"
KINDS = (
    "aws_iot_thing",
    "aws_iot_thing_group_membership",
    "aws_iot_certificate",
    "aws_iot_policy_attachment",
    "aws_iot_thing_principal_attachment",
)


class _Contestant:
    """A project and the command of its synthesis; `peak_memory_mb` is the maximum of its runs."""

    def __init__(self, project: Path, things: int, *command: str) -> None:
        self._project, self._things, self._command = project, things, command
        self.peak_memory_mb = 0.0

    def seconds(self) -> float:
        """Synthesise into an empty folder, check the blocks, and return the CPU seconds, with Node's."""
        with TemporaryDirectory() as outdir:
            process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=self._project,
                env=synthesis_environment(self._project, Path(outdir)),
                stdout=subprocess.DEVNULL,
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f"the synthesis of {self._things} things ended with {process.returncode}")
            blocks = count_blocks(Path(outdir) / "stacks" / f"facility-{PLANT}-dev")
        if blocks != dict.fromkeys(KINDS, self._things):
            raise AssertionError(f"{self._things} things came out as {blocks}")
        self.peak_memory_mb = max(self.peak_memory_mb, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3))
        return used.ru_utime + used.ru_stime


def run(rounds: int, *, few: int = FEW, many: int = MANY) -> Result:
    """Measure whole processes of `python -m lib.app`, each in its own project."""
    with TemporaryDirectory(prefix="fleet-benchmark-") as folder:
        projects = {count: _project(Path(folder) / str(count), count) for count in (few, many)}
        contestants = {
            "few": _Contestant(projects[few], few, "-m", "lib.app"),
            "many": _Contestant(projects[many], many, "-m", "lib.app"),
            "construct_each": _Contestant(projects[many], many, str(ROOT / "benchmarks" / "construct_each.py")),
        }
        times = interleaved({name: each.seconds for name, each in contestants.items()}, rounds=rounds)
    few_s, many_s, peer_s = (times[name].best for name in ("few", "many", "construct_each"))
    return Result(
        benchmark="synthesis",
        unit="things/CPU-s",
        ours=many / many_s,
        peers={"construct_each": many / peer_s},
        limit=many / few_s,
        peak_memory_mb=contestants["many"].peak_memory_mb,
        details={
            f"cpu_{few}": round(few_s, 3),
            f"cpu_{many}": round(many_s, 3),
            f"cpu_{many}_times_{few}": round(many_s / few_s, 3),
            "median_s": {name: round(of.median, 3) for name, of in times.items()},
            "blocks": many * len(KINDS),
            "blocks_by_type": dict.fromkeys(KINDS, many),
            "cpu_construct_each": round(peer_s, 3),
            "construct_each_memory_mb": round(contestants["construct_each"].peak_memory_mb, 1),
            "rounds": rounds,
            "csr": "a P-256 request for each thing",
            "limit": f"the CPU of {few} things: what a synthesis costs without its things",
        },
    )


def count_blocks(stack: Path) -> dict[str, int]:
    """Count a synthesised stack's blocks of things by type, in all files that Terraform reads."""
    counts = dict.fromkeys(KINDS, 0)
    for file in stack.glob("*.tf.json"):
        resources = json.loads(file.read_bytes()).get("resource", {})
        for kind in KINDS:
            counts[kind] += len(resources.get(kind, {}))
    return counts


def manifest_data(things: int) -> dict[str, Any]:
    """Return a manifest of one facility with `things` things of one device type."""
    metrics = {"temperature": {"unit": "celsius", "min": -10, "max": 95}}
    return {
        "version": 1,
        "application": "mfg",
        "environment_suffix": "dev",
        "region": "ap-southeast-1",
        "account_id": "123456789012",
        "device_types": {
            "press-monitor": {"description": "Hydraulic press", "sample_interval_s": 60, "metrics": metrics}
        },
        "facilities": {PLANT: {"name": "Plant", "timezone": "Asia/Singapore", "things": {"press-monitor": things}}},
    }


def _project(folder: Path, things: int) -> Path:
    manifest = lifted_manifest(manifest_data(things))
    make_project(folder, manifest)
    write_csrs(folder, manifest)
    return folder
