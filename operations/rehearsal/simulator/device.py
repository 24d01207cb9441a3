"""One simulated device: an MQTT 5 connection over mutual TLS that counts what the broker acknowledged."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_iot.operations.rehearsal.simulator.credentials import Broker
from fleet_iot.operations.rehearsal.simulator.schedule import Message

_KEEPALIVE_S = 60
_IN_FLIGHT = 50
# PUBACK reason codes below 0x80 are successes (MQTT 5, 3.4.2.1); 0x87 is "not authorized".
_FIRST_FAILURE = 0x80


class Device:
    """A connected thing. Every accepted or refused publish is told to `on_answer`, from paho's thread."""

    def __init__(
        self, client_id: str, *, broker: Broker, context: ssl.SSLContext, on_answer: Callable[[Message, bool], None]
    ) -> None:
        self.client_id = client_id
        self.refusal: str | None = None
        self._broker = broker
        self._on_answer = on_answer
        self._connected = threading.Event()
        self._pending: dict[int, Message] = {}
        self._early: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(context)
        self._client.max_inflight_messages_set(_IN_FLIGHT)
        self._client.on_connect = self._handle_connect
        self._client.on_publish = self._handle_publish

    def connect(self) -> None:
        """Start to connect; `wait_connected` says whether it came to be. Raises OSError, ssl.SSLError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types all but this
        # The session outlives a dropped socket, so that what was not acknowledged is sent again.
        properties.SessionExpiryInterval = 300
        self._client.connect(
            self._broker.host, self._broker.port, _KEEPALIVE_S, clean_start=True, properties=properties
        )
        self._client.loop_start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Whether the broker accepted the connection within `timeout_s`."""
        return self._connected.wait(timeout_s) and self.refusal is None

    def publish(self, topic: str, message: Message) -> None:
        """Publish at QoS 1."""
        # Not under the lock: paho holds its own while it calls back, and each would wait for the other for ever.
        mid = self._client.publish(topic, message.payload, qos=1).mid
        with self._lock:
            is_accepted = self._early.pop(mid, None)
            if is_accepted is None:
                self._pending[mid] = message
        if is_accepted is not None:
            self._on_answer(message, is_accepted)

    def outstanding(self) -> int:
        """Publishes that the broker has not answered yet."""
        with self._lock:
            return len(self._pending)

    def close(self) -> None:
        """Disconnect and end the device's thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _handle_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refusal = str(reason)
        self._connected.set()

    def _handle_publish(self, _client: Any, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        is_accepted = reason.value < _FIRST_FAILURE
        with self._lock:
            message = self._pending.pop(mid, None)
            if message is None:  # faster than `publish` could note it
                self._early[mid] = is_accepted
        if message is not None:
            self._on_answer(message, is_accepted)
