"""A move that is killed anywhere goes on: each device ends in one plant, under its own key, and was never in both."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from benchmarks.iot_service import Running, running
from benchmarks.onboarding import OTHER_PLANT, PLANT, SUFFIX, make_onboarding_project, python_path
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.csr import read_requests
from fleet_iot.operations.pki.keystore import KeyStore

KILLS = int(os.environ.get("FLEET_KILLS", "10"))
SEED = int(os.environ.get("FLEET_KILLS_SEED", str(random.SystemRandom().randrange(2**32))))
KILLS_EACH = 5
THINGS = 15
SHORTEST_S, LONGEST_S, WAIT_S = 0.5, 1.4, 3.0
"""From start to kill: the first half second loads the program; where a certificate is lost, three more are waited."""
PASSPHRASE = "tests only"


class Place:
    """Two plants, the devices of one onboarded, and `fleet` between them and the service."""

    def __init__(self, folder: Path, service: Running) -> None:
        self.project = make_onboarding_project(folder / "project", things=THINGS, others=THINGS)
        self.service, self.keys = service, folder / "keys"
        self.environment = service.environment(folder / "journals") | {
            "PYTHONPATH": python_path(self.project),
            "FLEET_KEYS_DIR": str(self.keys),
            "FLEET_KEYS_PASSPHRASE": PASSPHRASE,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "fleet_iot", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.project, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def fleet(self, *arguments: str) -> None:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{out}\n{err}"

    def stored(self, plant: str) -> dict[str, bytes]:
        """The digest of each thing's key in the store."""
        store = KeyStore(self.keys / f"bench-{SUFFIX}", PASSPHRASE)
        found = store.keys(plant, store.names(plant))
        return {name: key_digest(key.public_key()) for name, key in found}


def held(state: dict[str, Any]) -> dict[str, tuple[str, bytes]]:
    """Thing → id and key of its certificate. No certificate is of two things, or of two plants' policies; none of a
    thing that is in another plant's group."""
    found = {}
    for name, thing in state["things"].items():
        plant = OTHER_PLANT if name.startswith(OTHER_PLANT) else PLANT
        assert thing["groups"] in ([], [f"thing-group-{plant}-press-{SUFFIX}"]), name
        for principal in thing["principals"]:
            certificate = state["certificates"][principal.rpartition("/")[2]]
            key = key_digest(x509.load_pem_x509_certificate(certificate["certificatePem"].encode()).public_key())
            found[name] = (principal, key)
    assert len(found) == len({principal for principal, _ in found.values()})
    allowed = [target for targets in state["policies"].values() for target in targets]
    assert len(allowed) == len(set(allowed))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("round_", range((KILLS + KILLS_EACH - 1) // KILLS_EACH))
def test_killed_and_asked_again(tmp_path: Path, round_: int) -> None:
    """With the certificates that they have and with others in turn."""
    moments, is_rotated = random.Random(f"{SEED}/{round_}"), round_ % 2 == 1
    with running(scale=3) as service:
        place = Place(tmp_path, service)
        place.fleet("keys", "create", "--facility", PLANT)
        place.fleet("onboard", "--facility", PLANT, "--aws", "--policy-on", "group" if is_rotated else "certificate")
        first = {key for _, key in held(service.state()).values()}
        names = [f"{PLANT}-press-{number:04d}-{SUFFIX}" for number in range(1, THINGS + 1)]
        move = ["device", "move", *names, "--to", OTHER_PLANT, "--aws", "--reason", "a test"]
        move += ["--rotate"] if is_rotated else []
        delays = []
        for _ in range(min(KILLS_EACH, KILLS - round_ * KILLS_EACH)):
            wait = moments.choice((0.0, WAIT_S)) if is_rotated and delays else 0.0
            delays.append(moments.uniform(SHORTEST_S, LONGEST_S) + wait)
            with place.start(*move) as process:
                try:
                    process.communicate(timeout=delays[-1])
                except subprocess.TimeoutExpired:
                    process.kill()
            held(service.state())
        told = f"killed after {delays} s; FLEET_KILLS_SEED={SEED}"
        place.fleet(*move)
        state = service.state()
        found = held(state)
        assert {f"{OTHER_PLANT}-press-{number:04d}-{SUFFIX}" for number in range(1, THINGS + 1)} == set(found), told
        assert found.keys() == state["things"].keys(), told
        assert THINGS == len(state["certificates"]), told
        assert {"ACTIVE"} == {certificate["status"] for certificate in state["certificates"].values()}, told
        keys = {name: key for name, (_, key) in found.items()}
        assert keys == place.stored(OTHER_PLANT), told
        assert set(keys.values()).isdisjoint(place.stored(PLANT).values()), told
        assert (first == set(keys.values())) == (not is_rotated), told
        assert {} == read_requests(place.project / "identities" / SUFFIX / f"{PLANT}.csrs.jsonl"), told
        place.fleet("onboard", "--facility", OTHER_PLANT, "--aws")
        assert found == held(service.state()), told
