"""Devices on the local AWS, with real MQTT: rotated, revoked, moved and retired ones are let in or refused."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.onboarding_project import OTHER_PLANT, PLANT, make_onboarding_project, python_path
from lib.specs import fill
from operations.identities.keystore import KeyStore
from operations.local import lifecycle
from operations.local.aws import ACCOUNT_ID, LocalAws
from operations.simulator.credentials import Broker, tls_context
from tests.integration.broker import Asker
from tests.operations.onboarding.builders import make_request, new_key, pem
from tests.operations.onboarding.site import thing_name

pytestmark = pytest.mark.local_aws
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
        command = [sys.executable, "-m", "generator", *arguments]
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

    def certificate_ids(self, name: str) -> list[str]:
        principals = self.local.client("iot").list_thing_principals(thingName=name)["principals"]
        return [arn.rpartition("/")[2] for arn in principals]

    @property
    def broker(self) -> Broker:
        return Broker(host=self.local.mqtt_host, port=self.local.mqtt_port, ca_file=self.local.mqtt_authority)

    def lets_in(self, name: str, context: ssl.SSLContext, *, plant: str = PLANT) -> bool:
        """Whether the broker lets the device in and takes what it publishes."""
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


def there(number: int) -> str:
    """A thing of the other plant."""
    return f"{OTHER_PLANT}-press-{number:04d}-dev"


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    folder = tmp_path_factory.mktemp("works")
    project = make_onboarding_project(folder / "project", things=9, others=4)
    local = lifecycle.start(folder=project / "build" / "local", region="ap-southeast-1")
    try:
        local.client("iot").create_thing_type(thingTypeName="thing-type-press-dev")
        found = Works(project=project, local=local, keys=folder / "keys")
        found.apply(PLANT)
        found.fleet("keys", "create", "--facility", PLANT)
        found.fleet("onboard", "--facility", PLANT)
        yield found
    finally:
        lifecycle.stop(local)


def test_a_rotated_device_comes_back_with_its_new_certificate_alone(works: Works) -> None:
    """Both work until the rotation is finished, so that nothing is lost while the device changes over."""
    name = thing_name(1)
    (old_id,), old_key = works.certificate_ids(name), works.key(name)
    old = works.context(old_id, old_key)
    assert works.lets_in(name, old)
    works.fleet("device", "rotate", name, "--reason", "yearly")
    (new_id,) = set(works.certificate_ids(name)) - {old_id}
    new = works.context(new_id, works.key(name))
    assert works.lets_in(name, new) and works.lets_in(name, old)
    assert "being rotated" in works.fleet("device", "rotate", name, "--reason", "again", exit_code=2)
    works.fleet("device", "rotate", name, "--finish", "--reason", "yearly")
    assert works.lets_in(name, new) and not works.lets_in(name, old)
    assert [new_id] == works.certificate_ids(name)
    with pytest.raises(ClientError):
        works.local.client("iot").describe_certificate(certificateId=old_id)
    assert "is not being rotated" in works.fleet("device", "rotate", name, "--finish", "--reason", "x", exit_code=2)
    told = works.fleet("device", "show", name)
    assert new_id in told and "rotate begun" in told and "yearly" in told
    assert "9 were already" in works.fleet("onboard", "--facility", PLANT)


def test_a_device_that_makes_its_own_keys_hands_in_a_csr(works: Works, tmp_path: Path) -> None:
    """No key is made here, and none is asked for."""
    name, key = thing_name(2), new_key()
    (old_id,) = works.certificate_ids(name)
    (tmp_path / "next.csr").write_text(pem(make_request(name, key=key)))
    works.fleet("device", "rotate", name, "--csr", str(tmp_path / "next.csr"), "--reason", "board changed")
    works.fleet("device", "rotate", name, "--finish", "--reason", "board changed")
    (new_id,) = works.certificate_ids(name)
    assert new_id != old_id
    assert works.lets_in(name, works.context(new_id, key))


def test_a_revoked_device_is_refused(works: Works) -> None:
    """At once, and others are not."""
    name = thing_name(3)
    (certificate_id,) = works.certificate_ids(name)
    context = works.context(certificate_id, works.key(name))
    assert works.lets_in(name, context)
    works.fleet("device", "revoke", name, "--reason", "stolen")
    assert not works.lets_in(name, context)
    other = thing_name(4)
    assert works.lets_in(other, works.context(works.certificate_ids(other)[0], works.key(other)))
    assert "REVOKED" in works.fleet("device", "show", name)


def test_a_retired_device_is_refused_and_gone(works: Works) -> None:
    """Seen inactive, then deleted; its history stays; again, it is gone already. Its thing can be onboarded anew."""
    name = thing_name(5)
    (certificate_id,) = works.certificate_ids(name)
    context = works.context(certificate_id, works.key(name))
    assert works.lets_in(name, context)
    assert certificate_id in works.fleet("device", "retire", name, "--reason", "scrapped")
    assert not works.lets_in(name, context)
    iot = works.local.client("iot")
    for gone in (
        lambda: iot.describe_thing(thingName=name),
        lambda: iot.describe_certificate(certificateId=certificate_id),
    ):
        with pytest.raises(ClientError):
            gone()
    history = works.fleet("device", "show", name)
    assert "no certificate in AWS IoT" in history
    assert history.index("INACTIVE") < history.index("deleted") < history.index("  retired")
    works.fleet("device", "retire", name, "--reason", "scrapped")
    assert "1 onboarded, 8 were already" in works.fleet("onboard", "--facility", PLANT)
    (again,) = works.certificate_ids(name)
    assert works.lets_in(name, works.context(again, works.key(name)))


def test_a_device_is_not_moved_where_no_stack_is_applied(works: Works) -> None:
    """It works on where it is, and the error says what to do; a dry run says the same."""
    name = thing_name(6)
    context = works.context(works.certificate_ids(name)[0], works.key(name))
    for arguments in (("--dry-run",), ()):
        move = ("device", "move", name, "--to", OTHER_PLANT, "--reason", "line closed", *arguments)
        assert f"apply the stack of {OTHER_PLANT} first" in works.fleet(*move, exit_code=7)
    assert works.lets_in(name, context)
    works.apply(OTHER_PLANT)
    assert f"would become {there(1)}" in works.fleet(*move, "--dry-run")
    assert works.lets_in(name, context)


def test_a_moved_device_publishes_only_under_its_new_plant(works: Works) -> None:
    """With the certificate and key that it has: refused under its former name and topic, let in under the new ones."""
    name, new = thing_name(6), there(1)
    (certificate_id,), key = works.certificate_ids(name), works.key(name)
    context = works.context(certificate_id, key)
    assert works.lets_in(name, context)
    move = ("device", "move", name, "--to", OTHER_PLANT, "--reason", "line closed")
    assert f"is {new} now, under {certificate_id}" in works.fleet(*move)
    assert not works.lets_in(name, context)
    assert works.lets_in(new, context, plant=OTHER_PLANT)
    with Asker(works.broker, client_id=new, context=context) as asker:
        assert asker.is_in and not asker.publishes(telemetry(PLANT, name))
    with Asker(works.broker, client_id=new, context=context) as asker:
        assert asker.is_in and not asker.publishes(telemetry(PLANT, new))
    assert key.private_numbers() == works.key(new, plant=OTHER_PLANT).private_numbers()
    assert key.private_numbers() != works.key(name).private_numbers()
    iot = works.local.client("iot")
    with pytest.raises(ClientError):
        iot.describe_thing(thingName=name)
    thing = iot.describe_thing(thingName=new)
    assert (OTHER_PLANT, "thing-type-press-dev") == (thing["attributes"]["facility"], thing["thingTypeName"])
    assert f"is in {OTHER_PLANT} already, as {new}" in works.fleet(*move)
    told = works.fleet("device", "show", new)
    assert f"came from {name}" in told and f"{name}: moved to {new}" in told and f"moved from {name}" in told
    assert f"moved to {new}" in works.fleet("device", "show", name)
    assert "1 are already" in works.fleet("onboard", "--facility", OTHER_PLANT, "--dry-run")


def test_a_device_that_is_moved_and_rotated(works: Works) -> None:
    """Has its new key and certificate under its new name; the old certificate is gone."""
    name, new = thing_name(7), there(2)
    (old_id,), old_key = works.certificate_ids(name), works.key(name)
    old = works.context(old_id, old_key)
    works.fleet("device", "move", name, "--to", OTHER_PLANT, "--as", new, "--rotate", "--reason", "sold")
    (new_id,) = works.certificate_ids(new)
    assert new_id != old_id
    assert works.lets_in(new, works.context(new_id, works.key(new, plant=OTHER_PLANT)), plant=OTHER_PLANT)
    assert not works.lets_in(name, old) and not works.lets_in(new, old, plant=OTHER_PLANT)
    works.fleet("device", "move", new, "--to", PLANT, "--as", name, "--reason", "came back")
    assert works.lets_in(name, works.context(new_id, works.key(name)))
    assert 2 == works.fleet("device", "show", name).count("came from")


def test_what_cannot_be_moved_stays_where_it_is(works: Works) -> None:
    """Each refusal says why, before anything is changed."""
    name, move = thing_name(8), ("device", "move", thing_name(8), "--reason", "x", "--to")
    assert "in sg-01 already" in works.fleet(*move, PLANT, exit_code=2)
    assert "no facility 'nowhere'" in works.fleet(*move, "nowhere", exit_code=7)
    assert "has a certificate already" in works.fleet(*move, OTHER_PLANT, "--as", there(1), exit_code=2)
    assert "plans no thing th-01-press-0099-dev" in works.fleet(
        *(*move, OTHER_PLANT, "--as", "th-01-press-0099"), exit_code=2
    )
    many = [thing_name(number) for number in (8, 9, 2, 4)]
    assert "no planned press left in th-01" in works.fleet(
        *("device", "move", *many, "--reason", "x", "--to", OTHER_PLANT), exit_code=2
    )
    assert f"{there(4)} was not onboarded from here" in works.fleet(
        *("device", "move", there(4), "--reason", "x", "--to", PLANT), exit_code=2
    )
    works.fleet("device", "rotate", name, "--reason", "yearly")
    assert "finish that first" in works.fleet(*move, OTHER_PLANT, exit_code=2)
    works.fleet("device", "rotate", name, "--finish", "--reason", "yearly")
    works.fleet("device", "revoke", name, "--reason", "stolen")
    assert "is REVOKED" in works.fleet(*move, OTHER_PLANT, exit_code=2)
    assert [thing_name(8)] == works.local.client("iot").list_principal_things(
        principal=works.local.client("iot").list_thing_principals(thingName=name)["principals"][0]
    )["things"]


def test_certificates_and_their_last_day(works: Works) -> None:
    """Those that AWS IoT made last long; a list by month."""
    told = works.fleet("certificates", "--expiring", "90d")
    assert "9 certificates; 0 expire within 90 days" in told
    assert "9 certificates; 9 expire within 36500 days" in works.fleet("certificates", "--expiring", "36500d")
    assert "say a number of days" in works.fleet("certificates", "--expiring", "soon", exit_code=2)


OTHER = f"{OTHER_PLANT}-press-0001-dev"


@pytest.fixture(scope="module")
def other_works(works: Works) -> Works:
    """The same, whose other plant has its device from the project's own authority."""
    iot = works.local.client("iot")
    iot.create_thing_group(thingGroupName=f"thing-group-{OTHER_PLANT}-press-dev")
    policy = (works.project / "lib" / "facilities" / "th_01" / "press.policy.json").read_text()
    document = fill(policy, account_id=ACCOUNT_ID, suffix="dev")
    iot.create_policy(policyName=f"policy-{OTHER_PLANT}-press-dev", policyDocument=document)
    works.fleet("keys", "create", "--facility", OTHER_PLANT)
    works.fleet("ca", "init")
    works.fleet("ca", "sign", "--facility", OTHER_PLANT, "--days", "30")
    authority = works.project / "identities" / "dev" / "ca"
    signed = ("--from", str(authority / f"{OTHER_PLANT}.certificates.jsonl"), "--issuer", str(authority / "ca.pem"))
    assert "1 onboarded" in works.fleet("onboard", "--facility", OTHER_PLANT, *signed)
    return works


def publishes(works: Works, name: str, plant: str, context: ssl.SSLContext) -> bool:
    with Asker(works.broker, client_id=name, context=context) as asker:
        return asker.is_in and asker.publishes(f"dt/bench/{plant}/press/{name}/telemetry")


def test_a_device_of_the_own_authority_is_let_in(other_works: Works) -> None:
    """AWS IoT knows the certificate alone, not the authority; what the CRL says, it has to be told by a revocation."""
    works = other_works
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
    assert "1 certificates; 1 expire within 31 days" in works.fleet(
        "certificates", "--facility", OTHER_PLANT, "--expiring", "31d"
    )


def test_a_device_connects_with_the_files_of_its_bundle(other_works: Works, tmp_path: Path) -> None:
    """Unpacked and decrypted as the bundle says, by the paths of its Device Client configuration, and nothing else."""
    works, archive, installed = other_works, tmp_path / "plant.tar.gz", tmp_path / "device"
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


def test_bundles_have_what_aws_iot_made(other_works: Works, tmp_path: Path) -> None:
    """Certificates that only AWS IoT has are asked for; a revoked device is told, and is not in the bundle."""
    works, archive = other_works, tmp_path / "plant.tar.gz"
    works.fleet("device", "revoke", thing_name(6), "--reason", "stolen")
    told = json.loads(works.fleet("bundle", "--facility", PLANT, "--out", str(archive), "--json", exit_code=1))
    missing = {each["thing"]: each["reason"] for each in told["missing"]}
    assert (6, 0) == (told["devices"] + len(missing), told["keys"])
    assert "its certificate is REVOKED" == missing[thing_name(6)]
    first = archive.read_bytes()
    works.fleet("bundle", "--facility", PLANT, "--out", str(archive), exit_code=1)
    assert first == archive.read_bytes()


def test_a_certificate_of_the_own_authority_is_revoked(other_works: Works) -> None:
    """In its CRL, and what is left to do is said."""
    told = other_works.fleet("ca", "revoke", OTHER, "--reason", "keyCompromise")
    assert f"{OTHER}: 1 certificates revoked" in told and "CRL 2: 1 certificates" in told
    assert "fleet device revoke" in told
    assert "CRL 3: 1 certificates" in other_works.fleet("ca", "crl", "--days", "7")
    shown = json.loads(other_works.fleet("ca", "show", "--json"))
    assert (1, 0, 1, 3, False) == tuple(shown[name] for name in SHOWN)
    assert "Invalid value for '--reason'" in other_works.fleet("ca", "revoke", OTHER, "--reason", "bored", exit_code=2)
    assert "there is an authority already" in other_works.fleet("ca", "init", exit_code=2)
    told = other_works.fleet("ca", "sign", "--facility", PLANT, "--days", "9999", exit_code=2)
    assert "allows 1 to 1825 days" in told


SHOWN = ("signed", "valid", "revoked", "crl_number", "crl_is_overdue")
