"""Tells the anomalies' topic what the outboxes hold: after the commit, at least once, and never at a shard's expense.

A notification that the topic did not take stays in its device's outbox. This process also keeps it in mind and tries
again with each batch, for a machine that has just broken down may not be heard of again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..ingest.log import Log
from ..planning.device_cache import Memory
from ..planning.notice import OUTBOX, entry_of
from .retry import Retry

BATCH = 10
BATCH_BYTES = 200_000
"""Of one PublishBatch, which takes 256 KiB: https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""

ATTEMPTS = 2

REST_S = 30.0
"""How long a topic that failed is left alone: what waits for it must not make each batch wait, too."""

CAPACITY = 5_000
"""Notifications that are kept in mind, 3 MB; beyond it those that wait longest are in their items alone."""


class Notifier:
    """Publishes to one topic, with a client that is made when the first notification is there; without a topic nobody
    is told, and outboxes are emptied all the same."""

    def __init__(self, *, topic_arn: str | None, make_client: Callable[[], Any]) -> None:
        self._topic_arn = topic_arn
        self._make_client = make_client
        self._client: Any = None
        self._waiting: dict[str, tuple[str, ...]] = {}
        self._rests_until = 0.0

    @property
    def pending(self) -> int:
        """How many notifications this process knows of that are not told."""
        return sum(map(len, self._waiting.values()))

    def notify(self, outboxes: Mapping[str, Sequence[str]], *, memory: Memory, retry: Retry, log: Log) -> None:
        """Publishes these and what waits from before, and lets `memory` know what is left of each device's."""
        for device, messages in outboxes.items():
            self._waiting.pop(device, None)
            self._waiting[device] = tuple(messages)
        if not self._waiting or retry.clock() < self._rests_until:
            return
        told: set[str] = set()
        try:
            for batch in _batches([message for messages in self._waiting.values() for message in messages]):
                if retry.clock() >= retry.deadline:
                    break
                told.update(self._publish(batch, retry=retry, log=log))
        except (BotoCoreError, ClientError) as error:
            self._rests_until = retry.clock() + REST_S
            log.error("The anomalies' topic did not take notifications; they wait.", error=str(error))
        self._settle(told, memory=memory, log=log)

    def _settle(self, told: set[str], *, memory: Memory, log: Log) -> None:
        for device, messages in list(self._waiting.items()):
            left = tuple(message for message in messages if message not in told)
            if len(left) < len(messages):
                memory.note_outbox(device, left)
            if len(left) > OUTBOX:
                log.error("More notifications wait than a device keeps.", device=device, dropped=len(left) - OUTBOX)
            if left:
                self._waiting[device] = left[-OUTBOX:]
            else:
                del self._waiting[device]
        while self.pending > CAPACITY:
            del self._waiting[next(iter(self._waiting))]

    def _publish(self, messages: Sequence[str], *, retry: Retry, log: Log) -> list[str]:
        """Those that the topic has taken."""
        if self._topic_arn is None:
            return list(messages)
        answer = self._call([entry_of(message, number=number) for number, message in enumerate(messages)], retry=retry)
        failed = {int(entry["Id"]): str(entry.get("Code")) for entry in answer.get("Failed", ())}
        if failed:
            log.error("The anomalies' topic refused notifications; they wait.", codes=sorted(set(failed.values())))
        return [message for number, message in enumerate(messages) if number not in failed]

    def _call(self, entries: Sequence[Mapping[str, Any]], *, retry: Retry) -> Mapping[str, Any]:
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
                return answer


def _batches(messages: Sequence[str]) -> Iterator[list[str]]:
    """The messages in groups that one call takes."""
    batch: list[str] = []
    size = 0
    for message in messages:
        more = 2 * len(message.encode())  # attributes and subject, which count too, are parts of it
        if batch and (len(batch) == BATCH or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += more
    if batch:
        yield batch
