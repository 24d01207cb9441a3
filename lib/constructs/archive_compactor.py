"""The archive compactor: Lambda function, role, log group, and the schedule that invokes it twice an hour."""

from __future__ import annotations

from .. import bindings as tf
from ..names import COMPACTION_ROLE, COMPACTOR, COMPACTOR_ROLE, COMPACTOR_SCHEDULE, PlatformNames, bucket_arn
from ..shared import iam
from ..shared.packaging import LambdaZip
from ..shared.schedule import invoke_on_schedule

HANDLER = "fleet_iot.archive_compactor.handler.handle"
RUNTIME = "python3.11"

MEMORY_MB = 2048
"""A generation of an hour needs some 0.5 GB, a day's object of a million rows 1 GB."""

TIMEOUT_S = 900
"""Lambda's maximum. A run that has too little time left ends at a commit, and the next one goes on."""

SCHEDULE = "cron(15,45 * * * ? *)"
"""At a quarter past each hour its last batches are stored; half an hour later a run goes on with what is left."""

RETRIES = 2
"""The next run repeats a failed one anyway."""


class ArchiveCompactor:
    """Turns raw objects into Parquet objects.

    Args:
        expires: Whether it deletes raw objects once the day's are verified; without, it has no right to.
        log_days: Retention of the function's log.
    """

    def __init__(
        self,
        scope: tf.Construct,
        *,
        names: PlatformNames,
        code: LambdaZip,
        archive_bucket: str,
        expires: bool,
        data_key_arn: str,
        logs_key_arn: str,
        log_days: int,
    ) -> None:
        log_group = tf.CloudwatchLogGroup(
            scope,
            "log-group-archive-compactor",
            name=names.compactor_log_group,
            retention_in_days=log_days,
            kms_key_id=logs_key_arn,
        )
        role = iam.ServiceRole(
            scope,
            COMPACTOR_ROLE,
            names=names,
            description="The archive compactor turns raw objects of the archive into Parquet objects",
            trust=iam.trust("lambda.amazonaws.com"),
            statements=_permissions(names, data_key_arn, expires=expires),
        )
        asset = tf.TerraformAsset(scope, "archive-compactor-zip", path=str(code.path), type=tf.AssetType.FILE)
        function = tf.LambdaFunction(
            scope,
            COMPACTOR,
            function_name=names.compactor,
            description="Compacts the raw archive into Parquet objects, hourly and daily",
            filename=asset.path,
            source_code_hash=code.source_code_hash,
            handler=HANDLER,
            runtime=RUNTIME,
            architectures=[code.architecture],
            memory_size=MEMORY_MB,
            timeout=TIMEOUT_S,
            role=role.arn,
            kms_key_arn=data_key_arn,
            tracing_config=tf.LambdaFunctionTracingConfig(mode="Active"),
            environment=tf.LambdaFunctionEnvironment(
                variables={"ARCHIVE_BUCKET": archive_bucket, "RAW_EXPIRES": str(expires).lower()}
            ),
            depends_on=[log_group, role.policy],
        )
        invoke_on_schedule(
            scope,
            COMPACTOR_SCHEDULE,
            names=names,
            description="Compacts the archive twice an hour",
            expression=SCHEDULE,
            function=function,
            function_arn=names.compactor_arn,
            role_id=COMPACTION_ROLE,
            role_description="The schedule invokes the archive compactor",
            sid="InvokeCompactor",
            age_s=3600,
            retries=RETRIES,
        )


def _permissions(names: PlatformNames, key_arn: str, *, expires: bool) -> tuple[iam.Statement, ...]:
    archive = bucket_arn(names.raw_archive)
    written = tuple(f"{archive}/{prefix}/*" for prefix in ("archive", "compaction", "tables"))
    return (
        # Of the whole bucket: S3 answers "no such key" only to who may list it.
        iam.allow("ListArchive", "s3:ListBucket", on=archive),
        iam.allow("ReadArchive", "s3:GetObject", on=(f"{archive}/raw/*", *written)),
        iam.allow("PutCompacted", "s3:PutObject", on=written),
        *(
            [
                iam.allow(
                    "DeleteReplaced",
                    "s3:DeleteObject",
                    on=(f"{archive}/raw/date=*", f"{archive}/archive/*/hour-*", f"{archive}/archive/*/day-*"),
                )
            ]
            if expires
            else []
        ),
        iam.write_logs(f"{names.log_group_arn(names.compactor_log_group)}:log-stream:*"),
        iam.allow("WriteTraces", "xray:PutTraceSegments", "xray:PutTelemetryRecords", on="*"),  # no resource type
        iam.key_use(
            "EncryptArchive",
            *("Decrypt", "GenerateDataKey"),
            key_arn=key_arn,
            via=names.service("s3"),
            context={"aws:s3:arn": archive},
        ),
    )
