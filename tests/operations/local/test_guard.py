"""Proof to the local AWS's guard that a request is its owner's, signed by botocore itself."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from ministack.core import iam_evaluator, responses, sigv4
from ministack.services import iot

from fleet_iot.operations.local.emulator_process import Guard
from fleet_iot.operations.local.faults import Faults

KEY, SECRET = "LOCAL0123", "s3cret"
SESSION = ("ASIA0123", "other", "token")
URL = "https://127.0.0.1:5000"


def secret_of(access_key: str, token: str) -> str | None:
    return {(KEY, ""): SECRET, (SESSION[0], SESSION[2]): SESSION[1]}.get((access_key, token))


class Emulator:
    """An application behind the guard that keeps what it gets."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.got: list[bytes] = []
        self._guard = Guard(self._app, secret=SECRET, secret_of=secret_of, faults=faults)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.got.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def ask(
        self, request: AWSRequest, *, chunks: int = 1, headers: Mapping[str, str] | None = None, kind: str = "http"
    ) -> Any:
        """Send the request; the status, or the code with which a WebSocket is closed."""
        parts = urlsplit(request.url)
        body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
        named = {"host": parts.netloc, **{k.lower(): v for k, v in request.headers.items()}, **(headers or {})}
        size = max(1, -(-len(body) // chunks))
        pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
            for number, piece in enumerate(pieces)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": kind,
            "method": request.method,
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [(k.encode(), v.encode() if isinstance(v, str) else v) for k, v in named.items()],
        }
        asyncio.run(self._guard(scope, receive, send))
        return sent[0].get("status", sent[0].get("code"))


def made(
    service: str = "dynamodb", *, body: bytes = b'{"TableName":"abc"}', path: str = "/", **signed: Any
) -> AWSRequest:
    """A request that botocore has signed, in its header or (expires=) in its URL."""
    credentials = Credentials(*signed.pop("credentials", (KEY, SECRET)))
    method = signed.pop("method", "POST")
    request = AWSRequest(method, URL + path, data=body, headers={"X-Amz-Target": "DynamoDB_20120810.DescribeTable"})
    request.context["client_config"] = None
    if "expires" in signed:
        signer = (S3SigV4QueryAuth if service == "s3" else SigV4QueryAuth)(
            credentials, service, "ap-southeast-1", expires=signed["expires"]
        )
    else:
        signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "ap-southeast-1")
    signer.add_auth(request)
    return request


# Made when they are asked for: a signature is good for five minutes.
TAKEN: dict[str, Callable[[], AWSRequest]] = {
    "header": lambda: made(),
    "no body": lambda: made(body=b""),
    "query": lambda: made("sqs", path="/?Action=ListQueues&Version=2012-11-05&Name=a%20b&Empty="),
    "escaped path": lambda: made("iot", method="GET", path="/things/a%3Ab/principals", body=b""),
    "s3": lambda: made("s3", method="PUT", path="/bucket-t/raw/facility%3Dsg-01/x", body=b"x" * 5000),
    "session": lambda: made(credentials=SESSION),
    "presigned s3": lambda: made("s3", method="GET", path="/bucket-t/x", body=b"", expires=60),
    "presigned": lambda: made("sts", method="GET", path="/?Action=GetCallerIdentity", body=b"", expires=60),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_signed_comes_in(name: str) -> None:
    """Whole, however it is cut into pieces."""
    emulator, request = Emulator(), TAKEN[name]()
    assert 200 == emulator.ask(request, chunks=7)
    assert [request.body or b""] == emulator.got


def test_a_fault_is_answered_so_many_times(tmp_path: Path) -> None:
    """To the requests that match in service and content; each is logged, and the others come in whole."""
    emulator = Emulator(Faults(tmp_path))
    assert 200 == emulator.ask(made()), "without a file there is none"
    fault = {"service": "dynamodb", "match": "DescribeTable .*abc", "code": "ThrottlingException", "times": 2}
    (tmp_path / "faults.json").write_text(json.dumps([{**fault, "status": 429}]))
    answers = [emulator.ask(made(body=body)) for body in (b'{"TableName":"xyz"}', *([b'{"TableName":"abc"}'] * 3))]
    assert [200, 429, 429, 200] == answers
    assert 200 == emulator.ask(made("sqs", path="/?Action=ListQueues")) and b'{"TableName":"xyz"}' in emulator.got
    assert ["dynamodb ThrottlingException"] * 2 == (tmp_path / "faults.log").read_text().splitlines()


def late(request: AWSRequest, minutes: int) -> AWSRequest:
    """The same request, signed that long ago."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=minutes)
    request.headers.replace_header("X-Amz-Date", then.strftime("%Y%m%dT%H%M%SZ"))
    return request


def changed(request: AWSRequest, **attributes: Any) -> AWSRequest:
    for name, value in attributes.items():
        setattr(request, name, value)
    return request


REFUSED: dict[str, Callable[[], AWSRequest]] = {
    "nothing": lambda: AWSRequest("GET", f"{URL}/_ministack/health"),
    "key test": lambda: made(credentials=("test", "test")),
    "another secret": lambda: made(credentials=(KEY, "test")),
    "no token": lambda: made(credentials=SESSION[:2]),
    "another token": lambda: made(credentials=(*SESSION[:2], "x")),
    "a token for the root key": lambda: made(credentials=(KEY, SECRET, "x")),
    "another body": lambda: changed(made(), data=b'{"TableName":"abd"}'),
    "another path": lambda: changed(made("iot", method="GET", path="/things", body=b""), url=f"{URL}/policies"),
    "another query": lambda: changed(made("sqs", path="/?Action=ListQueues"), url=f"{URL}/?Action=PurgeQueue"),
    "another method": lambda: changed(made("iot", method="GET", path="/things/a", body=b""), method="DELETE"),
    "signed an hour ago": lambda: late(made(), 60),
    "presigned and over": lambda: made("s3", method="GET", path="/bucket-t/x", body=b"", expires=-1),
    "presigned with test": lambda: made(
        "s3", method="GET", path="/b/x", body=b"", expires=60, credentials=("test", "test")
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_signed_does_not(name: str) -> None:
    """Refused with 403 before the emulator sees any of it; as a WebSocket too."""
    emulator = Emulator()
    assert (403, []) == (emulator.ask(REFUSED[name]()), emulator.got)
    assert (1008, []) == (emulator.ask(REFUSED[name](), kind="websocket"), emulator.got)


@pytest.mark.parametrize(("token", "status"), [(SECRET, 200), ("", 403), ("test", 403), (f"{SECRET}x", 403)])
def test_the_emulators_own_paths_want_the_secret(token: str, status: int) -> None:
    """As a bearer token."""
    request = AWSRequest("POST", f"{URL}/_ministack/reset")
    assert status == Emulator().ask(request, headers={"authorization": f"Bearer {token}"})


def test_the_emulator_has_the_seams_that_the_guard_needs() -> None:
    """Names of the pinned version that are wrapped or called, with what they take."""
    assert callable(iot._mtls_build_ssl_context) and not inspect.signature(iot._mtls_build_ssl_context).parameters
    taken = list(inspect.signature(iam_evaluator.resolve_credential).parameters)
    assert ["access_key_id", "account_id", "session_token"] == taken
    assert ["access_key_id"] == list(inspect.signature(responses._account_from_sts_session).parameters)
    assert iam_evaluator.is_root_access_key("test") and iam_evaluator.is_root_access_key("000000000000")
    named = ["signature", "secret", "method", "raw_path", "query_params", "headers", "body", "presigned"]
    assert named == list(inspect.signature(sigv4.header_signature_failure).parameters)[: len(named)]
