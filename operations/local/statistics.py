"""The small files in which the services of the local AWS say what they have done, whole at every moment."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.processes import ChildProcess, is_running, last_lines

READY_SECONDS = 60.0


def write_statistics(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file in one step, so that no reader sees half of it."""
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    staged.write_text(json.dumps(document, indent=2) + "\n")
    staged.replace(path)


def read_statistics(path: Path) -> dict[str, Any]:
    """What the service last said; empty where it has said nothing yet."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return document if isinstance(document, dict) else {}


def require_running(child: ChildProcess | None, *, name: str) -> None:
    """A fault where a service is dead or was never started: with what it last said."""
    if child is not None and is_running(child):
        return
    said = last_lines(Path(child.log), 1) if child else []
    raise EnvironmentFault(
        f"the {name} of the local AWS does not run{': ' + said[0] if said else ''}", hint="start it: fleet local apply"
    )


def await_ready(child: ChildProcess, path: Path, *, seconds: float = READY_SECONDS) -> None:
    """Waits until the service that `child` is says in its file that it is at work: from then on nothing is missed."""
    deadline = time.monotonic() + seconds
    while True:
        said = read_statistics(path)
        if said.get("pid") == child.pid and said.get("is_ready"):
            return
        require_running(child, name=child.name)
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"the {child.name} of the local AWS is not at work after {seconds:.0f} seconds",
                hint=f"its log may say why: {child.log}",
            )
        time.sleep(0.1)
