"""A device's files: what they say, from the very policy that the device has."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.specs import fill
from fleet_iot.operations.registry.bundle import ROOTS, Endpoint, amazon_roots, files_of, topics_of
from tests.places import SAMPLE

THING = "sg-01-compressor-0001-dev"
ENDPOINT = Endpoint(host="a1-ats.iot.example", port=8883, roots=b"roots\n", install_folder="/etc/device/")


def test_topics_are_the_policys() -> None:
    """With the thing's name in its place, Basic Ingest included."""
    policy = (SAMPLE / "lib" / "facilities" / "sg_01" / "compressor.policy.json").read_text()
    topics = topics_of(fill(policy, account_id="111122223333", suffix="dev"), THING)
    telemetry = f"dt/mfg/sg-01/compressor/{THING}/telemetry"
    command = f"cmd/mfg/sg-01/compressor/{THING}"
    assert {
        "publish": [telemetry, f"$aws/rules/rule_telemetry_sg_01_dev/{telemetry}", f"{command}/response"],
        "subscribe": [f"{command}/request"],
        "receive": [f"{command}/request"],
    } == topics


def test_what_a_policy_denies_is_no_topic() -> None:
    """Only what it allows is told."""
    denied = {"Effect": "Deny", "Action": "iot:Publish", "Resource": "arn:aws:iot:r:1:topic/a"}
    assert {"publish": [], "subscribe": [], "receive": []} == topics_of(json.dumps({"Statement": [denied]}), THING)


def test_the_configuration_points_at_the_files() -> None:
    """The configuration points at the unpacked files, with forbidden features off; checksums cover all files."""
    topics: dict[str, list[str]] = {"publish": ["a"], "subscribe": [], "receive": []}
    files = {
        file.name: file
        for file in files_of(THING, certificate="PEM", key=b"encrypted", topics=topics, endpoint=ENDPOINT)
    }
    configuration = json.loads(files["aws-iot-device-client.conf"].content)
    assert ("a1-ats.iot.example", THING) == (configuration["endpoint"], configuration["thing-name"])
    assert "/etc/device/certificate.pem" == configuration["cert"]
    assert "/etc/device/root-ca.pem" == configuration["root-ca"]
    assert "/etc/device/private-key.pem" == configuration["key"]
    features = ("jobs", "tunneling", "device-defender", "fleet-provisioning", "config-shadow", "sample-shadow")
    assert {False} == {configuration[feature]["enabled"] for feature in features}
    assert b"roots\n" == files["root-ca.pem"].content
    assert (0o600, 0o644) == (files["private-key.encrypted.pem"].mode, files["certificate.pem"].mode)
    sums = dict(line.split("  ")[::-1] for line in files.pop("SHA256SUMS").content.decode().splitlines())
    assert {name: hashlib.sha256(file.content).hexdigest() for name, file in files.items()} == sums
    without = files_of(THING, certificate="PEM", key=None, topics=topics, endpoint=ENDPOINT)
    assert {"private-key.encrypted.pem"} == files.keys() - {file.name for file in without}


def test_amazons_roots_are_known_by_their_fingerprints(tmp_path: Path) -> None:
    """They are authorities of that name; a list without one of them is refused."""
    found = x509.load_pem_x509_certificates(amazon_roots())
    assert list(ROOTS.values()) == [each.fingerprint(hashes.SHA256()).hex() for each in found]
    assert [f"CN={name},O=Amazon,C=US" for name in ROOTS] == [each.subject.rfc4514_string() for each in found]
    for each in found:
        each.verify_directly_issued_by(each)
    (tmp_path / "list.pem").write_bytes(found[1].public_bytes(Encoding.PEM))
    with pytest.raises(EnvironmentFault, match="does not have Amazon Root CA 1"):
        amazon_roots(tmp_path / "list.pem")
