"""Read the archive: Athena's SQL for it, what of it is in Glacier, and the lines of its objects."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import Any

from fleet_iot.archive_compactor.bucket import Bucket
from fleet_iot.archive_compactor.layout import RAW, column_of, partition_prefix
from fleet_iot.archive_compactor.layout import TABLE as LISTS
from fleet_iot.archive_compactor.reader import archived_dates, archived_lines, load_state
from fleet_iot.lib.shared.context import COOLED_FROM_BYTES, GLACIER_AFTER_DAYS
from fleet_iot.operations.aws import Aws
from fleet_iot.operations.telemetry.redrive import deployed

TABLE, FORMER_TABLE = "readings", "telemetry"

_FIXED = """\
  sequence_number string COMMENT 'of the Kinesis record',
  reading int COMMENT 'from 0, within a message of several',
  thing string,
  client_id string,
  principal string COMMENT 'certificate id',
  arrived_at timestamp COMMENT 'when the stream took the record',
  received_at timestamp COMMENT 'the topic rule''s clock',
  trace_id string,
  taken_at timestamp COMMENT 'the device''s clock',
  sequence bigint COMMENT 'the device''s counter',
  raw binary COMMENT 'the message as the device sent it, in the row of its first reading'"""


def table_statement(
    bucket: str, *, facilities: Iterable[str], device_types: Iterable[str], metrics: Iterable[str]
) -> str:
    """Build the statement that creates the table over the archive's Parquet objects, which copies no data.

    Each partition is a list of objects, replaced as a whole when hours are merged into a day, so that a query sees each
    reading once. Partitions are computed from the names of the prefixes, so that no crawler is needed:
    https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-athena-query.html (lists of Parquet objects)
    """
    columns = "".join(f",\n  {column_of(name)} double" for name in sorted(set(metrics)))
    return f"""\
CREATE EXTERNAL TABLE IF NOT EXISTS {TABLE} (
{_FIXED}{columns}
)
PARTITIONED BY (facility string, device_type string, `date` string)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.IgnoreKeyTextOutputFormat'
LOCATION 's3://{bucket}/{LISTS}'
TBLPROPERTIES (
  'read_restored_glacier_objects' = 'true',
{_projection(facilities, device_types)}
  'storage.location.template' =
    's3://{bucket}/{partition_prefix("${facility}", "${device_type}", "${date}", below=LISTS)}'
);"""


def query_statement(*, facility: str, device_type: str, metric: str, day: date) -> str:
    """Build a query for each reading of a metric on a day, once, even if the device sent it again."""
    column = column_of(metric)
    return f"""\
SELECT DISTINCT thing, taken_at, sequence, {column}
FROM {TABLE}
WHERE facility = '{facility}' AND device_type = '{device_type}' AND "date" = '{day.isoformat()}'
  AND {column} IS NOT NULL
ORDER BY thing, taken_at
LIMIT 1000;"""  # noqa: S608 - the ids are the manifest's, which its patterns keep free of quotes


def former_table_statement(bucket: str, *, facilities: Iterable[str], device_types: Iterable[str]) -> str:
    """Build the statement that creates the table over what versions up to 0.3 archived, by plant and type."""
    return f"""\
CREATE EXTERNAL TABLE IF NOT EXISTS {FORMER_TABLE} (
  sequence_number string COMMENT 'of the Kinesis record: one that was delivered twice is twice in the archive',
  thing string,
  client_id string,
  principal string COMMENT 'certificate id',
  received_at bigint COMMENT 'the topic rule''s clock, ms',
  trace_id string,
  raw string COMMENT 'base64 of the message as the device sent it'
)
PARTITIONED BY (facility string, device_type string, `date` string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://{bucket}/raw/'
TBLPROPERTIES (
{_projection(facilities, device_types)}
  'storage.location.template' =
    's3://{bucket}/raw/facility=${{facility}}/device_type=${{device_type}}/date=${{date}}/'
);"""


def former_query_statement(*, facility: str, device_type: str, metric: str, day: date) -> str:
    """Build a query for each reading of a metric on a day, in what versions up to 0.3 archived."""
    return f"""\
WITH records AS (
  SELECT sequence_number, arbitrary(thing) AS thing, arbitrary(raw) AS raw
  FROM {FORMER_TABLE}
  WHERE facility = '{facility}' AND device_type = '{device_type}' AND "date" = '{day.isoformat()}'
  GROUP BY sequence_number
),
messages AS (
  SELECT thing, json_parse(from_utf8(from_base64(raw))) AS message FROM records
),
readings AS (
  SELECT thing, reading
  FROM messages
  CROSS JOIN UNNEST(IF(json_array_length(message) IS NULL, ARRAY[message], CAST(message AS ARRAY(JSON)))) AS t (reading)
)
SELECT DISTINCT
  thing,
  from_unixtime(CAST(json_extract_scalar(reading, '$.time') AS bigint) / 1000.0) AS taken_at,
  json_extract_scalar(reading, '$.sequence') AS sequence,
  CAST(json_extract_scalar(reading, '$.metrics["{metric}"]') AS double) AS "{metric}"
FROM readings
WHERE json_extract_scalar(reading, '$.metrics["{metric}"]') IS NOT NULL
ORDER BY thing, taken_at
LIMIT 1000;"""  # noqa: S608 - the ids are the manifest's, which its patterns keep free of quotes


def glacier_note(
    bucket: str, *, facility: str, device_type: str, day: date, today: date, is_former: bool = False
) -> str:
    """Say what of the archive is in Glacier, and how to restore a day of one facility and device type."""
    below = {"below": RAW} if is_former else {}
    prefix = partition_prefix(facility, device_type, day.isoformat(), **below)
    return f"""\
-- In Glacier: objects from {COOLED_FROM_BYTES // 1024} kB on, of dates before {cold_before(today).isoformat()}. \
Athena cannot read them until they are restored
-- (3 to 5 hours; then for 7 days):
--   aws s3api list-objects-v2 --bucket {bucket} --prefix {prefix} \\
--     --query 'Contents[?StorageClass==`GLACIER`].[Key]' --output text |
--   xargs -I KEY aws s3api restore-object --bucket {bucket} --key KEY \\
--     --restore-request 'Days=7,GlacierJobParameters={{Tier=Standard}}'"""


def cold_before(today: date) -> date:
    """Return the first date whose objects cannot be in Glacier yet."""
    return today - timedelta(days=GLACIER_AFTER_DAYS)


def compact(aws: Aws, function: str, *, is_early: bool) -> dict[str, Any]:
    """Run the deployed compactor now; return what it did. Raises FunctionError where it raised or timed out.

    Args:
        is_early: Also compact the hour and the day that are not over.
    """
    with deployed(aws, function) as invoke:
        return dict(invoke({"early": is_early}) or {})


def object_keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """List the keys of a bucket below a prefix."""
    for entry in Bucket(client=s3, name=bucket).list(prefix):
        yield entry.key


def stored_lines(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the objects of gzip NDJSON below a prefix: the key of each line's object, and the line."""
    for key in object_keys(s3, bucket, prefix):
        if key.endswith(".ndjson.gz"):
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            for line in gzip.decompress(body).splitlines():
                yield key, json.loads(line)


def compacted_objects(s3: Any, bucket: str) -> list[str]:
    """List the Parquet objects that count, by the archive's manifests."""
    archive = Bucket(client=s3, name=bucket)
    return [each.key for day in archived_dates(archive) for each in load_state(archive, day).outputs]


def archived_records(s3: Any, bucket: str) -> Iterator[dict[str, Any]]:
    """Read the archive's lines, each record once, whether it is compacted or not."""
    archive = Bucket(client=s3, name=bucket)
    return archived_lines(archive, archived_dates(archive))


def _projection(facilities: Iterable[str], device_types: Iterable[str]) -> str:
    """Build the properties by which Athena finds partitions without a catalogue of them."""
    return f"""\
  'projection.enabled' = 'true',
  'projection.facility.type' = 'enum',
  'projection.facility.values' = '{",".join(sorted(facilities))}',
  'projection.device_type.type' = 'enum',
  'projection.device_type.values' = '{",".join(sorted(device_types))}',
  'projection.date.type' = 'date',
  'projection.date.format' = 'yyyy-MM-dd',
  'projection.date.range' = '2026-01-01,NOW',"""
