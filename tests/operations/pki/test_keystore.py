"""The key store: sealed, bound to its things, private, and safe against a killed run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.keystore import KeyStore, key_bytes

PASSPHRASE = "correct horse"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.slow
def test_a_key_comes_back_as_it_went_in(tmp_path: Path) -> None:
    """A key opened by a second run is the key that the first run sealed."""
    key = new_key()
    KeyStore(tmp_path, PASSPHRASE).add("sg-01", [("a-dev", key)])
    opened = dict(KeyStore(tmp_path, PASSPHRASE).keys("sg-01", {"a-dev"}))
    assert key.private_numbers() == opened["a-dev"].private_numbers()


@pytest.mark.slow
def test_a_wrong_passphrase_opens_nothing(tmp_path: Path) -> None:
    """Another passphrase is refused before any key is touched."""
    KeyStore(tmp_path, PASSPHRASE)
    with pytest.raises(EnvironmentFault, match="does not open the key store"):
        KeyStore(tmp_path, "wrong horse")


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    """A store sealed with nothing would only look sealed."""
    with pytest.raises(EnvironmentFault, match="needs a passphrase"):
        KeyStore(tmp_path, "")


@pytest.mark.slow
def test_a_key_moved_to_another_thing_does_not_open(tmp_path: Path) -> None:
    """The thing's name is part of the seal, so exchanged lines are found out."""
    store = KeyStore(tmp_path, PASSPHRASE)
    store.add("sg-01", [("a-dev", new_key()), ("b-dev", new_key())])
    path = tmp_path / "sg-01.keys.jsonl"
    first, second = map(json.loads, path.read_text().splitlines())
    first["thing"], second["thing"] = second["thing"], first["thing"]
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(EnvironmentFault, match="was changed or moved"):
        list(store.keys("sg-01", {"a-dev", "b-dev"}))


@pytest.mark.slow
def test_a_thing_keeps_its_first_key(tmp_path: Path) -> None:
    """Adding a second key for a thing changes nothing: its certificate is bound to the first."""
    store, first = KeyStore(tmp_path, PASSPHRASE), new_key()
    store.add("sg-01", [("a-dev", first)])
    store.add("sg-01", [("a-dev", new_key())])
    assert first.private_numbers() == dict(store.keys("sg-01", {"a-dev"}))["a-dev"].private_numbers()


@pytest.mark.slow
def test_half_a_line_of_a_killed_run_spoils_nothing(tmp_path: Path) -> None:
    """After a torn last line the earlier keys open, and the next key goes to a line of its own."""
    store = KeyStore(tmp_path, PASSPHRASE)
    store.add("sg-01", [("a-dev", new_key())])
    with (tmp_path / "sg-01.keys.jsonl").open("a") as file:
        file.write('{"thing": "b-dev", "sea')
    store.add("sg-01", [("c-dev", new_key())])
    assert {"a-dev", "c-dev"} == store.names("sg-01")
    assert {"a-dev", "c-dev"} == dict(store.keys("sg-01", {"a-dev", "c-dev"})).keys()


@pytest.mark.slow
def test_nobody_else_can_read_the_store(tmp_path: Path) -> None:
    """Every file is 0600, the folder 0700, and no key lies there in the clear."""
    folder, key = tmp_path / "keys", new_key()
    KeyStore(folder, PASSPHRASE).add("sg-01", [("a-dev", key)])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert all(key_bytes(key)[-64:] not in path.read_bytes() for path in folder.iterdir())
