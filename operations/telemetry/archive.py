"""Read the raw archive: Athena's SQL for it, and the lines of its objects."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

TABLE = "telemetry"


def table_statement(bucket: str, *, facilities: Iterable[str], device_types: Iterable[str]) -> str:
    """Build the statement that creates the table over the archive's bucket, which copies no data.

    Partitions are computed from the names of the prefixes, so that no crawler is needed:
    https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html
    """
    return f"""\
CREATE EXTERNAL TABLE IF NOT EXISTS {TABLE} (
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
  'projection.enabled' = 'true',
  'projection.facility.type' = 'enum',
  'projection.facility.values' = '{",".join(sorted(facilities))}',
  'projection.device_type.type' = 'enum',
  'projection.device_type.values' = '{",".join(sorted(device_types))}',
  'projection.date.type' = 'date',
  'projection.date.format' = 'yyyy-MM-dd',
  'projection.date.range' = '2026-01-01,NOW',
  'storage.location.template' =
    's3://{bucket}/raw/facility=${{facility}}/device_type=${{device_type}}/date=${{date}}/'
);"""


def query_statement(*, facility: str, device_type: str, metric: str, day: date) -> str:
    """Build a query for each reading of a metric on a day, once, whether it was sent on its own or in an array."""
    return f"""\
WITH records AS (
  SELECT sequence_number, arbitrary(thing) AS thing, arbitrary(raw) AS raw
  FROM {TABLE}
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


def object_keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """List the keys of a bucket below a prefix."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            yield entry["Key"]


def stored_lines(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the objects of gzip NDJSON below a prefix: the key of each line's object, and the line."""
    for key in object_keys(s3, bucket, prefix):
        if key.endswith(".ndjson.gz"):
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            for line in gzip.decompress(body).splitlines():
                yield key, json.loads(line)
