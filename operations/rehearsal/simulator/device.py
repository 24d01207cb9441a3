"""Connect one simulated device: its certificate and key, TLS and MQTT 5."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.project import Thing
from fleet_iot.operations.rehearsal.simulator.schedule import Message

# DescribeCertificate allows 10 a second in an account by default.
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where devices connect; `ca_file` is None where the system's own authorities know the broker."""

    host: str
    port: int
    ca_file: Path | None


def certificates(iot: Any, things: list[Thing]) -> dict[str, str]:
    """Thing name → PEM certificate, as registered. Raises EnvironmentFault naming things that have none."""

    def certificate(thing: Thing) -> tuple[str, str | None]:
        try:
            principals = iot.list_thing_principals(thingName=thing.name)["principals"]
        except iot.exceptions.ResourceNotFoundException:
            return thing.name, None
        for principal in principals:
            described = iot.describe_certificate(certificateId=principal.rpartition("/")[2])
            if described["certificateDescription"]["status"] == "ACTIVE":
                return thing.name, described["certificateDescription"]["certificatePem"]
        return thing.name, None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(pool.map(certificate, things))
    missing = sorted(name for name, pem in found.items() if pem is None)
    if missing:
        raise EnvironmentFault(
            f"{len(missing)} things have no active certificate in AWS IoT, {missing[0]} first",
            hint="run `fleet keys create`, synthesise and apply the facility's stack",
        )
    return {name: pem for name, pem in found.items() if pem is not None}


def private_keys(store: KeyStore, things: list[Thing]) -> dict[str, ec.EllipticCurvePrivateKey]:
    """Thing name → private key. Raises EnvironmentFault naming things whose key is not in the store."""
    keys: dict[str, ec.EllipticCurvePrivateKey] = {}
    for facility in sorted({thing.facility for thing in things}):
        names = {thing.name for thing in things if thing.facility == facility}
        keys.update(store.keys(facility, names))
    missing = sorted({thing.name for thing in things} - keys.keys())
    if missing:
        raise EnvironmentFault(
            f"the key store has no key for {len(missing)} things, {missing[0]} first",
            hint="`fleet keys create` makes keys for things without a CSR; point FLEET_KEYS_DIR at the right store",
        )
    return keys


def tls_context(broker: Broker, *, certificate: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    """A TLS 1.2+ client context; the key passes through an anonymous memory file, never through a disk."""
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
    """Load certificate and key, given as PEM in memory, which `ssl` can read only from a path."""
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
