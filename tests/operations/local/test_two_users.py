"""Two users of one machine: what one's local AWS is to the other."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.aws import LocalAws, load
from fleet_iot.operations.local.deployment import start_services
from tests.operations.local.intruder import CALLS, NOBODY, PATHS
from tests.operations.local.test_emulator import make_platform
from tests.places import PROJECT

pytestmark = [
    pytest.mark.local_aws,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]

SECRETS = {
    "FLEET_KEYS_PASSPHRASE": "canary-passphrase",
    "HTTPS_PROXY": "http://canary-user:canary-word@127.0.0.1:9",
    "AWS_SESSION_TOKEN": "canary-session",
    "DEPLOY_TOKEN": "canary-token",
}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A local AWS with all its processes, and what came of another user's tries on it."""

    local: LocalAws
    pids: list[int]
    came: dict[str, Any]


@pytest.fixture(scope="module")
def attempt() -> Iterator[Attempt]:
    """One user's local AWS in a folder that others can get to, started in an environment full of secrets."""
    outside = Path(tempfile.mkdtemp(dir="/tmp"))
    outside.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        local = emulator.start(folder=outside / "local", region="ap-southeast-1")
        try:
            make_platform(local)
            local = start_services(local)
            local.client("kinesis").put_record(StreamName="stream-t", Data=b"{}", PartitionKey="p")
            pids = [child.pid for child in load(local.folder).children]
            facts = {
                "url": local.url,
                "access_key": local.access_key,
                "mqtt_port": local.mqtt_port,
                "folder": str(local.folder),
                "pids": pids,
            }
            ran = subprocess.run(
                [sys.executable, "-m", "tests.operations.local.intruder"],
                cwd=PROJECT,
                input=json.dumps(facts),
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert 0 == ran.returncode, ran.stderr
            yield Attempt(local=local, pids=pids, came=json.loads(ran.stdout))
        finally:
            emulator.stop(local)
            shutil.rmtree(outside)


def test_http_is_closed(attempt: Attempt) -> None:
    """Health, reset, downloads and all else are refused without the secret, over WebSocket too; nothing was reset."""
    assert NOBODY == attempt.came["user"]
    assert {f"{method} {path}": "403" for method, path in PATHS} == attempt.came["http"]
    assert ("403", "403") == (attempt.came["bearer"], attempt.came["websocket"])
    assert ["stream-t"] == attempt.local.client("kinesis").list_streams()["StreamNames"]
    assert b"iot_mtls" in attempt.local.fetch("/_ministack/health")


def test_every_api_is_closed(attempt: Attempt) -> None:
    """To the key `test`, to an account's number, to the root key without its secret, to an old signature, to none."""
    assert 6 * len(CALLS) == len(attempt.came["api"])
    assert {"403"} == set(attempt.came["api"].values())
    assert attempt.local.client("sts").get_caller_identity()["Arn"].endswith(":root")


def test_mqtt_is_closed(attempt: Attempt) -> None:
    """A client without a certificate, or with one that is not registered, receives nothing."""
    assert ["", ""] == attempt.came["mqtt"]


def test_nothing_can_be_read(attempt: Attempt) -> None:
    """No file, and no process's environment; only its owner can read the folder."""
    assert ([], []) == (attempt.came["files"], attempt.came["environments"])
    open_to_others = [
        path
        for path in (attempt.local.folder, *attempt.local.folder.rglob("*"))
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert [] == open_to_others


def test_processes_know_nothing_of_their_owner(attempt: Attempt) -> None:
    """Neither environment nor command line of any of them, the function's included, has a secret of the person's."""
    children = {
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if int(path.read_text().rpartition(")")[2].split()[1]) in attempt.pids
    }
    assert (3, True) == (len(attempt.pids), bool(children))
    for pid in {*attempt.pids, *children}:
        known = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"canary" not in known
        assert attempt.local.secret_key.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for pid in children:
        assert attempt.local.secret_key.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_it_listens_on_loopback_alone(attempt: Attempt) -> None:
    """HTTPS and MQTT have one address each, 127.0.0.1."""
    ports = {int(attempt.local.url.rpartition(":")[2]), attempt.local.mqtt_port}
    listening = [
        (address, int(port, 16))
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        for address, _, port in [line.split()[1].partition(":")]
        if line.split()[3] == "0A"
    ]
    loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    assert sorted((loopback, port) for port in ports) == sorted(each for each in listening if each[1] in ports)


def test_a_second_user_has_his_own_beside_it(attempt: Attempt) -> None:
    """Nothing that the two use is shared: no port, no folder."""
    if attempt.came["own"] == "no interpreter":
        pytest.skip("the interpreter is in a folder that other users cannot enter")
    assert "000000000000" == attempt.came["own"]


def test_issued_keys_are_verified_too(attempt: Attempt) -> None:
    """A session's key works with its own secret and token, and with no other."""
    role = "arn:aws:iam::000000000000:role/role-rule"
    keys = attempt.local.client("sts").assume_role(RoleArn=role, RoleSessionName="xx")["Credentials"]
    right = {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }
    assert ":assumed-role/role-rule/xx" in attempt.local.client("sts", **right).get_caller_identity()["Arn"]
    for wrong in ({"aws_secret_access_key": "x"}, {"aws_session_token": "x"}):
        with pytest.raises(ClientError) as refused:
            attempt.local.client("sts", **(right | wrong)).get_caller_identity()
        assert 403 == refused.value.response["ResponseMetadata"]["HTTPStatusCode"]
