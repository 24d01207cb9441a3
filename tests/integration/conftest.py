"""A small company's project, applied to a local AWS once for all integration tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.plant import CANARIES, PASSPHRASE, ROOT, Plant

NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "build", "cdktf.out", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """The small company's project, generated, with keys, up and applied; taken down at the end."""
    folder = tmp_path_factory.mktemp("plant")
    root = folder / "project"
    shutil.copytree(ROOT, root, ignore=NOT_COPIED)
    shutil.copy(Path(__file__).parent / "fleet.yaml", root / "fleet.yaml")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ENVIRONMENT_"))}
    mirror = os.environ.get("FLEET_PROVIDER_MIRROR")
    environment = kept | {"FLEET_KEYS_DIR": str(folder / "keys"), "FLEET_KEYS_PASSPHRASE": PASSPHRASE}
    environment |= CANARIES | ({"FLEET_PROVIDER_MIRROR": mirror} if mirror else {})
    plant = Plant(root=root, environment=environment)
    plant.fleet("generate", "--allow", "breaks-identity", "--allow", "destroys-data")
    plant.fleet("keys", "create", "--all")
    try:
        plant.fleet("local", "up")
        plant.fleet("local", "apply", "--redeliver", "0.5")
        yield plant
    finally:
        if (root / "build" / "local" / "endpoint.json").exists():
            plant.fleet("local", "down")
