"""`fleet synth`: synthesise the Terraform stacks of the approved record."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command()
@click.pass_context
def synth(ctx: click.Context) -> None:
    """Synthesise the stacks of the current folder's project into cdktf.out/stacks.

    Reads the approved record, not the manifest, and the environment variables of docs/platform.md. The same as
    `python -m lib.app`; the exit code is that program's.
    """
    # A process of its own: lib starts Node, and only lib may import cdktf. -P: no module of the project is imported.
    ctx.exit(subprocess.call([sys.executable, "-P", "-m", "fleet_iot.lib.app"]))
