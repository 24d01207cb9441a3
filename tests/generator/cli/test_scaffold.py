"""`fleet init`: a first manifest that validates, from a few answers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.cli.scaffold import CI, QUESTIONS, Answers, manifest_text, read_things
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.schema import schema_text
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.operations.deployment.bundle import save
from tests.operations.deployment.test_bundle import bundle, change

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
    typed = "acme\n\neu-wst-1\neu-west-1\nro-01\nRoma\nEurope/Roma\nEurope/Rome\nmixer\nmixer=3\ngitlb\ngitlab\n"
    result = CliRunner().invoke(main, ["init", str(tmp_path / "plant")], input=typed)
    assert 0 == result.exit_code, result.output
    assert "did you mean `eu-west-1`?" in result.stderr
    assert "did you mean `Europe/Rome`?" in result.stderr
    assert "'mixer' is not of the form type=count" in result.stderr
    assert "did you mean `gitlab`?" in result.stderr
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


COMPANY = (
    *("--application", "werk", "--region", "eu-central-1", "--facility", "de-mue-01", "--yes"),
    *("--facility-name", "Gießerei Süd / Nhà máy Đồng Nai", "--timezone", "Europe/Berlin"),
    *("--things", "press-monitor=3,mischer=2"),
)


def fleet(*arguments: str | Path, **environment: str) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commands(folder: Path) -> list[list[str]]:
    """Every command line of `fleet` in the pipelines of a project, as words."""
    workflow = yaml.safe_load((folder / ".github" / "workflows" / "fleet.yml").read_text("utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    jobs = yaml.load((folder / ".gitlab-ci.yml").read_text("utf-8"), yaml.SafeLoader).values()
    steps += [line for job in jobs if isinstance(job, dict) for line in job.get("script", ())]
    lines = [line for step in steps for line in step.splitlines()]
    return [shlex.split(line.partition("|")[0])[1:] for line in lines if line.startswith("fleet ")]


def parse(words: list[str]) -> None:
    """Let click parse a command line without running it; raises `click.UsageError`."""
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, f"there is no fleet {words[0]}"
    command.make_context(words[0], words[1:])


@pytest.mark.parametrize("ci", CI)
def test_pipelines_are_those_that_were_chosen(tmp_path: Path, ci: str) -> None:
    """The pipelines are those that were chosen, and the record of hashes lists every file."""
    assert 0 == fleet("init", tmp_path / "a", *COMPANY, "--ci", ci).exit_code
    made = tree(tmp_path / "a")
    expected = {
        "github": {".github/workflows/fleet.yml"},
        "gitlab": {".gitlab-ci.yml"},
        "both": {".github/workflows/fleet.yml", ".gitlab-ci.yml"},
        "none": set(),
    }
    assert expected[ci] == {name for name in made if name.endswith(".yml")}
    listed = json.loads(made.pop(".fleet-init.json"))
    assert (ci, made.keys() - {"fleet.yaml"}) == (listed["ci"], set(listed["files"]))
    assert (ci != "none") == (b"The pipeline" in made["README.md"])


def test_no_command_of_the_pipelines_is_invented(tmp_path: Path) -> None:
    """Click parses every command line of the pipelines and of README.md, with its options."""
    folder = tmp_path / "a"
    fleet("init", folder, *COMPANY, "--ci", "both")
    lines = commands(folder)
    assert {"validate", "check", "deploy"} == {words[0] for words in lines}
    for words in lines:
        parse(words)
    assert {"app": "fleet synth", "language": "python"}.items() <= json.loads(
        (folder / "cdktf.json").read_text()
    ).items()
    assert f"fleet-iot=={version('fleet-iot')}" in (folder / "requirements.txt").read_text().splitlines()
    text = (folder / "README.md").read_text("utf-8")
    for line in re.findall(r"^    (fleet .*?)(?:  #.*)?$", text, re.MULTILINE):
        for command in line.split("&&"):
            parse(shlex.split(command.replace("ID", "de-mue-01"))[1:])


def test_gitlab_shows_the_counts_of_the_plan(tmp_path: Path) -> None:
    """The pipeline's script counts a saved plan's changes; what is replaced is created and deleted."""
    fleet("init", tmp_path / "a", *COMPANY, "--ci", "gitlab")
    jobs = yaml.safe_load((tmp_path / "a" / ".gitlab-ci.yml").read_text("utf-8"))
    (script,) = (line for line in jobs[".plan"]["script"] if "counts.json" in line)
    made = [change(f"aws_iot_thing.a{number}") for number in range(3)]
    gone = [change("aws_iot_policy.b", "replace"), change("aws_iot_policy.c", "delete")]
    save(bundle(tmp_path / "plan", *made, *gone, change("aws_iot_policy.d", "update")), tmp_path / "plan")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env={"PATH": path}, check=True)
    assert {"create": 4, "update": 1, "delete": 2} == json.loads((tmp_path / "counts.json").read_text())


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """A file that was there is kept and reported, and a later version does not update it."""
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "README.md").write_text("ours\n")
    (folder / ".gitignore").symlink_to("nowhere")
    answer = fleet("init", folder, *COMPANY)
    assert 0 == answer.exit_code
    assert "README.md, which was there" in answer.output and ".gitignore, which was there" in answer.output
    assert "ours\n" == (folder / "README.md").read_text()
    assert not {"README.md", ".gitignore"} & set(json.loads((folder / ".fleet-init.json").read_text())["files"])
    again = fleet("init", "--from", folder)
    assert "README.md: kept, as it was edited" in again.output and "Nothing to write." in again.output


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and folders that were made are removed where a later file cannot be written."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".github").write_text("a file where a folder should be")
    before = tree(tmp_path)
    answer = fleet("init", tmp_path / "a", *COMPANY)
    assert (7, True) == (answer.exit_code, "a file is where a folder should be" in answer.output)
    assert before == tree(tmp_path)


def test_a_later_version_renews_what_was_not_edited(tmp_path: Path) -> None:
    """An upgrade shows first, replaces unedited files, keeps edited ones, and leaves out removed ones."""
    folder = tmp_path / "a"
    fleet("init", folder, *COMPANY, "--ci", "both")
    record = json.loads((folder / ".fleet-init.json").read_text())
    former = b"# of an earlier version\r\nbuild/\r\n"
    record["files"][".gitignore"] = hashlib.sha256(former.replace(b"\r\n", b"\n")).hexdigest()
    record["files"].pop("CODEOWNERS")
    (folder / ".fleet-init.json").write_text(json.dumps(record))
    (folder / ".gitignore").write_bytes(former)
    (folder / "README.md").write_text("ours\n")
    for name in ("cdktf.json", "CODEOWNERS"):
        (folder / name).unlink()
    (folder / "fleet.prod.yaml").write_text("environment_suffix: prod\nregion: eu-west-2\n")
    before = tree(folder)

    shown = fleet("init", "--from", folder)
    assert (0, before) == (shown.exit_code, tree(folder))
    assert "-# of an earlier version" in shown.output and "Nothing was written: --write does it." in shown.output
    states = dict(re.findall(r"^([\w./-]+): (\w+)", shown.output, re.MULTILINE))
    assert {
        ".gitignore": "updated",
        "README.md": "kept",
        "cdktf.json": "left",
        "CODEOWNERS": "new",
        ".github/workflows/fleet.yml": "updated",
        "requirements.txt": "unchanged",
    }.items() <= states.items()

    written = fleet("init", "--from", folder, "--write")
    assert "Wrote 4 files." in written.output
    after = tree(folder)
    assert (before["fleet.yaml"], b"ours\n") == (after["fleet.yaml"], after["README.md"])
    assert b'overlay: "prod", region: "eu-west-2"' in after[".github/workflows/fleet.yml"]
    assert "Nothing to write." in fleet("init", "--from", folder).output
    for words in commands(folder):
        parse(words)


def test_a_project_of_before_gets_what_it_lacks(tmp_path: Path) -> None:
    """A project of which only manifest and schema were made gets the other files."""
    folder = tmp_path / "a"
    fleet("init", folder, *COMPANY)
    for name in tree(folder).keys() - {"fleet.yaml"}:
        (folder / name).unlink()
    (folder / "fleet.schema.json").write_text("{}\n")
    (folder / "README.md").write_text("ours\n")
    answer = fleet("init", "--from", folder, "--ci", "gitlab", "--write")
    assert (0, "ours\n") == (answer.exit_code, (folder / "README.md").read_text()), answer.output
    assert schema_text() == (folder / "fleet.schema.json").read_text()
    assert (folder / ".gitlab-ci.yml").is_file() and not (folder / ".github" / "workflows" / "fleet.yml").exists()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--from", "a", "--region", "eu-west-1"), 2),
        (("b", "--from", "a"), 2),
        (("b", "--write", "--yes"), 2),
        (("--from", "a", "--ci", "jenkins"), 2),
        (("--from", "nowhere"), 2),
        (("--from", "."), 3),
        (("--from", "damaged"), 6),
    ],
)
def test_wrong_use_of_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, code: int) -> None:
    """Wrong options of `--from`, and a damaged record, have their exit codes and write nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "damaged"):
        fleet("init", name, *COMPANY)
    (tmp_path / "damaged" / ".fleet-init.json").write_text('{"ci": 3}')
    before = tree(tmp_path)
    answer = fleet("init", *options)
    assert (code, before) == (answer.exit_code, tree(tmp_path)), answer.output


def test_too_large_a_fleet_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """The rules of the manifest hold for the first one too."""
    result = CliRunner().invoke(main, ["init", str(tmp_path / "a"), "--things", "press-monitor=900000", "--yes"])
    assert (3, False) == (result.exit_code, (tmp_path / "a").exists())


def test_an_overlay_with_the_name_of_the_base_hides_no_environment(tmp_path: Path) -> None:
    """The pipeline plans the manifest itself too where an overlay has the name of its suffix."""
    answers = ["init", str(tmp_path), "--yes", "--environment-suffix", "dev"]
    assert 0 == CliRunner().invoke(main, answers).exit_code
    (tmp_path / "fleet.dev.yaml").write_text("environment_suffix: dv2\nregion: eu-central-1\n")
    assert 0 == CliRunner().invoke(main, ["init", "--from", str(tmp_path), "--write"]).exit_code
    workflow = yaml.safe_load((tmp_path / ".github" / "workflows" / "fleet.yml").read_text())
    planned = {
        (each["environment"], each["overlay"]) for each in workflow["jobs"]["plan"]["strategy"]["matrix"]["include"]
    }
    assert {("dev-base", ""), ("dev", "dev")} == planned


def test_a_link_out_of_the_project_is_refused(tmp_path: Path) -> None:
    """Nothing is written through a linked folder, at first or by a renewal."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (project / ".github").symlink_to(outside)
    refused = CliRunner().invoke(main, ["init", str(project), "--yes"])
    assert (6, []) == (refused.exit_code, list(outside.iterdir()))
