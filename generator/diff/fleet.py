"""Says what differs in what all plants share: names of everything, settings, device types and their metrics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fleet_iot.generator.diff.impact import Kind, PlannedChange
from fleet_iot.generator.diff.record import RecordedFleet, told_thresholds
from fleet_iot.generator.plan.build import DeviceTypePlan, FleetPlan, MetricPlan

_TYPES = "device_types."


def compare_shared(before: RecordedFleet, plan: FleetPlan, *, changed: tuple[str, ...]) -> Iterator[PlannedChange]:
    """The changes behind the names of `changed`, which are those of the index."""
    everything = partial(
        PlannedChange,
        count=sum(facility.thing_count for facility in plan.facilities),
        groups=sum(len(facility.groups) for facility in plan.facilities),
        facilities=len(plan.facilities),
    )
    for name, kind, now in (
        ("application", Kind.APPLICATION, plan.application),
        ("region", Kind.REGION, plan.region),
        ("account_id", Kind.ACCOUNT, plan.account_id),
        ("environment_suffix", Kind.SUFFIX, plan.environment_suffix),
    ):
        if name in changed:
            detail = f"{_text(before.values[name])} → {_text(now)}"
            yield everything(kind=kind, detail=detail)
    if "processor" in changed:
        was, now = _text(before.values["reserved_concurrency"]), _text(plan.reserved_concurrency)
        yield PlannedChange(kind=Kind.PROCESSOR, detail=f"reserved_concurrency: {was} → {now}")
    if "observability" in changed:
        was_told = told_thresholds(before.values["observability"])
        yield PlannedChange(kind=Kind.OBSERVABILITY, detail=told_values(was_told, told_thresholds(plan.observability)))
    if "history" in changed:
        was_told = told_thresholds(before.values["history"])
        yield PlannedChange(kind=Kind.HISTORY, detail=told_values(was_told, told_thresholds(plan.history)))
    if before.values["retention"] != plan.retention:
        kind = Kind.RETENTION_LENGTHENED if plan.retention == "records" else Kind.RETENTION_SHORTENED
        yield PlannedChange(kind=kind, detail=f"{before.values['retention']} → {plan.retention}")
    if "tags" in changed:
        yield everything(kind=Kind.TAGS, detail=told_values(before.values["tags"], dict(plan.tags)))
    now_types = {type_.id: type_ for type_ in plan.device_types}
    touched = [name.removeprefix(_TYPES) for name in changed if name.startswith(_TYPES)]
    yield from _type_changes(
        {id_: before.device_types[id_] for id_ in touched if id_ in before.device_types},
        {id_: now_types[id_] for id_ in touched if id_ in now_types},
        plan,
    )


def _type_changes(
    before: dict[str, DeviceTypePlan], after: dict[str, DeviceTypePlan], plan: FleetPlan
) -> Iterator[PlannedChange]:
    renamed = _renames(before, after)
    for old, new in renamed.items():
        yield PlannedChange(kind=Kind.TYPE_RENAMED, device_type=new, detail=old)
    for id_ in before.keys() - after.keys() - renamed.keys():
        yield PlannedChange(kind=Kind.TYPE_REMOVED, device_type=id_)
    for id_ in after.keys() - before.keys() - set(renamed.values()):
        yield PlannedChange(kind=Kind.TYPE_ADDED, device_type=id_)
    for old, new in [(id_, id_) for id_ in before.keys() & after.keys()] + list(renamed.items()):
        count = sum(
            group.count for facility in plan.facilities for group in facility.groups if group.device_type.id == new
        )
        yield from _inner_changes(before[old], after[new], count, is_renamed=old != new)


def _renames(before: dict[str, DeviceTypePlan], after: dict[str, DeviceTypePlan]) -> dict[str, str]:
    """A type that is gone and one that is new, with the same metrics, are one type under another name.

    Where several fit, the one with the same description is taken, then the first by its id.
    """
    gone, new = (sorted(one.keys() - other.keys()) for one, other in ((before, after), (after, before)))
    renamed: dict[str, str] = {}
    for is_described_alike in (True, False):
        for old in gone:
            for id_ in new:
                is_free = old not in renamed and id_ not in renamed.values()
                is_alike = before[old].description == after[id_].description or not is_described_alike
                if is_free and is_alike and before[old].metrics == after[id_].metrics:
                    renamed[old] = id_
    return renamed


def _inner_changes(
    before: DeviceTypePlan, after: DeviceTypePlan, count: int, *, is_renamed: bool
) -> Iterator[PlannedChange]:
    def change(kind: Kind, detail: str) -> PlannedChange:
        return PlannedChange(kind=kind, device_type=after.id, detail=detail, count=count)

    if before.description != after.description and not is_renamed:
        yield change(Kind.TYPE_DESCRIPTION, f"{before.description} → {after.description}")
    if before.sample_interval_s != after.sample_interval_s:
        yield change(Kind.SAMPLE_INTERVAL, f"{before.sample_interval_s:g} s → {after.sample_interval_s:g} s")
    olds, news = ({metric.name: metric for metric in type_.metrics} for type_ in (before, after))
    for name in sorted(olds.keys() | news.keys()):
        old, new = olds.get(name), news.get(name)
        if old is None:
            yield change(Kind.METRIC_ADDED, name)
        elif new is None:
            yield change(Kind.METRIC_REMOVED, name)
        else:
            if old.unit != new.unit:
                yield change(Kind.METRIC_UNIT, f"{name}: {old.unit} → {new.unit}")
            limits = _limits(old, new)
            if limits:
                yield change(Kind.METRIC_LIMITS, f"{name}: {limits}")


def _limits(old: MetricPlan, new: MetricPlan) -> str:
    values = (
        ("min", old.minimum, new.minimum),
        ("max", old.maximum, new.maximum),
        ("detector", old.detector, new.detector),
    )
    return ", ".join(f"{name} {_text(was)} → {_text(now)}" for name, was, now in values if was != now)


def told_values(before: dict[str, str], after: dict[str, str]) -> str:
    """What differs between texts by name, as people read it."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name}: {_text(before.get(name))} → {_text(after.get(name))}" for name in names)


def _text(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
