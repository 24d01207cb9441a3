"""S3's buckets: conditional puts and gets, and what each call counts as.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from io import BytesIO
from typing import Any

from benchmarks.aws import Units, new_units, refused

KEY_BYTES = 1024
PUT_BYTES = 5 * 1024**3
"""https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html"""


class S3:
    """A client of buckets in memory.

    `buckets` are those that exist, all where it is None; of objects that are deleted in the `versioned` ones, the last
    version stays.
    """

    def __init__(
        self,
        *,
        buckets: Collection[str] | None = None,
        versioned: Collection[str] = (),
        units: Units | None = None,
    ) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.deleted: dict[tuple[str, str], bytes] = {}
        self._versioned = versioned
        self.units = new_units() if units is None else units
        self._buckets = buckets
        self._lock = threading.RLock()

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803 - the API's word
        Key: str,  # noqa: N803 - the API's word
        Body: Any = b"",  # noqa: N803 - the API's word
        IfNoneMatch: str | None = None,  # noqa: N803 - the API's word
        IfMatch: str | None = None,  # noqa: N803 - the API's word
        **_: Any,
    ) -> dict[str, Any]:
        """Store an object; a condition that is not true is refused with 412, and counts as a put all the same."""
        body = Body if isinstance(Body, bytes) else bytes(Body) if isinstance(Body, bytearray) else Body.read()
        with self._lock:
            self.units["s3_puts"] += 1
            self._check(Bucket, Key, "PutObject")
            if len(body) > PUT_BYTES:
                raise refused("EntityTooLarge", "PutObject")
            held = self.objects.get((Bucket, Key))
            if IfNoneMatch is not None and IfNoneMatch != "*":
                raise refused("NotImplemented", "PutObject", "If-None-Match takes * alone", status=501)
            if IfMatch is not None and held is None:
                raise refused("NoSuchKey", "PutObject", status=404)
            if (IfNoneMatch and held is not None) or (IfMatch and etag(held or b"") != IfMatch):
                raise refused("PreconditionFailed", "PutObject", status=412)
            self.objects[Bucket, Key] = body
        return {"ETag": etag(body)}

    def get_object(
        self,
        *,
        Bucket: str,  # noqa: N803 - the API's word
        Key: str,  # noqa: N803 - the API's word
        IfMatch: str | None = None,  # noqa: N803 - the API's word
        IfNoneMatch: str | None = None,  # noqa: N803 - the API's word
        VersionId: str | None = None,  # noqa: N803 - the API's word
        **_: Any,
    ) -> dict[str, Any]:
        """https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html"""
        with self._lock:
            self.units["s3_gets"] += 1
            self._check(Bucket, Key, "GetObject")
            body = (self.objects if VersionId is None else self.deleted).get((Bucket, Key))
            if body is None:
                raise refused("NoSuchKey", "GetObject", "The specified key does not exist.", status=404)
            if IfMatch is not None and IfMatch != etag(body):
                raise refused("PreconditionFailed", "GetObject", status=412)
            if IfNoneMatch is not None and IfNoneMatch == etag(body):
                raise refused("304", "GetObject", "Not Modified", status=304)
        return {"Body": BytesIO(body), "ContentLength": len(body), "ETag": etag(body)}

    def delete_object(self, *, Bucket: str, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803 - the API's words
        """Remove an object, if it is there; deletes cost nothing."""
        with self._lock:
            self._check(Bucket, Key, "DeleteObject")
            body = self.objects.pop((Bucket, Key), None)
            if body is not None and Bucket in self._versioned:
                self.deleted[Bucket, Key] = body
        return {}

    def list_object_versions(
        self,
        *,
        Bucket: str,  # noqa: N803 - the API's word
        Prefix: str,  # noqa: N803 - the API's word
        MaxKeys: int = 1000,  # noqa: N803 - the API's word
    ) -> dict[str, Any]:
        """List versions of deleted objects: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html"""
        with self._lock:
            self.units["s3_puts"] += 1
            self._check(Bucket, Prefix, "ListObjectVersions")
            keys = sorted(key for bucket, key in self.deleted if bucket == Bucket and key.startswith(Prefix))
        return {"Versions": [{"Key": key, "VersionId": "1"} for key in keys[:MaxKeys]]}

    def _check(self, bucket: str, key: str, operation: str) -> None:
        if self._buckets is not None and bucket not in self._buckets:
            raise refused("NoSuchBucket", operation, "The specified bucket does not exist", status=404)
        if not 1 <= len(key.encode()) <= KEY_BYTES:
            raise refused("KeyTooLongError", operation)


def etag(body: bytes) -> str:
    """Return an object's entity tag."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
