"""The AWS calls that make each resource type, and the limits that AWS documents outside its service models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# How to read the tables: a path of an attribute names its blocks, `[]` where the call accepts a list of them; so does a
# path of a member. The text before a colon is another operation than the first of the type, of the same service.
# Several members are separated by spaces. `Tags{Key,Value}` is a list of pairs that a map becomes, `KeySchema[0]` the
# first entry of a list. Source: the AWS provider's resources,
# https://github.com/hashicorp/terraform-provider-aws/tree/v5.100.0/internal/service


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The call by which the provider makes a resource of one type.

    `given` are members that it sets itself; `not_sent` are attributes that reach no call, each with its reason;
    `unset` are values that it treats as not set, as it does empty text. `instead` are attributes with
    which another operation makes the resource, and not the first.
    """

    service: str
    operation: str
    members: Mapping[str, str]
    given: Mapping[str, Any] = field(default_factory=dict)
    not_sent: Mapping[str, str] = field(default_factory=dict)
    unset: Mapping[str, Any] = field(default_factory=dict)
    instead: frozenset[str] = frozenset()


OF_TERRAFORM = "is Terraform's own: it decides how a resource is changed or destroyed, not what it is"
BUCKET_ALONE = {"bucket": "Bucket"}

NEVER_SENT = {
    "lifecycle": OF_TERRAFORM,
    "tags": "is part of tags_all, which is what the provider sends",
}
"""Attributes of any type that reach no call."""


def _call(
    operation: str,
    members: Mapping[str, str],
    *,
    given: Mapping[str, Any] | None = None,
    unset: Mapping[str, Any] | None = None,
    instead: str = "",
    **not_sent: str,
) -> Call:
    service, _, name = operation.partition(".")
    return Call(
        service=service,
        operation=name,
        members=members,
        given=given or {},
        not_sent=not_sent,
        unset=unset or {},
        instead=frozenset(instead.split()),
    )


CALLS: Mapping[str, Call] = {
    "aws_cloudcontrolapi_resource": _call(
        "cloudcontrol.CreateResource",
        {"type_name": "TypeName", "desired_state": "DesiredState"},
        schema="is given so that the provider need not ask for it; it validates desired_state with it",
    ),
    "aws_cloudtrail": _call(
        "cloudtrail.CreateTrail",
        {
            "name": "Name PutEventSelectors:TrailName PutInsightSelectors:TrailName",
            "s3_bucket_name": "S3BucketName",
            "s3_key_prefix": "S3KeyPrefix",
            "sns_topic_name": "SnsTopicName",
            "cloud_watch_logs_group_arn": "CloudWatchLogsLogGroupArn",
            "cloud_watch_logs_role_arn": "CloudWatchLogsRoleArn",
            "enable_log_file_validation": "EnableLogFileValidation",
            "include_global_service_events": "IncludeGlobalServiceEvents",
            "is_multi_region_trail": "IsMultiRegionTrail",
            "is_organization_trail": "IsOrganizationTrail",
            "kms_key_id": "KmsKeyId",
            "advanced_event_selector[].name": "PutEventSelectors:AdvancedEventSelectors[].Name",
            "advanced_event_selector[].field_selector[].field": (
                "PutEventSelectors:AdvancedEventSelectors[].FieldSelectors[].Field"
            ),
            **{
                f"advanced_event_selector[].field_selector[].{attribute}": (
                    f"PutEventSelectors:AdvancedEventSelectors[].FieldSelectors[].{member}"
                )
                for attribute, member in (
                    ("equals", "Equals"),
                    ("not_equals", "NotEquals"),
                    ("starts_with", "StartsWith"),
                    ("not_starts_with", "NotStartsWith"),
                    ("ends_with", "EndsWith"),
                    ("not_ends_with", "NotEndsWith"),
                )
            },
            "insight_selector[].insight_type": "PutInsightSelectors:InsightSelectors[].InsightType",
            "tags_all": "TagsList{Key,Value}",
        },
        enable_logging="decides whether the provider calls StartLogging, which is sent the trail's name only",
    ),
    "aws_cloudwatch_dashboard": _call(
        "cloudwatch.PutDashboard", {"dashboard_name": "DashboardName", "dashboard_body": "DashboardBody"}
    ),
    "aws_cloudwatch_log_group": _call(
        "logs.CreateLogGroup",
        {
            "name": "logGroupName PutRetentionPolicy:logGroupName",
            "kms_key_id": "kmsKeyId",
            "log_group_class": "logGroupClass",
            "retention_in_days": "PutRetentionPolicy:retentionInDays",
            "tags_all": "tags",
        },
        skip_destroy=OF_TERRAFORM,
    ),
    "aws_cloudwatch_log_metric_filter": _call(
        "logs.PutMetricFilter",
        {
            "name": "filterName",
            "log_group_name": "logGroupName",
            "pattern": "filterPattern",
            "metric_transformation[].name": "metricTransformations[].metricName",
            "metric_transformation[].namespace": "metricTransformations[].metricNamespace",
            "metric_transformation[].value": "metricTransformations[].metricValue",
            "metric_transformation[].default_value": "metricTransformations[].defaultValue",
            "metric_transformation[].dimensions": "metricTransformations[].dimensions",
            "metric_transformation[].unit": "metricTransformations[].unit",
        },
    ),
    "aws_cloudwatch_log_resource_policy": _call(
        "logs.PutResourcePolicy", {"policy_name": "policyName", "policy_document": "policyDocument"}
    ),
    "aws_cloudwatch_metric_alarm": _call(
        "cloudwatch.PutMetricAlarm",
        {
            "alarm_name": "AlarmName",
            "alarm_description": "AlarmDescription",
            "actions_enabled": "ActionsEnabled",
            "alarm_actions": "AlarmActions",
            "ok_actions": "OKActions",
            "insufficient_data_actions": "InsufficientDataActions",
            "comparison_operator": "ComparisonOperator",
            "datapoints_to_alarm": "DatapointsToAlarm",
            "dimensions": "Dimensions{Name,Value}",
            "evaluation_periods": "EvaluationPeriods",
            "extended_statistic": "ExtendedStatistic",
            "metric_name": "MetricName",
            "namespace": "Namespace",
            "period": "Period",
            "statistic": "Statistic",
            "threshold": "Threshold",
            "treat_missing_data": "TreatMissingData",
            "unit": "Unit",
            "metric_query[].id": "Metrics[].Id",
            "metric_query[].account_id": "Metrics[].AccountId",
            "metric_query[].expression": "Metrics[].Expression",
            "metric_query[].label": "Metrics[].Label",
            "metric_query[].period": "Metrics[].Period",
            "metric_query[].return_data": "Metrics[].ReturnData",
            "metric_query[].metric.dimensions": "Metrics[].MetricStat.Metric.Dimensions{Name,Value}",
            "metric_query[].metric.metric_name": "Metrics[].MetricStat.Metric.MetricName",
            "metric_query[].metric.namespace": "Metrics[].MetricStat.Metric.Namespace",
            "metric_query[].metric.period": "Metrics[].MetricStat.Period",
            "metric_query[].metric.stat": "Metrics[].MetricStat.Stat",
            "metric_query[].metric.unit": "Metrics[].MetricStat.Unit",
            "tags_all": "Tags{Key,Value}",
        },
    ),
    "aws_dynamodb_table": _call(
        "dynamodb.CreateTable",
        {
            "name": "TableName UpdateTimeToLive:TableName UpdateContinuousBackups:TableName",
            "billing_mode": "BillingMode",
            "deletion_protection_enabled": "DeletionProtectionEnabled",
            "hash_key": "KeySchema[0].AttributeName",
            "range_key": "KeySchema[1].AttributeName",
            "attribute[].name": "AttributeDefinitions[].AttributeName",
            "attribute[].type": "AttributeDefinitions[].AttributeType",
            "global_secondary_index[].name": "GlobalSecondaryIndexes[].IndexName",
            "global_secondary_index[].hash_key": "GlobalSecondaryIndexes[].KeySchema[0].AttributeName",
            "global_secondary_index[].range_key": "GlobalSecondaryIndexes[].KeySchema[1].AttributeName",
            "global_secondary_index[].projection_type": "GlobalSecondaryIndexes[].Projection.ProjectionType",
            "server_side_encryption.enabled": "SSESpecification.Enabled",
            "server_side_encryption.kms_key_arn": "SSESpecification.KMSMasterKeyId",
            "table_class": "TableClass",
            "point_in_time_recovery.enabled": (
                "UpdateContinuousBackups:PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled"
            ),
            "point_in_time_recovery.recovery_period_in_days": (
                "UpdateContinuousBackups:PointInTimeRecoverySpecification.RecoveryPeriodInDays"
            ),
            "ttl.attribute_name": "UpdateTimeToLive:TimeToLiveSpecification.AttributeName",
            "ttl.enabled": "UpdateTimeToLive:TimeToLiveSpecification.Enabled",
            "tags_all": "Tags{Key,Value}",
        },
        given={
            **{
                f"{schema}[{place}].KeyType": kind
                for schema in ("KeySchema", "GlobalSecondaryIndexes[].KeySchema")
                for place, kind in enumerate(("HASH", "RANGE"))
            },
            "SSESpecification.SSEType": "KMS",
        },
    ),
    "aws_iam_role": _call(
        "iam.CreateRole",
        {
            "name": "RoleName",
            "assume_role_policy": "AssumeRolePolicyDocument",
            "description": "Description",
            "max_session_duration": "MaxSessionDuration",
            "path": "Path",
            "permissions_boundary": "PermissionsBoundary",
            "tags_all": "Tags{Key,Value}",
        },
        force_detach_policies=OF_TERRAFORM,
    ),
    "aws_iam_role_policy": _call(
        "iam.PutRolePolicy", {"name": "PolicyName", "role": "RoleName", "policy": "PolicyDocument"}
    ),
    "aws_iot_certificate": _call(
        "iot.CreateCertificateFromCsr",
        {
            "csr": "certificateSigningRequest",
            "active": "setAsActive RegisterCertificateWithoutCA:status",
            "certificate_pem": "RegisterCertificateWithoutCA:certificatePem",
        },
        given={"RegisterCertificateWithoutCA:status": "ACTIVE"},
        instead="certificate_pem",
    ),
    "aws_iot_domain_configuration": _call(
        "iot.CreateDomainConfiguration",
        {
            "name": "domainConfigurationName UpdateDomainConfiguration:domainConfigurationName",
            "domain_name": "domainName",
            "server_certificate_arns": "serverCertificateArns",
            "validation_certificate_arn": "validationCertificateArn",
            "service_type": "serviceType",
            "status": "UpdateDomainConfiguration:domainConfigurationStatus",
            "tls_config.security_policy": "tlsConfig.securityPolicy",
            "tags_all": "tags{Key,Value}",
        },
    ),
    "aws_iot_event_configurations": _call(
        "iot.UpdateEventConfigurations", {"event_configurations": "eventConfigurations{}.Enabled"}
    ),
    "aws_iot_logging_options": _call(
        "iot.SetV2LoggingOptions",
        {"default_log_level": "defaultLogLevel", "role_arn": "roleArn", "disable_all_logs": "disableAllLogs"},
    ),
    "aws_iot_policy": _call(
        "iot.CreatePolicy", {"name": "policyName", "policy": "policyDocument", "tags_all": "tags{Key,Value}"}
    ),
    "aws_iot_policy_attachment": _call("iot.AttachPolicy", {"policy": "policyName", "target": "target"}),
    "aws_iot_provisioning_template": _call(
        "iot.CreateProvisioningTemplate",
        {
            "name": "templateName",
            "description": "description",
            "enabled": "enabled",
            "provisioning_role_arn": "provisioningRoleArn",
            "template_body": "templateBody",
            "type": "type",
            "pre_provisioning_hook.target_arn": "preProvisioningHook.targetArn",
            "pre_provisioning_hook.payload_version": "preProvisioningHook.payloadVersion",
            "tags_all": "tags{Key,Value}",
        },
    ),
    "aws_iot_thing": _call(
        "iot.CreateThing",
        {"name": "thingName", "thing_type_name": "thingTypeName", "attributes": "attributePayload.attributes"},
    ),
    "aws_iot_thing_group": _call(
        "iot.CreateThingGroup",
        {
            "name": "thingGroupName",
            "parent_group_name": "parentGroupName",
            "properties.description": "thingGroupProperties.thingGroupDescription",
            "properties.attribute_payload.attributes": "thingGroupProperties.attributePayload.attributes",
            "tags_all": "tags{Key,Value}",
        },
    ),
    "aws_iot_thing_group_membership": _call(
        "iot.AddThingToThingGroup",
        {
            "thing_name": "thingName",
            "thing_group_name": "thingGroupName",
            "override_dynamic_group": "overrideDynamicGroups",
        },
    ),
    "aws_iot_thing_principal_attachment": _call(
        "iot.AttachThingPrincipal",
        {"thing": "thingName", "principal": "principal", "thing_principal_type": "thingPrincipalType"},
    ),
    "aws_iot_thing_type": _call(
        "iot.CreateThingType",
        {
            "name": "thingTypeName",
            "properties.description": "thingTypeProperties.thingTypeDescription",
            "properties.searchable_attributes": "thingTypeProperties.searchableAttributes",
            "tags_all": "tags{Key,Value}",
        },
        deprecated="decides whether the provider calls DeprecateThingType, which is sent the type's name only",
    ),
    "aws_iot_topic_rule": _call(
        "iot.CreateTopicRule",
        {
            "name": "ruleName",
            "description": "topicRulePayload.description",
            "enabled": "topicRulePayload.ruleDisabled",
            "sql": "topicRulePayload.sql",
            "sql_version": "topicRulePayload.awsIotSqlVersion",
            "kinesis[].partition_key": "topicRulePayload.actions[].kinesis.partitionKey",
            "kinesis[].role_arn": "topicRulePayload.actions[].kinesis.roleArn",
            "kinesis[].stream_name": "topicRulePayload.actions[].kinesis.streamName",
            "s3[].bucket_name": "topicRulePayload.actions[].s3.bucketName",
            "s3[].canned_acl": "topicRulePayload.actions[].s3.cannedAcl",
            "s3[].key": "topicRulePayload.actions[].s3.key",
            "s3[].role_arn": "topicRulePayload.actions[].s3.roleArn",
            "error_action.cloudwatch_logs.batch_mode": "topicRulePayload.errorAction.cloudwatchLogs.batchMode",
            "error_action.cloudwatch_logs.log_group_name": "topicRulePayload.errorAction.cloudwatchLogs.logGroupName",
            "error_action.cloudwatch_logs.role_arn": "topicRulePayload.errorAction.cloudwatchLogs.roleArn",
            "error_action.s3.bucket_name": "topicRulePayload.errorAction.s3.bucketName",
            "error_action.s3.canned_acl": "topicRulePayload.errorAction.s3.cannedAcl",
            "error_action.s3.key": "topicRulePayload.errorAction.s3.key",
            "error_action.s3.role_arn": "topicRulePayload.errorAction.s3.roleArn",
            # CreateTopicRule accepts them as the text of a header, to the same limits as TagResource.
            "tags_all": "TagResource:tags{Key,Value}",
        },
        given={"TagResource:resourceArn": "itself"},
    ),
    "aws_kinesis_stream": _call(
        "kinesis.CreateStream",
        {
            "name": "StreamName IncreaseStreamRetentionPeriod:StreamName StartStreamEncryption:StreamName",
            "encryption_type": "StartStreamEncryption:EncryptionType",
            "kms_key_id": "StartStreamEncryption:KeyId",
            "retention_period": "IncreaseStreamRetentionPeriod:RetentionPeriodHours",
            "shard_count": "ShardCount",
            "stream_mode_details.stream_mode": "StreamModeDetails.StreamMode",
            "tags_all": "Tags",
        },
        enforce_consumer_deletion=OF_TERRAFORM,
    ),
    "aws_kms_alias": _call("kms.CreateAlias", {"name": "AliasName", "target_key_id": "TargetKeyId"}),
    "aws_kms_key": _call(
        "kms.CreateKey",
        {
            "bypass_policy_lockout_safety_check": "BypassPolicyLockoutSafetyCheck",
            "customer_master_key_spec": "KeySpec",
            "deletion_window_in_days": "ScheduleKeyDeletion:PendingWindowInDays",
            "description": "Description",
            "key_usage": "KeyUsage",
            "multi_region": "MultiRegion",
            "policy": "Policy",
            "rotation_period_in_days": "EnableKeyRotation:RotationPeriodInDays",
            "tags_all": "Tags{TagKey,TagValue}",
        },
        given={"EnableKeyRotation:KeyId": "alias/itself", "ScheduleKeyDeletion:KeyId": "alias/itself"},
        enable_key_rotation="decides whether the provider calls EnableKeyRotation",
        is_enabled="decides whether the provider calls DisableKey, which is sent the key only",
    ),
    "aws_lambda_event_source_mapping": _call(
        "lambda.CreateEventSourceMapping",
        {
            "batch_size": "BatchSize",
            "bisect_batch_on_function_error": "BisectBatchOnFunctionError",
            "destination_config.on_failure.destination_arn": "DestinationConfig.OnFailure.Destination",
            "enabled": "Enabled",
            "event_source_arn": "EventSourceArn",
            "function_name": "FunctionName",
            "function_response_types": "FunctionResponseTypes",
            "kms_key_arn": "KMSKeyArn",
            "maximum_batching_window_in_seconds": "MaximumBatchingWindowInSeconds",
            "maximum_record_age_in_seconds": "MaximumRecordAgeInSeconds",
            "maximum_retry_attempts": "MaximumRetryAttempts",
            "parallelization_factor": "ParallelizationFactor",
            "starting_position": "StartingPosition",
            "tumbling_window_in_seconds": "TumblingWindowInSeconds",
            "tags_all": "Tags",
        },
    ),
    "aws_lambda_function": _call(
        "lambda.CreateFunction",
        {
            "architectures": "Architectures",
            "dead_letter_config.target_arn": "DeadLetterConfig.TargetArn",
            "description": "Description",
            "environment.variables": "Environment.Variables",
            "ephemeral_storage.size": "EphemeralStorage.Size",
            "function_name": "FunctionName PutFunctionConcurrency:FunctionName",
            "handler": "Handler",
            "kms_key_arn": "KMSKeyArn",
            "layers": "Layers",
            "logging_config.log_format": "LoggingConfig.LogFormat",
            "logging_config.log_group": "LoggingConfig.LogGroup",
            "memory_size": "MemorySize",
            "package_type": "PackageType",
            "publish": "Publish",
            "reserved_concurrent_executions": "PutFunctionConcurrency:ReservedConcurrentExecutions",
            "role": "Role",
            "runtime": "Runtime",
            "timeout": "Timeout",
            "tracing_config.mode": "TracingConfig.Mode",
            "tags_all": "Tags",
        },
        given={"Code.ZipFile": b""},
        unset={"reserved_concurrent_executions": -1},
        filename="names the zip whose bytes the provider sends as Code.ZipFile",
        source_code_hash="shows Terraform that the zip has changed",
        skip_destroy=OF_TERRAFORM,
    ),
    "aws_lambda_permission": _call(
        "lambda.AddPermission",
        {
            "action": "Action",
            "function_name": "FunctionName",
            "principal": "Principal",
            "qualifier": "Qualifier",
            "source_account": "SourceAccount",
            "source_arn": "SourceArn",
            "statement_id": "StatementId",
        },
    ),
    "aws_s3_bucket": _call(
        "s3.CreateBucket",
        {
            "bucket": "Bucket PutBucketTagging:Bucket",
            "object_lock_enabled": "ObjectLockEnabledForBucket",
            "tags_all": "PutBucketTagging:Tagging.TagSet{Key,Value}",
        },
        force_destroy=OF_TERRAFORM,
    ),
    "aws_s3_bucket_intelligent_tiering_configuration": _call(
        "s3.PutBucketIntelligentTieringConfiguration",
        {
            "bucket": "Bucket",
            "name": "Id IntelligentTieringConfiguration.Id",
            "status": "IntelligentTieringConfiguration.Status",
            "filter.prefix": "IntelligentTieringConfiguration.Filter.Prefix",
            "tiering[].access_tier": "IntelligentTieringConfiguration.Tierings[].AccessTier",
            "tiering[].days": "IntelligentTieringConfiguration.Tierings[].Days",
        },
    ),
    "aws_s3_bucket_lifecycle_configuration": _call(
        "s3.PutBucketLifecycleConfiguration",
        BUCKET_ALONE
        | {
            "transition_default_minimum_object_size": "TransitionDefaultMinimumObjectSize",
            **{
                f"rule[].{attribute}": f"LifecycleConfiguration.Rules[].{member}"
                for attribute, member in (
                    ("id", "ID"),
                    ("prefix", "Prefix"),
                    ("status", "Status"),
                    (
                        "abort_incomplete_multipart_upload.days_after_initiation",
                        "AbortIncompleteMultipartUpload.DaysAfterInitiation",
                    ),
                    ("expiration.days", "Expiration.Days"),
                    ("expiration.expired_object_delete_marker", "Expiration.ExpiredObjectDeleteMarker"),
                    ("filter.prefix", "Filter.Prefix"),
                    ("filter.object_size_greater_than", "Filter.ObjectSizeGreaterThan"),
                    ("filter.object_size_less_than", "Filter.ObjectSizeLessThan"),
                    ("filter.and.prefix", "Filter.And.Prefix"),
                    ("filter.and.object_size_greater_than", "Filter.And.ObjectSizeGreaterThan"),
                    ("filter.and.object_size_less_than", "Filter.And.ObjectSizeLessThan"),
                    ("filter.and.tags", "Filter.And.Tags{Key,Value}"),
                    ("noncurrent_version_expiration.noncurrent_days", "NoncurrentVersionExpiration.NoncurrentDays"),
                    (
                        "noncurrent_version_transition[].noncurrent_days",
                        "NoncurrentVersionTransitions[].NoncurrentDays",
                    ),
                    ("noncurrent_version_transition[].storage_class", "NoncurrentVersionTransitions[].StorageClass"),
                    ("transition[].days", "Transitions[].Days"),
                    ("transition[].storage_class", "Transitions[].StorageClass"),
                )
            },
        },
    ),
    "aws_s3_bucket_logging": _call(
        "s3.PutBucketLogging",
        BUCKET_ALONE
        | {
            "target_bucket": "BucketLoggingStatus.LoggingEnabled.TargetBucket",
            "target_prefix": "BucketLoggingStatus.LoggingEnabled.TargetPrefix",
        },
    ),
    "aws_s3_bucket_object_lock_configuration": _call(
        "s3.PutObjectLockConfiguration",
        BUCKET_ALONE
        | {
            "object_lock_enabled": "ObjectLockConfiguration.ObjectLockEnabled",
            "rule.default_retention.days": "ObjectLockConfiguration.Rule.DefaultRetention.Days",
            "rule.default_retention.mode": "ObjectLockConfiguration.Rule.DefaultRetention.Mode",
        },
    ),
    "aws_s3_bucket_ownership_controls": _call(
        "s3.PutBucketOwnershipControls",
        BUCKET_ALONE | {"rule[].object_ownership": "OwnershipControls.Rules[].ObjectOwnership"},
    ),
    "aws_s3_bucket_policy": _call("s3.PutBucketPolicy", BUCKET_ALONE | {"policy": "Policy"}),
    "aws_s3_bucket_public_access_block": _call(
        "s3.PutPublicAccessBlock",
        BUCKET_ALONE
        | {
            "block_public_acls": "PublicAccessBlockConfiguration.BlockPublicAcls",
            "block_public_policy": "PublicAccessBlockConfiguration.BlockPublicPolicy",
            "ignore_public_acls": "PublicAccessBlockConfiguration.IgnorePublicAcls",
            "restrict_public_buckets": "PublicAccessBlockConfiguration.RestrictPublicBuckets",
        },
    ),
    "aws_s3_bucket_server_side_encryption_configuration": _call(
        "s3.PutBucketEncryption",
        BUCKET_ALONE
        | {
            f"rule[].{attribute}": f"ServerSideEncryptionConfiguration.Rules[].{member}"
            for attribute, member in (
                (
                    "apply_server_side_encryption_by_default.kms_master_key_id",
                    "ApplyServerSideEncryptionByDefault.KMSMasterKeyID",
                ),
                (
                    "apply_server_side_encryption_by_default.sse_algorithm",
                    "ApplyServerSideEncryptionByDefault.SSEAlgorithm",
                ),
                ("bucket_key_enabled", "BucketKeyEnabled"),
            )
        },
    ),
    "aws_s3_bucket_versioning": _call(
        "s3.PutBucketVersioning", BUCKET_ALONE | {"versioning_configuration.status": "VersioningConfiguration.Status"}
    ),
    "aws_s3_object": _call(
        "s3.PutObject",
        {
            "bucket": "Bucket PutObjectTagging:Bucket",
            "key": "Key PutObjectTagging:Key",
            "content_type": "ContentType",
            # PutObject accepts them as the text of a header, to the same limits as PutObjectTagging.
            "tags_all": "PutObjectTagging:Tagging.TagSet{Key,Value}",
        },
        force_destroy=OF_TERRAFORM,
        override_provider="decides which of the default tags are part of tags_all",
    ),
    "aws_scheduler_schedule": _call(
        "scheduler.CreateSchedule",
        {
            "name": "Name",
            "description": "Description",
            "flexible_time_window.mode": "FlexibleTimeWindow.Mode",
            "group_name": "GroupName",
            "schedule_expression": "ScheduleExpression",
            "schedule_expression_timezone": "ScheduleExpressionTimezone",
            "state": "State",
            "target.arn": "Target.Arn",
            "target.input": "Target.Input",
            "target.role_arn": "Target.RoleArn",
            "target.retry_policy.maximum_event_age_in_seconds": "Target.RetryPolicy.MaximumEventAgeInSeconds",
            "target.retry_policy.maximum_retry_attempts": "Target.RetryPolicy.MaximumRetryAttempts",
        },
    ),
    "aws_sns_topic": _call(
        "sns.CreateTopic",
        {
            "name": "Name",
            "content_based_deduplication": "Attributes.ContentBasedDeduplication",
            "fifo_topic": "Attributes.FifoTopic",
            "display_name": "Attributes.DisplayName",
            "kms_master_key_id": "Attributes.KmsMasterKeyId",
            "tags_all": "Tags{Key,Value}",
        },
    ),
    "aws_sns_topic_policy": _call(
        "sns.SetTopicAttributes", {"arn": "TopicArn", "policy": "AttributeValue"}, given={"AttributeName": "Policy"}
    ),
    "aws_sqs_queue": _call(
        "sqs.CreateQueue",
        {
            "name": "QueueName",
            "content_based_deduplication": "Attributes.ContentBasedDeduplication",
            "delay_seconds": "Attributes.DelaySeconds",
            "fifo_queue": "Attributes.FifoQueue",
            "kms_data_key_reuse_period_seconds": "Attributes.KmsDataKeyReusePeriodSeconds",
            "kms_master_key_id": "Attributes.KmsMasterKeyId",
            "max_message_size": "Attributes.MaximumMessageSize",
            "message_retention_seconds": "Attributes.MessageRetentionPeriod",
            "receive_wait_time_seconds": "Attributes.ReceiveMessageWaitTimeSeconds",
            "visibility_timeout_seconds": "Attributes.VisibilityTimeout",
            "tags_all": "tags",
        },
    ),
    "aws_sqs_queue_policy": _call("sqs.SetQueueAttributes", {"queue_url": "QueueUrl", "policy": "Attributes.Policy"}),
}
"""Resource type → its call. A type that is not here, and an attribute that is in none of these, fails the gate."""


# Limits of single members that AWS's pages give and its service models do not.

_API = "https://docs.aws.amazon.com"
_SQS = f"{_API}/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"
_IAM = f"{_API}/IAM/latest/UserGuide/reference_iam-quotas.html"
_TIERING = f"{_API}/AmazonS3/latest/API/API_Tiering.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A pattern, or a range of a number or of a text's characters; `is_bare`: white space does not count."""

    page: str
    pattern: str = ""
    least: int = 0
    most: int = 0
    is_bare: bool = False

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value; empty where nothing is."""
        if self.pattern:
            return "" if re.fullmatch(self.pattern, value) else f"is {value!r:.80}, not {self.pattern}"
        size = self._size(value)
        if not self.least <= size <= self.most:
            bare = " without white space" * self.is_bare
            return f"is {size:,.0f}{bare}; AWS accepts {self.least:,} to {self.most:,}"
        return ""

    def _size(self, value: Any) -> float:
        """Return a number as it is, also where a service accepts it as text; the length of anything else."""
        if isinstance(value, str):
            value = re.sub(r"\s", "", value) if self.is_bare else value
            return int(value) if re.fullmatch(r"-?\d+", value) else len(value)
        return len(value) if isinstance(value, dict | list) else float(value)


def _name(pattern: str, page: str) -> tuple[Limit, ...]:
    return (Limit(page=f"{_API}{page}", pattern=pattern),)


def _range(least: int, most: int, page: str, *, is_bare: bool = False) -> tuple[Limit, ...]:
    return (Limit(page=page, least=least, most=most, is_bare=is_bare),)


DOCUMENTED: Mapping[str, tuple[Limit, ...]] = {
    "cloudtrail.CreateTrail:Name": _name(
        r"(?=.{3,128}$)[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*", "/awscloudtrail/latest/APIReference/API_CreateTrail.html"
    ),
    "cloudwatch.PutDashboard:DashboardName": _name(
        r"[A-Za-z0-9_-]{1,255}", "/AmazonCloudWatch/latest/APIReference/API_PutDashboard.html"
    ),
    "cloudwatch.PutMetricAlarm:AlarmName": _name(
        r"[^\x00-\x1f\x7f]{1,255}", "/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html"
    ),
    "dynamodb.CreateTable:TableName": _name(
        r"[a-zA-Z0-9_.-]{3,255}", "/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html"
    ),
    "iam.CreateRole:AssumeRolePolicyDocument": _range(1, 2_048, _IAM, is_bare=True),
    "iam.PutRolePolicy:PolicyDocument": _range(1, 10_240, _IAM, is_bare=True),
    "iot.CreatePolicy:policyDocument": _range(1, 2_048, f"{_API}/general/latest/gr/iot-core.html", is_bare=True),
    "kinesis.IncreaseStreamRetentionPeriod:RetentionPeriodHours": _range(
        24, 8_760, f"{_API}/kinesis/latest/APIReference/API_IncreaseStreamRetentionPeriod.html"
    ),
    "kms.ScheduleKeyDeletion:PendingWindowInDays": _range(
        7, 30, f"{_API}/kms/latest/APIReference/API_ScheduleKeyDeletion.html"
    ),
    "kms.CreateAlias:AliasName": _name(
        r"alias/(?!aws/)[a-zA-Z0-9:/_-]+", "/kms/latest/APIReference/API_CreateAlias.html"
    ),
    "kms.CreateKey:Policy": _range(1, 32_768, f"{_API}/kms/latest/developerguide/resource-limits.html"),
    "lambda.CreateFunction:FunctionName": _name(r"[a-zA-Z0-9-_]{1,64}", "/lambda/latest/api/API_CreateFunction.html"),
    "lambda.CreateEventSourceMapping:BatchSize": _range(
        1, 10_000, f"{_API}/lambda/latest/api/API_CreateEventSourceMapping.html"
    ),
    "s3.CreateBucket:Bucket": _name(
        r"(?!xn--|sthree-|amzn-s3-demo-|\d+(\.\d+){3}$)(?!.*\.\.)(?!.*(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$)"
        r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
        "/AmazonS3/latest/userguide/bucketnamingrules.html",
    ),
    "s3.PutBucketIntelligentTieringConfiguration:IntelligentTieringConfiguration.Tierings[].Days": _range(
        90, 730, _TIERING
    ),
    "s3.PutBucketLifecycleConfiguration:LifecycleConfiguration.Rules[].ID": _range(
        1, 255, f"{_API}/AmazonS3/latest/API/API_LifecycleRule.html"
    ),
    "s3.PutBucketLifecycleConfiguration:LifecycleConfiguration.Rules[].Expiration.Days": _range(
        1, 2_147_483_647, f"{_API}/AmazonS3/latest/API/API_LifecycleExpiration.html"
    ),
    "s3.PutBucketPolicy:Policy": _range(1, 20_480, f"{_API}/AmazonS3/latest/userguide/add-bucket-policy.html"),
    "s3.PutObject:Key": _range(1, 1_024, f"{_API}/AmazonS3/latest/userguide/object-keys.html"),
    "s3.PutObjectTagging:Tagging.TagSet": _range(0, 10, f"{_API}/AmazonS3/latest/userguide/object-tagging.html"),
    "s3.PutBucketTagging:Tagging.TagSet": _range(0, 50, f"{_API}/AmazonS3/latest/userguide/CostAllocTagging.html"),
    "sns.CreateTopic:Name": _name(r"[A-Za-z0-9_-]{1,256}", "/sns/latest/api/API_CreateTopic.html"),
    "sqs.CreateQueue:QueueName": _name(
        r"[A-Za-z0-9_-]{1,80}", "/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"
    ),
    **{
        f"sqs.CreateQueue:Attributes.{name}": _range(least, most, _SQS)
        for name, least, most in (
            ("DelaySeconds", 0, 900),
            ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("VisibilityTimeout", 0, 43_200),
        )
    },
}
"""Member → its limits, each with its page."""
