"""Make runs alike wherever they start, and spare the fast tests the imports of modules that they leave out."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.places import SAMPLE, link_wheels

PLANT = ("added_plant", "deploy", "isolation", "onboarding", "running_plant")

SHARED = {
    "plant": {f"tests/integration/test_{name}.py" for name in PLANT},
    "nobody": {
        "tests/operations/local/test_two_users.py",
        "tests/operations/test_storage.py",
        "tests/test_disks.py",
        "tests/test_package.py",
    },
}
"""Modules that run in one worker: those of one applied fleet; and those that act as another user, for whom one of them
closes the clone."""

WHOLE = re.compile(r"^pytestmark = .*$", flags=re.MULTILINE)


def pytest_configure() -> None:
    """Let Ctrl-C reach the commands that tests interrupt, and give the sample the Lambda's wheels.

    A shell starts its background jobs with SIGINT ignored. An example has no deadline: machines do other things too.
    """
    hypothesis.settings.register_profile("any machine", deadline=None)
    hypothesis.settings.load_profile("any machine")
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the modules that wait for a local AWS first: at the end they would leave other workers without work."""
    waiting = {item.path for item in items if item.get_closest_marker("local_aws")}
    items.sort(key=lambda item: item.path not in waiting)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadfile`, keep modules that share something in one worker, in their order."""
    return ByShared(config, log) if config.getvalue("dist") == "loadfile" else None


class ByShared(LoadScopeScheduling):
    """Schedules tests by module, and the modules of SHARED together."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return next((name for name, modules in SHARED.items() if module in modules), module)


@pytest.fixture(scope="session", autouse=True)
def sample() -> Iterator[None]:
    """Run every test in the sample's folder, unless it chooses another: never in the repository's own project."""
    with contextlib.chdir(SAMPLE):
        yield
