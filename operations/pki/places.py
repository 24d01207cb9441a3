"""Where keys and CSRs lie and how the passphrase comes in: the environment of the identity commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.keystore import HEADER, KeyStore
from fleet_iot.operations.private_files import inside
from fleet_iot.operations.project import Project

LEDGER = "authority.sqlite"
"""The own authority's ledger, in the folder of the keys."""
CERTIFICATE, CRL = "ca.pem", "crl.pem"
"""Its certificate and its list of revoked ones, in `authority_folder`."""


def authority_folder(project: Project) -> Path:
    """Where the own authority's public parts lie, all committed."""
    return inside(identities_folder(project), project.environment_suffix) / "ca"


def identities_folder(project: Project) -> Path:
    """`FLEET_IDENTITIES`, else `identities/` of the project."""
    return Path(os.environ.get("FLEET_IDENTITIES") or project.root / "identities")


def keys_folder(project: Project) -> Path:
    """One store an application and environment, below `FLEET_KEYS_DIR` or the home folder. Raises EnvironmentFault
    where that is inside the project or its repository: a commit, or a copy, would take the keys along."""
    base = Path(os.environ.get("FLEET_KEYS_DIR") or Path.home() / ".fleet" / "keys")
    repository = _repository(project.root.resolve())
    if base.resolve().is_relative_to(repository):
        raise EnvironmentFault(
            f"the key store would lie in {base.resolve()}, inside the repository {repository}: keys never go there",
            hint="point FLEET_KEYS_DIR at a folder outside of it, or unset it (~/.fleet/keys)",
        )
    return inside(base, f"{project.fleet.application}-{project.environment_suffix}")


def _repository(root: Path) -> Path:
    """The working copy that the project lies in, else the project's folder; a home folder under version control is
    none, or there would be no place for keys."""
    found = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    return root if Path.home().resolve().is_relative_to(found) else found


def ledgers_of(project: Project) -> list[Path]:
    """The ledgers of the application's own authorities on this machine, of all environments."""
    return sorted(keys_folder(project).parent.glob(f"{project.fleet.application}-*/{LEDGER}"))


def open_store(project: Project, *, founds: bool = False, shortest: int | None = None) -> KeyStore:
    """The key store, with the passphrase of `FLEET_KEYS_PASSPHRASE` or asked for on a terminal.

    A command that makes keys `founds` it where there is none, with a passphrase of `shortest` characters (8); any
    other leaves nothing behind. Raises EnvironmentFault.
    """
    folder = keys_folder(project)
    if not founds and not os.path.lexists(folder / HEADER):
        raise EnvironmentFault(
            f"there is no key store in {folder}",
            hint="point FLEET_KEYS_DIR at the right folder; `fleet keys create` founds one",
        )
    passphrase = os.environ.get("FLEET_KEYS_PASSPHRASE")
    if not passphrase:
        if not sys.stdin.isatty():
            raise EnvironmentFault(
                "the key store needs a passphrase and there is no terminal to ask on",
                hint="set FLEET_KEYS_PASSPHRASE",
            )
        founded = (folder / HEADER).exists()
        passphrase = click.prompt("Key store passphrase", hide_input=True, confirmation_prompt=not founded, err=True)
    return KeyStore(folder, passphrase, shortest=shortest)
