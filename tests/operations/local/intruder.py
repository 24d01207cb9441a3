"""Another user of the machine, who tries what he can on somebody's local AWS; a program of its own, started as root.

Reads facts as JSON, becomes `nobody`, and prints what came of each try as JSON.
"""

from __future__ import annotations

import contextlib
import datetime
import encodings.idna  # noqa: F401 - as nobody it may be out of reach
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import urllib3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOBODY = 65534
PROJECT = Path(__file__).parents[3]
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "mqtt",
    "Host": "x-ats.iot.ap-southeast-1.amazonaws.com",
}
PATHS = (
    ("GET", "/_ministack/health"),
    ("GET", "/_ministack/ready"),
    ("GET", "/_ministack/iot/ca.pem"),
    ("POST", "/_ministack/reset"),
    ("POST", "/_ministack/config"),
    ("GET", "/_ministack/lambda-code/function-t"),
    ("GET", "/_localstack/health"),
    ("GET", "/health"),
    ("GET", "/"),
    ("OPTIONS", "/bucket-t"),
    ("GET", "/bucket-t?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=test"),
    ("PUT", "/bucket-t/x"),
)


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def any_server() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def status(host: str, method: str, path: str, headers: dict[str, str]) -> str:
    connection = http.client.HTTPSConnection(host, context=any_server(), timeout=10)
    try:
        connection.request(method, path, headers=headers)
        return str(connection.getresponse().status)
    finally:
        connection.close()


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "self-signed.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def mqtt_answer(port: int, certificate: Path | None) -> str:
    """Return the broker's answer to a CONNECT, in hex; '' for none."""
    context = any_server()
    if certificate:
        context.load_cert_chain(str(certificate))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain) as connection,
        ):
            connection.sendall(CONNECT)
            return connection.recv(16).hex()
    except OSError:
        return ""


def clients(url: str, access_key: str) -> dict[str, Callable[[str], Any]]:
    """By name of the credentials, what makes a client of a service."""
    patient = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=20, proxies={})
    keys = {
        "test": ("test", "test"),
        "account": ("000000000000", "test"),
        "guessed": (access_key, "test"),
        "unknown": ("AKIAIOSFODNN7EXAMPLE", "x"),
    }
    session = boto3.session.Session(region_name="ap-southeast-1")

    def maker(config: Config, **given: str) -> Callable[[str], Any]:
        return lambda service: session.client(service, endpoint_url=url, verify=False, config=config, **given)

    made = {
        name: maker(patient, aws_access_key_id=key, aws_secret_access_key=secret)
        for name, (key, secret) in keys.items()
    }
    made["unsigned"] = maker(patient.merge(Config(signature_version=UNSIGNED)))
    made["version 2"] = maker(
        patient.merge(Config(signature_version="s3")), aws_access_key_id="test", aws_secret_access_key="test"
    )
    return made


CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "who": ("sts", "get_caller_identity", {}),
    "assume": ("sts", "assume_role", {"RoleArn": "arn:aws:iam::000000000000:role/role-rule", "RoleSessionName": "xx"}),
    "things": ("iot", "list_things", {}),
    "publish": ("iot-data", "publish", {"topic": "dt/x", "payload": b"x"}),
    "buckets": ("s3", "list_buckets", {}),
    "put": ("s3", "put_object", {"Bucket": "bucket-t", "Key": "x", "Body": b"x"}),
    "queue": ("sqs", "list_queues", {}),
    "function": (
        "lambda",
        "create_function",
        {
            "FunctionName": "mine",
            "Runtime": "python3.11",
            "Role": "arn:aws:iam::000000000000:role/role-rule",
            "Handler": "h.h",
            "Code": {"ZipFile": b"x"},
        },
    ),
    "table": ("dynamodb", "list_tables", {}),
    "stream": ("kinesis", "list_streams", {}),
}


def answer(client: Any, method: str, arguments: dict[str, Any]) -> str:
    try:
        getattr(client, method)(**arguments)
    except ClientError as error:
        return str(error.response["ResponseMetadata"]["HTTPStatusCode"])
    except BotoCoreError as error:
        return type(error).__name__
    return "TAKEN"


def readable(path: Path) -> list[str]:
    """Whatever can be read or listed there."""
    found = []
    with contextlib.suppress(OSError):
        found += [str(path / name) for name in os.listdir(path)]  # noqa: PTH208
    for name in ("endpoint.json", "credentials", "config", "server.key", "authority.pem", "logs/emulator.log", "tmp"):
        with contextlib.suppress(OSError):
            os.close(os.open(path / name, os.O_RDONLY))
            found.append(str(path / name))
    return found


def environments(pids: list[int]) -> list[int]:
    """The processes whose environment can be read."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/environ").read_bytes()
            found.append(pid)
    return found


OWN = """
import sys
sys.executable = sys.argv[1]
from pathlib import Path
from fleet_iot.operations.local import emulator
local = emulator.start(folder=Path(sys.argv[2]), region="ap-southeast-1")
try:
    print(local.client("sts").get_caller_identity()["Account"])
finally:
    emulator.stop(local)
"""


def own_instance(folder: Path) -> str:
    """The account of a second user's own local AWS, started beside the first; what it said where there is none."""
    interpreters = [each for each in (sys.executable, "/usr/bin/python3.11") if os.access(each, os.X_OK)]
    if not interpreters:
        return "no interpreter"
    python = folder / "python"
    places = os.pathsep.join([str(PROJECT), str(Path(boto3.__file__).parents[1])])
    python.write_text(f'#!/bin/sh\nPYTHONPATH={places} PYTHONDONTWRITEBYTECODE=1 exec {interpreters[0]} "$@"\n')
    python.chmod(0o700)
    ran = subprocess.run(
        [str(python), "-c", OWN, str(python), str(folder / "local")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip() or ran.stderr


def main() -> None:
    urllib3.disable_warnings()
    facts = json.load(sys.stdin)
    host = facts["url"].removeprefix("https://")
    made = {
        (who, name): (make(service), method, arguments)
        for who, make in clients(facts["url"], facts["access_key"]).items()
        for name, (service, method, arguments) in CALLS.items()
    }
    become_nobody()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        own = self_signed(Path(folder))
        came = {
            "user": os.geteuid(),
            "http": {f"{method} {path}": status(host, method, path, {}) for method, path in PATHS},
            "bearer": status(host, "GET", "/_ministack/health", {"Authorization": "Bearer test"}),
            "websocket": status(host, "GET", "/mqtt", UPGRADE),
            "api": {f"{who} {name}": answer(*call) for (who, name), call in made.items()},
            "mqtt": [mqtt_answer(facts["mqtt_port"], each) for each in (None, own)],
            "files": readable(Path(facts["folder"])),
            "environments": environments(facts["pids"]),
            "own": own_instance(Path(folder)),
        }
    print(json.dumps(came))


if __name__ == "__main__":
    main()
