"""Terraform's dependency lock file beside every stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.lib.synthesis import settings
from fleet_iot.operations.terraform import PROVIDER_VERSION, find_provider_mirror, find_terraform
from tests.lib.conftest import FACILITIES, FLEET

LOCK = Path(settings.__file__).with_name(settings.PROVIDER_LOCK)


def _settings(project: Path) -> settings.Settings:
    return settings.read_settings({}, fleet=FLEET, facilities=FACILITIES, project=project)


def test_it_pins_the_version_of_the_bindings() -> None:
    """One provider, in exactly the version that the stacks require, with the hash of its package."""
    text = LOCK.read_text()
    assert re.findall(r'^provider "(.+)"', text, re.MULTILINE) == ["registry.terraform.io/hashicorp/aws"]
    assert re.findall(r'^  (?:version|constraints) += "(.+)"', text, re.MULTILINE) == [PROVIDER_VERSION] * 2
    assert re.fullmatch(r"h1:[\w+/]{43}=", *re.findall(r'"(h1:.+)"', text))


def test_other_platforms_have_no_lock_but_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Terraform would refuse a provider whose package is not locked; a project's own file serves any platform."""
    monkeypatch.setattr(settings, "LOCKED_PLATFORM", ("plan9", "mips"))
    assert _settings(tmp_path).provider_lock is None
    own = tmp_path / settings.PROVIDER_LOCK
    own.write_text("# own")
    assert _settings(tmp_path).provider_lock == own
    monkeypatch.undo()
    assert _settings(tmp_path).provider_lock == own


@pytest.mark.cdktf
@pytest.mark.skipif(find_provider_mirror().mirror is None, reason="no mirror of the provider is here")
def test_terraform_accepts_the_package_and_no_other(synthesis_of: Callable[..., Any], tmp_path: Path) -> None:
    """`init -lockfile=readonly` works from the mirror, and fails where the hash is another."""
    stacks = synthesis_of(facilities=(), provider_lock=LOCK)
    folder = tmp_path / "stack"
    shutil.copytree(stacks.outdir / "stacks" / "tap-tst", folder)
    init = [find_terraform(), "init", "-lockfile=readonly", "-no-color", f"-plugin-dir={find_provider_mirror().mirror}"]
    environment = {"PATH": os.environ["PATH"], "CHECKPOINT_DISABLE": "1"}
    done = subprocess.run(init, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lock = folder / ".terraform.lock.hcl"
    assert lock.read_bytes() == LOCK.read_bytes()
    lock.write_text(lock.read_text().replace("h1:", "h1:A", 1).replace("0=", "=", 1))
    shutil.rmtree(folder / ".terraform")
    done = subprocess.run(init, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "checksums" in done.stderr
