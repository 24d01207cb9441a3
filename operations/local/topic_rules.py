"""What a topic rule does with a message, computed: its Kinesis record, its error document, its templates filled in."""

from __future__ import annotations

import base64
import datetime
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault

_EXPRESSION = re.compile(r"\$\{([^{}]*)\}")
_CALL = re.compile(r"^(\w+)\((.*)\)$")
_JODA = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAction:
    """Where a rule puts word of a message whose action failed."""

    bucket: str
    key: str
    role_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRule:
    """A deployed rule, as far as it is played here: one Kinesis action and an S3 error action."""

    name: str
    topic: str
    stream: str
    partition_key: str
    role_arn: str
    error: ErrorAction | None


def topic_rule(answer: Mapping[str, Any]) -> TopicRule:
    """The rule in an answer of iot:GetTopicRule; a fault where it has no Kinesis action."""
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
    """The record's partition key; a random one where the rule names none, as AWS does."""
    return fill_template(rule.partition_key, rule, message) or str(uuid.uuid4())


def fill_template(template: str, rule: TopicRule, message: Mapping[str, Any]) -> str:
    """A substitution template with its expressions worked out from what the rule's SQL stamped on the message.

    https://docs.aws.amazon.com/iot/latest/developerguide/iot-substitution-templates.html
    """
    return _EXPRESSION.sub(lambda found: _value(found.group(1).strip(), rule, message), template)


def error_document(rule: TopicRule, message: Mapping[str, Any], *, error: str) -> bytes:
    """What an error action writes: https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html"""
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
            f"topic rule {rule.name} uses {name}(), which the local rules engine does not play",
            hint="use another function, or add it to operations/local/topic_rules.py",
        )
    return function(argument, rule, message)


def _topic(rule: TopicRule, message: Mapping[str, Any]) -> str:
    """The message's topic: the rule's own filter, its wildcards in order what the SQL took from those places."""
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
