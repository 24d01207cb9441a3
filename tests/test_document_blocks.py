"""The command blocks of the documents name commands and options that there are, and how each block is tested."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from fleet_iot.generator.cli.commands import main
from tests.document_blocks import DOCUMENTS, Block, blocks, environment, script
from tests.places import PROJECT, SAMPLE, link_wheels

PROGRAMS = ("fleet", "make", "python", "terraform", "pip", "git", "aws", "export", "cd", "npm")
OFFLINE = ("README.md", "docs/isolation.md", "docs/manifest.md", "docs/plan.md")
"""Pages whose unmarked blocks run here, each page's in a copy of the sample."""

ON_THE_LOCAL_AWS = ("docs/tutorial.md", "docs/how-to.md")
"""Pages whose unmarked blocks run one after the other in tests/integration/test_tutorial.py."""

ALL = [block for document in DOCUMENTS for block in blocks(document)]
SHELL = [block for block in ALL if block.language == "sh"]


def fleet_commands(block: Block) -> list[list[str]]:
    """Return the arguments of each `fleet` command of a block."""
    found = []
    for line in block.commands:
        for part in re.split(r"&&|\|\||;|\||>", line):
            words = shlex.split(part)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "fleet":
                found.append(words[1:])
    return found


def parse(arguments: list[str]) -> None:
    """Parse a command line as click does, without running it. Raises click.UsageError."""
    command: click.Command | None = main
    context = click.Context(main, info_name="fleet")
    while isinstance(command, click.Group):
        if not arguments or arguments[0] in ("--help", "--version", "-h"):
            return
        command = command.get_command(context, arguments[0])
        if command is None:
            raise click.UsageError(f"no command {arguments[0]!r}")
        context = click.Context(command, info_name=arguments[0], parent=context)
        arguments = arguments[1:]
    assert command is not None
    if "--help" in arguments:
        return
    values, rest, _ = command.make_parser(context).parse_args(args=list(arguments))
    missing = [each.name for each in command.params if each.required and values.get(each.name or "") in (None, ())]
    if rest or missing:
        raise click.UsageError(f"unexpected {rest}, missing {missing}")
    for option in command.params:
        value = values.get(option.name or "")
        if isinstance(option.type, click.Choice) and isinstance(value, str):
            option.type.convert(value, option, context)


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_each_command_of_the_documents_parses(block: Block) -> None:
    """A command block has no command, option or choice that the tool does not have."""
    refused = {}
    for arguments in fleet_commands(block):
        try:
            parse(arguments)
        except click.UsageError as error:
            refused[f"fleet {shlex.join(arguments)}"] = error.format_message()
    assert {} == refused


def test_each_block_with_commands_is_marked_as_one() -> None:
    """A block that begins with a program of ours has the language `sh`."""
    assert [] == [
        block.place
        for block in ALL
        if block.language == "" and block.commands and block.commands[0].split()[0] in PROGRAMS
    ]


def test_each_command_block_is_tested_or_needs_an_account() -> None:
    """A command block runs in its page's order, needs an account, or names the test that runs it."""
    wrong = []
    for block in SHELL:
        test = re.fullmatch(r"test=(\S+)", block.how)
        runs = block.how == "" and str(block.document.relative_to(PROJECT)) in (*OFFLINE, *ON_THE_LOCAL_AWS)
        if not (runs or block.how == "account" or (test and (PROJECT / test[1]).is_file())):
            wrong.append(block.place)
    assert [] == wrong


@pytest.mark.slow
@pytest.mark.cdktf
@pytest.mark.parametrize("page", OFFLINE)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    """The commands of a page run in the sample, in the page's order, and each succeeds."""
    project = tmp_path / "project"
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("build"))
    link_wheels(project)
    done = subprocess.run(
        ["bash", "-c", script(PROJECT / page)], cwd=project, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
