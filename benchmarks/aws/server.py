"""DynamoDB and S3 on loopback, in a process of its own so that its CPU and memory are not measured."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import msgspec
from botocore.exceptions import ClientError

from benchmarks.aws import new_units
from benchmarks.aws.dynamodb import DynamoDb
from benchmarks.aws.s3 import S3

COUNT = "Stub.Count"
"""The benchmarks' own question, no operation of DynamoDB's: items of each table, objects of each bucket, and units."""


class Server:
    """Tables and buckets; one process and one event loop, so every call is atomic."""

    def __init__(self, tables: Mapping[str, tuple[str, ...]]) -> None:
        units = new_units()
        self.dynamodb, self.s3 = DynamoDb(tables, units=units), S3(units=units)

    def count(self) -> dict[str, Any]:
        """Return the number of items by table, of objects by bucket, and the units."""
        counts = {name: len(table.stored) for name, table in self.dynamodb.tables.items()}
        objects = Counter(bucket for bucket, _ in self.s3.objects)
        return {**counts, **objects, "units": self.dynamodb.units}

    def table_call(self, target: str, body: bytes) -> tuple[int, bytes]:
        """Answer a call of DynamoDB with a status and JSON."""
        if target == COUNT:
            return 200, json.dumps(self.count()).encode()
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", target.partition(".")[2]).lower()
        try:
            return 200, msgspec.json.encode(getattr(self.dynamodb, name)(**msgspec.json.decode(body)))
        except ClientError as error:
            found = error.response["Error"]
            answer = {"__type": f"com.amazonaws.dynamodb.v20120810#{found['Code']}", "message": found["Message"]}
            more = {name: error.response[name] for name in ("CancellationReasons", "Item") if name in error.response}
            return 400, json.dumps(answer | more).encode()

    def object_call(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Answer a call of S3 with a status and the object or XML."""
        bucket, _, key = unquote(urlsplit(target).path).lstrip("/").partition("/")
        conditions = {
            name: headers[header]
            for name, header in (("IfNoneMatch", "if-none-match"), ("IfMatch", "if-match"))
            if header in headers
        }
        try:
            if method == "PUT":
                self.s3.put_object(Bucket=bucket, Key=key, Body=body, **conditions)
                return 200, b""
            if method == "GET":
                return 200, self.s3.get_object(Bucket=bucket, Key=key, **conditions)["Body"].read()
            self.s3.delete_object(Bucket=bucket, Key=key)
            return 204, b""
        except ClientError as error:
            found = error.response["Error"]
            text = f"<Error><Code>{found['Code']}</Code><Message>{found['Message']}</Message></Error>"
            return error.response["ResponseMetadata"]["HTTPStatusCode"], text.encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, kept open as AWS does."""
        try:
            while line := await reader.readline():
                headers = await _headers(reader)
                if headers.get("expect") == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = line.decode().split(" ", 2)
                target = headers.get("x-amz-target", "")
                if target:
                    status, answer = self.table_call(target, body)
                    kind = b"application/x-amz-json-1.0"
                else:
                    status, answer = self.object_call(method, path, headers, body)
                    kind = b"application/octet-stream" if status == 200 else b"application/xml"
                writer.write(
                    b"HTTP/1.1 %d -\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(answer))
                    + answer
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).decode().rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip().lower() if name.lower() == "expect" else value.strip()
    return headers


async def _main(tables: dict[str, tuple[str, ...]]) -> None:
    server = await asyncio.start_server(Server(tables).serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await stopped  # until the process that started it is gone
    server.close()
    os._exit(0)  # connections that are kept open end with the process


@contextmanager
def running_server(tables: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Run a server with these tables and their key attributes; yield its address."""
    command = [sys.executable, "-m", "benchmarks.aws.server", json.dumps(tables)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the server has no pipes")
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(10)


def counted(address: str) -> dict[str, Any]:
    """Ask a server for its counts."""
    request = Request(address, b"{}", {"X-Amz-Target": COUNT})  # noqa: S310 - the server on loopback
    with urlopen(request) as response:  # noqa: S310 - the server on loopback
        found: dict[str, Any] = json.load(response)
    return found


if __name__ == "__main__":
    asyncio.run(_main({name: tuple(keys) for name, keys in json.loads(sys.argv[1]).items()}))
