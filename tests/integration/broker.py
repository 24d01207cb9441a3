"""A client that asks the local broker for one thing at a time, and says yes or no as the broker did."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_iot.operations.aws import Broker

_PATIENCE_S = 10.0
_FIRST_FAILURE = 0x80


@dataclass(frozen=True, kw_only=True)
class Will:
    """Message that the broker publishes when the connection is lost."""

    topic: str
    retain: bool = False


class Asker:
    """A connection by MQTT 5 over mutual TLS; `is_in` says whether the broker let it in."""

    def __init__(self, broker: Broker, *, client_id: str, context: ssl.SSLContext, will: Will | None = None) -> None:
        self.is_in = False
        self.heard: list[str] = []
        self._broker = broker
        self._answered = threading.Event()
        self._codes: list[int] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        self._client.tls_set_context(context)
        if will:
            self._client.will_set(will.topic, b"{}", qos=1, retain=will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_publish = lambda _client, _data, _mid, reason, _properties: self._answer([reason.value])
        self._client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: self._answer(
            [reason.value for reason in reasons]
        )
        self._client.on_message = lambda _client, _data, message: self.heard.append(message.topic)
        self._client.on_disconnect = lambda *_: self._answered.set()

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._client.connect(self._broker.host, self._broker.port)
            self._client.loop_start()
            assert self._answered.wait(_PATIENCE_S), "the broker neither let the client in nor refused it"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publishes(self, topic: str, *, retain: bool = False) -> bool:
        """Return whether the broker accepts a message for the topic."""
        return self._asks(lambda: self._client.publish(topic, b"{}", qos=1, retain=retain))

    def subscribes(self, topic_filter: str) -> bool:
        """Return whether the broker accepts a subscription."""
        return self._asks(lambda: self._client.subscribe(topic_filter, qos=1))

    def _asks(self, ask: Any) -> bool:
        assert self.is_in and self._client.is_connected(), "the connection is gone"
        self._answered.clear()
        self._codes = []
        ask()
        assert self._answered.wait(_PATIENCE_S), "the broker does not answer"
        return bool(self._codes) and all(code < _FIRST_FAILURE for code in self._codes)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.is_in = not reason.is_failure
        self._answered.set()

    def _answer(self, codes: list[int]) -> None:
        self._codes = codes
        self._answered.set()
