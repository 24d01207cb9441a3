"""Mutations: break the infrastructure in one place, and require the check that covers it to notice."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.findings import Check
from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure
from tests.operations.assurance.compliance.mutations import (
    on_api,
    on_data,
    on_devices,
    on_policies,
    on_stacks,
    on_trail,
    on_trust,
    on_watching,
)
from tests.operations.assurance.compliance.mutations.edits import Mutation, NothingToBreakError, Trial
from tests.operations.assurance.compliance.mutations.on_api import break_constraints

__all__ = ("MUTATIONS", "Trial", "break_constraints", "try_mutations")

MUTATIONS: tuple[Mutation, ...] = (
    *on_policies.MUTATIONS,
    *on_trust.MUTATIONS,
    *on_data.MUTATIONS,
    *on_trail.MUTATIONS,
    *on_watching.MUTATIONS,
    *on_devices.MUTATIONS,
    *on_stacks.MUTATIONS,
    *on_api.MUTATIONS,
)


def try_mutations(
    planned: PlannedInfrastructure, *, mutations: Iterable[Mutation] = MUTATIONS, checks: Iterable[Check] = CHECKS
) -> tuple[Trial, ...]:
    """Try each mutation on `planned`. A failure that is there without it proves nothing.

    A mutation of a type that the infrastructure has nothing of is left out; test_gate.py asserts that every check
    that applies is tried.
    """
    by_id = {check.id: check for check in checks}
    before = {id_: {each for each in check.run(planned) if not each.has_passed} for id_, check in by_id.items()}
    trials = []
    for mutation in mutations:
        try:
            broken = mutation.apply(planned)
        except NothingToBreakError:
            continue
        after = {each for each in by_id[mutation.check].run(broken) if not each.has_passed}
        news = sorted(after - before[mutation.check])
        noticed = f"{news[0].resource} {news[0].attribute}: {news[0].problem}" if news else ""
        trials.append(Trial(check=mutation.check, mutation=mutation.name, noticed=noticed))
    return tuple(trials)
