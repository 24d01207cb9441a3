"""Which AWS the simulated things publish to: the local one of a folder, or the account of the credentials."""

from __future__ import annotations

from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.local.aws import LocalAws, load
from fleet_iot.operations.rehearsal.simulator.credentials import Broker
from fleet_iot.operations.rehearsal.simulator.request import Target

_MQTT_PORT = 8883


def local_target(folder: Path) -> Target:
    """The local AWS in `folder`. Raises EnvironmentFault where none is up."""
    return target_of(load(folder))


def target_of(local: LocalAws) -> Target:
    """A local AWS that is known already."""
    broker = Broker(host=local.mqtt_host, port=local.mqtt_port, ca_file=local.mqtt_authority)
    return Target(broker=broker, iot=local.client("iot"))


def aws_target() -> Target:
    """AWS itself, with the credentials and region of the environment."""
    try:
        iot = boto3.client("iot")
        host = iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(
            f"AWS IoT does not tell its endpoint: {error}", hint="check AWS_REGION and the credentials"
        ) from None
    return Target(broker=Broker(host=host, port=_MQTT_PORT, ca_file=None), iot=iot)
