"""`python -m benchmarks NAME [--json]`: run one benchmark and print the figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    alarms,
    credentials,
    detection,
    generate_rows,
    hops,
    memory,
    onboarding,
    processor,
    synthesis,
    units,
    validate,
)
from benchmarks.result import Result

BENCHMARKS: dict[str, tuple[str, Callable[..., Result]]] = {
    "alarms": ("false alarms and delays of ten faults on simulated machines, and on noise", alarms.run),
    "cold_start": ("a process from its start to its first batch, against boto3 alone", processor.run_cold_start),
    "credentials": ("keys and certificates, beside builders and an openssl command a step", credentials.run),
    "detection": ("accuracy of the default detectors on public series, see --data", detection.run),
    "generate_rows": ("rows of a million things, through the writer of `fleet generate`", generate_rows.run),
    "hops": ("the processor where each batch meets another process, against another checkout", hops.run),
    "memory": ("the function's peak memory under batches of 6 MB, midnight included", memory.run),
    "onboarding": ("20,000 devices against a service that enforces AWS IoT's quotas", onboarding.run),
    "processor": ("batches of 4,000 readings, with sockets and detection, against what samples do", processor.run),
    "synthesis": ("10,000 things in one plant, against 10 and against one construct for each resource", synthesis.run),
    "units": ("what a reading costs in AWS's units: 1,000 devices, four shards, environments that hop", units.run),
    "validate": ("a manifest of 100,000 lines, against PyYAML's C loader alone", validate.run),
}
"""Line of the help, and function that measures with a number of rounds."""

ROUNDS = {"alarms": alarms.SEEDS, "hops": 20, "memory": memory.ROUNDS, "units": 1}
"""Rounds of those that have others than five."""

OPTIONS = {
    "alarms": ("regime", "days", "first_seed", "factory", "budgets", "picture"),
    "hops": ("against",),
    "memory": ("devices",),
    "units": ("devices", "minutes"),
}
"""Options that only some benchmarks have."""


def budgets(text: str) -> list[float]:
    """Parse `0.1,1,10`. Raises ValueError."""
    return [float(each) for each in text.split(",")]


def add_alarms_options(parser: argparse.ArgumentParser) -> None:
    """Add what only `alarms` has."""
    parser.add_argument(
        "--regime",
        action="append",
        choices=alarms.REGIMES,
        metavar="NAME",
        help=f"alarms: {', '.join(alarms.REGIMES)}; may be repeated (all)",
    )
    parser.add_argument("--days", type=int, metavar="N", help="alarms: days of each machine (30)")
    parser.add_argument("--first-seed", type=int, metavar="N", help="alarms: the first of the seeds (1)")
    parser.add_argument(
        "--factory",
        type=alarms.factory_named,
        metavar="MODULE:CALLABLE",
        help="alarms: makes the detectors of a device (the machine detector)",
    )
    parser.add_argument(
        "--budgets",
        type=budgets,
        metavar="N,N",
        help="alarms: false alarms a device-month, for a factory with a budget (1)",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="alarms: the trade-off on noise, as SVG")


def main() -> None:
    """Run the benchmark that the command line names."""
    names = "\n".join(f"  {name:16} {line}" for name, (line, _) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\nbenchmarks:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME", help="one of these benchmarks")
    parser.add_argument("--json", action="store_true", help="one JSON object, for a program")
    parser.add_argument(
        "--rounds",
        "--seeds",
        type=int,
        metavar="N",
        help="runs of each contestant, in turn (5); seeds of units (1), alarms (3)",
    )
    parser.add_argument(
        "--devices", type=int, metavar="N", help="memory, units: devices of the shard (10000), of the fleet (1000)"
    )
    parser.add_argument("--minutes", type=int, metavar="N", help="units: simulated minutes of each interval (1, 4, 12)")
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER", help="hops: a checkout of another version, measured in the same run"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("build/detection-data"),
        metavar="FOLDER",
        help="detection: folder of the public series; missing files are downloaded (build/detection-data)",
    )
    add_alarms_options(parser)
    given = parser.parse_args()
    numbers = (given.rounds, given.devices, given.minutes, given.days, given.first_seed, *(given.budgets or ()))
    if any(number is not None and number <= 0 for number in numbers):
        parser.error("numbers must be greater than 0")
    if given.against is not None and not (given.against / "fleet_iot").is_dir():
        parser.error(f"--against {given.against}: no checkout, it has no folder fleet_iot")
    options: dict[str, Any] = {"data": given.data} if given.name == "detection" else {}
    for name in OPTIONS.get(given.name, ()):
        if getattr(given, name) is not None:
            options[name] = getattr(given, name)
    try:
        result = BENCHMARKS[given.name][1](given.rounds or ROUNDS.get(given.name, 5), **options)
    except detection.DataError as error:
        parser.exit(1, f"{error}\n")
    print(json.dumps(result.document()) if given.json else result.text())


if __name__ == "__main__":
    main()
