"""Events reach the topic after they are written: at least once, the same each time, never at the records' expense."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from fleet_iot.sensor_processor import handler
from fleet_iot.sensor_processor.adapters.notifier import BACKOFF_S, BATCH, Notifier

TIME = 1_795_445_343_000
DEVICE = "sg-01-press-monitor-0001-dev"
HOT = {"temperature": 97.2}


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A queue subscribed to the topic, and one subscribed to critical events only."""

    sqs: Any
    desk: str
    night: str

    def heard(self, queue: str | None = None) -> list[dict[str, Any]]:
        """The messages of a queue, which are then gone."""
        found: list[dict[str, Any]] = []
        while answer := self.sqs.receive_message(QueueUrl=queue or self.desk, MaxNumberOfMessages=10).get("Messages"):
            for message in answer:
                found.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=queue or self.desk, ReceiptHandle=message["ReceiptHandle"])
        return found


@pytest.fixture
def desk(platform: Any, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A topic with two subscribed queues, to which the handler publishes from its first batch on."""
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = sns.create_topic(Name="topic-anomalies-dev")["TopicArn"]
    queues = []
    for name, policy in (("desk", {}), ("night", {"severity": ["critical"], "kind": ["begin", "escalated"]})):
        queue = sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        attributes = {"FilterPolicy": json.dumps(policy)} if policy else {}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
        queues.append(queue)
    monkeypatch.setenv("ANOMALY_TOPIC_ARN", topic)
    return Desk(sqs=sqs, desk=queues[0], night=queues[1])


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return [json.loads(message["Message"])["event_id"] for message in messages]


def outbox(platform: Any) -> list[str]:
    """The ids in the one device's outbox."""
    (device,) = platform.devices()
    return [json.loads(entry["S"])["event_id"] for entry in device.get("outbox", {"L": []})["L"]]


def down(**_: Any) -> None:
    raise EndpointConnectionError(endpoint_url="https://sns")


@pytest.fixture
def broken(desk: Desk) -> Callable[[], None]:
    """The topic cannot be reached until the function that this gives is called."""
    client = boto3.client("sns")
    is_down = [True]
    client.meta.events.register_first("before-call.sns.PublishBatch", lambda **_: down() if is_down else None)
    handler.runtime().notifier._make_client = lambda: client
    return is_down.clear


@pytest.mark.slow
def test_an_event_is_told_in_an_operators_words(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """The message has all that is known of the event and an id; its attributes are what subscriptions filter by."""
    assert platform.handle(event(record(payload=payload(metrics=HOT)))) == []

    (told,) = desk.heard()
    assert json.loads(told["Message"]) == {
        "event_id": f"{DEVICE}#anomaly#2026-11-23T14:49:03.000Z#temperature#limits",
        "kind": "begin",
        "severity": "warning",
        "text": f"{DEVICE}: temperature 97.2 celsius is above its limit of 95, since 2026-11-23 14:49:03 UTC",
        "facility": "sg-01",
        "device_type": "press-monitor",
        "thing": DEVICE,
        "metric": "temperature",
        "detector": "limits",
        "value": 97.2,
        "unit": "celsius",
        "anomaly_id": "anomaly#2026-11-23T14:49:03.000Z#temperature#limits",
        "began_at": "2026-11-23T14:49:03.000Z",
        "score": 0.021,
    }
    assert told["Subject"] == f"[WARNING] {DEVICE}: temperature anomaly started"
    assert {name: value["Value"] for name, value in told["MessageAttributes"].items()} == {
        "facility": "sg-01",
        "device_type": "press-monitor",
        "metric": "temperature",
        "severity": "warning",
        "kind": "begin",
    }


@pytest.mark.slow
def test_a_subscription_may_ask_for_what_is_critical_alone(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """A filter on the attributes calls the night shift when it comes to that, not before and not at the end."""
    values = [97.2, 120.0, *[70.0] * 8]
    for place, value in enumerate(values):
        sent = payload(metrics={"temperature": value}, sequence=place, time=TIME + 10_000 * place)
        platform.handle(event(record(payload=sent, received_at=TIME + 100_000)))

    assert [json.loads(each["Message"])["kind"] for each in desk.heard()] == ["begin", "escalated", "end"]
    assert [json.loads(each["Message"])["kind"] for each in desk.heard(desk.night)] == ["escalated"]


@pytest.mark.slow
def test_what_was_told_leaves_the_outbox_with_the_next_write(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """The event's transaction adds it; the device's next one, in the same process, removes it."""
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=1))))
    (told,) = ids(desk.heard())
    assert outbox(platform) == [told]

    platform.handle(event(record(payload=payload(metrics=HOT, sequence=2))))
    assert (outbox(platform), desk.heard()) == ([], [])


@pytest.mark.slow
def test_a_crash_before_the_topic_was_told_loses_nothing(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """Another process gets the same records, knows them all, and publishes the outbox."""
    batch = event(record(payload=payload(metrics=HOT)))
    with patch.object(Notifier, "notify", side_effect=SystemExit), pytest.raises(SystemExit):
        platform.handle(batch)
    before = platform.items(), platform.devices()
    assert desk.heard() == []
    platform.restart()

    assert platform.handle(batch) == []
    assert (platform.items(), platform.devices()) == before
    assert ids(desk.heard()) == outbox(platform) != []


@pytest.mark.slow
def test_another_process_tells_it_again_with_the_same_content(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """A process that does not know what was published publishes it again, unchanged."""
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=1))))
    platform.restart()
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=2))))

    first, second = desk.heard()
    assert (first["Message"], first["Subject"]) == (second["Message"], second["Subject"])


@pytest.mark.slow
def test_a_topic_that_is_down_fails_no_record(
    platform: Any, desk: Desk, broken: Any, event: Any, record: Any, payload: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The records are done; that something waits is logged and counted."""
    assert platform.handle(event(record(payload=payload(metrics=HOT)))) == []

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["NotificationsPending"] for line in lines if "NotificationsPending" in line] == [1]
    assert "Publishing to the anomaly topic failed; the notifications will be retried." in [
        line.get("message") for line in lines
    ]
    assert (len(platform.anomalies()), desk.heard()) == (1, [])


@pytest.mark.slow
def test_a_device_that_is_not_heard_of_again_is_told_of_all_the_same(
    platform: Any, desk: Desk, broken: Any, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process keeps unpublished notifications, backs off, and publishes them with any later batch."""
    now = [1_000.0]
    process = handler.runtime()
    aged = replace(process, clock=lambda: now[0], sleep=lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(handler, "runtime", lambda: aged)
        platform.handle(event(record(payload=payload(metrics=HOT))))
        broken()
        platform.handle(event(record(number=2)))
        assert desk.heard() == []
        now[0] += BACKOFF_S
        platform.handle(event(record(number=3)))
    assert [name.partition("#")[0] for name in ids(desk.heard())] == [DEVICE]
    assert process.notifier.pending == 0


@pytest.mark.slow
def test_a_device_that_is_heard_of_again_is_told_of_by_any_process(
    platform: Any, desk: Desk, broken: Any, event: Any, record: Any, payload: Any
) -> None:
    """Notifications that a crashed process did not publish are in the device's outbox."""
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=1))))
    platform.restart()
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=2))))

    assert len(desk.heard()) == 1


@pytest.mark.slow
def test_an_outbox_of_another_version_is_told_as_it_is(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """Parts of a message that this version cannot read are sent as unknown; no record fails, no message is dropped."""
    platform.handle(event(record(payload=payload(sequence=1))))
    (device,) = platform.devices()
    device["outbox"] = {"L": [{"S": "junk"}, {"S": '{"severity": "critical"}'}]}
    platform.dynamodb.put_item(TableName="table-devices-dev", Item=device)
    platform.restart()

    assert platform.handle(event(record(payload=payload(sequence=2)))) == []
    assert [(each["Message"], each["MessageAttributes"]["severity"]["Value"]) for each in desk.heard()] == [
        ("junk", "unknown"),
        ('{"severity": "critical"}', "critical"),
    ]


@pytest.mark.slow
def test_many_events_are_told_in_their_order(platform: Any, desk: Desk, event: Any, record: Any, payload: Any) -> None:
    """More notifications than fit one call go out in several, those of a device in order."""
    values = [70.0 if place % 3 else 99.0 for place in range(3 * BATCH)]
    records = [
        record(
            payload=payload(metrics={"temperature": value}, sequence=place, time=TIME - (3 * BATCH - place) * 61_000)
        )
        for place, value in enumerate(values)
    ]
    platform.handle(event(*records))

    told = [json.loads(each["Message"]) for each in desk.heard()]
    assert [message["kind"] for message in told] == ["begin", "end"] * BATCH
    assert [message["began_at"] for message in told] == sorted(message["began_at"] for message in told)


@pytest.mark.slow
def test_without_a_topic_nobody_is_told(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable is optional: events are written, nothing is published, and no outbox grows."""
    monkeypatch.delenv("ANOMALY_TOPIC_ARN")
    for sequence in (1, 2):
        platform.handle(event(record(payload=payload(metrics=HOT, sequence=sequence))))

    assert (len(platform.anomalies()), outbox(platform), desk.heard()) == (1, [], [])
    assert handler.runtime().notifier._client is None


@pytest.mark.slow
def test_a_client_is_made_when_there_is_something_to_tell(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """A cold start does not pay for a client that most batches do not need."""
    platform.handle(event(record(payload=payload(sequence=1))))
    assert handler.runtime().notifier._client is None

    platform.handle(event(record(payload=payload(metrics=HOT, sequence=2))))
    assert handler.runtime().notifier._client is not None
