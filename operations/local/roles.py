"""Works as a service would: under the credentials of the role that was made for it, and never as root."""

from __future__ import annotations

import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, RefreshableCredentials

from fleet_iot.operations.local.aws import DIRECT, LocalAws

SESSION_SECONDS = 3600


class RoleSession:
    """A session of one role on the local AWS, renewed before it ends."""

    def __init__(self, local: LocalAws, role_arn: str, *, session_name: str) -> None:
        self._local = local
        self._role_arn = role_arn
        self._session_name = session_name
        self._lock = threading.Lock()
        self._session: boto3.session.Session | None = None

    def environment(self) -> dict[str, str]:
        """Fresh credentials as variables, for a process that cannot renew them."""
        keys = self._assume()
        return {
            "AWS_ACCESS_KEY_ID": keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
            "AWS_SESSION_TOKEN": keys["token"],
        }

    def client(self, service: str, config: Config | None = None) -> Any:
        """A boto3 client that works under the role for as long as it is kept."""
        with self._lock:
            if self._session is None:
                self._session = self._make_session()
            return self._session.client(
                service,
                endpoint_url=self._local.url,
                verify=str(self._local.authority),
                config=(config or Config()).merge(DIRECT),
            )

    def _make_session(self) -> boto3.session.Session:
        core = botocore.session.get_session()
        core.get_component("credential_provider").providers.insert(0, _AssumedRole(self._assume))
        return boto3.session.Session(botocore_session=core, region_name=self._local.region)

    def _assume(self) -> dict[str, str]:
        answer = self._local.client("sts").assume_role(
            RoleArn=self._role_arn, RoleSessionName=self._session_name, DurationSeconds=SESSION_SECONDS
        )
        keys = answer["Credentials"]
        return {
            "access_key": keys["AccessKeyId"],
            "secret_key": keys["SecretAccessKey"],
            "token": keys["SessionToken"],
            "expiry_time": keys["Expiration"].isoformat(),
        }


class _AssumedRole(CredentialProvider):  # type: ignore[misc]
    METHOD = "local-assume-role"

    def __init__(self, assume: Any) -> None:
        super().__init__()
        self._assume = assume

    def load(self) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(
            metadata=self._assume(), refresh_using=self._assume, method=self.METHOD
        )
