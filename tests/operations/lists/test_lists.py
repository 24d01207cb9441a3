"""Lists of text: good rows are read, bad ones are told with their place, and the good ones go on."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.lists.formats import detect_format, open_source, read_records, write_again
from tests.operations.lists.builders import (
    Signer,
    cert,
    der,
    make_certificate,
    make_request,
    new_key,
    pem,
    quoted,
    rows_of,
    seven_zip,
    write,
)

# --- CSV ---------------------------------------------------------------------------------------------------------


def test_csv_names_things_and_says_their_type(tmp_path: Path) -> None:
    """Columns in any order and delimiter; others than the known ones are left alone."""
    path = write(tmp_path / "a.csv", "Hall;Certificate;Name;device_type\r\n", f"2;{quoted(cert())};k1;press\r\n")
    (row,), faults = rows_of(path)
    assert ("k1", "press", True, []) == (row.name, row.device_type, row.must_match, faults)


def test_bad_csv_rows_leave_the_others_alone(tmp_path: Path) -> None:
    """Quotes not closed or out of place, a missing field, Latin-1, a line too long: the rows after them go on."""
    path = write(
        tmp_path / "a.csv",
        "name,certificate\n",
        f"a,{quoted(cert())}\n",
        'b,"' + cert()[:300] + "\n",
        f"c,{quoted(cert())}\n",
        "d\n",
        'e,"x"y\n',
        b"\xe4,x\n",
        b"f," + b"A" * 200_000 + b"\n",
        f"g,{quoted(cert())}\n",
        'h,"' + cert()[:200],
    )
    rows, faults = rows_of(path)
    assert ["a", "c", "g"] == [row.name for row in rows]
    assert [
        "has a quote that is not closed",
        "has 1 fields, the header has 2",
        "is no CSV record: a quote is out of place",
        "is not UTF-8",
        "is longer than 131,072 bytes",
        "has a quote that is not closed: the list is truncated",
    ] == [fault.reason for fault in faults]
    assert all(fault.remedy and fault.place.startswith("line ") for fault in faults)


def test_a_header_without_material_is_told(tmp_path: Path) -> None:
    """Neither certificate nor CSR: nothing can be onboarded from it."""
    with pytest.raises(EnvironmentFault, match=r"a\.csv:1: the header"):
        rows_of(write(tmp_path / "a.csv", "name,serial\nx,y\n"), "csv")


def test_order_means_nothing(tmp_path: Path) -> None:
    """The same rows in another order are the same devices under the same names."""
    lines = [f"{name},{quoted(cert(name))}\n" for name in "abc"]
    found = [
        {(row.name, row.material.fingerprint) for row in rows_of(write(tmp_path / "a.csv", "name,cert\n", *order))[0]}
        for order in (lines, lines[::-1])
    ]
    assert found[0] == found[1]


# --- what rows are beside each other ------------------------------------------------------------------------------


def test_rows_that_share_something_are_both_told(tmp_path: Path) -> None:
    """A certificate, a key, a name or a serial of two devices: the later row names the earlier, which it spoils."""
    key, one = new_key(), quoted(cert())
    path = write(
        tmp_path / "a.csv",
        "name,serial,cert\n",
        f"a,1,{one}\nb,2,{one}\n",
        f"c,3,{quoted(cert(key=key))}\nd,4,{quoted(cert(key=key))}\n",
        f"e,5,{quoted(cert())}\ne,6,{quoted(cert())}\n",
        f"f,7,{quoted(cert())}\ng,7,{quoted(cert())}\n",
        f"a,1,{one}\n",
    )
    faults = rows_of(path)[1]
    assert [(2, 1), (4, 3), (6, 5), (8, 7), (9, None)] == [(fault.number, fault.spoils) for fault in faults]
    assert "two devices share it" in faults[0].reason
    assert "is row 1 once more" == faults[4].reason


def test_the_same_common_name_for_all_is_no_fault_where_it_means_nothing(tmp_path: Path) -> None:
    """Makers do that; PEM blocks are matched by number then."""
    rows, faults = rows_of(write(tmp_path / "a.pem", *(cert("chip") for _ in range(3))))
    assert (3, []) == (len(rows), faults)


# --- other texts --------------------------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path) -> None:
    """Certificates and CSRs; our own CSR files are such a list too."""
    path = write(
        tmp_path / "a.jsonl",
        json.dumps({"name": "a", "certificate": cert()}) + "\n",
        json.dumps({"thing": "b", "csr": pem(make_request())}) + "\n\n",
        '{"name": 7}\n[1]\n{"name"\n',
        b'{"name": "\xff"}\n',
        json.dumps({"serial": "S1", "certificate": cert()}),
    )
    rows, faults = rows_of(path)
    assert [("a", None), ("b", None), (None, "S1")] == [(row.name, row.serial) for row in rows]
    assert ["line 4", "line 5", "line 6", "line 7"] == [fault.place for fault in faults]


def test_pem_blocks(tmp_path: Path) -> None:
    """Text between blocks is left alone; a block without end, or of something else, is a fault."""
    path = write(
        tmp_path / "a.pem", "# a comment\n", cert("a"), cert()[:400], "\n", pem(make_request("b")), cert()[:99]
    )
    rows, faults = rows_of(path)
    assert [("a", True), ("b", False)] == [(row.name, row.material.is_certificate) for row in rows]
    assert [2, 4] == [fault.number for fault in faults]


def test_plain_lines_are_named_by_their_certificate(tmp_path: Path) -> None:
    """The common name is the thing's name; one without, or a damaged line, is a fault."""
    lines = [base64.b64encode(der(make_certificate(name))).decode() + "\n" for name in ("a", None, "b")]
    rows, faults = rows_of(write(tmp_path / "a.txt", *lines[:2], lines[2][:100] + "\n", lines[2]))
    assert ["a", "b"] == [row.name for row in rows]
    assert [2, 3] == [fault.number for fault in faults]
    assert "no common name" in faults[0].reason


def test_a_folder_of_csrs(tmp_path: Path) -> None:
    """The file's name is the thing's; files of other kinds are left alone."""
    write(tmp_path / "b.csr", pem(make_request()))
    write(tmp_path / "a.pem", "nothing")
    write(tmp_path / "README", "…")
    rows, faults = rows_of(tmp_path)
    assert (["b"], ["file a.pem"]) == ([row.name for row in rows], [fault.place for fault in faults])


# --- detection and failures ---------------------------------------------------------------------------------------


def test_formats_are_recognised(tmp_path: Path) -> None:
    """By their first bytes, whatever the file is called."""
    texts = {
        "csv": "name,csr\n",
        "espressif": "MAC,cn,cert\n",
        "jsonl": '\ufeff{"name": 1}',
        "pem": f"some words\n{cert()}",
        "plain": base64.b64encode(der(make_certificate())).decode(),
        "microchip": "\n [\n",
    }
    assert {name: name for name in texts} == {
        name: detect_format(write(tmp_path / "list", text)) for name, text in texts.items()
    }
    assert "infineon" == detect_format(seven_zip(tmp_path / "list", {}))
    assert "csr-dir" == detect_format(tmp_path)


@pytest.mark.parametrize(("text", "what"), [(b"hello", "no list of devices"), ("x".encode("utf-16"), "UTF-16")])
def test_what_is_no_list_is_told(tmp_path: Path, text: bytes, what: str) -> None:
    """With the formats that there are."""
    with pytest.raises(EnvironmentFault, match=what):
        detect_format(write(tmp_path / "list", text))


@pytest.mark.parametrize(
    "format_name", ["csv", "jsonl", "pem", "plain", "espressif", "microchip", "infineon", "csr-dir"]
)
def test_failures_are_written_as_they_stood(tmp_path: Path, format_name: str) -> None:
    """The second of three entries, written again, is a list of the same format with that entry alone."""
    signer = Signer()
    certificates = [make_certificate(f"d{number}") for number in range(3)]
    path = tmp_path / "list"
    match format_name:
        case "csv" | "espressif":
            header = "name,cert\n" if format_name == "csv" else "mac,cn,cert\n"
            extra = "" if format_name == "csv" else "{0},"
            lines = [f"d{n},{extra.format(f'd{n}')}{quoted(pem(each))}\n" for n, each in enumerate(certificates)]
            write(path, header, *lines)
        case "jsonl":
            write(
                path, *(json.dumps({"name": f"d{n}", "certificate": pem(c)}) + "\n" for n, c in enumerate(certificates))
            )
        case "pem":
            write(path, *map(pem, certificates))
        case "plain":
            write(path, *(base64.b64encode(der(each)) + b"\n" for each in certificates))
        case "microchip":
            write(path, json.dumps([signer.entry(f"0{n}", each) for n, each in enumerate(certificates)]))
        case "infineon":
            seven_zip(path, {f"0A0A0A0{n}_E0E0.pem": pem(each).encode() for n, each in enumerate(certificates)})
        case "csr-dir":
            path.mkdir()
            for number in range(3):
                write(path / f"d{number}.csr", pem(make_request(f"d{number}")))
    options: dict[str, Any] = {"signers": signer.write(tmp_path / "s")}
    source = open_source(path, format_name="auto", **options)
    assert format_name == source.format
    write_again(source, tmp_path / "failed", (each for each in read_records(source) if each.number == 2))
    wanted = rows_of(path, **options)[0][1]
    (row,), faults = rows_of(tmp_path / "failed", **options)
    assert (wanted.name, wanted.serial, wanted.material, []) == (row.name, row.serial, row.material, faults)
