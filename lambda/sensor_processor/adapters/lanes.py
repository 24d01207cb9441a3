"""The lanes: an item for each in DynamoDB, which a conditional update moves, and state objects in S3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..planning.lane import FORMAT, Link, Pointer, check_format
from . import Retry, Threads, Unavailable
from .conditional import code_of, update_if

NUMBER = "lanes"
"""Key of the item with the number of lanes."""


class LanesTable:
    """Items of the lanes table, which are read consistently and changed by conditional updates."""

    def __init__(self, *, dynamodb: Any, table: str, random: Random) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._random = random

    def nonce(self) -> str:
        """Make a nonce that no other attempt makes."""
        return f"{self._random.getrandbits(64):016x}"

    def _item(self, key: str, *, retry: Retry) -> Any:
        def get() -> Any:
            return self._dynamodb.get_item(TableName=self._table, Key={"lane": {"S": key}}, ConsistentRead=True)

        try:
            return retry.run(get).get("Item")
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"reading {self._table}: {error}") from error

    def _update(
        self,
        key: str,
        *,
        condition: str,
        changes: str,
        names: Mapping[str, str],
        values: dict[str, Any] | None,
        retry: Retry,
    ) -> bool:
        """Change an item; return False if the condition does not hold. `names` are attributes by placeholder."""
        given = {} if values is None else {"ExpressionAttributeValues": values}

        try:
            return update_if(
                self._dynamodb,
                retry=retry,
                TableName=self._table,
                Key={"lane": {"S": key}},
                UpdateExpression=changes,
                ConditionExpression=condition,
                ExpressionAttributeNames={f"#{place}": name for place, name in names.items()},
                **given,
            )
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"writing {self._table}: {error}") from error


class LaneStore(LanesTable):
    """Lane items in `table` and state objects in `bucket`; `random` makes the nonces.

    `lanes` is the number of lanes of an environment that has none yet.
    """

    def __init__(
        self, *, dynamodb: Any, s3: Any, table: str, bucket: str, lanes: int, random: Random, threads: int = 1
    ) -> None:
        super().__init__(dynamodb=dynamodb, table=table, random=random)
        self._lanes = lanes
        self._number: int | None = None
        self._s3 = s3
        self._bucket = bucket
        self._threads = Threads(threads)

    def read(self, lane: str, *, retry: Retry) -> Pointer | None:
        """Read a lane's item, consistently; None if it has never committed. Raises Unavailable and LaneError."""
        item = self._item(lane, retry=retry)
        if item is None:
            return None
        check_format(int(item["format"]["N"]), lane=lane)
        return Pointer(
            lane=lane,
            version=int(item["version"]["N"]),
            acked=int(item["acked"]["N"]),
            chain=tuple(_link(text) for text in item["chain"]["S"].split()),
            base_at=int(item["base_at"]["N"]),
        )

    def number(self, *, fixes: bool, retry: Retry) -> int:
        """Return the number of lanes, which is fixed once an environment has state: in others, devices would lack it.

        Args:
            fixes: Whether to fix it, for a first commit.
            retry: Until when to try.

        Raises:
            Unavailable: the table does not answer.
        """
        if self._number is not None:
            return self._number
        item = self._item(NUMBER, retry=retry)
        if item is None and not fixes:
            return self._lanes
        if item is None:
            self._update(
                NUMBER,
                condition="attribute_not_exists(#number)",
                changes="SET #number = :number",
                names={"number": "number"},
                values={":number": {"N": str(self._lanes)}},
                retry=retry,
            )
            item = self._item(NUMBER, retry=retry)
        self._number = int(item["number"]["N"])
        return self._number

    def fetch(self, keys: Sequence[str], *, retry: Retry) -> list[bytes]:
        """Read state objects. Raises Unavailable."""
        return list(self._threads.map(lambda key: self._get(key, retry=retry), keys))

    def _get(self, key: str, *, retry: Retry) -> bytes:
        try:
            return retry.run(lambda: bytes(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()))
        except (BotoCoreError, ClientError) as error:
            if code_of(error) != "NoSuchKey":
                raise Unavailable(f"reading {key}: {error}") from error
        return self._get_deleted(key, retry=retry)

    def _get_deleted(self, key: str, *, retry: Retry) -> bytes:
        """Read an object that was deleted, of which the bucket keeps the version for some days."""
        try:
            found = retry.run(lambda: self._s3.list_object_versions(Bucket=self._bucket, Prefix=key, MaxKeys=10))
            versions = [version["VersionId"] for version in found.get("Versions", ()) if version["Key"] == key]
            if not versions:
                raise Unavailable(f"{key} is gone; without it the state of its lane cannot be read")
            return retry.run(
                lambda: bytes(
                    self._s3.get_object(Bucket=self._bucket, Key=key, VersionId=versions[0])["Body"].read(),
                )
            )
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"reading {key}, which was deleted: {error}") from error

    def put(self, key: str, body: bytes, *, retry: Retry) -> None:
        """Write a state object under a new key. Raises Unavailable."""

        def put() -> None:
            try:
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=body,
                    ContentType="application/octet-stream",
                    ChecksumAlgorithm="CRC32",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                # Its nonce is this attempt's own: the object is there because an answer was lost.
                if code_of(error) != "PreconditionFailed":
                    raise

        try:
            retry.run(put)
        except (BotoCoreError, ClientError) as error:
            raise Unavailable(f"writing {key}: {error}") from error

    def move(self, before: Pointer, after: Pointer, *, retry: Retry) -> bool:
        """Move a lane to its next pointer; return False if another process has moved it. Raises Unavailable."""
        condition = "#version = :before" if before.is_stored else "attribute_not_exists(#version)"
        values = {
            ":version": {"N": str(after.version)},
            ":acked": {"N": str(after.acked)},
            ":chain": {"S": " ".join(f"{link.nonce}:{link.size}" for link in after.chain)},
            ":base_at": {"N": str(after.base_at)},
            ":format": {"N": str(FORMAT)},
        }
        if before.is_stored:
            values[":before"] = {"N": str(before.version)}
        names = ("version", "acked", "chain", "base_at", "format")
        is_done = self._update(
            before.lane,
            condition=condition,
            changes="SET " + ", ".join(f"#{name} = :{name}" for name in names),
            names=dict(zip(names, names, strict=True)),
            values=values,
            retry=retry,
        )
        if is_done:
            return True
        # An answer may have been lost: then the lane's last object is this attempt's own.
        now = self.read(before.lane, retry=retry)
        return now is not None and now.chain[-1] == after.chain[-1]

    def acknowledge(self, pointer: Pointer, *, retry: Retry) -> None:
        """Store that a version's outbox was emitted whole, unless the lane has moved on. Raises Unavailable."""
        self._update(
            pointer.lane,
            condition="#version = :version",
            changes="SET #acked = :version",
            names={"version": "version", "acked": "acked"},
            values={":version": {"N": str(pointer.version)}},
            retry=retry,
        )


def _link(text: str) -> Link:
    nonce, _, size = text.partition(":")
    return Link(nonce, int(size))
