"""The own authority reads lists as onboarding does: a bad row stops none, and a list without a CSR is no success."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fleet_iot.generator.diagnostics import EnvironmentFault
from tests.operations.lists.builders import der, make_certificate, make_request, new_key, pem, write
from tests.operations.pki.authorities import THINGS, start

FIRST, SECOND, THIRD, FOURTH = sorted(THINGS)[:4]


@pytest.mark.slow
def test_a_row_that_cannot_be_read_leaves_the_others_signed(tmp_path: Path) -> None:
    """A CSR of another version, half a character, deep nesting, a private key: each is its own fault."""
    works = start(tmp_path)
    key = new_key()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    odd = base64.b64encode(der(make_request(SECOND)).replace(b"\x02\x01\x00", b"\x02\x01\x02", 1)).decode()
    path = write(
        tmp_path / "csrs.jsonl",
        json.dumps({"thing": FIRST, "csr": pem(make_request(FIRST))}) + "\n",
        json.dumps({"thing": SECOND, "csr": odd}) + "\n",
        '{"thing": "\\ud800"}\n' + "[" * 50_000 + "\n",
        json.dumps({"thing": THIRD, "csr": pem(make_request(THIRD, key=key)), "notes": secret}) + "\n",
        json.dumps({"thing": THIRD, "csr": pem(make_request(THIRD, key=key))}) + "\n",
        json.dumps({"ThingName": FOURTH, "CSR": pem(make_request(FOURTH))}) + "\n",
    )
    done = works.sign(path)
    assert [FIRST, FOURTH] == list(works.certificates())
    assert [2, 3, 4, 5, 6] == [fault.number for fault in done.faults]
    assert "private key" in done.faults[3].reason and "private key" in done.faults[4].reason


@pytest.mark.slow
def test_a_csr_beside_a_certificate_is_signed(tmp_path: Path) -> None:
    """In a folder that has both of a device."""
    works = start(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    key = new_key()
    write(folder / f"{FIRST}.csr", pem(make_request(FIRST, key=key)))
    write(folder / f"{FIRST}.crt", pem(make_certificate(FIRST, key=key)))
    assert (1, ()) == ((done := works.sign(folder)).signed, done.faults)


@pytest.mark.slow
def test_a_list_without_a_csr_is_no_success(tmp_path: Path) -> None:
    """Neither an empty folder nor a header alone."""
    works = start(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "notes.txt", "…")
    for source in (folder, write(tmp_path / "a.csv", "name,csr\n")):
        with pytest.raises(EnvironmentFault, match="contains no"):
            works.sign(source)
    assert not works.list.exists()
