"""The process that plays the rules' actions: Kinesis, and S3 where that fails, each under the role made for it.

A message is acknowledged to the broker only when one of the two has it: whatever ends this process, nothing is lost.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import ssl
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_iot.generator.diagnostics import FleetError
from fleet_iot.operations.local.aws import LocalAws, load
from fleet_iot.operations.local.overrides import REPUBLISH_TOPIC
from fleet_iot.operations.local.roles import RoleSession
from fleet_iot.operations.local.rules_identity import THING, RulesIdentity, ensure_identity
from fleet_iot.operations.local.statistics import write_statistics
from fleet_iot.operations.local.topic_rules import TopicRule, error_document, fill_template, partition_key, topic_rule

NAME = "rules-engine"
STATISTICS = "rules-engine.json"
PROBE = "_probe"
"""In the place of a rule's name: a mark that comes back in the statistics when all before it is done."""

LANES = 4
"""Messages with one partition key go through one lane, in order; different ones in parallel."""

FOREVER = 0xFFFFFFFF
SECONDS_BETWEEN_TRIES = 1.0

log = logging.getLogger(NAME)


class RulesEngine:
    """One persistent MQTT 5 session whose messages end in the stream."""

    def __init__(self, local: LocalAws, identity: RulesIdentity) -> None:
        self._local = local
        self._rules: dict[str, TopicRule] = {}
        self._roles: dict[str, RoleSession] = {}
        self._clients: dict[tuple[str, str], Any] = {}
        self._lanes: list[queue.SimpleQueue[tuple[mqtt.MQTTMessage | None, str, str]]] = [
            queue.SimpleQueue() for _ in range(LANES)
        ]
        self._lock = threading.Lock()
        self._outstanding: set[int] = set()
        self._counts = {"received": 0, "put": 0, "errors": 0, "repeated": 0}
        self._probes: dict[str, int] = {}
        self._probe = ""
        self._is_ready = False
        self._client = self._mqtt_client(identity)

    def run(self) -> None:
        """Works until the process is ended."""
        for lane in self._lanes:
            threading.Thread(target=self._work, args=(lane,), daemon=True).start()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = FOREVER
        self._client.connect_async(
            self._local.mqtt_host, self._local.mqtt_port, keepalive=30, clean_start=False, properties=properties
        )
        self._client.loop_start()
        while True:
            self._write_statistics()
            time.sleep(0.2)

    def _mqtt_client(self, identity: RulesIdentity) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=THING, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        context = ssl.create_default_context(cafile=str(self._local.mqtt_authority))
        context.load_cert_chain(str(identity.certificate), str(identity.key))
        client.tls_set_context(context)
        client.reconnect_delay_set(min_delay=1, max_delay=5)
        client.on_connect = self._on_connect
        client.on_disconnect = lambda *facts: log.warning("disconnected: %s", facts[3])
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        log.info("connected: %s, session present: %s", reason, flags.session_present)
        if not flags.session_present:
            # Only then: the emulator adds a repeated subscription to the first, and every message would come twice.
            client.subscribe(f"{REPUBLISH_TOPIC}/+", qos=1)

        else:
            self._is_ready = True

    def _on_subscribe(self, client: mqtt.Client, data: Any, number: int, reasons: Any, properties: Any) -> None:
        log.info("subscribed: %s", reasons)
        self._is_ready = not any(reason.is_failure for reason in reasons)

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        with self._lock:
            if message.mid in self._outstanding:
                # The broker sends again what was not acknowledged within half a minute.
                self._counts["repeated"] += 1
                return
            self._outstanding.add(message.mid)
        rule_name = message.topic.rpartition("/")[2]
        if rule_name == PROBE:
            nonce = message.payload.decode()
            self._probes[nonce] = LANES
            for lane in self._lanes:
                lane.put((None, PROBE, nonce))
            self._acknowledge(message)
            return
        with self._lock:
            self._counts["received"] += 1
        try:
            key = partition_key(self._rule(rule_name), json.loads(message.payload))
        except Exception:
            # A fault of a rule must not end the only thread that reads: unacknowledged, the message comes again.
            log.exception("a message of %s cannot be routed", rule_name)
            with self._lock:
                self._outstanding.discard(message.mid)
            return
        self._lanes[zlib.crc32(key.encode()) % LANES].put((message, rule_name, key))

    def _work(self, lane: queue.SimpleQueue[tuple[mqtt.MQTTMessage | None, str, str]]) -> None:
        while True:
            message, rule_name, key = lane.get()
            if message is None:
                self._pass_probe(key)
                continue
            while not self._is_handed_on(self._rules[rule_name], message, key):
                time.sleep(SECONDS_BETWEEN_TRIES)
            self._acknowledge(message)

    def _is_handed_on(self, rule: TopicRule, message: mqtt.MQTTMessage, key: str) -> bool:
        try:
            kinesis = self._client_of("kinesis", rule.role_arn)
            kinesis.put_record(StreamName=rule.stream, Data=message.payload, PartitionKey=key)
        except (BotoCoreError, ClientError) as error:
            log.error("%s: %s", rule.name, error)
            return self._is_error_kept(rule, json.loads(message.payload), str(error))
        with self._lock:
            self._counts["put"] += 1
        return True

    def _is_error_kept(self, rule: TopicRule, message: dict[str, Any], error: str) -> bool:
        if rule.error is None:
            return False
        try:
            self._client_of("s3", rule.error.role_arn).put_object(
                Bucket=rule.error.bucket,
                Key=fill_template(rule.error.key, rule, message),
                Body=error_document(rule, message, error=error),
            )
        except (BotoCoreError, ClientError) as second:
            log.error("%s, error action: %s", rule.name, second)
            return False
        with self._lock:
            self._counts["errors"] += 1
        return True

    def _acknowledge(self, message: mqtt.MQTTMessage) -> None:
        # Before the acknowledgement: right after it the broker may give the number to another message.
        with self._lock:
            self._outstanding.discard(message.mid)
        self._client.ack(message.mid, message.qos)

    def _pass_probe(self, nonce: str) -> None:
        with self._lock:
            self._probes[nonce] -= 1
            if not self._probes[nonce]:
                del self._probes[nonce]
                self._probe = nonce

    def _rule(self, name: str) -> TopicRule:
        if name not in self._rules:
            self._rules[name] = topic_rule(self._local.client("iot").get_topic_rule(ruleName=name))
        return self._rules[name]

    def _client_of(self, service: str, role_arn: str) -> Any:
        with self._lock:
            if (service, role_arn) not in self._clients:
                session = RoleSession(self._local, role_arn, session_name=NAME)
                self._clients[service, role_arn] = session.client(
                    service, Config(retries={"mode": "standard", "total_max_attempts": 4}, max_pool_connections=LANES)
                )
            return self._clients[service, role_arn]

    def _write_statistics(self) -> None:
        with self._lock:
            document = {
                "pid": os.getpid(),
                "is_ready": self._is_ready and self._client.is_connected(),
                **self._counts,
                "outstanding": len(self._outstanding),
                "probe": self._probe,
            }
        write_statistics(self._local.folder / STATISTICS, document)


def main() -> None:
    """`python -m fleet_iot.operations.local.rules_engine --dir FOLDER`"""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    local = load(parser.parse_args().dir)
    try:
        RulesEngine(local, ensure_identity(local)).run()
    except FleetError as fault:
        raise SystemExit("\n".join(fault.lines())) from None


if __name__ == "__main__":
    main()
