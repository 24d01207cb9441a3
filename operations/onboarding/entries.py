"""What is written into the journal, statement by statement."""

from __future__ import annotations

from operations.onboarding.records import Step, Write


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


def forget(thing: str, step: Step) -> Write:
    """Takes an intent back, once it is known that nothing came of it."""
    return "DELETE FROM steps WHERE thing = ? AND step = ?", (thing, step)


def certificate(thing: str, *, certificate_id: str, arn: str, status: str) -> Write:
    """The certificate that the device has."""
    return (
        "UPDATE devices SET certificate_id = ?, certificate_arn = ?, certificate_status = ? WHERE thing = ?",
        (certificate_id, arn, status, thing),
    )


def status(thing: str, certificate_status: str) -> Write:
    """That the device's certificate is ACTIVE or INACTIVE now."""
    return "UPDATE devices SET certificate_status = ? WHERE thing = ?", (certificate_status, thing)


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
