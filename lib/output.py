"""The synthesised files: made in a folder of their own, completed, checked, and only then put where Terraform looks.

What was checked replaces what was there, a file at a time and each of them whole, so that a synthesis that fails or is
ended leaves the former one: Terraform never sees a plant without its things, which it would destroy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from lib.faults import SynthesisError

Blocks = dict[str, dict[str, dict[str, Any]]]
"""Resource type → logical id → arguments, as in the `resource` of a Terraform JSON file."""

STACK_FILE = "cdk.tf.json"
INDENT = 2
"""As CDKTF writes it, keys sorted too; Terraform prints the whole line that it finds fault with."""


def stack_file(outdir: Path, stack: str) -> Path:
    return outdir / "stacks" / stack / STACK_FILE


def read_resources(path: Path) -> Blocks:
    """What a stack's file holds, as it was written."""
    resources: Blocks = msgspec.json.decode(path.read_bytes()).get("resource", {})
    return resources


def add_blocks(path: Path, blocks: Blocks) -> None:
    """Adds `blocks` to the stack in `path`; raises where a construct has made one of the same address."""
    document = msgspec.json.decode(path.read_bytes())
    resources: Blocks = document.setdefault("resource", {})
    for kind, added in blocks.items():
        made = resources.setdefault(kind, {})
        for id_ in made.keys() & added.keys():
            raise SynthesisError(
                f"{path.parent.name} would hold {kind}.{id_} twice.", remedy="Two ids are merged: please report it."
            )
        made.update(added)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=INDENT))


@contextmanager
def staging(outdir: Path) -> Iterator[Path]:
    """A folder to synthesise into; what it holds at the end without a fault goes into `outdir`, the rest away."""
    outdir.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=outdir))
    try:
        yield staged
        _publish(staged, outdir)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _publish(staged: Path, outdir: Path) -> None:
    """Assets come before the stacks that name them."""
    files = [path for path in staged.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name == STACK_FILE, path)):
        target = outdir / path.relative_to(staged)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
