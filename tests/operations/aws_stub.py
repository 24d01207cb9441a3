"""Stand-ins for an AWS that commands find: a local one, or an account with its caller identity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fleet_iot.operations import aws

REGION = "ap-southeast-1"


def stub_local_aws(monkeypatch: pytest.MonkeyPatch, **clients: Any) -> None:
    """Let every folder have a local AWS with these clients."""
    local = SimpleNamespace(region=REGION, client=lambda service, config=None: clients[service.replace("-", "_")])
    monkeypatch.setattr(aws, "load", lambda folder: local)


class Account:
    """An account of AWS; `sessions` are the regions that were asked for, `services` the clients that were made."""

    def __init__(self, account: str, **clients: Any) -> None:
        self.account, self.clients = account, clients
        self.sessions: list[str | None] = []
        self.services: list[str] = []

    def session(self, region_name: str | None = None) -> Any:
        self.sessions.append(region_name)
        return SimpleNamespace(client=self._client)

    def _client(self, service: str, config: Any = None) -> Any:
        self.services.append(service)
        if service == "sts":
            return SimpleNamespace(get_caller_identity=lambda: {"Account": self.account})
        return self.clients.get(service.replace("-", "_"))


def stub_account(monkeypatch: pytest.MonkeyPatch, account: str, **clients: Any) -> Account:
    """Let the credentials be of this account."""
    found = Account(account, **clients)
    monkeypatch.setattr(aws, "open_session", found.session)
    return found
