"""Whatever a manifest is to the file system, and however large, the answer is diagnostics with places."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import ManifestError
from fleet_iot.generator.manifest.load import read_manifest
from fleet_iot.generator.manifest.yaml import MAXIMUM_BYTES
from tests.places import PROJECT, SAMPLE

ROOT = PROJECT
TEXT = (SAMPLE / "fleet.yaml").read_text("utf-8")
HEAD = TEXT[: TEXT.index("facilities:")].replace("sample_interval_s: 10", "sample_interval_s: 600") + "facilities:\n"
FACILITY = """\
  f-{number:05d}:
    name: Plant {number}
    timezone: Asia/Singapore
    things:
      boiler: 1
      compressor: {{count: 2, attributes: {{line: b{number}}}}}
"""


def lines_of(path: Path) -> list[str]:
    """Return the lines that a person reads of a faulty manifest."""
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, name="fleet.yaml")
    return caught.value.lines()


def large(lines: int) -> str:
    """A valid manifest of so many lines and a few."""
    count = (lines - HEAD.count("\n")) // FACILITY.count("\n") + 1
    return HEAD + "".join(FACILITY.format(number=number) for number in range(count))


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    """A manifest may be a link, also one out of the project; one that leads nowhere or in a circle is told."""
    (tmp_path / "real").write_text(TEXT, "utf-8")
    for name, target in (("fleet.yaml", "real"), ("broken", "nowhere"), ("circle", "circle"), ("folder", ".")):
        (tmp_path / name).symlink_to(target)
    assert 3 == len(read_manifest(tmp_path / "fleet.yaml", name="fleet.yaml").facilities)
    assert "fleet.yaml:1:1: there is no such file" == lines_of(tmp_path / "broken")[0]
    expected = "fleet.yaml:1:1: the manifest cannot be read: too many levels of symbolic links"
    assert expected == lines_of(tmp_path / "circle")[0]
    assert "fleet.yaml:1:1: this is a folder, not a manifest" == lines_of(tmp_path / "folder")[0]


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """One without the right to read, and one whose reading fails half-way."""
    closed = tmp_path / "fleet.yaml"
    closed.write_text(TEXT, "utf-8")
    closed.chmod(0)
    if os.geteuid() != 0:
        assert "fleet.yaml:1:1: the manifest cannot be read: permission denied" == lines_of(closed)[0]
    failing = Path("/proc/self/mem")
    if failing.exists():
        assert lines_of(failing)[0].startswith("fleet.yaml:1:1: the manifest cannot be read: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a\nb/fleet.yaml", "fleet\x1b[31m.yaml", "x" * 300, os.fsdecode(b"caf\xe9.yaml")])
def test_name_of_the_file_may_be_anything(name: str, project: Any) -> None:
    """A name with line breaks, escapes, beyond UTF-8 or too long is told on one line of text."""
    result = project.process("validate", "--manifest", name)
    assert 3 == result.exit_code
    assert 2 == len(result.stderr.splitlines())
    assert "\x1b" not in result.stderr


def test_file_beyond_all_measure_is_refused_unread(tmp_path: Path) -> None:
    """A file of more than 256 MB is not even opened."""
    path = tmp_path / "fleet.yaml"
    with path.open("wb") as file:
        file.truncate(MAXIMUM_BYTES + 1)
    assert "fleet.yaml:1:1: the manifest is larger than 256 MB" == lines_of(path)[0]


@pytest.mark.slow
def test_hundred_thousand_lines_are_judged(tmp_path: Path) -> None:
    """A valid manifest of that length passes; one fault in its last line has its place; syntax has, too."""
    path, text = tmp_path / "fleet.yaml", large(100_000)
    path.write_text(text, "utf-8")
    assert len(read_manifest(path, name="fleet.yaml").facilities) > 10_000
    last = text.count("\n")
    path.write_text(text[:-1].removesuffix("}") + ", lime: 1}\n", "utf-8")
    assert lines_of(path)[0].startswith(f"fleet.yaml:{last}:")
    path.write_text(text.replace("f-00001:", "f-00000:"), "utf-8")
    (first, *_) = lines_of(path)
    assert "the key `f-00000` appears twice" in first
    path.write_text(text + "  \tx: 1\n", "utf-8")
    assert lines_of(path)[0].startswith(f"fleet.yaml:{last + 1}:3: this is not YAML")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one long line", "a: " + "x" * 5_000_000),
        ("one long key", "x" * 2_000_000 + ": 1"),
        ("lists in lists", "[" * 200_000),
        ("mappings in mappings", "{a: " * 200_000),
        ("mappings by indentation", "".join(" " * depth + "a:\n" for depth in range(3_000))),
        ("lists on one line", "- " * 200_000),
        ("keys asked for", "? " * 200_000),
        ("anchors", "".join(f"a{number}: &a{number} 1\n" for number in range(10_000))),
        (
            "nine bombs",
            "a: &a [x,x]\n"
            + "".join(
                f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in pairwise("abcdefghijklm")
            ),
        ),
        (
            "merged bombs",
            "a: &a {x: 1}\n"
            + "".join(
                f"{b}: &{b} {{<<: [*{a},*{a},*{a},*{a},*{a},*{a},*{a}]}}\n" for a, b in pairwise("abcdefghijklm")
            ),
        ),
        ("blank lines", "\n" * 1_000_000),
        ("comments", "#\n" * 1_000_000),
        ("quotes", '"' * 1_000_001),
        ("tags", "!a " * 100_000),
        ("colons", ":" * 1_000_000),
        ("number of a million digits", "version: " + "9" * 1_000_000),
        ("underscores", "version: " + "1_" * 500_000 + "x"),
        ("base 60", "version: " + "1:" * 500_000 + "x"),
        ("points", "version: " + "1." * 500_000 + "_x"),
    ],
    ids=lambda value: value if len(value) < 40 else "",
)
def test_hostile_size_is_answered_soon(name: str, text: str, tmp_path: Path) -> None:
    """In a process of its own, within ten seconds of CPU and a gigabyte: a diagnostic, and no crash."""
    (tmp_path / "fleet.yaml").write_text(text, "utf-8")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    result = subprocess.run(
        [sys.executable, "-m", "fleet_iot", "validate", "--manifest", str(tmp_path / "fleet.yaml")],
        cwd=ROOT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (3, "") == (result.returncode, result.stdout), name
    assert "fleet.yaml:" in result.stderr.splitlines()[0]
    assert "Traceback" not in result.stderr
