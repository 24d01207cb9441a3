"""Checks and their findings, the catalogue of controls (`controls.json`), and the accepted findings (`skips.json`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource

# A check looks at one attribute of a resource and says that it is right, or what is wrong.

OWN = "fleet"
CHECKOV = "checkov"
PARLIAMENT = "parliament"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """The result of one check on one attribute of a resource; it has passed where `problem` is empty."""

    scanner: str
    check: str
    resource: str
    attribute: str
    problem: str = ""

    @property
    def has_passed(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that a check saw; `resource` is an address, or a stack's name where a whole stack is meant."""

    resource: str
    attribute: str
    problem: str = ""


Look = Callable[..., Iterator[Observation]]
"""Yields what it observes in a planned infrastructure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One of the project's own checks.

    Args:
        id: Its name in the report, the catalogue and the skips.
        demand: What it demands, in one sentence.
        look: Observes every resource that the check is about.
        about: The type without which there is nothing to observe: a fleet that is registered in bulk has no
            certificates. A check without it must always observe something.
    """

    id: str
    demand: str
    look: Look
    about: str = ""

    def run(self, planned: PlannedInfrastructure) -> tuple[Finding, ...]:
        """Return what the check finds on every resource that it is about."""
        return tuple(
            Finding(scanner=OWN, check=self.id, resource=seen.resource, attribute=seen.attribute, problem=seen.problem)
            for seen in self.look(planned)
        )


def check(id_: str, demand: str, *, about: str = "") -> Callable[[Look], Check]:
    """Make a check of the function that looks."""
    return lambda look: Check(id=id_, demand=demand, look=look, about=about)


def observe(subject: Resource | str, attribute: str, *problems: str) -> Observation:
    """Return one observation of a resource, or of a stack by its name; empty problems are none."""
    address = subject if isinstance(subject, str) else subject.address
    return Observation(resource=address, attribute=attribute, problem="; ".join(filter(None, problems)))


def problem_unless(is_right: object, problem: str) -> str:
    """Return the problem, or nothing where all is right."""
    return "" if is_right else problem


# The catalogue of controls and checks (`controls.json`), and the accepted findings (`skips.json`).

CATALOGUE = Path(__file__).with_name("controls.json")

UNMAPPED = "Good practice"
"""The framework of what only a scanner demands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """A body of controls, and where it is published."""

    id: str
    title: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One control; its id begins with that of its framework."""

    id: str
    title: str

    @property
    def framework(self) -> str:
        return UNMAPPED if self.id.startswith(UNMAPPED) else self.id.partition(" ")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """All of `controls.json`."""

    frameworks: tuple[Framework, ...]
    controls: Mapping[str, Control]
    checks: Mapping[str, tuple[str, ...]]
    only: Mapping[str, tuple[str, ...]]
    """Beginnings of ids of controls that are about some resources only, with the beginnings of their addresses."""

    not_met: tuple[tuple[str, str], ...]

    def controls_of(self, finding: Finding) -> tuple[Control, ...]:
        """Return the controls that a finding answers; the scanner's own demand where none is mapped."""
        # What parliament says is one demand, whatever it calls the fault that it found.
        key = f"{PARLIAMENT} role-policy" if finding.scanner == PARLIAMENT else f"{finding.scanner} {finding.check}"
        if key in self.checks:
            return tuple(self.controls[id_] for id_ in self.checks[key] if self._is_about(id_, finding))
        return (Control(id=f"{UNMAPPED} {finding.check}", title=f"Demanded by {finding.scanner} only"),)

    def _is_about(self, control: str, finding: Finding) -> bool:
        """Return whether the control is about the resource: a key that rotates is no evidence for an unencrypted topic.

        Each event that CIS requires to be watched is a control of its own, named by the attribute.
        """
        if control.startswith("CIS 4."):
            return finding.attribute.startswith(f"{control.removeprefix('CIS ')} ")
        return all(
            finding.resource.startswith(addresses)
            for beginning, addresses in self.only.items()
            if control.startswith(beginning)
        )


def read_catalogue(path: Path = CATALOGUE) -> Catalogue:
    document = json.loads(path.read_text(encoding="utf-8"))
    frameworks = [Framework(id=id_, **body) for id_, body in document["frameworks"].items()]
    frameworks.append(Framework(id=UNMAPPED, title="Good practice of the scanners", source="https://www.checkov.io"))
    return Catalogue(
        frameworks=tuple(frameworks),
        controls={id_: Control(id=id_, title=title) for id_, title in document["controls"].items()},
        checks={check: tuple(ids) for check, ids in document["checks"].items()},
        only={beginning: tuple(addresses) for beginning, addresses in document["only"].items()},
        not_met=tuple((each["what"], each["why"]) for each in document["not_met"]),
    )


SKIPS = Path(__file__).with_name("skips.json")

SHORTEST_REASON = 20
"""Characters; a shorter one explains nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """One accepted finding; `check` is `SCANNER CHECK`, as in the report.

    With `retention`, it applies only where the manifest asks for that one.
    """

    check: str
    resource: str
    reason: str
    retention: str | None = None

    def covers(self, finding: Finding) -> bool:
        return self.check == f"{finding.scanner} {finding.check}" and self.resource == finding.resource


def read_skips(path: Path = SKIPS) -> tuple[Skip, ...]:
    """Read the skips in the order of the file. Raises GateError where one has no reason, or is there twice."""
    skips = tuple(Skip(**row) for row in json.loads(path.read_text(encoding="utf-8")))
    seen: set[tuple[str, str]] = set()
    for skip in skips:
        pair = (skip.check, skip.resource)
        if len(skip.reason.strip()) < SHORTEST_REASON:
            raise GateError(
                f"the skip of {skip.check} on {skip.resource} has no reason", hint=f"add the reason in {path}"
            )
        if pair in seen:
            raise GateError(f"{skip.check} on {skip.resource} is skipped twice", hint=f"delete one from {path}")
        seen.add(pair)
    return skips


def stale(skips: Iterable[Skip], findings: Iterable[Finding]) -> tuple[Skip, ...]:
    """Return the skips of what does not fail (any more): a later fault there would go unnoticed."""
    failing = [finding for finding in findings if not finding.has_passed]
    return tuple(skip for skip in skips if not any(skip.covers(finding) for finding in failing))
