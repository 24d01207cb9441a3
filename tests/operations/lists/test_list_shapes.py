"""Lists as makers, spreadsheets and consoles write them: chains, folders, DER, JSON arrays; and what is not read."""

from __future__ import annotations

import base64
import io
import json
import lzma
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import py7zr
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.formats import open_source, read_records, read_rows, write_again
from fleet_iot.operations.lists.infineon import MEMBER_LIMIT
from fleet_iot.operations.lists.record import Row
from fleet_iot.operations.registry.matching import Matching
from tests.operations.lists.builders import (
    DAY,
    NOW,
    Signer,
    cert,
    der,
    make_certificate,
    make_request,
    new_key,
    pem,
    quoted,
    rows_of,
    write,
)

# --- chains -------------------------------------------------------------------------------------------------------

ROOT_KEY, MIDDLE_KEY = new_key(), new_key()
ROOT = make_certificate("root", key=ROOT_KEY, signer=ROOT_KEY, issuer="root", is_authority=True)
MIDDLE = make_certificate("middle", key=MIDDLE_KEY, signer=ROOT_KEY, issuer="root", is_authority=True)


def leaf(name: str = "device", **options: Any) -> x509.Certificate:
    return make_certificate(name, signer=MIDDLE_KEY, issuer="middle", **options)


@pytest.mark.parametrize("length", [2, 3])
@pytest.mark.parametrize("shape", ["csv", "jsonl", "json", "array", "pem"])
def test_the_first_certificate_of_a_chain_is_the_devices(tmp_path: Path, shape: str, length: int) -> None:
    """The first certificate of a chain is the device's, each being issued by the next; the others are no devices."""
    leaves = [leaf(f"d{n}") for n in range(3)]
    chains = [[pem(each), pem(MIDDLE), pem(ROOT)][:length] for each in leaves]
    texts = {
        "csv": "name,certificate\n" + "".join(f"d{n},{quoted(''.join(c))}\n" for n, c in enumerate(chains)),
        "jsonl": "".join(json.dumps({"name": f"d{n}", "certificate": "".join(c)}) + "\n" for n, c in enumerate(chains)),
        "json": json.dumps([{"name": f"d{n}", "certificate": "".join(c)} for n, c in enumerate(chains)]),
        "array": json.dumps([{"name": f"d{n}", "certificates": c} for n, c in enumerate(chains)], indent=1),
        "pem": "".join("".join(chain) for chain in chains),
    }
    rows, faults = rows_of(write(tmp_path / "list", texts[shape]))
    assert ([each.fingerprint(hashes.SHA256()) for each in leaves], []) == (
        [row.material.fingerprint for row in rows],
        faults,
    )


@pytest.mark.parametrize(
    "chain",
    [
        [pem(MIDDLE), pem(leaf())],
        [pem(leaf()), pem(leaf())],
        [pem(leaf()), pem(ROOT)],
        [cert("device", signer=(key := new_key()), issuer="middle"), pem(MIDDLE)],
        [cert("b", signer=(key := new_key()), issuer="device"), cert("device", key=key)],
    ],
    ids=["reversed", "two devices", "gap", "forged", "issued by a device"],
)
def test_what_is_no_chain_is_refused(tmp_path: Path, chain: list[str]) -> None:
    """The order matters, and so do the signatures: none of these certificates is surely the device's."""
    rows, (fault,) = rows_of(write(tmp_path / "a.csv", "name,certificate\n", f"d,{quoted(''.join(chain))}\n"))
    assert [] == rows and ("did not issue" in fault.reason or "authority's" in fault.reason)


def test_devices_that_name_each_other_are_no_chain_in_pem(tmp_path: Path) -> None:
    """Self-signed certificates of one name, one after the other, are devices each."""
    texts = [cert("device", key=key, signer=key, issuer="device") for key in (new_key(), new_key(), new_key())]
    rows, faults = rows_of(write(tmp_path / "a.pem", *texts))
    assert (3, []) == (len(rows), faults)


def test_an_issuer_vouches_through_a_chain(tmp_path: Path) -> None:
    """--issuer may be the root; without the one between, the certificate is not its; nor with one that has expired."""
    old_key = new_key()
    old = make_certificate(
        "middle", key=old_key, signer=ROOT_KEY, issuer="root", is_authority=True, start=NOW - 9 * DAY, end=NOW - DAY
    )
    cells = [
        pem(leaf("a")) + pem(MIDDLE),
        pem(leaf("b")),
        pem(make_certificate("c", signer=old_key, issuer="middle")) + pem(old),
    ]
    path = write(tmp_path / "a.csv", "name,cert\n", *(f"{n},{quoted(cell)}\n" for n, cell in enumerate(cells)))
    found = list(read_rows(open_source(path, format_name="csv"), now=NOW, issuers=[ROOT]))
    assert [True, False, False] == [isinstance(each, Row) for each in found]


# --- spreadsheets and cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_what_spreadsheets_add_is_nothing(tmp_path: Path, mark: str, end: str) -> None:
    """A byte order mark, `sep=`, a trailing delimiter, rows without a value; entries keep their numbers and lines."""
    rows = [f"d{n}{mark}{quoted(cert().strip())}{mark}{mark}{end}" for n in range(2)]
    text = (
        f"\ufeffsep={mark}{end}Name{mark}Certificate{mark}{end}{rows[0]}{mark}{mark}{end}{rows[1]}{mark * 3}{end}{end}"
    )
    path = write(tmp_path / "a.csv", text)
    found, faults = rows_of(path)
    assert ([("d0", 1), ("d1", 2)], []) == ([(row.name, row.number) for row in found], faults)
    source = open_source(path, format_name="auto")
    write_again(source, tmp_path / "again", (each for each in read_records(source) if each.number == 2))
    assert ["d1"] == [row.name for row in rows_of(tmp_path / "again")[0]]


def encodings(signed: Any) -> dict[str, str]:
    """One certificate or CSR in the ways in which a cell may hold it."""
    text = pem(signed)
    return {
        "escaped": text.replace("\n", "\\n"),
        "escaped with CR": text.replace("\n", "\\r\\n"),
        "one line": text.replace("\n", " "),
        "base64 of DER": base64.b64encode(der(signed)).decode(),
        "base64 of PEM": base64.b64encode(text.encode()).decode(),
        "text before it": f"subject=CN = device\nissuer=CN = maker\n{text}",
    }


@pytest.mark.parametrize("way", encodings(make_request()))
def test_cells_hold_certificates_and_csrs_in_many_ways(tmp_path: Path, way: str) -> None:
    """Line breaks written out, blanks for them, base64 of DER and of PEM."""
    certificate, request = make_certificate(), make_request()
    text = "name,cert,csr\n" + f"a,{quoted(encodings(certificate)[way])},\nb,,{quoted(encodings(request)[way])}\n"
    rows, faults = rows_of(write(tmp_path / "a.csv", text))
    assert ([der(certificate), der(request)], []) == ([row.material.der for row in rows], faults)


def test_rainmaker_names_devices_by_node_id(tmp_path: Path) -> None:
    """`node_id,certs,qrcode`: the row may be paired by the node's id, and need not."""
    code = '"{""ver"": ""v1"", ""name"": ""PROV_0"", ""pop"": ""0000""}"'
    (row,), faults = rows_of(
        write(tmp_path / "a.csv", "node_id,certs,qrcode\n", f"node-0,{quoted(cert('node-0'))},{code}\n")
    )
    assert ("node-0", False, []) == (row.serial, row.must_match, faults)


# --- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"ThingName": "a", "SerialNumber": "S1", "CSR": pem(make_request())},
        {
            "thing": {"name": "a", "serial": {"number": "S1"}},
            "credentials": {"csr": pem(make_request())},
        },
        {"device": {"thingName": "a", "serial_no": "S1"}, "pki": {"device": {"CSR_PEM": pem(make_request())}}},
        {"thing-name": "a", "serial.number": "S1", "certificatePem": cert()},
    ],
    ids=["AWS bulk", "nested", "deep", "spelt"],
)
def test_json_keys_are_headings(tmp_path: Path, entry: dict[str, Any]) -> None:
    """However they are spelt and nested, on lines and in an array."""
    for text in (json.dumps(entry) + "\n", json.dumps([entry], indent=2)):
        (row,), faults = rows_of(write(tmp_path / "list", text))
        assert ("a", "S1", []) == (row.name, row.serial, faults)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"serial": "a", "serial": "b", "cert": "x"}', "'serial' and 'serial' disagree"),
        ('{"serial": "a", "Serial-No": "b", "cert": "x"}', "'serial' and 'Serial-No' disagree"),
        ('{"mac": ["aa:bb:cc:dd:ee:ff", "aa:bb:cc:dd:ee:00"], "cert": "x"}', "disagree"),
        ('{"serial": 12345678901234567890.0, "cert": "x"}', "digits may be lost"),
        ('{"serial": "\\ud800", "cert": "x"}', "half a character"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "nested too deep"),
        ("[" * 50_000, "nested too deep"),
        ('{"serial": ' + "9" * 10_000 + "}", "is no JSON object"),
        ('{"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}', "nested too deep"),
    ],
    ids=["twice", "two spellings", "two values", "float", "surrogate", "deep", "arrays", "huge", "nine levels"],
)
def test_json_that_says_nothing_sure_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """The line before and the line after it are read."""
    good = [json.dumps({"serial": f"s{n}", "cert": cert()}) for n in range(2)]
    rows, (fault,) = rows_of(write(tmp_path / "a.jsonl", f"{good[0]}\n{text}\n{good[1]}\n"))
    assert 2 == len(rows) and reason in fault.reason


def test_a_broken_element_leaves_the_next_ones_alone(tmp_path: Path) -> None:
    """Cut off, not UTF-8, nested without end, no object: the array goes on after each."""
    good = [json.dumps({"serial": f"s{n}", "cert": cert()}).encode() for n in range(6)]
    broken = [good[5][:300], b'{"serial": "\xff"}', b'{"a":' * 40_000, b"7", b']"serial": "x}']
    parts = [part for pair in zip(good, broken, strict=False) for part in pair] + [good[5]]
    rows, faults = rows_of(write(tmp_path / "a.json", b"[" + b",\n".join(parts) + b"]"))
    assert ([f"s{n}" for n in range(6)], 5) == ([row.serial for row in rows], len(faults))


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_of_certificates(tmp_path: Path) -> None:
    """As AWS's console names them, in PEM or DER, with their CSRs beside; other files are passed over."""
    key = new_key()
    certificates = {name: make_certificate(name, key=key if name == "c" else None) for name in "abcd"}
    write(tmp_path / "a-certificate.pem.crt", pem(certificates["a"]))
    write(tmp_path / "b.DER", der(certificates["b"]))
    write(tmp_path / "c.cer", der(certificates["c"]))
    write(tmp_path / "c.csr", pem(make_request("c", key=key)))
    write(
        tmp_path / f"{certificates['d'].fingerprint(hashes.SHA256()).hex()}-certificate.pem.crt", pem(certificates["d"])
    )
    write(tmp_path / "e.der", der(make_request("e")))
    write(tmp_path / "a-public.pem.key", "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n")
    write(tmp_path / "README", "…")
    rows, faults = rows_of(tmp_path)
    found = {row.name: (row.must_match, row.material.is_certificate) for row in rows}
    assert {"a": (True, True), "b": (True, True), "c": (True, True), "d": (False, True), "e": (True, False)} == found
    assert [] == faults


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    """It may lead out of what was handed in."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.pem").symlink_to(write(tmp_path / "elsewhere.pem", cert()))
    rows, (fault,) = rows_of(folder)
    assert ([], b"") == (rows, fault.raw) and "is a link" in fault.reason


def test_a_csr_beside_another_keys_certificate_is_told(tmp_path: Path) -> None:
    """Files of one name are of one device."""
    write(tmp_path / "a.crt", cert())
    write(tmp_path / "a.csr", pem(make_request()))
    assert "not the CSR's" in rows_of(tmp_path)[1][0].reason


# --- what is not read, and why ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04rest", "ZIP archive or a spreadsheet"),
        (b"-----BEGIN PKCS7-----\nMII=\n-----END PKCS7-----\n", "PKCS #7"),
        (bytes.fromhex("3082010006092a864886f70d010702"), "is DER"),
        ("name,cert\n".encode("utf-16"), "UTF-16"),
        ("name,cert\n".encode("utf-16-le"), "NUL"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"  \n", "is empty"),
        (b'dev-1,tag,1.0,"-----BEGIN CERTIFICATE-----\nMII', "has no header"),
        (b"name;serial;site\n", "begins with 'name;serial;site'"),
    ],
)
def test_files_that_are_not_read_say_what_they_are(tmp_path: Path, data: bytes, what: str) -> None:
    """And what to do with them."""
    path = write(tmp_path / "list", data)
    with pytest.raises(EnvironmentFault, match=what) as caught:
        rows_of(path)
    assert caught.value.hint


def test_a_path_in_place_of_a_certificate_is_told(tmp_path: Path) -> None:
    """The file is not opened: a list is data."""
    write(tmp_path / "d1.pem", cert())
    rows, (fault,) = rows_of(write(tmp_path / "a.csv", "name,certificate\n", f"d1,{tmp_path}/d1.pem\n"))
    assert [] == rows and "is the path of a file" in fault.reason


# --- certificates that are not quite as the standard has them -------------------------------------------------------


def near_standard(*, is_authority: bool, key: Any, extension: bytes | None = None) -> x509.Certificate:
    """A certificate as Microchip's: its SAN's directory name has `eui48_…` as a PrintableString, which has no `_`.

    The library refuses to read any of its extensions; signed again after the change, so genuine."""
    name = x509.Name([x509.NameAttribute(NameOID.SERIAL_NUMBER, "eui48=0004A3112233")])
    alternative = x509.SubjectAlternativeName([x509.DirectoryName(name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sn0123F1C1C1C1C1C1")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 900 * DAY)
    )
    if extension is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), extension), critical=False
        )
    else:
        builder = builder.add_extension(alternative, critical=False)
    built = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    changed = der(built.sign(new_key(), hashes.SHA256())).replace(b"eui48=", b"eui48_")
    return x509.load_der_x509_certificate(changed.replace(b"\x0c\x12eui48_", b"\x13\x12eui48_"))


def test_a_near_standard_certificate_of_microchips_kind_is_read(tmp_path: Path) -> None:
    """In a signed manifest; of its extensions BasicConstraints alone matters."""
    certificate = near_standard(is_authority=False, key=new_key())
    with pytest.raises(ValueError, match="PrintableString"):
        _ = certificate.extensions
    signer = Signer()
    entries = [signer.entry(f"0123F{n}", near_standard(is_authority=False, key=new_key())) for n in range(3)]
    path = write(tmp_path / "a.json", json.dumps(entries))
    rows, faults = rows_of(path, signers=signer.write(tmp_path / "s"))
    assert (3, []) == (len(rows), faults)


def test_a_near_standard_authority_is_still_one(tmp_path: Path) -> None:
    """Whatever another extension looks like."""
    path = write(tmp_path / "a.pem", pem(near_standard(is_authority=True, key=new_key())), cert())
    rows, (fault,) = rows_of(path)
    assert 1 == len(rows) and "an authority's" in fault.reason


@pytest.mark.parametrize("value", ["3004a3023000", "3004a5020500", "30", "ff" * 40])
def test_odd_alternative_names_stop_no_list(tmp_path: Path, value: str) -> None:
    """X.400 and EDI names, and none at all, in a SAN: nobody here reads it."""
    odd = near_standard(is_authority=False, key=new_key(), extension=bytes.fromhex(value))
    rows, faults = rows_of(write(tmp_path / "a.pem", cert(), pem(odd), cert()))
    assert (3, []) == (len(rows), faults)


def test_an_extension_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Which of two BasicConstraints counts, nobody can say."""
    odd = near_standard(is_authority=False, key=new_key(), extension=b"0\0")
    twice = der(odd).replace(bytes.fromhex("0603551d11"), bytes.fromhex("0603551d13"))
    text = "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(twice).decode() + "-----END CERTIFICATE-----\n"
    rows, (fault,) = rows_of(write(tmp_path / "a.pem", cert(), text, cert()))
    assert 2 == len(rows) and "extensions cannot be read" in fault.reason


def test_a_csr_of_another_version_is_refused(tmp_path: Path) -> None:
    """`set_version(2)`, a mistake that many programs make."""
    request = der(make_request())
    odd = base64.b64encode(request.replace(b"\x02\x01\x00", b"\x02\x01\x02", 1)).decode()
    good = [base64.b64encode(der(make_request())).decode() for _ in range(2)]
    rows, (fault,) = rows_of(write(tmp_path / "a.csv", "name,csr\n", f"a,{good[0]}\nb,{odd}\nc,{good[1]}\n"))
    assert (["a", "c"], True) == ([row.name for row in rows], "not a valid CSR version" in fault.reason)


# --- archives made to harm ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_archive_that_declares_millions_of_files_is_refused_early(tmp_path: Path) -> None:
    """Two kilobytes whose header declares eight million files; nothing is made of them."""
    data = header_bomb(8_000_000)
    assert len(data) < 10_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EnvironmentFault, match=f"{MEMBER_LIMIT:,} files"):
        rows_of(write(tmp_path / "a.7z", data))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def header_bomb(files: int) -> bytes:
    """A 7z archive whose packed header declares so many files, and has a byte of padding for each."""
    many = bytes([0xE0 | files >> 24]) + files.to_bytes(4, "little")[:3]
    header = b"\x01\x05" + many + b"\x19" + many + bytes(files) + b"\0\0"
    packed = lzma.compress(header, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 24}])

    def number(value: int) -> bytes:
        return b"\xff" + value.to_bytes(8, "little")

    streams = b"\x17\x06" + number(0) + b"\x01\x09" + number(len(packed)) + b"\0"
    coders = b"\x07\x0b\x01\0\x01\x21\x21\x01\x18\x0c" + number(len(header))
    encoded = streams + coders + b"\x0a\x01" + struct.pack("<L", zlib.crc32(header)) + b"\0\0"
    start = struct.pack("<QQL", len(packed), len(encoded), zlib.crc32(encoded))
    return b"7z\xbc\xaf\x27\x1c\0\x04" + struct.pack("<L", zlib.crc32(start)) + start + packed + encoded


def test_an_inner_archive_is_held_to_the_same_limits(tmp_path: Path) -> None:
    """The one within is opened as the one around it."""
    packed = io.BytesIO()
    with py7zr.SevenZipFile(packed, "w") as archive:
        archive.writestr(header_bomb(8_000_000), "1_E0E0_Certs.7z")
    with pytest.raises(EnvironmentFault, match=r"bundle E0E0 would unpack"):
        rows_of(write(tmp_path / "a.7z", packed.getvalue()))


# --- private keys ---------------------------------------------------------------------------------------------------

KEY = new_key()


def key_forms() -> dict[str, str]:
    """One private key in the forms in which lists hold them."""
    private, none = serialization.PrivateFormat, serialization.NoEncryption()
    encodings, forms = serialization.Encoding, {}
    for name, format_ in (("PKCS8", private.PKCS8), ("SEC1", private.TraditionalOpenSSL)):
        text = KEY.private_bytes(encodings.PEM, format_, none).decode()
        data = KEY.private_bytes(encodings.DER, format_, none)
        forms |= {
            f"{name} PEM": text,
            f"{name} PEM escaped": text.replace("\n", "\\n"),
            f"{name} base64 of PEM": base64.b64encode(text.encode()).decode(),
            f"{name} base64 of DER": base64.b64encode(data).decode(),
            f"{name} base64url of DER": base64.urlsafe_b64encode(data).decode().rstrip("="),
            f"{name} hexadecimal": data.hex(),
        }
    return forms


@pytest.mark.slow
@pytest.mark.parametrize("form", key_forms())
@pytest.mark.parametrize("heading", ["private_key", "Key", "PrivKey", "notes"])
@pytest.mark.parametrize("shape", ["csv", "jsonl", "json"])
def test_a_private_key_is_noticed_in_any_form(tmp_path: Path, form: str, heading: str, shape: str) -> None:
    """Its row is refused, whatever its column is called, and nothing of it is written again; its neighbours go on."""
    text = key_forms()[form]
    others = [cert(), cert()]
    cells = [(others[0], ""), (pem(make_certificate(key=KEY)), text), (others[1], "")]
    dicts = [{"serial": f"s{n}", "cert": c, heading: k} for n, (c, k) in enumerate(cells)]
    lists = {
        "csv": f"serial,cert,{heading}\n"
        + "".join(f"s{n},{quoted(c)},{quoted(k)}\n" for n, (c, k) in enumerate(cells)),
        "jsonl": "".join(json.dumps(each) + "\n" for each in dicts),
        "json": json.dumps(dicts),
    }
    path = write(tmp_path / "list", lists[shape])
    rows, (fault,) = rows_of(path)
    assert ["s0", "s2"] == [row.serial for row in rows]
    assert "contains a private key" in fault.reason and fault.raw == b""
    source = open_source(path, format_name="auto")
    write_again(source, tmp_path / "again", read_records(source))
    secret = text.replace("\\n", "\n").splitlines()[-2 if "\n" in text or "\\n" in text else 0][10:40]
    assert secret in path.read_text() and secret not in (tmp_path / "again").read_text()


@pytest.mark.parametrize("order", ["before", "after", "far"])
def test_a_key_beside_its_certificate_compromises_it(tmp_path: Path, order: str) -> None:
    """In PEM: the block of the key and the certificate that bears it are both refused, wherever they stand."""
    private = serialization.PrivateFormat.PKCS8
    key = KEY.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()).decode()
    own = pem(make_certificate(key=KEY))
    texts = {
        "before": [key, own, cert(), cert()],
        "after": [cert(), own, key, cert()],
        "far": [own, cert(), cert(), key],
    }
    path = write(tmp_path / "a.pem", *texts[order])
    matching = Matching(suffix="dev", by_order=True)
    things = [
        ThingRow(name=f"t-{n}-dev", thing_type="t", device_type="t", serial=f"{n}", attributes={}) for n in range(9)
    ]
    matching.add_things(things, is_taken=lambda _: False)
    matching.add_rows(read_rows(open_source(path, format_name="auto"), now=NOW), key_owner=lambda _: None)
    reasons = [fault.reason for fault in matching.faults()]
    assert (2, 2) == (len(list(matching.pairs())), len(reasons))
    assert all("private key" in reason for reason in reasons)
    matching.close()


def test_a_jwk_with_its_private_part_is_noticed(tmp_path: Path) -> None:
    """`d` beside `kty`."""
    entry = {"serial": "1", "cert": cert(), "jwk": {"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "c"}}
    assert "contains a private key" in rows_of(write(tmp_path / "a.jsonl", json.dumps(entry)))[1][0].reason


def test_a_public_key_is_no_private_one(tmp_path: Path) -> None:
    """A column `key` may hold it."""
    spki = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    rows = [
        f"s{n},{quoted(cert())},{quoted(key)}\n"
        for n, key in enumerate([base64.b64encode(spki).decode(), text.decode()])
    ]
    assert [] == rows_of(write(tmp_path / "a.csv", "serial,cert,key\n", *rows))[1]


def test_failures_are_their_owners_alone(tmp_path: Path) -> None:
    """Nobody else can read a list of failures, in a file or a folder."""
    path = write(tmp_path / "a.csv", "name,cert\n", f"a,{quoted(cert())}\n")
    write_again(source := open_source(path, format_name="auto"), tmp_path / "again", read_records(source))
    assert 0o600 == (tmp_path / "again").stat().st_mode & 0o777
