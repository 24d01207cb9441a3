"""Build the journal's write statements."""

from __future__ import annotations

import msgspec

from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.pki.spent import End, spend
from fleet_iot.operations.registry.journal import Move, Step, Write


def begin(thing: str, step: Step, *, at: float, detail: str | None = None) -> Write:
    """Record the intent of a step; a repeated one keeps its first time."""
    return (
        """INSERT INTO steps VALUES (?, ?, ?, NULL, ?)
        ON CONFLICT (thing, step) DO UPDATE SET detail = excluded.detail, ended = NULL""",
        (thing, step, at, detail),
    )


def end(thing: str, step: Step, *, at: float, detail: str | None = None) -> Write:
    """Record the end of a step."""
    return (
        "UPDATE steps SET ended = ?, detail = coalesce(?, detail) WHERE thing = ? AND step = ?",
        (at, detail, thing, step),
    )


def forget_all(thing: str) -> Write:
    """Delete all steps of a device that is gone: the next device starts from the first."""
    return "DELETE FROM steps WHERE thing = ?", (thing,)


def forget(thing: str, step: Step) -> Write:
    """Withdraw an intent that had no effect."""
    return "DELETE FROM steps WHERE thing = ? AND step = ?", (thing, step)


def certificate(thing: str, *, certificate_id: str, arn: str, status: str, expires: float) -> Write:
    """Set the device's certificate; `expires` in seconds since 1970."""
    return (
        """UPDATE devices SET certificate_id = ?, certificate_arn = ?, certificate_status = ?, expires = ?
        WHERE thing = ?""",
        (certificate_id, arn, status, expires, thing),
    )


def history(thing: str, what: str, *, at: float, certificate_id: str | None, reason: str) -> Write:
    """Append to the device's history."""
    return (
        "INSERT INTO history (thing, at, what, certificate_id, reason) VALUES (?, ?, ?, ?, ?)",
        (thing, at, what, certificate_id, reason),
    )


def material(thing: str, *, der: bytes, fingerprint: bytes, key: bytes) -> Write:
    """Set the device's CSR."""
    return (
        "UPDATE devices SET is_certificate = 0, der = ?, fingerprint = ?, key = ? WHERE thing = ?",
        (der, fingerprint, key, thing),
    )


def planned(thing: str, line: bytes) -> Write:
    """Set the device's planned thing, as it is in AWS IoT now."""
    return "UPDATE devices SET line = ? WHERE thing = ?", (line, thing)


def retired(thing: str) -> Write:
    """Mark the device as gone: its thing may get another device; its history stays."""
    return (
        """UPDATE devices SET state = 'retired', key = x'', fingerprint = x'', certificate_id = NULL,
        certificate_arn = NULL, certificate_status = NULL, expires = NULL WHERE thing = ?""",
        (thing,),
    )


def status(thing: str, certificate_status: str) -> Write:
    """Set the status of the device's certificate."""
    return "UPDATE devices SET certificate_status = ? WHERE thing = ?", (certificate_status, thing)


def status_of(certificate_id: str, certificate_status: str) -> Write:
    """Set the status of a certificate."""
    return "UPDATE devices SET certificate_status = ? WHERE certificate_id = ?", (certificate_status, certificate_id)


def seen_revoked(thing: str, key: bytes, certificate_id: str, *, at: float) -> tuple[Write, ...]:
    """Record that AWS IoT has the certificate as REVOKED: its key is spent."""
    reason = "seen REVOKED in AWS IoT"
    return (
        spend(End.REVOKED, key=key, certificate_id=certificate_id, thing=thing, at=at, by="AWS IoT", reason=reason),
        history(thing, "REVOKED", at=at, certificate_id=certificate_id, reason=reason),
        status_of(certificate_id, "REVOKED"),
    )


def done(thing: str) -> Write:
    """Mark the device as onboarded."""
    return "UPDATE devices SET state = 'done', reason = NULL, remedy = NULL WHERE thing = ?", (thing,)


def failed(thing: str, *, reason: str, remedy: str) -> Write:
    """Mark the device as failed, with a reason and a remedy."""
    return "UPDATE devices SET state = 'failed', reason = ?, remedy = ? WHERE thing = ?", (reason, remedy, thing)


def orphan(certificate_id: str, *, thing: str, at: float) -> Write:
    """Record a certificate made for a device that has another one."""
    return "INSERT OR IGNORE INTO orphans VALUES (?, ?, ?)", (certificate_id, thing, at)


def finished(run: int, *, at: float) -> Write:
    """Mark the run as finished."""
    return "UPDATE runs SET finished = ? WHERE id = ?", (at, run)


def move_begun(move: Move, facility: str, thing: ThingRow, material: Material, *, at: float) -> tuple[Write, ...]:
    """Record the intent and reserve the new name: no onboarding uses it from now on."""
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
        forget_all(thing.name),
        (
            """INSERT INTO moves (former, thing, certificate_arn, status, is_rotated, begun)
            VALUES (?, ?, ?, ?, ?, ?)""",
            (move.former, move.thing, move.certificate_arn, move.status, move.is_rotated, at),
        ),
    )


def kept_certificate(move: Move) -> Write:
    """Copy the device's certificate to its new name."""
    return (
        """UPDATE devices SET (certificate_id, certificate_arn, certificate_status, expires) =
        (SELECT certificate_id, certificate_arn, certificate_status, expires FROM devices WHERE thing = ?)
        WHERE thing = ?""",
        (move.former, move.thing),
    )


def move_ended(move: Move, *, final_status: str, certificate_id: str, reason: str, at: float) -> tuple[Write, ...]:
    """Finish the move: the former thing may get another device, and both histories have an entry."""
    return (
        retired(move.former),
        forget_all(move.former),
        forget_all(move.thing),
        done(move.thing),
        status(move.thing, final_status),
        ("UPDATE moves SET ended = ? WHERE former = ? AND ended IS NULL", (at, move.former)),
        history(move.former, f"moved to {move.thing}", at=at, certificate_id=certificate_id, reason=reason),
        history(move.thing, f"moved from {move.former}", at=at, certificate_id=certificate_id, reason=reason),
    )
