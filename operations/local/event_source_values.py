"""What goes into and comes out of the event source's state machine: records, settings, actions, faults, counts."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """One record of the stream; `arrived` is when the stream took it, in seconds since the epoch."""

    sequence: str
    partition_key: str
    data: bytes
    arrived: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """An event source mapping's settings; None is Lambda's -1, without limit."""

    batch_size: int = 100
    window_s: float = 0.0
    retries: int | None = None
    age_s: float | None = None
    bisects: bool = False
    reports_items: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoke:
    """Give these records to the function, and tell `answered` or `failed` what came of it."""

    records: tuple[StreamRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Send word of these records to the on-failure destination, then call `discarded`."""

    records: tuple[StreamRecord, ...]
    condition: str
    invocations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do before `until`, or before more records come where it is None."""

    until: float | None


Action = Invoke | Discard | Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """Which answers get lost, as if Lambda had crashed before it noted them: the same for the same seed.

    The first answer is always lost (where `probability` is not 0), so that a run that wants redelivery has some.
    """

    probability: float = 0.0
    seed: int = 0

    def forgets(self, ordinal: int) -> bool:
        """Whether the answer with this number, from 0, is lost."""
        if self.probability <= 0:
            return False
        return ordinal == 0 or random.Random(f"{self.seed}:{ordinal}").random() < self.probability  # noqa: S311


@dataclass(slots=True, kw_only=True)
class Counts:
    """What has happened on one shard, in records except for the invocations and failures."""

    read: int = 0
    invocations: int = 0
    failures: int = 0
    done: int = 0
    redelivered: int = 0
    discarded: int = 0

    def as_dict(self) -> dict[str, int]:
        """For the statistics file."""
        return asdict(self)
