"""The comparison of CDKTF's stacks with CDK Terrain's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.places import PROJECT
from tools.terrain import EXPECTED, compare, is_expected

STACK: dict[str, Any] = {
    "//": {"metadata": {"version": "0.21.0", "stackName": "tap-dev"}},
    "terraform": {"required_providers": {"aws": {"source": "aws", "version": "5.100.0"}}},
    "resource": {"aws_kms_key": {"key-data": {"enable_key_rotation": True, "tags": ["a", "b"]}}},
}


def output(folder: Path, text: str, **stacks: dict[str, Any]) -> Path:
    """An output of these stacks, with STACK in one more; `text` is its JSON."""
    for name, document in {"tap-dev": json.loads(text), **stacks}.items():
        (folder / "stacks" / name).mkdir(parents=True)
        (folder / "stacks" / name / "cdk.tf.json").write_text(json.dumps(document))
    return folder


def test_the_documented_differences_are_none(tmp_path: Path) -> None:
    """Versions of core and provider may differ; all resources are counted."""
    text = json.dumps(STACK)
    other = text.replace("0.21.0", "0.24.0").replace("5.100.0", "6.69.1").replace('"aws", "v', '"hashicorp/aws", "v')
    assert compare(output(tmp_path / "a", text), output(tmp_path / "b", other)) == (1, [])


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("key-data", "key-data_1A2B3C4D", "resource.aws_kms_key.key-data"),
        ('["a", "b"]', '["b", "a"]', "resource.aws_kms_key.key-data.tags[0]"),
        ('["a", "b"]', '["a"]', "resource.aws_kms_key.key-data.tags"),
        ("true", "1", "resource.aws_kms_key.key-data.enable_key_rotation"),
        ('{"aws_kms_key', '{"x": {}, "aws_kms_key', "resource.x"),
        ('"stackName": "tap-dev"', '"stackName": "tap"', "//.metadata.stackName"),
    ],
)
def test_any_other_difference_is_reported(tmp_path: Path, old: str, new: str, place: str) -> None:
    """An address, an order, a length, a type, a further resource: each by its place."""
    text = json.dumps(STACK)
    assert old in text
    _, lines = compare(output(tmp_path / "a", text), output(tmp_path / "b", text.replace(old, new, 1)))
    assert lines and all(line.startswith("tap-dev: ") for line in lines)
    assert any(line.startswith(f"tap-dev: {place}: ") for line in lines), lines


def test_a_missing_stack_is_reported(tmp_path: Path) -> None:
    """Whatever the others say."""
    text = json.dumps(STACK)
    _, lines = compare(output(tmp_path / "a", text), output(tmp_path / "b", text, **{"facility-x-dev": {}}))
    assert lines == ["the stacks differ: ['tap-dev'], ['facility-x-dev', 'tap-dev']"]


def test_every_expected_difference_is_documented() -> None:
    """docs/terrain.md lists them, and no resource is among them."""
    text = (PROJECT / "docs" / "terrain.md").read_text()
    assert all(why in text for why in EXPECTED.values())
    assert not is_expected("resource.aws_kms_key.key-data.description")
