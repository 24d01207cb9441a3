"""Compare the sample's stacks by CDKTF and by CDK Terrain: `python -m tools.terrain`, which `make terrain` runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
SAMPLE = PROJECT / "tests" / "sample"
ENVIRONMENTS = {"CDKTF": PROJECT / ".venv", "CDK Terrain": PROJECT / ".venv-terrain"}
STACK_FILE = "cdk.tf.json"

EXPECTED = {
    r"//\.metadata\.version": "the version of the core",
    r"terraform\.required_providers\.aws\.(source|version)": "AWS provider 6, by its full name",
}
"""Documented differences, with reasons, by the place in a stack's file; listed in docs/terrain.md."""

ABSENT = "(absent)"


def differences(one: Any, other: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each place where two documents differ, with both values."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            inner = f"{place}.{key}" if place else key
            yield from differences(one.get(key, ABSENT), other.get(key, ABSENT), inner)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from differences(first, second, f"{place}[{number}]")
    elif one != other or type(one) is not type(other):
        yield place, one, other


def is_expected(place: str) -> bool:
    """Return whether a difference at this place is one that the documentation lists."""
    return any(re.fullmatch(pattern, place) for pattern in EXPECTED)


def compare(one: Path, other: Path) -> tuple[int, list[str]]:
    """Compare two outputs of a synthesis; return the number of resources, and a line for each unexpected difference."""
    stacks = {folder: sorted(path.name for path in (folder / "stacks").iterdir()) for folder in (one, other)}
    if stacks[one] != stacks[other]:
        return 0, [f"the stacks differ: {stacks[one]}, {stacks[other]}"]
    resources, lines = 0, []
    for name in stacks[one]:
        first, second = (json.loads((folder / "stacks" / name / STACK_FILE).read_bytes()) for folder in (one, other))
        resources += sum(map(len, first.get("resource", {}).values()))
        lines += [
            f"{name}: {place}: {json.dumps(before)[:200]} became {json.dumps(after)[:200]}"
            for place, before, after in differences(first, second)
            if not is_expected(place)
        ]
    return resources, lines


def synthesise(python: Path, output: Path) -> None:
    """Synthesise the sample with this interpreter into `output`. Raises CalledProcessError."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLEET_", "TERRAFORM_STATE_", "ENVIRONMENT_"))}
    environment = kept | {
        "PYTHONPATH": str(PROJECT),
        "FLEET_ACCOUNT_ID": "123456789012",
        "FLEET_OUTDIR": str(output),
        "FLEET_IDENTITIES": str(output.parent / "identities"),
    }
    command = [str(python), "-m", "fleet_iot.lib.app"]
    subprocess.run(command, cwd=SAMPLE, env=environment, stdout=subprocess.DEVNULL, check=True)


def main() -> int:
    """Synthesise the sample under both, and print what differs; return 1 where that is more than the documented."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ENVIRONMENTS]
        for output in outputs:
            print(f"Synthesising with {output.name} ...", file=sys.stderr)
            synthesise(ENVIRONMENTS[output.name] / "bin" / "python", output)
        resources, lines = compare(*outputs)
    print(*(f"error: {line}" for line in lines), sep="\n", end="\n" if lines else "", file=sys.stderr)
    if not lines:
        print(f"{resources} resources are the same, but for {' and '.join(EXPECTED.values())}.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
