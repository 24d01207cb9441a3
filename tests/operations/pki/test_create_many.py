"""Keys and CSRs of many things: made in other processes, in order, and whole after any kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from benchmarks.onboarding import PLANT, SUFFIX, make_onboarding_project, python_path
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.csr import BATCH, read_requests
from fleet_iot.operations.pki.keystore import KeyStore

pytestmark = pytest.mark.slow
THINGS = 8 * BATCH + 1
PASSPHRASE = "tests only"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_onboarding_project(tmp_path_factory.mktemp("many") / "project", things=THINGS)


def start(project: Path, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": python_path(project),
        "FLEET_KEYS_DIR": str(folder / "keys"),
        "FLEET_KEYS_PASSPHRASE": PASSPHRASE,
        "FLEET_IDENTITIES": str(folder / "identities"),
    }
    command = [sys.executable, "-m", "fleet_iot", "keys", "create", "--facility", PLANT]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=project, env=environment, stdout=pipe, stderr=pipe, text=True)


def create(project: Path, folder: Path) -> str:
    with start(project, folder) as process:
        out, err = process.communicate(timeout=60)
    assert 0 == process.returncode, err
    return out


def lines_of_keys(folder: Path) -> list[bytes]:
    return (folder / "keys" / f"bench-{SUFFIX}" / f"{PLANT}.keys.jsonl").read_bytes().splitlines()


def assert_paired(folder: Path) -> None:
    """Each thing has one key and one CSR of that key; both files are in the things' order."""
    path = folder / "identities" / SUFFIX / f"{PLANT}.csrs.jsonl"
    requests = read_requests(path)
    names = [f"{PLANT}-press-{number:04d}-{SUFFIX}" for number in range(1, THINGS + 1)]
    store = KeyStore(folder / "keys" / f"bench-{SUFFIX}", PASSPHRASE)
    keys = dict(store.keys(PLANT, set(names)))
    assert names == list(requests) and set(names) == keys.keys()
    for name in names[:: BATCH // 5] + names[-1:]:
        request = x509.load_pem_x509_csr(requests[name].encode())
        assert request.is_signature_valid
        assert f"CN={name}" == request.subject.rfc4514_string()
        assert keys[name].public_key() == request.public_key()
    digests = {key_digest(x509.load_pem_x509_csr(csr.encode()).public_key()) for csr in requests.values()}
    assert THINGS == len(digests)
    assert [] == [left.name for left in path.parent.iterdir() if left != path]


def test_many_are_made_in_order(project: Path, tmp_path: Path) -> None:
    """No worker gives another's keys, and no two give the same."""
    assert f"{PLANT}: {THINGS:,} things, {THINGS:,} keys and {THINGS:,} CSRs made" in create(project, tmp_path)
    assert_paired(tmp_path)
    assert THINGS == len(lines_of_keys(tmp_path))
    before = lines_of_keys(tmp_path)
    assert f"{THINGS:,} things, 0 keys and 0 CSRs made" in create(project, tmp_path)
    assert before == lines_of_keys(tmp_path)


def test_a_killed_run_is_gone_on_with(project: Path, tmp_path: Path) -> None:
    """The keys that it left keep their things; there is no CSR before its key, and none without one."""
    path = tmp_path / "keys" / f"bench-{SUFFIX}" / f"{PLANT}.keys.jsonl"
    with start(project, tmp_path) as process:
        end = time.monotonic() + 30
        while not (path.exists() and path.stat().st_size > 300 * BATCH) and time.monotonic() < end:
            time.sleep(0.001)
        process.kill()
    kept = [line for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    assert 0 < len(kept) < THINGS
    assert not (tmp_path / "identities" / SUFFIX / f"{PLANT}.csrs.jsonl").exists()
    assert f"{THINGS - len(kept):,} keys and {THINGS:,} CSRs made" in create(project, tmp_path)
    assert set(kept) <= set(lines_of_keys(tmp_path))
    assert_paired(tmp_path)
