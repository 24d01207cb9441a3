"""The benchmarks run, print what a program reads, and measure what `fleet generate` uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks import credentials, generate_rows, hops, memory, onboarding, processor, synthesis, units, validate
from benchmarks.__main__ import BENCHMARKS
from fleet_iot.generator import pipeline
from fleet_iot.generator.manifest.load import validate as validate_manifest
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.generator.output import writer
from fleet_iot.generator.plan.build import plan_fleet

ROOT = Path(__file__).parents[2]
KEYS = ["benchmark", "unit", "ours", "peers", "limit", "ratio_to", "share_of_limit", "peak_memory_mb", "details"]


@pytest.mark.slow
def test_rows_are_measured_beside_their_peer_and_the_limit() -> None:
    """The object has the keys that programs read, and ratios that are those of its rates."""
    result = generate_rows.run(1, things=2_000, facilities=4)
    document = json.loads(json.dumps(result.document()))
    assert KEYS == list(document)
    assert ("generate_rows", "rows/s", ["json_dumps"]) == (
        document["benchmark"],
        document["unit"],
        list(document["peers"]),
    )
    assert document["ratio_to"]["json_dumps"] == pytest.approx(result.ours / result.peers["json_dumps"], abs=0.01)
    assert document["share_of_limit"] == pytest.approx(result.ours / result.limit, abs=0.001)
    assert (2_000, 4) == (document["details"]["things"], document["details"]["facilities"])
    assert 0 < document["peak_memory_mb"]


@pytest.mark.slow
def test_validation_is_measured_on_a_valid_manifest() -> None:
    """A manifest of about as many lines as asked for has no fault."""
    document = validate.run(1, lines=500).document()
    assert KEYS == list(document)
    assert ("validate", ["csafeloader"]) == (document["benchmark"], list(document["peers"]))
    assert 480 <= document["details"]["lines"] <= 500


@pytest.mark.slow
def test_the_processor_is_measured_beside_its_peers_and_the_floor() -> None:
    """All contestants get the same batches, and the stub at the other end holds every reading of each."""
    document = json.loads(json.dumps(processor.run(1, records=60, devices=20, learned=2).document()))
    assert KEYS == list(document)
    assert ("processor", ["put_item", "powertools"]) == (document["benchmark"], list(document["peers"]))
    assert 0 < document["share_of_limit"] < 1
    assert ["ours", "limit", "put_item", "powertools"] == list(document["details"]["cpu_us_a_record"])


@pytest.mark.slow
def test_a_cold_start_costs_little_more_than_boto3() -> None:
    """Start to first batch acknowledged takes at most 1.3 times what boto3 with the same clients and calls takes."""
    document = json.loads(json.dumps(processor.run_cold_start(5).document()))
    assert KEYS == list(document)
    cpu = document["details"]["cpu_s"]
    assert cpu["ours"] <= 1.3 * cpu["boto3"]


def test_rows_go_through_the_writer_of_generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmark and command hand the same generator's chunks to the same writer."""
    given: list[str] = []
    own = writer.Staging.add

    def noting(self: writer.Staging, path: str, chunks: Any) -> str:
        given.append(f"{path} by {getattr(chunks, '__qualname__', '')}")
        return own(self, path, chunks)

    monkeypatch.setattr(writer.Staging, "add", noting)
    text = json.dumps(generate_rows.manifest_data(things=20, facilities=2))
    manifest = validate_manifest(parse_document(text, name="fleet.yaml"))
    pipeline.generate(manifest, tmp_path, facilities=(), force=False)
    command = [each for each in given if ".jsonl" in each]
    given.clear()
    generate_rows.write_rows(plan_fleet(manifest), tmp_path / "benchmark")
    assert [f"sg_00{number}/things.jsonl by _things_file" for number in (1, 2)] == given == command


@pytest.mark.cdktf
@pytest.mark.skipif("FLEET_SYNTHESIS" not in os.environ, reason="FLEET_SYNTHESIS: four syntheses, in make soak")
def test_synthesis_is_measured_with_all_its_blocks_beside_a_construct_for_each() -> None:
    """Both ways give the same blocks, five a thing, or the benchmark fails; CPU of few and many is told."""
    document = json.loads(json.dumps(synthesis.run(1, few=2, many=20).document()))
    assert KEYS == list(document)
    assert ("synthesis", ["construct_each"]) == (document["benchmark"], list(document["peers"]))
    details = document["details"]
    assert (100, [20] * 5) == (details["blocks"], list(details["blocks_by_type"].values()))
    assert details["cpu_2"] > 0.5
    assert details["cpu_20_times_2"] == pytest.approx(details["cpu_20"] / details["cpu_2"], abs=0.01)


@pytest.mark.slow
def test_credentials_are_measured_beside_their_peers_and_verified() -> None:
    """openssl finds every certificate good."""
    document = json.loads(json.dumps(credentials.run(1, devices=200, openssl_devices=1).document()))
    assert KEYS == list(document)
    assert ("credentials", ["openssl", "builders"]) == (document["benchmark"], list(document["peers"]))
    assert 200 == document["details"]["verified_by_openssl"]
    assert document["ratio_to"]["openssl"] > 50


@pytest.mark.slow
def test_onboarding_is_measured_against_the_quotas() -> None:
    """Every pair is verified, nothing is throttled, and the limit is that of the slowest API."""
    document = json.loads(json.dumps(onboarding.run(1, devices=60, scale=4.0).document()))
    assert KEYS == list(document)
    assert ("onboarding", 15.0) == (document["benchmark"], document["limit"])
    details = document["details"]
    assert (60, 0, 60, 4.0) == tuple(details[key] for key in ("devices", "throttles", "verified_pairs", "time_scale"))
    assert details["calls_a_device"] == pytest.approx(4, abs=0.1)


@pytest.mark.slow
def test_units_of_a_reading_are_counted_beside_the_peers() -> None:
    """Each interval has its units and times, no minute lacks a message, and a peer's reading costs one unit."""
    document = json.loads(json.dumps(units.run(1, devices=12, minutes=1, peer_readings=10).document()))
    assert KEYS == list(document)
    assert ("units", {"put_item": 1.0, "batch_writer": 1.0}) == (document["benchmark"], document["peers"])
    for name, interval_s in units.INTERVALS.items():
        found = document["details"][name]
        assert 12 * 60 / interval_s == found["readings"]
        assert (4, 0) == (found["shards"], found["minutes_incomplete"])
        assert found["write_units"] > 0
        assert found["s3_puts"] > 0
        assert found["minute_readable_s"]["max"] <= 60 + 2 * units.WINDOW_S


def test_a_large_fleet_is_sampled_by_shard() -> None:
    """A shard for each 800 records a second, a power of two; the devices of four of them are simulated."""
    assert [4, 4, 16] == [units.shards_for(devices, 10) for devices in (100, 32_000, 100_000)]
    sampled = units.senders(4_000, shards=16, dice=Random(1))
    assert 900 < len(sampled) < 1_100
    assert {0, 1, 2, 3} == {sender.shard for sender in sampled}


@pytest.mark.slow
def test_peak_memory_is_that_of_the_function() -> None:
    """A process of its own handles a day's readings and the batch after midnight, and says what it used at most."""
    document = json.loads(json.dumps(memory.run(1, devices=4).document()))
    assert KEYS == list(document)
    peaks = document["details"]["peak_mb"]
    assert 20 < peaks["first_reading"] <= peaks["ordinary"] <= peaks["midnight"] < document["details"]["function_mb"]


@pytest.mark.slow
def test_two_trees_are_measured_with_the_same_batches() -> None:
    """Another checkout, here the same, gets the batches of this one in the same run."""
    document = json.loads(json.dumps(hops.run(2, against=ROOT, records=40, devices=10).document()))
    assert KEYS == list(document)
    assert ("hops", ["other"]) == (document["benchmark"], list(document["peers"]))
    assert 0.2 < document["details"]["times_other"] < 5


@pytest.mark.slow
def test_command_line_prints_one_object() -> None:
    """`--json` prints one JSON object and nothing else; a name that there is not is refused with the names."""
    command = [sys.executable, "-m", "benchmarks"]
    refused = subprocess.run([*command, "nothing"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 2 == refused.returncode
    assert all(name in refused.stderr for name in BENCHMARKS)


def test_text_names_every_peer_with_its_ratio() -> None:
    """Without `--json` a person reads the same."""
    text = validate.run(1, lines=100).text()
    assert text.startswith("validate: ")
    assert "times csafeloader" in text
    assert "% of the limit" in text
