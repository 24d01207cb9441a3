"""Starts and stops one local AWS: everything that it starts ends with it, and everything that it writes goes."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.aws import FACTS, LocalAws, load, save
from fleet_iot.operations.local.processes import for_owner_alone, is_running, last_lines, stop_children
from fleet_iot.operations.local.strictness import DEFAULT_SPEED


@for_owner_alone()
def start(
    *,
    folder: Path,
    region: str,
    port: int | None = None,
    mqtt_port: int | None = None,
    speed: float | None = DEFAULT_SPEED,
) -> LocalAws:
    """Start a local AWS in `folder`, with nothing in it; what was started is stopped again where that fails.

    Args:
        folder: Where all that it writes goes; it must be empty, or hold a local AWS that has ended.
        region: The only one that is used.
        port: Of HTTPS; None takes a free one.
        mqtt_port: Of MQTT; None takes a free one.
        speed: How many times faster than on AWS its delays pass; None leaves AWS's rules and delays out.
    """
    folder = folder.resolve()
    _make_room(folder)
    if port is not None:
        emulator.require_free_port(port, option="--port")
    if mqtt_port is not None:
        emulator.require_free_port(mqtt_port, option="--mqtt-port")
    local = emulator.describe(
        folder=folder,
        region=region,
        port=port or emulator.free_port(),
        mqtt_port=mqtt_port or emulator.free_port(),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        # First of all, so that `down` knows the folder for one of its own whatever happens next.
        save(local)
        child = emulator.start_emulator(local, speed=speed)
        local = local.with_child(child)
        save(local)
        emulator.await_emulator(local, child)
    except BaseException:
        stop(local)
        raise
    return local


def stop(local: LocalAws) -> None:
    """Ends every process of the local AWS and deletes its folder; nothing of it is left, its keys included."""
    with suppress(EnvironmentFault):
        # It may have more children than when the caller's facts were made.
        local = load(local.folder, is_to_stop=True)
    # The emulator last: the others would log its absence as a fault.
    stop_children(child for child in local.children if child.name != emulator.NAME)
    stop_children(child for child in local.children if child.name == emulator.NAME)
    shutil.rmtree(local.folder, ignore_errors=True)
    if local.folder.exists():
        raise EnvironmentFault(f"{local.folder} could not be deleted whole", hint="look who holds it, and delete it")


def stop_child(local: LocalAws, name: str) -> None:
    """Ends one process of the local AWS, where it runs."""
    child = local.child(name)
    if child is not None:
        stop_children([child])


def _make_room(folder: Path) -> None:
    """A fault where `folder` is in use or somebody else's; what a dead local AWS left there is deleted."""
    if folder.exists() and not folder.is_dir():
        raise EnvironmentFault(f"{folder} is not a folder", hint="name another with --dir")
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise EnvironmentFault(f"{folder} belongs to another user", hint="name another with --dir")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / FACTS).exists():
        raise EnvironmentFault(
            f"{folder} holds files that are no local AWS's", hint="name another folder with --dir, or empty it"
        )
    earlier = load(folder, is_to_stop=True)
    child = earlier.child(emulator.NAME)
    if child is not None and is_running(child):
        raise EnvironmentFault(
            f"a local AWS runs already in {folder}",
            hint="use it, end it with `fleet local down`, or name another --dir",
        )
    with suppress(EnvironmentFault):
        stop(earlier)


def require_emulator(local: LocalAws) -> None:
    """A fault where the emulator is dead: with what it last said."""
    child = local.child(emulator.NAME)
    if child is None or not is_running(child):
        said = last_lines(Path(child.log), 1) if child else []
        raise EnvironmentFault(
            f"the emulator of the local AWS in {local.folder} has ended{': ' + said[0] if said else ''}",
            hint="start anew: fleet local down, then fleet local up",
        )
