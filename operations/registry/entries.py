"""What is written into the journal, statement by statement."""

from __future__ import annotations

import msgspec

from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.pki.spent import End, spend
from fleet_iot.operations.project import PlannedThing
from fleet_iot.operations.registry.journal import Move, Step, Write


def begin(thing: str, step: Step, *, at: float, detail: str | None = None) -> Write:
    """The intent of a step; one that was begun before keeps its first time."""
    return (
        """INSERT INTO steps VALUES (?, ?, ?, NULL, ?)
        ON CONFLICT (thing, step) DO UPDATE SET detail = excluded.detail, ended = NULL""",
        (thing, step, at, detail),
    )


def end(thing: str, step: Step, *, at: float, detail: str | None = None) -> Write:
    """The end of a step."""
    return (
        "UPDATE steps SET ended = ?, detail = coalesce(?, detail) WHERE thing = ? AND step = ?",
        (at, detail, thing, step),
    )


def forget_all(thing: str) -> Write:
    """Takes all steps of a device back, once it is gone: the next one begins anew."""
    return "DELETE FROM steps WHERE thing = ?", (thing,)


def forget(thing: str, step: Step) -> Write:
    """Takes an intent back, once it is known that nothing came of it."""
    return "DELETE FROM steps WHERE thing = ? AND step = ?", (thing, step)


def certificate(thing: str, *, certificate_id: str, arn: str, status: str, expires: float) -> Write:
    """The certificate that the device has; `expires` in seconds since 1970."""
    return (
        """UPDATE devices SET certificate_id = ?, certificate_arn = ?, certificate_status = ?, expires = ?
        WHERE thing = ?""",
        (certificate_id, arn, status, expires, thing),
    )


def history(thing: str, what: str, *, at: float, certificate_id: str | None, reason: str) -> Write:
    """What was done to a device; only ever added to."""
    return (
        "INSERT INTO history (thing, at, what, certificate_id, reason) VALUES (?, ?, ?, ?, ?)",
        (thing, at, what, certificate_id, reason),
    )


def material(thing: str, *, der: bytes, fingerprint: bytes, key: bytes) -> Write:
    """The CSR that the device has from now on."""
    return (
        "UPDATE devices SET is_certificate = 0, der = ?, fingerprint = ?, key = ? WHERE thing = ?",
        (der, fingerprint, key, thing),
    )


def planned(thing: str, line: bytes) -> Write:
    """What the record says of the device, as AWS IoT has it now."""
    return "UPDATE devices SET line = ? WHERE thing = ?", (line, thing)


def retired(thing: str) -> Write:
    """That the device is gone: its thing may get another one; its history stays."""
    return (
        """UPDATE devices SET state = 'retired', key = x'', fingerprint = x'', certificate_id = NULL,
        certificate_arn = NULL, certificate_status = NULL, expires = NULL WHERE thing = ?""",
        (thing,),
    )


def status(thing: str, certificate_status: str) -> Write:
    """That the device's certificate is ACTIVE or INACTIVE now."""
    return "UPDATE devices SET certificate_status = ? WHERE thing = ?", (certificate_status, thing)


def status_of(certificate_id: str, certificate_status: str) -> Write:
    """The status of a certificate, whichever device has it."""
    return "UPDATE devices SET certificate_status = ? WHERE certificate_id = ?", (certificate_status, certificate_id)


def seen_revoked(thing: str, key: bytes, certificate_id: str, *, at: float) -> tuple[Write, ...]:
    """That AWS IoT has the certificate REVOKED, whoever did that: its key is spent."""
    reason = "seen REVOKED in AWS IoT"
    return (
        spend(End.REVOKED, key=key, certificate_id=certificate_id, thing=thing, at=at, by="AWS IoT", reason=reason),
        history(thing, "REVOKED", at=at, certificate_id=certificate_id, reason=reason),
        status_of(certificate_id, "REVOKED"),
    )


def done(thing: str) -> Write:
    """That nothing is left to do."""
    return "UPDATE devices SET state = 'done', reason = NULL, remedy = NULL WHERE thing = ?", (thing,)


def failed(thing: str, *, reason: str, remedy: str) -> Write:
    """That the device cannot be onboarded as it is."""
    return "UPDATE devices SET state = 'failed', reason = ?, remedy = ? WHERE thing = ?", (reason, remedy, thing)


def orphan(certificate_id: str, *, thing: str, at: float) -> Write:
    """A certificate that was made for a device which has another one."""
    return "INSERT OR IGNORE INTO orphans VALUES (?, ?, ?)", (certificate_id, thing, at)


def finished(run: int, *, at: float) -> Write:
    """That the run has come to its end."""
    return "UPDATE runs SET finished = ? WHERE id = ?", (at, run)


def move_begun(move: Move, facility: str, thing: PlannedThing, material: Material, *, at: float) -> tuple[Write, ...]:
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
        forget_all(thing.name),
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


def move_ended(move: Move, *, final_status: str, certificate_id: str, reason: str, at: float) -> tuple[Write, ...]:
    """That the device is there: its former thing may get another one, and both histories say so."""
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
