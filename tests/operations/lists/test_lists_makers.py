"""The makers' own lists: Espressif, Microchip, Infineon; what is forged or made to harm is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import py7zr
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.lists import infineon
from tests.operations.lists.builders import (
    NOW,
    Signer,
    cert,
    make_certificate,
    packed,
    quoted,
    rows_of,
    seven_zip,
    write,
)

# --- Espressif ----------------------------------------------------------------------------------------------------


def test_an_espressif_list(tmp_path: Path) -> None:
    """Modules by MAC, with RSA keys and UUIDs as common names, as its tool writes them."""
    names = [str(uuid.uuid4()) for _ in range(3)]
    keys = [rsa.generate_private_key(65537, 2048) for _ in names]
    lines = [
        f"4BA2BB8764B{n:X},{name},{quoted(cert(name, key=key, signer=keys[0]))}\n"
        for n, (name, key) in enumerate(zip(names, keys, strict=True))
    ]
    rows, faults = rows_of(write(tmp_path / "manifest.csv", "MAC,cn,cert\n", *lines))
    assert (3, [], "4BA2BB8764B0", False) == (len(rows), faults, rows[0].serial, rows[0].must_match)
    assert names == [row.material.common_name for row in rows]


def test_an_espressif_row_with_another_devices_certificate(tmp_path: Path) -> None:
    """The list's common name and the certificate's differ: paired with the wrong module."""
    path = write(tmp_path / "a.csv", "MAC,cn,cert\n", f"AA,x,{quoted(cert('y'))}\nBB,z,{quoted(cert('z'))}\n")
    (row,), (fault,) = rows_of(path)
    assert ("BB", "the list calls it 'x', its certificate 'y'") == (row.serial, fault.reason)


# --- Microchip ----------------------------------------------------------------------------------------------------


def test_a_manifest_that_verifies_and_carries_no_certificate(tmp_path: Path) -> None:
    """As that of parts without certificates of their own: each row says so."""
    signer = Signer()
    path = write(tmp_path / "a.json", json.dumps([signer.entry(f"01230cac6606e9940{n}") for n in range(3)], indent=2))
    rows, faults = rows_of(path, signers=signer.write(tmp_path / "s"))
    assert ([], ["verifies, but carries no certificate"] * 3) == (rows, [fault.reason for fault in faults])


def test_a_tampered_manifest_is_refused(tmp_path: Path) -> None:
    """One byte of payload or another entry's signature: that entry does not verify, the others do."""
    signer = Signer()
    entries = [signer.entry(f"0123{n}", make_certificate()) for n in range(4)]
    entries[0]["payload"] = entries[0]["payload"].replace("A", "B", 1)
    entries[1]["signature"] = entries[2]["signature"]
    rows, faults = rows_of(write(tmp_path / "a.json", json.dumps(entries)), signers=signer.write(tmp_path / "s"))
    assert (2, ["its signature does not verify"] * 2) == (len(rows), [fault.reason for fault in faults])


def test_a_signed_manifest_with_certificates(tmp_path: Path) -> None:
    """Each entry's first certificate is the device's, by its unique id."""
    signer = Signer()
    entries = [signer.entry(f"01{number}", make_certificate(f"sn01{number}")) for number in range(3)]
    rows, faults = rows_of(
        write(tmp_path / "a.json", json.dumps(entries, indent=1)), signers=signer.write(tmp_path / "s")
    )
    assert (["010", "011", "012"], []) == ([row.serial for row in rows], faults)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (lambda signer: Signer().entry("1", make_certificate()), "signed by none"),
        (lambda signer: {"payload": signer.entry("1")["payload"]}, "is not signed"),
        (lambda signer: signer.entry("1", make_certificate(), alg="none"), "not with ES256"),
        (lambda signer: signer.entry("1", make_certificate()) | {"signature": ""}, "not with ES256"),
        (lambda signer: signer.entry("1", make_certificate()) | {"header": {"uniqueId": "2"}}, "names another device"),
        (
            lambda signer: signer.entry("1", provisioningTimestamp="2020-01-01T00:00:00Z"),
            "signer's certificate was not",
        ),
        (lambda signer: signer.entry("1", make_certificate(end=NOW)) | {"payload": "e30"}, "does not verify"),
        (lambda signer: 7, "no JSON"),
    ],
    ids=["stranger", "unsigned", "none", "empty", "header", "time", "payload", "number"],
)
def test_forged_entries_are_refused(tmp_path: Path, entry: Callable[[Signer], Any], reason: str) -> None:
    """Unsigned, signed by a stranger, with another algorithm, another header or payload, out of the signer's time."""
    signer = Signer()
    good = signer.entry("99", make_certificate())
    path = write(tmp_path / "a.json", json.dumps([good, entry(signer)]))
    rows, (fault,) = rows_of(path, signers=signer.write(tmp_path / "s"))
    assert (["99"], 2) == ([row.serial for row in rows], fault.number)
    assert reason in fault.reason


def test_a_truncated_manifest_gives_what_is_whole(tmp_path: Path) -> None:
    """The entries before the end, and one fault for the rest."""
    signer = Signer()
    text = json.dumps([signer.entry(str(number), make_certificate()) for number in range(3)])
    rows, faults = rows_of(write(tmp_path / "a.json", text[:-200]), signers=signer.write(tmp_path / "s"))
    assert (2, [3]) == (len(rows), [fault.number for fault in faults])


def test_signers_have_to_be_given(tmp_path: Path) -> None:
    """A list never brings its own; a folder without any is told."""
    path = write(tmp_path / "a.json", "[]")
    with pytest.raises(RequestError, match="verified against"):
        rows_of(path)
    with pytest.raises(EnvironmentFault, match="no certificate of a manifest signer"):
        rows_of(path, signers=tmp_path)


# --- Infineon -----------------------------------------------------------------------------------------------------


def bundles(path: Path) -> Path:
    """An archive with three bundles of the same chips."""
    with py7zr.SevenZipFile(path, "w") as archive:
        for bundle in infineon.BUNDLES:
            members = {f"0A091B5C0015000700{n:02X}_{bundle}.pem": cert().encode() for n in range(0x63, 0x67)}
            archive.writestr(packed(members), f"Manifest_1_{bundle}_Certs.7z")
    return path


@pytest.mark.parametrize("bundle", infineon.BUNDLES)
def test_an_infineon_archive(tmp_path: Path, bundle: str) -> None:
    """Each bundle has the chips, by chip id."""
    rows, faults = rows_of(bundles(tmp_path / "a.7z"), bundle=bundle)
    assert (4, [], "0A091B5C001500070063") == (len(rows), faults, rows[0].serial)


def test_an_infineon_archive_needs_a_bundle(tmp_path: Path) -> None:
    """The three are certificates of the same chips: only a person knows which."""
    with pytest.raises(EnvironmentFault, match=r"several bundles.*E0E0, E0E1, E0E2"):
        rows_of(bundles(tmp_path / "a.7z"))


def test_a_tampered_infineon_archive_is_refused(tmp_path: Path) -> None:
    """A byte changed in the packed data."""
    data = bytearray(bundles(tmp_path / "a.7z").read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(EnvironmentFault, match="cannot be unpacked"):
        rows_of(write(tmp_path / "b.7z", bytes(data)), bundle="E0E1")


def test_files_that_are_no_certificates_are_told(tmp_path: Path) -> None:
    """Of a bundle: another name, another bundle's, a damaged one; the good ones go on."""
    members = {
        "0A0A0A0A_E0E0.pem": cert().encode(),
        "0B0B0B0B_E0E1.pem": cert().encode(),
        "readme.txt": b"",
        "0C0C0C0C_E0E0.pem": cert().encode()[:200],
    }
    rows, faults = rows_of(seven_zip(tmp_path / "a.7z", members))
    assert (["0A0A0A0A"], 3) == ([row.serial for row in rows], len(faults))


@pytest.mark.parametrize("name", ["../evil_E0E0.pem", "/etc/0A0A0A0A_E0E0.pem", "..\\x.pem", "C:x.pem"])
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of such an archive is unpacked, wherever py7zr would have put it."""
    path = seven_zip(tmp_path / "a.7z", {"0A0A0A0A_E0E0.pem": b"x"})
    listed = py7zr.SevenZipFile.list

    def renamed(archive: py7zr.SevenZipFile) -> Any:
        found = listed(archive)
        for member in found:
            if member.filename.endswith(".pem"):
                member.filename = name
        return found

    monkeypatch.setattr(py7zr.SevenZipFile, "list", renamed)
    with pytest.raises(EnvironmentFault, match="leads elsewhere"):
        rows_of(path)


@pytest.mark.slow
def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of zeros in a few kilobytes, declared."""
    monkeypatch.setattr(infineon, "UNPACKED_LIMIT", 20_000_000)
    path = tmp_path / "a.7z"
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.writestr(bytes(21_000_000), "1_E0E0_Certs.7z")
    assert path.stat().st_size < 10_000
    with pytest.raises(EnvironmentFault, match="unpack to more than 20 MB"):
        rows_of(path)


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes that come out are counted, whatever size the archive claims."""
    monkeypatch.setattr(infineon, "UNPACKED_LIMIT", 10_000)
    listed = py7zr.SevenZipFile.list

    def lying(archive: py7zr.SevenZipFile) -> Any:
        found = listed(archive)
        for member in found:
            member.uncompressed = 1
        return found

    monkeypatch.setattr(py7zr.SevenZipFile, "list", lying)
    with pytest.raises(EnvironmentFault, match="unpack to more than"):
        rows_of(seven_zip(tmp_path / "a.7z", {"0A0A0A0A_E0E0.pem": bytes(50_000)}))
