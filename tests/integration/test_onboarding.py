"""Makers' lists are onboarded on the local AWS: counts match, pairs are right, and the devices connect.

Adds a plant of its own and takes it away again, devices and all: test_running_plant, which comes after it by name,
finds the platform as it was.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography import x509

from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.local import deployment
from fleet_iot.operations.local.strictness import DEFAULT_SPEED, SETTLING_S
from fleet_iot.operations.rehearsal.demo import count_registry
from fleet_iot.operations.rehearsal.simulator import tls_context
from tests.integration.broker import Asker
from tests.integration.plant import APPLICATION, SUFFIX, Plant, principal_of
from tests.operations.lists.builders import (
    NO_SAMPLES,
    VENDOR,
    Signer,
    make_certificate,
    make_request,
    new_key,
    pem,
)

pytestmark = pytest.mark.local_aws
with_samples = pytest.mark.skipif(not VENDOR.is_dir(), reason=NO_SAMPLES)

FACILITY = "ob-01"
STACK = f"facility-{FACILITY}-{SUFFIX}"
MANIFEST = f"""
  {FACILITY}:
    name: Onboarding Plant
    timezone: Asia/Singapore
    registration: bulk
    things: {{press-monitor: 620}}
"""


def thing_name(number: int) -> str:
    return f"{FACILITY}-press-monitor-{number:04d}-{SUFFIX}"


@pytest.fixture(scope="module")
def added(plant: Plant) -> Iterator[Plant]:
    """The platform with a plant in bulk: its stack makes groups and policies, and no thing."""
    local, manifest = plant.local, plant.root / "fleet.yaml"
    former = manifest.read_text()
    terraform = deployment.local_terraform(local, plant.environment)
    stack = local.output / "stacks" / STACK
    manifest.write_text(former.rstrip() + "\n" + MANIFEST)
    plant.fleet("generate", "--facility", FACILITY)
    deployment.write_all_overrides(deployment.synthesise(local, root=plant.root))
    terraform.init(stack)
    terraform.apply(stack)
    yield plant
    remove_devices(plant)
    terraform.destroy(stack)
    shutil.rmtree(stack)
    shutil.rmtree(local.folder / "journal")
    manifest.write_text(former)
    plant.fleet("generate", "--allow", "destroys-data", "--allow", "breaks-identity")
    deployment.write_all_overrides(deployment.synthesise(local, root=plant.root))
    registry = count_registry(local.client("iot"), SUFFIX)
    assert (7, 7) == (registry.things, registry.certificates)


def onboard(plant: Plant, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """The JSON result of `fleet onboard`."""
    run = plant.fleet("onboard", "--facility", FACILITY, "--json", *arguments, exit_code=exit_code)
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def devices(plant: Plant) -> dict[str, tuple[str, str]]:
    """Thing → its certificate's id and PEM, of the plant's group."""
    iot = plant.local.client("iot")
    group = f"thing-group-{FACILITY}-press-monitor-{SUFFIX}"
    pages = iot.get_paginator("list_things_in_thing_group").paginate(thingGroupName=group)
    names = [name for page in pages for name in page["things"]]

    def certificate(name: str) -> tuple[str, str]:
        arn = principal_of(iot, name)
        described = iot.describe_certificate(certificateId=arn.rpartition("/")[2])["certificateDescription"]
        return described["certificateId"], described["certificatePem"]

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(certificate, names), strict=True))


def remove_devices(plant: Plant) -> None:
    """In AWS's order."""
    iot = plant.local.client("iot")

    def remove(found: tuple[str, tuple[str, str]]) -> None:
        name, (certificate_id, _) = found
        arn = principal_of(iot, name)
        iot.detach_policy(policyName=f"policy-{FACILITY}-press-monitor-{SUFFIX}", target=arn)
        iot.detach_thing_principal(thingName=name, principal=arn)
        iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
        time.sleep(SETTLING_S / DEFAULT_SPEED)
        iot.delete_certificate(certificateId=certificate_id)
        iot.delete_thing(thingName=name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remove, devices(plant).items()))


def keys_of(found: dict[str, tuple[str, str]]) -> set[bytes]:
    """The digests of devices' keys."""
    return {key_digest(x509.load_pem_x509_certificate(text.encode()).public_key()) for _, text in found.values()}


@with_samples
def test_the_espressif_sample(added: Plant) -> None:
    """Seven modules, seven devices; a second time they are there already."""
    arguments = ("--from", str(VENDOR / "manifest-espressif.csv"))
    assert 7 == onboard(added, "--dry-run", *arguments)["pairs"]
    result = onboard(added, *arguments)
    assert (7, 0, 5 * 7 + 1) == (result["onboarded"], result["failed"], sum(result["calls"].values()))
    found = devices(added)
    assert 7 == len(found) == len(keys_of(found))
    assert (0, 7) == tuple(onboard(added, *arguments)[key] for key in ("onboarded", "already"))


@with_samples
@pytest.mark.parametrize("bundle", ["E0E0", "E0E1", "E0E2"])
def test_the_infineon_bundles(added: Plant, bundle: str) -> None:
    """Each has a certificate of its own for the same two hundred chips."""
    before = len(devices(added))
    result = onboard(added, "--from", str(VENDOR / "manifest-infineon.7z"), "--bundle", bundle)
    assert (200, 0) == (result["onboarded"], result["failed"])
    found = devices(added)
    assert before + 200 == len(found) == len(keys_of(found))


@with_samples
def test_the_microchip_sample_carries_no_certificate(added: Plant, tmp_path: Path) -> None:
    """It verifies, and all its rows say so; a tampered copy does not verify. No device comes of either."""
    before = len(devices(added))
    sample = VENDOR / "ECC608-TMNGTLSS-B.json"
    signers = ("--signers", str(VENDOR / "mchp_verifiers"))
    assert 10 == onboard(added, "--from", str(sample), *signers, exit_code=1)["failed"]
    entries = json.loads(sample.read_text())
    entries[4]["payload"] = entries[3]["payload"]
    (tmp_path / "tampered.json").write_text(json.dumps(entries))
    result = onboard(added, "--from", str(tmp_path / "tampered.json"), *signers, exit_code=1)
    reasons = (added.root / result["failures"]).parent / "reasons.jsonl"
    told = [json.loads(line)["reason"] for line in reasons.read_text().splitlines()]
    assert ["its signature does not verify"] == sorted(set(told) - {"verifies, but carries no certificate"})
    assert "its signature does not verify" == told[4]
    assert before == len(devices(added))


@with_samples
def test_a_tampered_archive_is_refused(added: Plant, tmp_path: Path) -> None:
    """Whole, before any call."""
    data = bytearray((VENDOR / "manifest-infineon.7z").read_bytes())
    data[1000] ^= 1
    (tmp_path / "tampered.7z").write_bytes(data)
    arguments = ("onboard", "--facility", FACILITY, "--from", str(tmp_path / "tampered.7z"), "--bundle", "E0E0")
    assert "cannot be unpacked" in added.fleet(*arguments, exit_code=7).stderr


def test_a_signed_manifest_with_certificates(added: Plant, tmp_path: Path) -> None:
    """Its devices are registered under the makers' own certificates."""
    signer = Signer()
    entries = [signer.entry(f"0123{number}", make_certificate(f"sn0123{number}")) for number in range(3)]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    arguments = ("--from", str(tmp_path / "manifest.json"), "--signers", str(signer.write(tmp_path / "signers")))
    result = onboard(added, *arguments)
    assert (3, 0, 3) == (result["onboarded"], result["failed"], result["calls"]["RegisterCertificateWithoutCA"])


def test_a_staged_device_connects_once_it_is_active(added: Plant, tmp_path: Path) -> None:
    """With the key whose CSR it handed in: refused while staged, then let in under its own name, to its own topic."""
    name, key = thing_name(620), new_key()
    (tmp_path / f"{name}.csr").write_text(pem(make_request(name, key=key)))
    assert 1 == onboard(added, "--from", str(tmp_path), "--stage")["onboarded"]
    certificate = added.certificate(name)[1]
    context = tls_context(added.broker, certificate=certificate, key=key)
    with Asker(added.broker, client_id=name, context=context) as staged:
        assert not staged.is_in
    assert 1 <= onboard(added, "--activate")["activated"]
    with Asker(added.broker, client_id=name, context=context) as active:
        assert active.is_in
        own, other = (f"cmd/{APPLICATION}/{FACILITY}/press-monitor/{it}/response" for it in (name, thing_name(1)))
        assert active.publishes(own)  # no topic rule hears it: what the plant counts later is its own
        assert not active.publishes(other)
    stacks = deployment.applied_stacks(added.local)
    refused = added.fleet("local", "destroy", exit_code=1)
    assert "onboarded devices are registered" in refused.stderr and "fleet device retire" in refused.stderr
    assert deployment.applied_stacks(added.local) == stacks


def test_a_thing_of_somebody_else_is_left_alone(added: Plant, tmp_path: Path) -> None:
    """A thing that is there with other attributes keeps them and gets no certificate."""
    iot, name = added.local.client("iot"), thing_name(619)
    iot.create_thing(thingName=name, attributePayload={"attributes": {"site": "elsewhere"}})
    (tmp_path / f"{name}.csr").write_text(pem(make_request(name)))
    try:
        assert 1 == onboard(added, "--from", str(tmp_path), exit_code=1)["failed"]
        assert [] == iot.list_thing_principals(thingName=name)["principals"]
    finally:
        iot.delete_thing(thingName=name)
    with pytest.raises(ClientError):
        iot.describe_thing(thingName=name)
