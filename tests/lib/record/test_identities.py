"""Reading the committed certificate signing requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleet_iot.lib.faults import PrerequisiteError
from fleet_iot.lib.record.identities import Requests, normal_csr, read_requests, refuse_shared_keys
from fleet_iot.operations.pki.csr import sign_request


def test_csrs_are_read_by_thing(tmp_path: Path, csr: Callable[[str], str]) -> None:
    """Each line gives one thing's request; empty lines do not matter."""
    path = tmp_path / "p1.csrs.jsonl"
    requests = {name: csr(name) for name in ("a-dev", "b-dev")}
    path.write_text("\n\n".join(json.dumps({"thing": name, "csr": pem}) for name, pem in requests.items()) + "\n")
    assert {thing: request.csr for thing, (request,) in read_requests(path).items()} == requests


def test_a_missing_file_holds_no_csr(tmp_path: Path) -> None:
    """A plant whose devices have no keys yet can be synthesised."""
    assert read_requests(tmp_path / "none.jsonl") == {}


def _line(csr: str) -> bytes:
    return json.dumps({"thing": "b-dev", "csr": csr}).encode()


def test_the_form_is_that_of_keys_create() -> None:
    """Stacks that exist do not change: what `fleet keys create` and OpenSSL write stays as it is."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a-dev")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    for csr in (sign_request("a-dev", key), request.public_bytes(serialization.Encoding.PEM).decode()):
        assert csr == normal_csr(csr)[0]
        assert csr == normal_csr(csr.replace("\n", "\r\n"))[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "Input data was truncated"),
        (b'{"thing":"b-dev"}', "missing required field `csr`"),
        (b'{"thing":"b-dev","csr":"","key":"k"}', "unknown field `key`"),
        (b'{"thing":"b-dev","csr":"-----BEGIN CERTIFICATE-----"}', "no PEM certificate request"),
        (_line("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----"), "that cannot be read"),
        (_line("-----BEGIN CERTIFICATE REQUEST-----\nMAA\n-----END CERTIFICATE REQUEST-----\n"), "padding"),
        (
            _line("-----BEGIN CERTIFICATE REQUEST-----\nMAAA\n-----END CERTIFICATE REQUEST-----\n"),
            "that cannot be read",
        ),
        (_line("-----BEGIN CERTIFICATE REQUEST-----" + "\n" * 4096), "of at most 4096 characters"),
        (b'{"thing":"a-dev","csr":"-----BEGIN CERTIFICATE REQUEST-----"}', "thing 'a-dev' has a CSR already"),
        (b'{"thing":"b-dev","csr":"\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_located(tmp_path: Path, csr: Callable[[str], str], line: bytes, message: str) -> None:
    """The fault names file and line, what is wrong and what writes good ones."""
    path = tmp_path / "p1.csrs.jsonl"
    path.write_bytes(json.dumps({"thing": "a-dev", "csr": csr("a-dev")}).encode() + b"\n" + line + b"\n")
    with pytest.raises(PrerequisiteError) as caught:
        read_requests(path)
    assert caught.value.message.startswith(f"{path}:2: ")
    assert message in caught.value.message
    assert "fleet keys create" in caught.value.remedy


def test_a_thing_has_a_csr_for_each_generation(tmp_path: Path) -> None:
    """By number, whatever the order of the lines; no number twice, none below 1, and no key twice."""
    path, keys = tmp_path / "p1.csrs.jsonl", [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    lines: list[dict[str, object]] = [
        {"thing": "a-dev", "csr": request("a-dev", keys[1]), "generation": 2},
        {"thing": "a-dev", "csr": request("a-dev", keys[0]), "status": "revoked"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    held = read_requests(path)["a-dev"]
    assert [(each.generation, each.status, each.line) for each in held] == [(1, "revoked", 2), (2, None, 1)]
    for more, message in (
        ({"generation": 2}, "has a CSR of generation 2 already"),
        ({}, "has a CSR already"),
        ({"generation": 0}, "generation"),
        ({"generation": 3, "status": "lost"}, "status"),
        ({"generation": 3, "csr": request("a-dev", keys[0])}, "has the key of line 2 again"),
    ):
        other = {"thing": "a-dev", "csr": request("a-dev", keys[2])} | more
        path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, other]))
        with pytest.raises(PrerequisiteError, match=message) as caught:
            read_requests(path)
        assert caught.value.message.startswith(f"{path}:3: ")


@pytest.mark.slow
def test_one_key_is_one_things(tmp_path: Path) -> None:
    """Also where another plant has it, and however the CSR is written; things with keys of their own pass."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def plant(**csrs: str) -> Requests:
        path = tmp_path / "plant.csrs.jsonl"
        path.write_text("".join(json.dumps({"thing": thing, "csr": csr}) + "\n" for thing, csr in csrs.items()))
        return read_requests(path)

    refuse_shared_keys([plant(a=request("a", key), b=request("b", other)), plant()])
    for plants in (
        [plant(a=request("a", key), b=request("b", key))],
        [plant(a=request("a", key)), plant(b=request("b", key).replace("\n", "\r\n"))],
    ):
        with pytest.raises(PrerequisiteError, match="The CSRs of a and b are of one key"):
            refuse_shared_keys(plants)


def request(name: str, key: ec.EllipticCurvePrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()
