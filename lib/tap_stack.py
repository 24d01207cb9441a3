"""The shared platform of all plants: from the stream to tables, archive and audit trail."""

from __future__ import annotations

from collections.abc import Mapping

from .bindings import Construct
from .constructs.audit_trail import AuditTrail
from .constructs.encryption import Encryption
from .constructs.fleet_provisioning import BulkRegistrationRole, FleetProvisioningRole
from .constructs.iot_monitoring import CertificateAudit, EventArchive, IotLogging
from .constructs.observability import PlatformAlarms, TrailAlarms
from .constructs.sensor_processor import SensorProcessor
from .constructs.storage import ReadingTable, TelemetryArchive
from .constructs.telemetry_stream import TelemetryStream
from .constructs.thing_registry import ThingTypes
from .constructs.topics import AlarmTopic, AnomalyTopic
from .shared.context import OWN, RETENTIONS, Access
from .shared.packaging import LambdaZip
from .shared.text import literal
from .specs import FleetSpec
from .stacks import FleetStack


class TapStack(FleetStack):
    """Telemetry and audit platform."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment_suffix: str,
        aws_region: str,
        state_bucket: str | None,
        state_bucket_region: str,
        default_tags: Mapping[str, str],
        account_id: str | None,
        fleet: FleetSpec,
        code: LambdaZip,
        access: Access = OWN,
    ) -> None:
        fleet = literal(fleet)
        super().__init__(
            scope,
            id_,
            application=fleet.application,
            environment_suffix=environment_suffix,
            aws_region=aws_region,
            account_id=account_id,
            state_bucket=state_bucket,
            state_bucket_region=state_bucket_region,
            default_tags=default_tags,
            access=access,
        )
        names, retention = self.names, RETENTIONS[fleet.retention]
        watched, log_days = fleet.observability, retention.operational_log_days
        log_groups = [names.function_log_group, names.trail_log_group, names.event_errors_log_group]
        self.keys = Encryption(
            self,
            names=names,
            deletion_window_days=retention.key_deletion_days,
            log_groups=[*log_groups, names.iot_log_group] if watched.iot_logging else log_groups,
        )
        self.stream = TelemetryStream(self, names=names, key_arn=self.keys.data.arn)
        self.tables = ReadingTable(
            self, names=names, key_arn=self.keys.data.arn, is_protected=not retention.is_destroyable
        )
        self.archive = TelemetryArchive(self, names=names, key_arn=self.keys.data.arn, retention=retention)
        self.anomaly_topic = AnomalyTopic(self, names=names, key_arn=self.keys.data.arn)
        self.processor = SensorProcessor(
            self,
            names=names,
            code=code,
            stream_arn=self.stream.stream.arn,
            readings_table=self.tables.readings.name,
            devices_table=self.tables.devices.name,
            archive_bucket=self.archive.raw.name,
            anomaly_topic_arn=self.anomaly_topic.topic.arn,
            data_key_arn=self.keys.data.arn,
            logs_key_arn=self.keys.logs.arn,
            log_days=log_days,
            reserved_concurrency=fleet.reserved_concurrency,
            history=fleet.history,
        )
        self.audit = AuditTrail(
            self,
            names=names,
            audit_key_arn=self.keys.audit.arn,
            logs_key_arn=self.keys.logs.arn,
            access_logs_bucket=self.archive.access_logs.name,
            retention=retention,
        )
        self.alarm_topic = AlarmTopic(self, names=names, key_arn=self.keys.logs.arn)
        PlatformAlarms(self, names=names, thresholds=watched.alarms)
        TrailAlarms(self, names=names, log_group=self.audit.log_group.name)
        EventArchive(
            self,
            names=names,
            data_key_arn=self.keys.data.arn,
            logs_key_arn=self.keys.logs.arn,
            log_days=log_days,
            has_registry_events=watched.registry_events,
        )
        if watched.iot_logging:
            IotLogging(self, names=names, level=watched.iot_logging, logs_key_arn=self.keys.logs.arn, log_days=log_days)
        if watched.certificate_audit:
            CertificateAudit(self, names=names, expiry_days=watched.alarms.certificate_expiry_days)
        self.thing_types = ThingTypes(self, names=names, device_types=fleet.device_types)
        self.provisioning = FleetProvisioningRole(self, names=names)
        self.bulk_registration = BulkRegistrationRole(self, names=names, data_key_arn=self.keys.data.arn)
