"""`fleet check`: the project's own gate, stage by stage, and its formats for programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import Diagnostic, SourceLocation
from fleet_iot.operations.assurance.check import Checked, Stage, failures, judge_stacks, to_json, to_junit, to_sarif_log
from fleet_iot.operations.project import load_project
from tests.places import link_wheels

COMPANY = (
    *("--application", "werk", "--region", "eu-central-1", "--facility", "de-mue-01", "--yes"),
    *("--facility-name", "Gießerei Süd / Nhà máy Đồng Nai", "--timezone", "Europe/Berlin"),
    *("--things", "press-monitor=3,mischer=2"),
)
ACCOUNT_VARIABLES = ("FLEET_ACCOUNT_ID", "FLEET_ENV", "ENVIRONMENT_SUFFIX", "FLEET_IDENTITIES", "FLEET_FACILITIES")


def fleet(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another company's project, with the repository's wheels of the Lambda."""
    folder = tmp_path_factory.mktemp("check") / "werk"
    assert fleet("init", str(folder), *COMPANY).exit_code == 0
    assert fleet("generate", "--manifest", str(folder / "fleet.yaml")).exit_code == 0
    link_wheels(folder)
    return folder


@pytest.fixture(autouse=True)
def here(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plant)
    for name in ACCOUNT_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def results(text: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\S.*?) +(ok|failed|skipped) ", text, re.MULTILINE))


@pytest.mark.cdktf
@pytest.mark.slow
def test_it_judges_every_environment_without_an_account(plant: Path) -> None:
    """A new project and its overlay pass all stages; nothing is written but below build/; a broken stack fails."""
    overlay = plant / "fleet.prod.yaml"
    overlay.write_text("environment_suffix: prod\nregion: eu-west-2\n")
    try:
        assert fleet("generate", "--env", "prod").exit_code == 0
        before = sorted(path for path in plant.rglob("*") if "build" not in path.parts)
        answer = fleet("check", "--format", "junit", "--out", "build/check.xml")
        assert before == sorted(path for path in plant.rglob("*") if "build" not in path.parts)
    finally:
        overlay.unlink()
        shutil.rmtree(plant / "lib" / "environments", ignore_errors=True)
    assert answer.exit_code == 0, answer.output
    suites = ElementTree.parse(plant / "build" / "check.xml").getroot()  # noqa: S314 - our own
    assert ["fleet.yaml", "fleet.yaml with fleet.prod.yaml"] == [suite.get("name") for suite in suites]
    for suite in suites:
        assert ("5", "0", "0") == (suite.get("tests"), suite.get("failures"), suite.get("skipped"))
    assert 2 == answer.output.count("3 stacks; without a CSR yet: 5 things")

    stacks = plant / "build" / "check" / "cdktf.out" / "stacks"
    file = stacks / "facility-de-mue-01-dev" / "cdk.tf.json"
    document = json.loads(file.read_text())
    document["resource"]["aws_iot_topic_rule"]["rule_telemetry_de_mue_01"]["sql"] = "SELECT shout(x) FROM 'a/#/b'"
    file.write_text(json.dumps(document))
    _, found = judge_stacks(load_project(plant), stacks)
    assert "topic-sql" in {each.rule for each in found}
    assert {"lib/facilities/de_mue_01/__init__.py"} == {each.location.file for each in found}


def test_a_manifest_with_errors_leaves_the_record_to_be_judged(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first failed stage decides the exit code, 3, and the record is judged as it is."""
    text = (plant / "fleet.yaml").read_text("utf-8")
    monkeypatch.setenv("JSII_NODE", "nowhere")
    try:
        (plant / "fleet.yaml").write_text(text.replace("eu-central-1", "eu-centrl-1"), "utf-8")
        answer = fleet("check")
        as_sarif = fleet("check", "--format", "sarif")
    finally:
        (plant / "fleet.yaml").write_text(text, "utf-8")
    expected = {"manifest": "failed", "record": "ok", "isolation": "ok", "synthesis": "failed", "AWS rules": "skipped"}
    assert (3, expected) == (answer.exit_code, results(answer.output)), answer.output
    assert "AWS rules  skipped    0.0 s  nothing was synthesised" in answer.output
    assert "error: 2 stages failed: manifest (fleet.yaml), synthesis (fleet.yaml)" in answer.stderr
    (run,) = json.loads(as_sarif.stdout)["runs"]
    assert ["known-region", "synthesis"] == [each["ruleId"] for each in run["results"]]
    assert "fleet check" == run["tool"]["driver"]["name"]


def test_a_record_edited_by_hand_is_not_judged(plant: Path) -> None:
    """The record fails with 4, and the stages that would read it are skipped with the reason."""
    rule = plant / "lib" / "facilities" / "de_mue_01" / "rule_telemetry_de_mue_01.sql"
    text = rule.read_text()
    try:
        rule.write_text(text + "\n")
        answer = fleet("check", "--format", "json")
    finally:
        rule.write_text(text)
    (environment,) = json.loads(answer.stdout)["environments"]
    stages = {stage["name"]: stage for stage in environment["stages"]}
    assert (4, "failed") == (answer.exit_code, stages["record"]["result"])
    assert {"the record cannot be read"} == {stages[name]["note"] for name in ("isolation", "synthesis", "AWS rules")}


def test_an_unknown_environment_is_usage() -> None:
    """An environment without an overlay is exit 2."""
    assert 2 == fleet("check", "--env", "nope").exit_code


def checked() -> tuple[Checked, ...]:
    fault = Diagnostic(location=SourceLocation(file="fleet.yaml"), message="bad <&> \x00", hint="mend", rule="record")
    stages = (
        Stage(name="manifest", seconds=0.1234, note="2 plants"),
        Stage(name="record", seconds=1.0, exit_code=4, diagnostics=(fault,)),
        Stage(name="isolation", is_skipped=True, note="no record"),
    )
    return (
        Checked(environment=None, files="fleet.yaml", stages=stages),
        Checked(environment="prod", files="fleet.yaml with fleet.prod.yaml", stages=stages),
    )


def test_formats_say_the_same() -> None:
    """One suite an environment, one case a stage; SARIF has what environments have in common once."""
    body = json.loads(to_json(checked()))
    assert (False, [None, "prod"]) == (body["ok"], [each["environment"] for each in body["environments"]])
    assert ["ok", "failed", "skipped"] == [stage["result"] for stage in body["environments"][1]["stages"]]
    assert 2 == len(failures(checked()))

    (run,) = json.loads(to_sarif_log(checked()))["runs"]
    assert ["The generated record is what the manifest says."] == [
        rule["shortDescription"]["text"] for rule in run["tool"]["driver"]["rules"]
    ]
    assert 1 == len(run["results"])

    suites = ElementTree.fromstring(to_junit(checked(), now=datetime(2026, 11, 29, 12, 0, 1)))  # noqa: S314 - our own
    assert ["0", "1"] == [suite.get("id") for suite in suites]
    for suite in suites:
        assert ["properties", "testcase", "testcase", "testcase", "system-out", "system-err"] == [
            each.tag for each in suite
        ]
        assert ("3", "1", "1", "2026-11-29T12:00:01") == (
            *(suite.get(name) for name in ("tests", "failures", "skipped", "timestamp")),
        )
        (failure,) = suite.iter("failure")
        assert ("exit 4", "bad <&> \\x00") == (failure.get("type"), failure.get("message"))


def test_the_environment_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """FLEET_ENV is `--env`."""
    monkeypatch.setenv("FLEET_ENV", "nope")
    assert (2, os.environ["FLEET_ENV"]) == (fleet("check").exit_code, "nope")
