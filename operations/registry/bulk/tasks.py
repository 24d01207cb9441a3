"""What the journal knows of bulk registrations: which lines a task was given, its id, and whether it was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.planned import PlannedThing
from fleet_iot.operations.registry.records import Step, Write

_KEYS = """(SELECT coalesce(group_concat(key), '') FROM
    (SELECT key FROM json_each(CAST(line AS TEXT), '$.attributes') ORDER BY key))"""
"""A thing's attributes by name: those of one task are the same."""
_LEFT = f"""run = ? AND state = 'planned' AND certificate_id IS NULL AND NOT EXISTS
    (SELECT 1 FROM steps WHERE steps.thing = devices.thing AND step = '{Step.CERTIFICATE}') AND NOT EXISTS
    (SELECT 1 FROM task_lines WHERE task_lines.run = devices.run AND task_lines.thing = devices.thing)"""  # noqa: S608
"""Devices that a task can be given: one that was in a task is not given to another, but registered call by call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One bulk registration of a run: its parameter file in S3, and AWS IoT's id, None while nobody knows it."""

    run: int
    part: int
    bucket: str
    key: str
    id: str | None
    begun: float


def open_task(journal: Journal, run: int) -> Task | None:
    """The run's task whose reports were not read yet."""
    query = "SELECT part, bucket, key, task, begun FROM tasks WHERE run = ? AND ended IS NULL"
    found = journal.read(query, run)
    if not found:
        return None
    part, bucket, key, id_, begun = found[0]
    return Task(run=run, part=part, bucket=bucket, key=key, id=id_, begun=begun)


def next_part(journal: Journal, run: int) -> tuple[int, str] | None:
    """The number of the run's next task and the attributes of its devices; None where no device is left for one."""
    found = journal.read(f"SELECT {_KEYS} FROM devices WHERE {_LEFT} ORDER BY thing LIMIT 1", run)  # noqa: S608
    if not found:
        return None
    ((last,),) = journal.read("SELECT coalesce(max(part), 0) FROM tasks WHERE run = ?", run)
    return int(last) + 1, str(found[0][0])


def intend(task: Task, attributes: str) -> tuple[Write, ...]:
    """The task and its lines, before anything of it is in AWS; each device may have a certificate from now on."""
    return (
        (
            "INSERT INTO tasks VALUES (?, ?, ?, ?, NULL, ?, NULL)",
            (task.run, task.part, task.bucket, task.key, task.begun),
        ),
        (
            f"""INSERT INTO task_lines SELECT run, ?, row_number() OVER (ORDER BY thing), thing
            FROM devices WHERE {_LEFT} AND {_KEYS} = ?""",  # noqa: S608 - our own words
            (task.part, task.run, attributes),
        ),
        (
            f"""INSERT INTO steps SELECT thing, '{Step.CERTIFICATE}', ?, NULL, lower(hex(fingerprint))
            FROM devices JOIN task_lines USING (run, thing) WHERE run = ? AND part = ?""",  # noqa: S608 - our own words
            (task.begun, task.run, task.part),
        ),
    )


def started(task: Task, task_id: str) -> Write:
    """AWS IoT's id of the task."""
    return "UPDATE tasks SET task = ? WHERE run = ? AND part = ?", (task_id, task.run, task.part)


def refused(task: Task) -> tuple[Write, ...]:
    """That nothing came of the task: its devices are as they were."""
    lines = "(SELECT thing FROM task_lines WHERE run = ? AND part = ?)"
    return (
        (
            f"DELETE FROM steps WHERE step = '{Step.CERTIFICATE}' AND ended IS NULL AND thing IN {lines}",  # noqa: S608
            (task.run, task.part),
        ),
        ("DELETE FROM task_lines WHERE run = ? AND part = ?", (task.run, task.part)),
        ("DELETE FROM tasks WHERE run = ? AND part = ?", (task.run, task.part)),
    )


def read_through(task: Task, *, at: float, is_complete: bool) -> tuple[Write, ...]:
    """That all that the task reports is in the journal; what a task has left undone may be given to another."""
    ended: Write = ("UPDATE tasks SET ended = ? WHERE run = ? AND part = ?", (at, task.run, task.part))
    left: Write = (
        """DELETE FROM task_lines WHERE run = ? AND part = ?
        AND thing IN (SELECT thing FROM devices WHERE run = ? AND state = 'planned')""",
        (task.run, task.part, task.run),
    )
    return (ended,) if is_complete else (ended, left)


def lines_of(journal: Journal, task: Task) -> Iterator[tuple[PlannedThing, bytes]]:
    """Each thing of the task and its CSR as DER, in the order of the lines; a slice at a time."""
    last, decode = 0, msgspec.json.Decoder(PlannedThing).decode
    query = """SELECT task_lines.line, devices.line, der FROM task_lines JOIN devices USING (run, thing)
        WHERE run = ? AND part = ? AND task_lines.line > ? ORDER BY task_lines.line LIMIT 1000"""
    while found := journal.read(query, task.run, task.part, last):
        for number, line, der in found:
            yield decode(line), der
            last = number


def thing_of(journal: Journal, task: Task, *, line: int | None, thing: str | None) -> tuple[str, bytes] | None:
    """The thing that a report is about, and the digest of its key; None where it is none of the task's."""
    query = "SELECT thing, key FROM task_lines JOIN devices USING (run, thing) WHERE run = ? AND part = ? AND "
    if thing is not None:
        found = journal.read(f"{query} thing = ?", task.run, task.part, thing)
    else:
        found = journal.read(f"{query} task_lines.line = ?", task.run, task.part, line)
    return (str(found[0][0]), bytes(found[0][1])) if found else None


def failed(thing: str, *, reason: str, remedy: str) -> Write:
    """That AWS IoT could not register it; not where it turned out that it did."""
    statement, values = entries.failed(thing, reason=reason, remedy=remedy)
    return f"{statement} AND state = 'planned'", values
