"""The process that the emulator runs in: MiniStack's ASGI application, with what this project puts around it.

Every name of MiniStack that is wrapped stands in this module; a test holds each to the pinned version.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from operations.local.strictness import StrictIot

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
    )
    iot.handle_request = strict.handle


def main() -> None:
    """`emulator_process --bind ADDRESS --certificate FILE --key FILE [--speed N | --lenient]`"""
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

    if arguments.speed is not None:
        make_strict(iot, speed=arguments.speed)
    config = Config()
    config.bind = [arguments.bind]
    config.certfile = arguments.certificate
    config.keyfile = arguments.key
    config.keep_alive_timeout = KEEP_ALIVE_S
    asyncio.run(serve(app, config))
