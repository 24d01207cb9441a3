"""Publishes notifications from a lane's outbox to the anomaly topic, after the commit and at least once.

The item of their plant decides which of them are published by themselves, and which in one message with others. That is
stored before anything is published: a notification that could not be published stays in the outbox, a message of the
plant in its item, and both are tried again by the lane's next batch or sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..ingest.log import Log
from ..planning.items import entry_of
from ..planning.plant import Known, known_of
from . import Retry, Unavailable
from .plants import PlantStore

BATCH = 10
BATCH_BYTES = 200_000
"""Entries and bytes of one PublishBatch, whose limit is 256 KiB: https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""

ATTEMPTS = 3

BACKOFF_S = 30.0
"""Circuit breaker: after a failed call nothing is published for so long: batches must not wait for the topic."""


class Notifier:
    """Publish to one topic; the client is made at the first notification. Without one, all are as good as published."""

    def __init__(self, *, topic_arn: str | None, make_client: Callable[[], Any], plants: PlantStore) -> None:
        self._topic_arn = topic_arn
        self._make_client = make_client
        self._plants = plants
        self._client: Any = None
        self._backoff_until = 0.0

    def publish(self, messages: Sequence[str], *, now: int, retry: Retry, log: Log) -> list[str]:
        """Publish notifications, or what their plants (at `now`, ms) make of them; return those that are left."""
        if self._topic_arn is None:
            return []
        if not messages or retry.clock() < self._backoff_until:
            return list(messages)
        known = [known_of(message) for message in messages]
        groups: dict[str, list[Known]] = {}
        for each in known:
            if each is not None:
                groups.setdefault(each.facility, []).append(each)
        left = [message for message, each in zip(messages, known, strict=True) if each is None]  # of another version
        left = self._send(left, retry=retry, log=log)
        for facility, group in groups.items():
            left += self._tell(facility, group, now=now, retry=retry, log=log)
        return left

    def sweep(self, *, now: int, retry: Retry, log: Log) -> int:
        """Publish what plants have to say without a notification; return how many messages are left."""
        if self._topic_arn is None or retry.clock() < self._backoff_until:
            return 0
        try:
            return sum(
                len(self._tell(facility, (), now=now, retry=retry, log=log))
                for facility in self._plants.listed(retry=retry)
            )
        except Unavailable as error:
            log.error("Plants could not be read; they will be tried again.", error=str(error))
            return 0

    def _tell(self, facility: str, group: Sequence[Known], *, now: int, retry: Retry, log: Log) -> list[str]:
        """Decide notifications of a plant, or sweep it, and publish what follows; return what is left."""
        try:
            decided = self._plants.decide(facility, group, now=now, retry=retry, log=log)
        except Unavailable as error:
            log.error("Notifications could not be decided; they will be tried again.", error=str(error))
            return [each.message for each in group]
        alone = [each.message for each, is_alone in zip(group, decided.alone, strict=True) if is_alone]
        made = [each.message for each in decided.made]
        left = set(self._send([*alone, *made], retry=retry, log=log))
        try:
            done = [each for each in decided.made if each.message not in left]
            self._plants.published(facility, done, retry=retry)
        except Unavailable as error:
            log.error("That messages of a plant were published was not stored; they come again.", error=str(error))
        return [message for message in (alone if group else made) if message in left]

    def _send(self, messages: Sequence[str], *, retry: Retry, log: Log) -> list[str]:
        """Publish messages; return those that are left."""
        if retry.clock() < self._backoff_until:
            return list(messages)
        left: list[str] = []
        batches = list(_batches(messages))
        for place, batch in enumerate(batches):
            try:
                if retry.clock() < retry.deadline:
                    left += self._publish(batch, retry=retry, log=log)
                    continue
            except (BotoCoreError, ClientError) as error:
                self._backoff_until = retry.clock() + BACKOFF_S
                log.error("Publishing to the anomaly topic failed; it will be retried.", error=str(error))
            return [*left, *(message for rest in batches[place:] for message in rest)]
        return left

    def _publish(self, messages: list[str], *, retry: Retry, log: Log) -> list[str]:
        """Publish one batch, what the topic rejects up to three times; return the messages that are left."""
        for _ in range(ATTEMPTS):
            entries = [entry_of(message, number=number) for number, message in enumerate(messages)]
            failed = {int(entry["Id"]): str(entry.get("Code")) for entry in self._call(entries, retry=retry)}
            messages = [message for number, message in enumerate(messages) if number in failed]
            if not messages:
                return []
        log.error("The anomaly topic rejected notifications; they will be retried.", codes=sorted(set(failed.values())))
        return messages

    def _call(self, entries: Sequence[Mapping[str, Any]], *, retry: Retry) -> Sequence[Mapping[str, Any]]:
        """Publish entries; return those that the topic rejected."""
        if self._client is None:
            self._client = self._make_client()
        attempt = 1
        while True:
            try:
                answer: Mapping[str, Any] = self._client.publish_batch(
                    TopicArn=self._topic_arn, PublishBatchRequestEntries=entries
                )
            except (BotoCoreError, ClientError) as error:
                if attempt == ATTEMPTS or not retry.is_transient(error) or not retry.pause(attempt):
                    raise
                attempt += 1
            else:
                return list(answer.get("Failed", ()))


def _batches(messages: Sequence[str]) -> Iterator[list[str]]:
    """Group the messages into calls."""
    batch: list[str] = []
    size = 0
    for message in messages:
        more = 2 * len(message.encode())  # attributes and subject count too, and repeat parts of the message
        if batch and (len(batch) == BATCH or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += more
    if batch:
        yield batch
