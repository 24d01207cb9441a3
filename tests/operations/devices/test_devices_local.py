"""Devices on the local AWS, with real MQTT: rotated, revoked, moved and retired ones are let in or refused."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
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
