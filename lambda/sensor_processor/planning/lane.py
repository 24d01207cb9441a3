"""A lane: the devices of one hash range, their packed state, the outbox, and the objects that store them.

Each commit of a lane writes one object, a delta with the devices that it changed or a base with all of them, and moves
the lane's pointer to it. The pointer's chain names the base and the deltas since, so it names the whole state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import md5
from typing import NamedTuple

import msgspec

from ..ingest.codec import compress_frames, decompress_frames

BACK_PRESSURE_MS = 60_000
BACK_PRESSURE_BYTES = 4_000_000
"""Age and size of an outbox from which on a lane takes no more readings until the tables have taken what is in it."""

NOTICES_BYTES = 4_000_000
"""Notifications of a lane that wait for a topic: some 7,000. The oldest ones beyond are quarantined."""

FORMAT = 1
"""Format of objects and lane items that this version writes; it reads this and earlier ones. A new format is read for
a release before it is written, so that two versions can share a lane and a release can be rolled back."""

LONGEST_CHAIN = 13
"""A base and 12 deltas; the lane's item then has some 500 bytes, so each write of it is one unit."""

CHAIN_BYTES = 32_000_000
"""Compressed bytes of deltas after which a base is written, so that a new process starts in seconds."""

BASE_AGE_MS = 24 * 60 * 60 * 1000
"""Age of a base after which it is written again, well before the bucket's lifecycle deletes it."""

_MAGIC = b"lane"

_encode = msgspec.msgpack.Encoder().encode


class LaneError(Exception):
    """A lane's state cannot be used by this version of the processor; its records come again."""


@lru_cache(maxsize=16_384)
def lane_of(thing: str, lanes: int) -> str:
    """Return the lane of a thing: the top bits of the MD5 of its name, by which Kinesis places its records."""
    # Not for security: the stream's own hash keeps a lane within one shard.
    digest = md5(thing.encode(), usedforsecurity=False).digest()
    return lane_name(int.from_bytes(digest[:4]) * lanes >> 32, lanes)


def lane_name(number: int, lanes: int) -> str:
    """Return the name of a lane, which says of how many: other numbers of lanes are other lanes."""
    return f"{number:04d}-of-{lanes:04d}"


class Link(NamedTuple):
    """An object of a chain: its nonce and its size in bytes."""

    nonce: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """A lane's item. `acked` is the last version whose outbox was emitted whole; times are in ms.

    The first link is the base, the last one the object of `version`; each object in between has its own version.
    """

    lane: str
    version: int
    acked: int
    chain: tuple[Link, ...] = ()
    base_at: int = 0
    is_stored: bool = True

    def keys(self, links: int) -> list[str]:
        """Return the keys of the last `links` objects of the chain, oldest first."""
        first = self.version - links + 1
        return [state_key(self.lane, first + place, link.nonce) for place, link in enumerate(self.chain[-links:])]

    def needs_base(self, now: int) -> bool:
        """Return whether the next object should be a base."""
        chain = self.chain
        is_long = len(chain) >= LONGEST_CHAIN or sum(link.size for link in chain[1:]) > CHAIN_BYTES
        return not chain or is_long or self.is_base_old(now)

    def is_base_old(self, now: int) -> bool:
        """Return whether the base is older than a day."""
        return bool(self.chain) and now - self.base_at >= BASE_AGE_MS

    def next(self, link: Link, *, is_base: bool, is_acked: bool, now: int) -> Pointer:
        """Return the pointer after a commit of the object of `link`."""
        return Pointer(
            lane=self.lane,
            version=self.version + 1,
            acked=self.version + 1 if is_acked else self.acked,
            chain=(link,) if is_base else (*self.chain, link),
            base_at=now if is_base else self.base_at,
        )


def state_key(lane: str, version: int, nonce: str) -> str:
    """Return the key of a state object."""
    return f"state/{lane}/{version:015d}-{nonce}"


class Outbox(msgspec.Struct, array_like=True, kw_only=True):
    """Effects of a committed state that are not known to have been answered.

    `items` and `begins` are items of the readings table as DynamoDB JSON; a begin is written only where there is none
    yet, since people acknowledge it. `devices` are name and attributes of device items, as DynamoDB JSON. `since` (ms)
    is when the oldest of these was committed, 0 where the tables have all. `notices` wait for the topic.
    """

    since: int = 0
    items: list[bytes] = []
    begins: list[bytes] = []
    devices: list[tuple[str, bytes]] = []
    notices: list[str] = []

    def __bool__(self) -> bool:
        """Return whether anything is in it."""
        return bool(self.items or self.begins or self.devices or self.notices)

    @property
    def waits_for_tables(self) -> bool:
        """Return whether the tables have not taken all of it."""
        return bool(self.items or self.begins or self.devices)

    @property
    def size(self) -> int:
        """Return the bytes in it that the tables have not taken."""
        return sum(map(len, [*self.items, *self.begins, *(device for _, device in self.devices)]))

    def is_pressing(self, now: int) -> bool:
        """Return whether the tables have not taken it for a minute, or it is full.

        Notifications never press: a topic that is down must not stop the stream.
        """
        return self.waits_for_tables and (now - self.since >= BACK_PRESSURE_MS or self.size > BACK_PRESSURE_BYTES)

    def excess_notices(self) -> list[str]:
        """Remove and return the oldest notifications, where there are too many to be part of each commit."""
        excess: list[str] = []
        left = sum(map(len, self.notices))
        while left > NOTICES_BYTES:
            excess.append(self.notices[len(excess)])
            left -= len(excess[-1])
        del self.notices[: len(excess)]
        return excess

    def extend(self, other: Outbox) -> None:
        """Add what follows from another state, committed at the same time or later."""
        self.since = min(self.since or other.since, other.since or self.since)
        self.items += other.items
        self.begins += other.begins
        self.devices += other.devices
        self.notices += other.notices


class Resident(NamedTuple):
    """A device's packed state, and when (ms) something of it is over though the device is silent; 0 for never."""

    due: int
    packed: bytes


@dataclass(slots=True, kw_only=True)
class Lane:
    """A lane's committed state in memory. `outbox` is what may not be answered yet of `pointer.version`."""

    pointer: Pointer
    devices: dict[str, Resident] = field(default_factory=dict)
    outbox: Outbox = field(default_factory=Outbox)
    size: int = 0

    def apply(self, changes: Mapping[str, Resident]) -> None:
        """Replace the state of devices."""
        for name, resident in changes.items():
            before = self.devices.get(name)
            self.size += len(resident.packed) - (0 if before is None else len(before.packed))
            self.devices[name] = resident


class LaneMemory:
    """The lanes that this process has in memory, in at most `capacity` bytes of packed states."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._lanes: dict[str, Lane] = {}

    def pop(self, lane: str) -> Lane | None:
        """Remove and return a lane, for the caller to change and put back."""
        return self._lanes.pop(lane, None)

    def put(self, lane: Lane) -> None:
        """Keep a lane as it is committed; forget those that were used least recently, beyond the capacity."""
        self._lanes[lane.pointer.lane] = lane
        while len(self._lanes) > 1 and sum(each.size for each in self._lanes.values()) > self._capacity:
            del self._lanes[next(iter(self._lanes))]


class _Header(msgspec.Struct, array_like=True):
    is_base: bool
    outbox: Outbox


_decode_header = msgspec.msgpack.Decoder(_Header).decode
_decode_device = msgspec.msgpack.Decoder(tuple[str, int, bytes]).decode


def pack_object(devices: Mapping[str, Resident], outbox: Outbox, *, is_base: bool) -> bytes:
    """Pack a state object: a format byte, then one compressed stream of the header and the devices."""
    header = _encode(_Header(is_base, outbox))
    return _MAGIC + bytes([FORMAT]) + compress_frames(_frames(header, devices))


def _frames(header: bytes, devices: Mapping[str, Resident]) -> Iterator[bytes]:
    yield header
    for name, (due, packed) in devices.items():
        yield _encode((name, due, packed))


def unpack_objects(bodies: Iterable[bytes], *, into: Lane) -> None:
    """Apply state objects, oldest first, to a lane; its outbox is that of the last one. Raises LaneError."""
    for body in bodies:
        if body[:4] != _MAGIC:
            raise LaneError(f"an object of lane {into.pointer.lane} is no state")
        check_format(body[4], lane=into.pointer.lane)
        try:
            frames = decompress_frames(body[5:])
            header = _decode_header(next(frames))
            if header.is_base:
                into.devices, into.size = {}, 0
            for frame in frames:
                name, due, packed = _decode_device(frame)
                into.apply({name: Resident(due, packed)})
        except (ValueError, msgspec.MsgspecError, StopIteration) as error:
            raise LaneError(f"an object of lane {into.pointer.lane} is damaged: {error}") from error
        into.outbox = header.outbox


def check_format(number: int, *, lane: str) -> None:
    """Raise LaneError for a format that a newer version of the processor wrote."""
    if number > FORMAT:
        raise LaneError(f"lane {lane} has format {number}, of a newer version; this one reads up to {FORMAT}")
