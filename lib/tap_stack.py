"""The shared platform of all plants: from the stream to tables, archive and audit trail."""

from __future__ import annotations

from collections.abc import Mapping

from lib.bindings import Construct
from lib.constructs.audit_trail import AuditTrail
from lib.constructs.encryption import Encryption
from lib.constructs.fleet_provisioning import FleetProvisioningRole
from lib.constructs.reading_table import ReadingTable
from lib.constructs.sensor_processor import SensorProcessor
from lib.constructs.telemetry_archive import TelemetryArchive
from lib.constructs.telemetry_stream import TelemetryStream
from lib.constructs.thing_types import ThingTypes
from lib.fleet_stack import FleetStack
from lib.packaging import LambdaZip
from lib.specs import FleetSpec


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
    ) -> None:
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
        )
        names = self.names
        self.keys = Encryption(self, names=names)
        self.stream = TelemetryStream(self, names=names, key_arn=self.keys.data.arn)
        self.tables = ReadingTable(self, names=names, key_arn=self.keys.data.arn)
        self.archive = TelemetryArchive(self, names=names, key_arn=self.keys.data.arn)
        self.processor = SensorProcessor(
            self,
            names=names,
            code=code,
            stream_arn=self.stream.stream.arn,
            readings_table=self.tables.readings.name,
            devices_table=self.tables.devices.name,
            archive_bucket=self.archive.raw.name,
            data_key_arn=self.keys.data.arn,
            logs_key_arn=self.keys.logs.arn,
            reserved_concurrency=fleet.reserved_concurrency,
        )
        self.audit = AuditTrail(
            self,
            names=names,
            audit_key_arn=self.keys.audit.arn,
            logs_key_arn=self.keys.logs.arn,
            access_logs_bucket=self.archive.access_logs.name,
        )
        self.thing_types = ThingTypes(self, names=names, device_types=fleet.device_types)
        self.provisioning = FleetProvisioningRole(self, names=names)
