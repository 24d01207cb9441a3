"""Which fault strikes when: one seed, one run. Every strike is counted, so that a run shows what it went through."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from botocore.exceptions import ReadTimeoutError

from benchmarks.aws import refused
from benchmarks.function import Clock

RATES = {
    "poison": 0.01,
    "duplicate": 0.05,
    "conflict": 0.001,
    "out_of_order": 0.02,
    "late": 0.005,
    "future": 0.005,
    "skewed": 0.005,
    "throttled": 0.03,
    "unprocessed": 0.10,
    "race": 0.10,
    "crash_before_write": 0.02,
    "crash_after_write": 0.05,
    "answer_lost": 0.02,
    "s3_error": 0.025,
    "s3_timeout_after_commit": 0.025,
    "hot": 0.003,
    # Floods leave few publications, so that many of them must fail.
    "crash_before_publish": 0.25,
    "crash_after_publish": 0.35,
    "sns_error": 0.15,
    "sns_refused": 0.15,
    "sns_answer_lost": 0.15,
}
"""Of messages, calls, windows or invocations, whichever the fault is about."""

OUTAGE_S = 600.0
OUTAGES = {"kms": 0.2, "sns": 0.3, "sqs": 0.5}
"""Ten minutes each, from this part of the run on."""

DEAD_SHARD = 0.5
DEAD_SHARD_S = 900.0
RESHARD = 0.35
HOT_KEY = (0.7, 0.75)
"""Once each: a shard whose function only raises, a split of a shard, a device that sends half of everything."""


WRITES = 6
"""A crash is before or after one of so many writes of an invocation."""


class Crash(BaseException):
    """The function's process is gone: nothing in it gets to handle that."""


@dataclass(kw_only=True)
class Chaos:
    """The dice of one run, which lasts from `begins` for `lasts` seconds of its clock."""

    seed: int
    clock: Clock
    begins: float
    lasts: float
    struck: Counter[str] = field(default_factory=Counter)
    is_calm: bool = False

    def __post_init__(self) -> None:
        self._dice = {name: random.Random(f"{self.seed}:{name}") for name in RATES}
        self.random = random.Random(f"{self.seed}:chaos")
        self._crash: tuple[str, int] | None = None

    def strikes(self, name: str) -> bool:
        """Return whether the fault strikes here; each has its own dice, so that one does not change the others."""
        if self.is_calm or self._dice[name].random() >= RATES[name]:
            return False
        self.struck[name] += 1
        return True

    def is_down(self, service: str) -> bool:
        """Return whether the service is in its outage now."""
        start = self.begins + OUTAGES[service] * self.lasts
        if not start <= self.clock.now < start + OUTAGE_S:
            return False
        self.struck[f"{service}_down"] += 1
        return True

    @contextmanager
    def call(self, operation: str, *, is_write: bool = False) -> Iterator[None]:
        """Surround a call of DynamoDB's: it may fail before it is done, and its answer may be lost."""
        if is_write:
            self.crash_if_due("crash_before_write")
        if self.is_down("kms"):
            raise refused("KMSInternalException", operation)
        if self.strikes("throttled"):
            raise refused("ProvisionedThroughputExceededException", operation)
        yield
        if is_write:
            self.crash_if_due("crash_after_write")
            if self.strikes("answer_lost"):
                raise ReadTimeoutError(endpoint_url="https://dynamodb")

    @contextmanager
    def object_call(self, operation: str) -> Iterator[None]:
        """Surround a call of S3's."""
        is_write = operation == "PutObject"
        if is_write:
            self.crash_if_due("crash_before_write")
        if self.is_down("kms"):
            raise refused("KMS.KMSInternalException", operation, status=500)
        if self.strikes("s3_error"):
            raise refused(self.random.choice(["SlowDown", "InternalError"]), operation, status=503)
        yield
        if is_write:
            self.crash_if_due("crash_after_write")
        if self.strikes("s3_timeout_after_commit"):
            raise ReadTimeoutError(endpoint_url="https://s3")

    def is_dead(self) -> bool:
        """Return whether the function of the dead shard only raises at this time."""
        start = self.begins + DEAD_SHARD * self.lasts
        return start <= self.clock.now < start + DEAD_SHARD_S

    def arm(self) -> None:
        """Decides whether the invocation that begins now will crash, and where."""
        self._crash = None
        for name in ("crash_before_publish", "crash_after_publish", "crash_before_write", "crash_after_write"):
            if not self.is_calm and self._dice[name].random() < RATES[name]:
                self._crash = name, self.random.randrange(WRITES) if name.endswith("write") else 0

    def crash_if_due(self, name: str) -> None:
        """Crashes at the call for which it was armed."""
        if self._crash is None or self._crash[0] != name:
            return
        if self._crash[1]:
            self._crash = name, self._crash[1] - 1
            return
        self._crash = None
        self.struck[name] += 1
        raise Crash(name)
