"""Payloads that no device should send, one kind after the other: what the processor must quarantine."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

# The local broker parses every payload recursively and drops the connection at about 1,000 levels.
_DEPTH = 400


def _metrics(time_ms: int, body: str) -> bytes:
    return f'{{"time": {time_ms}, "metrics": {body}}}'.encode()


KINDS: dict[str, Callable[[int], bytes]] = {
    "empty object": lambda _: b"{}",
    "broken utf-8": lambda time_ms: b'{"time": %d, "metrics": {"temperature\xff\xfe": 1}}' % time_ms,
    "not a number": lambda time_ms: _metrics(time_ms, '{"temperature": NaN}'),
    "infinity": lambda time_ms: _metrics(time_ms, '{"temperature": Infinity}'),
    "overflow": lambda time_ms: _metrics(time_ms, '{"temperature": 1e400}'),
    "text for a number": lambda time_ms: _metrics(time_ms, '{"temperature": "71.2"}'),
    "no metrics": lambda time_ms: json.dumps({"time": time_ms, "sequence": 1}).encode(),
    "no time": lambda _: b'{"sequence": 1, "metrics": {"temperature": 71.2}}',
    "truncated": lambda time_ms: b'{"time": %d, "metrics": {"temper' % time_ms,
    "deep nesting": lambda time_ms: _metrics(time_ms, "[" * _DEPTH + "]" * _DEPTH),
    "gzip": lambda time_ms: gzip.compress(_metrics(time_ms, '{"temperature": 71.2}'), mtime=0),
    "far future": lambda time_ms: _metrics(time_ms + 86_400_000, '{"temperature": 71.2}'),
    "plain text": lambda time_ms: b"ERR sensor bus timeout at %d" % time_ms,
}
"""Kind → payload for a device clock in ms since the epoch; each is refused whatever the device type."""


def poison_payload(number: int, time_ms: int) -> tuple[str, bytes]:
    """The `number`-th poison message of a run: its kind and its bytes."""
    kinds = list(KINDS)
    kind = kinds[number % len(kinds)]
    return kind, KINDS[kind](time_ms)
