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
from fleet_iot.sensor_processor.planning.lane import lane_of

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


def is_emitted(platform: Any) -> bool:
    """Return whether the one lane's outbox is acknowledged."""
    (lane,) = platform.lanes()
    return bool(lane["acked"] == lane["version"])


def down(**_: Any) -> None:
    raise EndpointConnectionError(endpoint_url="https://sns")


@pytest.fixture
def broken(desk: Desk) -> Callable[[], None]:
    """The topic cannot be reached until the function that this gives is called."""
    client = boto3.client("sns")
    is_down = [True]
    client.meta.events.register_first("before-call.sns.PublishBatch", lambda **_: down() if is_down else None)
    handler.runtime().log.notifier._make_client = lambda: client
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
def test_what_was_told_leaves_the_outbox(platform: Any, desk: Desk, event: Any, record: Any, payload: Any) -> None:
    """The commit's outbox is acknowledged once it was published, and no other process tells it again."""
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=1))))
    assert (len(ids(desk.heard())), is_emitted(platform)) == (1, True)

    platform.restart()
    platform.handle(event(record(payload=payload(metrics=HOT, sequence=2))))
    assert desk.heard() == []


@pytest.mark.slow
@pytest.mark.parametrize("is_swept", [True, False])
def test_a_crash_before_the_topic_was_told_loses_nothing(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any, is_swept: bool
) -> None:
    """Another process gets the same records, knows them all, and publishes the outbox; or a sweep does."""
    batch = event(record(payload=payload(metrics=HOT)))
    with patch.object(Notifier, "publish", side_effect=SystemExit), pytest.raises(SystemExit):
        platform.handle(batch)
    assert (desk.heard(), is_emitted(platform)) == ([], False)
    platform.restart()

    if is_swept:
        platform.sweep()
    else:
        assert platform.handle(batch) == []
    assert [name.partition("#")[0] for name in ids(desk.heard())] == [DEVICE]
    assert is_emitted(platform)


@pytest.mark.slow
def test_a_crash_after_the_topic_was_told_tells_the_same_again(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """What a process does not know to be published it publishes again, unchanged."""
    publish = Notifier.publish

    def crash(self: Notifier, *args: Any, **more: Any) -> list[str]:
        publish(self, *args, **more)
        raise SystemExit

    with patch.object(Notifier, "publish", crash), pytest.raises(SystemExit):
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
    assert "Publishing to the anomaly topic failed; it will be retried." in [line.get("message") for line in lines]
    assert (len(platform.anomalies()), desk.heard(), is_emitted(platform)) == (1, [], False)


@pytest.mark.slow
def test_a_silent_device_is_told_of_by_later_batches(
    platform: Any, desk: Desk, broken: Any, event: Any, record: Any, payload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications stay in the lane's outbox, over later commits, until the topic is back and the backoff over."""
    now = [1_000.0]
    aged = replace(handler.runtime(), clock=lambda: now[0], sleep=lambda _: None)
    lane = lane_of(DEVICE, 4)
    others = [number for number in range(2, 40) if lane_of(f"sg-01-press-monitor-{number:04d}-dev", 4) == lane]
    with monkeypatch.context() as patched:
        patched.setattr(handler, "runtime", lambda: aged)
        platform.handle(event(record(payload=payload(metrics=HOT))))
        broken()
        platform.handle(event(record(number=others[0])))
        assert desk.heard() == []
        now[0] += BACKOFF_S
        platform.handle(event(record(number=others[1])))
    assert [name.partition("#")[0] for name in ids(desk.heard())] == [DEVICE]
    assert is_emitted(platform)


@pytest.mark.slow
def test_an_outbox_of_version_0_3_0_is_told_as_it_is(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """Parts of a message that this version cannot read are sent as unknown; no record fails, no message is dropped."""
    old = {
        "device": DEVICE,
        "facility": "sg-01",
        "device_type": "press-monitor",
        "certificate_id": "0" * 64,
        "first_contact": "2026-11-23T14:00:00.000Z",
        "last_contact": "2026-11-23T14:00:00.000Z",
        "newest_reading": "2026-11-23T14:00:00.000Z",
    }
    item: dict[str, Any] = {name: {"S": value} for name, value in old.items()}
    item |= {"version": {"N": "1"}, "messages": {"N": "1"}, "detectors": {"B": b"x"}}
    item["outbox"] = {"L": [{"S": "junk"}, {"S": '{"severity": "critical"}'}]}
    platform.dynamodb.put_item(TableName="table-devices-dev", Item=item)

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

    assert (len(platform.anomalies()), is_emitted(platform), desk.heard()) == (1, True, [])
    assert handler.runtime().log.notifier._client is None


@pytest.mark.slow
def test_a_client_is_made_when_there_is_something_to_tell(
    platform: Any, desk: Desk, event: Any, record: Any, payload: Any
) -> None:
    """A cold start does not pay for a client that most batches do not need."""
    platform.handle(event(record(payload=payload(sequence=1))))
    assert handler.runtime().log.notifier._client is None

    platform.handle(event(record(payload=payload(metrics=HOT, sequence=2))))
    assert handler.runtime().log.notifier._client is not None
