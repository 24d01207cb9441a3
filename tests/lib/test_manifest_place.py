"""The manifest's line that a fault is about, found by plain text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_iot.lib.app import find_place

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
    assert find_place(tmp_path, ("environment_suffix",), "Prod") == "fleet.prod.yaml:2"
    assert find_place(tmp_path, ("environment_suffix",), "dev") == "fleet.yaml:4"
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="ab:# \n\t{}'\"-é\x00", max_size=60), st.lists(st.sampled_from("ab-é"), min_size=1, max_size=3))
def test_any_text_has_a_place(tmp_path: Path, text: str, key: list[str]) -> None:
    """Telling one fault never ends in another, and a line that is told is there."""
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    file, _, line = find_place(tmp_path, tuple(key)).partition(":")
    assert file == "fleet.yaml"
    assert 0 <= int(line or 0) <= len(text.splitlines())
