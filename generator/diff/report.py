"""Reports a comparison: as a table for people, as JSON, and as the reason why nothing was written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from fleet_iot.generator.cost.estimate import Estimate
from fleet_iot.generator.cost.report import sentence, summary
from fleet_iot.generator.diagnostics import WriteError
from fleet_iot.generator.diff.calls import QUOTAS, Bill, bill, calls_of
from fleet_iot.generator.diff.compare import Comparison
from fleet_iot.generator.diff.impact import REFUSED, Impact, Kind, PlannedChange, Run
from fleet_iot.generator.text import counted, duration, table
from fleet_iot.lib.record.place import record_name, with_environment

FORMAT = 1
"""Of the JSON; a higher one may lack or change keys of this one."""

_FLEET = "all plants"
_RUNS_SHOWN = 3
_CHANGES_SHOWN = 8


def as_text(comparison: Comparison, costs: Estimate, *, manifest: str, environment: str | None = None) -> str:
    """Return what a person reads, of the record of an environment."""
    cost = with_environment(" ".join(["fleet cost", *(f"--facility {id_}" for id_ in costs.facilities)]), environment)
    record, command = record_name(environment), with_environment("fleet generate", environment)
    changes = comparison.changes
    if not changes:
        return f"No changes: {manifest} says what {record} was made from.\n\n{sentence(costs, command=cost)}"
    rows = [("impact", "where", "what"), *((change.impact.value, _where(change), _what(change)) for change in changes)]
    reasons = [(kind.value, f"{impact}: {why}") for kind, impact, why in _reasons(changes)]
    parts = [f"{manifest} against {record}:", _table(rows), "Why:", _table(reasons), *_costs(bill(changes))]
    parts.append(sentence(costs, command=cost))
    parts.append(f"{_summary(changes)} To write it: {_writing(command, comparison, ())}")
    if then := _commands(comparison, environment):
        parts.append("\n".join(["Then, as Terraform does not do it:", *(f"  {line}" for line in then)]))
    return "\n\n".join(parts)


def as_json(comparison: Comparison, costs: Estimate, *, manifest: str, environment: str | None = None) -> str:
    """Return what a program reads; docs/plan.md says what each key is."""
    changes = comparison.changes
    total = bill(changes)
    document = {
        "format": FORMAT,
        "manifest": manifest,
        "impact": max((change.impact for change in changes), key=lambda impact: impact.rank).value if changes else None,
        "summary": {impact.value: sum(change.impact is impact for change in changes) for impact in Impact},
        "needs_allow": [impact.value for impact in _refused(changes, ())],
        "changes": [_plain(change) for change in changes],
        "calls": [{"api": api, "count": count, "per_second": QUOTAS.get(api)} for api, count in total.calls],
        "seconds": round(total.seconds, 1),
        "slowest": total.slowest,
        "waiting_s": total.waiting_s,
        "then": _commands(comparison, environment),
        "cost": summary(costs),
    }
    return json.dumps(document, indent=2)


_COMMANDS = {
    Kind.REGISTRATION: "fleet device adopt --facility {facility}",
    Kind.THINGS_CHANGED: "fleet device sync --facility {facility}",
    Kind.THINGS_ADDED: "fleet onboard --facility {facility}",
    Kind.THINGS_RETIRED: "fleet device retire THING... --reason TEXT",
    Kind.THINGS_MOVED: "fleet device move THING... --to {to} --reason TEXT",
}
"""Commands that do for plants in bulk what Terraform does for others, and hand plants over between the two."""


def _commands(comparison: Comparison, environment: str | None) -> list[str]:
    """Return the commands that bring a plan to the devices where Terraform does not, each once."""
    return list(
        dict.fromkeys(
            with_environment(_COMMANDS[change.kind], environment).format(facility=change.facility, to=change.to)
            for change in comparison.changes
            if change.kind in _COMMANDS and (change.kind is Kind.REGISTRATION or change.facility in comparison.bulk)
        )
    )


def refuse(comparison: Comparison, *, allowed: Iterable[Impact]) -> None:
    """Raise `WriteError` where a change does what is not allowed, with its things and the flags."""
    refused = _refused(comparison.changes, allowed)
    if not refused:
        return
    text = (f"{impact}: {_list([it for it in comparison.changes if it.impact is impact])}" for impact in refused)
    raise WriteError(
        f"nothing was written, because of what it would do. {'. '.join(text)}",
        hint=f"see why: fleet plan; if it is meant: {_writing('fleet generate', comparison, allowed)}",
    )


def _list(changes: Sequence[PlannedChange]) -> str:
    text = [f"{_where(change)}: {_what(change)}" for change in changes[:_CHANGES_SHOWN]]
    more = len(changes) - _CHANGES_SHOWN
    return "; ".join([*text, *([f"and {more:,} more"] if more > 0 else [])])


def _writing(command: str, comparison: Comparison, allowed: Iterable[Impact]) -> str:
    """Return the command that writes the changes, with the flags that it had and the ones that it needs."""
    facilities = [f"--facility {id_}" for id_ in comparison.facilities]
    needed = {*allowed, *_refused(comparison.changes, ())}
    return " ".join([command, *facilities, *(f"--allow {impact}" for impact in REFUSED if impact in needed)])


def _refused(changes: Iterable[PlannedChange], allowed: Iterable[Impact]) -> list[Impact]:
    found = {change.impact for change in changes} - set(allowed)
    return [impact for impact in REFUSED if impact in found]


def _reasons(changes: Iterable[PlannedChange]) -> list[tuple[Kind, Impact, str]]:
    """Return each kind once, with impact and reason, in the order of the changes."""
    return list(dict.fromkeys((change.kind, change.impact, change.reason) for change in changes))


def _where(change: PlannedChange) -> str:
    if change.facility is None:
        return _FLEET
    return f"{change.facility} → {change.to}" if change.to else change.facility


def _what(change: PlannedChange) -> str:
    match change.kind:
        case Kind.THINGS_MOVED | Kind.THINGS_RENAMED:
            verb, how = change.kind.value.removeprefix("things-"), "serial" if change.is_by_serial else "count"
            return f"{_counted_things(change)} {verb} by {how} ({_names(change.things)} become {_names(change.become)})"
        case Kind.THINGS_REPLACED:
            return f"{_counted_things(change)} replaced by other devices ({_names(change.things)}): {change.detail}"
        case Kind.THINGS_ADDED:
            return f"{_counted_things(change)} added ({_names(change.things)}){_groups(change)}"
        case Kind.THINGS_RETIRED:
            return f"{_counted_things(change)} retired ({_names(change.things)}){_groups(change)}"
        case Kind.THINGS_CHANGED:
            return f"{_counted_things(change)} changed ({_names(change.things)}): {change.detail}"
        case Kind.TYPE_RENAMED:
            names = f" ({_names(change.things)})" if change.things else ""
            things = counted(change.count, "thing")
            return f"device type {change.detail} is now {change.device_type}, with the same metrics: {things}{names}"
        case Kind.REGISTRATION:
            return f"registration: {change.detail}, {counted(change.count, 'thing')} that stay"
        case (
            Kind.KEYS_CHANGED
            | Kind.CERTIFICATES_REPLACED
            | Kind.CERTIFICATES_REMOVED
            | Kind.CERTIFICATES_REVIVED
            | Kind.CERTIFICATES_ROTATED
            | Kind.ROTATIONS_FINISHED
        ):
            return f"{_words(change.kind)} of {counted(change.count, 'thing')} ({_names(change.things)})"
        case Kind.KEYS_UNLOCKED:
            return f"keys not locked yet: {counted(change.count, 'thing')} ({_names(change.things)})"
        case Kind.LOCKS_UNPLANNED:
            return f"lock has lines of no planned thing: {change.count:,} ({_names(change.things)})"
        case Kind.DOCUMENTS:
            return "all files regenerated"
        case Kind.FACILITY_ADDED | Kind.FACILITY_REMOVED:
            return f"{_words(change.kind)} ({change.detail})"
        case Kind.TYPE_ADDED | Kind.TYPE_REMOVED:
            return f"device {_words(change.kind)}: {change.device_type}"
    text = f"{_words(change.kind)}: {change.detail}"
    return f"{change.device_type}: {text}" if change.device_type else text


def _words(kind: Kind) -> str:
    return kind.value.replace("-", " ")


def _counted_things(change: PlannedChange) -> str:
    return f"{change.count:,} {change.device_type}"


def _groups(change: PlannedChange) -> str:
    if change.groups_gone:
        return ", the last of their type there: group, policy and prefix go too"
    return ""


def _names(runs: tuple[Run, ...]) -> str:
    text = [str(run) for run in runs[:_RUNS_SHOWN]]
    return ", ".join(text) + (", and others" if len(runs) > _RUNS_SHOWN else "")


def _costs(total: Bill) -> list[str]:
    if not total.calls:
        return ["No AWS calls."]
    rows = [("AWS call", "count", "a second")]
    rows += [(api, f"{count:,}", str(QUOTAS.get(api, ""))) for api, count in total.calls]
    if not total.seconds:
        return [_table(rows)]
    text = f"At least {duration(max(1, total.seconds))} at the default quotas"
    if total.slowest:
        text += f"; {total.slowest} is the slowest"
    if total.waiting_s:
        text += f"; {duration(total.waiting_s)} of it until a deprecated thing type can be deleted"
    return [_table(rows), f"{text}."]


def _summary(changes: Iterable[PlannedChange]) -> str:
    counts = [(impact, sum(change.impact is impact for change in changes)) for impact in reversed(Impact)]
    text = ", ".join(f"{count} {impact}" for impact, count in counts if count)
    return f"Plan: {text}."


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"  {line}" for line in table(rows, "<" * len(rows[0])))


def _plain(change: PlannedChange) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "impact": change.impact.value,
        "reason": change.reason,
        "facility": change.facility,
        "to": change.to,
        "device_type": change.device_type,
        "count": change.count,
        "things": [_run(run) for run in change.things],
        "become": [_run(run) for run in change.become],
        "detail": change.detail,
        "calls": dict(sorted(calls_of(change).items())),
    }


def _run(run: Run) -> dict[str, Any]:
    return {"first": run.first, "last": run.last, "count": run.count}
