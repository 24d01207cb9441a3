"""The process that the emulator runs in: MiniStack's ASGI application, with what this project puts around it.

Every name of MiniStack that is wrapped stands in this module; a test holds each to the pinned version.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from fleet_iot.operations.local.strictness import Scope, StrictIot

RECURSION_LIMIT = 20_000
"""The broker decodes payloads as JSON and drops the connection of a device whose payload is nested deeper than that."""

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
    """Return what ends the broker's sessions of one certificate, as the broker ends them for a duplicate client id.

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
    """Let no socket of this process listen anywhere but on this machine's loopback: the broker binds all interfaces."""
    bind = socket.socket.bind

    def bind_to_loopback(self: socket.socket, address: Any) -> None:
        loopback = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}.get(self.family)
        bind(self, (loopback, *address[1:]) if loopback else address)

    socket.socket.bind = bind_to_loopback  # type: ignore[method-assign,assignment]


def require_certificates(iot: Any) -> None:
    """Let no client without a certificate into the broker: to the emulator it is one that may do anything.

    Args:
        iot: The module `ministack.services.iot`.
    """
    build: Callable[[], ssl.SSLContext] = iot._mtls_build_ssl_context

    def build_requiring() -> ssl.SSLContext:
        context = build()
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    iot._mtls_build_ssl_context = build_requiring


def secret_of(access_key_id: str, token: str) -> str | None:
    """The secret of the root key of this emulator, or of a key that it has issued; None for any other.

    The emulator itself takes more for root: `test`, any account's number, and no key at all.
    """
    from ministack.core.iam_evaluator import (
        ResolvedCredential,
        find_iam_access_key_account,
        is_root_access_key,
        resolve_credential,
    )
    from ministack.core.responses import _account_from_sts_session

    if access_key_id == os.environ["AWS_ACCESS_KEY_ID"]:
        return None if token else os.environ["AWS_SECRET_ACCESS_KEY"]
    if is_root_access_key(access_key_id):
        return None
    try:
        account = _account_from_sts_session(access_key_id) or find_iam_access_key_account(access_key_id)
    except ValueError:
        return None  # two accounts have it
    credential = resolve_credential(access_key_id, account, token) if account else None
    return credential.secret_access_key if isinstance(credential, ResolvedCredential) else None


def main() -> None:
    """`emulator_process --bind ADDRESS --certificate FILE --key FILE [--speed N]`, its root key in the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--speed", type=float)
    arguments = parser.parse_args()
    sys.setrecursionlimit(RECURSION_LIMIT)

    # Imported here: MiniStack reads its settings from the environment while it is imported.
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app
    from ministack.services import iot

    from fleet_iot.operations.local.guard import Guard

    keep_to_loopback()
    require_certificates(iot)
    if arguments.speed is not None:
        make_strict(iot, speed=arguments.speed)
    config = Config()
    config.bind = [arguments.bind]
    config.certfile = arguments.certificate
    config.keyfile = arguments.key
    config.keep_alive_timeout = KEEP_ALIVE_S
    guarded: Any = Guard(app, secret=os.environ["AWS_SECRET_ACCESS_KEY"], secret_of=secret_of)
    asyncio.run(serve(guarded, config))
