"""docs/inside.md follows two paths through the code as they run."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.lib import app
from tests.places import PROJECT
from tests.sensor_processor.conftest import make_event, make_payload, make_record, running_platform

Hop = tuple[str, str]
"""A file, as the page spells it, and a function in it."""

HOPS, MODULES = 30, 20
"""Limits on what a newcomer follows in a sitting; a path that exceeds them needs simplifying."""

STEP = re.compile(r"^\| \d+ \| `(?P<file>[\w/.]+): (?P<function>[\w.]+)` \|", re.MULTILINE)


def documented(heading: str) -> list[Hop]:
    """Read the steps below one heading of the page."""
    text = (PROJECT / "docs" / "inside.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}")[1].split("\n## ")[0]
    return [(match["file"], match["function"]) for match in STEP.finditer(section)]


def traced(run: Callable[[], Any]) -> list[Hop]:
    """Run something, and list the project's functions in the order in which they were called."""
    hops: list[Hop] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PROJECT / "fleet_iot"):
                hops.append((path.relative_to(PROJECT / "fleet_iot").as_posix(), frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return hops


def assert_runs(steps: list[Hop], hops: list[Hop]) -> None:
    """Each step is called, in the page's order; the path is short enough to be followed."""
    position = 0
    for step in steps:
        assert step in hops[position:], f"{step} is not called after what stands before it"
        position = hops.index(step, position) + 1
    assert len(steps) <= HOPS
    assert len({file for file, _ in steps}) <= MODULES


@pytest.mark.cdktf
def test_a_line_of_the_manifest_takes_the_path_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one more press in fleet.yaml to the policy in the facility's stack."""
    text = (PROJECT / "tests" / "integration" / "fleet.yaml").read_text(encoding="utf-8")
    (tmp_path / "fleet.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEET_ACCOUNT_ID", "123456789012")
    assert CliRunner().invoke(main, ["generate"]).exit_code == 0
    match = re.search(r"(press-monitor: )(\d+)", text)
    assert match
    more = f"{match[1]}{int(match[2]) + 1}"
    (tmp_path / "fleet.yaml").write_text(text.replace(match[0], more, 1), encoding="utf-8")
    if (wheels := PROJECT / "build" / "lambda").is_dir():
        shutil.copytree(wheels, tmp_path / "build" / "lambda")

    def run() -> None:
        assert CliRunner().invoke(main, ["generate"]).exit_code == 0
        assert app.main() == 0

    assert_runs(documented("From `press-monitor: 24`"), traced(run))


def test_a_reading_takes_the_path_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a Kinesis record with a value above its limit to the anomaly topic."""
    with running_platform(tmp_path) as platform:
        topic = boto3.client("sns").create_topic(Name="topic-anomalies-dev")["TopicArn"]
        monkeypatch.setenv("ANOMALY_TOPIC_ARN", topic)
        event = make_event(make_record(payload=make_payload(metrics={"temperature": 97.2, "vibration": 3.1})))
        hops = traced(lambda: platform.handle(event))
    assert_runs(documented("From a reading"), hops)
