"""Starts MiniStack as a child process on loopback, over TLS, with permissions enforced, and waits until it answers."""

from __future__ import annotations

import datetime
import json
import secrets
import socket
import sys
import time
import urllib.error
from pathlib import Path

import fleet_iot
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.aws import HOST, LocalAws, inherited_environment
from fleet_iot.operations.local.certificates import write_server_identity
from fleet_iot.operations.local.processes import ChildProcess, is_running, last_lines, start_child
from fleet_iot.operations.local.strictness import DEFAULT_SPEED

NAME = "emulator"
LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from fleet_iot.operations.local.emulator_process import main; main()"
)
"""Runs this project's entry point whatever the working folder is; the first argument is the folder of its code."""

CODE = Path(fleet_iot.__file__).resolve().parents[1]
"""The folder that holds the package `operations`."""

READY_SECONDS = 60.0
"""MiniStack is ready in a second or two; a loaded machine may need much more."""


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, *, option: str) -> None:
    """Raise a fault where somebody listens on `port` already."""
    with socket.socket() as probe:
        # As every server does: a connection that is still dying there does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise EnvironmentFault(
                f"port {port} cannot be used: {error.strerror}",
                hint=f"choose another with {option}, or leave it out to take a free one",
            ) from None


def describe(*, folder: Path, region: str, port: int, mqtt_port: int) -> LocalAws:
    """The facts of a local AWS that is not started yet."""
    return LocalAws(
        folder=folder,
        url=f"https://{HOST}:{port}",
        region=region,
        mqtt_host=HOST,
        mqtt_port=mqtt_port,
        authority=folder / "authority.pem",
        mqtt_authority=folder / "mqtt-authority.pem",
        # Not in the form of AWS's own keys: nobody, and no scanner, shall take it for one.
        access_key=f"LOCAL{secrets.token_hex(8).upper()}",
        secret_key=secrets.token_urlsafe(30),
    )


def start_emulator(local: LocalAws, *, speed: float | None = DEFAULT_SPEED) -> ChildProcess:
    """Start the emulator in its folder, with keys of its own; it may not answer yet.

    Args:
        local: Where it runs and listens.
        speed: How many times faster than on AWS its delays pass; None for an emulator without AWS's rules and delays.
    """
    key = local.folder / "server.key"
    certificate = local.folder / "server.pem"
    address = local.url.removeprefix("https://")
    write_server_identity(
        authority=local.authority, certificate=certificate, key=key, now=datetime.datetime.now(datetime.UTC)
    )
    temporary = local.folder / "tmp"
    temporary.mkdir()
    local.logs.mkdir()
    # Not `python -m ministack`: it takes port 443 as well wherever it may, so that no two run side by side.
    command = [sys.executable, "-c", LAUNCH, str(CODE), "--bind", address]
    command += ["--certificate", str(certificate), "--key", str(key)]
    command += [] if speed is None else ["--speed", str(speed)]
    environment = {
        **inherited_environment(),
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "BIND_HOST": HOST,
        "GATEWAY_PORT": address.rpartition(":")[2],
        "IOT_MTLS_PORT": str(local.mqtt_port),
        "MINISTACK_REGION": local.region,
        "STATE_DIR": str(temporary / "state"),
        "S3_DATA_DIR": str(temporary / "s3"),
        "AUTH": "true",
        "USE_SSL": "1",
        "CLOUDTRAIL_RECORDING": "1",
        "SFTP_ENABLED": "0",
        # The emulator's root user, and the proof that every request must give.
        "AWS_ACCESS_KEY_ID": local.access_key,
        "AWS_SECRET_ACCESS_KEY": local.secret_key,
    }
    return start_child(
        name=NAME, command=command, environment=environment, log=local.logs / "emulator.log", folder=temporary
    )


def await_emulator(local: LocalAws, child: ChildProcess, *, seconds: float = READY_SECONDS) -> None:
    """Waits until HTTPS answers and MQTT listens, then keeps the MQTT listener's authority beside the other."""
    log = Path(child.log)
    deadline = time.monotonic() + seconds
    while True:
        if not is_running(child):
            raise EnvironmentFault(
                f"the emulator ended while it started: {' / '.join(last_lines(log, 2)) or 'it said nothing'}",
                hint="its port may have been taken meanwhile; try again, or give --port and --mqtt-port",
            )
        mqtt = _mqtt_state(local)
        if mqtt == "listening":
            break
        if mqtt not in {"starting", None}:
            raise EnvironmentFault(
                f"the emulator could not listen for MQTT on port {local.mqtt_port}{_last_words(log)}",
                hint="choose another with --mqtt-port, or leave it out to take a free one",
            )
        if time.monotonic() > deadline:
            raise EnvironmentFault(
                f"the emulator did not answer at {local.url} within {seconds:.0f} seconds{_last_words(log)}",
                hint="the machine may be overloaded; try again",
            )
        time.sleep(0.1)
    local.mqtt_authority.write_bytes(local.fetch("/_ministack/iot/ca.pem"))


def _last_words(log: Path) -> str:
    """What it last logged: the log goes with the folder when a start fails."""
    said = last_lines(log, 1)
    return f"; it last said: {said[0]}" if said else ""


def _mqtt_state(local: LocalAws) -> str | None:
    """What the emulator says of its MQTT listener; None while it does not answer at all."""
    try:
        return str(json.loads(local.fetch("/_ministack/ready")).get("iot_mtls"))
    except urllib.error.HTTPError as answer:
        # 503 with the same body: not ready yet.
        return str(json.loads(answer.read() or b"{}").get("iot_mtls", "starting"))
    except (OSError, ValueError):
        return None
