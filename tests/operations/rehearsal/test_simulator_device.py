"""A simulated device's bookkeeping of what the broker answered."""

from __future__ import annotations

import ssl
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fleet_iot.operations.aws import Broker
from fleet_iot.operations.project import Thing
from fleet_iot.operations.rehearsal.simulator import Device, Message

THING = Thing(name="sg-01-press-0001-dev", facility="sg-01", device_type="press", serial="1")


def message(sequence: int) -> Message:
    return Message(thing=THING, kind="reading", poison=None, time_ms=1, sequence=sequence, metrics={}, payload=b"{}")


def device(answers: list[tuple[int, bool]]) -> Device:
    return Device(
        THING.name,
        broker=Broker(host="127.0.0.1", port=1, ca_file=None),
        context=ssl.create_default_context(),
        on_answer=lambda sent, is_accepted: answers.append((sent.sequence, is_accepted)),
    )


class AnswersAtOnce:
    """As paho behaves at its worst: the answer is called back, from its thread, before `publish` returns."""

    def __init__(self, owner: Device, *, reason: int) -> None:
        self._owner, self._reason, self._mid = owner, reason, 0

    def publish(self, _topic: str, _payload: bytes, qos: int) -> Any:
        self._mid += 1
        reason = SimpleNamespace(value=self._reason)
        caller = threading.Thread(
            target=self._owner._handle_publish, args=(None, None, self._mid, reason, None), daemon=True
        )
        caller.start()
        caller.join(5)
        assert not caller.is_alive(), "the callback waits for a lock that `publish` holds"
        return SimpleNamespace(mid=self._mid)


@pytest.mark.parametrize(("reason", "is_accepted"), [(0x00, True), (0x10, True), (0x87, False)])
def test_an_answer_may_come_before_publish_returns(reason: int, is_accepted: bool) -> None:
    """Neither side waits for the other, and every message gets its answer once."""
    answers: list[tuple[int, bool]] = []
    sender = device(answers)
    sender._client = AnswersAtOnce(sender, reason=reason)  # type: ignore[assignment]
    for sequence in range(3):
        sender.publish("topic", message(sequence))
    assert [(0, is_accepted), (1, is_accepted), (2, is_accepted)] == answers
    assert sender.outstanding() == 0


def test_what_is_not_answered_is_outstanding() -> None:
    """A publish counts as outstanding until its answer comes."""
    answers: list[tuple[int, bool]] = []
    sender = device(answers)
    sender._client = SimpleNamespace(publish=lambda *_, **__: SimpleNamespace(mid=7))  # type: ignore[assignment]
    sender.publish("topic", message(1))
    assert (1, []) == (sender.outstanding(), answers)
    sender._handle_publish(None, None, 7, SimpleNamespace(value=0), None)
    assert (0, [(1, True)]) == (sender.outstanding(), answers)
