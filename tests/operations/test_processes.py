"""Child processes and ports: known again, stopped with all they started, and free before they are used."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.emulator import require_free_port
from fleet_iot.operations.processes import ChildProcess, is_running, last_lines, start_child, stop_children

PARENT_AND_CHILD = """
import signal, subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(inner.pid, flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


def child(tmp_path: Path, program: str) -> ChildProcess:
    """A child that runs a Python program."""
    command = [sys.executable, "-c", program]
    return start_child(name="x", command=command, environment=os.environ, log=tmp_path / "x.log", folder=tmp_path)


def test_a_stopped_child_takes_its_own_children_along(tmp_path: Path) -> None:
    """A child that ignores the polite signal is killed, and so is what it started."""
    started = child(tmp_path, PARENT_AND_CHILD)
    deadline = time.monotonic() + 20
    while not last_lines(Path(started.log)) and time.monotonic() < deadline:
        time.sleep(0.02)
    inner = int(last_lines(Path(started.log))[0])
    assert is_running(started)
    stop_children([started], seconds=0.3)
    assert not is_running(started)
    while Path(f"/proc/{inner}").exists() and time.monotonic() < deadline:
        state = Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{inner}").exists()


def test_a_process_with_the_same_pid_and_another_start_is_not_the_child(tmp_path: Path) -> None:
    """A recycled pid is neither taken for the child nor stopped."""
    started = child(tmp_path, "import time; time.sleep(600)")
    later = dataclasses.replace(started, started="1")
    stop_children([later])
    assert [is_running(later), is_running(started)] == [False, True]
    stop_children([started])
    assert not is_running(started)


def test_a_taken_port_is_said_with_the_option_that_changes_it() -> None:
    """A port in use is refused before anything is started."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(EnvironmentFault) as fault:
            require_free_port(port, option="--mqtt-port")
    assert fault.value.message == f"port {port} cannot be used: Address already in use"
    assert fault.value.hint == "choose another with --mqtt-port, or leave it out to take a free one"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that holds other files is refused, and they stay."""
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(EnvironmentFault) as fault:
        emulator.start(folder=tmp_path, region="ap-southeast-1")
    assert fault.value.message == f"{tmp_path} holds files that belong to no local AWS"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_of_an_earlier_version_is_stopped_and_not_used(tmp_path: Path) -> None:
    """It had no secret: every use but `down` and a new `up` says to start it again."""
    started = child(tmp_path, "import time; time.sleep(600)")
    folder = tmp_path / "local"
    folder.mkdir()
    facts = {"version": 1, "url": "https://127.0.0.1:1", "region": "ap-southeast-1", "mqtt_host": "127.0.0.1"}
    facts |= {"mqtt_port": 2, "authority": "a.pem", "mqtt_authority": "m.pem"}
    facts |= {"children": [dataclasses.asdict(started)]}
    (folder / "endpoint.json").write_text(json.dumps(facts))
    with pytest.raises(EnvironmentFault) as fault:
        emulator.load(folder)
    assert fault.value.message == f"the local AWS in {folder} is of an earlier version"
    assert (fault.value.hint or "").startswith("start it again: fleet local down")
    emulator.stop(emulator.load(folder, is_to_stop=True))
    assert (is_running(started), folder.exists()) == (False, False)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns the folder could take what is written into it."""
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(EnvironmentFault, match="belongs to another user"):
        emulator.start(folder=tmp_path, region="ap-southeast-1")


def test_there_is_nothing_to_stop_where_nothing_was_started(tmp_path: Path) -> None:
    """Without a local AWS in the folder, the fault names the command that starts one."""
    with pytest.raises(EnvironmentFault) as fault:
        emulator.load(tmp_path)
    assert fault.value.message == f"no local AWS is in {tmp_path}"
    assert (fault.value.hint or "").startswith("start one: fleet local up")
