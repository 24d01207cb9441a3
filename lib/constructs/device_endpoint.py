"""The MQTT endpoint of the devices, which speaks TLS 1.2 or later and nothing older."""

from __future__ import annotations

from ..bindings import Construct, IotDomainConfiguration, IotDomainConfigurationTlsConfig
from ..names import PlatformNames

SECURITY_POLICY = "IoTSecurityPolicy_TLS13_1_2_2022_10"
"""TLS 1.2 and 1.3: https://docs.aws.amazon.com/iot/latest/developerguide/transport-security.html"""


class DeviceEndpoint:
    """An AWS-managed endpoint of its own: the account's default one may still take TLS 1.0, and is account-wide."""

    def __init__(self, scope: Construct, *, names: PlatformNames) -> None:
        self.configuration = IotDomainConfiguration(
            scope,
            "endpoint-devices",
            name=names.named("endpoint-devices"),
            service_type="DATA",
            tls_config=IotDomainConfigurationTlsConfig(security_policy=SECURITY_POLICY),
        )
