"""Make projects for syntheses and onboarding: this repository's programs, another manifest, CSRs of all things."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator import pipeline
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.yaml import parse_document
from fleet_iot.lib.specs import suffixed
from fleet_iot.operations.pki.csr import line_of, sign_request

ROOT = Path(__file__).parents[1]
PROGRAMS = ("lambda", "requirements", "lib")
"""Folders that `python -m lib.app` needs; the declarations are generated."""

NOT_COPIED = shutil.ignore_patterns("__pycache__", "facilities", "environments")


def copy_programs(folder: Path) -> Path:
    """Copy the programs that a synthesis needs into `folder`, and link the Lambda's wheels."""
    for name in PROGRAMS:
        shutil.copytree(ROOT / name, folder / name, ignore=NOT_COPIED)
    wheels = ROOT / "build" / "lambda"
    wheels.mkdir(parents=True, exist_ok=True)
    (folder / "build").mkdir()
    (folder / "build" / "lambda").symlink_to(wheels)
    return folder


def make_project(folder: Path, manifest: FleetManifest) -> Path:
    """Make a project in `folder` with the manifest's declarations."""
    copy_programs(folder)
    (folder / "fleet.yaml").touch()  # marks the project's folder; the declarations are the manifest's
    pipeline.generate(manifest, folder, facilities=(), force=False)
    return folder


def lifted_manifest(data: dict[str, Any]) -> FleetManifest:
    """Validate `data` with bulk registration, then switch to Terraform's, whose limit is only a rule."""
    plants = {id_: {**plant, "registration": "bulk"} for id_, plant in data["facilities"].items()}
    valid = validate(parse_document(json.dumps({**data, "facilities": plants}), name="fleet.yaml"))
    lifted = {id_: plant.model_copy(update={"registration": "terraform"}) for id_, plant in valid.facilities.items()}
    return valid.model_copy(update={"facilities": lifted})


def write_csrs(project: Path, manifest: FleetManifest) -> None:
    """Write a CSR for every thing, each with its own key: synthesis refuses shared keys."""
    suffix = manifest.environment_suffix
    folder = project / "identities" / suffix
    folder.mkdir(parents=True)
    for id_ in manifest.facilities:
        things = project / "lib" / "facilities" / id_.replace("-", "_") / "things.jsonl"
        with things.open("rb") as rows, (folder / f"{id_}.csrs.jsonl").open("w", encoding="ascii") as lines:
            for row in rows:
                name = suffixed(json.loads(row)["name"], suffix)
                lines.write(line_of(name, sign_request(name, ec.generate_private_key(ec.SECP256R1()))))


def synthesis_environment(project: Path, outdir: Path) -> dict[str, str]:
    """Return this process's environment without settings of a synthesis, and with `outdir`."""
    steering = ("FLEET_", "ENVIRONMENT_", "TERRAFORM_", "CDKTF_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return kept | {"FLEET_ACCOUNT_ID": "123456789012", "FLEET_OUTDIR": str(outdir), "PYTHONPATH": str(project)}
