"""Reading the committed certificate signing requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.faults import PrerequisiteError
from lib.identities import read_csrs


def test_csrs_are_read_by_thing(tmp_path: Path, csr: Callable[[str], str]) -> None:
    """Each line gives one thing's request; empty lines do not matter."""
    path = tmp_path / "p1.csrs.jsonl"
    requests = {name: csr(name) for name in ("a-dev", "b-dev")}
    path.write_text("\n\n".join(json.dumps({"thing": name, "csr": pem}) for name, pem in requests.items()) + "\n")
    assert read_csrs(path) == requests


def test_a_missing_file_holds_no_csr(tmp_path: Path) -> None:
    """A plant whose devices have no keys yet can be synthesised."""
    assert read_csrs(tmp_path / "none.jsonl") == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "Input data was truncated"),
        (b'{"thing":"b-dev"}', "missing required field `csr`"),
        (b'{"thing":"b-dev","csr":"","key":"k"}', "unknown field `key`"),
        (b'{"thing":"b-dev","csr":"-----BEGIN CERTIFICATE-----"}', "no PEM certificate request"),
        (b'{"thing":"a-dev","csr":"-----BEGIN CERTIFICATE REQUEST-----"}', "thing 'a-dev' has a CSR already"),
        (b'{"thing":"b-dev","csr":"\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_located(tmp_path: Path, csr: Callable[[str], str], line: bytes, message: str) -> None:
    """The fault names file and line, what is wrong and what writes good ones."""
    path = tmp_path / "p1.csrs.jsonl"
    path.write_bytes(json.dumps({"thing": "a-dev", "csr": csr("a-dev")}).encode() + b"\n" + line + b"\n")
    with pytest.raises(PrerequisiteError) as caught:
        read_csrs(path)
    assert caught.value.message.startswith(f"{path}:2: ")
    assert message in caught.value.message
    assert "fleet keys create" in caught.value.remedy
