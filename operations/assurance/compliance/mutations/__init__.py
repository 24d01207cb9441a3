"""Mutations: breaks the estate in one place after the other, and sees whether the check that must notice does."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_iot.operations.assurance.compliance.checks import CHECKS
from fleet_iot.operations.assurance.compliance.findings import Check
from fleet_iot.operations.assurance.compliance.infrastructure import Estate
from fleet_iot.operations.assurance.compliance.mutations import (
    on_api,
    on_data,
    on_devices,
    on_policies,
    on_stacks,
    on_trail,
    on_trust,
    on_watching,
)
from fleet_iot.operations.assurance.compliance.mutations.edits import Mutation, NothingToBreakError, Trial
from fleet_iot.operations.assurance.compliance.mutations.on_api import break_constraints

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
    estate: Estate, *, mutations: Iterable[Mutation] = MUTATIONS, checks: Iterable[Check] = CHECKS
) -> tuple[Trial, ...]:
    """Tries each mutation on `estate`. A failure that is there without it proves nothing.

    What the estate has nothing of cannot be broken; `counts` sees to it that every check that saw something is tried.
    """
    by_id = {check.id: check for check in checks}
    before = {id_: {each for each in check.run(estate) if not each.has_passed} for id_, check in by_id.items()}
    trials = []
    for mutation in mutations:
        try:
            broken = mutation.apply(estate)
        except NothingToBreakError:
            continue
        after = {each for each in by_id[mutation.check].run(broken) if not each.has_passed}
        news = sorted(after - before[mutation.check])
        noticed = f"{news[0].resource} {news[0].attribute}: {news[0].problem}" if news else ""
        trials.append(Trial(check=mutation.check, mutation=mutation.name, noticed=noticed))
    return tuple(trials)
