"""The demo's story where it does not end well."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault, OutcomeError
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


def test_a_fleet_without_things_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without things is refused before keys are made and a local AWS is started."""
    project = load_project(SAMPLE)
    plants = tuple(replace(facility, groups=(), thing_count=0) for facility in project.facilities)
    request = steps.DemoRequest(folder=tmp_path / "demo", things=1, rate=1.0, duration_s=1.0, seed=1)
    monkeypatch.setattr(steps.emulator, "start", lambda **given: pytest.fail("a local AWS was started"))
    with pytest.raises(OutcomeError, match="no facility has things"):
        steps.run_demo(
            request,
            generate=lambda: replace(project, facilities=plants),
            say=lambda line: None,
            on_progress=lambda done, of: None,
        )
    assert not (tmp_path / "demo" / "keys").exists()
