"""The `fleet local` commands, as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet_iot.operations.local.aws import FACTS, load
from fleet_iot.operations.processes import is_running, stop_children
from tests.places import SAMPLE

pytestmark = pytest.mark.local_aws


def fleet(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`fleet local …` in the project's folder."""
    command = [sys.executable, "-m", "fleet_iot", "local", *arguments]
    return subprocess.run(command, cwd=SAMPLE, capture_output=True, text=True, timeout=120, check=False)


def account_in_shell(commands: str, secret: str) -> str:
    """Return the account that boto3 uses in a shell that was given the commands, over settings that point elsewhere."""
    assert secret not in commands
    ask = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    elsewhere = {"AWS_PROFILE": "plant", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    elsewhere |= {"HTTPS_PROXY": "http://127.0.0.1:9", "AWS_ENDPOINT_URL": "https://127.0.0.1:9"}
    run = subprocess.run(
        ["sh", "-c", f'{commands}exec {sys.executable} -c "{ask}"'],
        env=os.environ | elsewhere,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout.strip() or run.stderr


def test_up_status_and_down(tmp_path: Path) -> None:
    """Up says where it listens, status what runs and when it has died, down leaves no folder."""
    folder = tmp_path / "local"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = fleet("up", "--dir", str(folder), "--port", str(listener.getsockname()[1]))
    assert (taken.returncode, folder.exists()) == (7, False)
    assert taken.stderr.splitlines()[1] == "hint: choose another with --port, or leave it out to take a free one"

    up = fleet("up", "--dir", str(folder))
    assert (up.returncode, up.stderr) == (0, "")
    local = load(folder)
    assert up.stdout == f"local AWS at {local.url} (MQTT 127.0.0.1:{local.mqtt_port}), folder {folder}\n"
    assert "000000000000" == account_in_shell(fleet("env", "--dir", str(folder)).stdout, local.secret_key)
    status = fleet("status", "--dir", str(folder), "--json")
    assert [process["is_running"] for process in json.loads(status.stdout)["processes"]] == [True]

    stop_children(local.children)
    dead = fleet("status", "--dir", str(folder))
    assert dead.returncode == 7
    assert dead.stderr.splitlines()[0] == f"error: of the local AWS in {folder}, emulator has ended"

    down = fleet("down", "--dir", str(folder))
    assert (down.returncode, folder.exists()) == (0, False)
    again = fleet("down", "--dir", str(folder))
    assert (again.returncode, again.stderr.splitlines()[0]) == (7, f"error: no local AWS is in {folder}")


def test_up_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while it starts ends the emulator and deletes the folder."""
    folder = tmp_path / "local"
    command = [sys.executable, "-m", "fleet_iot", "local", "up", "--dir", str(folder)]
    # Stopped the moment that the emulator is on record, long before it answers.
    # Among many other processes it might answer first: this one is not to wait behind it.
    with subprocess.Popen(
        ["nice", "-n", "19", *command], cwd=SAMPLE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not (folder / FACTS).exists() or not load(folder).children:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        children = load(folder).children
        os.kill(process.pid, signal.SIGINT)
        output = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in output[1]
    assert [is_running(child) for child in children] == [False]
    assert not folder.exists()
