"""`fleet bundle` for a plant that was onboarded: what is in it, what is not, and what nobody can read out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.onboarding import PLANT, SUFFIX
from fleet_iot.operations.pki.csr import csr_path, read_requests, sign_request, write_requests
from fleet_iot.operations.pki.keystore import KeyStore, key_bytes
from fleet_iot.operations.registry.bundle import amazon_roots
from tests.operations.lists.builders import new_key
from tests.operations.registry.site import Site, site, thing_name

pytestmark = pytest.mark.slow
THINGS = 6
PASSPHRASE, BUNDLE_PASSPHRASE = "tests only", "a passphrase of tests"
OWN = thing_name(THINGS)
"""A device that made its key itself."""


@dataclass(frozen=True, kw_only=True)
class Works:
    """A plant and `fleet` in its project."""

    site: Site
    keys: Path

    def fleet(self, *arguments: str, exit_code: int = 0, passphrase: str = BUNDLE_PASSPHRASE) -> str:
        environment = os.environ | self.site.environment | {"FLEET_KEYS_DIR": str(self.keys)}
        environment |= {"FLEET_KEYS_PASSPHRASE": PASSPHRASE, "FLEET_BUNDLE_PASSPHRASE": passphrase}
        run = subprocess.run(
            [sys.executable, "-m", "fleet_iot", *arguments, "--facility", PLANT],
            cwd=self.site.project,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert exit_code == run.returncode, f"{run.stdout}\n{run.stderr}"
        return run.stdout if "--json" in arguments else run.stdout + run.stderr

    def bundled(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.fleet("bundle", "--aws", "--json", *arguments, exit_code=exit_code))
        return told

    @property
    def store(self) -> KeyStore:
        return KeyStore(self.keys / f"bench-{SUFFIX}", PASSPHRASE)

    @property
    def requests(self) -> Path:
        return csr_path(self.site.project / "identities", SUFFIX, PLANT)


def start(place: Site, folder: Path) -> Works:
    """Keys for all devices but one, and all of them onboarded."""
    works = Works(site=place, keys=folder / "keys")
    works.requests.parent.mkdir(parents=True)
    write_requests(works.requests, {OWN: sign_request(OWN, new_key())})
    works.fleet("keys", "create")
    return works


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    with site(tmp_path, things=THINGS, csrs=False) as place:
        yield start(place, tmp_path)


def unpacked(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as packed:
        return {
            each.name.removeprefix(f"{PLANT}-{SUFFIX}/"): packed.extractfile(each).read()  # type: ignore[union-attr]
            for each in packed.getmembers()
        }


def test_a_bundle_has_all_that_devices_need_and_no_key_in_the_clear(works: Works, tmp_path: Path) -> None:
    """Keys open with the bundle's passphrase; checksums reach every file; the receipt names each certificate."""
    works.fleet("onboard", "--aws")
    told = works.bundled("--with-keys", "--to", "the plant", "--by", "a tester")
    assert (THINGS, THINGS - 1, []) == (told["devices"], told["keys"], told["missing"])
    archive = Path(told["archive"])
    assert works.site.project / "build" / "bundles" / f"{PLANT}-{SUFFIX}.tar.gz" == archive
    files = unpacked(archive)
    names = [thing_name(number) for number in range(1, THINGS + 1)]
    assert names == sorted({name.partition("/")[0] for name in files if "/" in name})
    assert [OWN] == [name for name in names if f"{name}/private-key.encrypted.pem" not in files]
    keys = dict(works.store.keys(PLANT, set(names)))
    for name, key in keys.items():
        opened = serialization.load_pem_private_key(
            files[f"{name}/private-key.encrypted.pem"], BUNDLE_PASSPHRASE.encode()
        )
        assert isinstance(opened, ec.EllipticCurvePrivateKey)
        assert key.private_numbers() == opened.private_numbers()
    assert [] == leaks([*files.values(), *(Path(path).read_bytes() for path in told["receipts"])], list(keys.values()))
    connection = json.loads(files[f"{OWN}/connection.json"])
    assert ("a1b2c3-ats.iot.example", 8883, OWN) == tuple(
        connection[each] for each in ("endpoint", "port", "client_id")
    )
    assert f"dt/bench/{PLANT}/press/{OWN}/telemetry" in connection["topics"]["publish"]
    assert amazon_roots() == files[f"{OWN}/root-ca.pem"]
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xzf", str(archive)], cwd=tmp_path / "out", check=True)
    for folder in (tmp_path / "out" / f"{PLANT}-{SUFFIX}", *(tmp_path / "out" / f"{PLANT}-{SUFFIX}").glob("*/")):
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    manifest = json.loads(files["manifest.json"])
    document, page = (Path(path).read_text() for path in told["receipts"])
    receipt = json.loads(document)
    assert names == [each["thing"] for each in manifest["things"]] == [each["thing"] for each in receipt["things"]]
    assert ("a tester", "the plant", told["sha256"]) == tuple(receipt[k] for k in ("made_by", "handed_to", "sha256"))
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == told["sha256"]
    for each in receipt["things"]:
        der = base64.b64decode("".join(files[f"{each['thing']}/certificate.pem"].decode().splitlines()[1:-1]))
        assert hashlib.sha256(der).hexdigest() == each["fingerprint"] and each["fingerprint"] in page
    assert "received by" in page
    assert 0o600 == archive.stat().st_mode & 0o777


def leaks(contents: list[bytes], keys: list[ec.EllipticCurvePrivateKey]) -> list[bytes]:
    """Return the traces of keys and passphrases in the contents: bare numbers, PKCS #8, and base64 at every offset."""
    needles = [b"-----BEGIN PRIVATE KEY", b"-----BEGIN EC PRIVATE KEY", PASSPHRASE.encode(), BUNDLE_PASSPHRASE.encode()]
    for key in keys:
        number = key.private_numbers().private_value.to_bytes(32, "big")
        needles += [number, number.hex().encode(), key_bytes(key)[:60]]
        needles += [base64.b64encode(number[start:-2])[:40] for start in range(3)]
        needles.append("".join(base64.b64encode(key_bytes(key)).decode().splitlines())[:60].encode())
    joined = [content.replace(b"\n", b"") for content in contents]
    return [needle for needle in needles if any(needle in content for content in (*contents, *joined))]


def test_the_same_devices_give_the_same_bytes(works: Works) -> None:
    """Without keys; AWS IoT is asked for each certificate once."""
    works.fleet("onboard", "--aws")
    first, asked = works.bundled(), works.site.service.state()["calls"]["DescribeCertificate"]
    again = works.bundled("--endpoint", "a1b2c3-ats.iot.example")
    assert (THINGS, 0, THINGS) == (first["devices"], first["keys"], asked)
    assert first["sha256"] == again["sha256"]
    assert asked == works.site.service.state()["calls"]["DescribeCertificate"]
    assert first["sha256"] != works.bundled("--install-folder", "/opt/device")["sha256"]


def test_what_is_missing_is_told(works: Works) -> None:
    """A thing without a certificate, a key that is not its certificate's; of nothing there is no archive."""
    told = works.bundled(exit_code=1)
    assert (None, 0, THINGS, []) == (told["archive"], told["devices"], len(told["missing"]), told["receipts"])
    assert [] == list((works.site.project / "build" / "bundles").iterdir())
    requests = read_requests(works.requests)
    write_requests(works.requests, dict(list(requests.items())[:4]))
    works.fleet("onboard", "--aws")
    works.store.replace(PLANT, thing_name(2), new_key())
    register(works.site, thing_name(5), requests[thing_name(5)])
    told = works.bundled("--with-keys", exit_code=1)
    assert (4, 4) == (told["devices"], told["keys"])
    assert {
        thing_name(2): "its key in the key store is not its certificate's",
        thing_name(6): "has no certificate in AWS IoT",
    } == {each["thing"]: each["reason"] for each in told["missing"]}
    files = unpacked(Path(told["archive"]))
    assert told["missing"] == json.loads(files["manifest.json"])["missing"]
    assert not any(name.startswith(thing_name(2)) for name in files)
    text = works.fleet("bundle", "--aws", exit_code=1)
    assert "5 devices, 0 encrypted keys, 1 missing" in text and f"{thing_name(6)}: has no certificate" in text


def register(place: Site, thing: str, request: str) -> None:
    """A thing as Terraform registers it, unknown to the journal."""
    iot = place.iot()
    iot.create_thing(thingName=thing)
    made = iot.create_certificate_from_csr(certificateSigningRequest=request, setAsActive=True)
    iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])


def test_bad_requests_are_refused(works: Works) -> None:
    """Before anything is asked of AWS IoT."""
    assert "fewer than 12 characters" in works.fleet("bundle", "--with-keys", exit_code=2, passphrase="short")
    assert "FLEET_BUNDLE_PASSPHRASE" in works.fleet("bundle", "--with-keys", exit_code=7, passphrase="")
    assert "is no absolute path" in works.fleet("bundle", "--install-folder", "etc", exit_code=2)
