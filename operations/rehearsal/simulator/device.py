"""Connect one simulated device: its certificate and key, TLS and MQTT 5."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.aws import Broker
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Thing
from fleet_iot.operations.rehearsal.simulator.schedule import Message

# DescribeCertificate allows 10 a second in an account by default.
_THREADS = 4


def certificates(iot: Any, things: Sequence[Thing]) -> dict[str, str]:
    """Read the active certificates (PEM) of things from AWS IoT, by thing name; things without one are left out."""

    def certificate(thing: Thing) -> str | None:
        try:
            principals = iot.list_thing_principals(thingName=thing.name)["principals"]
        except iot.exceptions.ResourceNotFoundException:
            return None
        for principal in principals:
            described = iot.describe_certificate(certificateId=principal.rpartition("/")[2])["certificateDescription"]
            if described["status"] == "ACTIVE":
                return str(described["certificatePem"])
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = zip(things, pool.map(certificate, things), strict=True)
        return {thing.name: pem for thing, pem in found if pem is not None}


def private_keys(store: KeyStore, things: Sequence[Thing]) -> dict[str, ec.EllipticCurvePrivateKey]:
    """Read the private keys of things from the key store, by thing name; things without one are left out."""
    keys: dict[str, ec.EllipticCurvePrivateKey] = {}
    for facility in sorted({thing.facility for thing in things}):
        keys |= store.keys(facility, {thing.name for thing in things if thing.facility == facility})
    return keys


def tls_context(broker: Broker, *, certificate: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """Build a TLS 1.2+ client context; the key goes through an anonymous memory file, never through a disk."""
    presented = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    if presented != key.public_key():
        raise EnvironmentFault(
            "a certificate in AWS IoT and the key in the store do not belong together",
            hint="rotate the device, or restore its key",
        )
    context = ssl.create_default_context(cafile=str(broker.ca_file) if broker.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    load_identity(context, certificate.encode() + pem)
    return context


def load_identity(context: ssl.SSLContext, pem: bytes) -> None:
    """Load certificate and key from PEM in memory, which `ssl` can read only from a path."""
    descriptor = os.memfd_create("identity")
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


_KEEPALIVE_S = 60
_IN_FLIGHT = 50
# PUBACK reason codes below 0x80 are successes (MQTT 5, 3.4.2.1); 0x87 is "not authorized".
_FIRST_FAILURE = 0x80


class Device:
    """A connected thing. `on_answer` is called for every accepted or refused publish, from paho's thread."""

    def __init__(
        self, client_id: str, *, broker: Broker, context: ssl.SSLContext, on_answer: Callable[[Message, bool], None]
    ) -> None:
        self.refusal: str | None = None
        self._on_answer = on_answer
        self.broker = broker
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
        """Start to connect; `wait_connected` waits for the answer. Raises OSError, ssl.SSLError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types all but this
        # The session outlives a dropped socket, so that what was not acknowledged is sent again.
        properties.SessionExpiryInterval = 300
        self._client.connect(self.broker.host, self.broker.port, _KEEPALIVE_S, clean_start=True, properties=properties)
        self._client.loop_start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Return whether the broker accepted the connection within `timeout_s` seconds."""
        return self._connected.wait(timeout_s) and self.refusal is None

    def publish(self, topic: str, message: Message) -> None:
        """Publish at QoS 1."""
        # Not under the lock: paho calls back under its own, so each would wait for the other.
        mid = self._client.publish(topic, message.payload, qos=1).mid
        with self._lock:
            is_accepted = self._early.pop(mid, None)
            if is_accepted is None:
                self._pending[mid] = message
        if is_accepted is not None:
            self._on_answer(message, is_accepted)

    def outstanding(self) -> int:
        """Count the publishes that the broker has not answered yet."""
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
