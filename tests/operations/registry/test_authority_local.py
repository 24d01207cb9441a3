"""Certificates of an own authority and bundles, on the local AWS, over real MQTT."""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from benchmarks.onboarding import OTHER_PLANT, PLANT
from fleet_iot.operations.aws import Broker
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.rehearsal.simulator import tls_context
from tests.integration.broker import Asker
from tests.operations.registry.site import thing_name
from tests.operations.registry.works import BUNDLE_PASSPHRASE, PASSPHRASE, Works, running_works, telemetry

pytestmark = pytest.mark.local_aws

OTHER = f"{OTHER_PLANT}-press-0001-dev"


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """A plant with certificates of AWS IoT's, and another one whose device has its from the project's own authority."""
    with running_works(tmp_path_factory.mktemp("works"), things=6, others=1) as found:
        found.apply(OTHER_PLANT)
        found.fleet("keys", "create", "--facility", OTHER_PLANT)
        found.fleet("ca", "init")
        found.fleet("ca", "sign", "--facility", OTHER_PLANT, "--days", "30")
        authority = found.project / "identities" / "dev" / "ca"
        signed = ("--from", str(authority / f"{OTHER_PLANT}.certificates.jsonl"), "--issuer", str(authority / "ca.pem"))
        assert "1 onboarded" in found.fleet("onboard", "--facility", OTHER_PLANT, *signed)
        yield found


def publishes(works: Works, name: str, plant: str, context: ssl.SSLContext) -> bool:
    with Asker(works.broker, client_id=name, context=context) as asker:
        return asker.is_in and asker.publishes(telemetry(plant, name))


def test_a_device_of_the_own_authority_is_let_in(works: Works) -> None:
    """AWS IoT knows the certificate alone, not the authority; what the CRL says, it has to be told by a revocation."""
    (certificate_id,) = works.certificate_ids(OTHER)
    described = works.local.client("iot").describe_certificate(certificateId=certificate_id)["certificateDescription"]
    certificate = x509.load_pem_x509_certificate(described["certificatePem"].encode())
    authority = works.project / "identities" / "dev" / "ca"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes()))
    key = dict(KeyStore(works.keys / "bench-dev", PASSPHRASE).keys(OTHER_PLANT, {OTHER}))[OTHER]
    context = tls_context(works.broker, certificate=described["certificatePem"], key=key)
    assert publishes(works, OTHER, OTHER_PLANT, context)
    assert not publishes(works, OTHER, PLANT, context)
    told = json.loads(works.fleet("ca", "sign", "--facility", OTHER_PLANT, "--json"))
    assert (0, 1, 0) == (told["signed"], told["already"], told["not_signed"])
    assert "1 certificate; 1 expire within 31 days" in works.fleet(
        "certificates", "--facility", OTHER_PLANT, "--expiring", "31d"
    )


def test_a_device_connects_with_the_files_of_its_bundle(works: Works, tmp_path: Path) -> None:
    """Unpacked and decrypted as the bundle says, by the paths of its Device Client configuration, and nothing else."""
    archive, installed = tmp_path / "plant.tar.gz", tmp_path / "device"
    told = json.loads(
        works.fleet(
            *("bundle", "--facility", OTHER_PLANT, "--with-keys", "--out", str(archive), "--json"),
            *("--install-folder", str(installed), "--to", "Rayong"),
        )
    )
    assert (1, 1, []) == (told["devices"], told["keys"], told["missing"])
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (tmp_path / f"{OTHER_PLANT}-dev" / OTHER).rename(installed)
    (tmp_path / "passphrase").write_text(BUNDLE_PASSPHRASE)
    openssl = ["openssl", "pkey", "-in", "private-key.encrypted.pem", "-out", "private-key.pem"]
    subprocess.run([*openssl, "-passin", f"file:{tmp_path / 'passphrase'}"], cwd=installed, check=True)
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=installed, check=True)
    configuration = json.loads((installed / "aws-iot-device-client.conf").read_text())
    connection = json.loads((installed / "connection.json").read_text())
    context = ssl.create_default_context(cafile=configuration["root-ca"])
    context.load_cert_chain(configuration["cert"], configuration["key"])
    broker = Broker(host=configuration["endpoint"], port=connection["port"], ca_file=None)
    with Asker(broker, client_id=configuration["thing-name"], context=context) as asker:
        assert asker.is_in
        assert [True] * 3 == [asker.publishes(topic) for topic in connection["topics"]["publish"]]
        assert [True] == [asker.subscribes(topic) for topic in connection["topics"]["subscribe"]]
    receipt = json.loads((tmp_path / "plant.tar.gz.receipt.json").read_text())
    assert (OTHER, "Rayong") == (receipt["things"][0]["thing"], receipt["handed_to"])
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == told["sha256"] == receipt["sha256"]


def test_bundles_have_what_aws_iot_made(works: Works, tmp_path: Path) -> None:
    """Certificates that only AWS IoT has are asked for; a revoked device is told, and is not in the bundle."""
    archive = tmp_path / "plant.tar.gz"
    works.fleet("device", "revoke", thing_name(6), "--reason", "stolen")
    told = json.loads(works.fleet("bundle", "--facility", PLANT, "--out", str(archive), "--json", exit_code=1))
    missing = {each["thing"]: each["reason"] for each in told["missing"]}
    assert (6, 0) == (told["devices"] + len(missing), told["keys"])
    assert "its certificate is REVOKED" == missing[thing_name(6)]
    first = archive.read_bytes()
    works.fleet("bundle", "--facility", PLANT, "--out", str(archive), exit_code=1)
    assert first == archive.read_bytes()


def test_a_certificate_of_the_own_authority_is_revoked(works: Works) -> None:
    """In its CRL, and what is left to do is said."""
    told = works.fleet("ca", "revoke", OTHER, "--reason", "keyCompromise")
    assert f"{OTHER}: 1 certificate revoked" in told and "CRL 2: 1 certificate" in told
    assert "fleet device revoke" in told
    assert "CRL 3: 1 certificate" in works.fleet("ca", "crl", "--days", "7")
    shown = json.loads(works.fleet("ca", "show", "--json"))
    assert (1, 0, 1, 3, False) == tuple(shown[name] for name in SHOWN)
    assert "Invalid value for '--reason'" in works.fleet("ca", "revoke", OTHER, "--reason", "bored", exit_code=2)
    assert "there is an authority already" in works.fleet("ca", "init", exit_code=2)
    told = works.fleet("ca", "sign", "--facility", PLANT, "--days", "9999", exit_code=2)
    assert "allows 1 to 1825 days" in told


SHOWN = ("signed", "valid", "revoked", "crl_number", "crl_is_overdue")
