"""A plant's part of the raw archive: its prefixes, made visible, and their tiering."""

from __future__ import annotations

import json
from pathlib import Path

from ..bindings import (
    Construct,
    S3BucketIntelligentTieringConfiguration,
    S3BucketIntelligentTieringConfigurationFilter,
    S3BucketIntelligentTieringConfigurationTiering,
    S3Object,
    S3ObjectOverrideProvider,
    S3ObjectOverrideProviderDefaultTags,
)
from ..names import PlatformNames
from ..specs import FacilitySpec

ARCHIVE_ACCESS_DAYS = 90
DEEP_ARCHIVE_ACCESS_DAYS = 180
"""Days without access until an object in Intelligent-Tiering sinks: the least that AWS allows for each tier."""


class FacilityArchive:
    """A marker object a prefix (`raw/facility=…/device_type=…/`), and Intelligent-Tiering's archive tiers below.

    Without markers where objects are locked: these would keep a plant from being removed for years.
    """

    def __init__(
        self, scope: Construct, *, names: PlatformNames, facility: FacilitySpec, folder: Path, has_markers: bool
    ) -> None:
        declared = json.loads((folder / "prefixes.json").read_text(encoding="utf-8"))
        self.prefixes = tuple(entry["prefix"] for entry in declared["prefixes"])
        for entry in declared["prefixes"] if has_markers else ():
            S3Object(
                scope,
                f"prefix-{facility.id}-{entry['device_type']}",
                bucket=names.raw_archive,
                key=entry["prefix"],
                content_type="application/x-directory",
                # No tags: those of every resource may be fifty, and S3 takes ten an object.
                # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
                override_provider=S3ObjectOverrideProvider(default_tags=S3ObjectOverrideProviderDefaultTags(tags={})),
            )
        S3BucketIntelligentTieringConfiguration(
            scope,
            f"tiering-{facility.id}",
            bucket=names.raw_archive,
            name=names.named(f"tiering-{facility.id}"),
            filter=S3BucketIntelligentTieringConfigurationFilter(prefix=f"raw/facility={facility.id}/"),
            tiering=[
                S3BucketIntelligentTieringConfigurationTiering(access_tier="ARCHIVE_ACCESS", days=ARCHIVE_ACCESS_DAYS),
                S3BucketIntelligentTieringConfigurationTiering(
                    access_tier="DEEP_ARCHIVE_ACCESS", days=DEEP_ARCHIVE_ACCESS_DAYS
                ),
            ],
        )
