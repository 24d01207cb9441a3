"""However a list calls its columns and spells names, serials and MACs: no certificate goes to another thing."""

from __future__ import annotations

import base64
import json
import os
import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.lib.record.spelling import canonical, is_same
from fleet_iot.operations.lists.formats import open_source, read_rows
from fleet_iot.operations.lists.headings import normalised
from fleet_iot.operations.registry.matching import Matching
from tests.operations.lists.builders import DAY, NOW, der, make_certificate, new_key, pem, write

DEVICES = 1_000
SEEDS = range(int(os.environ.get("FLEET_PAIRINGS", "1")))
"""`make soak` shuffles and respells ten times, and gives each heading every kind of identity."""

PRIVATE = new_key().private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)

Respell = Callable[[str, random.Random], str]
HEADINGS = [
    "Serial Number",
    "serial_number",
    "serialNumber",
    "Serial No.",
    '"SN"',
    "S/N",
    "DEVICE SERIAL-NUMBER",
    "Device ID",
    "MAC Address",
    "mac",
    "thingName",
    "unique.id",
]


def planned(serials: Iterable[str]) -> list[ThingRow]:
    """A plant whose things have these serials."""
    return [
        ThingRow(
            name=f"sg-01-press-n{number}-dev",
            thing_type="type-press",
            device_type="press",
            serial=serial,
            attributes={},
        )
        for number, serial in enumerate(serials)
    ]


@cache
def certificates() -> list[tuple[bytes, bytes]]:
    """Base64 and fingerprint of a certificate for each device."""
    signer = new_key()
    made = [make_certificate("a chip", signer=signer) for _ in range(DEVICES)]
    return [(base64.b64encode(der(each)), each.fingerprint(hashes.SHA256())) for each in made]


def serial_spelling(serial: str, dice: random.Random) -> str:
    """Case, white space around and between, quotes, other separators."""
    serial = dice.choice([str.lower, str.upper, str.swapcase])(serial)
    serial = serial.replace("-", dice.choice(["-", " ", "_", "", " - "]))
    return dice.choice(["", " ", "\u00a0"]) + serial + dice.choice(["", "  "])


def mac_spelling(mac: str, dice: random.Random) -> str:
    """As switches, spreadsheets and programs write it."""
    mac = dice.choice([str.lower, str.upper])(mac)
    size, mark = dice.choice([(2, ":"), (2, "-"), (4, "."), (12, ""), (2, " "), (6, "-")])
    spelt = mark.join(mac[at : at + size] for at in range(0, 12, size))
    return dice.choice(["", "0x", "MAC:", "eui48_"]) + spelt if size == 12 else spelt


def uuid_spelling(value: str, dice: random.Random) -> str:
    """With braces, as a URN, without dashes."""
    value = dice.choice([value, value.upper(), value.replace("-", "")])
    return dice.choice(["{%s}", "urn:uuid:%s", "%s"]) % value


def number_spelling(value: str, dice: random.Random) -> str:
    """As a spreadsheet leaves a number: without leading zeros, or as a text."""
    return dice.choice([value.lstrip("0"), f"'{value}", value, f"{value}.0", f" {value} "])


KINDS: dict[str, tuple[Callable[[random.Random, int], str], Respell]] = {
    "serial": (lambda dice, n: f"SN-{dice.randrange(16**6):06X}-{n}", serial_spelling),
    "mac": (lambda dice, n: f"{dice.randrange(16**8):08X}{n:04X}", mac_spelling),
    "uuid": (lambda dice, n: str(uuid.UUID(int=dice.getrandbits(128))), uuid_spelling),
    "number": (lambda dice, n: f"{dice.randrange(900):05d}{n:04d}", number_spelling),
}


def matched(path: Path, things: list[ThingRow], **options: object) -> tuple[dict[str, bytes], int]:
    """Thing → fingerprint of the certificate that it gets, and how many rows were refused."""
    matching = Matching(suffix="dev", **options)
    try:
        matching.add_things(things, is_taken=lambda _: False)
        matching.add_rows(read_rows(open_source(path, format_name="auto"), now=NOW), key_owner=lambda _: None)
        return {pair.thing.name: pair.material.fingerprint for pair in matching.pairs()}, matching.counts["faults"]
    finally:
        matching.close()


def truth(things: list[ThingRow]) -> dict[str, bytes]:
    return {thing.name: certificates()[number][1] for number, thing in enumerate(things)}


def write_rows(path: Path, heading: str, rows: list[tuple[str, int]], dice: random.Random) -> Path:
    """A CSV list in one of its dialects, or JSON lines."""
    mark = dice.choice([",", ";", "\t", "|"])
    end = dice.choice(["\n", "\r\n"])
    begin = dice.choice(["", "\ufeff", f"sep={mark}{end}"])
    lines = [
        f'"{value}"{mark}{certificates()[number][0].decode()}{dice.choice(["", mark])}{end}' for value, number in rows
    ]
    return write(path, f"{begin}{heading}{mark}Certificate{end}", *lines, f"{mark}{end}" * dice.randrange(3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("heading", HEADINGS)
def test_every_certificate_gets_to_its_own_thing(tmp_path: Path, heading: str, seed: int) -> None:
    """A thousand devices under each heading, shuffled, each identity in another spelling."""
    kinds = list(KINDS) if len(SEEDS) > 1 else [list(KINDS)[HEADINGS.index(heading) % len(KINDS)]]
    for kind in kinds:
        make, respell = KINDS[kind]
        dice = random.Random(f"{heading} {kind} {seed}")
        things = planned(make(dice, number) for number in range(DEVICES))
        rows = [(respell(thing.serial, dice), number) for number, thing in enumerate(things)]
        dice.shuffle(rows)
        found, refused = matched(write_rows(tmp_path / "list.csv", heading, rows, dice), things)
        wanted = truth(things)
        assert {} == {name: row for name, row in found.items() if row != wanted[name]}, kind
        assert (DEVICES, 0) == (len(found), refused), kind


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30 * len(SEEDS)))
def test_no_list_gives_a_certificate_to_another_thing(tmp_path: Path, seed: int) -> None:
    """Any heading at all, identities that are nearly alike, rows doubled and reversed: right, refused, never wrong."""
    dice = random.Random(seed)
    serials = {
        "near": lambda: [f"{dice.choice(['', '0', '00'])}{n}" for n in dice.sample(range(200), 40)],
        "dashes": lambda: list({f"{dice.randrange(30)}-{dice.randrange(30)}" for _ in range(40)}),
        "case": lambda: list({f"a{dice.choice('xX')}{dice.randrange(40)}" for _ in range(40)}),
        "macs": lambda: [KINDS["mac"][0](dice, n) for n in range(40)],
    }[dice.choice(["near", "dashes", "case", "macs"])]()
    things = planned(serials)
    heading = dice.choice([*HEADINGS, "Werkskennung", "Serail", "X", "order id", "Hall", "Gerätenummer", "Etikett"])
    rows = [(thing.serial, number) for number, thing in enumerate(things)]
    for _ in range(dice.randrange(3)):
        rows.append((dice.choice(rows)[0], dice.randrange(len(rows))))
    rows = rows[::-1] if dice.random() < 0.5 else dice.sample(rows, len(rows))
    try:
        found, refused = matched(write_rows(tmp_path / "list.csv", heading, rows, dice), things)
    except RequestError:
        return
    wanted = truth(things)
    assert {} == {name: row for name, row in found.items() if row != wanted[name]}
    assert found or refused


SAYS = {
    "name": ["Thing Name", "name", "THING", "device name", "Device-ID", "Client ID", "Nom"],
    "serial": ["Serial No", "sn", "MAC", "uuid", "Unique ID", "Serie", "Kenn-Nr", "EUI 64", "Serial Number (hex)"],
    "other": ["Hall", "Order ID", "Bemerkung", "Asset"],
}
"""Headings by what stands below them, known and unknown."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30 * len(SEEDS)))
def test_a_row_that_says_two_devices_gets_none(tmp_path: Path, seed: int) -> None:
    """Name, serial and common name under any headings, some of another device: such rows are refused."""
    dice = random.Random(seed)
    make, respell = KINDS[dice.choice(list(KINDS))]
    things = planned(make(dice, number) for number in range(30))
    says = {"name", dice.choice(["serial", "common name"]), *dice.sample(["serial", "other", "common name"], 2)}
    headings = {what: dice.choice(spellings) for what, spellings in SAYS.items()}
    rows, crossed, owner = [], set(), {}
    for number in range(len(things)):
        means = dict.fromkeys(sorted(says - {"other"}), number)
        if dice.random() < 0.15:
            means[dice.choice(list(means))] = dice.choice([other for other in range(len(things)) if other != number])
            crossed.add(number)
        name = things[means["name"]].name
        common_name = things[means["common name"]].name.upper() if "common name" in says else "chip"
        certificate = make_certificate(common_name, signer=signer_key())
        owner[certificate.fingerprint(hashes.SHA256())] = number
        row = {headings["name"]: dice.choice([name, name.removesuffix("-dev"), name.upper()])}
        if "serial" in says:
            row[headings["serial"]] = respell(things[means["serial"]].serial, dice)
        if "other" in says:
            row[headings["other"]] = dice.choice(["a", "7", f"{number}"])
        rows.append(row | {"cert": base64.b64encode(der(certificate)).decode()})
    dice.shuffle(rows)
    is_nested = dice.random() < 0.5
    path = write(tmp_path / "l", *(json.dumps({"device": row} if is_nested else row) + "\n" for row in rows))
    try:
        found, _ = matched(path, things)
    except RequestError:
        return
    paired = {owner[fingerprint]: name for name, fingerprint in found.items()}
    assert {} == {number: name for number, name in paired.items() if name != things[number].name}
    assert not crossed & paired.keys()


@cache
def signer_key() -> ec.EllipticCurvePrivateKey:
    return new_key()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("AABBCCDDEEFF", "aa:bb:cc:dd:ee:ff", True),
        ("00:1B:2:3:4:5", "001b02030405", True),
        ("0xAABBCCDDEEFF", "aabb.ccdd.eeff", True),
        ("eui48_AABBCCDDEEFF", "AA-BB-CC-DD-EE-FF", True),
        ("{6D1D54BA-ED81-4C32-8E08-F9F8C885A6ED}", "urn:uuid:6d1d54baed814c328e08f9f8c885a6ed", True),
        ("SN-1001", "sn 1001", True),
        ("SN-1001", "SN1001", True),
        ("0042", "42", True),
        ('="0042"', "42", True),
        ("1001", "1001.0", True),
        ("10010", "1001.0", False),
        ("1-11", "11-1", False),
        ("10.5", "105", False),
        ("12:3", "123", False),
        ("SN-1001", "SN-1O01", False),
        ("AABBCCDDEEFF", "AABBCCDDEEFE", False),
        ("00:00:00:00:00:70", "70", False),
        ("00:00:12:34:56:78", "0012345678", False),
        ("00:00:12:34:56:78", "000012345678", True),
        ("00-00-12-34-56-78", "0000.1234.5678", True),
        ("0x000012345678", "12345678", False),
        ("0x0070", "70", False),
        ("0x0070", "112", False),
        ("0x00AB", "00ab", True),
        ("000123456789012", "123456789012", False),
        ("000123456789012", "'000123456789012", True),
        ("000000000070", "70", True),
        ("12345678901.0", "12345678901", True),
        ("00-12", "12", False),
    ],
)
def test_spellings(one: str, other: str, same: bool) -> None:
    """Two spellings can be one despite case, separators, prefix or leading zeros; another character makes them two."""
    assert same == is_same(one, other) == is_same(other, one)
    assert canonical(one) == canonical(canonical(one)[0])


def counted(device_type: str = "press", count: int = 3) -> list[ThingRow]:
    """Things by count, which have no serials of their own."""
    return [
        ThingRow(
            name=f"sg-01-{device_type}-{number:04d}-dev",
            thing_type=f"thing-type-{device_type}-dev",
            device_type=device_type,
            serial=f"SG01-{device_type.upper()}-{number:04d}",
            attributes={},
        )
        for number in range(1, count + 1)
    ]


def base64_of(common_name: str, **options: Any) -> str:
    return base64.b64encode(der(make_certificate(common_name, signer=signer_key(), **options))).decode()


@pytest.mark.parametrize(
    "lines",
    [
        lambda good, bad: ["name,certificate\n", f"sg-01-press-0001,{bad}\n", f",{good}\n"],
        lambda good, bad: ["name,certificate\n", f"sg-01-press-0001,{bad}{bad}\n", f",{good}\n"],
        lambda good, bad: ["serial,certificate\n", f"SG01-PRESS-0001,{bad[:200]}\n", f",{good}\n"],
        lambda good, bad: ["name,certificate\n", f"sg-01-press-0001,x,{good}\n", f",{base64_of('b')}\n"],
        lambda good, bad: ["name,certificate\n", f'"sg-01-press-0001"x,{bad}\n', f",{good}\n"],
        lambda good, bad: ["hall,certificate\n", f"7,{base64_of('sg-01-press-0001', end=NOW - DAY)}\n", f"8,{good}\n"],
        lambda good, bad: [f'{{"name": "sg-01-press-0001", "cert": "{bad}"}}\n', f'{{"cert": "{good}"}}\n'],
        lambda good, bad: [f'[{{"name": "sg-01-press-0001", "cert": "{bad}}},\n', f'{{"cert": "{good}"}}]'],
        lambda good, bad: [
            "name,certificate,key\n",
            f"sg-01-press-0001,{bad},{base64.b64encode(PRIVATE).decode()}\n",
            f",{good},\n",
        ],
    ],
    ids=["expired", "doubled", "truncated", "fields", "quote", "common name", "jsonl", "json", "private key"],
)
def test_a_bad_row_gives_its_thing_to_no_other(tmp_path: Path, lines: Callable[[str, str], list[str]]) -> None:
    """Whatever is wrong with it, and wherever it says its thing: the row without a name is not taken for it."""
    good, bad = base64_of("a"), base64_of("chip", end=NOW - DAY)
    path = write(tmp_path / "list", *lines(good, bad))
    assert ({}, 2) == matched(path, counted())
    found, refused = matched(path, counted(), by_order=True)
    assert (["sg-01-press-0002-dev"], 1) == (list(found), refused)


@pytest.mark.parametrize(
    ("heading", "value", "serial", "same"),
    [
        ("MAC", "000000000070", "70", False),
        ("MAC", "000000000070", "0000.0000.0070", True),
        ("MAC", "70", "00:00:00:00:00:70", False),
        ("MAC", "000120003", "120003", True),
        ("MAC address", "00:00:12:34:56:78", "0012345678", False),
        ("IMEI", "123456789012", "000123456789012", False),
        ("IMEI", "000123456789012", "123456789012", False),
        ("Device ID", "0x0070", "70", False),
        ("serial", "70", "0070", True),
    ],
)
def test_a_number_is_of_the_kind_that_its_heading_says(
    tmp_path: Path, heading: str, value: str, serial: str, same: bool
) -> None:
    """Leading zeros mean nothing in a number; they belong to a MAC and to an IMEI, and to what has their length."""
    path = write(tmp_path / "list.csv", f"{heading},certificate\n{value},{base64_of('chip')}\n")
    try:
        found, _ = matched(path, planned([serial]))
    except RequestError:
        found = {}
    assert same == bool(found)


@pytest.mark.parametrize("ignored", ["Serial Number", "serial_number", "SERIAL-NUMBER"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_a_known_column_that_is_ignored_says_nothing(tmp_path: Path, form: str, ignored: str) -> None:
    """In any spelling of its heading: the maker's serial is not looked for among the things."""
    rows = [{"Serial Number": f"X{n}", "certificate": base64_of(f"chip {n}")} for n in (1, 2)]
    text = {
        "csv": "Serial Number,certificate\n" + "".join(",".join(row.values()) + "\n" for row in rows),
        "jsonl": "".join(json.dumps({"device": row}) + "\n" for row in rows),
        "json": json.dumps(rows),
    }[form]
    path = write(tmp_path / "list", text)
    assert ({}, 2) == matched(path, counted())
    source = replace(open_source(path, format_name="auto"), ignored=frozenset({normalised(ignored)}))
    matching = Matching(suffix="dev")
    matching.add_things(counted(), is_taken=lambda _: False)
    matching.add_rows(read_rows(source, now=NOW), key_owner=lambda _: None)
    assert {"order": 2} == matching.ways()
    matching.close()


@pytest.mark.parametrize("broken", ['"x"', "[1]", "[[1], {}]", '"a, {b}"', "7", "null"])
def test_a_json_element_that_is_no_object_loses_none_after_it(tmp_path: Path, broken: str) -> None:
    """On one line or several, first, in the middle and last."""
    first, second = ({"name": f"sg-01-press-000{n}", "cert": base64_of(f"chip {n}")} for n in (1, 2))
    for mark in (",", ", ", ",\n"):
        parts = [broken, json.dumps(first), broken, json.dumps(second), broken]
        path = write(tmp_path / "list", f"[{mark.join(parts)}]")
        found, refused = matched(path, counted())
        assert (["sg-01-press-0001-dev", "sg-01-press-0002-dev"], 3) == (sorted(found), refused), mark


@pytest.mark.parametrize("form", ["der", "pem", "base64 of pem"])
@pytest.mark.parametrize("heading", ["certs", "x5c", "certificate chain"])
def test_certificates_in_an_array_are_a_chain_or_refused(tmp_path: Path, form: str, heading: str) -> None:
    """None of several is dropped: each has to have issued the one before it."""
    key = new_key()
    authority = make_certificate("maker", key=key, signer=key, is_authority=True)
    device = make_certificate("chip", signer=key)
    spell: Callable[[Any], str] = {
        "der": lambda each: base64.b64encode(der(each)).decode(),
        "pem": pem,
        "base64 of pem": lambda each: base64.b64encode(pem(each).encode()).decode(),
    }[form]
    for chain, pairs in (([device, authority], 1), ([device, make_certificate("b")], 0), ([device], 1)):
        row = {"name": "sg-01-press-0001", heading: list(map(spell, chain))}
        found, refused = matched(write(tmp_path / "list", json.dumps(row) + "\n"), counted())
        assert (pairs, 1 - pairs) == (len(found), refused)
