"""Mutations of what AWS accepts: one by hand for each rule, and one derived from each constraint that is judged."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from fleet_iot.operations.assurance.compliance.infrastructure import PlannedInfrastructure, Resource
from fleet_iot.operations.assurance.compliance.requests import Judgement, judge_resource, problem_of
from fleet_iot.operations.local.service_model import Constraint
from tests.operations.assurance.compliance.mutations.edits import (
    Mutation,
    Trial,
    added,
    edited,
    mutation,
    pick,
    put,
    replaced,
)

CHECK = "api-takes-it"
RULE = "aws_iot_topic_rule"

COLD = {"id": "cool-down", "status": "Enabled", "transition": [{"days": 90, "storage_class": "GLACIER"}]}

TAKES_ALL = frozenset({r"[\s\S]*", ".*", ".+"})
"""Patterns that no text of one line breaks."""

STRANGE = ("ü ", "", "\x00", "a b:*$", "-", ":x")
"""One of these breaks any other pattern of AWS."""


_ABSENT = object()


def break_constraints(planned: PlannedInfrastructure) -> Iterator[Trial]:
    """Break each different constraint once, in the first resource where one attribute decides it."""
    tried: set[tuple[str, str]] = set()
    for resource in _different(planned.resources):
        judgement = judge_resource(resource, planned=planned)
        sources = {
            constraint.member: constraint
            for constraint in judgement.constraints
            if constraint.kind == "type" and constraint.is_whole
        }
        shared = Counter(source.attribute for source in sources.values())
        for constraint in judgement.constraints:
            source = sources.get(constraint.member)
            if source is None or not constraint.is_met or (constraint.member, constraint.kind) in tried:
                continue
            if constraint.kind == "required" and shared[source.attribute] > 1:
                continue  # an entry of a map goes with its key and its value
            noticed = _noticed(judgement, constraint, source, planned)
            if noticed is not None:
                tried.add((constraint.member, constraint.kind))
                yield Trial(check=CHECK, mutation=f"{constraint.member}: {constraint.kind}", noticed=noticed)


def _different(resources: Iterable[Resource]) -> Iterator[Resource]:
    """The resources without those that only repeat one of their type with other text: a plant's things."""
    seen: set[tuple[str, str]] = set()
    for resource in resources:
        sort = (resource.type, re.sub(r"'(?:[^'\\]|\\.)*'(?!:)", "''", repr(resource.body)))
        if sort not in seen:
            seen.add(sort)
            yield resource


def _noticed(
    judgement: Judgement, constraint: Constraint, source: Constraint, planned: PlannedInfrastructure
) -> str | None:
    """Return the gate's answer to the attribute broken in one way after the other; None where nothing breaks it."""
    steps = [step for step in re.split(r"[.\[\]]+", source.attribute) if step]
    if constraint.member.endswith("{key}") and source.value != steps[-1]:
        return None  # a key that no plan sets, but the table of calls
    is_broken = False
    for value in _forbidden(constraint, source.value):
        body = copy.deepcopy(judgement.resource.body)
        is_key = source.value == steps[-1] and not source.member.lower().endswith(("value", "value}"))
        if not _put(body, steps, value, is_key=is_key):
            continue
        found = _kind_of(judge_resource(replace(judgement.resource, body=body), planned=planned), constraint)
        if constraint.kind == "required" and len(found) < len(_kind_of(judgement, constraint)):
            continue  # what only this attribute calls for went with it: a call, or an entry of a list
        is_broken = True
        for each in found:
            if not each.is_met:
                return f"{judgement.resource.address} {source.attribute}: {problem_of(each):.200}"
    return "" if is_broken else None


def _kind_of(judgement: Judgement, constraint: Constraint) -> list[Constraint]:
    """The constraints of one kind on one member, wherever that is."""
    return [each for each in judgement.constraints if (each.member, each.kind) == (constraint.member, constraint.kind)]


def _forbidden(constraint: Constraint, value: Any) -> list[Any]:
    """Values that a constraint does not take; none where Terraform would take them for an attribute that is not set."""
    limit = constraint.limit
    match constraint.kind:
        case "required":
            return [_ABSENT]
        case "type":
            return ["none"] if isinstance(value, list | bool | int | float | dict) else [["none"]]
        case "enum":
            return ["none of these"]
        case "pattern":
            return [] if limit in TAKES_ALL else list(STRANGE)
        case "min":
            return [_of_size(value, limit - 1)] if limit > 1 or isinstance(value, int | float) else []
        case "max":
            return [_of_size(value, limit + 1)]
        case "documented" if limit.pattern:
            return list(STRANGE)
        case "documented":
            is_number = isinstance(value, int) or (isinstance(value, str) and value.isdigit())
            return [limit.most + 1 if is_number else _of_size(value, limit.most + 1)]
        case _:
            return []


def _of_size(value: Any, size: float) -> Any:
    if isinstance(value, str):
        return "x" * int(size)
    if isinstance(value, list):
        return (value * int(size))[: int(size)]
    return {f"key{n}": next(iter(value.values())) for n in range(int(size))} if isinstance(value, dict) else size


def _put(body: Any, steps: list[str], value: Any, *, is_key: bool) -> bool:
    """Set what lies at `steps`, or its key. Tell whether there is such a place: a key of a map may hold dots."""
    *way, last = steps
    for step in way:
        body = body[int(step)] if isinstance(body, list) else body.get(step) if isinstance(body, dict) else None
    if not isinstance(body, dict) or last not in body or (is_key and not isinstance(value, str)):
        return False
    kept = body.pop(last)
    if value is not _ABSENT:
        body[value if is_key else last] = kept if is_key else value
    return True


def _described(type_: str) -> Any:
    return edited(type_, put("properties.0.description", "Werk Köln, Straße 1"))


MUTATIONS: tuple[Mutation, ...] = (
    mutation(CHECK, "a type that no call is known for", added("aws_instance", {})),
    mutation(CHECK, "an attribute that is not mapped", edited("aws_kinesis_stream", put("arn_of", "x"))),
    mutation(CHECK, "a thing group is described in German", _described("aws_iot_thing_group")),
    mutation(CHECK, "a thing type is described in German", _described("aws_iot_thing_type")),
    mutation(
        "tag-keys-apart", "Environment beside environment", edited("aws_iam_role", put("tags_all.Environment", "x"))
    ),
    mutation(
        "topic-sql", "a function that AWS has not", edited(RULE, replaced("sql", "SELECT ", "SELECT now() AS t, "))
    ),
    mutation("topic-sql", "an unknown version of SQL", edited(RULE, put("sql_version", "2026-01-01"))),
    mutation(
        "keys-apart", "a key of the time only", edited(RULE, put("error_action.0.s3.0.key", "${timestamp()}.json"))
    ),
    mutation(
        "attributes-fit",
        "a thing with 51 attributes",
        edited("aws_iot_thing", put("attributes", {f"a{n}": "x" for n in range(51)})),
    ),
    mutation(
        "alarm-windows",
        "an alarm that looks back for a month",
        edited("aws_cloudwatch_metric_alarm", put("evaluation_periods", 9_999)),
    ),
    mutation(
        "policy-grammar",
        "a policy of another version",
        edited("aws_iam_role", replaced("assume_role_policy", "2012-10-17", "2011")),
    ),
    mutation(
        "dashboard-bodies",
        "a dashboard that is no JSON",
        edited("aws_cloudwatch_dashboard", put("dashboard_body", "{")),
    ),
    mutation(
        "table-keys", "an attribute that is no key", edited("aws_dynamodb_table", put("attribute.0.name", "other"))
    ),
    mutation(
        "selectors",
        "management events by resource",
        edited("aws_cloudtrail", put("advanced_event_selector.0.field_selector.0.equals", ["Network"])),
    ),
    mutation("quotas", "more filters than a log group takes", lambda planned: _crowded(planned)),
    mutation(
        "lifecycles",
        "objects expire before they are moved",
        edited("aws_s3_bucket_lifecycle_configuration", put("rule", [COLD | {"expiration": [{"days": 89}]}])),
    ),
)


def _crowded(planned: PlannedInfrastructure) -> PlannedInfrastructure:
    """The infrastructure with as many filters of one log group as are too many."""
    body = pick(planned, "aws_cloudwatch_log_metric_filter", None).body
    for n in range(101):
        planned = added("aws_cloudwatch_log_metric_filter", body, id_=f"filter-{n}")(planned)
    return planned
