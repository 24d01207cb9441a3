"""Starts and stops one local AWS: MiniStack as a child process on loopback, over TLS, with permissions enforced.

Everything that it starts ends with it, and everything that it writes is deleted.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import shutil
import socket
import sys
import time
import urllib.error
from contextlib import suppress
from pathlib import Path

import fleet_iot
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.aws import FACTS, HOST, LocalAws, inherited_environment, load, save
from fleet_iot.operations.local.certificates import write_server_identity
from fleet_iot.operations.local.strictness import DEFAULT_SPEED
from fleet_iot.operations.processes import (
    ChildProcess,
    is_running,
    last_lines,
    readable_by_owner_only,
    start_child,
    stop_children,
)

NAME = "emulator"
LAUNCH = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from fleet_iot.operations.local.emulator_process import main; main()"
)
"""Runs emulator_process in any working folder; the first argument is the folder that contains the package."""

CODE = Path(fleet_iot.__file__).resolve().parents[1]

READY_SECONDS = 60.0
"""MiniStack is ready in a second or two; a loaded machine may need much more."""


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, *, option: str) -> None:
    """Raise EnvironmentFault where `port` is in use."""
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
    """Return the facts of a local AWS that is not started yet."""
    return LocalAws(
        folder=folder,
        url=f"https://{HOST}:{port}",
        region=region,
        mqtt_host=HOST,
        mqtt_port=mqtt_port,
        authority=folder / "authority.pem",
        mqtt_authority=folder / "mqtt-authority.pem",
        # Not in the form of AWS's own keys, so that no scanner reports it as one.
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
    # Not `python -m ministack`: it binds port 443 as well, so that no two run side by side.
    command = [sys.executable, "-P", "-c", LAUNCH, str(CODE), "--bind", address]
    command += ["--certificate", str(certificate), "--key", str(key), "--faults", str(local.folder)]
    command += ["--decisions", str(local.decisions)]
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
    """Wait until HTTPS answers and MQTT listens, then store the MQTT listener's authority beside the other."""
    log = Path(child.log)
    deadline = time.monotonic() + seconds
    while True:
        if not is_running(child):
            raise EnvironmentFault(
                f"the emulator ended while it started: {' / '.join(last_lines(log, 2)) or 'no output'}",
                hint="its port may be in use by now; try again, or give --port and --mqtt-port",
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
    """Quote the log's last line: the log is deleted with the folder when a start fails."""
    said = last_lines(log, 1)
    return f"; its last log line: {said[0]}" if said else ""


def _mqtt_state(local: LocalAws) -> str | None:
    """Return the state of the MQTT listener; None while the emulator does not answer at all."""
    try:
        return str(json.loads(local.fetch("/_ministack/ready")).get("iot_mtls"))
    except urllib.error.HTTPError as answer:
        # 503 with the same body: not ready yet.
        return str(json.loads(answer.read() or b"{}").get("iot_mtls", "starting"))
    except (OSError, ValueError):
        return None


@readable_by_owner_only()
def start(
    *,
    folder: Path,
    region: str,
    port: int | None = None,
    mqtt_port: int | None = None,
    speed: float | None = DEFAULT_SPEED,
) -> LocalAws:
    """Start an empty local AWS in `folder`; where that fails, stop what was started.

    Args:
        folder: For everything that it writes; must be empty, or contain a local AWS that has ended.
        region: The only region.
        port: Port of HTTPS; None for a free one.
        mqtt_port: Port of MQTT; None for a free one.
        speed: How many times faster than on AWS its delays pass; None leaves AWS's rules and delays out.
    """
    folder = folder.resolve()
    _make_room(folder)
    if port is not None:
        require_free_port(port, option="--port")
    if mqtt_port is not None:
        require_free_port(mqtt_port, option="--mqtt-port")
    local = describe(
        folder=folder,
        region=region,
        port=port or free_port(),
        mqtt_port=mqtt_port or free_port(),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        # First of all, so that `down` recognises the folder whatever happens next.
        save(local)
        child = start_emulator(local, speed=speed)
        local = local.with_child(child)
        save(local)
        await_emulator(local, child)
    except BaseException:
        stop(local)
        raise
    return local


def stop(local: LocalAws) -> None:
    """End every process of the local AWS and delete its folder, keys included."""
    with suppress(EnvironmentFault):
        # It may have more children by now.
        local = load(local.folder, is_to_stop=True)
    # The emulator last: the others would log its absence as a fault.
    stop_children(child for child in local.children if child.name != NAME)
    stop_children(child for child in local.children if child.name == NAME)
    shutil.rmtree(local.folder, ignore_errors=True)
    if local.folder.exists():
        raise EnvironmentFault(
            f"{local.folder} could not be deleted completely", hint="see which process uses it, then delete it"
        )


def stop_child(local: LocalAws, name: str) -> None:
    """End one process of the local AWS, where it runs."""
    child = local.child(name)
    if child is not None:
        stop_children([child])


def _make_room(folder: Path) -> None:
    """Delete what a dead local AWS left in `folder`. Raises EnvironmentFault where it is in use or another user's."""
    if folder.exists() and not folder.is_dir():
        raise EnvironmentFault(f"{folder} is not a folder", hint="name another with --dir")
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise EnvironmentFault(f"{folder} belongs to another user", hint="name another with --dir")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / FACTS).exists():
        raise EnvironmentFault(
            f"{folder} holds files that belong to no local AWS", hint="name another folder with --dir, or empty it"
        )
    earlier = load(folder, is_to_stop=True)
    child = earlier.child(NAME)
    if child is not None and is_running(child):
        raise EnvironmentFault(
            f"a local AWS runs already in {folder}",
            hint="use it, end it with `fleet local down`, or name another --dir",
        )
    with suppress(EnvironmentFault):
        stop(earlier)


def require_emulator(local: LocalAws) -> None:
    """Raise EnvironmentFault where the emulator is dead, with the last line of its log."""
    child = local.child(NAME)
    if child is None or not is_running(child):
        said = last_lines(Path(child.log), 1) if child else []
        raise EnvironmentFault(
            f"the emulator of the local AWS in {local.folder} has ended{': ' + said[0] if said else ''}",
            hint="start it again: fleet local down, then fleet local up",
        )
