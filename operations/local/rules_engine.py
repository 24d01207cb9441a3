"""Runs AWS IoT's topic rules, which the emulator does not: Kinesis action, error action, substitution templates.

A program. Each action works under the role made for it. A message is acknowledged to the broker only when one of the
two actions has stored it, so that nothing is lost whatever ends this process.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import json
import logging
import os
import queue
import re
import ssl
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws, RoleSession, load, write_statistics
from fleet_iot.operations.local.certificates import write_key_and_request
from fleet_iot.operations.local.overrides import REPUBLISH_TOPIC

_EXPRESSION = re.compile(r"\$\{([^{}]*)\}")
_CALL = re.compile(r"^(\w+)\((.*)\)$")
_JODA = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAction:
    """The place where a rule stores a message whose action failed."""

    bucket: str
    key: str
    role_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRule:
    """A deployed rule, as far as it is emulated here: one Kinesis action and an S3 error action."""

    name: str
    topic: str
    stream: str
    partition_key: str
    role_arn: str
    error: ErrorAction | None


def topic_rule(answer: Mapping[str, Any]) -> TopicRule:
    """Read an answer of iot:GetTopicRule. Raises EnvironmentFault where the rule has no Kinesis action."""
    rule = answer["rule"]
    action = next((each["kinesis"] for each in rule["actions"] if "kinesis" in each), None)
    if action is None:
        raise EnvironmentFault(f"topic rule {rule['ruleName']} has no Kinesis action", hint="apply the stacks again")
    on_error = rule.get("errorAction", {}).get("s3")
    source = re.search(r"\bFROM\s+'([^']*)'", rule["sql"], re.IGNORECASE)
    return TopicRule(
        name=rule["ruleName"],
        topic=source.group(1) if source else "",
        stream=action["streamName"],
        partition_key=action.get("partitionKey", ""),
        role_arn=action["roleArn"],
        error=ErrorAction(bucket=on_error["bucketName"], key=on_error["key"], role_arn=on_error["roleArn"])
        if on_error
        else None,
    )


def partition_key(rule: TopicRule, message: Mapping[str, Any]) -> str:
    """Return the record's partition key; a random one where the rule names none, as AWS does."""
    return fill_template(rule.partition_key, rule, message) or str(uuid.uuid4())


def fill_template(template: str, rule: TopicRule, message: Mapping[str, Any]) -> str:
    """Fill a substitution template from what the rule's SQL stamped on the message.

    https://docs.aws.amazon.com/iot/latest/developerguide/iot-substitution-templates.html
    """
    return _EXPRESSION.sub(lambda found: _value(found.group(1).strip(), rule, message), template)


def error_document(rule: TopicRule, message: Mapping[str, Any], *, error: str) -> bytes:
    """Build the document that an error action writes: https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html"""
    raw = message.get("raw") or base64.b64encode(json.dumps(message).encode()).decode()
    document = {
        "ruleName": rule.name,
        "topic": _topic(rule, message),
        "cloudwatchTraceId": message.get("trace_id", ""),
        "clientId": message.get("client_id", ""),
        "base64OriginalPayload": raw,
        "failures": [{"failedAction": "KinesisAction", "failedResource": rule.stream, "errorMessage": error}],
    }
    return json.dumps(document).encode()


def _value(expression: str, rule: TopicRule, message: Mapping[str, Any]) -> str:
    call = _CALL.match(expression)
    if call is None:
        return str(message.get(expression, ""))
    name, argument = call.group(1), call.group(2).strip()
    function = _FUNCTIONS.get(name)
    if function is None:
        raise EnvironmentFault(
            f"topic rule {rule.name} uses {name}(), which the local rules engine does not support",
            hint="use another function, or add it to operations/local/rules_engine.py",
        )
    return function(argument, rule, message)


def _topic(rule: TopicRule, message: Mapping[str, Any]) -> str:
    """Return the message's topic: the rule's filter, its wildcards replaced by what the SQL stamped."""
    stamped = iter([str(message.get(name, "")) for name in ("device_type", "thing")])
    return "/".join(next(stamped, "") if level == "+" else level for level in rule.topic.split("/"))


def _topic_level(argument: str, rule: TopicRule, message: Mapping[str, Any]) -> str:
    topic = _topic(rule, message)
    if not argument:
        return topic
    levels = topic.split("/")
    return levels[int(argument) - 1] if 0 < int(argument) <= len(levels) else ""


def _parse_time(argument: str, rule: TopicRule, message: Mapping[str, Any]) -> str:
    pattern = re.match(r"""["']([^"']*)["']""", argument)
    form = pattern.group(1) if pattern else ""
    for joda, python in _JODA.items():
        form = form.replace(joda, python)
    moment = datetime.datetime.fromtimestamp(int(message.get("received_at", 0)) / 1000, datetime.UTC)
    return moment.strftime(form)


_FUNCTIONS: dict[str, Callable[[str, TopicRule, Mapping[str, Any]], str]] = {
    "clientid": lambda argument, rule, message: str(message.get("client_id", "")),
    "principal": lambda argument, rule, message: str(message.get("principal", "")),
    "timestamp": lambda argument, rule, message: str(message.get("received_at", "")),
    "traceid": lambda argument, rule, message: str(message.get("trace_id", "")),
    "newuuid": lambda argument, rule, message: str(uuid.uuid4()),
    "topic": _topic_level,
    "parse_time": _parse_time,
}


# The identity at the broker: a thing, a certificate and a policy that allows it to subscribe to the rules' messages.

THING = "local-rules-engine"
POLICY = "policy-local-rules-engine"

STILL_ATTACHED = frozenset({"DeleteConflictException", "InvalidRequestException"})
DETACHING_SECONDS = 330.0
"""AWS needs up to five minutes for a policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesIdentity:
    """The files that the rules engine connects with; the key never leaves the local AWS's folder."""

    key: Path
    certificate: Path


def ensure_identity(local: LocalAws) -> RulesIdentity:
    """Return the identity; make it through the public API where there is none yet."""
    identity = RulesIdentity(key=local.folder / "rules-engine.key", certificate=local.folder / "rules-engine.pem")
    if identity.certificate.exists():
        return identity
    iot = local.client("iot")
    request = write_key_and_request(key=identity.key, common_name=THING)
    made = iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=True)
    iot.create_thing(thingName=THING)
    with suppress(iot.exceptions.ResourceAlreadyExistsException):
        iot.create_policy(policyName=POLICY, policyDocument=json.dumps(_policy(local.region)))
    iot.attach_policy(policyName=POLICY, target=made["certificateArn"])
    iot.attach_thing_principal(thingName=THING, principal=made["certificateArn"])
    identity.certificate.write_text(made["certificatePem"])
    return identity


def remove_identity(local: LocalAws) -> None:
    """Delete the identity from the registry, in AWS's order, so that a destroyed local AWS is empty."""
    iot = local.client("iot")
    with suppress(iot.exceptions.ResourceNotFoundException):
        for principal in iot.list_thing_principals(thingName=THING)["principals"]:
            certificate = principal.rpartition("/")[2]
            iot.detach_policy(policyName=POLICY, target=principal)
            iot.detach_thing_principal(thingName=THING, principal=principal)
            iot.update_certificate(certificateId=certificate, newStatus="INACTIVE")
            _when_detached(iot.delete_certificate, certificateId=certificate)
        _when_detached(iot.delete_thing, thingName=THING)
        _when_detached(iot.delete_policy, policyName=POLICY)
    (local.folder / "rules-engine.pem").unlink(missing_ok=True)
    (local.folder / "rules-engine.key").unlink(missing_ok=True)


def _when_detached(delete: Callable[..., Any], **named: str) -> None:
    """Delete what was just detached; AWS refuses until the detachment is done."""
    deadline = time.monotonic() + DETACHING_SECONDS
    while True:
        try:
            delete(**named)
            return
        except ClientError as error:
            if error.response["Error"]["Code"] not in STILL_ATTACHED or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _policy(region: str) -> dict[str, Any]:
    prefix = f"arn:aws:iot:{region}:{ACCOUNT_ID}"
    allowed = {
        "iot:Connect": f"{prefix}:client/{THING}",
        "iot:Subscribe": f"{prefix}:topicfilter/{REPUBLISH_TOPIC}/+",
        "iot:Receive": f"{prefix}:topic/{REPUBLISH_TOPIC}/*",
    }
    statements = [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in allowed.items()]
    return {"Version": "2012-10-17", "Statement": statements}


NAME = "rules-engine"
STATISTICS = "rules-engine.json"
PROBE = "_probe"
"""In place of a rule's name: a mark that appears in the statistics when everything before it is done."""

LANES = 4
"""Messages with one partition key go through one lane, in order; different ones in parallel."""

FOREVER = 0xFFFFFFFF
SECONDS_BETWEEN_TRIES = 1.0

log = logging.getLogger(NAME)


class RulesEngine:
    """One persistent MQTT 5 session whose messages go to the stream."""

    def __init__(self, local: LocalAws, identity: RulesIdentity) -> None:
        self._local = local
        self._rules: dict[str, TopicRule] = {}
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
        """Work until the process is ended."""
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
