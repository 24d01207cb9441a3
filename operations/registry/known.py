"""Read the devices of journals, which are never changed; a journal that is not there has none."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fleet_iot.lib.record.read import ThingRow, loosened
from fleet_iot.operations.project import Thing
from fleet_iot.operations.storage import located


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """A device of a journal, or (without `state`) a planned thing; `expires` and `changed` in seconds since 1970."""

    row: ThingRow
    facility: str
    state: str | None = None
    certificate_id: str | None = None
    certificate_status: str | None = None
    expires: float | None = None

    @property
    def is_gone(self) -> bool:
        """Return whether the device was retired, or moved to another plant."""
        return self.state == "retired"

    @property
    def is_taken(self) -> bool:
        """Return whether the device has a certificate, or is about to get one."""
        return self.certificate_id is not None or self.state in ("planned", "moving")

    @property
    def thing(self) -> Thing:
        """The thing of the device."""
        row = self.row
        return Thing(name=row.name, facility=self.facility, device_type=row.device_type, serial=row.serial)


_LAST_CHANGES = """CREATE TEMP TABLE IF NOT EXISTS changes (thing TEXT PRIMARY KEY, at REAL) WITHOUT ROWID;
DELETE FROM temp.changes;
INSERT INTO temp.changes SELECT thing, max(at) FROM
    (SELECT thing, at FROM history UNION ALL SELECT thing, coalesce(ended, begun) FROM steps) GROUP BY thing;"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevices:
    """The devices of one journal."""

    path: Path
    connection: sqlite3.Connection

    def by_name(self, names: Iterable[str]) -> list[KnownDevice]:
        """Return the devices that have, or had last, one of these names."""
        return list(self._select("thing IN (SELECT value FROM json_each(?))", json.dumps(list(names))))

    def by_ending(self, endings: Iterable[str]) -> list[KnownDevice]:
        """Return the devices of which a value ends with one of the texts, whatever its case and separators."""
        wanted = [loosened(ending.encode()) + b'"' for ending in endings]
        self.connection.create_function(
            "is_meant", 1, lambda line: any(ending in loosened(line) for ending in wanted), deterministic=True
        )
        return list(self._select("is_meant(line)"))

    def of_facility(self, facility: str) -> Iterator[KnownDevice]:
        """Yield the devices of a facility by name."""
        return self._select("facility = ? ORDER BY thing", facility)

    def facilities(self) -> set[str]:
        """Return the facilities of which devices were onboarded, or were to be."""
        with located(self.path):
            query = "SELECT facility FROM devices UNION SELECT facility FROM runs"
            return {str(facility) for (facility,) in self.connection.execute(query)}

    def collect_changes(self) -> None:
        """Collect the last change of each device, for `changed`."""
        with located(self.path):
            self.connection.executescript(_LAST_CHANGES)

    def changed(self, name: str) -> float | None:
        """Return when the device was changed last, in seconds since 1970."""
        with located(self.path):
            found = self.connection.execute("SELECT at FROM temp.changes WHERE thing = ?", (name,)).fetchone()
        return None if found is None else found[0]

    def _select(self, where: str, *values: str) -> Iterator[KnownDevice]:
        columns = "line, facility, state, certificate_id, certificate_status, expires"
        query = f"SELECT {columns} FROM devices WHERE {where}"  # noqa: S608 - our own words
        with located(self.path):
            for line, facility, state, certificate_id, status, expires in self.connection.execute(query, values):
                yield KnownDevice(
                    row=msgspec.json.decode(line, type=ThingRow),
                    facility=facility,
                    state=state,
                    certificate_id=certificate_id,
                    certificate_status=status,
                    expires=expires,
                )


@contextmanager
def known_devices(paths: Iterable[Path]) -> Iterator[list[KnownDevices]]:
    """Open the journals that are there. Raises EnvironmentFault where one cannot be read."""
    with ExitStack() as stack:
        found = []
        for path in filter(Path.is_file, paths):
            with located(path):
                uri = f"{path.absolute().as_uri()}?mode=ro"
                connection = stack.enter_context(closing(sqlite3.connect(uri, uri=True)))
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'devices'").fetchone():
                    found.append(KnownDevices(path=path, connection=connection))
        yield found
