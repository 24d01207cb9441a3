"""Publishes notifications from the outboxes to the anomaly topic, after the commit and at least once.

A notification that could not be published stays in its device's outbox. This process also keeps it in memory and
retries it with each batch, since a machine that has just broken down may never send again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..ingest.log import Log
from ..planning.device_cache import DeviceCache
from ..planning.items import OUTBOX, entry_of
from . import Retry

BATCH = 10
BATCH_BYTES = 200_000
"""Entries and bytes of one PublishBatch, whose limit is 256 KiB: https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""

ATTEMPTS = 2

BACKOFF_S = 30.0
"""Circuit breaker: after a failed call nothing is published for so long: batches must not wait for the topic."""

CAPACITY = 5_000
"""Notifications kept in memory, 3 MB; beyond it the oldest are only in their device items."""


class Notifier:
    """Publish to one topic; the client is made at the first notification. Without one, outboxes are just emptied."""

    def __init__(self, *, topic_arn: str | None, make_client: Callable[[], Any]) -> None:
        self._topic_arn = topic_arn
        self._make_client = make_client
        self._client: Any = None
        self._waiting: dict[str, tuple[str, ...]] = {}
        self._backoff_until = 0.0

    @property
    def pending(self) -> int:
        """Notifications that this process has not published yet."""
        return sum(map(len, self._waiting.values()))

    def notify(self, outboxes: Mapping[str, Sequence[str]], *, cache: DeviceCache, retry: Retry, log: Log) -> None:
        """Publish these and those that wait from before; update the outboxes in `cache`."""
        for device, messages in outboxes.items():
            self._waiting.pop(device, None)
            self._waiting[device] = tuple(messages)
        if not self._waiting or retry.clock() < self._backoff_until:
            return
        published: set[str] = set()
        try:
            for batch in _batches([message for messages in self._waiting.values() for message in messages]):
                if retry.clock() >= retry.deadline:
                    break
                published.update(self._publish(batch, retry=retry, log=log))
        except (BotoCoreError, ClientError) as error:
            self._backoff_until = retry.clock() + BACKOFF_S
            log.error("Publishing to the anomaly topic failed; the notifications will be retried.", error=str(error))
        self._remove_published(published, cache=cache, log=log)

    def _remove_published(self, published: set[str], *, cache: DeviceCache, log: Log) -> None:
        for device, messages in list(self._waiting.items()):
            left = tuple(message for message in messages if message not in published)
            if len(left) < len(messages):
                cache.put_outbox(device, left)
            if len(left) > OUTBOX:
                log.error(
                    "A device has more unpublished notifications than are kept; the oldest were dropped.",
                    device=device,
                    dropped=len(left) - OUTBOX,
                )
            if left:
                self._waiting[device] = left[-OUTBOX:]
            else:
                del self._waiting[device]
        while self.pending > CAPACITY:
            del self._waiting[next(iter(self._waiting))]

    def _publish(self, messages: Sequence[str], *, retry: Retry, log: Log) -> list[str]:
        """Publish one batch; return the messages that were accepted."""
        if self._topic_arn is None:
            return list(messages)
        answer = self._call([entry_of(message, number=number) for number, message in enumerate(messages)], retry=retry)
        failed = {int(entry["Id"]): str(entry.get("Code")) for entry in answer.get("Failed", ())}
        if failed:
            log.error(
                "The anomaly topic rejected notifications; they will be retried.", codes=sorted(set(failed.values()))
            )
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
