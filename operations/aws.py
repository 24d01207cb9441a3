"""Decide which AWS a command works on: the local one of a folder, or the account of the credentials.

Only this module opens sessions with an account, so that region, account check and endpoint are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.shared.context import SESSION
from fleet_iot.operations.clients import open_session
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws, load
from fleet_iot.operations.project import Project, build_folder

_PROMPT = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
"""For the first call: wrong credentials or no network should be reported at once."""


NO_NETWORK = "check the network, the proxy and `region` in fleet.yaml"

MQTT_PORT = 8883
"""https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """The broker of the devices; `ca_file` is None where the system's certificate authorities verify it."""

    host: str
    port: int
    ca_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """The AWS that a command works on; `local` is None where it is an account."""

    account: str
    region: str
    local: LocalAws | None = None
    session: Any = None

    def client(self, service: str, *, config: Config | None = None) -> Any:
        """Return a boto3 client of the service."""
        return (self.local or self.session).client(service, config=config)

    def broker(self) -> Broker:
        """Return where devices connect. Raises EnvironmentFault where AWS IoT does not answer."""
        if self.local:
            return Broker(host=self.local.mqtt_host, port=self.local.mqtt_port, ca_file=self.local.mqtt_authority)
        with reporting_aws_errors("AWS IoT does not return its endpoint", hint="check the credentials' rights"):
            host = self.client("iot").describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        return Broker(host=host, port=MQTT_PORT, ca_file=None)


def local_folder(root: Path, environment: str | None) -> Path:
    """Return the default folder of the local AWS of a project's environment."""
    return build_folder(root, environment) / "local"


def local_aws(folder: Path) -> Aws:
    """Return the local AWS in a folder. Raises EnvironmentFault where none is up."""
    local = load(folder)
    return Aws(account=ACCOUNT_ID, region=local.region, local=local)


def account_aws(project: Project) -> Aws:
    """Return the account of the credentials, in the manifest's region, whatever region the shell names.

    Raises:
        EnvironmentFault: AWS does not accept the credentials, or they belong to another account than the project's
            (`FLEET_ACCOUNT_ID`, else the manifest's `account_id`).
    """
    found = caller_aws(project.fleet.region)
    if project.account_id not in (None, found.account):
        raise EnvironmentFault(
            f"these credentials are of account {found.account}, the project's is {project.account_id}",
            hint="use the other account's credentials, or correct account_id in fleet.yaml or FLEET_ACCOUNT_ID",
        )
    return found


def caller_aws(region: str) -> Aws:
    """Return the account of the credentials, in a region. Raises EnvironmentFault where AWS does not accept them."""
    with reporting_aws_errors("AWS does not say whose account this is", hint="set AWS_PROFILE, or log in"):
        session = open_session(region_name=region)
        account = str(session.client("sts", config=_PROMPT).get_caller_identity()["Account"])
    return Aws(account=account, region=region, session=session)


def role_aws(role_arn: str, *, region: str) -> Aws:
    """Return the account of a role, by a session of that role. Raises EnvironmentFault where AWS refuses it."""
    with reporting_aws_errors(
        f"the role {role_arn} cannot be assumed", hint="check the credentials and its trust policy"
    ):
        sts = open_session(region_name=region).client("sts", config=_PROMPT)
        keys = sts.assume_role(RoleArn=role_arn, RoleSessionName=SESSION)["Credentials"]
        session = open_session(
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
            region_name=region,
        )
    return Aws(account=role_arn.split(":")[4], region=region, session=session)


@contextmanager
def reporting_aws_errors(
    what: str, *, hint: str = "check the credentials, their rights, and that the platform is applied"
) -> Iterator[None]:
    """Raise EnvironmentFault, beginning with `what`, for an error that AWS answers or that keeps it from answering."""
    try:
        yield
    except (HTTPClientError, ConnectionError) as error:
        raise EnvironmentFault(f"{what}: {error}", hint=NO_NETWORK) from None
    except (BotoCoreError, ClientError) as error:
        raise EnvironmentFault(f"{what}: {error}", hint=hint) from None
