"""The devices' endpoint, in a stack of its own because AWS keeps it for seven days.

An AWS-managed endpoint can be deleted only when it has been disabled for a week
(https://docs.aws.amazon.com/iot/latest/developerguide/iot-custom-endpoints-managing.html). In the platform's stack it
would stop every `terraform destroy`; here it stops only its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..bindings import Construct
from ..constructs.device_endpoint import DeviceEndpoint
from ..shared.context import OWN, Access
from .base import FleetStack


class EndpointStack(FleetStack):
    """One endpoint an environment."""

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
        application: str,
        access: Access = OWN,
    ) -> None:
        super().__init__(
            scope,
            id_,
            application=application,
            environment_suffix=environment_suffix,
            aws_region=aws_region,
            account_id=account_id,
            state_bucket=state_bucket,
            state_bucket_region=state_bucket_region,
            default_tags=default_tags,
            access=access,
        )
        self.endpoint = DeviceEndpoint(self, names=self.names)
