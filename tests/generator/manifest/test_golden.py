"""Each folder of tests/golden holds a manifest and what `fleet validate` says of it on stderr.

`UPDATE_GOLDEN=1 pytest tests/generator/manifest/test_golden.py` rewrites the answers: read the difference before you
commit it.
"""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.cli.formats import catalogue
from tests.places import PROJECT

GOLDEN = PROJECT / "tests" / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir() and folder.name != "plan")


@pytest.mark.parametrize("case", CASES)
def test_manifest_is_judged_as_its_golden_file_says(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fault is told with its place, nothing else is printed, and the exit code is 3."""
    monkeypatch.chdir(GOLDEN / case)
    result = CliRunner().invoke(main, ["validate"])
    expected = GOLDEN / case / "stderr.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(result.stderr, "utf-8")
    assert expected.read_text("utf-8") == result.stderr
    is_valid = case.startswith("valid")
    assert (0 if is_valid else 3) == result.exit_code
    assert is_valid == bool(result.stdout)


@pytest.mark.slow
def test_corpus_has_a_case_of_every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule that a manifest in a file of some lines can break is broken in a golden case."""
    told: set[str] = set()
    for case in CASES:
        monkeypatch.chdir(GOLDEN / case)
        body = json.loads(CliRunner().invoke(main, ["validate", "--format", "json"]).stdout)
        told |= {fault["rule"] for fault in body["diagnostics"]}
    assert {"too-large"} == set(catalogue()) - told
