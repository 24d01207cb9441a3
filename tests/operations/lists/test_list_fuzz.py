"""Damaged lists of every format: what is broken becomes the fault of its row, and its neighbours are onboarded."""

from __future__ import annotations

import base64
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import py7zr
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fleet_iot.generator.diagnostics import EnvironmentFault, FleetError, RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.formats import open_source, read_records, read_rows, write_again
from fleet_iot.operations.lists.record import Fault, Row
from fleet_iot.operations.registry.matching import Matching
from tests.operations.lists.builders import (
    NOW,
    Signer,
    make_certificate,
    make_request,
    new_key,
    pem,
    seven_zip,
)

INPUTS = int(os.environ.get("FLEET_FUZZ_LISTS", "20000"))
"""Damaged inputs over all formats; `make soak` takes 200,000."""
BROKEN = 12
"""Damaged entries in one list, each between two good ones."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::Warning")]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format's good entries, what an entry is that may be damaged, and how a list is made of them."""

    name: str
    entries: Callable[[], list[bytes]]
    join: Callable[[list[bytes]], bytes]


@cache
def materials() -> tuple[list[str], list[str]]:
    """PEM of certificates and of CSRs with keys of the kinds that devices have, as many as a list has good entries."""
    signer = new_key()
    rsa_key = rsa.generate_private_key(65537, 2048)
    keys = [rsa_key, ec.generate_private_key(ec.SECP384R1()), *(new_key() for _ in range(BROKEN + 3))]
    certificates = [pem(make_certificate(f"chip-{n}", key=key, signer=signer)) for n, key in enumerate(keys)]
    return certificates, [pem(make_request(f"chip-{n}", key=key)) for n, key in enumerate(keys)]


@cache
def signer() -> Signer:
    return Signer()


def name_of(number: int) -> str:
    """The name of a good entry, or one that no damage turns into such a name."""
    return f"chip-{number}" if number <= BROKEN else f"another-kind-of-machine-{number}"


def flat(text: str) -> str:
    """The base64 of a PEM block on one line."""
    return "".join(text.splitlines()[1:-1])


def _csv(mark: str, quote: bool, header: str) -> tuple[Callable[[], list[bytes]], Callable[[list[bytes]], bytes]]:
    def entries() -> list[bytes]:
        texts = [f'"{text}"' if quote else flat(text) for text in materials()[0]]
        return [f"{name_of(n)}{mark}SN-{name_of(n)}{mark}{text}".encode() for n, text in enumerate(texts)]

    return entries, lambda parts: header.encode() + b"\n" + b"".join(part + b"\n" for part in parts)


def _lines(parts: list[bytes]) -> bytes:
    return b"".join(part.rstrip(b"\n") + b"\n" for part in parts)


def _json(**fields: int) -> Callable[[], list[bytes]]:
    def entries() -> list[bytes]:
        return [
            json.dumps(
                {name: materials()[index][n] for name, index in fields.items()} | {"ThingName": name_of(n)}
            ).encode()
            for n in range(len(materials()[0]))
        ]

    return entries


def _signed() -> list[bytes]:
    from cryptography import x509

    loaded = [x509.load_pem_x509_certificate(text.encode()) for text in materials()[0]]
    return [json.dumps(signer().entry(f"0123{n:04d}", each)).encode() for n, each in enumerate(loaded)]


def _array(parts: list[bytes]) -> bytes:
    return b"[\n" + b",\n".join(parts) + b"\n]\n"


FORMATS = [
    Format(name="csv", entries=(made := _csv(",", False, "name,serial,certificate"))[0], join=made[1]),
    Format(name="csv", entries=(made := _csv(";", True, "Thing Name;Serial No.;Certificate"))[0], join=made[1]),
    Format(name="espressif", entries=(made := _csv(",", True, "cn,MAC,cert"))[0], join=made[1]),
    Format(name="jsonl", entries=_json(certificate=0), join=_lines),
    Format(name="jsonl", entries=_json(CSR=1), join=_lines),
    Format(name="json", entries=_json(certificatePem=0, csr=1), join=_array),
    Format(name="microchip", entries=_signed, join=_array),
    Format(name="pem", entries=lambda: [text.encode() for text in materials()[0]], join=b"".join),
    Format(name="pem", entries=lambda: [text.encode() for text in materials()[1]], join=b"".join),
    Format(name="plain", entries=lambda: [flat(text).encode() for text in materials()[0]], join=_lines),
]
SHARE = INPUTS // (len(FORMATS) + 4)


def damaged(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """The bytes flipped, cut short, or with a part of another entry or of anything in them."""
    match dice.randrange(8):
        case 0:
            return data[: dice.randrange(len(data))]
        case 1:
            at, other = dice.randrange(len(data)), dice.choice(others)
            begin = dice.randrange(len(other))
            return data[:at] + other[begin : begin + dice.randrange(1, 200)] + data[at + dice.randrange(200) :]
        case 2:
            at = dice.randrange(len(data))
            return data[:at] + dice.choice(PIECES) + data[at + dice.randrange(20) :]
        case _:
            flipped = bytearray(data)
            for _ in range(dice.choice([1, 1, 1, 2, 8])):
                flipped[dice.randrange(len(data))] = dice.choice(
                    [dice.randrange(256), ord(dice.choice('",{}[]\\-=+/Aa0'))]
                )
            return bytes(flipped)


PIECES = [
    *(
        b"\0",
        b'"',
        b"\\",
        b"\r\n",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"[" * 3_000,
        b'{"a":' * 3_000,
        b"9" * 5_000,
        b"\\ud800",
    ),
    *(b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----", b",,,,", b"1e999", b"null", b"'", b"\xe2\x80\xae"),
]


def damaged_material(text: str, others: list[bytes], dice: random.Random) -> str:
    """A PEM block whose DER is damaged, so that the damage gets past base64."""
    label = text.splitlines()[0].strip("-").removeprefix("BEGIN ")
    broken = base64.encodebytes(damaged(base64.b64decode(flat(text)), others, dice)).decode()
    return f"-----BEGIN {label}-----\n{broken}-----END {label}-----\n"


def check(path: Path, good: set[bytes], *, format_name: str, damaged_inputs: str) -> None:
    """Reads and pairs the list: every good entry is a row, and nothing but faults comes of the others."""
    source = open_source(path, format_name=format_name, signers=path.parent / "signers")
    found = list(read_rows(source, now=NOW))
    assert all(isinstance(each, Row | Fault) for each in found)
    faults = [each for each in found if isinstance(each, Fault)]
    assert all(fault.reason and fault.remedy and fault.place for fault in faults)
    rows = {each.material.fingerprint for each in found if isinstance(each, Row)}
    assert good <= rows, damaged_inputs
    matching = Matching(suffix="dev", by_order=True)
    things = [
        ThingRow(name=f"chip-{n}-dev", thing_type="t", device_type="chip", serial=f"S{n}", attributes={})
        for n in range(8)
    ]
    matching.add_things(things, is_taken=lambda _: False)
    try:
        matching.add_rows(found, key_owner=lambda _: None)
        assert len(list(matching.pairs())) + len(list(matching.faults())) == len(found)
    except RequestError:
        pass  # a damaged key became a heading that looks like an identity: the list is refused
    finally:
        matching.close()


@pytest.fixture(autouse=True)
def signers(tmp_path: Path) -> None:
    signer().write(tmp_path / "signers")


@pytest.mark.parametrize("number", range(len(FORMATS)), ids=lambda number: f"{number}-{FORMATS[number].name}")
def test_a_damaged_entry_is_its_own_fault(tmp_path: Path, number: int) -> None:
    """Bytes flipped, cut off and spliced, in the entry as written and in the DER within it, between good neighbours."""
    form = FORMATS[number]
    entries = form.entries()
    good, spare = entries[: BROKEN + 1], entries[BROKEN + 1 :]
    texts = materials()[1 if b"REQUEST" in good[0] else 0]
    der_of = [base64.b64decode(flat(text)) for text in texts]
    path = tmp_path / "list"
    path.write_bytes(form.join(good))
    wanted = {
        row.material.fingerprint
        for row in read_rows(open_source(path, format_name=form.name, signers=tmp_path / "signers"), now=NOW)
        if isinstance(row, Row)
    }
    assert len(good) == len(wanted)
    dice = random.Random(number)
    for _ in range(-(-SHARE // BROKEN)):
        broken = []
        for _ in range(BROKEN):
            entry = spare[0]
            if form.name != "microchip" and dice.random() < 0.5:
                entry = replaced(
                    entry, texts[BROKEN + 1], damaged_material(texts[BROKEN + 1], der_of[BROKEN + 2 :], dice)
                )
            else:
                entry = damaged(entry, spare[1:], dice)
            broken.append(entry if form.name != "pem" or entry.endswith(b"\n") else entry + b"\n")
        parts = [part for pair in zip(good, broken, strict=False) for part in pair] + [good[-1]]
        path.write_bytes(form.join(parts))
        check(path, wanted, format_name=form.name, damaged_inputs=repr(broken))


def replaced(entry: bytes, old: str, new: str) -> bytes:
    """The entry with another PEM block, however that is written in it."""
    for spelt in (str, flat, lambda text: json.dumps(text)[1:-1]):
        if spelt(old).encode() in entry:
            return entry.replace(spelt(old).encode(), spelt(new).encode())
    raise AssertionError("the entry has not the block")


def test_a_damaged_file_of_a_folder_is_its_own_fault(tmp_path: Path) -> None:
    """PEM and DER, certificates and CSRs."""
    dice = random.Random(1)
    folder = tmp_path / "folder"
    folder.mkdir()
    certificates, requests = materials()
    for n in range(3):
        (folder / f"good-{n}.crt").write_text(certificates[n])
    wanted = {
        row.material.fingerprint
        for row in read_rows(open_source(folder, format_name="auto"), now=NOW)
        if isinstance(row, Row)
    }
    spare = [text.encode() for text in (*certificates[4:], *requests[4:])]
    spare += [base64.b64decode(flat(text)) for text in (*certificates[4:], *requests[4:])]
    for _ in range(-(-SHARE // BROKEN)):
        for n in range(BROKEN):
            suffix = dice.choice([".pem", ".der", ".csr", ".cer"])
            (folder / f"broken-{n}.pem").with_suffix(suffix).write_bytes(damaged(dice.choice(spare), spare, dice))
        check(folder, wanted, format_name="auto", damaged_inputs=str(folder))
        for file in folder.glob("broken-*"):
            file.unlink()


@pytest.mark.parametrize("part", ["outer", "inner", "member"])
def test_a_damaged_archive_is_refused_or_read(tmp_path: Path, part: str) -> None:
    """Infineon's: bytes of the outer or inner archive, or of members beside good ones."""
    dice = random.Random(part)
    certificates = [text.encode() for text in materials()[0]]
    good = {f"0A0A0A{n:02X}_E0E0.pem": text for n, text in enumerate(certificates[:3])}
    path = tmp_path / "list.7z"
    whole = seven_zip(path, good).read_bytes()
    wanted = {row.material.fingerprint for row in read_rows(open_source(path, format_name="auto"), now=NOW)}
    inner = stored(good)
    for _ in range(SHARE // (BROKEN if part == "member" else 4)):
        if part == "outer":
            path.write_bytes(damaged(whole, [whole], dice))
        elif part == "inner":
            path.write_bytes(stored({"1_E0E0_Certs.7z": damaged(inner, [inner], dice)}))
        else:
            broken = {
                f"0B0B0B{n:02X}_E0E0.pem": damaged(certificates[5], certificates[6:], dice) for n in range(BROKEN)
            }
            path.write_bytes(stored({"1_E0E0_Certs.7z": stored({**good, **broken})}))
        try:
            check(path, wanted if part == "member" else set(), format_name="infineon", damaged_inputs=part)
        except EnvironmentFault:
            assert part != "member"


def stored(members: dict[str, bytes]) -> bytes:
    """An archive without compression, so that damage gets past it."""
    packed = io.BytesIO()
    with py7zr.SevenZipFile(packed, "w", filters=[{"id": py7zr.FILTER_COPY}]) as archive:
        for name, data in members.items():
            archive.writestr(data, name)
    return packed.getvalue()


@cache
def entries_of(name: str) -> list[bytes]:
    return next(form for form in FORMATS if form.name == name).entries()


def test_any_file_is_a_list_or_refused(tmp_path: Path) -> None:
    """The format is guessed, so that any reader may get any bytes; and what failed is written again."""
    dice = random.Random(3)
    path = tmp_path / "list"
    for _ in range(SHARE):
        form = dice.choice(FORMATS)
        entries = entries_of(form.name)[:3]
        path.write_bytes(damaged(form.join(entries), entries, dice))
        try:
            source = open_source(path, format_name="auto", signers=tmp_path / "signers")
            check(path, set(), format_name=source.format, damaged_inputs=repr(path.read_bytes()))
            write_again(source, tmp_path / "again", read_records(source))
        except FleetError:
            continue


def test_a_private_key_is_noticed_however_it_is_damaged_around(tmp_path: Path) -> None:
    """A list with a key in one of its rows gives that row as a fault, and no byte of it to the file of failures."""
    dice = random.Random(4)
    key = new_key()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = tmp_path / "list.csv"
    entries = FORMATS[0].entries()
    for _ in range(min(SHARE, 500)):
        row = damaged(entries[0], entries[1:], dice).replace(b"\n", b"") + b"," + flat(secret).encode()
        path.write_bytes(FORMATS[0].join([*entries[1:3], row, *entries[3:5]]))
        source = open_source(path, format_name="csv")
        rows = list(read_rows(source, now=NOW))
        assert 4 <= sum(isinstance(each, Row) for each in rows)
        write_again(source, tmp_path / "again", read_records(source))
        assert flat(secret).encode()[20:60] not in (tmp_path / "again").read_bytes()
