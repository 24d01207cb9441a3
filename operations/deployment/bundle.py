"""The bundle of a deployment: the saved plan of each stack, bound to the record, the stacks, the account and the tool.

A folder with `plan.json`, one plan file a stack, and `progress.json`, the stacks that were begun and applied from it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleet_iot.generator.diagnostics import EnvironmentFault, GateError, RequestError, StaleError, WriteError
from fleet_iot.generator.diff import impact
from fleet_iot.generator.diff.impact import Impact
from fleet_iot.operations.storage import make_private_folder, write_private
from fleet_iot.operations.terraform import PlannedChange

FORMAT = 1
PLAN = "plan.json"
PROGRESS = "progress.json"

OWN_FILES = re.compile(r"[a-z0-9-]+(\.rest)?\.plan|\.?(plan|progress)\.json(\.[0-9a-f]+)?")
"""Names of a bundle's files, and of those that an interrupted command leaves."""

BEGUN: Final = "begun"
REFUSED: Final = "refused"
APPLIED: Final = "applied"
"""The progress of a stack; REFUSED is one whose state has changed since its plan, or was locked."""

DATA = frozenset(
    {
        "aws_cloudwatch_log_group",
        "aws_dynamodb_table",
        "aws_kinesis_stream",
        "aws_kms_key",
        "aws_s3_bucket",
        "aws_sqs_queue",
    }
)
"""Types whose resources have data, or without which data cannot be read."""

IDENTITIES = frozenset({"aws_iot_certificate", "aws_iot_thing"})
"""Types by which devices connect."""

UNFINISHED = "tainted"
"""Terraform's reason for replacing what was not made completely."""

ROTATED = "rotation_finished"
"""The reason for deleting a certificate whose thing keeps another one, see `devices.with_rotations`."""

SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a stack; where it is APPLIED, with the lineage and serial of the state that this left."""

    step: Literal["begun", "refused", "applied"]
    lineage: str | None = None
    serial: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Facts that a bundle is bound to: they must be the same when it is applied.

    Args:
        record: SHA-256 of the index of the approved record.
        state: Where Terraform's states are.
    """

    application: str
    environment: str | None
    suffix: str
    account: str
    region: str
    state: str
    record: str
    tool: str
    terraform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStack:
    """The plan of one stack: its file and digest, the digest of the synthesised stack, and what it changes."""

    name: str
    file: str
    sha256: str
    stack_sha256: str
    changes: tuple[PlannedChange, ...]

    def count(self, action: str) -> int:
        """Count the changes with this action: create, update, delete or replace."""
        return sum(change.action == action for change in self.changes)

    @property
    def said(self) -> str:
        """Return the counts for people, such as "3 to add, 1 to replace"."""
        words = {"create": "add", "update": "change", "replace": "replace", "delete": "destroy"}
        counts = Counter(words.get(change.action, change.action) for change in self.changes)
        named = [word for word in (*words.values(), *counts) if counts[word]]
        return ", ".join(f"{counts[word]:,} to {word}" for word in dict.fromkeys(named)) or "no changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The plans of all stacks of one deployment, in the order of their names."""

    binding: Binding
    is_destroy: bool
    facilities: tuple[str, ...]
    stacks: tuple[PlannedStack, ...]

    @property
    def has_changes(self) -> bool:
        """Return whether an apply would change anything."""
        return any(stack.changes for stack in self.stacks)

    @property
    def dangers(self) -> Mapping[Impact, tuple[str, ...]]:
        """Return the addresses, as STACK: ADDRESS, of what breaks identities or destroys data."""
        found: dict[Impact, list[str]] = {each: [] for each in impact.REFUSED}
        for stack in self.stacks:
            for change in stack.changes:
                if worst := impact_of(change):
                    found[worst].append(f"{stack.name}: {change.address}")
        return {each: tuple(addresses) for each, addresses in found.items() if addresses}

    def document(self) -> dict[str, object]:
        """Return the content of `plan.json`: with counts, and the addresses of what is destroyed."""
        stacks = [
            asdict(stack)
            | {
                "add": stack.count("create"),
                "change": stack.count("update"),
                "replace": stack.count("replace"),
                "destroy": stack.count("delete"),
                "destroyed": [each.address for each in stack.changes if each.action in ("delete", "replace")],
            }
            for stack in self.stacks
        ]
        return {
            "format": FORMAT,
            "binding": asdict(self.binding),
            "is_destroy": self.is_destroy,
            "facilities": self.facilities,
            "stacks": stacks,
        }


def impact_of(change: PlannedChange) -> Impact | None:
    """Return the impact of a change on identities and data; None where it has none that needs a permission."""
    if change.action not in ("delete", "replace") or change.reason in (UNFINISHED, ROTATED):
        return None
    if change.resource_type in DATA:
        return Impact.DESTROYS_DATA
    if change.resource_type in IDENTITIES:
        return Impact.DESTROYS_DATA if change.action == "delete" else Impact.BREAKS_IDENTITY
    return None


def refuse_dangers(bundle: Bundle, *, allowed: Iterable[Impact], command: str) -> None:
    """Raise WriteError where the plans break identities or destroy data and this is not allowed.

    Only the command that applies can allow it: a file of the bundle could be edited.
    """
    permitted = set(allowed)
    refused = {each: found for each, found in bundle.dangers.items() if each not in permitted}
    if not refused:
        return
    text = ". ".join(
        f"{each}: {'; '.join(found[:SHOWN])}" + (f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else "")
        for each, found in refused.items()
    )
    flags = " ".join(f"--allow {each}" for each in refused)
    raise WriteError(
        f"nothing was applied, because of what it would do. {text}", hint=f"if it is meant: {command} {flags}"
    )


def make_folder(folder: Path) -> None:
    """Make an empty folder for a bundle, in the place of an earlier bundle. Raises WriteError for any other folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise WriteError(f"{folder} is no folder", hint="name another with --out")
    for path in folder.iterdir() if folder.is_dir() else ():
        if not OWN_FILES.fullmatch(path.name) or path.is_dir():
            raise WriteError(
                f"{folder} has {path.name}, which is no file of a plan", hint="name another folder with --out"
            )
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_private_folder(folder)


def save(bundle: Bundle, folder: Path) -> str:
    """Write `plan.json`, after the plan files that it names; return its digest."""
    content = (json.dumps(bundle.document(), indent=1) + "\n").encode()
    write_private(folder / PLAN, content)
    return hashlib.sha256(content).hexdigest()


def load(folder: Path, *, digest: str | None = None) -> tuple[Bundle, str]:
    """Read the bundle in a folder and verify its plan files; return it with its digest.

    Args:
        folder: The bundle.
        digest: What `plan.json` must hash to, as was printed when it was saved.

    Raises:
        EnvironmentFault: there is none.
        RequestError: it is of another format.
        GateError: a file differs from its digest.
    """
    content = _content(folder / PLAN)
    if content is None:
        raise EnvironmentFault(f"{folder} has no {PLAN}", hint="make one: fleet deploy --plan-only --out DIR")
    actual = hashlib.sha256(content).hexdigest()
    if digest is not None and actual != digest.lower():
        raise _tampered(folder / PLAN)
    try:
        found = json.loads(content)
        format_ = found["format"]
        if format_ != FORMAT:
            raise RequestError(
                f"{folder / PLAN} has format {format_}, and this version reads {FORMAT}", hint="plan it again"
            )
        bundle = msgspec.convert({name: found[name] for name in Bundle.__slots__}, type=Bundle)
    except (ValueError, KeyError, TypeError):
        raise GateError(f"{folder / PLAN} is no plan of a deployment", hint="plan it again") from None
    for stack in bundle.stacks:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", stack.name) or stack.file != plan_file(stack.name):
            raise _tampered(folder / PLAN)
        plan = _content(folder / stack.file)
        if plan is None or hashlib.sha256(plan).hexdigest() != stack.sha256:
            raise _tampered(folder / stack.file)
    return bundle, actual


def _content(path: Path) -> bytes | None:
    """Read a file of a bundle; None for no regular file. Others may read it: pipelines hand bundles on like that."""
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def plan_file(stack: str) -> str:
    """Return the name of a stack's plan file."""
    return f"{stack}.plan"


def _tampered(path: Path) -> GateError:
    return GateError(f"{path} is not what was planned", hint="plan it again, and have that plan approved")


def tool_version() -> str:
    """Return the version of this tool."""
    return version("fleet-iot")


def verify(bundle: Bundle, now: Binding) -> None:
    """Raise where a bundle is of another record, environment, account or state, or of an incompatible version.

    Terraform refuses plans of another version of itself; plans of the same major version of this tool are accepted.

    Raises:
        StaleError: the record was generated again since.
        RequestError: it is of something else.
        EnvironmentFault: the account, or a program's version, is another.
    """
    was, again = bundle.binding, "plan it again"
    if (was.account, was.region) != (now.account, now.region):
        raise EnvironmentFault(
            f"the plan is for account {was.account} in {was.region}, and this is {now.account} in {now.region}",
            hint="use the credentials, and the AWS, that it was planned with",
        )
    for what in ("application", "environment", "suffix", "state"):
        before, here = getattr(was, what), getattr(now, what)
        if before != here:
            raise RequestError(f"the plan's {what} is {before or 'none'}, and here it is {here or 'none'}", hint=again)
    if was.record != now.record:
        raise StaleError("the plan is of another approved record than this one", hint=again)
    if major(was.tool) != major(now.tool):
        raise EnvironmentFault(f"the plan was made by fleet {was.tool}, and this is {now.tool}", hint=again)
    if was.terraform != now.terraform:
        raise EnvironmentFault(
            f"the plan was made by Terraform {was.terraform}, and this is {now.terraform}",
            hint=f"use that version, or {again}",
        )


def major(text: str) -> tuple[str, ...]:
    """Return the part of a version that changes with its formats: 1 of 1.4.2, 0.2 of 0.2.1."""
    parts = text.split(".")
    return tuple(parts[:2] if parts[0] == "0" else parts[:1])


def stack_digest(stack: Path) -> str:
    """Return the SHA-256 over the files of a synthesised stack that decide its plan, and over their names."""
    files = {path.name: path for path in stack.iterdir() if path.name.endswith((".tf", ".tf.json"))}
    for path in list(files.values()):
        for name in re.findall(r"assets/[\w./-]+", path.read_text(encoding="utf-8")):
            files[name] = stack / name
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_progress(folder: Path) -> dict[str, Progress]:
    """Return the progress of each stack of this bundle. Raises GateError where it is no such file."""
    content = _content(folder / PROGRESS)
    if content is None:
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, Progress])
    except ValueError as error:
        raise GateError(
            f"{folder / PROGRESS} is no progress of a deployment: {error}",
            hint="plan it again, and have that plan approved",
        ) from None


def note_progress(folder: Path, stack: str, progress: Progress) -> None:
    """Note the progress of a stack."""
    write_private(folder / PROGRESS, msgspec.json.encode(read_progress(folder) | {stack: progress}) + b"\n")


def unplanned(planned: Iterable[PlannedChange], remaining: Iterable[PlannedChange]) -> tuple[str, ...]:
    """Return the addresses of changes that are no remainder of what was planned: none after an apply in part.

    What was planned to be created may have to be replaced, where its creation did not finish; what was planned to be
    replaced may have to be created, where it is deleted already.
    """
    asked = {(change.address, change.action) for change in planned}

    def is_rest(change: PlannedChange) -> bool:
        begun = {"replace": "create", "create": "replace", "delete": "replace"}.get(change.action)
        is_unfinished = change.action != "replace" or change.reason == UNFINISHED
        return (change.address, change.action) in asked or (is_unfinished and (change.address, begun) in asked)

    return tuple(change.address for change in remaining if not is_rest(change))
