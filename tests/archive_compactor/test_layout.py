"""Keys, manifests and columns of the archive."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from fleet_iot.archive_compactor.layout import (
    HourManifest,
    column_of,
    decode_manifest,
    digest_of,
    encode_manifest,
    joined_digest,
    manifest_key,
    raw_hour,
)

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", fullmatch=True)


@given(one=NAMES, other=NAMES)
def test_each_metric_has_a_column_of_its_own(one: str, other: str) -> None:
    """Columns have lower-case letters, digits and underscores, and two metrics never share one."""
    assert re.fullmatch(r"metric_[a-z0-9_]+", column_of(one))
    assert (column_of(one) == column_of(other)) is (one == other)


@given(numbers=st.sets(st.from_regex(r"[0-9]{1,56}", fullmatch=True)), data=st.data())
def test_the_digest_is_of_the_set(numbers: set[str], data: st.DataObject) -> None:
    """The digest of a set is that of its parts joined, in any order, and changes with each number."""
    part = data.draw(st.sets(st.sampled_from(sorted(numbers)))) if numbers else set()
    assert joined_digest([digest_of(part), digest_of(numbers - part)]) == digest_of(sorted(numbers))
    assert digest_of(numbers | {"x"}) != digest_of(numbers)


def test_keys_are_read_back() -> None:
    """Date and hour are in a raw object's key; other keys are none of a raw object or of a manifest."""
    manifest = HourManifest(date="2026-11-23", hour="14", generation=1, inputs=("a",), lines=1, records=1, outputs=())
    assert raw_hour("raw/date=2026-11-23/hour=14/shardId-000000000000-1-2-2.ndjson.gz") == ("2026-11-23", "14")
    assert raw_hour("raw/facility=sg-01/device_type=press/date=2026-11-23/a.ndjson.gz") is None
    assert decode_manifest(manifest_key(manifest), encode_manifest(manifest)) == manifest
    assert decode_manifest("compaction/date=2026-11-23/note.txt", b"") is None
