"""The documents keep up with what they describe."""

from __future__ import annotations

import re

import click
import pytest

from fleet_iot.generator.cli import reference
from fleet_iot.generator.cli.commands import OPERATIONS
from fleet_iot.generator.cli.commands import main as cli
from tests.places import PROJECT

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def command_paths() -> list[str]:
    """Every command that a person can type, groups opened."""
    context = click.Context(cli)
    assert isinstance(cli, click.Group)
    assert set(OPERATIONS) <= set(cli.list_commands(context))
    paths = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            paths += [f"{name} {sub}" for sub in command.list_commands(context)]
        else:
            paths.append(name)
    return paths


@pytest.mark.parametrize("path", command_paths())
def test_every_command_is_in_the_readme(path: str) -> None:
    """README's table names each command and sub-command."""
    group, _, sub = path.partition(" ")
    lines = [line for line in README.splitlines() if line.startswith(f"| `fleet {group}")]
    assert any(re.search(rf"\b{sub or group}\b", line) for line in lines)


def test_every_link_of_the_documents_leads_somewhere() -> None:
    """No relative link in README or docs is dead."""
    dead = [
        f"{document.relative_to(PROJECT)}: {target}"
        for document in [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert [] == dead


def test_every_make_target_is_explained() -> None:
    """`make help` shows each target that is meant for people."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE)) - {"lint", "fast"}
    explained = set(re.findall(r"^([a-z]+):.*## ", makefile, flags=re.MULTILINE))
    assert targets == explained


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md", "docs/inside.md"])
def test_every_path_of_the_guides_exists(name: str) -> None:
    """Every path in backticks that looks like a file or folder of the repository exists."""
    tops = "|".join(path.name for path in PROJECT.iterdir() if path.is_dir() and not path.name.startswith("."))
    text = (PROJECT / name).read_text(encoding="utf-8")
    paths = re.findall(rf"`((?:{tops})/[\w/.-]*)`", text)
    made = ("build/", "cdktf.out/", "identities/", "lib/environments/")
    assert [] == [path for path in paths if not path.startswith(made) and not (PROJECT / path).exists()]


def test_the_reference_is_what_the_code_says() -> None:
    """The reference pages are those that `python -m fleet_iot.generator.cli.reference` writes, and no others."""
    folder = PROJECT / reference.FOLDER
    assert reference.pages() == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_every_key_of_the_manifest_has_a_meaning() -> None:
    """No row of the reference of keys lacks its last column."""
    assert [] == [line for line in reference.manifest_page().splitlines() if line.endswith("|  |")]
