"""Extending without forking: own templates and own rules, by the example of docs/extending.md."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.manifest import rules as own_rules
from fleet_iot.generator.output import templating
from fleet_iot.generator.output.render import render_facility
from fleet_iot.generator.plan.build import plan_fleet
from tests.places import PROJECT, SAMPLE

ROOT = PROJECT
Install = Callable[[str], Path]
GUIDE = (ROOT / "docs" / "extending.md").read_text("utf-8")


def block(introduction: str) -> str:
    """The code block of the guide that follows a text."""
    found = re.search(rf"{re.escape(introduction)}.*?```\w*\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert found is not None, introduction
    return found[1]


def template(project: Any, name: str, text: str) -> None:
    """Puts an own template into the project."""
    folder = project.folder / "templates" / "facility"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")


@pytest.fixture
def install(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts the guide's package, with a module of one's own, where Python finds it, as pip leaves it."""
    folder = tmp_path_factory.mktemp("site")

    def put(module: str) -> Path:
        project = tomllib.loads(block("`pyproject.toml`,"))["project"]
        info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        ((group, points),) = project["entry-points"].items()
        lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        (folder / "plant_rules.py").write_text(module)
        return folder

    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "plant_rules", raising=False)
    own_rules._rules.cache_clear()
    yield put
    own_rules._rules.cache_clear()
    sys.modules.pop("plant_rules", None)


def test_template_of_the_guide_makes_what_the_guide_shows(project: Any) -> None:
    """On the committed sample: one more file a plant, of exactly that text."""
    shutil.copy(SAMPLE / "fleet.yaml", project.folder / "fleet.yaml")
    template(project, "labels.json.j2", block("`templates/facility/labels.json.j2`:"))
    result = project.fleet("generate")
    assert 0 == result.exit_code, result.stderr
    assert "wrote lib/facilities/my_jb_01/labels.json\n" in result.stdout
    assert block("`fleet generate` then writes") == (project.tree / "sg_01" / "labels.json").read_text()
    assert 0 == project.fleet("generate", "--check").exit_code


def test_rule_of_the_guide_finds_what_the_guide_shows(project: Any, install: Install) -> None:
    """The package, once installed, is asked by every command that reads the manifest, in text and for programs."""
    shutil.copy(SAMPLE / "fleet.yaml", project.folder / "fleet.yaml")
    install(block("`plant_rules.py`:"))
    result = project.fleet("validate")
    assert (3, block("`fleet validate` on the sample:")) == (result.exit_code, result.stderr)
    told = json.loads(project.fleet("validate", "--format", "json").stdout)
    assert [("slow-enough", 38)] == [(found["rule"], found["line"]) for found in told["diagnostics"]]
    assert 3 == project.fleet("generate").exit_code


@pytest.mark.slow
def test_rule_of_the_guide_is_found_by_a_fresh_process(project: Any, install: Install) -> None:
    """Nothing but the installed package is needed."""
    shutil.copy(SAMPLE / "fleet.yaml", project.folder / "fleet.yaml")
    folder = install(block("`plant_rules.py`:"))
    assert 3 == project.process("validate", environment={"PYTHONPATH": f"{ROOT}:{folder}"}).exit_code


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("import no_such_module\n", "cannot be loaded: No module named 'no_such_module'"),
        ("slow_enough = 3\n", "is no function"),
        ("def slow_enough(manifest):\n    yield 'a fault'\n", "yields 'a fault', not (path, message, hint)"),
        ("def slow_enough(manifest):\n    yield (('x', 1.5), 'a', 'b')\n", "yields (('x', 1.5), 'a', 'b'), not"),
    ],
)
def test_rule_that_does_not_work_is_told_with_its_name(project: Any, install: Install, module: str, words: str) -> None:
    """The package is at fault, not the manifest: exit 7."""
    install(module)
    result = project.fleet("validate")
    assert (7, True) == (result.exit_code, result.stderr.startswith("error: the rule `slow-enough` "))
    assert words in result.stderr


def test_rules_see_no_manifest_with_faults_of_shape(project: Any, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a rule needs no care for what is missing; a fault may have no hint."""
    seen = []

    def rule(manifest: Any) -> Any:
        seen.append(manifest)
        yield ["facilities", "sg-01", "name"], "no such name"

    monkeypatch.setattr(own_rules, "_rules", lambda: (("names", rule),))
    project.write(data(region=3))
    assert (3, 0) == (project.fleet("validate").exit_code, len(seen))
    project.write(data(region="nowhere"))
    assert ["there is no region", "no such name"] == [
        word for word in ("there is no region", "no such name") if word in project.fleet("validate").stderr
    ]


def test_values_are_encoded_for_the_suffix(project: Any, data: Any) -> None:
    """Text that a person wrote is a literal in each language, whatever it contains."""
    name = 'Werk "1" {{ x }} */ """'
    facilities = {"sg-01": {"name": name, "timezone": "Asia/Singapore", "things": {"press": 3}}}
    project.write(data(facilities=facilities))
    template(project, "a.json.j2", "[{{ facility.name }}]")
    template(project, "a.py.j2", "NAME = {{ facility.name }}\n")
    template(project, "a.md.j2", "{{ facility.name }}\n")
    template(project, "a.sql.j2", "SELECT {{ facility.id }}\n")
    assert 0 == project.fleet("generate").exit_code
    folder = project.tree / "sg_01"
    assert [name] == json.loads((folder / "a.json").read_text())
    assert f"NAME = {name!r}\n" == (folder / "a.py").read_text()
    assert "{{" not in (folder / "a.md").read_text()
    assert "SELECT 'sg-01'\n" == (folder / "a.sql").read_text()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json.j2", "{", "it is not JSON"),
        ("a.py.j2", "import os\n", "a declaration contains no Import"),
        ("a.sql.j2", "SELECT 1; DROP x", "it is not one statement"),
        ("a.md.j2", "{{ '{{' }}", ""),
        ("a.md.j2", "x\n{{ facility.nmae }}", "templates/facility/a.md.j2:2: sg_01/a.md was not written: "),
        ("a.md.j2", "x\n\n{% for %}", "templates/facility/a.md.j2:3: "),
        ("a.md.j2", "{{ facility.name | safe }}", "No filter named 'safe'"),
        ("a.md.j2", "{{ facility.__class__.__mro__ }}", "unsafe"),
        ("a.md.j2", "{{ 1 // 0 }}", "templates/facility/a.md.j2:1: sg_01/a.md was not written: "),
        ("a.md.j2", "{% include '../../fleet.yaml' %}", "templates/facility/a.md.j2:1: "),
        ("a.sql.j2", 'SELECT {{ "it\'s" }}', "cannot be placed in an AWS IoT SQL string"),
        ("a.txt.j2", "x", "files of this kind have no encoder"),
        ("a.md", "x", "this is no template"),
        ("a b.md.j2", "x", "this is no template"),
        ("runbook.md.j2", "x", "the generator makes runbook.md itself"),
        ("things.jsonl.j2", "x", ""),
        ("pump.policy.json.j2", "{}", "the generator makes pump.policy.json itself"),
        ("rule_telemetry_x.sql.j2", "SELECT 1", "the generator makes rule_telemetry_x.sql itself"),
    ],
)
def test_template_with_a_fault_writes_nothing(project: Any, name: str, text: str, words: str) -> None:
    """It is told with its file, and its line where there is one: exit 5, or one harmless text."""
    template(project, name, text)
    result = project.fleet("generate")
    if name == "a.md.j2" and not words:
        assert (0, r"\{\{") == (result.exit_code, (project.tree / "sg_01" / "a.md").read_text())
        return
    assert (5, True) == (result.exit_code, words in result.stderr), result.stderr
    assert not (project.tree / "sg_01").exists()


def test_own_files_are_indexed_checked_and_pruned(project: Any) -> None:
    """A changed template makes each plant stale, a hand edit is refused, and the file goes with its template."""
    template(project, "a.md.j2", "one\n")
    assert 0 == project.fleet("generate").exit_code
    (project.tree / "sg_01" / "a.md").write_text("mine\n")
    template(project, "a.md.j2", "two\n")
    assert 6 == project.fleet("generate").exit_code
    assert 0 == project.fleet("generate", "--force").exit_code
    template(project, "a.md.j2", "three\n")
    assert "safe    sg-01  all files regenerated\n" in project.fleet("plan").stdout
    assert 4 == project.fleet("generate", "--check").exit_code
    assert 0 == project.fleet("generate", "--facility", "sg-01").exit_code
    assert ("three\n", "two\n") == tuple((project.tree / plant / "a.md").read_text() for plant in ("sg_01", "th_01"))
    assert "th-01 is stale" in project.fleet("generate", "--check").stderr
    assert 0 == project.fleet("generate").exit_code
    shutil.rmtree(project.folder / "templates")
    assert 4 == project.fleet("generate", "--check").exit_code
    assert "removed lib/facilities/sg_01/a.md\n" in project.fleet("generate").stdout
    assert not (project.tree / "sg_01" / "a.md").exists()


def test_templates_share_parts(project: Any) -> None:
    """A template whose name begins with `_` makes no file; others include it, and import macros from it."""
    template(project, "_parts.j2", "{% macro title(x) %}# {{ x }}{% endmacro %}")
    template(project, "_end.md.j2", "end of {{ facility.id }}\n")
    template(project, "a.md.j2", "{% from '_parts.j2' import title %}{{ title('A') }}\n{% include '_end.md.j2' %}")
    assert 0 == project.fleet("generate").exit_code
    assert "# A\nend of sg&#45;01\n".replace("&#45;", "-") == (project.tree / "sg_01" / "a.md").read_text()
    assert not (project.tree / "sg_01" / "_end.md").exists()


def test_every_built_in_file_is_reserved(manifest: Any, tmp_path: Path) -> None:
    """No own template can take the place of a file that the generator makes."""
    folder = tmp_path / "templates" / "facility"
    folder.mkdir(parents=True)
    (facility, *_) = plan_fleet(manifest()).facilities
    for artefact in render_facility(facility):
        file = folder / f"{artefact.path.rpartition('/')[2]}.j2"
        file.touch()
        with pytest.raises(GateError):
            templating.read_templates(tmp_path)
        file.unlink()


def test_names_that_differ_in_capitals_alone_are_refused(project: Any) -> None:
    """Some disks take them for one file."""
    template(project, "a.md.j2", "x")
    template(project, "A.md.j2", "x")
    assert 5 == project.fleet("generate").exit_code
