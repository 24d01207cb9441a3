"""Make runs alike wherever they start, and spare the fast tests the imports of modules that they leave out."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import SAMPLE, link_wheels

SHARED = ("plant", "stacks")
"""Fixtures of a whole run that take long to make: all their tests run in one worker, which makes them once."""

WHOLE = re.compile(r"^pytestmark = .*$", flags=re.MULTILINE)


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests interrupt, and give the sample the Lambda's wheels.

    A shell starts its background jobs with SIGINT ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    link_wheels(SAMPLE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip a module that is marked as a whole with a mark that the run excludes: importing cdktf takes five seconds."""
    if collection_path.suffix != ".py":
        return None
    line = WHOLE.search(collection_path.read_text(encoding="utf-8"))
    marks = re.findall(r"mark\.(\w+)", line[0]) if line else []
    return True if any(f"not {mark}" in config.option.markexpr for mark in marks) else None


@pytest.hookimpl(tryfirst=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for `--dist loadgroup`: by the fixture that they share in the whole run, else by module."""
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        fixtures = item._fixtureinfo.name2fixturedefs
        shared = [name for name in SHARED if name in fixtures and fixtures[name][-1].scope == "session"]
        item.add_marker(pytest.mark.xdist_group(shared[0] if shared else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session", autouse=True)
def sample() -> Iterator[None]:
    """Run every test in the sample's folder, unless it chooses another: never in the repository's own project."""
    with contextlib.chdir(SAMPLE):
        yield
