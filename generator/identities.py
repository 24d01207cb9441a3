"""Compares the CSRs of the things that Terraform registers with the lock of those that certificates were made from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from generator.comparison_rows import Tally, lines_of
from generator.diagnostics import EnvironmentFault, StaleError, WriteError
from generator.impact import Kind, PlannedChange
from generator.naming import suffixed
from generator.plan import FacilityPlan, FleetPlan
from generator.rows import thing_rows
from lib.faults import ExpectedError
from lib.identities import (
    Difference,
    Locked,
    Request,
    csrs_file,
    differences,
    lock_file,
    read_lock,
    read_requests,
    write_lock,
)

KINDS = {
    Difference.KEY: Kind.KEYS_CHANGED,
    Difference.CERTIFICATE: Kind.CERTIFICATES_REPLACED,
    Difference.GONE: Kind.CERTIFICATES_REMOVED,
}


class _Row(msgspec.Struct):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The identities of one environment: those with the suffix, in the folder."""

    folder: Path
    suffix: str

    def changes(self, plan: FleetPlan, facilities: Iterable[str]) -> list[PlannedChange]:
        """The things whose certificate Terraform would replace or delete. Raises `EnvironmentFault`."""
        return [change for plant in self._plants(plan, facilities) for change in self._changes(plant)]

    def refuse(self, plan: FleetPlan, facilities: Iterable[str]) -> None:
        """Raises `StaleError` where there are such changes."""
        found = self.changes(plan, facilities)
        if found:
            what = "; ".join(f"{each.facility}: {each.kind.value} ({each.count:,})" for each in found)
            raise StaleError(
                f"CSRs are not those that certificates were made from: {what}",
                hint="see it: fleet plan; if it is meant: fleet generate --allow breaks-identity",
            )

    def lock(self, plan: FleetPlan, facilities: Iterable[str]) -> list[Path]:
        """Record the CSRs that there are now; gives the files that were written. Raises `WriteError`."""
        written = []
        for plant in self._plants(plan, facilities):
            csrs = self._file(plant)
            requests, before = _read(csrs)
            names = (suffixed(name, self.suffix) for name in _things(plant))
            after = {name: requests[name].locked for name in names if name in requests}
            if after != before:
                try:
                    write_lock(lock_file(csrs), after.values())
                except OSError as error:
                    raise WriteError(f"{lock_file(csrs)} cannot be written: {error.strerror}") from None
                written.append(lock_file(csrs))
        return written

    def _plants(self, plan: FleetPlan, facilities: Iterable[str]) -> Iterator[FacilityPlan]:
        """Those of the plants whose certificates Terraform makes, and that have any identities."""
        chosen = frozenset(facilities)
        for plant in plan.facilities:
            files = (self._file(plant), lock_file(self._file(plant)))
            if plant.id in chosen and plant.registration == "terraform" and any(map(os.path.lexists, files)):
                yield plant

    def _file(self, plant: FacilityPlan) -> Path:
        return csrs_file(self.folder, suffix=self.suffix, facility=plant.id)

    def _changes(self, plant: FacilityPlan) -> Iterator[PlannedChange]:
        requests, lock = _read(self._file(plant))
        things = {name: suffixed(name, self.suffix) for name in _things(plant)}
        found = differences(requests, lock, things.values())
        for difference, kind in KINDS.items():
            tally = Tally()
            for place, name in enumerate(things):
                if found.get(things[name]) is difference:
                    tally.add(name, place)
            if tally.count:
                yield PlannedChange(kind=kind, facility=plant.id, count=tally.count, things=tally.things)


def _things(plant: FacilityPlan) -> list[str]:
    """The names of its things, without suffix: Terraform registers 2,500 at most."""
    rows = msgspec.json.Decoder(_Row)
    return [rows.decode(line).name for line in lines_of(thing_rows(plant))]


def _read(csrs: Path) -> tuple[dict[str, Request], dict[str, Locked]]:
    try:
        return read_requests(csrs), read_lock(lock_file(csrs))
    except ExpectedError as error:
        raise EnvironmentFault(error.message.removesuffix("."), hint=error.remedy) from None
