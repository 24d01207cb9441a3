"""Where keys and CSRs lie and how the passphrase comes in: the environment of the identity commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from generator.diagnostics import EnvironmentFault
from operations.identities.keystore import HEADER, KeyStore
from operations.private_files import inside
from operations.project import Project

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
    """One store an application and environment, below `FLEET_KEYS_DIR` or the home folder, never the project."""
    base = Path(os.environ.get("FLEET_KEYS_DIR") or Path.home() / ".fleet" / "keys")
    return inside(base, f"{project.fleet.application}-{project.environment_suffix}")


def ledgers_of(project: Project) -> list[Path]:
    """The ledgers of the application's own authorities on this machine, of all environments."""
    return sorted(keys_folder(project).parent.glob(f"{project.fleet.application}-*/{LEDGER}"))


def open_store(project: Project) -> KeyStore:
    """The key store, with the passphrase of `FLEET_KEYS_PASSPHRASE` or asked for on a terminal."""
    folder = keys_folder(project)
    passphrase = os.environ.get("FLEET_KEYS_PASSPHRASE")
    if not passphrase:
        if not sys.stdin.isatty():
            raise EnvironmentFault(
                "the key store needs a passphrase and there is no terminal to ask on",
                hint="set FLEET_KEYS_PASSPHRASE",
            )
        founded = (folder / HEADER).exists()
        passphrase = click.prompt("Key store passphrase", hide_input=True, confirmation_prompt=not founded, err=True)
    return KeyStore(folder, passphrase)
