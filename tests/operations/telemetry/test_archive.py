"""The table is over the prefixes and fields that the processor writes."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from click.testing import CliRunner, Result

from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.telemetry.archive import table_statement
from fleet_iot.sensor_processor.adapters.archive import readings_objects
from fleet_iot.sensor_processor.ingest.batch import Batch, parse_batch
from fleet_iot.sensor_processor.ingest.catalogue import parse_catalogue
from tests.places import SAMPLE


def invoke(*arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(SAMPLE)
        patch.delenv("ENVIRONMENT_SUFFIX", raising=False)
        return CliRunner().invoke(main, ["archive", "query", *arguments])


def batch() -> Batch:
    from benchmarks.processor import CATALOGUE, make_event

    catalogue = parse_catalogue(json.dumps(CATALOGUE).encode())
    return parse_batch(make_event(0, records=3, devices=3), catalogue=catalogue, suffix="dev")


def test_columns_are_the_fields_of_the_archives_lines() -> None:
    """Every field of a line is a column or a part of the prefix."""
    (entry,) = readings_objects(batch().readings, shard="shardId-000000000000")
    line = json.loads(gzip.decompress(entry.body).splitlines()[0])
    statement = table_statement("b", facilities=["sg-01"], device_types=["press-monitor"])

    assert set(line) == set(re.findall(r"^  (\w+) (?:string|bigint)", statement, re.MULTILINE)) | {
        "facility",
        "device_type",
    }
    template = re.search(r"s3://b/(raw/facility=\S+)'", statement)
    assert template is not None
    filled = template[1]
    for name in ("facility", "device_type", "date"):
        (value,) = re.findall(rf"{name}=([^/]+)/", entry.key)
        filled = filled.replace(f"${{{name}}}", value)
    assert entry.key.startswith(filled)


def test_the_command_prints_what_athena_takes() -> None:
    """Two statements with the fleet's own bucket, plants and types; the query for what was asked."""
    printed = invoke(
        "--facility", "sg-01", "--device-type", "compressor", "--metric", "pressure", "--date", "2026-11-23"
    )

    assert 0 == printed.exit_code
    assert "LOCATION 's3://bucket-mfg-raw-archive-dev/raw/'" in printed.output
    assert "'my-jb-01,sg-01,th-ry-01'" in printed.output
    assert """facility = 'sg-01' AND device_type = 'compressor' AND "date" = '2026-11-23'""" in printed.output
    assert 2 == printed.output.count(";")


def test_the_bucket_is_that_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bucket names are global and include the account; where it is not given, a note on stderr says so."""
    assert "note: the bucket's name lacks the AWS account" in invoke().stderr
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "123456789012")
    printed = invoke()
    assert "'s3://bucket-mfg-raw-archive-123456789012-dev/raw/'" in printed.stdout
    assert printed.stderr == ""


def test_unknown_names_are_refused() -> None:
    """A name that the manifest does not have is a fault of usage, with those that there are."""
    assert (2, True) == ((done := invoke("--device-type", "x")).exit_code, "compressor" in done.output)
    assert (2, True) == ((done := invoke("--metric", "x")).exit_code, "there are" in done.output)
    assert 2 == invoke("--facility", "nowhere").exit_code
