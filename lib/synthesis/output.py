"""Complete, check and publish the synthesised files."""

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

# @@ The synthesised files: made in a folder of their own, completed, checked, and only then put where Terraform looks.
# @@
# @@ What was checked replaces what was there, a file at a time and each of them whole, so that a synthesis that fails or is
# @@ ended leaves the former one: Terraform never sees a plant without its things, which it would destroy.

STACK_FILE = "cdk.tf.json"
INDENT = 2
"""As CDKTF writes it, keys sorted too; Terraform prints the whole line that it finds fault with."""


EXPRESSION = re.compile(r"(?<!\$)\$\{(?:([^{}]*)\})?|(?<!%)%\{")
"""What Terraform would evaluate: an opening brace behind one `$` or `%`; behind two or more it is text."""

REFERENCE = re.compile(r"(?P<data>data\.)?(?P<type>\w+)\.(?P<id>[\w-]+)\.\w+")
TEXT = '"fToken["'
"""An expression that is text: lib.shared.text keeps CDKTF from reading a token there."""


def stack_file(outdir: Path, stack: str) -> Path:
    return outdir / "stacks" / stack / STACK_FILE


def check_owner(outdir: Path, stack: str, *, application: str) -> None:
    """Raise where the state beside `stack` is another application's: an apply would destroy what that one has.

    Names of tables and streams are told apart by the suffix alone, so two applications may come to the same folder. In
    a bucket their states cannot meet: the key there begins with the application.
    """
    path = stack_file(outdir, stack)
    try:
        state = msgspec.json.decode(path.with_name(state_file(stack)).read_bytes())
        provider = msgspec.json.decode(path.read_bytes())["provider"]["aws"][0]
        owner = provider["default_tags"][0]["tags"]["application"]
    except (OSError, msgspec.DecodeError, KeyError, IndexError, TypeError):
        return  # no state here, or none of ours
    if owner != application and state.get("resources"):
        raise PrerequisiteError(
            f"{path.parent} has the state of the application '{owner}', and this is '{application}'.",
            remedy="Destroy that one there first (`terraform destroy`), or choose another suffix or FLEET_OUTDIR.",
        )


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


def check_expressions(path: Path) -> None:
    """Raise where the stack in `path` holds an expression that is no reference to something in that stack.

    Code makes no others. One more is text that nobody escaped, and Terraform would run what is in it.
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
    """What Terraform would evaluate in every string of `value`, keys included."""
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


# @@ Counts what was synthesised against what was planned: CDKTF merges resources whose ids look alike, silently.

ENDPOINT_COUNTS = {"aws_iot_domain_configuration": 1}
"""Resource type → number in the stack of the devices' endpoint."""


PLANT_ALARMS = 4
"""Of a plant as a whole: rule failures, rule throttles, quarantine, anomalies; each device type has one for silence."""


def platform_counts(fleet: FleetSpec) -> dict[str, int]:
    """Resource type → number in the platform's stack, as far as the manifest decides it."""
    return {"aws_iot_thing_type": len(fleet.device_types)}


def facility_counts(facility: FacilitySpec, *, certificates: int, has_markers: bool) -> dict[str, int]:
    """Resource type → number in the stack of `facility`, `certificates` of whose things have a CSR.

    `has_markers`: its prefixes in the archive are marked by an object each.
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
    """Raises where `resources`, read from the file of `stack`, are not as many of each type as they should be.

    `planned` is what the manifest decides; `declared` every construct and block that was made. Neither would do alone:
    a thing that nobody declared is missing from both file and `declared`, and the manifest knows nothing of the
    platform's buckets and roles.
    """
    for kind in sorted({*resources, *planned, *declared}):
        found = len(resources.get(kind, {}))
        for expected in (planned.get(kind, found), declared.get(kind, 0)):
            if found != expected:
                raise SynthesisError(
                    f"Stack {stack} holds {found} {kind} where {expected} were planned.",
                    remedy="Run `fleet generate`; if it changes nothing, two ids are merged: please report it.",
                )
