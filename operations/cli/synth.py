"""`fleet synth`: synthesise the Terraform stacks of the approved record."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from fleet_iot.generator.cli.options import environment_option
from fleet_iot.lib.record.place import VARIABLE


@click.command()
@environment_option
@click.pass_context
def synth(ctx: click.Context, environment: str | None) -> None:
    """Synthesise the stacks of the current folder's project into cdktf.out/stacks.

    Reads the approved record, not the manifest, and the environment variables of docs/platform.md. The same as
    `python -m lib.app`; the exit code is that program's.
    """
    # A process of its own: lib starts Node, and only lib may import cdktf. -P: no module of the project is imported.
    chosen = os.environ | {VARIABLE: environment or ""}
    ctx.exit(subprocess.call([sys.executable, "-P", "-m", "fleet_iot.lib.app"], env=chosen))
