"""Pair the rows of a list with planned things before any call, by the identities that each row gives.

A row gives a name, a serial, other identities, and the common name of its certificate. All that belong to planned
things must belong to the same one; otherwise the row is refused. Rows are paired by order only where that was asked
for, or where neither things nor rows have identities. Things, rows and pairs are in a temporary SQLite database, so
that a million of each fit into constant memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from fleet_iot.generator.diagnostics import RequestError, visible
from fleet_iot.generator.naming import named_serial
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.record.spelling import canonical, hexadecimal, is_same
from fleet_iot.lib.specs import FacilitySpec
from fleet_iot.operations.lists.headings import (
    identities_of,
    is_name,
    is_named,
    looks_like_identity,
    meaning_of,
    normalised,
    possible_identities,
)
from fleet_iot.operations.lists.record import Fault, Material, RefusedError, Row
from fleet_iot.operations.project import Project
from fleet_iot.operations.storage import temporary


@dataclass(frozen=True, slots=True, kw_only=True)
class Plants:
    """Keys are spelt without case and separators. `own`: the plant's id and name; `others`: those of the other plants,
    with their ids; `prefixes`: how names and serials of the other plants' things begin, with the plants' ids;
    `device_types`: those of the whole project."""

    own: frozenset[str] = frozenset()
    others: Mapping[str, str] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    device_types: frozenset[str] = frozenset()

    def owner_of(self, value: str) -> str | None:
        """Return the other plant whose thing has such a name or serial, planned or not."""
        return prefixed(value, self.prefixes)


def prefixed(value: str, prefixes: Mapping[str, str]) -> str | None:
    """Return the entry of the longest proper prefix of a value."""
    key = key_of(value)
    found = [prefix for prefix in prefixes if key.startswith(prefix) and len(key) > len(prefix)]
    return prefixes[max(found, key=len)] if found else None


def key_of(value: str) -> str:
    """Return a value without case and separators."""
    return canonical(value)[1]


def plants_of(project: Project, facility: FacilitySpec) -> Plants:
    """Return the plants of a project, as one of them sees the others."""
    others = [each for each in project.facilities if each.id != facility.id]
    types = frozenset(group.device_type for each in project.facilities for group in each.groups)
    own = frozenset(map(key_of, (facility.id, facility.name)))
    return Plants(
        own=own,
        others={
            key_of(claimed): each.id
            for each in others
            for claimed in (each.id, each.name)
            if key_of(claimed) not in own
        },
        prefixes={key_of(f"{each.id}-{device_type}"): each.id for each in others for device_type in types},
        device_types=frozenset(map(key_of, types)),
    )


_SCHEMA = """
CREATE TABLE things (position INTEGER PRIMARY KEY, name TEXT, serial TEXT, device_type TEXT, line BLOB, row INTEGER,
                     known_by INTEGER, name_key TEXT, serial_key TEXT, reserved INTEGER);
CREATE TABLE rows (number INTEGER PRIMARY KEY, place TEXT, says TEXT, device_type TEXT, thing INTEGER, how TEXT,
                   is_certificate INTEGER, der BLOB, fingerprint BLOB, key BLOB, already INTEGER, former INTEGER);
CREATE TABLE faults (number INTEGER PRIMARY KEY, place TEXT, reason TEXT, remedy TEXT);
"""
_AFTER_THINGS = """
CREATE INDEX by_name ON things (name_key);
CREATE INDEX by_serial ON things (serial_key) WHERE serial_key IS NOT NULL;
"""
_TAKEN, _CONTESTED = -1, -2
"""In place of a thing's row: it has a certificate already; several rows claim it."""
_NAME, _SERIAL = 1, 2
"""The means of identifying a thing, where it was given a name or serial."""
_LONGEST = 128
"""Most characters of a name or attribute value in AWS IoT, and of an identity.
https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html"""
_COINCIDENCE = 3
"""Characters of a value that may match a serial by chance, where the row names another thing."""

_SHOWN = 10
"""Most unknown headings in a message."""

COMMON_NAME, ORDER, JOURNAL = "common name", "order", "journal"
"""Means of pairing a row, apart from name, serial and the headings of its list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOwner:
    """The device in the journal that has a key; `is_done` where it is onboarded."""

    thing: str
    fingerprint: bytes
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A planned thing and the material that it gets."""

    thing: ThingRow
    row: int
    place: str
    material: Material


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A planned thing as far as pairing looks at it; `row` has it. `has_serial`: of its own, not from its name."""

    position: int
    name: str
    serial: str
    device_type: str
    row: int | None
    has_serial: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """One identity that a row says, under which heading; `must`: it has to be a planned thing's; `is_label`: it has to
    be where nothing else names the row's thing."""

    heading: str
    value: str
    must: bool
    is_label: bool = False

    def __str__(self) -> str:
        return f"{self.heading} {self.value[:_LONGEST]!r}"


class Matching:
    """The pairs of one list and one facility; close it when done."""

    def __init__(
        self,
        *,
        suffix: str,
        device_type: str | None = None,
        keep_material: bool = True,
        by_order: bool = False,
        ignored: Iterable[str] = (),
        plants: Plants | None = None,
    ) -> None:
        """Begin with no things and no rows.

        Args:
            suffix: The environment's, which a list may leave out of names.
            device_type: Rows that name no thing are of this type.
            keep_material: Without it (a dry run), pairs have no DER.
            by_order: Rows that name no thing get the next free ones.
            ignored: Headings that do not identify devices.
            plants: The plant and the project's other ones, for rows that name them.
        """
        self._plants = plants or Plants()
        self._types: dict[str, str] = {}
        """Device types by all that they are called, without case and separators."""
        self._prefixes: dict[str, str] = {}
        """Prefixes of the names of the plant's things."""
        self._suffix = suffix
        self._device_type = device_type
        self._keep = keep_material
        self._by_order = by_order
        self._ignored = frozenset(map(normalised, ignored))
        self._unknown: dict[str, None] = {}
        self._last_unmatched: str | None = None
        """The last value that matched no thing: makers give many chips one common name."""
        self._is_named = False
        """True if any row of the list, also a refused one, identifies its thing."""
        self._db = temporary(_SCHEMA)
        self._encode = msgspec.json.Encoder().encode

    def close(self) -> None:
        self._db.close()

    def add_things(self, things: Iterable[ThingRow], *, is_taken: Callable[[str], bool]) -> int:
        """Add the planned things; a taken one has a certificate already and is not free. Returns how many there
        are."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO things VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (self._thing_values(at, thing, is_taken(thing.name)) for at, thing in enumerate(things)),
        )
        self._db.execute("COMMIT")
        self._db.executescript(_AFTER_THINGS)
        return int(self._db.execute("SELECT count(*) FROM things").fetchone()[0])

    def add_rows(self, entries: Iterable[Row | Fault], *, key_owner: Callable[[bytes], KeyOwner | None]) -> None:
        """Add all entries of the list, in its order; then give free things to the rows that name none.

        Raises RequestError where the list as a whole does not identify its devices.
        """
        self._db.execute("BEGIN")
        for entry in entries:
            if isinstance(entry, Fault):
                self._refuse(entry.number, entry.place, entry.reason, entry.remedy)
                if entry.spoils is not None:
                    self._spoil(entry)
                claimed, is_named = (
                    possible_identities(entry.raw, entry.place)
                    if entry.identities is None
                    else (entry.identities, False)
                )
                self._is_named |= entry.is_named or is_named
                self._reserve(claimed)
            else:
                self._add(entry, key_owner(entry.material.key))
        self._pair_by_order()
        self._db.execute("COMMIT")

    @property
    def counts(self) -> dict[str, int]:
        """`rows`, `faults`, `pairs` to onboard, rows that are onboarded `already`, planned things left `unpaired`."""
        query = """SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM faults),
            (SELECT count(*) FROM rows WHERE thing IS NOT NULL AND NOT already),
            (SELECT count(*) FROM rows WHERE already),
            (SELECT count(*) FROM things WHERE row IS NULL OR row = -2)"""
        rows, faults, pairs, already, free = self._db.execute(query).fetchone()
        return {"rows": rows + faults, "faults": faults, "pairs": pairs, "already": already, "unpaired": free}

    def ways(self) -> dict[str, int]:
        """Count rows by how they were paired (name, serial, another heading, common name, order), most first."""
        query = "SELECT how, count(*) FROM rows WHERE NOT already GROUP BY how ORDER BY 2 DESC, 1"
        return {str(how): int(count) for how, count in self._db.execute(query)}

    def first_pairs(self, limit: int) -> list[str]:
        """Return the first pairs of the list in words: row, thing, and by what."""
        query = """SELECT number, rows.place, things.name, how, says FROM rows JOIN things ON position = thing
            WHERE NOT already ORDER BY number LIMIT ?"""
        return [
            f"row {number} ({place}) is {name}, by {how}" + (f" {says!r}" if says else "")
            for number, place, name, how, says in self._db.execute(query, (limit,))
        ]

    def certificates(self) -> int:
        """Count the pairs that have a certificate; the others have a CSR."""
        query = "SELECT count(*) FROM rows WHERE thing IS NOT NULL AND NOT already AND is_certificate"
        return int(self._db.execute(query).fetchone()[0])

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs to onboard, in the order of the approved record."""
        decode = msgspec.json.Decoder(ThingRow).decode
        query = """SELECT line, number, place, is_certificate, der, fingerprint, key
            FROM things JOIN rows ON number = row WHERE NOT already ORDER BY position"""
        for line, number, place, is_certificate, der, fingerprint, key in self._db.execute(query):
            material = Material(
                is_certificate=bool(is_certificate), der=der, fingerprint=fingerprint, key=key, common_name=None
            )
            yield Pair(thing=decode(line), row=number, place=place, material=material)

    def faults(self) -> Iterator[Fault]:
        """Yield the rows that cannot be onboarded, in the list's order."""
        for number, place, reason, remedy in self._db.execute("SELECT * FROM faults ORDER BY number"):
            yield Fault(number=number, place=place, reason=reason, remedy=remedy)

    def _thing_values(self, at: int, thing: ThingRow, is_taken: bool) -> tuple[object, ...]:
        bare = thing.name.removesuffix(f"-{self._suffix}")
        if thing.device_type not in self._types.values():
            for called in (thing.device_type, thing.thing_type, thing.thing_type.removesuffix(f"-{self._suffix}")):
                self._types[key_of(called)] = thing.device_type
            begin = f"{bare.partition(f'-{thing.device_type}-')[0]}-{thing.device_type}"
            self._prefixes[key_of(begin)] = begin
        name_key, serial_key = canonical(bare)[1], canonical(thing.serial)[1]
        return (
            *(at, thing.name, thing.serial, thing.device_type, self._encode(thing), _TAKEN if is_taken else None),
            *(_known_by(bare, thing), name_key, serial_key if serial_key != name_key else None),
        )

    def _add(self, row: Row, held: KeyOwner | None) -> None:
        """Pair a row by its identities, refuse it, or leave it to be paired by order."""
        try:
            self._is_named |= is_named(row)
            thing, how = self._paired(row)
            self._is_named |= thing is not None
            self._check_unknown(row, thing)
            self._check_plant(row, thing)
            row = replace(row, device_type=self._type_of(row, thing))
            if held is not None:
                own = self._held_by(row, thing, held)
                if own is not None:
                    self._take(row, own, JOURNAL, already=held.is_done)
                    return
            if thing is None:
                self._insert(row, None, how=ORDER)
                return
            self._check_free(row, thing)
        except RefusedError as refused:
            self._refuse(row.number, row.place, refused.reason, refused.remedy)
            self._reserve(identities_of(row))
            return
        self._take(row, thing, how)

    def _reserve(self, claimed: Iterable[str]) -> None:
        """Reserve what a refused row names: its device is still to come, so order must not pair it."""
        for value in claimed:
            for thing in self._things_of(value):
                self._is_named = True
                self._db.execute("UPDATE things SET reserved = 1 WHERE position = ?", (thing.position,))

    def _paired(self, row: Row) -> tuple[_Candidate | None, str]:
        """Return the one thing that all identities give, and by which. Raises RefusedError where they disagree."""
        found = [(claim, self._things_of(claim.value)) for claim in _claims(row)]
        claimed = [(claim, things) for claim, things in found if things]
        thing = _agreed(claimed)
        for claim, things in found:
            if things:
                continue
            has_name = any(other.must or other.heading != COMMON_NAME for other, _ in claimed)
            self._check_elsewhere(claim, thing)
            if (claim.must and claim.heading == "name") or (
                (claim.must or claim.is_label) and (thing is None or not has_name)
            ):
                raise RefusedError(
                    f"no planned thing has its {claim}",
                    "add it to fleet.yaml, or correct the list"
                    + (f"; if it names no thing: --ignore {claim.heading!r}" if claim.is_label else ""),
                )
            if thing is not None and thing.has_serial and _contradicts(claim, thing, claimed):
                raise RefusedError(
                    f"its {claim} is not that of {thing.name}, which has {thing.serial!r}",
                    "correct the list, or the serial in fleet.yaml",
                )
        return thing, claimed[0][0].heading if claimed else ORDER

    def _check_elsewhere(self, claim: _Claim, thing: _Candidate | None) -> None:
        """Raise RefusedError for an identity of another plant's thing, or of this plant's in another environment."""
        owner = self._plants.owner_of(claim.value)
        if owner is not None:
            raise RefusedError(f"its {claim} is a thing of {owner}", "leave it to that plant, or correct the list")
        if claim.must or prefixed(claim.value, self._prefixes) is None:
            return
        begin, other = canonical(claim.value)[0], None
        while other is None and "-" in begin:
            begin = begin.rpartition("-")[0]
            other = next((each for each in self._things_of(begin) if not is_same(begin, each.serial)), None)
        if other is not None and (thing is None or thing.position != other.position):
            raise RefusedError(
                f"its {claim} is {other.name} in another environment", "onboard it there, or correct the list"
            )
        if thing is None:
            raise RefusedError(f"no planned thing has its {claim}", "add it to fleet.yaml, or correct the list")

    def _check_plant(self, row: Row, thing: _Candidate | None) -> None:
        """Raise RefusedError where a column names another plant, or an unknown one while nothing names a thing."""
        for heading, value in row.unknown:
            meaning = meaning_of(heading)
            is_plant = meaning is not None and meaning.kind == "plant"
            if normalised(heading) in self._ignored or not (is_plant or thing is None):
                continue
            key = key_of(value)
            owner = self._plants.others.get(key) or (self._plants.owner_of(value) if thing is None else None)
            is_strange = is_plant and thing is None and self._plants.own and key not in self._plants.own
            if owner is not None or is_strange:
                shown = f"{visible(heading)!r} is {visible(value[:_LONGEST])!r}"
                raise RefusedError(
                    f"its {shown}: it is of {owner}" if owner else f"its {shown}, which is not this plant",
                    f"leave it to that plant, or, if the column says something else: --ignore {visible(heading)!r}",
                )

    def _type_of(self, row: Row, thing: _Candidate | None) -> str | None:
        """Return the device type in a row's columns; None where there is none. Raises RefusedError where they
        disagree, or where the type is not one of the plant's."""
        claimed: dict[str, str] = {}
        own = [("device_type", row.device_type)] if row.device_type else []
        for heading, value in (*own, *row.unknown):
            meaning = meaning_of(heading)
            kind = meaning.kind if meaning is not None else ""
            is_type = kind in ("device_type", "type", "model")
            if normalised(heading) in self._ignored or not (is_type or thing is None):
                continue
            key = key_of(value)
            found = self._types.get(key)
            if found is not None:
                claimed.setdefault(found, heading)
            elif kind == "device_type" or (
                is_type and ((kind == "type" and thing is None) or key in self._plants.device_types)
            ):
                raise RefusedError(
                    f"its {visible(heading)!r} is {visible(value[:_LONGEST])!r}, and the plant has no such device type",
                    f"correct the list (planned: {', '.join(sorted(set(self._types.values())))}); if the column says "
                    f"something else: --ignore {visible(heading)!r}",
                )
        if len(claimed) > 1:
            (one, heading), (other, second) = list(claimed.items())[:2]
            raise RefusedError(
                f"its {visible(heading)!r} says it is a {one}, its {visible(second)!r} a {other}",
                f"correct the list; if one of them says something else: --ignore {visible(second)!r}",
            )
        return next(iter(claimed), None)

    def _held_by(self, row: Row, thing: _Candidate | None, held: KeyOwner) -> _Candidate | None:
        """Return the thing that has the row's certificate or CSR already. Raises RefusedError where that cannot be."""
        if held.fingerprint != row.material.fingerprint:
            if thing is None or thing.name != held.thing:
                raise RefusedError(
                    f"its key is that of {held.thing} already", "two devices would share it: give this one its own"
                )
            return None
        own = next((each for each in self._things_of(held.thing) if each.name == held.thing), None)
        if own is None or (thing is not None and thing.position != own.position):
            raise RefusedError(
                f"it is onboarded as {held.thing}", "leave it out of the list, or retire that thing first"
            )
        return own if held.is_done or own.row in (None, _TAKEN) else None

    def _check_free(self, row: Row, thing: _Candidate) -> None:
        """Raise RefusedError where the row's thing is not free; a thing that two rows name is given to neither."""
        if row.device_type not in (None, thing.device_type):
            raise RefusedError(
                f"says it is a {row.device_type}, {thing.name} is a {thing.device_type}", "correct the list"
            )
        if thing.row == _TAKEN:
            raise RefusedError(
                f"{thing.name} has another certificate already", "rotate the device instead of onboarding it again"
            )
        if thing.row == _CONTESTED:
            raise RefusedError(f"other rows are {thing.name} too", "leave only the true one in")
        if thing.row is not None:
            self._contest(row, thing)
            raise RefusedError(f"row {thing.row} is {thing.name} already", "leave only the true one in")

    def _contest(self, row: Row, thing: _Candidate) -> None:
        spoiling = Fault(
            number=row.number,
            place=row.place,
            reason=f"is {thing.name} too",
            remedy="leave only the true one in",
            spoils=thing.row,
        )
        if self._spoil(spoiling):
            self._db.execute("UPDATE things SET row = ? WHERE position = ?", (_CONTESTED, thing.position))

    def _check_unknown(self, row: Row, thing: _Candidate | None) -> None:
        """Raise RequestError for an unknown heading that may identify the row's device."""
        is_named = thing is not None and row.must_match
        for heading, value in row.unknown:
            if normalised(heading) in self._ignored:
                continue
            if len(self._unknown) < _SHOWN and meaning_of(heading) is None:
                self._unknown.setdefault(heading)
            if not is_named and looks_like_identity(heading):
                raise _unclear(heading, f"looks like one that says which device a row is ({row.place})")
            things = self._things_of(value)
            is_chance = is_named and len(canonical(value)[1]) <= _COINCIDENCE
            if things and not is_chance and (thing is None or all(each.position != thing.position for each in things)):
                instead = f", and the row is taken for {thing.name}" if thing else ""
                raise _unclear(
                    heading, f"says that row {row.number} ({row.place}) is {things[0].name}: {value!r}{instead}"
                )

    def _things_of(self, value: str) -> list[_Candidate]:
        """Return the planned things that a value may be the name, with or without suffix, or the serial of."""
        if value == self._last_unmatched or len(value) > _LONGEST + 32:
            return []
        key = canonical(value)[1]
        bare = key.removesuffix(canonical(self._suffix)[1])
        if not key:
            return []
        query = """SELECT position, name, serial, device_type, row, known_by FROM things
            WHERE name_key IN (?1, ?2) OR serial_key = ?1 LIMIT 100"""
        things = [
            _Candidate(position=at, name=name, serial=serial, device_type=kind, row=row, has_serial=known == _SERIAL)
            for at, name, serial, kind, row, known in self._db.execute(query, (key, bare))
        ]
        if not things:
            self._last_unmatched = value
        suffix = f"-{self._suffix}"
        found = []
        for thing in things:
            spellings = (thing.name.removesuffix(suffix), thing.name, thing.serial)
            if value in spellings or any(is_same(value, one) for one in spellings):
                found.append(thing)
        return found

    def _take(self, row: Row, thing: _Candidate, how: str, *, already: bool = False) -> None:
        self._insert(row, thing.position, how=how, already=already, former=thing.row)
        self._db.execute("UPDATE things SET row = ? WHERE position = ?", (row.number, thing.position))

    def _pair_by_order(self) -> None:
        """Give the next free thing of the right type to each row that names none; a fault where none is left, or
        where order must not pair."""
        next_of: dict[str | None, int] = {}
        may_of: dict[str | None, bool] = {}
        for number, place, device_type in self._waiting():
            if device_type not in may_of:
                may_of[device_type] = self._by_order or self._are_alike(device_type)
            if not may_of[device_type]:
                self._refuse(
                    number,
                    place,
                    "names no planned thing, and other rows of the list do, or mean to",
                    "add its name or serial to the list; --by-order gives such rows the next free things",
                )
                continue
            if device_type is None and len(types := sorted(set(self._types.values()))) > 1:
                raise RequestError(
                    f"row {number} ({place}) says neither its thing nor its device type, and the plant has several "
                    f"({', '.join(types)}): the list's order does not show which it is",
                    hint="add a column `device_type`; where all such rows are of one type: --device-type ID",
                )
            found = self._db.execute(
                """SELECT position FROM things
                WHERE position >= ? AND row IS NULL AND NOT reserved AND (? IS NULL OR device_type = ?) LIMIT 1""",
                (next_of.get(device_type, 0), device_type, device_type),
            ).fetchone()
            if found is None:
                of_type = f" of type {device_type}" if device_type else ""
                reason = f"there is no planned thing{of_type} left for it: the list has more rows than that"
                self._refuse(number, place, reason, "raise the count in fleet.yaml and run `fleet generate`")
                next_of[device_type] = 1 << 62
                continue
            next_of[device_type] = found[0] + 1
            self._db.execute("UPDATE things SET row = ? WHERE position = ?", (number, found[0]))
            self._db.execute("UPDATE rows SET thing = ? WHERE number = ?", (found[0], number))
        self._db.execute("DELETE FROM rows WHERE thing IS NULL")

    def _are_alike(self, device_type: str | None) -> bool:
        """Return whether free things are interchangeable: any of them may be any device of the list.

        Raises RequestError where they have identities and no row gives one: the list's order would be a guess.
        """
        if self._is_named:
            return False
        known = "SELECT name, serial FROM things WHERE row IS NULL AND known_by AND (?1 IS NULL OR device_type = ?1)"
        found = self._db.execute(known, (device_type,)).fetchone()
        if found is None:
            return True
        headings = ", ".join(map(repr, self._unknown))
        unknown = f"; these are not known: {visible(headings)}" if headings else ""
        raise RequestError(
            "no row of the list names a planned thing, and the things have names or serials of their own (as "
            f"{found[0]}, serial {found[1]}): to pair them in the list's order would be a guess",
            hint=f"give names or serials under the headings `name` or `serial`{unknown}; where the order is right all "
            "the same: --by-order",
        )

    def _waiting(self) -> Iterator[tuple[int, str, str | None]]:
        """Yield the rows that have no thing yet, a slice at a time: meanwhile the same table is written to."""
        query = """SELECT number, place, coalesce(device_type, ?) FROM rows
            WHERE thing IS NULL AND number > ? ORDER BY number LIMIT 1000"""
        last = 0
        while part := self._db.execute(query, (self._device_type, last)).fetchall():
            yield from part
            last = part[-1][0]

    def _insert(
        self, row: Row, position: int | None, *, how: str, already: bool = False, former: int | None = None
    ) -> None:
        material = row.material
        says = next((claim.value for claim in _claims(row) if claim.heading == how), None)
        self._db.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.number, row.place, says, row.device_type, position, how, material.is_certificate),
                *(material.der if self._keep else None, material.fingerprint, material.key, already, former),
            ),
        )

    def _refuse(self, number: int, place: str, reason: str, remedy: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO faults VALUES (?, ?, ?, ?)", (number, place, reason, remedy))

    def _spoil(self, fault: Fault) -> bool:
        """Refuse the earlier row that a later one proves bad, unless it is onboarded already."""
        found = self._db.execute("SELECT place, already, former FROM rows WHERE number = ?", (fault.spoils,)).fetchone()
        if found is None or found[1]:
            return False
        self._db.execute("DELETE FROM rows WHERE number = ?", (fault.spoils,))
        self._db.execute("UPDATE things SET row = ?, reserved = 1 WHERE row = ?", (found[2], fault.spoils))
        reason = f"row {fault.number} {fault.reason.replace(f'row {fault.spoils}', 'this row')}"
        self._refuse(int(fault.spoils or 0), found[0], reason, fault.remedy)
        return True


def _claims(row: Row) -> list[_Claim]:
    """Return the identities that a row gives, the most reliable first."""
    common_name = row.material.common_name
    found = []
    if row.name is not None and (row.must_match or row.name != common_name):
        found.append(_Claim(heading="name", value=row.name, must=row.must_match))
    if row.serial is not None:
        found.append(_Claim(heading="serial", value=row.serial, must=row.must_match))
    found += [
        _Claim(heading=heading, value=value, must=False, is_label=is_name(heading)) for heading, value in row.also
    ]
    if common_name:
        found.append(_Claim(heading=COMMON_NAME, value=common_name, must=False))
    return found


def _agreed(claimed: list[tuple[_Claim, list[_Candidate]]]) -> _Candidate | None:
    """Return the thing that every claim may mean. Raises RefusedError where there is none, or several."""
    if not claimed:
        return None
    first, things = claimed[0]
    for claim, others in claimed[1:]:
        positions = {other.position for other in others}
        both = [thing for thing in things if thing.position in positions]
        if not both:
            raise RefusedError(
                f"its {first} is {things[0].name}, its {claim} is {others[0].name}",
                "one of the two is another device's: correct the list",
            )
        things = both
    if len(things) > 1:
        is_crossed = len({is_same(first.value, thing.serial) for thing in things}) > 1
        raise RefusedError(
            f"its {first} may be {things[0].name} or {things[1].name}: "
            + ("one has it as its name, one as its serial" if is_crossed else "they differ only in spelling"),
            "say both name and serial of the thing, or give the other one another serial in fleet.yaml"
            if is_crossed
            else "say the thing's whole name as fleet.yaml has it",
        )
    return things[0]


def _contradicts(claim: _Claim, thing: _Candidate, claimed: list[tuple[_Claim, list[_Candidate]]]) -> bool:
    """Return whether a claim that is no planned thing's denies that the row is the thing which others say."""
    if any(is_same(other.value, thing.serial) for other, _ in claimed):
        return False
    digits, own = hexadecimal(claim.value), hexadecimal(thing.serial)
    is_of_one_kind = digits is not None and own is not None and len(digits) == len(own)
    return claim.must or (is_of_one_kind and claim.heading != COMMON_NAME)


def _known_by(bare: str, thing: ThingRow) -> int:
    """Return what identifies the thing: a serial, a name, or nothing, if it is one of a count."""
    own = bare.rpartition("-")[2]
    facility = bare.removesuffix(f"-{thing.device_type}-{own}")
    if thing.serial != named_serial(facility, thing.device_type, own):
        return _SERIAL
    return 0 if own.isdigit() else _NAME


def _unclear(heading: str, what: str) -> RequestError:
    return RequestError(
        f"the list has a column {visible(heading)!r} that is not known, and it {what}",
        hint="call it `serial` or `name` if it says which device a row is; if it does not, leave it out: "
        f"--ignore {visible(heading)!r}",
    )
