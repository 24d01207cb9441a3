"""Synthesises the whole fleet as for a real account: in a folder of its own, every thing with a throw-away CSR."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.csr import csr_path, sign_request, write_requests
from fleet_iot.operations.project import Project

ACCOUNT_ID = "123456789012"
"""A literal account makes ARNs, and so policies, whole; AWS's documentation uses this one for examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """The folders of all stacks, and how many CSRs went into them."""

    stacks: tuple[Path, ...]
    csrs: int


def synthesise(project: Project, *, folder: Path) -> Synthesised:
    """Every stack of `project`, below `folder`, whose earlier content goes.

    The keys of the CSRs are never written: nobody can be any of these things.
    """
    output, identities = folder / "cdktf.out", folder / "identities"
    for old in (output, identities):
        shutil.rmtree(old, ignore_errors=True)
    csrs = _write_csrs(project, identities)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(UNWANTED)} | {
        "ENVIRONMENT_SUFFIX": project.environment_suffix,
        "FLEET_ACCOUNT_ID": ACCOUNT_ID,
        "FLEET_IDENTITIES": str(identities),
        "FLEET_REQUIRE_CSRS": "1",
        "FLEET_OUTDIR": str(output),
    }
    done = subprocess.run(
        [sys.executable, "-m", "fleet_iot.lib.app"],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise EnvironmentFault(
            f"the stacks cannot be synthesised: {lines[0].removeprefix('error: ')}",
            hint="see it alone: python -m lib.app",
        )
    return Synthesised(stacks=tuple(sorted((output / "stacks").iterdir())), csrs=csrs)


UNWANTED = ("FLEET_", "TERRAFORM_STATE_", "CDKTF_")
"""A person's settings, which would make the stacks others than those of the committed fleet."""


def _write_csrs(project: Project, identities: Path) -> int:
    """A CSR for each thing that Terraform registers."""
    written = 0
    for facility in project.facilities:
        if facility.registration != "terraform":
            continue
        requests = {
            thing.name: sign_request(thing.name, ec.generate_private_key(ec.SECP256R1()))
            for thing in project.things(facility)
        }
        write_requests(csr_path(identities, project.environment_suffix, facility.id), requests)
        written += len(requests)
    return written
