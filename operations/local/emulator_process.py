"""The emulator's program: MiniStack behind TLS, bound to loopback, every request authenticated.

Any other user of the machine can reach its port. So `Guard`, an ASGI middleware, passes only requests that prove the
secret: by AWS's own signature (SigV4, in a header or in a presigned URL) with the root key or with one that the
emulator has issued, or, for the emulator's own paths, by the secret as a bearer token.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from ministack.core import sigv4

from fleet_iot.operations.local.aws import UNITS
from fleet_iot.operations.local.faults import BODY_BYTES as MATCHED_BYTES
from fleet_iot.operations.local.faults import Faults
from fleet_iot.operations.local.meter import Meter
from fleet_iot.operations.local.strictness import Scope, StrictIot

# Every name of MiniStack that is wrapped is in this module; a test compares each with the pinned version.

RECURSION_LIMIT = 20_000
"""The broker decodes payloads as JSON, and disconnects a device whose payload is nested deeper than this."""

KEEP_ALIVE_S = 75


def make_strict(iot: Any, *, speed: float) -> None:
    """Put AWS's rules and delays around the emulator's IoT handler.

    Args:
        iot: The module `ministack.services.iot`.
        speed: How many times faster than on AWS delays pass.
    """
    from ministack.core.responses import error_response_json, get_account_id, get_region

    strict = StrictIot(
        iot.handle_request,
        scope=lambda: (get_account_id(), get_region()),
        error=error_response_json,
        speed=speed,
        disconnect=disconnecting(iot),
    )
    iot.handle_request = strict.handle


def disconnecting(iot: Any) -> Callable[[Scope, str], Awaitable[None]]:
    """Return a function that ends the broker's sessions of one certificate, as for a duplicate client id.

    Args:
        iot: The module `ministack.services.iot`.
    """

    async def disconnect(scope: Scope, certificate: str) -> None:
        for (account, region, _), session in list(iot._connected_clients.items()):
            if (account, region) == scope and session.certificate_id == certificate:
                await session._send({"type": "websocket.close", "code": 1000})
                await session.cleanup()

    return disconnect


def keep_to_loopback() -> None:
    """Make every socket of this process listen on loopback only: the broker binds all interfaces."""
    bind = socket.socket.bind

    def bind_to_loopback(self: socket.socket, address: Any) -> None:
        loopback = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}.get(self.family)
        bind(self, (loopback, *address[1:]) if loopback else address)

    socket.socket.bind = bind_to_loopback  # type: ignore[method-assign,assignment]


def require_certificates(iot: Any) -> None:
    """Require a client certificate of the broker's clients: without one, the emulator allows them everything.

    Args:
        iot: The module `ministack.services.iot`.
    """
    build: Callable[[], ssl.SSLContext] = iot._mtls_build_ssl_context

    def build_requiring() -> ssl.SSLContext:
        context = build()
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    iot._mtls_build_ssl_context = build_requiring


NAMING: Mapping[str, tuple[tuple[str, str], ...]] = {
    "cloudtrail": (("ResourceId", "{}"), ("ResourceIdList", "{}")),
    "dynamodb": (("ResourceArn", "{}"),),
    "iot": (("target", "{}"), ("templateName", "arn:aws:iot:{region}:{account}:provisioningtemplate/{}")),
    "kms": (("AliasName", "arn:aws:kms:{region}:{account}:{}"),),
    "lambda": (("FunctionName", "arn:aws:lambda:{region}:{account}:function:{}"),),
    "monitoring": (
        ("ResourceARN", "{}"),
        ("AlarmNames.member.1", "arn:aws:cloudwatch:{region}:{account}:alarm:{}"),
        ("DashboardName", "arn:aws:cloudwatch::{account}:dashboard/{}"),
        ("DashboardNames.member.1", "arn:aws:cloudwatch::{account}:dashboard/{}"),
    ),
    "sns": (("ResourceArn", "{}"),),
}
"""Service → members of requests that name the resource, which the emulator leaves out of a permission's check."""

WITHOUT_RESOURCE = ("DescribeAlarms", "CreateEventSourceMapping")
"""Actions that AWS checks without a resource, although the request names one."""

MAPPING, MAPPING_ARN = re.compile(r"/event-source-mappings/[^/]+"), re.compile(":event-source-mapping:")

_mapping: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("mapping")
"""Condition keys of a request about an event source mapping: its function and its tags."""


Note = Callable[[str, str, str, bool], None]
"""Notes a decision: access key, action, resource, whether it was allowed."""


def check_named_resources(
    iam_actions: Any,
    iam_evaluator: Any,
    mappings: Callable[[], Mapping[str, Any]],
    *,
    note: Note,
) -> None:
    """Make the emulator check permissions on the resources that requests name, as AWS does, in place of `*`.

    Args:
        iam_actions: The module `ministack.core.iam_actions`.
        iam_evaluator: The module `ministack.core.iam_evaluator`.
        mappings: Returns Lambda's event source mappings by id.
        note: Gets each decision on another caller than root.
    """
    extract, action_of = iam_actions.extract_resource_arn, iam_actions.extract_iam_action
    lambda_action, enforce = iam_actions._lambda_action, iam_evaluator.enforce

    def lambda_action_of(method: str, path: str) -> str | None:
        if MAPPING.search(path):
            return {"GET": "GetEventSourceMapping", "PUT": "UpdateEventSourceMapping"}.get(
                method, "DeleteEventSourceMapping"
            )
        action = lambda_action(method, path)
        return str(action) if action else None

    def resource_of(
        service: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        parameters: dict[str, Any],
        region: str,
        account: str,
    ) -> str:
        found = str(extract(service, method, path, headers, body, parameters, region, account))
        if found != "*" and service != "lambda":
            return found
        named = next(
            (
                template.format(value, region=region, account=account) if not value.startswith("arn:") else value
                for member, template in NAMING.get(service, ())
                if (value := _text(iam_actions._param(body, parameters, member)))
            ),
            "*",
        )
        if service == "lambda":
            mapping = mappings().get(found.rpartition(":")[2], {})
            tags = {f"aws:ResourceTag/{key}": value for key, value in mapping.get("Tags", {}).items()}
            _mapping.set({"lambda:FunctionArn": str(mapping.get("FunctionArn", named)), **tags})
        if found != "*" or action_of(service, method, path, headers, body, parameters).endswith(WITHOUT_RESOURCE):
            return found
        return named

    def enforce_with_mapping(
        access_key: str,
        action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        if service == "lambda" and "EventSourceMapping" in action + MAPPING_ARN.sub("EventSourceMapping", resource_arn):
            service_context = {**(service_context or {}), **_mapping.get({})}
        if service == "kms" and ":alias/" in resource_arn and not action.endswith("Alias"):
            # A key that is named by an alias is checked as a key.
            head, _, alias = resource_arn.partition(":alias/")
            service_context = {**(service_context or {}), "kms:RequestAlias": f"alias/{alias}"}
            resource_arn = f"{head}:key/{alias.rpartition('/')[2]}"
        refusal = enforce(access_key, action, service, region, resource_arn, service_context)
        if access_key != os.environ["AWS_ACCESS_KEY_ID"]:
            note(access_key, action, resource_arn, refusal is None)
        return refusal

    iam_actions._lambda_action = lambda_action_of
    iam_actions.extract_resource_arn = resource_of
    iam_evaluator.enforce = enforce_with_mapping


_given: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("given")
"""The context entries of a simulation, by key in lower case."""


def simulate_with_context(iam: Any, iam_evaluator: Any) -> None:
    """Make SimulatePrincipalPolicy regard the request's context entries, as AWS does.

    Args:
        iam: The module `ministack.services.iam`.
        iam_evaluator: The module `ministack.core.iam_evaluator`.
    """
    simulate, resolve = iam._IAM_HANDLERS["SimulatePrincipalPolicy"], iam_evaluator._resolve_condition_key

    def simulate_in_context(parameters: Mapping[str, Any]) -> Any:
        entries, n = {}, 1
        while key := iam._p(parameters, f"ContextEntries.member.{n}.ContextKeyName"):
            entries[key.lower()] = iam._p(parameters, f"ContextEntries.member.{n}.ContextKeyValues.member.1")
            n += 1
        token = _given.set(entries)
        try:
            return simulate(parameters)
        finally:
            _given.reset(token)

    def resolve_given(key: str, context: Any) -> Any:
        given = _given.get({})
        return given[key.lower()] if key.lower() in given else resolve(key, context)

    iam._IAM_HANDLERS["SimulatePrincipalPolicy"] = simulate_in_context
    iam_evaluator._resolve_condition_key = resolve_given


def _text(value: Any) -> str:
    """Return a member's text, the first of a list; '' for anything else."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def make_metered(services: Any, iot: Any) -> Meter:
    """Count what the emulator is asked for, in AWS's units.

    Args:
        services: The package `ministack.services`.
        iot: The module `ministack.services.iot`.
    """
    meter = Meter(caller_of)
    for name, metered in (
        ("dynamodb", meter.of_dynamodb),
        ("kinesis", meter.of_kinesis),
        ("kms", meter.of_kms),
        ("s3", meter.of_s3),
        ("sns", meter.of_sns),
    ):
        module = getattr(services, name)
        module.handle_request = metered(module.handle_request)
    meter.of_broker(iot)
    return meter


def caller_of(headers: Mapping[str, str]) -> str | None:
    """Return the role by whose keys a request is signed; None for root, and for none."""
    key = headers.get("authorization", "").partition("Credential=")[2].partition("/")[0]
    if not key or key == os.environ["AWS_ACCESS_KEY_ID"]:
        return None
    credential = _issued(key, headers.get("x-amz-security-token", ""))
    # arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION
    return credential.principal_arn.partition("/")[2].partition("/")[0] if credential else None


def secret_of(access_key_id: str, token: str) -> str | None:
    """Return the secret of this emulator's root key, or of a key that it has issued; None for any other.

    The emulator itself accepts more as root: `test`, any account's number, and no key at all.
    """
    from ministack.core.iam_evaluator import is_root_access_key

    if access_key_id == os.environ["AWS_ACCESS_KEY_ID"]:
        return None if token else os.environ["AWS_SECRET_ACCESS_KEY"]
    if is_root_access_key(access_key_id):
        return None
    credential = _issued(access_key_id, token)
    return credential.secret_access_key if credential else None


def _issued(access_key_id: str, token: str) -> Any:
    """Return the credential of a key that the emulator has issued; None for any other."""
    from ministack.core.iam_evaluator import ResolvedCredential, find_iam_access_key_account, resolve_credential
    from ministack.core.responses import _account_from_sts_session

    try:
        account = _account_from_sts_session(access_key_id) or find_iam_access_key_account(access_key_id)
    except ValueError:
        return None  # two accounts have it
    credential = resolve_credential(access_key_id, account, token) if account else None
    return credential if isinstance(credential, ResolvedCredential) else None


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
SecretOf = Callable[[str, str], str | None]
"""The secret of an access key that is presented with a session token ('' for none); None for an unknown one."""

CHUNKED = "STREAMING-AWS4-HMAC"
"""The beginning of x-amz-content-sha256 where each chunk of the body carries a signature."""

BODY_BYTES = 256 * 1024 * 1024
"""The largest body that is read to check a signature over it; AWS accepts at most 70 MB this way."""

REMEDY = 'this local AWS accepts only its own keys: eval "$(fleet local env)"'


class RefusedError(Exception):
    """A request without the proof; `code` is AWS's error code."""

    def __init__(self, code: str, message: str, *, status: int = 403) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Guard:
    """The emulator's application behind an authentication of every request.

    Args:
        app: The emulator's ASGI application.
        secret: The bearer token of the emulator's own paths.
        secret_of: Finds the secret of an access key.
        faults: Errors to answer some requests with.
        meter: What counts the requests; its path is answered here.
    """

    def __init__(
        self,
        app: App,
        *,
        secret: str,
        secret_of: SecretOf,
        faults: Faults | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._app = app
        self._faults = faults
        self._meter = meter
        self._token = hashlib.sha256(secret.encode()).digest()
        self._secret_of = secret_of

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 403 before the emulator sees any of it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope.get("headers", ()):
            name, value = raw_name.decode("latin-1").lower(), sigv4.decode_header_value(raw_value)
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        try:
            receive = await self._checked(scope, headers, receive)
            if self._faults and self._faults.are_asked_for and scope["type"] == "http":
                receive = await _without_fault(self._faults, scope, headers, receive)
        except RefusedError as refused:
            await _refuse(scope, headers, receive, send, refused)
            return
        if self._meter and scope["path"] == UNITS:
            body = json.dumps(self._meter.counts()).encode()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)

    async def _checked(self, scope: Message, headers: Mapping[str, str], receive: Receive) -> Receive:
        """Check the proof; return a `receive` that delivers again what the check has read."""
        authorization = headers.get("authorization", "")
        if authorization.startswith("Bearer "):
            token = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).digest()
            if hmac.compare_digest(token, self._token):
                return receive
            raise RefusedError("InvalidClientTokenId", f"The security token is invalid: {REMEDY}")
        query = parse_qs(scope.get("query_string", b"").decode("utf-8", "replace"), keep_blank_values=True)
        is_presigned = not authorization and "X-Amz-Signature" in query
        if not is_presigned and not authorization.startswith("AWS4-HMAC-SHA256 "):
            raise RefusedError("MissingAuthenticationToken", f"Missing Authentication Token: {REMEDY}")
        signature = sigv4.parse_query_signature(query) if is_presigned else sigv4.parse_header_signature(headers)
        if isinstance(signature, tuple):
            raise RefusedError(*signature)
        _require_current(signature, query, is_presigned=is_presigned)
        token_given = (query.get("X-Amz-Security-Token") or [""])[0] if is_presigned else ""
        secret = self._secret_of(signature.access_key_id, token_given or headers.get("x-amz-security-token", ""))
        if not secret:
            raise RefusedError(
                "InvalidClientTokenId", f"The security token included in the request is invalid: {REMEDY}"
            )
        body = b""
        if scope["type"] == "http" and _signs_body(headers, signature.service, is_presigned=is_presigned):
            body, receive = await _read(receive)
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
        failure = sigv4.header_signature_failure(
            signature,
            secret,
            scope.get("method", "GET"),
            raw_path.decode("latin-1"),
            query,
            headers,
            body,
            presigned=is_presigned,
        )
        if failure:
            raise RefusedError(*failure)
        return receive


def _require_current(signature: sigv4.HeaderSignature, query: Mapping[str, list[str]], *, is_presigned: bool) -> None:
    """Refuse a signature that is too old: a presigned one by its own term, any other by its service's."""
    if not is_presigned:
        skewed = sigv4.request_time_failure(signature)
        if skewed:
            raise RefusedError(*skewed)
        return
    try:
        is_expired = sigv4.presigned_request_is_expired(signature.amz_date, (query.get("X-Amz-Expires") or ["0"])[0])
    except ValueError:
        is_expired = True
    if is_expired:
        raise RefusedError("AccessDenied", "Request has expired")


def _signs_body(headers: Mapping[str, str], service: str, *, is_presigned: bool) -> bool:
    """Return whether the signature is over the body's own hash, and not over one that a header names."""
    if is_presigned and service == "s3":
        return False
    named = headers.get("x-amz-content-sha256", "")
    return not named or named.startswith(CHUNKED)


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """Read the whole body; also return a `receive` that delivers it again."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > BODY_BYTES:
            raise RefusedError("RequestEntityTooLarge", "The request is larger than any that AWS accepts")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    waiting = iter(messages)

    async def again() -> Message:
        found = next(waiting, None)
        return found if found is not None else await receive()

    return b"".join(message.get("body", b"") for message in messages), again


async def _without_fault(faults: Faults, scope: Message, headers: Mapping[str, str], receive: Receive) -> Receive:
    """Raise RefusedError where the request is to get a fault; return a `receive` that delivers its body again."""
    body, receive = await _read(receive)
    target = headers.get("x-amz-target", "")
    request = f"{scope['method']} {scope['path']} {target} {body[:MATCHED_BYTES].decode('utf-8', 'replace')}"
    fault = faults.next(service=_service(headers), request=request)
    if fault:
        raise RefusedError(fault.code, "injected", status=fault.status)
    return receive


def _service(headers: Mapping[str, str]) -> str:
    """Return the service that a request is signed for; '' for none."""
    scope = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
    return scope[3] if len(scope) > 3 else ""


async def _refuse(
    scope: Message, headers: Mapping[str, str], receive: Receive, send: Send, refused: RefusedError
) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    kind, body = _error_body(headers, refused)
    answer = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refused.status, "headers": answer})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _error_body(headers: Mapping[str, str], refused: RefusedError) -> tuple[bytes, bytes]:
    """Render the error in the protocol of the request: XML for S3 and the query protocol, else JSON."""
    code, message = refused.code, str(refused)
    escaped = message.replace("&", "&amp;").replace("<", "&lt;")
    error = f"<Code>{code}</Code><Message>{escaped}</Message>"
    if _service(headers) == "s3":
        return b"application/xml", f"<Error>{error}</Error>".encode()
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return b"text/xml", f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>".encode()
    return b"application/json", json.dumps({"__type": code, "message": message}).encode()


def _writer(path: Path) -> Note:
    """Return what appends decisions on permissions to a file, each kind of them once for an access key."""
    file = path.open("a", buffering=1)
    written: set[tuple[bool, str, str]] = set()

    def write(access_key: str, action: str, resource: str, is_allowed: bool) -> None:
        if (is_allowed, access_key, action) not in written:
            written.add((is_allowed, access_key, action))
            file.write(f"{'allowed' if is_allowed else 'denied'} {access_key} {action} {resource}\n")

    return write


def main() -> None:
    """`emulator_process --bind ADDRESS --certificate FILE --key FILE --decisions FILE [--speed N]`.

    Its root key is in the environment.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--speed", type=float)
    parser.add_argument("--decisions", type=Path, required=True)
    parser.add_argument("--faults", type=Path, help="the folder of faults.json")
    arguments = parser.parse_args()
    sys.setrecursionlimit(RECURSION_LIMIT)

    # Imported here: MiniStack reads its settings from the environment while it is imported.
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import services
    from ministack.app import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import dynamodb, iam, iot, kinesis, kms, lambda_svc, s3, sns  # noqa: F401 - in `services`

    keep_to_loopback()
    require_certificates(iot)
    check_named_resources(iam_actions, iam_evaluator, lambda: lambda_svc._esms, note=_writer(arguments.decisions))
    simulate_with_context(iam, iam_evaluator)
    if arguments.speed is not None:
        make_strict(iot, speed=arguments.speed)
    meter = make_metered(services, iot)
    config = Config()
    config.bind = [arguments.bind]
    config.certfile = arguments.certificate
    config.keyfile = arguments.key
    config.keep_alive_timeout = KEEP_ALIVE_S
    faults = Faults(arguments.faults) if arguments.faults else None
    guarded: Any = Guard(
        app, secret=os.environ["AWS_SECRET_ACCESS_KEY"], secret_of=secret_of, faults=faults, meter=meter
    )
    asyncio.run(serve(guarded, config))
