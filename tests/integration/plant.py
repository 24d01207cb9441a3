"""A project folder with its `fleet` command and its local AWS, as the integration tests use them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.operations.aws import Broker
from fleet_iot.operations.local.aws import LocalAws, load
from fleet_iot.operations.pki.keystore import KeyStore

SUFFIX = "it"
APPLICATION = "itest"
PASSPHRASE = "integration tests only"
CANARIES = {"HISTORIAN_PASSWORD": "canary-password-4711", "DEPLOY_TOKEN": "canary-token-0815"}
"""Secrets such as lie in the environment of whoever deploys; no program of ours asks for them."""


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A deployment that a signal ended: with how many resources, and how."""

    by: str
    resources: int
    exit_code: int
    said: str


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A project folder, the `fleet` command that acts on it, and the local AWS it is applied to."""

    root: Path
    environment: dict[str, str] = field(repr=False)
    interrupted: tuple[Interrupted, ...] = ()

    def fleet(self, *arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `fleet` in the project and hold it to an exit code."""
        run = subprocess.run(
            [sys.executable, "-m", "fleet_iot", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert exit_code == run.returncode, f"fleet {' '.join(arguments)}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
        return run

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `fleet` in the project."""
        return subprocess.Popen(
            [sys.executable, "-m", "fleet_iot", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def local(self) -> LocalAws:
        """The local AWS of this project."""
        return load(self.root / "build" / "local")

    @property
    def broker(self) -> Broker:
        """Return the broker that devices connect to."""
        return Broker(host=self.local.mqtt_host, port=self.local.mqtt_port, ca_file=self.local.mqtt_authority)

    def key(self, thing: str) -> ec.EllipticCurvePrivateKey:
        """A thing's private key."""
        facility = "sg-01" if thing.startswith("sg-01-") else "th-01"
        store = KeyStore(Path(self.environment["FLEET_KEYS_DIR"]) / f"{APPLICATION}-{SUFFIX}", PASSPHRASE)
        return dict(store.keys(facility, {thing}))[thing]

    def certificate(self, thing: str) -> tuple[str, str]:
        """A thing's certificate id and PEM, as registered."""
        iot = self.local.client("iot")
        arn = principal_of(iot, thing)
        described = iot.describe_certificate(certificateId=arn.rpartition("/")[2])["certificateDescription"]
        return described["certificateId"], described["certificatePem"]

    def statistics(self, name: str) -> dict[str, Any]:
        """Return the statistics that a service of the local AWS reports."""
        statistics: dict[str, Any] = json.loads((self.local.folder / f"{name}.json").read_text())
        return statistics


def principal_of(iot: Any, thing: str) -> str:
    """The ARN of the thing's one certificate; waited for, as AWS IoT shows an attachment late."""
    deadline = time.monotonic() + 30
    while not (found := iot.list_thing_principals(thingName=thing)["principals"]):
        assert time.monotonic() < deadline, f"no certificate of {thing} is read back"
        time.sleep(0.1)
    (arn,) = found
    return str(arn)
