"""The verdict: what passed, what failed, what is accepted and why, and whether the gate looked at everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from fleet_iot.operations.assurance.compliance.controls import Skip, stale
from fleet_iot.operations.assurance.compliance.counts import Count
from fleet_iot.operations.assurance.compliance.findings import Finding
from fleet_iot.operations.assurance.compliance.mutations import Trial

SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All that a run of the gate found out."""

    findings: tuple[Finding, ...]
    skips: tuple[Skip, ...]
    trials: tuple[Trial, ...]
    counts: tuple[Count, ...]
    parse_errors: int
    resources: int
    held: Mapping[str, int]
    """How many attributes were held against AWS's service models, and against how many constraints."""

    titles: Mapping[str, str]
    """What each check demands, by `SCANNER CHECK`."""

    def skip_of(self, finding: Finding) -> Skip | None:
        """Why a failed finding is accepted, where it is."""
        if finding.has_passed:
            return None
        return next((skip for skip in self.skips if skip.covers(finding)), None)

    def word_for(self, finding: Finding) -> str:
        if finding.has_passed:
            return "passed"
        return "skipped" if self.skip_of(finding) else "failed"

    def totals(self) -> dict[str, int]:
        """The figures, as the report gives them."""
        words = Counter(map(self.word_for, self.findings))
        return {
            "passed": words["passed"],
            "failed": words["failed"],
            "skipped": words["skipped"],
            "parse_errors": self.parse_errors,
            "resources": self.resources,
            **self.held,
            "mutations": len(self.trials),
            "mutations_caught": sum(trial.is_caught for trial in self.trials),
        }

    def by_scanner(self) -> dict[str, dict[str, int]]:
        """Scanner → the numbers of its findings by verdict."""
        found: dict[str, Counter[str]] = {}
        for finding in self.findings:
            found.setdefault(finding.scanner, Counter())[self.word_for(finding)] += 1
        return {
            scanner: {word: words[word] for word in ("passed", "failed", "skipped")}
            for scanner, words in sorted(found.items())
        }

    def faults(self) -> tuple[str, ...]:
        """Everything for which the gate must fail, each in a sentence; nothing where all is well.

        A check that fails as it is fires, whatever a mutation adds to that.
        """
        firing = {each.check for each in self.findings if self.word_for(each) == "failed"}
        return (
            *(
                f"{each.resource} {each.attribute}: {each.problem} ({each.scanner} {each.check})"
                for each in self.findings
                if self.word_for(each) == "failed"
            ),
            *(
                f"the skip of {each.check} on {each.resource} is stale: nothing fails there"
                for each in stale(self.skips, self.findings)
            ),
            *(
                f"{each.what}: {each.seen} where {'at least ' * each.at_least}{each.expected} were expected"
                for each in self.counts
                if not each.is_right
            ),
            *(
                f"mutation not caught by {each.check}: {each.mutation}"
                for each in self.trials
                if not each.is_caught and each.check not in firing
            ),
            *([f"{self.parse_errors} files could not be parsed"] if self.parse_errors else []),
        )


def summary(verdict: Verdict) -> str:
    """The figures on a few lines."""
    totals = verdict.totals()
    scanners = "; ".join(
        f"{scanner} {words['passed']:,} passed, {words['failed']} failed, {words['skipped']} skipped"
        for scanner, words in verdict.by_scanner().items()
    )
    return (
        f"{totals['passed']:,} passed, {totals['failed']} failed, {totals['skipped']} skipped with a reason, "
        f"{totals['parse_errors']} parse errors, on {totals['resources']:,} resources\n"
        f"{scanners}\n"
        f"{totals['attributes']:,} attributes are what AWS's service models take, by {totals['constraints']:,} "
        f"constraints, {totals['different_constraints']:,} different ones\n"
        f"{totals['mutations_caught']} of {totals['mutations']} mutations caught"
    )
