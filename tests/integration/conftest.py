"""A small company's project, applied to a local AWS once for all integration tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.interruptions import INTERRUPTIONS, interruptions
from tests.integration.plant import CANARIES, PASSPHRASE, Plant
from tests.places import PROJECT, link_wheels


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The small company's project, generated, with keys, up, and applied after interruptions; down at the end."""
    folder = tmp_path_factory.mktemp("plant")
    root = folder / "project"
    root.mkdir()
    link_wheels(root)
    shutil.copy(Path(__file__).parent / "fleet.yaml", root / "fleet.yaml")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ENVIRONMENT_"))}
    mirror = os.environ.get("FLEET_PROVIDER_MIRROR")
    environment = kept | {"FLEET_KEYS_DIR": str(folder / "keys"), "FLEET_KEYS_PASSPHRASE": PASSPHRASE}
    environment |= {"PYTHONPATH": str(PROJECT)}
    environment |= CANARIES | ({"FLEET_PROVIDER_MIRROR": mirror} if mirror else {})
    plant = Plant(root=root, environment=environment)
    plant.fleet("generate")
    plant.fleet("keys", "create", "--all")
    try:
        plant.fleet("local", "up", "--as-deployer")
        interrupted = interruptions(plant) if INTERRUPTIONS else ()
        plant.fleet("local", "apply", "--redeliver", "0.5")
        yield replace(plant, interrupted=interrupted)
    finally:
        if (root / "build" / "local" / "endpoint.json").exists():
            plant.fleet("local", "down")
