"""A stub of DynamoDB and S3 on loopback, in a process of its own so that its CPU is not measured.

It keeps what is written, answers reads from it, and checks nothing: it replaces the network and the other end.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Tables = dict[str, dict[tuple[str, ...], dict[str, Any]]]
KEY = ("device", "bucket")


class Stub:
    """Tables and number of objects; one process and one event loop, so every call is atomic."""

    def __init__(self) -> None:
        self.tables: Tables = {}
        self.objects: set[str] = set()
        self.buckets: dict[str, dict[str, None]] = {}

    def answer(self, target: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one call of DynamoDB."""
        operation = target.partition(".")[2]
        if operation == "PutItem":
            self._put(body["TableName"], body["Item"])
        elif operation == "BatchWriteItem":
            for table, requests in body["RequestItems"].items():
                for request in requests:
                    self._put(table, request["PutRequest"]["Item"])
            return {"UnprocessedItems": {}}
        elif operation == "TransactWriteItems":
            for write in body["TransactItems"]:
                self._put(write["Put"]["TableName"], write["Put"]["Item"])
        elif operation == "BatchGetItem":
            return {"Responses": dict(self._found(body["RequestItems"])), "UnprocessedKeys": {}}
        elif operation == "Query":
            return {"Items": self._between(body["TableName"], body["ExpressionAttributeValues"])}
        elif operation == "Count":  # the benchmark's own question, no operation of DynamoDB's
            return {table: len(items) for table, items in self.tables.items()} | {"objects": len(self.objects)}
        return {}

    def _between(self, table: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the items of a device between two range keys."""
        device, first, last = (values[f":{name}"]["S"] for name in ("device", "first", "last"))
        items = self.tables.get(table, {})
        return [items[device, bucket] for bucket in self.buckets.get(device, ()) if first <= bucket <= last]

    def _put(self, table: str, item: dict[str, Any]) -> None:
        key = _key(item)
        self.tables.setdefault(table, {})[key] = item
        if len(key) == 2:
            self.buckets.setdefault(key[0], {})[key[1]] = None

    def _found(self, requests: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for table, request in requests.items():
            items = self.tables.get(table, {})
            yield table, [items[_key(key)] for key in request["Keys"] if _key(key) in items]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, kept open as AWS does."""
        try:
            while line := await reader.readline():
                headers = await _headers(reader)
                if headers.get("expect") == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                target = headers.get("x-amz-target", "")
                if target:
                    answer = json.dumps(self.answer(target, json.loads(body))).encode()
                else:
                    self.objects.add(line.split()[1].decode())
                    answer = b""
                kind = b"application/x-amz-json-1.0"
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, len(answer)) + answer
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _key(item: dict[str, Any]) -> tuple[str, ...]:
    return tuple(item[name]["S"] for name in KEY if name in item)


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).decode().rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip().lower() if name.lower() == "expect" else value.strip()
    return headers


async def _main() -> None:
    server = await asyncio.start_server(Stub().serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await stopped  # until the process that started it is gone
    server.close()
    os._exit(0)  # connections that are kept open end with the process


@contextmanager
def running_stub() -> Iterator[str]:
    """Run a stub; yield its address."""
    command = [sys.executable, "-m", "benchmarks.aws_stub"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the stub has no pipes")
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(_main())
