"""Compares the CSRs of things that Terraform registers with the lock of those that certificates were made from."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import EnvironmentFault, StaleError, WriteError
from fleet_iot.generator.diff.impact import Impact, Kind, PlannedChange
from fleet_iot.generator.diff.things import Tally
from fleet_iot.generator.plan.build import FacilityPlan, FleetPlan, thing_rows
from fleet_iot.lib.faults import ExpectedError
from fleet_iot.lib.record.identities import (
    Difference,
    Lock,
    Requests,
    csrs_file,
    differences,
    lock_file,
    read_lock,
    read_requests,
    refuse_names_of_others,
    unlocked,
    unplanned,
    write_lock,
)
from fleet_iot.lib.specs import suffixed

KINDS = {
    Difference.KEY: Kind.KEYS_CHANGED,
    Difference.CERTIFICATE: Kind.CERTIFICATES_REPLACED,
    Difference.GONE: Kind.CERTIFICATES_REMOVED,
    Difference.REVIVED: Kind.CERTIFICATES_REVIVED,
    Difference.ROTATED: Kind.CERTIFICATES_ROTATED,
    Difference.FINISHED: Kind.ROTATIONS_FINISHED,
}
LEAVING = frozenset(
    {Kind.THINGS_RETIRED, Kind.THINGS_RENAMED, Kind.THINGS_MOVED, Kind.TYPE_RENAMED, Kind.APPLICATION, Kind.SUFFIX}
)
"""Changes that leave lines of former names in the lock until they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The identities of one environment: those with the suffix, in the folder."""

    folder: Path
    suffix: str

    def changes(self, plan: FleetPlan, facilities: Iterable[str]) -> list[PlannedChange]:
        """Find certificates that Terraform would replace or delete, rotations, and missing or superfluous lines of the
        lock.

        Raises:
            EnvironmentFault: a file cannot be read, or a CSR is in the name of another thing.
        """
        return [change for plant in self._plants(plan, facilities) for change in self._changes(plant, plan)]

    def refuse(self, plan: FleetPlan, facilities: Iterable[str]) -> None:
        """Raise `StaleError` if there are such changes."""
        found = self.changes(plan, facilities)
        what = "; ".join(f"{each.facility}: {each.kind.value} ({each.count:,})" for each in found)
        if found and all(each.impact is not Impact.BREAKS_IDENTITY for each in found):
            raise StaleError(
                f"the lock of keys is not that of the CSRs: {what}",
                hint="see it: fleet plan; if no line was removed, run fleet generate to lock them",
            )
        if found:
            raise StaleError(
                f"CSRs are not those that certificates were made from: {what}",
                hint="see it: fleet plan; if it is meant: fleet generate --allow breaks-identity",
            )

    def lock(self, plan: FleetPlan, facilities: Iterable[str]) -> list[Path]:
        """Record the present CSRs; return the files that were written. Raises `WriteError`."""
        written = []
        for plant in self._plants(plan, facilities):
            csrs = self._file(plant)
            names = [suffixed(name, self.suffix) for name in _things(plant)]
            requests, before = _read(csrs, names)
            after = {name: tuple(each.locked for each in requests[name]) for name in names if name in requests}
            if after != before:
                try:
                    write_lock(lock_file(csrs), (line for lines in after.values() for line in lines))
                except OSError as error:
                    raise WriteError(f"{lock_file(csrs)} cannot be written: {error.strerror}") from None
                written.append(lock_file(csrs))
        return written

    def _plants(self, plan: FleetPlan, facilities: Iterable[str]) -> Iterator[FacilityPlan]:
        """Yield those of the plants whose certificates Terraform makes, and that have any identities."""
        chosen = frozenset(facilities)
        for plant in plan.facilities:
            files = (self._file(plant), lock_file(self._file(plant)))
            if plant.id in chosen and plant.registration == "terraform" and any(map(os.path.lexists, files)):
                yield plant

    def _file(self, plant: FacilityPlan) -> Path:
        return csrs_file(self.folder, suffix=self.suffix, facility=plant.id)

    def _changes(self, plant: FacilityPlan, plan: FleetPlan) -> Iterator[PlannedChange]:
        csrs = self._file(plant)
        things = {suffixed(name, self.suffix): name for name in _things(plant)}
        requests, lock = _read(csrs, things)
        with _told():
            refuse_names_of_others(
                csrs,
                {thing: request for thing, request in requests.items() if thing in things},
                suffix=self.suffix,
                planned=lambda: (name for each in plan.facilities for name in _things(each)),
            )
        found = differences(requests, lock, things)
        for difference, kind in KINDS.items():
            yield from self._change(kind, plant, {t for t, each in found.items() if each is difference}, things)
        yield from self._change(Kind.KEYS_UNLOCKED, plant, unlocked(requests, lock, things), things)
        strange = unplanned(lock, things)
        yield from self._change(Kind.LOCKS_UNPLANNED, plant, strange, {thing: thing for thing in strange})

    def _change(
        self, kind: Kind, plant: FacilityPlan, which: Collection[str], names: Mapping[str, str]
    ) -> Iterator[PlannedChange]:
        """Yield one change of those in `which`, if any; `names`: all, in order, by what they are in `which`."""
        tally, chosen = Tally(), frozenset(which)
        for place, (thing, name) in enumerate(names.items()):
            if thing in chosen:
                tally.add(name, place)
        if tally.count:
            yield PlannedChange(kind=kind, facility=plant.id, count=tally.count, things=tally.things)


def _things(plant: FacilityPlan) -> Iterator[str]:
    """Return the names of its things, without suffix."""
    return (row.name for row in thing_rows(plant))


def _read(csrs: Path, things: Collection[str]) -> tuple[Requests, Lock]:
    with _told():
        return read_requests(csrs, things), read_lock(lock_file(csrs), things)


@contextmanager
def _told() -> Iterator[None]:
    """Raise faults of lib as `EnvironmentFault`."""
    try:
        yield
    except ExpectedError as error:
        raise EnvironmentFault(error.message.removesuffix("."), hint=error.remedy) from None
