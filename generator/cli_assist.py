"""The commands that help a person along: `fleet explain`."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import click

from generator.cli_options import found_manifest, manifest_option, shown


@click.command()
@click.argument("name")
@manifest_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(name: str, manifest_path: Path | None, as_json: bool) -> None:
    """Says what NAME is, and where in the manifest it comes from.

    NAME is that of a thing, topic, policy, rule, group, type, metric, table, bucket, role, prefix or folder, with or
    without the environment suffix.
    """
    from generator import explain as explaining
    from generator.document import read_document
    from generator.plan import plan_fleet
    from generator.validation import validate

    path = found_manifest(manifest_path)
    document = read_document(path, name=shown(path))
    manifest = validate(document)
    found = explaining.explain(
        plan_fleet(manifest),
        name,
        suffixes=(manifest.environment_suffix, os.environ.get("ENVIRONMENT_SUFFIX", manifest.environment_suffix)),
        locate=partial(document.sources.at, is_key=True),
    )
    if as_json:
        click.echo(json.dumps({"name": name, "explanations": [item.plain() for item in found]}, indent=1))
        return
    click.echo("\n\n".join("\n".join(item.lines()) for item in found))
