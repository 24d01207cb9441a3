"""Complete, check and publish the synthesised files.

They are made in a staging folder. What was checked replaces what was there, one whole file at a time, so that a
synthesis that fails or is killed leaves the former files: Terraform never sees a facility without its things, which it
would destroy.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..faults import PrerequisiteError, SynthesisError
from ..names import state_file
from ..shared.things import Blocks
from ..specs import FacilitySpec, FleetSpec

STACK_FILE = "cdk.tf.json"
LOCK_FILE = ".terraform.lock.hcl"
INDENT = 2
"""As CDKTF writes it, with sorted keys; Terraform prints the whole line of a fault."""


EXPRESSION = re.compile(r"(?<!\$)\$\{(?:([^{}]*)\})?|(?<!%)%\{")
"""Terraform evaluates a brace after one `$` or `%`; after two or more it is text."""

REFERENCE = re.compile(r"(?P<data>data\.)?(?P<type>\w+)\.(?P<id>[\w-]+)\.\w+")
TEXT = '"fToken["'
"""The expression by which lib.shared.text keeps CDKTF from reading a token in text."""


def stack_file(outdir: Path, stack: str) -> Path:
    return outdir / "stacks" / stack / STACK_FILE


def check_owner(outdir: Path, stack: str, *, application: str, account_id: str | None) -> None:
    """Raise where the state beside `stack` is another application's or account's: an apply would lose or destroy it.

    Stack names differ by the suffix only, so two applications, or environments in two accounts, may use the same
    folder. In a state bucket two applications cannot collide: the key there begins with the application.
    """
    path = stack_file(outdir, stack)
    try:
        state = msgspec.json.decode(path.with_name(state_file(stack)).read_bytes())
        provider = msgspec.json.decode(path.read_bytes())["provider"]["aws"][0]
        owner = provider["default_tags"][0]["tags"]["application"]
        accounts = provider.get("allowed_account_ids") or [account_id]
    except (OSError, msgspec.DecodeError, KeyError, IndexError, TypeError):
        return  # no state here, or none of ours
    if not state.get("resources") or (owner == application and account_id in accounts):
        return
    whose, own = (
        (f"application '{owner}'", f"'{application}'")
        if owner != application
        else (f"account {accounts[0]}", str(account_id))
    )
    raise PrerequisiteError(
        f"{path.parent} has the state of the {whose}, and this is {own}.",
        remedy="Destroy that one there first (`terraform destroy`), or choose another suffix or FLEET_OUTDIR.",
    )


def read_resources(path: Path) -> Blocks:
    """Return the resources of a stack's file."""
    resources: Blocks = msgspec.json.decode(path.read_bytes()).get("resource", {})
    return resources


def add_lock(path: Path, lock: Path) -> None:
    """Put Terraform's dependency lock file beside the stack in `path`, where it is of the version that this requires.

    CDK Terrain's bindings require another version than CDKTF's; without a lock, `terraform init` writes one.
    """
    required = msgspec.json.decode(path.read_bytes())["terraform"]["required_providers"]["aws"]["version"]
    if f'"{required}"' in lock.read_text(encoding="utf-8"):
        shutil.copyfile(lock, path.with_name(LOCK_FILE))


def add_blocks(path: Path, blocks: Blocks) -> None:
    """Add `blocks` to the stack in `path`. Raises SynthesisError where an address exists already."""
    document = msgspec.json.decode(path.read_bytes())
    resources: Blocks = document.setdefault("resource", {})
    for kind, added in blocks.items():
        made = resources.setdefault(kind, {})
        for id_ in made.keys() & added.keys():
            raise SynthesisError(
                f"{path.parent.name} would have {kind}.{id_} twice.", remedy="Two ids are merged: please report it."
            )
        made.update(added)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=INDENT))


def check_expressions(path: Path) -> None:
    """Raise where the stack in `path` has an expression that is no reference within that stack.

    Code makes no others: it would be unescaped text, which Terraform would evaluate.
    """
    document = msgspec.json.decode(path.read_bytes())
    for expression in _expressions(document):
        match = REFERENCE.fullmatch(expression)
        declared = document.get("data" if match and match["data"] else "resource", {})
        if not match or match["id"] not in declared.get(match["type"], {}):
            raise SynthesisError(
                f"{path.parent.name} would have Terraform evaluate {expression!r}, which is text.",
                remedy="Please report it: text from the manifest must stay text.",
            )


def _expressions(value: Any) -> Iterator[str]:
    """Yield the expressions in every string of `value`, keys included."""
    if isinstance(value, str):
        for match in EXPRESSION.finditer(value) if "{" in value else ():
            if match[1] != TEXT:
                yield match[1] if match[1] is not None else match[0]
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _expressions(key)
            yield from _expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions(inner)


@contextmanager
def staging(outdir: Path) -> Iterator[Path]:
    """Yield a folder to synthesise into, whose files are published to `outdir` at the end unless an error occurs."""
    outdir.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=outdir))
    try:
        yield staged
        _publish(staged, outdir)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _publish(staged: Path, outdir: Path) -> None:
    """Move the files, assets before the stacks that refer to them."""
    files = [path for path in staged.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: (path.name == STACK_FILE, path)):
        target = outdir / path.relative_to(staged)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


ENDPOINT_COUNTS = {"aws_iot_domain_configuration": 1}
"""Resource type → number in the endpoint's stack."""

PLANT_ALARMS = 4
"""Alarms of a whole facility: rule failures, rule throttles, quarantine, anomalies."""


def platform_counts(fleet: FleetSpec) -> dict[str, int]:
    """Return resource type → number in the platform's stack, as far as the manifest decides it."""
    return {"aws_iot_thing_type": len(fleet.device_types)}


def facility_counts(facility: FacilitySpec, *, certificates: int, has_markers: bool) -> dict[str, int]:
    """Return resource type → number in a facility's stack.

    Args:
        certificates: Number of its things that have a CSR.
        has_markers: Each of its archive prefixes has a marker object.
    """
    things = facility.thing_count if facility.registration == "terraform" else 0
    return {
        "aws_iot_thing": things,
        "aws_iot_thing_group_membership": things,
        "aws_iot_certificate": certificates,
        "aws_iot_policy_attachment": certificates,
        "aws_iot_thing_principal_attachment": certificates,
        "aws_iot_thing_group": 1 + len(facility.groups),
        "aws_iot_policy": len(facility.groups),
        "aws_s3_object": len(facility.groups) if has_markers else 0,
        "aws_iot_topic_rule": 1,
        "aws_iot_provisioning_template": 1,
        "aws_cloudwatch_dashboard": 1,
        "aws_cloudwatch_metric_alarm": PLANT_ALARMS + len(facility.groups),
    }


def check_counts(stack: str, resources: Blocks, *, planned: Mapping[str, int], declared: Mapping[str, int]) -> None:
    """Raise where the resources in a stack's file are not as many as planned and declared.

    CDKTF silently merges resources whose ids look alike.

    Args:
        planned: Counts that the manifest decides; they reveal a thing that was never declared.
        declared: Counts of constructs and blocks; they include the buckets and roles that the manifest does not know.
    """
    for kind in sorted({*resources, *planned, *declared}):
        found = len(resources.get(kind, {}))
        for expected in (planned.get(kind, found), declared.get(kind, 0)):
            if found != expected:
                raise SynthesisError(
                    f"Stack {stack} has {found} {kind} where {expected} were planned.",
                    remedy="Run `fleet generate`; if it changes nothing, two ids are merged: please report it.",
                )
