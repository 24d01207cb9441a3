"""cdktf-cli reads the project: its file, its stacks, their order."""

from __future__ import annotations

import json

from tests.places import PROJECT


def test_cdktf_json_is_json() -> None:
    """cdktf-cli reads it by the letter: no comment, no trailing comma."""
    assert "python -m lib.app" in json.loads((PROJECT / "cdktf.json").read_text("utf-8"))["app"]
