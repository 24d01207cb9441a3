"""The project's own gate: manifest, record, isolation, synthesis and AWS's rules, of every environment, in seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet_iot.generator.cli.formats import catalogue, to_sarif
from fleet_iot.generator.diagnostics import (
    Diagnostic,
    FleetError,
    GateError,
    ManifestError,
    SourceLocation,
    visible,
)
from fleet_iot.generator.manifest.load import read_with_warnings
from fleet_iot.generator.manifest.project import environment_file
from fleet_iot.generator.text import counted
from fleet_iot.lib.record.place import MANIFEST, VARIABLE, with_environment
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.assurance.compliance.calls import CALLS
from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.findings import Finding, read_skips
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, read_synthesised
from fleet_iot.operations.assurance.compliance.planning import ACCOUNT_ID, STACK_FILE, UNWANTED, prepare
from fleet_iot.operations.assurance.isolation.fleet import gather_fleet
from fleet_iot.operations.assurance.isolation.proof import prove
from fleet_iot.operations.project import Project, build_folder, load_project
from fleet_iot.operations.terraform import run_synthesis

OF_STAGES = {
    "record": "The generated record is what the manifest says.",
    "isolation": "No thing can connect, publish or subscribe as another.",
    "synthesis": "The record synthesises.",
}
"""Demands of the stages that have one rule each, by name; the manifest and AWS's rules have rules of their own."""

NEED_CERTIFICATES = frozenset({"identity-of-its-own"})
"""Checks of AWS's rules that make sense only once every thing has a CSR."""

TAGGED = frozenset(type_ for type_, call in CALLS.items() if "tags_all" in call.members)
WITHOUT_CSR = re.compile(r"(\d+) of \d+ things have no CSR yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The result of one stage: failed where `exit_code` is not 0; `note` is a summary, or why it was skipped."""

    name: str
    seconds: float = 0.0
    note: str = ""
    exit_code: int = 0
    is_skipped: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def result(self) -> str:
        return "skipped" if self.is_skipped else "failed" if self.exit_code else "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """All stages of one environment, in order; without a name it is the manifest's own."""

    environment: str | None
    files: str
    stages: tuple[Stage, ...]


Outcome = tuple[str, tuple[Diagnostic, ...]]
"""A stage's summary, and what it found."""


def check_environment(root: Path, environment: str | None, *, say: Callable[[str], None]) -> Checked:
    """Check one environment of the project at `root`; each stage says its line when it is done.

    The stages after the record judge the record as it is, also where the manifest has faults or says something else.
    Nothing is written but below `check` in the environment's build folder.
    """
    manifest = root / MANIFEST
    files = f"{MANIFEST} with {environment_file(manifest, environment).name}" if environment else MANIFEST
    say(visible(files))
    stages: list[Stage] = []

    def stage(name: str, act: Callable[[], Outcome], *, skip: str = "") -> Stage:
        done = Stage(name=name, is_skipped=True, note=skip) if skip else _run(name, act, environment)
        stages.append(done)
        for line in _lines(done):
            say(line)
        return done

    valid = stage("manifest", lambda: _validate(manifest, environment))
    held: list[Project] = []
    stage("record", lambda: _compare(root, environment, held, is_valid=not valid.exit_code))
    unread = "" if held else "the record cannot be read"
    stage("isolation", lambda: _isolate(held[0]), skip=unread)
    scratch = build_folder(root, environment) / "check"
    made = stage("synthesis", lambda: _synthesise(held[0], scratch), skip=unread)
    missing = unread or ("nothing was synthesised" if made.exit_code else "")
    stage("AWS rules", lambda: judge_stacks(held[0], scratch / "cdktf.out" / "stacks"), skip=missing)
    return Checked(environment=environment, files=files, stages=tuple(stages))


def _run(name: str, act: Callable[[], Outcome], environment: str | None) -> Stage:
    started = time.perf_counter()
    note, code = "", 0
    found: tuple[Diagnostic, ...] = ()
    try:
        note, found = act()
        code = 0 if all(each.is_warning for each in found) else GateError.exit_code
    except ManifestError as error:
        note, code, found = counted(len(error.diagnostics), "error"), error.exit_code, error.diagnostics
    except FleetError as error:
        place = SourceLocation(file=MANIFEST)
        hint = with_environment(error.hint or "", environment)
        found = (Diagnostic(location=place, message=error.message, hint=hint, rule=name),)
        code = error.exit_code
    return Stage(name=name, seconds=time.perf_counter() - started, note=note, exit_code=code, diagnostics=found)


def _validate(path: Path, environment: str | None) -> Outcome:
    manifest, warnings = read_with_warnings(path, name=MANIFEST, environment=environment)
    things = sum(facility.thing_count for facility in manifest.facilities.values())
    return (
        f"{counted(len(manifest.facilities), 'facility')}, {counted(len(manifest.device_types), 'device type')}, "
        f"{counted(things, 'thing')}"
    ), warnings


class _RefusedError(FleetError):
    """A command of `fleet` ended with an exit code of its own."""

    def __init__(self, exit_code: int, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code  # type: ignore[misc]


def _compare(root: Path, environment: str | None, held: list[Project], *, is_valid: bool) -> Outcome:
    """Read the record, and compare it with the manifest where that is valid; `held` gets the project."""
    held.append(load_project(root, environment))
    if not is_valid:
        return "unchanged since it was generated; not compared, as the manifest has errors", ()
    # A process of its own, as the generator's pipeline is not for other programs to import.
    command = [sys.executable, "-P", "-m", "fleet_iot", "generate", "--check"]
    chosen = os.environ | {VARIABLE: environment or ""}
    done = subprocess.run(command, cwd=root, env=chosen, capture_output=True, text=True, check=False)
    if done.returncode:
        said, _, hint = done.stderr.strip().partition("\nhint: ")
        raise _RefusedError(done.returncode, said.removeprefix("error: ") or "no output", hint=hint)
    return done.stdout.strip().rstrip("."), ()


def _isolate(project: Project) -> Outcome:
    proof = prove(gather_fleet(project))
    place = SourceLocation(file=MANIFEST)
    found = tuple(
        Diagnostic(
            location=place,
            message=f"{each.group}: {each.claim}: {each.detail}: {each.witness!r}",
            hint="see docs/isolation.md",
            rule="isolation",
        )
        for each in proof.findings
    )
    return f"{counted(proof.things, 'thing')} under {counted(proof.policies, 'policy')}", found


def _synthesise(project: Project, scratch: Path) -> Outcome:
    """Synthesise into `scratch`, from a copy of the identities: synthesis adds new keys to their locks."""
    shutil.rmtree(scratch, ignore_errors=True)
    identities = Path(os.environ.get("FLEET_IDENTITIES") or project.root / "identities") / project.environment_suffix
    if identities.is_dir():
        shutil.copytree(identities, scratch / "identities" / project.environment_suffix)
    chosen = {name: value for name, value in os.environ.items() if not name.startswith(UNWANTED)} | {
        "FLEET_ACCOUNT_ID": project.account_id or ACCOUNT_ID,
        "FLEET_IDENTITIES": str(scratch / "identities"),
        "FLEET_OUTDIR": str(scratch / "cdktf.out"),
        VARIABLE: project.environment or "",
    }
    done = run_synthesis(project.root, chosen)
    missing = sum(map(int, WITHOUT_CSR.findall(done.stderr)))
    stacks = len(list((scratch / "cdktf.out" / "stacks").iterdir()))
    return counted(stacks, "stack") + (f"; without a CSR yet: {counted(missing, 'thing')}" if missing else ""), ()


def judge_stacks(project: Project, folder: Path) -> Outcome:
    """Judge the synthesised stacks in `folder` by AWS's service models and by the project's own checks.

    It changes their files: references in policies become literal.
    """
    account_id = project.account_id or ACCOUNT_ID
    read = []
    for stack in sorted(folder.iterdir()):
        prepare(stack, region=project.fleet.region, account_id=account_id)
        read.append(read_synthesised(stack.name, json.loads((stack / STACK_FILE).read_bytes()), tagged=TAGGED))
    planned = PlannedInfrastructure(
        environment_suffix=project.environment_suffix,
        retention=project.fleet.retention,
        data_events=project.fleet.audit.data_events,
        stacks=tuple(stack for stack, _ in read),
        resources=tuple(resource for _, resources in read for resource in resources),
    )
    things, certificates = (len(list(planned.of(type_))) for type_ in ("aws_iot_thing", "aws_iot_certificate"))
    checks = [check for check in CHECKS if things == certificates or check.id not in NEED_CERTIFICATES]
    findings = [finding for check in checks for finding in check.run(planned)]
    accepted = [skip for skip in read_skips() if skip.retention in (None, project.fleet.retention)]
    failed = [each for each in findings if not each.has_passed and not any(skip.covers(each) for skip in accepted)]
    stack_of = {each.address: each.stack for each in planned.resources}
    found = tuple(_finding(project, each, stack_of.get(each.resource, each.resource)) for each in failed)
    return f"{counted(len(planned.resources), 'resource')} by {counted(len(checks), 'check')}", found


def _finding(project: Project, finding: Finding, stack: str) -> Diagnostic:
    """Return a failed check as a diagnostic, at the record of the plant whose stack it is."""
    suffix = project.environment_suffix
    plants: dict[str, FacilitySpec] = {f"facility-{each.id}-{suffix}": each for each in project.facilities}
    file = f"{project.record_name}/{plants[stack].module}/__init__.py" if stack in plants else MANIFEST
    return Diagnostic(
        location=SourceLocation(file=file),
        message=f"{finding.resource} {finding.attribute}: {finding.problem}",
        rule=finding.check,
    )


# Print what was found: lines for people; JSON, SARIF and JUnit for programs.

SHOWN = 20


def _lines(stage: Stage) -> Iterator[str]:
    yield f"  {stage.name:<9}  {stage.result:<7}  {stage.seconds:5.1f} s  {visible(stage.note)}".rstrip()
    for diagnostic in stage.diagnostics[:SHOWN]:
        yield "\n".join(f"    {line}" for line in str(diagnostic).splitlines())
    if len(stage.diagnostics) > SHOWN:
        yield f"    and {len(stage.diagnostics) - SHOWN:,} more: --format json"


def failures(checked: Iterable[Checked]) -> list[tuple[Checked, Stage]]:
    """Return the stages that failed, in order."""
    return [(each, stage) for each in checked for stage in each.stages if stage.exit_code]


def to_json(checked: Sequence[Checked]) -> str:
    """Return one JSON object; fields are only ever added."""
    body = {
        "format": 1,
        "ok": not failures(checked),
        "environments": [
            {
                "environment": each.environment,
                "files": each.files,
                "stages": [
                    {
                        "name": stage.name,
                        "result": stage.result,
                        "exit_code": stage.exit_code,
                        "seconds": round(stage.seconds, 3),
                        "note": stage.note,
                        "diagnostics": [
                            {
                                "file": found.location.file,
                                "line": found.location.line,
                                "column": found.location.column,
                                "severity": "warning" if found.is_warning else "error",
                                "rule": found.rule,
                                "message": found.message,
                                "hint": found.hint,
                            }
                            for found in stage.diagnostics
                        ],
                    }
                    for stage in each.stages
                ],
            }
            for each in checked
        ],
    }
    return json.dumps(body, indent=2)


def to_sarif_log(checked: Sequence[Checked]) -> str:
    """Return a SARIF log of one run; what several environments have in common is there once."""
    found = dict.fromkeys(each for one in checked for stage in one.stages for each in stage.diagnostics)
    sentences = catalogue() | OF_STAGES | {check.id: f"{check.demand}." for check in CHECKS}
    return to_sarif(tuple(found), tool="fleet check", sentences=sentences)


def to_junit(checked: Sequence[Checked], *, now: datetime) -> str:
    """Return a JUnit report: a suite for each environment, a case for each stage.

    Valid by the schema of Ant's task and by that of Jenkins: https://github.com/windyroad/JUnit-Schema
    """
    suites = ElementTree.Element("testsuites")
    for number, each in enumerate(checked):
        failed = sum(stage.result == "failed" for stage in each.stages)
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=each.files,
            package="fleet.check",
            id=str(number),
            timestamp=now.strftime("%Y-%m-%dT%H:%M:%S"),
            hostname="localhost",
            tests=str(len(each.stages)),
            failures=str(failed),
            errors="0",
            skipped=str(sum(stage.is_skipped for stage in each.stages)),
            time=f"{sum(stage.seconds for stage in each.stages):.3f}",
        )
        ElementTree.SubElement(suite, "properties")
        for stage in each.stages:
            case = ElementTree.SubElement(
                suite, "testcase", name=stage.name, classname=f"fleet.check.{each.environment or 'base'}"
            )
            case.set("time", f"{stage.seconds:.3f}")
            if stage.is_skipped:
                ElementTree.SubElement(case, "skipped", message=stage.note)
            elif stage.exit_code:
                failure = ElementTree.SubElement(case, "failure", type=f"exit {stage.exit_code}")
                failure.set("message", visible(stage.diagnostics[0].message) if stage.diagnostics else stage.note)
                failure.text = "\n".join(str(found) for found in stage.diagnostics)
        ElementTree.SubElement(suite, "system-out")
        ElementTree.SubElement(suite, "system-err")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)
