"""Synthesises the platform and the plants into Terraform JSON: `python -m lib.app`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lib import facilities, settings
from lib.facilities.fleet import FLEET
from lib.faults import ExpectedError


def main() -> int:
    """Reads the environment, synthesises, says what it made; the exit code is that of the fault, or 0."""
    try:
        chosen = settings.read_settings(os.environ, fleet=FLEET, facilities=facilities.FACILITIES.keys())
        from lib import synthesis  # after the settings: loading the bindings takes seconds, a bad setting none

        result = synthesis.synthesise(
            chosen, fleet=FLEET, facilities=facilities.FACILITIES, folder=Path(facilities.__file__).parent
        )
    except ExpectedError as fault:
        print(*fault.lines(), sep="\n", file=sys.stderr)
        return fault.exit_code
    for note in result.notes:
        print(note, file=sys.stderr)
    print(*result.stacks, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
