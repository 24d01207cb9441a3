"""Child processes that outlive their parent: started detached, recognised by pid and start time, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 10.0
"""Seconds that a child may need to end by itself before it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildProcess:
    """A process that was started here; `started` distinguishes it from a later process with the same pid."""

    name: str
    pid: int
    started: str
    log: str


def start_child(
    *, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path
) -> ChildProcess:
    """Start `command` in a session of its own, so that Ctrl-C in the terminal does not reach it, writing to `log`.

    Only its owner can read what it writes, the log included.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as stream:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    # The child outlives this object on purpose; without this, Python warns about it when the object goes.
    process.returncode = 0
    return ChildProcess(name=name, pid=process.pid, started=_start_time(process.pid) or "", log=str(log))


@contextmanager
def readable_by_owner_only() -> Iterator[None]:
    """Make every file that is written within it, or in a function that it decorates, readable by its owner only."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def is_running(child: ChildProcess) -> bool:
    """Return whether this very process still runs; a zombie does not."""
    with suppress(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    return child.started != "" and _start_time(child.pid) == child.started


def stop_children(children: Iterable[ChildProcess], *, seconds: float = STOP_SECONDS) -> None:
    """End the children and what they started: by SIGTERM, all at once, and by SIGKILL after `seconds`."""
    running = [child for child in children if is_running(child)]
    for child in running:
        _signal_group(child, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(is_running(child) for child in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in running:
        # Also where the leader has gone: what it started is still in its group.
        _signal_group(child, signal.SIGKILL)
    while any(is_running(child) for child in running):
        time.sleep(0.02)


def last_lines(path: Path, count: int = 5) -> list[str]:
    """Return the last lines of a log that are not blank, for a message about the process that wrote it."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 8192))
            text = stream.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def _signal_group(child: ChildProcess, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _start_time(pid: int) -> str | None:
    """Return the kernel's mark of when a process started; None where it has ended (state Z) or never existed."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _start_time_by_ps(pid) if not Path("/proc/self/stat").exists() else None
    # The command's name is in brackets and may contain anything; the fields after it are plain.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]


def _start_time_by_ps(pid: int) -> str | None:
    listing = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = listing.stdout.strip().partition(" ")
    return started.strip() if state and not state.startswith("Z") else None
