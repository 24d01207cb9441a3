"""Keys and manifests of the archive; plain data, for the compactor and for readers.

    raw/date=D/hour=HH/…                                   one object a batch, of all plants: NDJSON, gzip
    archive/facility=F/device_type=T/date=D/…              Parquet, by hour, later by day
    compaction/date=D/hour-HH-0001.json.gz, day-0001.…     manifests, written once
    compaction/date=D/day-0001.listed                      empty: the lists had the objects of this manifest
    tables/telemetry/facility=F/device_type=T/date=D/…     the list of objects that Athena reads

Dates and hours are those in which the stream received the record (UTC), so a redelivered record is in the same hour.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

RAW, ARCHIVE, COMPACTION, TABLE = "raw/", "archive/", "compaction/", "tables/telemetry/"

LIST_NAME = "objects.txt"

FORMAT = 1
"""Version of rows and manifests; part of each object's name, so that a new one never overwrites objects of this."""

COLUMN_PREFIX = "metric_"

_RAW_KEY = re.compile(r"raw/date=(\d{4}-\d\d-\d\d)/hour=(\d\d)/([^/]+)\.ndjson\.gz", re.ASCII)
_RAW_NAME = re.compile(r"(.*)-(\d+)-(\d+)-(\d+)", re.ASCII)
_MANIFEST_KEY = re.compile(r"compaction/date=\d{4}-\d\d-\d\d/(?:hour-(\d\d)|day)-(\d{4})\.json\.gz", re.ASCII)


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet object: readings as rows, from `records` lines of the raw archive, identified by `digest`."""

    key: str
    facility: str
    device_type: str
    rows: int
    records: int
    digest: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawObject:
    """A raw object: records of one shard, whose sequence numbers are in order: the first, the last and how many."""

    key: str
    shard: str
    first: int
    last: int
    records: int

    def overlaps(self, other: RawObject) -> bool:
        """Return whether both may have the same record."""
        return self.shard == other.shard and self.first <= other.last and other.first <= self.last


class HourManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of an hour: which raw objects became which Parquet objects. A late raw object makes a further one.

    `lines` are those of the raw objects; `records` of them are distinct and in no earlier generation.
    """

    date: str
    hour: str
    generation: int
    inputs: tuple[str, ...]
    lines: int
    records: int
    outputs: tuple[Output, ...]
    format: int = FORMAT


class DayManifest(msgspec.Struct, frozen=True, kw_only=True):
    """A date's objects, in place of those of `hours` (hour → its number of generations) and of its former manifests.

    `inputs` counts the raw objects of the hours; manifests of earlier versions have 0.
    """

    date: str
    generation: int
    hours: dict[str, int]
    records: int
    outputs: tuple[Output, ...]
    inputs: int = 0
    format: int = FORMAT


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a run with a day until its time was over; void where the day has changed since.

    Args:
        step: `merge` or `verify`.
        hours: Hour → its generations, of the day that is merged or verified.
        generation: The generation that is being merged, or that is being verified.
        done: Objects that were merged, or verified.
        outputs: Objects that were made of them; none of a verification.
    """

    step: str
    hours: dict[str, int]
    generation: int
    done: int
    outputs: tuple[Output, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class DateState:
    """State of a date by its manifests.

    Args:
        day: The newest of the day.
        hours: Those that it does not include.
        generations: Hour → its newest generation.
        compacted: Raw objects that are in any of them.
        replaced: Parquet objects whose rows are in others now.
        manifests: All that it was made of.
    """

    date: str
    day: DayManifest | None
    hours: tuple[HourManifest, ...]
    generations: Mapping[str, int]
    compacted: frozenset[str]
    replaced: frozenset[str]
    manifests: tuple[HourManifest | DayManifest, ...]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The objects that have each compacted record once."""
        fresh = [output for hour in self.hours for output in hour.outputs]
        return (*(self.day.outputs if self.day else ()), *fresh)


def state_of(date: str, manifests: Iterable[HourManifest | DayManifest]) -> DateState:
    """Combine all manifests of a date."""
    found = list(manifests)
    days = [each for each in found if isinstance(each, DayManifest)]
    hours = sorted((each for each in found if isinstance(each, HourManifest)), key=lambda at: (at.hour, at.generation))
    day = max(days, key=lambda at: at.generation, default=None)
    merged = day.hours if day else {}
    fresh = tuple(each for each in hours if each.generation > merged.get(each.hour, 0))
    current = {output.key for each in (*fresh, *([day] if day else ())) for output in each.outputs}
    return DateState(
        date=date,
        day=day,
        hours=fresh,
        generations={each.hour: each.generation for each in hours},
        compacted=frozenset(key for each in hours for key in each.inputs),
        replaced=frozenset(output.key for each in found for output in each.outputs) - current,
        manifests=tuple(found),
    )


def raw_hour(key: str) -> tuple[str, str] | None:
    """Return date and hour of a raw object's key; None for other keys."""
    found = _RAW_KEY.fullmatch(key)
    return (found[1], found[2]) if found else None


def raw_object(key: str) -> RawObject:
    """Return what the key of a raw object says. Raises ValueError for the key of another."""
    found = _RAW_KEY.fullmatch(key)
    named = _RAW_NAME.fullmatch(found[3]) if found else None
    if named is None:
        raise ValueError(f"{key} is not the name of a raw object")
    return RawObject(key=key, shard=named[1], first=int(named[2]), last=int(named[3]), records=int(named[4]))


def raw_prefix(date: str, hour: str = "") -> str:
    return f"{RAW}date={date}/" + (f"hour={hour}/" if hour else "")


def manifest_prefix(date: str) -> str:
    return f"{COMPACTION}date={date}/"


def progress_key(date: str) -> str:
    return f"{manifest_prefix(date)}progress.json.gz"


def manifest_key(manifest: HourManifest | DayManifest) -> str:
    kind = f"hour-{manifest.hour}" if isinstance(manifest, HourManifest) else "day"
    return f"{manifest_prefix(manifest.date)}{kind}-{manifest.generation:04d}.json.gz"


def listed_key(day: DayManifest) -> str:
    """Return the key of the empty object which says that all lists had the objects of a day's manifest."""
    return f"{manifest_prefix(day.date)}day-{day.generation:04d}.listed"


def partition_prefix(facility: str, device_type: str, date: str, *, below: str = ARCHIVE) -> str:
    return f"{below}facility={facility}/device_type={device_type}/date={date}/"


def is_settled(keys: Collection[str], day: DayManifest) -> bool:
    """Return whether, by the keys below a date's manifests, a day has every hour's generations and is in the lists."""
    found = (_MANIFEST_KEY.fullmatch(key) for key in keys)
    has_all = all(day.hours.get(each[1], 0) >= int(each[2]) for each in found if each and each[1])
    return has_all and listed_key(day) in keys


def newest_day(keys: Iterable[str]) -> str | None:
    """Return the key of a date's newest manifest of the day."""
    found = [match for key in keys if (match := _MANIFEST_KEY.fullmatch(key)) and not match[1]]
    return max(found, key=lambda each: int(each[2]))[0] if found else None


def encode_manifest(manifest: HourManifest | DayManifest | Progress) -> bytes:
    """Encode a manifest; the same one always gives the same bytes."""
    return gzip.compress(msgspec.json.encode(manifest), compresslevel=6, mtime=0)


def is_manifest(key: str) -> bool:
    """Return whether a key is that of a manifest."""
    return _MANIFEST_KEY.fullmatch(key) is not None


def decode_manifest(key: str, body: bytes) -> HourManifest | DayManifest | None:
    """Decode a manifest; None where the key is none of a manifest."""
    found = _MANIFEST_KEY.fullmatch(key)
    if found is None:
        return None
    content = gzip.decompress(body)
    if found[1]:
        return msgspec.json.decode(content, type=HourManifest)
    return msgspec.json.decode(content, type=DayManifest)


def decode_progress(body: bytes) -> Progress:
    """Decode what `encode_manifest` made of a progress."""
    return msgspec.json.decode(gzip.decompress(body), type=Progress)


def name_of(inputs: Iterable[str], *, columns: Iterable[str], writer: str) -> str:
    """Return what distinguishes the object that this writer makes of these inputs, with these columns, from others."""
    digest = hashlib.sha256(f"{FORMAT} {writer}\n".encode())
    for text in (*inputs, "", *columns):
        digest.update(f"{text}\n".encode())
    return digest.hexdigest()[:16]


def digest_of(sequence_numbers: Iterable[str]) -> str:
    """Return a digest of a set of sequence numbers, whatever their order: the sum of their hashes."""
    total = 0
    for number in sequence_numbers:
        total += int.from_bytes(hashlib.blake2b(number.encode(), digest_size=16).digest())
    return f"{total % 2**128:032x}"


def joined_digest(digests: Iterable[str]) -> str:
    """Return the digest of the union of disjoint sets."""
    return f"{sum(int(each, 16) for each in digests) % 2**128:032x}"


def column_of(metric: str) -> str:
    """Return the column of a metric. Names that Athena cannot have, as it knows no upper case, get a hash."""
    plain = re.sub(r"[^a-z0-9_]", "_", metric.lower())
    unique = "" if plain == metric else f"_{hashlib.sha256(metric.encode()).hexdigest()[:6]}"
    return f"{COLUMN_PREFIX}{plain}{unique}"


def object_list(bucket: str, outputs: Iterable[Output]) -> bytes:
    """Return the list that Athena reads in place of a prefix: a URL a line."""
    return "".join(f"s3://{bucket}/{key}\n" for key in sorted(each.key for each in outputs)).encode()


def by_partition(outputs: Iterable[Output]) -> Iterator[tuple[tuple[str, str], list[Output]]]:
    """Group objects by facility and device type."""
    groups: dict[tuple[str, str], list[Output]] = {}
    for output in outputs:
        groups.setdefault((output.facility, output.device_type), []).append(output)
    yield from sorted(groups.items())
