"""SNS's topics: limits of a batch, and the messages that were published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.aws import Units, new_units, refused

ENTRIES, BATCH_BYTES = 10, 262_144
"""https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html"""


class Sns:
    """A client of topics in memory; `published` sees each message."""

    def __init__(self, *, units: Units | None = None) -> None:
        self.units = new_units() if units is None else units
        self.published: Callable[[str], None] = lambda message: None

    def publish(self, *, TopicArn: str, Message: str, **more: Any) -> dict[str, Any]:  # noqa: N803 - the API's words
        """https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""
        if not Message or _size({"Message": Message, **more}) > BATCH_BYTES:
            raise refused("InvalidParameter", "Publish", "Invalid parameter: Message too long")
        self.units["messages"] += 1
        self.published(Message)
        return {"MessageId": "id"}

    def publish_batch(
        self,
        *,
        TopicArn: str,  # noqa: N803 - the API's word
        PublishBatchRequestEntries: list[dict[str, Any]],  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """Publish up to ten messages of 256 kB together."""
        entries = PublishBatchRequestEntries
        if not 1 <= len(entries) <= ENTRIES:
            raise refused("TooManyEntriesInBatchRequest", "PublishBatch")
        if len({entry["Id"] for entry in entries}) != len(entries):
            raise refused("BatchEntryIdsNotDistinct", "PublishBatch")
        if sum(map(_size, entries)) > BATCH_BYTES:
            raise refused("BatchRequestTooLong", "PublishBatch")
        for entry in entries:
            self.units["messages"] += 1
            self.published(entry["Message"])
        return {"Successful": [{"Id": entry["Id"], "MessageId": "id"} for entry in entries], "Failed": []}


def _size(entry: dict[str, Any]) -> int:
    """Return the bytes of a message with its attributes: names, types and values count."""
    attributes = entry.get("MessageAttributes", {})
    return len(entry["Message"].encode()) + sum(
        len(name.encode()) + sum(len(str(part).encode()) for part in attribute.values())
        for name, attribute in attributes.items()
    )
