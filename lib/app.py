"""Synthesises the platform and the plants into Terraform JSON: `python -m lib.app`."""

from __future__ import annotations

import os
import sys

from lib import settings
from lib.faults import ExpectedError
from lib.manifest_place import find_place
from lib.record import RECORD, check_record


def main() -> int:
    """Checks the record, reads the environment, synthesises, says what it made; the exit code is the fault's, or 0."""
    declarations = settings.PROJECT / RECORD
    try:
        check_record(declarations)
        from lib import facilities  # after the check: these are the declarations
        from lib.facilities.fleet import FLEET

        chosen = settings.read_settings(os.environ, fleet=FLEET, facilities=facilities.FACILITIES.keys())
        settings.require_account(chosen)
        from lib import synthesis  # after the settings: loading the bindings takes seconds, a bad setting none

        result = synthesis.synthesise(chosen, fleet=FLEET, facilities=facilities.FACILITIES, folder=declarations)
    except ExpectedError as fault:
        place = find_place(settings.PROJECT, fault.key, fault.value) if fault.key else None
        print(*fault.lines(place), sep="\n", file=sys.stderr)
        return fault.exit_code
    for note in result.notes:
        print(note, file=sys.stderr)
    print(*result.stacks, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
