"""`fleet init`: a first manifest that validates, from a few answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.cli.scaffold import QUESTIONS, Answers, manifest_text, read_things
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.schema import schema_text
from fleet_iot.generator.manifest.yaml import parse_document

ALL_TYPES = "press-monitor=24, cnc-spindle=18, compressor=8, boiler=2, conveyor=20, mixer=3"


def answers(**overrides: Any) -> Answers:
    """The defaults, with some of them replaced."""
    values = {name: question.default for name, question in QUESTIONS.items()} | overrides
    return Answers(**{**values, "things": read_things(str(values["things"]))})


def test_defaults_make_a_project_that_generates(project: Any) -> None:
    """Into an empty folder, without a question: valid, generated, up to date."""
    (project.folder / "fleet.yaml").unlink()
    assert 0 == project.fleet("init", "--yes").exit_code
    assert 0 == project.fleet("validate").exit_code
    assert 0 == project.fleet("generate").exit_code
    assert 0 == project.fleet("generate", "--check").exit_code
    assert 6 == len((project.tree / "sg_01" / "things.jsonl").read_text().splitlines())


def test_questions_are_asked_again_until_the_answer_is_right(tmp_path: Path) -> None:
    """Each question has a default; a wrong answer is told why, and asked again."""
    typed = "acme\n\neu-wst-1\neu-west-1\nro-01\nRoma\nEurope/Roma\nEurope/Rome\nmixer\nmixer=3\n"
    result = CliRunner().invoke(main, ["init", str(tmp_path / "plant")], input=typed)
    assert 0 == result.exit_code, result.output
    assert "did you mean `eu-west-1`?" in result.stderr
    assert "did you mean `Europe/Rome`?" in result.stderr
    assert "'mixer' is not of the form type=count" in result.stderr
    manifest = validate(parse_document((tmp_path / "plant" / "fleet.yaml").read_text("utf-8"), name="fleet.yaml"))
    assert ("acme", "dev", "eu-west-1") == (manifest.application, manifest.environment_suffix, manifest.region)
    assert ("Roma", "Europe/Rome", 3) == (
        manifest.facilities["ro-01"].name,
        manifest.facilities["ro-01"].timezone,
        manifest.facilities["ro-01"].thing_count,
    )


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_an_option(tmp_path: Path, name: str) -> None:
    """Its answer is checked as a typed one is: a wrong one is a usage fault, and nothing is written."""
    option = f"--{name.replace('_', '-')}"
    assert (
        0 == CliRunner().invoke(main, ["init", str(tmp_path / "a"), option, QUESTIONS[name].default, "--yes"]).exit_code
    )
    refused = CliRunner().invoke(main, ["init", str(tmp_path / "b"), option, "\a", "--yes"])
    assert (2, True, False) == (refused.exit_code, option in refused.stderr, (tmp_path / "b").exists())


def test_manifest_that_is_there_is_not_touched(project: Any) -> None:
    """Before a question is asked, a folder with a manifest is refused with exit 6; a link to nowhere counts too."""
    before = (project.folder / "fleet.yaml").read_bytes()
    result = project.fleet("init")
    assert (6, "error: fleet.yaml exists already") == (result.exit_code, result.stderr.splitlines()[0])
    assert before == (project.folder / "fleet.yaml").read_bytes()
    (project.folder / "fleet.yaml").unlink()
    (project.folder / "fleet.yaml").symlink_to("nowhere.yaml")
    assert 6 == project.fleet("init", "--yes").exit_code


def test_first_line_leads_editors_to_the_schema(tmp_path: Path) -> None:
    """Beside the manifest, or the generator's own where the folder is a checkout of it."""
    CliRunner().invoke(main, ["init", str(tmp_path / "a"), "--yes"])
    assert (tmp_path / "a" / "fleet.yaml").read_text().startswith("# yaml-language-server: $schema=fleet.schema.json\n")
    assert schema_text() == (tmp_path / "a" / "fleet.schema.json").read_text()
    (tmp_path / "b" / "generator").mkdir(parents=True)
    (tmp_path / "b" / "generator" / "fleet.schema.json").write_text("{}")
    CliRunner().invoke(main, ["init", str(tmp_path / "b"), "--yes"])
    assert (
        (tmp_path / "b" / "fleet.yaml")
        .read_text()
        .startswith("# yaml-language-server: $schema=generator/fleet.schema.json\n")
    )
    assert ["fleet.yaml", "generator"] == sorted(path.name for path in (tmp_path / "b").iterdir())


def test_every_known_type_makes_a_valid_manifest() -> None:
    """All examples of device types, and one that nobody knows, pass all rules."""
    manifest = validate(parse_document(manifest_text(answers(things=ALL_TYPES), schema="x"), name="fleet.yaml"))
    assert json.loads(json.dumps(dict(read_things(ALL_TYPES)))) == {
        type_: group.count for type_, group in manifest.facilities["sg-01"].things.items()
    }


@pytest.mark.slow
@settings(max_examples=40)
@given(
    name=st.text(min_size=1, max_size=100).filter(lambda text: not QUESTIONS["facility_name"].refusal(text)),
    facility=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True),
    application=st.sampled_from(["no", "012", "null", "1e3", "on", "true", "mfg"]),
)
def test_answers_stay_what_they_are(name: str, facility: str, application: str) -> None:
    """Whatever is typed comes back from the manifest as the same text, also what YAML would take for another."""
    text = manifest_text(answers(application=application, facility=facility, facility_name=name), schema="x")
    data = parse_document(text, name="fleet.yaml").data
    assert (application, name) == (data["application"], data["facilities"][facility]["name"])


def test_too_large_a_fleet_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """The rules of the manifest hold for the first one too."""
    result = CliRunner().invoke(main, ["init", str(tmp_path / "a"), "--things", "press-monitor=900000", "--yes"])
    assert (3, False) == (result.exit_code, (tmp_path / "a").exists())
