"""Synthesises the platform and the plants of the current folder's project into Terraform JSON: `python -m lib.app`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .faults import ExpectedError
from .record.read import read_record
from .synthesis import settings
from .synthesis.manifest_place import find_place


def main() -> int:
    """Reads record and environment, synthesises, says what it made; the exit code is the fault's, or 0."""
    project: Path | None = None
    try:
        project = settings.find_project(Path.cwd())
        record = read_record(project)
        chosen = settings.read_settings(
            os.environ, project=project, fleet=record.fleet, facilities=record.facilities.keys()
        )
        settings.require_account(chosen)
        from .synthesis import run as synthesis

        result = synthesis.synthesise(chosen, fleet=record.fleet, facilities=record.facilities, folder=record.folder)
    except ExpectedError as fault:
        place = find_place(project, fault.key, fault.value) if project and fault.key else None
        print(*fault.lines(place), sep="\n", file=sys.stderr)
        return fault.exit_code
    for note in result.notes:
        print(note, file=sys.stderr)
    print(*result.stacks, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
