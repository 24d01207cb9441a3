"""A plant whose devices are onboarded on a local AWS, and `fleet` in its project."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.onboarding import PLANT, make_onboarding_project, python_path
from fleet_iot.lib.specs import fill
from fleet_iot.operations.aws import Broker
from fleet_iot.operations.local import emulator
from fleet_iot.operations.local.aws import ACCOUNT_ID, LocalAws
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.rehearsal.simulator import tls_context
from tests.integration.broker import Asker

PASSPHRASE = "tests only"
BUNDLE_PASSPHRASE = "for a plant's tests"


@dataclass(frozen=True, kw_only=True)
class Works:
    """A plant whose devices are onboarded, and `fleet` in its project."""

    project: Path
    local: LocalAws
    keys: Path

    def fleet(self, *arguments: str, exit_code: int = 0) -> str:
        environment = os.environ | {
            "PYTHONPATH": python_path(self.project),
            "FLEET_KEYS_DIR": str(self.keys),
            "FLEET_KEYS_PASSPHRASE": PASSPHRASE,
            "FLEET_BUNDLE_PASSPHRASE": BUNDLE_PASSPHRASE,
        }
        command = [sys.executable, "-m", "fleet_iot", *arguments]
        run = subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert exit_code == run.returncode, f"{run.stdout}\n{run.stderr}"
        return run.stdout + run.stderr

    def key(self, name: str, *, plant: str = PLANT) -> ec.EllipticCurvePrivateKey:
        return dict(KeyStore(self.keys / "bench-dev", PASSPHRASE).keys(plant, {name}))[name]

    def context(self, certificate_id: str, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
        found = self.local.client("iot").describe_certificate(certificateId=certificate_id)
        return tls_context(self.broker, certificate=found["certificateDescription"]["certificatePem"], key=key)

    def certificate_ids(self, name: str, *, count: int = 1) -> list[str]:
        """Wait for `count` attached certificates and return their ids: like AWS IoT, the local AWS lists them late."""
        until, principals = time.monotonic() + 10, list[str]()
        while len(principals) != count and time.monotonic() < until:
            principals = self.local.client("iot").list_thing_principals(thingName=name)["principals"]
        return [arn.rpartition("/")[2] for arn in principals]

    @property
    def broker(self) -> Broker:
        return Broker(host=self.local.mqtt_host, port=self.local.mqtt_port, ca_file=self.local.mqtt_authority)

    def lets_in(self, name: str, context: ssl.SSLContext, *, plant: str = PLANT) -> bool:
        """Return whether the broker lets the device in and accepts what it publishes."""
        with Asker(self.broker, client_id=name, context=context) as asker:
            return asker.is_in and asker.publishes(telemetry(plant, name))

    def apply(self, plant: str) -> None:
        """The plant's group and policy, as its stack makes them."""
        iot = self.local.client("iot")
        iot.create_thing_group(thingGroupName=f"thing-group-{plant}-press-dev")
        folder = self.project / "lib" / "facilities" / plant.replace("-", "_")
        document = fill((folder / "press.policy.json").read_text(), account_id=ACCOUNT_ID, suffix="dev")
        iot.create_policy(policyName=f"policy-{plant}-press-dev", policyDocument=document)


def telemetry(plant: str, name: str) -> str:
    return f"dt/bench/{plant}/press/{name}/telemetry"


@contextmanager
def running_works(folder: Path, *, things: int, others: int) -> Iterator[Works]:
    """A plant of so many presses, all onboarded, and another one of which nothing is there yet."""
    project = make_onboarding_project(folder / "project", things=things, others=others)
    local = emulator.start(folder=project / "build" / "local", region="ap-southeast-1")
    try:
        local.client("iot").create_thing_type(thingTypeName="thing-type-press-dev")
        found = Works(project=project, local=local, keys=folder / "keys")
        found.apply(PLANT)
        found.fleet("keys", "create", "--facility", PLANT)
        found.fleet("onboard", "--facility", PLANT)
        yield found
    finally:
        emulator.stop(local)
