"""The skips: findings that are accepted, each an exact (check, resource) pair with its reason (`skips.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.operations.assurance.compliance.findings import Finding

SKIPS = Path(__file__).with_name("skips.json")

SHORTEST_REASON = 20
"""Characters; a shorter one explains nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """One accepted finding; `check` is `SCANNER CHECK`, as in the report.

    `retention`: where the manifest asks for that one alone.
    """

    check: str
    resource: str
    reason: str
    retention: str | None = None

    def covers(self, finding: Finding) -> bool:
        return self.check == f"{finding.scanner} {finding.check}" and self.resource == finding.resource


def read_skips(path: Path = SKIPS) -> tuple[Skip, ...]:
    """The skips in the order of the file. Raises GateError where one has no reason, or is there twice."""
    skips = tuple(Skip(**row) for row in json.loads(path.read_text(encoding="utf-8")))
    seen: set[tuple[str, str]] = set()
    for skip in skips:
        pair = (skip.check, skip.resource)
        if len(skip.reason.strip()) < SHORTEST_REASON:
            raise GateError(f"the skip of {skip.check} on {skip.resource} gives no reason", hint=f"say why, in {path}")
        if pair in seen:
            raise GateError(f"{skip.check} on {skip.resource} is skipped twice", hint=f"take one out of {path}")
        seen.add(pair)
    return skips


def stale(skips: Iterable[Skip], findings: Iterable[Finding]) -> tuple[Skip, ...]:
    """The skips of what does not fail: it was mended, or renamed, and the next fault there would go unseen."""
    failing = [finding for finding in findings if not finding.has_passed]
    return tuple(skip for skip in skips if not any(skip.covers(finding) for finding in failing))
