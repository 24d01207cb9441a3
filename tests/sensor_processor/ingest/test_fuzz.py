"""Whatever comes, a record is a reading or poison with a declared reason, and is judged in a few milliseconds.

`FLEET_FUZZ_PAYLOADS` says how many are tried (10,000; a million in `make soak`), `FLEET_FUZZ_SEED` repeats a run.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fleet_iot.sensor_processor.adapters.archive import quarantine_objects, readings_objects
from fleet_iot.sensor_processor.ingest.batch import parse_batch
from fleet_iot.sensor_processor.ingest.catalogue import Catalogue
from fleet_iot.sensor_processor.ingest.reading import REASONS

PAYLOADS = int(os.environ.get("FLEET_FUZZ_PAYLOADS", "10000"))
SEED = int(os.environ.get("FLEET_FUZZ_SEED", "1"))
P99_S = 0.005
BATCH = 500

NASTY = [
    *(
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"-0.0",
        b"1e-400",
        b"null",
        b"true",
        b"-1",
        b"1.5",
        b'"',
        b"\\u0000",
        b"\\ud800",
    ),
    *(
        b"\xff",
        b"\x00",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"9" * 400,
        b"0." + b"1" * 300,
        b"[" * 3_000,
        b'{"a":' * 1_500,
    ),
    *(b"\xe2\x80\xae", b"\xef\xbb\xbf", b"../../", b"${jndi:x}", b'"metrics"', b'"time"', b'"sequence"', b" " * 500),
]

Mutation = Callable[[bytes, random.Random], bytes]


def cut(data: bytes, dice: random.Random) -> bytes:
    """Loses the end."""
    return data[: dice.randrange(len(data) + 1)]


def flip(data: bytes, dice: random.Random) -> bytes:
    """Changes some bytes."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        if changed:
            changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def insert(data: bytes, dice: random.Random) -> bytes:
    """Puts something nasty in."""
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(NASTY) + data[at:]


def replace(data: bytes, dice: random.Random) -> bytes:
    """Puts something nasty in the place of something."""
    at = dice.randrange(len(data) + 1)
    return data[:at] + dice.choice(NASTY) + data[at + dice.randrange(20) :]


def repeat(data: bytes, dice: random.Random) -> bytes:
    """Says a part many times over."""
    at = dice.randrange(len(data) + 1)
    part = data[at : at + dice.randrange(1, 30)]
    return data[:at] + part * dice.randrange(1, 200) + data[at:]


def junk(_: bytes, dice: random.Random) -> bytes:
    """Is nothing at all."""
    return dice.randbytes(dice.randrange(300))


MUTATIONS: tuple[Mutation, ...] = (cut, flip, insert, insert, replace, replace, repeat, junk)


def record(number: int, dice: random.Random, *, payload: bytes, envelope: dict[str, Any]) -> dict[str, Any]:
    """A record whose payload, envelope or both were mutated up to three times."""
    for _ in range(dice.randrange(4)):
        payload = dice.choice(MUTATIONS)(payload, dice)
    data = json.dumps(envelope | {"raw": base64.b64encode(payload).decode()}).encode()
    if dice.random() < 0.3:
        data = dice.choice(MUTATIONS)(data, dice)
    encoded = base64.b64encode(data).decode()
    if dice.random() < 0.02:
        encoded = encoded[:-1]
    return {"kinesis": {"sequenceNumber": str(number), "data": encoded}, "eventID": f"shardId-000000000000:{number}"}


@pytest.mark.slow
def test_every_payload_is_a_reading_or_poison_and_quickly(payload: Any, envelope: Any, catalogue: Catalogue) -> None:
    """No exception, no record lost, a declared reason for each refusal, and 99 of 100 in five milliseconds of CPU."""
    dice = random.Random(SEED)
    stamped = envelope()
    seeds = [payload(), payload(sequence=None), b"[" + payload() + b"," + payload(sequence=18) + b"]"]
    reasons: Counter[str] = Counter()
    slow: list[float] = []
    for start in range(0, PAYLOADS, BATCH):
        records = [
            record(number, dice, payload=dice.choice(seeds), envelope=stamped)
            for number in range(start, min(start + BATCH, PAYLOADS))
        ]
        for each in records:
            begin = time.thread_time()
            batch = parse_batch({"Records": [each]}, catalogue=catalogue, suffix="dev")
            slow.append(time.thread_time() - begin)
            assert bool(batch.readings) != bool(batch.poison), each
            reasons.update(poison.reason for poison in batch.poison)
        whole = parse_batch({"Records": records}, catalogue=catalogue, suffix="dev")
        objects = readings_objects(whole.readings, shard="s") + quarantine_objects(whole.poison, shard="s")
        archived = [number for entry in objects for number in entry.sequence_numbers]
        assert sorted(map(int, archived)) == list(range(start, start + len(records)))
        slow = sorted(slow)[-max(PAYLOADS // 100, 1) :]

    assert slow[0] <= P99_S
    assert reasons.keys() <= REASONS
    assert len(reasons) > 8
