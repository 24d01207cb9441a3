"""Clients that threads share: their authorities are loaded before the first connection."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import SSLError

from fleet_iot.operations.clients import open_session

PROXY = "http://127.0.0.1:9"


def client(**arguments: Any) -> Any:
    """A client that has not connected yet."""
    session = open_session(aws_access_key_id="test", aws_secret_access_key="test", region_name="ap-southeast-1")
    return session.client("iot", **arguments)


def authorities(manager: Any) -> int:
    """Count the certificate authorities in the TLS context of all connections of a pool manager."""
    return int(manager.connection_pool_kw["ssl_context"].cert_store_stats()["x509_ca"])


def test_authorities_are_loaded_before_any_thread_connects() -> None:
    """Threads that load them at once corrupt OpenSSL's list: https://github.com/boto/botocore/issues/3164."""
    http = client()._endpoint.http_session
    assert authorities(http._manager) > 0
    assert authorities(http._get_proxy_manager(PROXY)) > 0


def test_a_client_that_verifies_nothing_loads_none() -> None:
    """`verify=False` stays what it is."""
    assert authorities(client(verify=False)._endpoint.http_session._manager) == 0


def test_a_bundle_that_is_missing_is_told_by_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the client succeeds, as it does in boto3; the error names the reason."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        broken = client(endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
        with pytest.raises(SSLError, match="No such file"):
            broken.list_things()
