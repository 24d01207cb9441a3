"""The key store against others on the machine: planted links, open folders, short passphrases, cheap stretching."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki import keystore
from fleet_iot.operations.pki.csr import csr_path
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.storage import inside, read_private, write_private

PASSPHRASE = "words of tests"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["store.json", "store.new", "store.lock", "sg-01.keys.jsonl"])
def test_a_planted_link_is_not_followed(tmp_path: Path, name: str) -> None:
    """Whoever could put one into the folder gets nothing written to, or read from, a file of theirs."""
    folder, target = tmp_path / "keys", tmp_path / "target"
    folder.mkdir(mode=0o700)
    target.write_text("theirs")
    (folder / name).symlink_to(target)
    if name == "store.new":  # no passing name can be guessed
        KeyStore(folder, PASSPHRASE).add("sg-01", [("t", new_key())])
    else:
        with pytest.raises(EnvironmentFault, match="Too many levels of symbolic links"):
            KeyStore(folder, PASSPHRASE).add("sg-01", [("t", new_key())])
    assert "theirs" == target.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o777, 0o755, 0o710, 0o770])
def test_a_folder_that_others_get_into_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that closes it; nothing is written there."""
    folder = tmp_path / "keys"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EnvironmentFault, match="other users can access") as told:
        KeyStore(folder, PASSPHRASE)
    assert f"chmod 700 {folder}" in str(told.value.hint)
    assert [] == list(folder.iterdir())
    folder.chmod(0o700)
    KeyStore(folder, PASSPHRASE)


@pytest.mark.slow
def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A key file that was made readable may have been read."""
    store = KeyStore(tmp_path / "keys", PASSPHRASE)
    store.add("sg-01", [("t", new_key())])
    (tmp_path / "keys" / "sg-01.keys.jsonl").chmod(0o644)
    with pytest.raises(EnvironmentFault, match=r"sg-01\.keys\.jsonl \(mode 0644\)"):
        store.names("sg-01")


@pytest.mark.slow
def test_a_folder_that_everybody_may_replace_is_refused(tmp_path: Path) -> None:
    """The folder above decides which store is opened."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(EnvironmentFault, match="everybody may write"):
        KeyStore(above / "keys", PASSPHRASE)
    above.chmod(0o1777)
    KeyStore(above / "keys", PASSPHRASE)


@pytest.mark.slow
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It is no file of keys."""
    store = KeyStore(tmp_path / "keys", PASSPHRASE)
    os.mkfifo(tmp_path / "keys" / "sg-01.keys.jsonl", 0o600)
    with pytest.raises(EnvironmentFault, match="no regular file"):
        store.names("sg-01")


@pytest.mark.slow
def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    """From the moment they are made."""
    before = os.umask(0)
    try:
        KeyStore(tmp_path / "a" / "keys", PASSPHRASE).add("sg-01", [("t", new_key())])
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "keys"
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", ".", "", "a/b", "a\0b", "a\nb", ".hidden", "é"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Neither a facility's nor an environment's, in the key store or beside the CSRs."""
    store = KeyStore(tmp_path / "keys", PASSPHRASE)
    with pytest.raises(EnvironmentFault, match="no name of a file"):
        inside(tmp_path, name)
    if "/" in name or name in ("..", "."):
        with pytest.raises(EnvironmentFault, match="no name of a file"):
            store.add(f"{name}/x", [("t", new_key())])
        with pytest.raises(EnvironmentFault, match="no name of a file"):
            csr_path(tmp_path, name, "sg-01")


@pytest.mark.slow
@pytest.mark.parametrize("passphrase", ["a", "1234567"])
def test_a_short_passphrase_founds_no_store(tmp_path: Path, passphrase: str) -> None:
    """It is told how long it has to be; nothing that could be opened is left."""
    with pytest.raises(EnvironmentFault, match="fewer than 8 characters"):
        KeyStore(tmp_path / "keys", passphrase)
    assert not (tmp_path / "keys" / "store.json").exists()
    KeyStore(tmp_path / "keys", "12345678")


@pytest.mark.slow
def test_a_new_store_is_stretched_as_owasp_asks(tmp_path: Path) -> None:
    """N = 2^17, r = 8, p = 1."""
    KeyStore(tmp_path / "keys", PASSPHRASE)
    header = json.loads((tmp_path / "keys" / "store.json").read_text())
    assert (2**17, 8, 1) == (header["n"], header["r"], header["p"])


def test_an_old_store_opens_at_its_own_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a passphrase that would found none today; a header that asks for all memory does not."""
    key, path = new_key(), tmp_path / "keys" / "store.json"
    with monkeypatch.context() as older:
        older.setattr(keystore, "_SCRYPT", {"n": 2**15, "r": 8, "p": 1})
        older.setattr(keystore, "SHORTEST", 1)
        KeyStore(tmp_path / "keys", "words").add("sg-01", [("t", key)])
    opened = dict(KeyStore(tmp_path / "keys", "words").keys("sg-01", {"t"}))["t"]
    assert key.private_numbers() == opened.private_numbers()
    header = json.loads(path.read_text())
    assert 2**15 == header["n"]
    for change in ({"n": 2**40}, {"r": 10**6}, {"p": -1}, {"n": "x"}, {"salt": 5}):
        write_private(path, json.dumps(header | change))
        with pytest.raises(EnvironmentFault, match="is damaged"):
            KeyStore(tmp_path / "keys", "words")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing of a passing name stays, and what was there before a failure is there after it."""
    path = tmp_path / "file"
    write_private(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert (b"first", ["file"]) == (read_private(path), [each.name for each in tmp_path.iterdir()])


@pytest.mark.slow
def test_scrypt_is_what_the_header_says(tmp_path: Path) -> None:
    """The cost in the header is the one that was used: another program can open the store by it."""
    store = KeyStore(tmp_path / "keys", PASSPHRASE)
    header = json.loads((tmp_path / "keys" / "store.json").read_text())
    import base64

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cost = {name: header[name] for name in ("n", "r", "p")}
    key = Scrypt(salt=base64.b64decode(header["salt"]), length=32, **cost).derive(PASSPHRASE.encode())
    raw = base64.b64decode(header["check"])
    assert b"opens" == AESGCM(key).decrypt(raw[:12], raw[12:], b"store-check")
    assert set() == store.names("sg-01")
