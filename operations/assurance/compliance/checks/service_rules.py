"""Checks of what AWS refuses and its service models do not say; each with AWS's page of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fleet_iot.generator.aws.limits import QUOTAS
from fleet_iot.operations.assurance.compliance.findings import Observation, check, observe, problem_unless
from fleet_iot.operations.assurance.compliance.infrastructure import (
    Body,
    Kind,
    PlannedInfrastructure,
    Resource,
    account_of,
    arn_of,
    blocks_of,
    policies,
    read_statements,
)

# fmt: off
SQL_FUNCTIONS = frozenset({
    "abs", "accountid", "acos", "asin", "atan", "atan2", "aws_lambda", "bitand", "bitnot", "bitor", "bitxor",
    "cast", "ceil", "chr", "clientid", "concat", "cos", "cosh", "decode", "encode", "endswith", "exp", "floor",
    "get", "get_dynamodb", "get_mqtt_property", "get_or_default", "get_registry_data", "get_secret",
    "get_thing_shadow", "get_user_properties", "indexof", "isnull", "isundefined", "length", "ln", "log", "lower",
    "lpad", "ltrim", "machinelearning_predict", "md2", "md5", "mod", "nanvl", "newuuid", "numbytes", "parse_time",
    "power", "principal", "rand", "regexp_matches", "regexp_replace", "regexp_substr", "remainder", "replace",
    "round", "rpad", "rtrim", "sha1", "sha224", "sha256", "sha384", "sha512", "sign", "sin", "sinh", "sourceip",
    "sqrt", "startswith", "substring", "tan", "tanh", "time_to_epoch", "timestamp", "topic", "traceid", "transform",
    "trim", "trunc", "upper",
})
# fmt: on
"""https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html"""

SQL_WORDS = frozenset({"and", "as", "case", "else", "exists", "from", "in", "not", "or", "select", "then", "value"})
SQL_WORDS |= {"when", "where"}
"""https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-reference.html"""

SQL_VERSIONS = ("2015-10-08", "2016-03-23")
"""https://docs.aws.amazon.com/iot/latest/developerguide/iot-rule-sql-version.html"""

TOPIC_LEVELS, TOPIC_BYTES = 8, 256
"""https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

ATTRIBUTES_WITH_TYPE, ATTRIBUTES_WITHOUT = 50, 3
"""https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""

SIDS_ALNUM = (Kind.ROLE, Kind.TRUST)
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html"""

STATEMENT_KEYS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html"""

HOUR_S, DAY_S = 3_600, 86_400
INSIGHTS_WINDOW_S = 3 * HOUR_S
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-limits.html"""

DASHBOARD_WIDGETS, DASHBOARD_METRICS, WIDGET_METRICS, DASHBOARD_WIDTH = 500, 2_500, 500, 24
WIDGETS = frozenset({"metric", "text", "log", "alarm", "explorer", "custom"})
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""

INFREQUENT = {"STANDARD_IA": 30, "ONEZONE_IA": 30}
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""

COLDER = ("STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
"""The order in which S3 moves objects, same page."""

SELECTOR_FIELDS: Mapping[str, frozenset[str]] = {
    "Management": frozenset({"eventCategory", "eventSource", "readOnly"}),
    "Data": frozenset(
        {"eventCategory", "resources.type", "resources.ARN", "readOnly", "eventName", "eventSource", "eventType"}
        | {"sessionCredentialFromConsole", "userIdentity.arn"}
    ),
}
"""Fields of a trail's selectors; event data stores have more.
https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_AdvancedFieldSelector.html"""

ONLY_EQUALS = ("eventCategory", "readOnly", "resources.type")
"""Fields that accept no other operator, same page."""


@check("tag-keys-apart", "Tag keys of a role differ in more than case")
def tag_keys_apart(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """To IAM `Owner` and `owner` are one key: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html"""
    for role in planned.of("aws_iam_role", "aws_iam_policy"):
        tags = role.body.get("tags_all") or {}
        twice = [key for key, number in Counter(map(str.lower, tags)).items() if number > 1]
        yield observe(
            role, "tags_all", problem_unless(not twice, f"has tag keys that differ only in case: {', '.join(twice)}")
        )


@check("topic-sql", "A topic rule's SQL and keys use what AWS IoT SQL has")
def topic_sql(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for rule in planned.of("aws_iot_topic_rule"):
        sql, version = str(rule.body.get("sql", "")), rule.body.get("sql_version")
        source = re.search(r"\bFROM\s+'([^']*)'", sql)
        yield observe(
            rule,
            "sql",
            problem_unless(re.match(r"\s*SELECT\s", sql) and source, "is not SELECT … FROM '…'"),
            problem_unless(sql.count("'") % 2 == 0, "leaves a quote open"),
            problem_unless(version in SQL_VERSIONS, f"is of version {version}"),
            _unknown_functions(sql),
            _topic_problem(source[1]) if source else "",
        )
        for name, template in _templates(rule.body):
            yield observe(rule, name, *map(_unknown_functions, re.findall(r"\$\{([^}]*)\}", template)))


def _templates(body: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of a rule's actions, in which `${…}` is an expression of its SQL."""
    if isinstance(body, dict):
        for key, each in body.items():
            if key not in ("sql", "description"):
                yield from _templates(each, f"{name}.{key}".lstrip("."))
    elif isinstance(body, list):
        for each in body:
            yield from _templates(each, name)
    elif isinstance(body, str) and "${" in body and not body.startswith("${aws_"):
        yield name, body


def _unknown_functions(sql: str) -> str:
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", sql)
    called = {name.lower() for name in re.findall(r"\b([A-Za-z_][A-Za-z0-9_]*)\s*\(", bare)}
    unknown = sorted(called - SQL_FUNCTIONS - SQL_WORDS)
    return f"calls {', '.join(unknown)}, which AWS IoT SQL has not" if unknown else ""


def _topic_problem(topic: str) -> str:
    levels = topic.split("/")
    misplaced = [each for each in levels if len(each) > 1 and ("+" in each or "#" in each)]
    own = levels[3:] if topic.startswith("$aws/rules/") else levels
    return "; ".join(
        filter(
            None,
            (
                problem_unless(not misplaced, f"has a wildcard within a level: {', '.join(misplaced)}"),
                problem_unless("#" not in levels[:-1], "has # before the last level"),
                problem_unless(len(own) <= TOPIC_LEVELS, f"has {len(own) - 1} slashes; AWS accepts {TOPIC_LEVELS - 1}"),
                problem_unless(
                    len(topic.encode()) <= TOPIC_BYTES, f"has {len(topic.encode())} bytes; AWS accepts {TOPIC_BYTES}"
                ),
            ),
        )
    )


@check("keys-apart", "No two messages get one key in the archive")
def keys_apart(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """Two messages of one millisecond have one `timestamp()`; those that AWS publishes have no `traceid()`.

    https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html#iot-function-traceid
    """
    for rule in planned.of("aws_iot_topic_rule"):
        for action in (rule.body, *blocks_of(rule.body, "error_action")):
            for s3 in blocks_of(action, "s3"):
                key = str(s3.get("key", ""))
                yield observe(rule, "s3.key", problem_unless("newuuid()" in key, f"can be that of two messages: {key}"))


@check("attributes-fit", "A thing has no more attributes than AWS accepts", about="aws_iot_thing")
def attributes_fit(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for thing in planned.of("aws_iot_thing"):
        number = len(thing.body.get("attributes") or {})
        most = ATTRIBUTES_WITH_TYPE if thing.body.get("thing_type_name") else ATTRIBUTES_WITHOUT
        yield observe(thing, "attributes", problem_unless(number <= most, f"are {number}; AWS accepts {most}"))


@check("alarm-windows", "An alarm looks back no further than CloudWatch does")
def alarm_windows(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"""
    for alarm in planned.of("aws_cloudwatch_metric_alarm"):
        periods = [
            int(each["period"])
            for each in (alarm.body, *alarm.blocks("metric_query"), *_metrics(alarm))
            if each.get("period")
        ]
        window = max(periods, default=0) * int(alarm.body.get("evaluation_periods") or 1)
        longest = 7 * DAY_S if min(periods, default=0) >= HOUR_S else DAY_S
        actions = [len(alarm.body.get(each) or ()) for each in ("alarm_actions", "ok_actions")]
        yield observe(
            alarm,
            "period",
            problem_unless(periods, "has no period"),
            problem_unless(
                all(each in (10, 20, 30) or each % 60 == 0 for each in periods), f"has a period of {periods} s"
            ),
            problem_unless(window <= longest, f"looks back {window} s; CloudWatch accepts {longest}"),
            problem_unless(
                not is_insights(alarm) or window <= INSIGHTS_WINDOW_S,
                f"looks back {window} s by a Metrics Insights query, which reads {INSIGHTS_WINDOW_S}",
            ),
            problem_unless(max(actions) <= 5, "has more than five actions for one state"),
        )


def _metrics(alarm: Resource) -> Iterator[Body]:
    for query in alarm.blocks("metric_query"):
        yield from blocks_of(query, "metric")


def is_insights(alarm: Resource) -> bool:
    """Return whether an alarm watches a Metrics Insights query, of which an account has few."""
    queries = alarm.blocks("metric_query")
    return any(str(query.get("expression", "")).lstrip().upper().startswith("SELECT ") for query in queries)


@check("policy-grammar", "Every policy follows the grammar of its kind")
def policy_grammar(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for policy in policies(planned):
        try:
            document = json.loads(policy.text)
            statements = document["Statement"]
            statements = statements if isinstance(statements, list) else [statements]
        except (ValueError, KeyError, TypeError):
            yield observe(policy.resource, policy.attribute, "is no policy: not JSON with a Statement")
            continue
        sids = [statement["Sid"] for statement in statements if "Sid" in statement]
        strange = sorted({key for statement in statements for key in statement} - STATEMENT_KEYS)
        has_principal = policy.kind not in (Kind.ROLE, Kind.DEVICE)
        yield observe(
            policy.resource,
            policy.attribute,
            problem_unless(document.get("Version") == "2012-10-17", f"is of version {document.get('Version')}"),
            problem_unless(len(set(sids)) == len(sids), "has one Sid twice"),
            problem_unless(
                policy.kind not in SIDS_ALNUM or all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids),
                "has a Sid of other than letters and digits",
            ),
            problem_unless(not strange, f"has the unknown elements {', '.join(strange)}"),
            problem_unless(
                all(each.get("Effect") in ("Allow", "Deny") for each in statements), "has an Effect that is none"
            ),
            problem_unless(
                all({"Action", "NotAction"} & each.keys() for each in statements), "has a statement without Action"
            ),
            problem_unless(
                all(("Principal" in each or "NotPrincipal" in each) == has_principal for each in statements),
                f"{'needs' if has_principal else 'must have no'} Principal",
            ),
            problem_unless(
                policy.kind is Kind.TRUST or all({"Resource", "NotResource"} & each.keys() for each in statements),
                "has a statement without Resource",
            ),
        )


@check("dashboard-bodies", "A dashboard's body is valid")
def dashboard_bodies(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for dashboard in planned.of("aws_cloudwatch_dashboard"):
        try:
            widgets = json.loads(str(dashboard.body.get("dashboard_body")))["widgets"]
            metrics = [len(each["properties"].get("metrics", ())) for each in widgets]
            places = [(each.get("x", 0), each["width"], each["height"]) for each in widgets]
            regions = ["region" in each["properties"] for each in widgets if each["type"] == "metric"]
        except (ValueError, KeyError, TypeError, AttributeError):
            yield observe(dashboard, "dashboard_body", "is no body: not JSON with widgets that have their properties")
            continue
        unknown = sorted({each["type"] for each in widgets} - WIDGETS)
        yield observe(
            dashboard,
            "dashboard_body",
            problem_unless(not unknown, f"has widgets of the unknown types {', '.join(unknown)}"),
            problem_unless(
                len(widgets) <= DASHBOARD_WIDGETS, f"has {len(widgets)} widgets; AWS accepts {DASHBOARD_WIDGETS}"
            ),
            problem_unless(
                sum(metrics) <= DASHBOARD_METRICS, f"has {sum(metrics)} metrics; AWS accepts {DASHBOARD_METRICS}"
            ),
            problem_unless(
                max(metrics, default=0) <= WIDGET_METRICS, f"has a widget of more than {WIDGET_METRICS} metrics"
            ),
            problem_unless(
                all(x + width <= DASHBOARD_WIDTH and 1 <= height <= 1000 for x, width, height in places),
                f"has a widget beyond its {DASHBOARD_WIDTH} columns",
            ),
            problem_unless(all(regions), "has a metric widget without region"),
        )


@check("table-keys", "A table defines the attributes of its keys, and no others")
def table_keys(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html"""
    for table in planned.of("aws_dynamodb_table"):
        indexes = [*table.blocks("global_secondary_index"), *table.blocks("local_secondary_index")]
        keys = {
            str(each[name]) for each in (table.body, *indexes) for name in ("hash_key", "range_key") if name in each
        }
        defined = {str(each.get("name")) for each in table.blocks("attribute")}
        yield observe(
            table,
            "attribute",
            problem_unless(keys == defined, f"defines {sorted(defined)} for the keys {sorted(keys)}"),
        )


@check("selectors", "Every trail selects events by fields that their category has")
def selectors(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for trail in planned.of("aws_cloudtrail"):
        for selector in trail.blocks("advanced_event_selector"):
            fields = {str(each.get("field")): each for each in blocks_of(selector, "field_selector")}
            category = (fields.get("eventCategory", {}).get("equals") or ["none"])[0]
            strange = sorted(fields.keys() - SELECTOR_FIELDS.get(category, frozenset()))
            yield observe(
                trail,
                f"advanced_event_selector/{selector.get('name')}",
                problem_unless(category in SELECTOR_FIELDS, f"is of the category {category}"),
                problem_unless(
                    not strange or category not in SELECTOR_FIELDS, f"of {category} accepts no {', '.join(strange)}"
                ),
                problem_unless(category != "Data" or "resources.type" in fields, "of Data needs resources.type"),
                problem_unless(
                    all(fields[name].get("equals") for name in ONLY_EQUALS if name in fields),
                    f"accepts only equals for {', '.join(ONLY_EQUALS)}",
                ),
            )


CLOUDTRAIL = "cloudtrail.amazonaws.com"


@check("trail-delivery", "Each trail may use its key and write below its own prefix")
def trail_delivery(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """CreateTrail refuses a bucket or key whose policy does not allow it.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-s3-bucket-policy-for-cloudtrail.html
    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
    """
    trails = list(planned.of("aws_cloudtrail"))
    places = Counter((trail.body.get("s3_bucket_name"), trail.body.get("s3_key_prefix")) for trail in trails)
    for trail in trails:
        arn, account_id = arn_of(planned, trail), account_of(planned, trail)
        bucket = planned.found("aws_s3_bucket", trail, trail.body.get("s3_bucket_name"))
        key = planned.found("aws_kms_key", trail, trail.body.get("kms_key_id"))
        of_bucket = planned.belonging("aws_s3_bucket_policy", "bucket", bucket) if bucket else []
        prefix = trail.body.get("s3_key_prefix")
        files = f"{arn_of(planned, bucket)}/{f'{prefix}/' if prefix else ''}AWSLogs/{account_id}/*" if bucket else ""
        source = {"aws:sourcearn": arn, "aws:sourceaccount": account_id}
        yield observe(
            trail,
            "s3_key_prefix",
            problem_unless(places[trail.body.get("s3_bucket_name"), prefix] == 1, "shares its prefix with another"),
            problem_unless(
                any(
                    _allows(policy, "s3:PutObject", source | {"s3:x-amz-acl": "bucket-owner-full-control"}, files)
                    for policy in of_bucket
                ),
                "may not write its files",
            ),
            problem_unless(
                any(_allows(policy, "s3:GetBucketAcl", source) for policy in of_bucket), "may not read the bucket's ACL"
            ),
            problem_unless(
                key
                and _allows(key, "kms:GenerateDataKey", source | {"kms:encryptioncontext:aws:cloudtrail:arn": arn})
                and _allows(key, "kms:DescribeKey", source),
                "may not use its key",
            ),
        )


def _allows(holder: Resource, action: str, request: Mapping[str, str], resource: str = "") -> bool:
    """Return whether the policy in `holder` allows CloudTrail a request; on `resource`, if given."""
    return any(
        statement.is_allow
        and CLOUDTRAIL in statement.principals_of("Service")
        and action in statement.actions
        and (not resource or resource in statement.resources)
        and statement.applies_to(request)
        for statement in read_statements(str(holder.body.get("policy", "")))
    )


@check("lifecycles", "Objects move to colder classes only, and before they expire")
def lifecycles(planned: PlannedInfrastructure) -> Iterator[Observation]:
    for lifecycle in planned.of("aws_s3_bucket_lifecycle_configuration"):
        for rule in lifecycle.blocks("rule"):
            steps = [
                (int(each.get("days", 0)), str(each.get("storage_class"))) for each in blocks_of(rule, "transition")
            ]
            ordered = sorted(steps)
            ends = [int(each["days"]) for each in blocks_of(rule, "expiration") if each.get("days")]
            classes = [COLDER.index(name) for _, name in ordered if name in COLDER]
            yield observe(
                lifecycle,
                f"rule/{rule.get('id')}",
                problem_unless(classes == sorted(classes), f"moves objects back to a warmer class: {ordered}"),
                problem_unless(
                    len({days for days, _ in steps}) == len(steps), f"moves objects twice on one day: {ordered}"
                ),
                problem_unless(
                    all(days >= INFREQUENT.get(name, 0) for days, name in steps), f"moves objects too soon: {steps}"
                ),
                problem_unless(
                    all(days < end for days, _ in steps for end in ends), "expires objects before it moves them"
                ),
            )


@check("quotas", "All stacks together keep within an account's quotas")
def quotas(planned: PlannedInfrastructure) -> Iterator[Observation]:
    """A quota that AWS has raised is an entry in `skips.json`."""
    alarms = planned.of("aws_cloudwatch_metric_alarm")
    counted = {
        "metrics_insights_alarms": sum(map(is_insights, alarms)),
        "provisioning_templates": len(list(planned.of("aws_iot_provisioning_template"))),
        "topic_rules": len(list(planned.of("aws_iot_topic_rule"))),
        "tiering_configurations": _most(planned, "aws_s3_bucket_intelligent_tiering_configuration", "bucket"),
        "iam_roles": len(list(planned.of("aws_iam_role"))),
        "metric_filters": _most(planned, "aws_cloudwatch_log_metric_filter", "log_group_name"),
    }
    for quota in QUOTAS:
        number = counted[quota.id]
        excess = f"{number:,} {quota.what} are too many: an account has {quota.most:,} ({quota.page})"
        yield observe(
            f"account.{quota.id}", f"{number:,} of {quota.most:,}", problem_unless(number <= quota.most, excess)
        )


def _most(planned: PlannedInfrastructure, type_: str, of: str) -> int:
    """Return the largest number of resources of a type that belong to one resource."""
    return max(Counter(str(each.body.get(of)) for each in planned.of(type_)).values(), default=0)
