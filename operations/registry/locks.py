"""Lets one command at a time give out a facility's planned things."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_iot.generator.diagnostics import RequestError


@contextmanager
def alone(journal: Path, facility: str) -> Iterator[None]:
    """Holds the facility, which is named beside the journal; the lock goes with the process that holds it.

    Raises RequestError where another process has it.
    """
    journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(journal.with_suffix(f".{facility}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RequestError(f"{facility} is being onboarded already", hint="wait until that run is done") from None
    finally:
        os.close(descriptor)
