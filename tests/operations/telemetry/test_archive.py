"""The table is over the lists and columns that the compactor writes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from fleet_iot.archive_compactor.layout import TABLE, column_of, partition_prefix
from fleet_iot.archive_compactor.rows import FIXED_COLUMNS
from fleet_iot.generator.cli.commands import main
from fleet_iot.operations.telemetry.archive import table_statement
from tests.places import SAMPLE


def invoke(*arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(SAMPLE)
        patch.delenv("ENVIRONMENT_SUFFIX", raising=False)
        return CliRunner().invoke(main, ["archive", "query", *arguments])


STATEMENT = table_statement(
    "b", facilities=["sg-01"], device_types=["press-monitor"], metrics=["temperature", "Flow.Rate"]
)


def test_columns_are_those_of_the_objects() -> None:
    """The table has the columns that the compactor writes, in its order, then the metrics'."""
    columns = re.findall(r"^  (\w+) (?:string|bigint|int|timestamp|binary|double)\b", STATEMENT, re.MULTILINE)

    assert columns == [*FIXED_COLUMNS, column_of("Flow.Rate"), "metric_temperature"]


def test_partitions_are_where_the_compactor_puts_its_lists() -> None:
    """The location template, filled in, is the prefix of the list of a date's objects."""
    template = re.search(r"'s3://b/(tables/\S+date}/)'", STATEMENT)
    assert template is not None
    values = {"${facility}": "sg-01", "${device_type}": "press-monitor", "${date}": "2026-11-23"}
    filled = template[1]
    for name, value in values.items():
        filled = filled.replace(name, value)

    assert filled == partition_prefix("sg-01", "press-monitor", "2026-11-23", below=TABLE)


def test_the_command_prints_what_athena_takes() -> None:
    """Two statements with the fleet's own bucket, plants and types; the query for what was asked."""
    printed = invoke(
        "--facility", "sg-01", "--device-type", "compressor", "--metric", "pressure", "--date", "2026-11-23"
    )

    assert 0 == printed.exit_code
    assert "LOCATION 's3://bucket-mfg-raw-archive-dev/tables/telemetry/'" in printed.output
    assert "'my-jb-01,sg-01,th-ry-01'" in printed.output
    assert """facility = 'sg-01' AND device_type = 'compressor' AND "date" = '2026-11-23'""" in printed.output
    assert "SELECT DISTINCT thing, taken_at, sequence, metric_pressure" in printed.output
    statements = [line for line in printed.output.splitlines() if not line.startswith("--")]
    assert 2 == "".join(statements).count(";")


def test_the_command_says_what_is_in_glacier() -> None:
    """Objects of dates more than 90 days ago are in Glacier; the commands that restore a day come with it."""
    printed = invoke("--facility", "sg-01", "--device-type", "compressor", "--date", "2026-01-05").output
    cold = (datetime.now(UTC) - timedelta(days=90)).date()

    assert f"In Glacier: objects from 128 kB on, of dates before {cold}" in printed
    assert "--prefix archive/facility=sg-01/device_type=compressor/date=2026-01-05/" in printed
    assert "aws s3api restore-object --bucket bucket-mfg-raw-archive-dev" in printed


def test_the_former_layout_has_a_table_of_its_own() -> None:
    """`--former` prints table, query and restore commands for the prefixes by plant and type below raw/."""
    printed = invoke("--former", "--facility", "sg-01", "--device-type", "compressor", "--date", "2026-01-05").output

    assert "CREATE EXTERNAL TABLE IF NOT EXISTS telemetry (" in printed
    assert "'s3://bucket-mfg-raw-archive-dev/raw/facility=${facility}/device_type=${device_type}/" in printed
    assert "--prefix raw/facility=sg-01/device_type=compressor/date=2026-01-05/" in printed
    assert "readings (" not in printed.partition("WITH")[0]


def test_the_bucket_is_that_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bucket names are global and include the account; where it is not given, a note on stderr says so."""
    assert "note: the bucket's name lacks the AWS account" in invoke().stderr
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "123456789012")
    printed = invoke()
    assert "'s3://bucket-mfg-raw-archive-123456789012-dev/tables/telemetry/'" in printed.stdout
    assert printed.stderr == ""


def test_unknown_names_are_refused() -> None:
    """A name that the manifest does not have is a fault of usage, with those that there are."""
    assert (2, True) == ((done := invoke("--device-type", "x")).exit_code, "compressor" in done.output)
    assert (2, True) == ((done := invoke("--metric", "x")).exit_code, "there are" in done.output)
    assert 2 == invoke("--facility", "nowhere").exit_code
