"""Builders for the local AWS's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.aws import LocalAws

Start = Callable[..., LocalAws]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts local AWSs in folders of their own, and ends what the test left running."""
    started: list[LocalAws] = []

    def begin(name: str = "local", **arguments: int) -> LocalAws:
        local = emulator.start(folder=tmp_path / name, region="ap-southeast-1", **arguments)
        started.append(local)
        return local

    yield begin

    for local in started:
        if local.folder.exists():
            emulator.stop(local)
