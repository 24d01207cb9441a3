"""The demo's story where it does not end well."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.aws import LocalAws
from fleet_iot.operations.project import load_project
from fleet_iot.operations.rehearsal import demo as steps
from tests.places import SAMPLE


@pytest.mark.local_aws
@pytest.mark.slow
def test_a_fault_names_logs_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local AWS is gone and its folder with it; the file that the hint names is where the hint says."""

    def fail(local: LocalAws, **given: Any) -> None:
        log = local.logs / "terraform-tap-dev.log"
        log.write_text("what it said\n")
        raise EnvironmentFault("terraform apply of tap-dev failed", hint=f"all that it said is in {log}")

    monkeypatch.setattr(steps.deployment, "apply", fail)
    folder = tmp_path / "demo"
    request = steps.DemoRequest(folder=folder, things=1, rate=1.0, duration_s=1.0, seed=1)
    with pytest.raises(EnvironmentFault) as fault:
        steps.run_demo(
            request, generate=lambda: load_project(SAMPLE), say=lambda line: None, on_progress=lambda done, of: None
        )
    named = Path((fault.value.hint or "").removeprefix("all that it said is in "))
    assert (folder / "logs" / "terraform-tap-dev.log", "what it said\n") == (named, named.read_text())
    assert ((folder / "logs" / "emulator.log").exists(), (folder / "local").exists()) == (True, False)
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
