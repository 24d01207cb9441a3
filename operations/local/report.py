"""What runs in a local AWS, and what it holds: the facts behind `fleet local status`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet_iot.operations.local.aws import LocalAws
from fleet_iot.operations.local.processes import is_running, last_lines
from fleet_iot.operations.local.states import applied_stacks, count_resources


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process; `last_words` are its log's last lines, where it is dead."""

    name: str
    pid: int
    is_running: bool
    log: str
    last_words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStatus:
    """A local AWS as it is now; `resources` counts the managed resources in each stack's state."""

    folder: str
    url: str
    mqtt: str
    processes: tuple[ProcessState, ...]
    resources: dict[str, int]

    @property
    def is_whole(self) -> bool:
        """Whether everything that was started still runs."""
        return bool(self.processes) and all(process.is_running for process in self.processes)


def local_status(local: LocalAws) -> LocalStatus:
    """Looks at every process and every state."""
    return LocalStatus(
        folder=str(local.folder),
        url=local.url,
        mqtt=f"{local.mqtt_host}:{local.mqtt_port}",
        processes=tuple(
            ProcessState(
                name=child.name,
                pid=child.pid,
                is_running=(running := is_running(child)),
                log=child.log,
                last_words=() if running else tuple(last_lines(Path(child.log), 3)),
            )
            for child in local.children
        ),
        resources={stack.name: count_resources(stack) for stack in applied_stacks(local)},
    )
