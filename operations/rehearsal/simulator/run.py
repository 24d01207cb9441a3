"""Runs a simulation: connects the things, publishes their schedules at the given pace, waits for every answer."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.patience import Patience
from fleet_iot.operations.rehearsal.simulator.credentials import Broker, tls_context
from fleet_iot.operations.rehearsal.simulator.device import Device
from fleet_iot.operations.rehearsal.simulator.schedule import Message, ThingSchedule
from fleet_iot.operations.rehearsal.simulator.truth import TruthFile

_CONNECT_THREADS = 8
_CONNECT_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the broker acknowledged: distinct readings, poison and repeats, and the things they came from."""

    things: int
    readings: int
    poison: int
    repeats: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a thing connects with."""

    certificate: str
    key: ec.EllipticCurvePrivateKey


def simulate(
    schedules: list[ThingSchedule],
    *,
    broker: Broker,
    identities: Mapping[str, Identity],
    topic_of: Callable[[Message], str],
    duration_s: float,
    truth: TruthFile,
    on_progress: Callable[[int], None],
) -> Outcome:
    """Publish every schedule's messages spread over `duration_s` seconds and wait for the broker's answers.

    `on_progress` gets the number of messages sent so far. Raises EnvironmentFault where a thing cannot
    connect or an answer does not come; every connection is closed in any case.
    """
    devices = {
        schedule.thing.name: Device(
            schedule.thing.name,
            broker=broker,
            context=tls_context(
                broker,
                certificate=identities[schedule.thing.name].certificate,
                key=identities[schedule.thing.name].key,
            ),
            on_answer=truth.answered,
        )
        for schedule in schedules
    }
    try:
        _connect_all(devices, broker)
        started = time.monotonic()
        for sent, (offset_s, message) in enumerate(_in_time(schedules, duration_s), start=1):
            wait_s = started + offset_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            devices[message.thing.name].publish(topic_of(message), message)
            on_progress(sent)
        _wait_answers(devices)
    finally:
        for device in devices.values():
            device.close()
        truth.close()
    return Outcome(
        things=len(truth.things),
        readings=truth.accepted["reading"],
        poison=truth.accepted["poison"],
        repeats=truth.accepted["repeat"],
        refused=truth.refused.total(),
    )


def _in_time(schedules: list[ThingSchedule], duration_s: float) -> Iterator[tuple[float, Message]]:
    """(seconds from the start, message) of all things, in order; a thing's messages keep theirs."""

    def timed(position: int, schedule: ThingSchedule) -> Iterator[tuple[float, int, int, Message]]:
        step_s = duration_s / schedule.samples
        for number, message in enumerate(schedule.messages()):
            offset_s = step_s * (message.sequence + position / len(schedules))
            yield offset_s, position, number, message

    streams = [timed(position, schedule) for position, schedule in enumerate(schedules)]
    for offset_s, _position, _number, message in heapq.merge(*streams, key=lambda entry: entry[:3]):
        yield offset_s, message


def _connect_all(devices: Mapping[str, Device], broker: Broker) -> None:
    def connect(device: Device) -> str | None:
        try:
            device.connect()
        except OSError as error:  # refused, unreachable, or TLS (ssl.SSLError is an OSError)
            return f"{device.client_id} cannot reach {broker.host}:{broker.port}: {error}"
        if not device.wait_connected(_CONNECT_TIMEOUT_S):
            return f"{broker.host}:{broker.port} does not let {device.client_id} in: {device.refusal or 'no answer'}"
        return None

    with ThreadPoolExecutor(_CONNECT_THREADS) as pool:
        faults = [fault for fault in pool.map(connect, devices.values()) if fault]
    if faults:
        more = f" (and {len(faults) - 1} more things)" if len(faults) > 1 else ""
        raise EnvironmentFault(
            faults[0] + more, hint="check that the facility is applied and that the things' certificates are active"
        )


def _wait_answers(devices: Mapping[str, Device]) -> None:
    patience = Patience(_ANSWER_TIMEOUT_S)
    while True:
        outstanding = sum(device.outstanding() for device in devices.values())
        if not outstanding:
            return
        if patience.is_over(outstanding):
            raise EnvironmentFault(
                f"{outstanding} publishes are open, and the broker has answered none for {_ANSWER_TIMEOUT_S:.0f} s",
                hint="lower --rate, and see the broker's log",
            )
        time.sleep(0.05)
