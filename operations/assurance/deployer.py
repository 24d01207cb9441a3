"""Generate the deployer's IAM policies: what the AWS provider needs for the synthesised resources, and no more."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fleet_iot.generator.diagnostics import GateError
from fleet_iot.lib.names import PLATFORM_ALARMS, PlatformNames, bucket_arn
from fleet_iot.lib.shared.context import OWN, Access

Body = Mapping[str, Any]
Conditions = Mapping[str, Mapping[str, str | Sequence[str]]]

POLICY_CHARACTERS = 6_144
"""Characters without white space of a managed policy, of which a role can have ten.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""

POLICIES_OF_A_ROLE = 10

ANY = "*"


def _always(body: Body) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Actions that resources of one type need.

    Args:
        actions: With their service, as in a policy.
        on: Resources behind `arn:aws:`, with the fields of `Scope`; `*` for actions without resource-level permission.
        condition: The name of a condition in `_conditions`; '' for none.
        when: Whether a resource with this body needs the grant at all.
    """

    actions: tuple[str, ...]
    on: tuple[str, ...]
    condition: str = ""
    when: Callable[[Body], bool] = _always


def _grant(
    service: str, resources: str, actions: str, *, condition: str = "", when: Callable[[Body], bool] = _always
) -> Grant:
    """Build a grant from words: resources are behind the service's region and account."""
    prefix = PREFIXES.get(service, f"{service}:{{region}}:{{account}}:")
    on = tuple(each if each == ANY else f"{prefix}{each}" for each in resources.split())
    return Grant(
        actions=tuple(f"{service}:{action}" for action in actions.split()),
        on=on,
        condition=condition or ("region" if on == (ANY,) and service not in GLOBAL else ""),
        when=when,
    )


PREFIXES = {"s3": "s3:::", "iam": "iam::{account}:"}
"""Service → how its ARNs go on behind `arn:aws:`, where that is not the service, region and account."""

GLOBAL = frozenset({"iam", "sts", "s3"})
"""Services whose requests have no region, or another one."""

IOT_TAGS = "TagResource UntagResource ListTagsForResource"

PLANT_ALARMS = "alarm:alarm-*-{plant}-{suffix} alarm:alarm-silence-{plant}-*-{suffix}"
ALARM = "PutMetricAlarm DeleteAlarms TagResource UntagResource ListTagsForResource"
RULE = f"CreateTopicRule GetTopicRule ReplaceTopicRule DeleteTopicRule {IOT_TAGS}"

BUCKETS = ("{raw_archive}", "{access_logs}", "{audit_bucket}", "{lanes}")
ARCHIVE = "{raw_archive}"
KEYS = "key/*"
ROLES = "role/role-*-{application}-{region}-{suffix}"
MAPPINGS = "event-source-mapping:*"
GROUPS = "thinggroup/thing-group-{plant}-{suffix} thinggroup/thing-group-{plant}-*-{suffix}"
THINGS = "thing/{plant}-*-{suffix}"
TRAILS = "trail/trail-audit-{application}-{region}-{suffix} trail/trail-data-events-{application}-{region}-{suffix}"
TOPICS = "topic-alarms-{suffix} topic-anomalies-{suffix}"
QUEUE = "queue-processor-failures-{suffix}"
FUNCTION = "function:function-sensor-processor-{suffix} function:function-archive-compactor-{suffix}"
OWN_LOG_GROUPS = "log-group:log-group-*-{suffix} log-group:log-group-*-{suffix}:*"
LAMBDA_LOG_GROUP = " ".join(
    f"log-group:/aws/lambda/{name}-{{suffix}}{streams}"
    for name in ("function-sensor-processor", "function-archive-compactor")
    for streams in ("", ":*")
)
IOT_LOG_GROUP = "log-group:AWSIotLogsV2 log-group:AWSIotLogsV2:*"
LOG_GROUP = (
    "CreateLogGroup DeleteLogGroup PutRetentionPolicy DeleteRetentionPolicy AssociateKmsKey DisassociateKmsKey "
    "TagResource UntagResource ListTagsForResource"
)

KEY_USE = "Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyWithoutPlaintext DescribeKey"


def _bucket(actions: str) -> tuple[Grant, ...]:
    return (_grant("s3", " ".join(BUCKETS), actions),)


def _is_emptied(body: Body) -> bool:
    return bool(body.get("force_destroy"))


def _is_iot_log(body: Body) -> bool:
    return body.get("name") == "AWSIotLogsV2"


def _is_of_platform(body: Body) -> bool:
    return str(body.get("alarm_name", "")).startswith(tuple(f"{name}-" for name in PLATFORM_ALARMS))


def _is_of_plant(body: Body) -> bool:
    return not _is_of_platform(body)


def _is_telemetry(body: Body) -> bool:
    return not _is_events(body)


def _is_events(body: Body) -> bool:
    return str(body.get("name", "")).startswith("rule_events_")


def _has_csr(body: Body) -> bool:
    return "certificate_pem" not in body


def _has_certificate(body: Body) -> bool:
    return "certificate_pem" in body


# Source: the AWS provider's resources, and the actions' resource types in AWS's service authorization reference.
# https://github.com/hashicorp/terraform-provider-aws/tree/v5.100.0/internal/service
# https://docs.aws.amazon.com/service-authorization/latest/reference/

GRANTS: Mapping[str, tuple[Grant, ...]] = {
    "aws_cloudcontrolapi_resource": (
        _grant(
            "cloudformation",
            ANY,
            "CreateResource GetResource UpdateResource DeleteResource GetResourceRequestStatus",
        ),
        # Cloud Control calls AWS IoT with the caller's permissions.
        _grant(
            "iot",
            ANY,
            "DescribeAccountAuditConfiguration UpdateAccountAuditConfiguration DeleteAccountAuditConfiguration",
        ),
        _grant(
            "iot",
            "scheduledaudit/audit-*-{suffix}",
            f"CreateScheduledAudit DescribeScheduledAudit UpdateScheduledAudit DeleteScheduledAudit {IOT_TAGS}",
        ),
    ),
    "aws_cloudtrail": (
        _grant(
            "cloudtrail",
            TRAILS,
            "CreateTrail UpdateTrail DeleteTrail StartLogging StopLogging GetTrailStatus "
            "GetEventSelectors PutEventSelectors GetInsightSelectors PutInsightSelectors "
            "AddTags RemoveTags ListTags",
        ),
        _grant("cloudtrail", ANY, "DescribeTrails"),
    ),
    "aws_cloudwatch_dashboard": (
        # Dashboards have no region.
        Grant(
            actions=("cloudwatch:PutDashboard", "cloudwatch:GetDashboard", "cloudwatch:DeleteDashboards"),
            on=("cloudwatch::{account}:dashboard/dashboard-{plant}-{application}-{region}-{suffix}",),
        ),
    ),
    "aws_cloudwatch_log_group": (
        _grant("logs", f"{OWN_LOG_GROUPS} {LAMBDA_LOG_GROUP}", LOG_GROUP),
        _grant("logs", IOT_LOG_GROUP, LOG_GROUP, when=_is_iot_log),
        _grant("logs", ANY, "DescribeLogGroups"),
    ),
    "aws_cloudwatch_log_metric_filter": (
        _grant(
            "logs",
            OWN_LOG_GROUPS,
            "PutMetricFilter DeleteMetricFilter DescribeMetricFilters",
        ),
    ),
    "aws_cloudwatch_metric_alarm": (
        _grant("cloudwatch", "alarm:alarm-*-{suffix}", ALARM, when=_is_of_platform),
        _grant("cloudwatch", PLANT_ALARMS, ALARM, when=_is_of_plant),
        # AWS wants it for all alarms where composite ones could be among the answer.
        _grant("cloudwatch", ANY, "DescribeAlarms"),
    ),
    "aws_dynamodb_table": (
        _grant(
            "dynamodb",
            "table/table-readings-{suffix} table/table-devices-{suffix} table/table-lanes-{suffix}",
            "CreateTable UpdateTable DeleteTable DescribeTable DescribeContinuousBackups UpdateContinuousBackups "
            "DescribeTimeToLive UpdateTimeToLive TagResource UntagResource ListTagsOfResource",
        ),
        # The provider looks up AWS's own key, to tell it from a given one.
        _grant("kms", KEYS, "DescribeKey", condition="default"),
        _grant("kms", KEYS, KEY_USE, condition="through"),
        _grant("kms", KEYS, "CreateGrant", condition="grants"),
    ),
    "aws_iam_role": (
        _grant(
            "iam",
            ROLES,
            "CreateRole GetRole UpdateRole UpdateRoleDescription UpdateAssumeRolePolicy DeleteRole ListRolePolicies "
            "ListAttachedRolePolicies ListInstanceProfilesForRole DetachRolePolicy DeleteRolePolicy "
            "TagRole UntagRole",
        ),
    ),
    "aws_iam_role_policy": (_grant("iam", ROLES, "GetRole PutRolePolicy GetRolePolicy DeleteRolePolicy"),),
    "aws_iot_certificate": (
        _grant("iot", ANY, "CreateCertificateFromCsr", when=_has_csr),
        _grant("iot", ANY, "RegisterCertificateWithoutCA", when=_has_certificate),
        _grant("iot", "cert/*", "DescribeCertificate UpdateCertificate DeleteCertificate"),
    ),
    "aws_iot_domain_configuration": (
        _grant(
            "iot",
            "domainconfiguration/endpoint-*-{suffix} domainconfiguration/endpoint-*-{suffix}/*",
            f"CreateDomainConfiguration DescribeDomainConfiguration UpdateDomainConfiguration "
            f"DeleteDomainConfiguration {IOT_TAGS}",
        ),
    ),
    "aws_iot_event_configurations": (_grant("iot", ANY, "DescribeEventConfigurations UpdateEventConfigurations"),),
    "aws_iot_logging_options": (_grant("iot", ANY, "GetV2LoggingOptions SetV2LoggingOptions"),),
    "aws_iot_policy": (
        _grant(
            "iot",
            "policy/policy-{plant}-*-{suffix}",
            "CreatePolicy GetPolicy DeletePolicy CreatePolicyVersion DeletePolicyVersion ListPolicyVersions "
            f"ListTargetsForPolicy {IOT_TAGS}",
        ),
    ),
    "aws_iot_policy_attachment": (
        _grant("iot", "cert/*", "AttachPolicy DetachPolicy"),
        _grant("iot", ANY, "ListAttachedPolicies"),
    ),
    "aws_iot_provisioning_template": (
        _grant(
            "iot",
            "provisioningtemplate/template-{plant}-{suffix}",
            "CreateProvisioningTemplate DescribeProvisioningTemplate UpdateProvisioningTemplate "
            "DeleteProvisioningTemplate CreateProvisioningTemplateVersion DeleteProvisioningTemplateVersion "
            f"ListProvisioningTemplateVersions {IOT_TAGS}",
        ),
    ),
    "aws_iot_thing": (_grant("iot", THINGS, "CreateThing DescribeThing UpdateThing DeleteThing"),),
    "aws_iot_thing_group": (
        _grant(
            "iot",
            GROUPS,
            f"CreateThingGroup DescribeThingGroup UpdateThingGroup DeleteThingGroup {IOT_TAGS}",
        ),
        # Before it destroys a plant, `fleet` detaches what onboarding attached.
        _grant("iot", GROUPS, "ListThingsInThingGroup DetachPolicy"),
    ),
    "aws_iot_thing_group_membership": (
        _grant("iot", f"{GROUPS} {THINGS}", "AddThingToThingGroup RemoveThingFromThingGroup"),
        _grant("iot", THINGS, "ListThingGroupsForThing"),
    ),
    "aws_iot_thing_principal_attachment": (
        _grant("iot", ANY, "AttachThingPrincipal DetachThingPrincipal ListThingPrincipals"),
    ),
    "aws_iot_thing_type": (
        _grant(
            "iot",
            "thingtype/thing-type-*-{suffix}",
            f"CreateThingType DescribeThingType UpdateThingType DeprecateThingType DeleteThingType {IOT_TAGS}",
        ),
    ),
    "aws_iot_topic_rule": (
        _grant("iot", "rule/rule_telemetry_{plant_}_{suffix_}", RULE, when=_is_telemetry),
        _grant("iot", "rule/rule_events_*_{suffix_}", RULE, when=_is_events),
        _grant("iot", ANY, "ListTopicRules"),
    ),
    "aws_kinesis_stream": (
        _grant(
            "kinesis",
            "stream/stream-telemetry-{suffix}",
            "CreateStream DescribeStreamSummary "
            "IncreaseStreamRetentionPeriod DecreaseStreamRetentionPeriod AddTagsToStream RemoveTagsFromStream "
            "ListTagsForStream DeleteStream",
        ),
        # AWS checks both the stream and its key.
        Grant(
            actions=("kinesis:StartStreamEncryption", "kinesis:StopStreamEncryption"),
            on=("kinesis:{region}:{account}:stream/stream-telemetry-{suffix}", "kms:{region}:{account}:key/*"),
        ),
        _grant("kinesis", ANY, "DescribeLimits"),
        _grant("kms", KEYS, "DescribeKey GenerateDataKey", condition="through"),
    ),
    "aws_kms_alias": (
        _grant("kms", "alias/key-*-{suffix}", "CreateAlias UpdateAlias DeleteAlias"),
        _grant("kms", KEYS, "CreateAlias UpdateAlias DeleteAlias", condition="own"),
        _grant("kms", ANY, "ListAliases"),
    ),
    "aws_kms_key": (
        _grant("kms", ANY, "CreateKey", condition="made"),
        _grant("kms", KEYS, "TagResource", condition="new"),
        _grant(
            "kms",
            KEYS,
            "DescribeKey GetKeyPolicy PutKeyPolicy GetKeyRotationStatus EnableKeyRotation DisableKeyRotation "
            "EnableKey DisableKey UpdateKeyDescription ScheduleKeyDeletion TagResource UntagResource "
            "ListResourceTags",
            condition="own",
        ),
    ),
    "aws_lambda_event_source_mapping": (
        _grant("lambda", ANY, "CreateEventSourceMapping", condition="function"),
        _grant("lambda", MAPPINGS, "UpdateEventSourceMapping DeleteEventSourceMapping", condition="function"),
        # Without condition: of a deleted mapping AWS has no function to compare, and Terraform waits for "not found".
        _grant("lambda", MAPPINGS, "GetEventSourceMapping"),
        _grant("lambda", MAPPINGS, "TagResource UntagResource ListTags", condition="own"),
        _grant("lambda", MAPPINGS, "TagResource", condition="new"),
    ),
    "aws_lambda_function": (
        _grant(
            "lambda",
            FUNCTION,
            "CreateFunction GetFunction UpdateFunctionCode UpdateFunctionConfiguration DeleteFunction "
            "GetFunctionCodeSigningConfig ListVersionsByFunction PutFunctionConcurrency DeleteFunctionConcurrency "
            "TagResource UntagResource ListTags",
        ),
        _grant("kms", KEYS, "Encrypt Decrypt DescribeKey", condition="through"),
        _grant("kms", KEYS, "CreateGrant", condition="grants"),
    ),
    "aws_s3_bucket": (
        *_bucket(
            "CreateBucket DeleteBucket ListBucket GetBucketLocation GetBucketPolicy GetBucketAcl GetBucketCORS "
            "GetBucketWebsite GetBucketVersioning GetAccelerateConfiguration GetBucketRequestPayment GetBucketLogging "
            "GetLifecycleConfiguration GetReplicationConfiguration GetEncryptionConfiguration "
            "GetBucketObjectLockConfiguration GetBucketTagging PutBucketTagging"
        ),
        _grant("s3", " ".join(BUCKETS), "ListBucketVersions", when=_is_emptied),
        _grant("s3", " ".join(f"{each}/*" for each in BUCKETS), "DeleteObject DeleteObjectVersion", when=_is_emptied),
    ),
    "aws_s3_bucket_intelligent_tiering_configuration": (
        _grant("s3", ARCHIVE, "GetIntelligentTieringConfiguration PutIntelligentTieringConfiguration"),
    ),
    "aws_s3_bucket_lifecycle_configuration": _bucket("GetLifecycleConfiguration PutLifecycleConfiguration"),
    "aws_s3_bucket_logging": _bucket("GetBucketLogging PutBucketLogging"),
    "aws_s3_bucket_object_lock_configuration": _bucket(
        "GetBucketObjectLockConfiguration PutBucketObjectLockConfiguration"
    ),
    "aws_s3_bucket_ownership_controls": _bucket("GetBucketOwnershipControls PutBucketOwnershipControls"),
    "aws_s3_bucket_policy": _bucket("GetBucketPolicy PutBucketPolicy DeleteBucketPolicy"),
    "aws_s3_bucket_public_access_block": _bucket("GetBucketPublicAccessBlock PutBucketPublicAccessBlock"),
    "aws_s3_bucket_server_side_encryption_configuration": _bucket(
        "GetEncryptionConfiguration PutEncryptionConfiguration"
    ),
    "aws_s3_bucket_versioning": _bucket("GetBucketVersioning PutBucketVersioning"),
    "aws_s3_object": (
        _grant(
            "s3",
            # Former versions had their markers below raw/.
            f"{ARCHIVE}/archive/facility={{plant}}/* {ARCHIVE}/raw/facility={{plant}}/*",
            "GetObject PutObject GetObjectTagging PutObjectTagging DeleteObject DeleteObjectVersion",
        ),
        _grant("s3", ARCHIVE, "ListBucket ListBucketVersions"),
        _grant("kms", KEYS, "GenerateDataKey Decrypt", condition="through"),
    ),
    "aws_scheduler_schedule": (
        _grant(
            "scheduler",
            "schedule/default/schedule-*-{suffix}",
            "CreateSchedule GetSchedule UpdateSchedule DeleteSchedule",
        ),
    ),
    "aws_sns_topic": (
        _grant(
            "sns",
            TOPICS,
            "CreateTopic GetTopicAttributes SetTopicAttributes DeleteTopic TagResource UntagResource "
            "ListTagsForResource",
        ),
    ),
    "aws_sns_topic_policy": (_grant("sns", TOPICS, "GetTopicAttributes SetTopicAttributes"),),
    "aws_sqs_queue": (
        _grant(
            "sqs",
            QUEUE,
            "CreateQueue GetQueueAttributes SetQueueAttributes DeleteQueue TagQueue UntagQueue ListQueueTags",
        ),
    ),
    "aws_sqs_queue_policy": (_grant("sqs", QUEUE, "GetQueueAttributes SetQueueAttributes"),),
}
"""Resource type → what Terraform needs to create, read, change, tag and destroy a resource of it."""

PASSED_TO: Mapping[str, str] = {
    "aws_cloudcontrolapi_resource": "iot.amazonaws.com",
    "aws_cloudtrail": "cloudtrail.amazonaws.com",
    "aws_iot_logging_options": "iot.amazonaws.com",
    "aws_iot_provisioning_template": "iot.amazonaws.com",
    "aws_iot_topic_rule": "iot.amazonaws.com",
    "aws_lambda_function": "lambda.amazonaws.com",
    "aws_scheduler_schedule": "scheduler.amazonaws.com",
}
"""Resource type → the service that works under the roles that the resource names: `iam:PassRole`."""

ROLE_ARN = re.compile(r"arn:aws:iam::[^:]*:role/([\w+=,.@-]+)")
ROLE_REFERENCE = re.compile(r"\$\{aws_iam_role\.([^.}]+)\.arn\}")

NAMED = ("name", "bucket", "function_name", "dashboard_name", "alarm_name")
"""Attributes with a resource's literal name, which a grant's pattern must match."""

NOT_IN_ARN = frozenset(
    {
        "aws_cloudwatch_log_metric_filter",
        "aws_iam_role_policy",
        "aws_s3_bucket_intelligent_tiering_configuration",
    }
)
"""Types whose name is no part of an ARN: they are authorised by what they belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateStore:
    """The place of Terraform's states: a bucket with the application's prefix, its key and role, if there are any."""

    bucket: str
    prefix: str
    region: str
    key_arn: str | None = None
    role_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Scope of the policies; `plants` are facility ids, `*` for all of the environment."""

    names: PlatformNames
    plants: tuple[str, ...] = (ANY,)
    state: StateStore | None = None
    access: Access = OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Conditions = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": list(self.actions),
            "Resource": list(self.resources),
        }
        return document | ({"Condition": self.conditions} if self.conditions else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One managed policy: its name, for whom it is, and its statements."""

    name: str
    of: str
    statements: tuple[Statement, ...]

    @property
    def text(self) -> str:
        """The document as `aws iam create-policy` expects it."""
        documents = [each.document() for each in self.statements]
        return json.dumps({"Version": "2012-10-17", "Statement": documents}, indent=2) + "\n"

    @property
    def size(self) -> int:
        """Its characters without white space, as IAM counts them."""
        return len("".join(self.text.split()))


DEPLOYER, STATE, CALLER = "deployer", "state", "caller"
"""Whom a policy is for: the identity of the AWS provider; that of the state bucket; who assumes these two as roles."""


def deployer_policies(resources: Iterable[tuple[str, str, Body]], scope: Scope) -> tuple[Policy, ...]:
    """Build the managed policies that applying and destroying these resources needs.

    Args:
        resources: Each resource's type, id and synthesised arguments.
        scope: Names, plants, state and roles of the deployment.

    Raises:
        GateError: a resource's type is not in GRANTS, or its name is outside what the policies would allow.
    """
    resources = tuple(resources)
    grants: dict[tuple[tuple[str, ...], str], dict[str, str]] = {}
    for type_, id_, body in resources:
        for resource_list, condition, actions in _granted(type_, id_, body, scope):
            found = grants.setdefault((resource_list, condition), {})
            for action in actions:
                found.setdefault(action, type_)
    statements = [
        Statement(
            sid="WithoutResource" if on == (ANY,) else _sid(actions.values()),
            actions=tuple(sorted(actions)),
            resources=on,
            conditions=_condition(name, scope.names),
        )
        for (on, name), actions in sorted(grants.items(), key=lambda each: (sorted(each[1])[0], each[0]))
    ]
    statements += _passed(resources, scope)
    base = f"fleet-{scope.names.application}-{scope.names.region}-{scope.names.suffix}"
    base += "".join(f"-{plant}" for plant in scope.plants if plant != ANY)
    state, caller = _state_statements(scope), _caller_statements(scope)
    if not scope.access.state_role_arn:
        # The state is reached with the credentials at hand.
        if scope.access.role_arn:
            caller += state
        else:
            statements += state
        state = []
    packed = _packed(statements)
    policies = [Policy(name=f"{base}-{n}", of=DEPLOYER, statements=each) for n, each in enumerate(packed, 1)]
    for of, more in ((STATE, state), (CALLER, caller)):
        policies += [Policy(name=f"{base}-{of}", of=of, statements=_unique(more))] if more else []
    return tuple(policies)


def read_resources(stacks: Iterable[Path]) -> Iterator[tuple[str, str, Body]]:
    """Read the resources of synthesised stacks: type, id and arguments."""
    for stack in stacks:
        document = json.loads((stack / "cdk.tf.json").read_bytes())
        for type_, bodies in document.get("resource", {}).items():
            for id_, body in bodies.items():
                yield type_, id_, body


def _granted(type_: str, id_: str, body: Body, scope: Scope) -> Iterator[tuple[tuple[str, ...], str, tuple[str, ...]]]:
    """Yield what one resource needs: ARNs, the condition's name, actions."""
    if type_ not in GRANTS:
        raise GateError(
            f"{type_}.{id_}: no permissions are known for this type",
            hint="add it to GRANTS in operations/assurance/deployer.py",
        )
    needed = [each for each in GRANTS[type_] if each.when(body)]
    on = [tuple(_arns(each.on, scope)) for each in needed]
    name = next((body[each] for each in NAMED if isinstance(body.get(each), str) and "${" not in body[each]), None)
    if name and type_ not in NOT_IN_ARN and not _covers(on, name):
        raise GateError(
            f"{type_}.{id_}: the name {name} is outside the names that the deployer's policy covers",
            hint="name it as lib/names.py does, or correct its pattern in operations/assurance/deployer.py",
        )
    for grant, arns in zip(needed, on, strict=True):
        yield arns, grant.condition, grant.actions


def _covers(on: Iterable[Sequence[str]], name: str) -> bool:
    """Return whether any of the ARNs matches the name, behind its resource type; true where all are `*`."""
    patterns = [arn for arns in on for arn in arns if arn != ANY]
    ends = [arn[n + 1 :] for arn in patterns for n, character in enumerate(arn) if character in ":/"]
    return not patterns or any(end != ANY and fnmatch.fnmatchcase(name, end) for end in ends)


def _arns(templates: Iterable[str], scope: Scope) -> list[str]:
    """Fill in the templates, those of a plant once for each; leave out what another pattern covers."""
    names = scope.names
    fields = {
        "region": names.region,
        "account": names.account_id,
        "application": names.application,
        "suffix": names.suffix,
        "suffix_": names.suffix.replace("-", "_"),
        "raw_archive": names.raw_archive,
        "access_logs": names.access_logs,
        "audit_bucket": names.audit_bucket,
        "lanes": names.lanes,
    }
    found = {
        template if template == ANY else "arn:aws:" + template.format(plant=plant, plant_=_underscored(plant), **fields)
        for template in templates
        for plant in scope.plants
    }
    distinct = {each.replace("*-*", ANY) for each in found}
    return sorted(
        each for each in distinct if not any(other != each and fnmatch.fnmatchcase(each, other) for other in distinct)
    )


def _underscored(plant: str) -> str:
    return plant.replace("-", "_")


def _condition(name: str, names: PlatformNames) -> Conditions:
    """Return the condition that a grant names."""
    tags = {"application": names.application, "environment": names.suffix}
    has_tags = {f"aws:ResourceTag/{key}": value for key, value in tags.items()}
    gives_tags = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    via = {"kms:ViaService": [names.service(each) for each in ("dynamodb", "kinesis", "lambda", "s3")]}
    conditions: dict[str, Conditions] = {
        "": {},
        "region": {"StringEquals": {"aws:RequestedRegion": names.region}},
        # Resources whose ARN AWS chooses are known by the tags that every resource of the environment has.
        "own": {"StringEquals": has_tags},
        "made": {"StringEquals": {**gives_tags, "aws:RequestedRegion": names.region}},
        # Only what has no tags of another environment yet: else anything could be tagged, and then deleted.
        "new": {"StringEquals": gives_tags, "Null": dict.fromkeys(has_tags, "true")},
        "through": {"StringEquals": {**has_tags, **via}},
        "grants": {"StringEquals": {**has_tags, **via}, "Bool": {"kms:GrantIsForAWSResource": "true"}},
        "default": {"StringEquals": {"kms:RequestAlias": "alias/aws/dynamodb"}},
        "function": {"ArnEquals": {"lambda:FunctionArn": names.function_arn}},
    }
    return conditions[name]


def _passed(resources: Iterable[tuple[str, str, Body]], scope: Scope) -> list[Statement]:
    """Allow passing the roles that resources name, each to the service that works under it."""
    resources = tuple(resources)
    roles = {id_: body["name"] for type_, id_, body in resources if type_ == "aws_iam_role"}
    passed: dict[str, set[str]] = {}
    for type_, _, body in resources:
        if type_ in PASSED_TO:
            text = json.dumps(body)
            named = {*ROLE_ARN.findall(text), *(roles[id_] for id_ in ROLE_REFERENCE.findall(text))}
            passed.setdefault(PASSED_TO[type_], set()).update(named)
    return [
        Statement(
            sid=f"Pass{service.partition('.')[0].title()}Roles",
            actions=("iam:PassRole",),
            resources=tuple(sorted(f"arn:aws:iam::{scope.names.account_id}:role/{role}" for role in named)),
            conditions={"StringEquals": {"iam:PassedToService": service}},
        )
        for service, named in sorted(passed.items())
        if named
    ]


def _state_statements(scope: Scope) -> list[Statement]:
    """Allow reading, writing and locking the environment's states, and using their key; nothing without a bucket."""
    if scope.state is None:
        return []
    state, bucket = scope.state, bucket_arn(scope.state.bucket)
    statements = [
        # Without a prefix: Terraform lists workspaces in the whole bucket, and looks whether it exists.
        Statement(
            sid="ListCheckStates",
            actions=(
                "s3:GetBucketLocation",
                "s3:GetBucketPublicAccessBlock",
                "s3:GetBucketVersioning",
                "s3:GetEncryptionConfiguration",
                "s3:ListBucket",
            ),
            resources=(bucket,),
        ),
        Statement(
            sid="ReadWriteLockStates",
            actions=("s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
            resources=(f"{bucket}/{state.prefix}/*",),
        ),
    ]
    if state.key_arn:
        via = {"kms:ViaService": f"s3.{state.region}.amazonaws.com"}
        statements.append(
            Statement(
                sid="UseStateKey",
                actions=("kms:Decrypt", "kms:GenerateDataKey"),
                resources=(state.key_arn,),
                conditions={"StringEquals": via},
            )
        )
    return statements


def _caller_statements(scope: Scope) -> list[Statement]:
    """Allow assuming the roles of the provider and of the state, where there are any."""
    roles = [each for each in (scope.access.role_arn, scope.access.state_role_arn) if each]
    if not roles:
        return []
    return [Statement(sid="AssumeRoles", actions=("sts:AssumeRole",), resources=tuple(sorted(set(roles))))]


def _sid(types: Iterable[str]) -> str:
    """Return a statement's id: the type that most of its actions are for."""
    counted = list(types)
    type_ = max(sorted(set(counted)), key=counted.count)
    return "".join(part.title() for part in type_.removeprefix("aws_").split("_"))


def _unique(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Number the ids of statements that occur twice: within a policy they must differ."""
    seen: dict[str, int] = {}
    unique = []
    for each in statements:
        n = seen[each.sid] = seen.get(each.sid, 0) + 1
        unique.append(replace(each, sid=f"{each.sid}{n}") if n > 1 else each)
    return tuple(unique)


def _packed(statements: Iterable[Statement]) -> list[tuple[Statement, ...]]:
    """Distribute statements, in order, over as few policies as their sizes allow."""
    packed: list[list[Statement]] = [[]]
    for statement in (piece for each in statements for piece in _pieces(each)):
        fitting = next((each for each in packed if _size([*each, statement]) <= POLICY_CHARACTERS), None)
        if fitting is None:
            packed.append([statement])
        else:
            fitting.append(statement)
    return [_unique(each) for each in packed]


def _pieces(statement: Statement) -> Iterator[Statement]:
    """Split a statement that is too large for a policy by its resources."""
    if _size([statement]) <= POLICY_CHARACTERS or len(statement.resources) < 2:
        yield statement
        return
    half = len(statement.resources) // 2
    for part in (statement.resources[:half], statement.resources[half:]):
        yield from _pieces(replace(statement, resources=part))


def _size(statements: Iterable[Statement]) -> int:
    return Policy(name="", of=DEPLOYER, statements=_unique(statements)).size
