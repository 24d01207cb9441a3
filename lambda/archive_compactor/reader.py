"""Read the archive: each record once, whether it is compacted or still raw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from .bucket import Bucket
from .layout import (
    COMPACTION,
    RAW,
    DateState,
    decode_manifest,
    is_manifest,
    manifest_prefix,
    raw_hour,
    raw_prefix,
    state_of,
)
from .rows import from_parquet, lines_of, read_lines

THREADS = 8


def load_state(bucket: Bucket, day: str) -> DateState:
    """Read all manifests of a date."""
    keys = [each.key for each in bucket.list(manifest_prefix(day)) if is_manifest(each.key)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda key: decode_manifest(key, bucket.get(key)), keys)
        return state_of(day, [each for each in found if each is not None])


def archived_dates(bucket: Bucket) -> list[str]:
    """Return the dates that have anything."""
    folders = (name for prefix in (RAW, COMPACTION) for name in bucket.folders(prefix))
    return sorted({name.removeprefix("date=") for name in folders if name.startswith("date=")})


def archived_lines(bucket: Bucket, days: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Read the lines of dates, each record once: what is compacted, and the raw objects that are not yet."""
    for day in days:
        state = load_state(bucket, day)
        seen: set[str] = set()
        for output in state.outputs:
            batches = from_parquet(bucket.get(output.key))
            for line in lines_of(batches, facility=output.facility, device_type=output.device_type):
                seen.add(line["sequence_number"])
                yield line
        for each in bucket.list(raw_prefix(day)):
            if raw_hour(each.key) and each.key not in state.compacted:
                for raw in read_lines(bucket.get(each.key)):
                    if raw.sequence_number not in seen:
                        seen.add(raw.sequence_number)
                        yield msgspec.structs.asdict(raw)
