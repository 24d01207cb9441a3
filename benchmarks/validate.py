"""A manifest of 100,000 lines: `fleet validate` with all its checks, and PyYAML's C loader, which checks nothing."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.result import Result, interleaved, peak_memory_mb, timed
from fleet_iot.generator.manifest.load import read_manifest

LINES = 100_000
_HEAD = """\
version: 1
application: mfg
environment_suffix: dev
region: ap-southeast-1
device_types:
  press-monitor:
    description: Hydraulic press, 400 t
    sample_interval_s: 3600
    metrics:
      temperature: {unit: celsius, min: -10, max: 95}
  compressor:
    description: Screw compressor, 75 kW
    sample_interval_s: 3600
    metrics:
      pressure: {unit: bar, min: 5.5, max: 10}
facilities:
"""
_PLANT = """\
  plant-%05d:
    name: Plant %d, hall of presses
    timezone: Asia/Singapore
    registration: terraform
    things:
      press-monitor:
        count: 2
        attributes:
          line: a1
      compressor: 1
"""


def run(rounds: int, *, lines: int = LINES) -> Result:
    """Measures reading and checking the same file."""
    text = manifest_text(lines)
    lines = text.count("\n")
    with TemporaryDirectory(prefix="fleet-benchmark-") as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(text, "ascii")
        read_manifest(path, name="fleet.yaml")
        memory = peak_memory_mb()  # before a peer has run, as a process keeps its peak
        times = interleaved(
            {
                "ours": lambda: timed(lambda: read_manifest(path, name="fleet.yaml")),
                "limit": lambda: timed(lambda: deque(yaml.parse(path.read_text(), Loader=yaml.CSafeLoader), maxlen=0)),
                "csafeloader": lambda: timed(lambda: yaml.load(path.read_text(), Loader=yaml.CSafeLoader)),
            },
            rounds=rounds,
        )
    return Result(
        benchmark="validate",
        unit="lines/s",
        ours=lines / times["ours"].best,
        peers={"csafeloader": lines / times["csafeloader"].best},
        limit=lines / times["limit"].best,
        peak_memory_mb=memory,
        details={
            "lines": lines,
            "rounds": rounds,
            "best_s": {name: round(of.best, 4) for name, of in times.items()},
            "median_s": {name: round(of.median, 4) for name, of in times.items()},
            "memory_with_peers_mb": round(peak_memory_mb(), 1),
            "limit": "the events of PyYAML's C parser, thrown away",
        },
    )


def manifest_text(lines: int) -> str:
    """Return a valid manifest of about so many lines."""
    plants = max(1, (lines - _HEAD.count("\n")) // _PLANT.count("\n"))
    return _HEAD + "".join(_PLANT % (number, number) for number in range(1, plants + 1))
