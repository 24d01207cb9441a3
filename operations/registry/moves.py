"""What the journal knows of moves: who became whom, under which certificate, and whether it came to its end."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.planned import PlannedThing
from fleet_iot.operations.registry.records import Write


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One move: `certificate_arn` and `status` are those that the device had before; `is_rotated`: it gets another."""

    id: int
    former: str
    thing: str
    certificate_arn: str
    status: str
    is_rotated: bool
    ended: float | None


def last_move(journal: Journal, former: str) -> Move | None:
    """The last move of a device away from this name, if it came to its end or not."""
    return _one(journal, "former", former)


def move_to(journal: Journal, thing: str) -> Move | None:
    """The last move of a device to this name."""
    return _one(journal, "thing", thing)


def _one(journal: Journal, column: str, name: str) -> Move | None:
    found = journal.read(
        f"""SELECT id, former, thing, certificate_arn, status, is_rotated, ended FROM moves
        WHERE {column} = ? ORDER BY id DESC LIMIT 1""",  # noqa: S608 - our own words
        name,
    )
    if not found:
        return None
    id_, former, thing, arn, status, is_rotated, ended = found[0]
    return Move(
        id=id_,
        former=former,
        thing=thing,
        certificate_arn=arn,
        status=status,
        is_rotated=bool(is_rotated),
        ended=ended,
    )


def begun(move: Move, facility: str, thing: PlannedThing, material: Material, *, at: float) -> tuple[Write, ...]:
    """The intent, and the new name given away: no onboarding takes it from now on. Keeps the certificate unless the
    device gets another."""
    line = msgspec.json.encode(thing)
    return (
        ("UPDATE devices SET state = 'moving' WHERE thing = ?", (move.former,)),
        (
            """INSERT OR REPLACE INTO devices
            SELECT ?, ?, run, row, place, ?, ?, ?, ?, ?, 'moving', NULL, NULL, NULL, NULL, NULL, NULL
            FROM devices WHERE thing = ?""",
            (
                *(thing.name, facility, line, material.is_certificate, material.der, material.fingerprint),
                *(material.key, move.former),
            ),
        ),
        entries.forget_all(thing.name),
        (
            """INSERT INTO moves (former, thing, certificate_arn, status, is_rotated, begun)
            VALUES (?, ?, ?, ?, ?, ?)""",
            (move.former, move.thing, move.certificate_arn, move.status, move.is_rotated, at),
        ),
    )


def kept_certificate(move: Move) -> Write:
    """That the device has its certificate under its new name."""
    return (
        """UPDATE devices SET (certificate_id, certificate_arn, certificate_status, expires) =
        (SELECT certificate_id, certificate_arn, certificate_status, expires FROM devices WHERE thing = ?)
        WHERE thing = ?""",
        (move.former, move.thing),
    )


def ended(move: Move, *, status: str, certificate_id: str, reason: str, at: float) -> tuple[Write, ...]:
    """That the device is there: its former thing may get another one, and both histories say so."""
    return (
        entries.retired(move.former),
        entries.forget_all(move.former),
        entries.forget_all(move.thing),
        entries.done(move.thing),
        entries.status(move.thing, status),
        ("UPDATE moves SET ended = ? WHERE former = ? AND ended IS NULL", (at, move.former)),
        entries.history(move.former, f"moved to {move.thing}", at=at, certificate_id=certificate_id, reason=reason),
        entries.history(move.thing, f"moved from {move.former}", at=at, certificate_id=certificate_id, reason=reason),
    )
