"""The archive's bucket, as the compactor uses it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

_CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_MISSING = frozenset({"NoSuchKey", "404"})
_PER_DELETE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object's key and size."""

    key: str
    size: int


class Bucket:
    """Lists, reads, writes and deletes objects; encryption is set on the bucket."""

    def __init__(self, *, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def list(self, prefix: str) -> Iterator[Listed]:
        """List the objects below a prefix, by key."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            for entry in page.get("Contents", ()):
                yield Listed(key=entry["Key"], size=entry["Size"])

    def folders(self, prefix: str) -> Iterator[str]:
        """List what follows a prefix, up to the next slash."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, Delimiter="/")
        for page in pages:
            for entry in page.get("CommonPrefixes", ()):
                yield entry["Prefix"].removeprefix(prefix).rstrip("/")

    def get(self, key: str) -> bytes:
        """Read an object."""
        body: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def find(self, key: str) -> tuple[bytes, str] | None:
        """Read an object and its ETag; None where there is none."""
        try:
            found = self._client.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return found["Body"].read(), found["ETag"]

    def put(self, key: str, body: bytes, **conditions: str) -> bool:
        """Write an object; return False where `IfNoneMatch` or `IfMatch` refuses it."""
        try:
            self._client.put_object(Bucket=self.name, Key=key, Body=body, ChecksumAlgorithm="CRC32", **conditions)
        except ClientError as error:
            if conditions and error.response["Error"]["Code"] in _CONFLICTS | _MISSING:
                return False
            raise
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects: their versions stay for as long as the bucket keeps earlier ones."""
        left = list(keys)
        for start in range(0, len(left), _PER_DELETE):
            objects = [{"Key": key} for key in left[start : start + _PER_DELETE]]
            answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": objects, "Quiet": True})
            if errors := answer.get("Errors"):
                raise RuntimeError(f"{len(errors)} objects were not deleted, {errors[0]['Key']}: {errors[0]['Code']}")
