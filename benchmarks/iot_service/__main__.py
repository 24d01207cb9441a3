"""`python -m benchmarks.iot_service --scale S`: serves on a free loopback port and prints it; ends with its parent."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
import urllib.parse
from typing import Any

from benchmarks.iot_service.registry import REGION, Registrations, Registry, ServiceError
from benchmarks.iot_service.routes import Asked, Buckets, find_route, identity_answer, quotas_answer
from fleet_iot.generator.diff.calls import QUOTAS

_LOSABLE = ("CreateCertificateFromCsr", "StartThingRegistrationTask")


class Service:
    """Answer requests, one after the other on each connection."""

    def __init__(self, *, scale: float, lose: float, seed: int, s3: Any = None) -> None:
        """`lose` is the share of what is made and whose answer is lost; `s3` has the files of bulk registrations."""
        self._quotas = {api: float(quota) for api, quota in QUOTAS.items()}
        self._scale = scale
        self._buckets = Buckets(self._quotas, scale=scale)
        self._registry = Registry()
        pace = self._quotas["CreateCertificateFromCsr"] * scale
        self._registry.tasks = Registrations(self._registry, s3=s3, pace=pace)
        self._lose = lose
        self._random = random.Random(seed)  # noqa: S311 - no secret

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                method, target, _ = first.split(" ", 2)
                pairs = (line.split(":", 1) for line in lines if ":" in line)
                headers = {name.strip().lower(): value.strip() for name, value in pairs}
                if "100-continue" in headers.get("expect", ""):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length") or 0))
                answer = self.answer(method, target, headers, body)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """The whole answer; None where it is lost."""
        url = urllib.parse.urlsplit(target)
        if url.path == "/_service/state":
            counted = {"calls": self._buckets.calls, "throttles": self._buckets.throttles}
            return _response(200, json.dumps(self._registry.state() | counted).encode())
        if "x-amz-target" in headers:
            return _response(200, quotas_answer(self._quotas, self._scale))
        if b"Action=GetCallerIdentity" in body:
            return _response(200, identity_answer(), kind="text/xml")
        try:
            api, parts, route = find_route(method, url.path)
            if not self._buckets.take(api, time.monotonic()):
                raise ServiceError("ThrottlingException", 400, "Rate exceeded")
            query = dict(urllib.parse.parse_qsl(url.query))
            asked = Asked(parts=parts, query=query, headers=headers, body=json.loads(body) if body else {})
            made = route(self._registry, asked)
        except ServiceError as error:
            return _response(error.status, json.dumps(error.body).encode(), error=error.code)
        if api in _LOSABLE and self._random.random() < self._lose:
            return None
        return _response(200, json.dumps(made).encode())


def _response(status: int, body: bytes, *, kind: str = "application/json", error: str = "") -> bytes:
    extra = f"x-amzn-ErrorType: {error}\r\n" if error else ""
    head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def _s3(url: str, authority: str | None) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=url, verify=authority, config=config, region_name=REGION)


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.iot_service", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much faster the quotas' time runs (1)")
    parser.add_argument("--lose", type=float, default=0.0, help="share of new certificates whose answer is lost (0)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--s3", default="", help="where the files of bulk registrations lie: the URL of an S3")
    parser.add_argument("--authority", help="who signed its TLS certificate: a file")
    given = parser.parse_args()
    s3 = _s3(given.s3, given.authority) if given.s3 else None
    service = Service(scale=given.scale, lose=given.lose, seed=given.seed, s3=s3)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    # End with the parent, which has the other end of standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_main())
