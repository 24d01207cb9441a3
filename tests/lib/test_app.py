"""The program `python -m lib.app` and the manifest lines in its errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.project import lifted_manifest, make_project
from benchmarks.synthesis import manifest_data
from fleet_iot.lib.app import find_place
from tests.places import SAMPLE


def _app(project: Path = SAMPLE, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FLEET_", "TERRAFORM_", "ENVIRO"))}
    return subprocess.run(
        [sys.executable, "-m", "fleet_iot.lib.app"],
        cwd=project,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bad_setting_is_told_before_anything_is_loaded() -> None:
    """One sentence, one remedy, no traceback; exit 2, as for an unknown `--facility`."""
    done = _app(FLEET_FACILITIES="atlantis")
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error == "error: FLEET_FACILITIES names 'atlantis', which is no generated facility."
    assert hint.startswith("hint: Choose from my-jb-01, sg-01, th-ry-01")


def test_without_an_account_nothing_is_synthesised(tmp_path: Path) -> None:
    """Bucket names are global and hold the account; both ways to give it are said, exit 7."""
    done = _app(FLEET_OUTDIR=str(tmp_path / "out"))
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (7, "", [])
    error, hint = done.stderr.splitlines()
    assert error == "error: the AWS account is not given, and bucket names, which are global, contain it."
    assert "`account_id` in fleet.yaml" in hint
    assert "FLEET_ACCOUNT_ID" in hint


@pytest.mark.cdktf
def test_a_bad_csr_line_is_told_with_its_place(tmp_path: Path) -> None:
    """File and line, exit 7, nothing synthesised."""
    file = tmp_path / "identities" / "tst" / "sg-01.csrs.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"thing":"sg-01-x-tst","csr":"none"}\n')
    done = _app(
        ENVIRONMENT_SUFFIX="tst",
        FLEET_ACCOUNT_ID="123456789012",
        FLEET_FACILITIES="sg-01",
        FLEET_IDENTITIES=str(tmp_path / "identities"),
        FLEET_OUTDIR=str(tmp_path / "out"),
    )
    assert done.returncode == 7
    assert done.stderr.startswith(f"error: {file}:1: no PEM certificate request")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.cdktf
def test_one_facility_is_synthesised_into_a_folder_that_is_not_there_yet(
    tmp_path: Path, csr: Callable[[str], str]
) -> None:
    """stdout names the stacks to apply, without the endpoint that stays a week; stderr counts the missing CSRs."""
    outdir = tmp_path / "deep" / "out"
    done = _app(
        ENVIRONMENT_SUFFIX="tst",
        FLEET_ACCOUNT_ID="123456789012",
        FLEET_FACILITIES="sg-01",
        FLEET_IDENTITIES=str(tmp_path),
        FLEET_OUTDIR=str(outdir),
    )
    assert (done.returncode, done.stdout.split()) == (0, ["tap-tst", "facility-sg-01-tst"])
    assert done.stderr.startswith("note: sg-01: 70 of 70 things have no CSR yet")
    synthesised = sorted(path.name for path in (outdir / "stacks").iterdir())
    assert synthesised == ["endpoint-tst", "facility-sg-01-tst", "tap-tst"]


@pytest.mark.cdktf
def test_a_certificate_is_made_of_the_csr_that_it_was_made_of(tmp_path: Path, csr: Callable[[str], str]) -> None:
    """Line ends change nothing in a stack; the first synthesis locks each CSR, and another one stops the next."""
    file = tmp_path / "identities" / "tst" / "sg-01.csrs.jsonl"
    file.parent.mkdir(parents=True)
    csrs = {f"sg-01-press-monitor-000{number}-tst": csr("x") for number in (1, 2)}

    def synthesised(csrs: dict[str, str]) -> tuple[int, str, bytes]:
        file.write_text("".join(json.dumps({"thing": name, "csr": text}) + "\n" for name, text in csrs.items()))
        done = _app(
            ENVIRONMENT_SUFFIX="tst",
            FLEET_ACCOUNT_ID="123456789012",
            FLEET_FACILITIES="sg-01",
            FLEET_IDENTITIES=str(tmp_path / "identities"),
            FLEET_OUTDIR=str(tmp_path / "out"),
        )
        stack = tmp_path / "out" / "stacks" / "facility-sg-01-tst" / "cdk.tf.json"
        return done.returncode, done.stderr, stack.read_bytes()

    lock = file.with_name("sg-01.lock.jsonl")
    code, stderr, first = synthesised(csrs)
    assert (0, 2) == (code, len(lock.read_text().splitlines()))
    assert f"note: sg-01: keys without a line in {lock}, locked now: 2." in stderr
    assert (0, first) == synthesised({name: text.replace("\n", "\r\n") for name, text in csrs.items()})[::2]
    lines = lock.read_text().splitlines(keepends=True)
    lock.write_text(lines[0] + lines[1].replace("0002", "9999"))
    code, stderr, _ = synthesised(csrs)
    assert (0, True) == (code, f"note: sg-01: keys without a line in {lock}, locked now: 1." in stderr)
    assert f"note: {lock} has sg-01-press-monitor-9999-tst, which sg-01 does not plan" in stderr
    for changed, told in (
        ([*lines, lines[1]], ":3: thing 'sg-01-press-monitor-0002-tst' is locked already"),
        ([lines[0], lines[1].replace("sg-01", "SG-01")], ":2: thing 'SG-01-press-monitor-0002-tst' is spelled"),
    ):
        lock.write_text("".join(changed))
        code, stderr, stack = synthesised(csrs)
        assert (7, first, True) == (code, stack, f"{lock}{told}" in stderr)
    lock.write_text("".join(lines))
    name = "sg-01-press-monitor-0002-tst"
    for other, told in (
        ({**csrs, name: csr("x")}, "a CSR of another key"),
        ({**csrs, name: ""}, "no PEM"),
        ({}, "no CSR"),
    ):
        code, stderr, stack = synthesised(other)
        assert (7, first, True) == (code, stack, told in stderr)
    assert "fleet generate --allow breaks-identity" in stderr


@pytest.mark.cdktf
@pytest.mark.parametrize("other", ["sg-01-press-monitor-0002-tst", "my-jb-01"])
def test_a_csr_in_the_name_of_another_thing_is_refused(tmp_path: Path, csr: Callable[[str], str], other: str) -> None:
    """Of the plant or of another that is not synthesised, with suffix or without: file and line, and no lock."""
    if other == "my-jb-01":
        rows = next((SAMPLE / "lib" / "facilities" / "my_jb_01").glob("things*.jsonl")).read_text().splitlines()
        other = json.loads(rows[0])["name"]
    file = tmp_path / "tst" / "sg-01.csrs.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"thing": "sg-01-press-monitor-0001-tst", "csr": csr(other)}) + "\n")
    done = _app(
        ENVIRONMENT_SUFFIX="tst",
        FLEET_ACCOUNT_ID="123456789012",
        FLEET_FACILITIES="sg-01",
        FLEET_IDENTITIES=str(tmp_path),
        FLEET_OUTDIR=str(tmp_path / "out"),
    )
    assert done.returncode == 7
    told = f"{file}:1: the CSR of thing 'sg-01-press-monitor-0001-tst' has the common name of another thing"
    assert done.stderr.startswith(f"error: {told}, '{other.removesuffix('-tst')}-tst'.")
    assert [file.parent] == list(tmp_path.iterdir())
    assert [file] == list(file.parent.iterdir())


@pytest.mark.slow
def test_the_project_is_that_of_the_current_folder(tmp_path: Path) -> None:
    """A manifest and its record are a project: no package of this tool lies in it, and a folder without is refused."""
    (tmp_path / "here").mkdir()
    done = _app(tmp_path / "here")
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith(f"error: there is no fleet.yaml in {tmp_path / 'here'} or in a folder above it.")
    (tmp_path / "fleet.yaml").touch()
    done = _app(tmp_path / "here")
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, "error: lib/facilities/.generated.json is missing.")
    shutil.copytree(SAMPLE / "lib" / "facilities", tmp_path / "lib" / "facilities")
    done = _app(tmp_path / "here", FLEET_FACILITIES="nowhere")
    assert (
        done.stderr.splitlines()[1] == "hint: Choose from my-jb-01, sg-01, th-ry-01; `fleet generate` makes new ones."
    )


def test_a_bucket_that_s3_would_refuse_is_told_with_the_manifests_line(tmp_path: Path) -> None:
    """A record that an earlier generator let through: file and line of the key, and nothing is loaded or written."""
    manifest = lifted_manifest(manifest_data(1)).model_copy(update={"environment_suffix": "s3alias"})
    make_project(tmp_path, manifest)
    (tmp_path / "fleet.yaml").write_text("version: 1\napplication: mfg\nenvironment_suffix: s3alias\n")
    done = _app(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(
        "error: fleet.yaml:3: the bucket's name bucket-mfg-raw-archive-123456789012-s3alias ends in -s3alias"
    )
    assert not (tmp_path / "cdktf.out").exists()


@pytest.mark.cdktf
def test_a_name_that_the_environment_makes_too_long_is_told_with_its_plants_line(tmp_path: Path) -> None:
    """The manifest's suffix fits; this environment's does not. Nothing is left of the refused synthesis."""
    data = manifest_data(1)
    data["facilities"] = {"plant-of-a-long-name": data["facilities"]["sg-01"]}
    make_project(tmp_path, lifted_manifest(data))
    (tmp_path / "fleet.yaml").write_text("facilities:\n  # the only one\n  plant-of-a-long-name: {}\n")
    done = _app(tmp_path, ENVIRONMENT_SUFFIX="production-2")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(
        "error: fleet.yaml:3: aws_iot_provisioning_template.template-plant-of-a-long-name of "
    )
    assert list((tmp_path / "cdktf.out").iterdir()) == []


MANIFEST = """\
# environment_suffix: not this one
version: 1
application: mfg
"environment_suffix" : dev
device_types:
  sg-01: {description: a device type of a plant's name}
facilities:
  my-jb-01:
    things: {press: 1}

  # the next
  sg-01:
    name: Tuas
tags: {sg-02: none}
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("environment_suffix",), 4),
        (("facilities", "sg-01"), 12),
        (("facilities", "sg-02"), 7),
        (("facilities", "my-jb-01", "things"), 9),
        (("device_types", "sg-01", "description"), 6),
    ],
)
def test_a_key_is_found_below_its_parents(tmp_path: Path, key: tuple[str, ...], line: int) -> None:
    """By indentation; a key without a line of its own is told by its parent's."""
    (tmp_path / "fleet.yaml").write_text(MANIFEST)
    assert find_place(tmp_path, key) == f"fleet.yaml:{line}"


def test_the_file_that_holds_the_value_is_told(tmp_path: Path) -> None:
    """An environment's overlay may be where a value comes from."""
    (tmp_path / "fleet.yaml").write_text(MANIFEST)
    (tmp_path / "fleet.prod.yaml").write_text("\nenvironment_suffix: Prod\n")
    assert find_place(tmp_path, ("environment_suffix",), "Prod", environment="prod") == "fleet.prod.yaml:2"
    assert find_place(tmp_path, ("environment_suffix",), "Prod") == "fleet.yaml:4"
    assert find_place(tmp_path, ("environment_suffix",), "dev", environment="prod") == "fleet.yaml:4"
    assert find_place(tmp_path, ("environment_suffix",), "Other") == "fleet.yaml:4"


def test_a_plant_in_a_file_of_its_own_is_told_there(tmp_path: Path) -> None:
    """By the file's first line, or by that of the key within."""
    (tmp_path / "fleet.yaml").write_text(MANIFEST)
    (tmp_path / "facilities").mkdir()
    (tmp_path / "facilities" / "sg-09.yaml").write_text("name: Tuas\ntimezone: UTC\n")
    assert find_place(tmp_path, ("facilities", "sg-09")) == "facilities/sg-09.yaml:1"
    assert find_place(tmp_path, ("facilities", "sg-09", "timezone")) == "facilities/sg-09.yaml:2"
    assert find_place(tmp_path, ("facilities", "sg-01")) == "fleet.yaml:12"


def test_without_a_line_the_manifest_is_told(tmp_path: Path) -> None:
    """A missing file, or one that cannot be read, changes no fault into another."""
    assert find_place(tmp_path, ("account_id",)) == "fleet.yaml"
    (tmp_path / "fleet.yaml").write_bytes(b"\xff\xfe")
    assert find_place(tmp_path, ("account_id",)) == "fleet.yaml"


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="ab:# \n\t{}'\"-é\x00", max_size=60), st.lists(st.sampled_from("ab-é"), min_size=1, max_size=3))
def test_any_text_has_a_place(tmp_path: Path, text: str, key: list[str]) -> None:
    """Telling one fault never ends in another, and a line that is told is there."""
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    file, _, line = find_place(tmp_path, tuple(key)).partition(":")
    assert file == "fleet.yaml"
    assert 0 <= int(line or 0) <= len(text.splitlines())
