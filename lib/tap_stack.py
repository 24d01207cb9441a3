"""The platform that all facilities share: stream, processor, tables, archive, audit trail and their alarms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .bindings import Construct
from .constructs.archive_compactor import ArchiveCompactor
from .constructs.audit_trail import AuditTrail
from .constructs.encryption import Encryption
from .constructs.iot_monitoring import CertificateAudit, EventArchive, IotLogging
from .constructs.observability import AlarmTopic, AnomalyTopic, PlatformAlarms, TrailAlarms
from .constructs.sensor_processor import SensorProcessor, processor_size
from .constructs.storage import LaneStorage, ReadingTable, TelemetryArchive
from .constructs.telemetry_stream import TelemetryStream
from .constructs.thing_registry import BulkRegistrationRole, FleetProvisioningRole, ThingTypes
from .names import IOT_LOG_GROUP
from .shared.context import RETENTIONS, StackContext
from .shared.packaging import LambdaZip
from .shared.text import literal
from .specs import FacilitySpec, FleetSpec
from .stacks import BaseStack


class TapStack(BaseStack):
    """The telemetry and audit platform of an environment.

    Args:
        context: Shared by all stacks; None to make it from `fleet` and `values`.
        facilities: All of the fleet: the processor is sized by their devices.
        code: The sensor processor's zip.
        compactor_code: The archive compactor's zip.
        values: Fields of `StackContext`, over those of `context`: `environment_suffix`, `aws_region`, `state_bucket`,
            `state_bucket_region`, `default_tags`, …
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        context: StackContext | None = None,
        *,
        fleet: FleetSpec,
        facilities: Iterable[FacilitySpec] = (),
        code: LambdaZip,
        compactor_code: LambdaZip,
        **values: Any,
    ) -> None:
        fleet = literal(fleet)
        context = (
            replace(context, **values)
            if context
            else StackContext(application=fleet.application, retention=RETENTIONS[fleet.retention], **values)
        )
        super().__init__(scope, id_, context)
        names, retention = self.names, self.context.retention
        watched, log_days = fleet.observability, retention.operational_log_days
        log_groups = [
            names.function_log_group,
            names.compactor_log_group,
            names.trail_log_group,
            names.event_errors_log_group,
        ]
        keys = Encryption(
            self,
            names=names,
            deletion_window_days=retention.key_deletion_days,
            log_groups=[*log_groups, IOT_LOG_GROUP] if watched.iot_logging else log_groups,
        )
        data_key_arn, logs_key_arn = keys.data.arn, keys.logs.arn
        stream = TelemetryStream(self, names=names, key_arn=data_key_arn)
        tables = ReadingTable(self, names=names, key_arn=data_key_arn, is_protected=not retention.is_destroyable)
        archive = TelemetryArchive(self, names=names, key_arn=data_key_arn, retention=retention)
        lanes = LaneStorage(
            self, names=names, key_arn=data_key_arn, access_logs=archive.access_logs.name, retention=retention
        )
        anomalies = AnomalyTopic(self, names=names, key_arn=data_key_arn)
        SensorProcessor(
            self,
            names=names,
            code=code,
            stream_arn=stream.stream.arn,
            readings_table=tables.readings.name,
            devices_table=tables.devices.name,
            lanes_table=lanes.table.name,
            state_bucket=lanes.bucket.name,
            archive_bucket=archive.raw.name,
            anomaly_topic_arn=anomalies.topic.arn,
            data_key_arn=data_key_arn,
            logs_key_arn=logs_key_arn,
            log_days=log_days,
            reserved_concurrency=fleet.reserved_concurrency,
            window_s=fleet.window_s,
            history=fleet.history,
            size=processor_size(fleet, facilities),
        )
        ArchiveCompactor(
            self,
            names=names,
            code=compactor_code,
            archive_bucket=archive.raw.name,
            expires=retention.is_destroyable,
            data_key_arn=data_key_arn,
            logs_key_arn=logs_key_arn,
            log_days=log_days,
        )
        audit = AuditTrail(
            self,
            names=names,
            audit=fleet.audit,
            audit_key_arn=keys.audit.arn,
            logs_key_arn=logs_key_arn,
            access_logs_bucket=archive.access_logs.name,
            retention=retention,
        )
        AlarmTopic(self, names=names, key_arn=logs_key_arn)
        PlatformAlarms(self, names=names, thresholds=watched.alarms)
        TrailAlarms(self, names=names, log_group=audit.log_group.name)
        EventArchive(
            self,
            names=names,
            data_key_arn=data_key_arn,
            logs_key_arn=logs_key_arn,
            log_days=log_days,
            has_registry_events=watched.registry_events,
        )
        if watched.iot_logging:
            IotLogging(self, names=names, level=watched.iot_logging, logs_key_arn=logs_key_arn, log_days=log_days)
        if watched.certificate_audit:
            CertificateAudit(self, names=names, expiry_days=watched.alarms.certificate_expiry_days)
        ThingTypes(self, names=names, device_types=fleet.device_types)
        FleetProvisioningRole(self, names=names)
        BulkRegistrationRole(self, names=names, data_key_arn=data_key_arn)
