"""Requirements on a certificate or CSR, checked before any call is made for it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.lists.formats import open_source, read_rows
from fleet_iot.operations.lists.material import read_certificate, read_material
from fleet_iot.operations.lists.record import Fault, RefusedError, Row
from fleet_iot.operations.pki.spent import SpentKeys
from fleet_iot.operations.registry.preparation import Refusals, RevocationLists
from tests.operations.lists.builders import DAY, NOW, der, make_certificate, make_request, new_key, pem

SMALL_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - a weak one is wanted


def refused(certificate: Any = None, request: Any = None, **options: Any) -> str:
    """Why material is refused."""
    given = [each.encode() if isinstance(each, str) else each for each in (certificate, request)]
    with pytest.raises(RefusedError) as caught:
        read_material(*given, now=NOW, **options)
    assert caught.value.remedy
    return caught.value.reason


def test_a_good_certificate_is_read_from_pem_and_from_base64() -> None:
    """Both give the same material, whose fingerprint is the certificate's id in AWS IoT."""
    certificate = make_certificate("press-1")
    material = read_material(pem(certificate).encode(), None, now=NOW)
    assert material == read_material(base64.b64encode(der(certificate)), None, now=NOW)
    assert (certificate.fingerprint(hashes.SHA256()), "press-1", True) == (
        material.fingerprint,
        material.common_name,
        material.is_certificate,
    )


def test_windows_line_ends_change_nothing() -> None:
    """Infineon writes them."""
    text = pem(make_certificate()).encode()
    assert read_material(text, None, now=NOW) == read_material(text.replace(b"\n", b"\r\n"), None, now=NOW)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_curves_that_aws_takes(curve: ec.EllipticCurve) -> None:
    """P-256, P-384 and P-521."""
    assert read_material(pem(make_certificate(key=ec.generate_private_key(curve))).encode(), None, now=NOW)


def test_certificate_and_csr_of_one_key_belong_together() -> None:
    """The certificate counts then."""
    key = new_key()
    both = (pem(make_certificate(key=key)).encode(), pem(make_request(key=key)).encode())
    assert read_material(*both, now=NOW).is_certificate


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (lambda: make_certificate(start=NOW - 9 * DAY, end=NOW - DAY), "expired on 2026-11-23"),
        (lambda: make_certificate(start=NOW + DAY), "not valid before 2026-11-25"),
        (lambda: make_certificate(key=SMALL_RSA), "1024 bits"),
        (lambda: make_certificate(key=ed25519.Ed25519PrivateKey.generate()), "of a kind that AWS IoT does not accept"),
        (
            lambda: make_certificate(key=ec.generate_private_key(ec.SECP256K1())),
            "of a kind that AWS IoT does not accept",
        ),
        (lambda: make_certificate(is_authority=True), "an authority's"),
    ],
    ids=["expired", "future", "small", "ed25519", "curve", "authority"],
)
def test_certificates_that_are_refused(certificate: Any, reason: str) -> None:
    """Each for its own reason."""
    assert reason in refused(pem(certificate()))


def test_sha1_is_refused() -> None:
    """Nobody makes such a certificate any more, so this one's algorithm is written into it by hand."""
    certificate = der(make_certificate(signer=rsa.generate_private_key(65537, 2048)))
    sha256, sha1 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    assert 2 == certificate.count(sha256)
    assert "SHA1" in refused(base64.b64encode(certificate.replace(sha256, sha1)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (lambda good: good[: len(good) // 2], "truncated"),
        (lambda good: good.replace(good.splitlines()[3], ""), "truncated or damaged"),
        (lambda good: good[:80] + "ä" + good[80:], "mis-encoded"),
        (lambda good: good + good, "more than one PEM block"),
        (lambda good: good.replace("CERTIFICATE", "PUBLIC KEY"), "no PEM block of a certificate"),
        (lambda good: "TUlJ" * 20_000, "more than 65,536 characters"),
        (lambda good: "", "no base64"),
    ],
    ids=["half", "line lost", "umlaut", "two", "label", "oversized", "empty"],
)
def test_texts_that_are_refused(text: Any, reason: str) -> None:
    """Truncated, damaged, mis-encoded, doubled, mislabelled, oversized."""
    if reason == "no base64":
        reason = "truncated or damaged"
    assert reason in refused(text(pem(make_certificate())))


def test_a_private_key_is_refused_and_not_shown() -> None:
    """The reason says what it is and holds nothing of it."""
    key = new_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert "contains a private key" == refused(key)


def test_csrs_that_are_refused() -> None:
    """One whose signature does not verify, one that is too long, and one of another key than the certificate's."""
    request = der(make_request())
    assert "does not verify" in refused(None, base64.b64encode(request.replace(b"device", b"devicf")))
    assert "4,096" in refused(None, b"A" * 5_000)
    assert "not the CSR's" in refused(pem(make_certificate()), pem(make_request()))
    assert "neither" in refused()


def test_an_issuer_has_to_have_signed() -> None:
    """With `issuers`, a certificate that only names one is refused; one that it signed is taken."""
    key = new_key()
    issuer = make_certificate("maker", key=key, signer=key, is_authority=True)
    signed = pem(make_certificate(signer=key)).encode()
    assert read_material(signed, None, now=NOW, issuers=[issuer])
    assert "not signed by a given issuer" in refused(pem(make_certificate()), issuers=[issuer])


def odd(certificate: Any, old: bytes, new: bytes) -> bytes:
    """The DER with another value of the same length in the place of one."""
    content = der(certificate)
    assert content.count(old) == 1 and len(old) == len(new)
    return content.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (b"\x0c\x05maker", b"\x0c\x05m\xff\xfeer", "issuer"),
        (b"\x0c\x05maker", b"\x1c\x05maker", "cannot be read"),
        (b"\x0c\x05maker", b"\x1e\x05maker", "cannot be read"),
        (b"\x0c\x06device", b"\x0c\x06d\xff\xfeice", "subject"),
        (b"\x17\x0d261123", b"\x17\x0d261323", "cannot be read"),
    ],
    ids=["issuer", "universal string", "odd length", "subject", "month"],
)
def test_a_part_that_cannot_be_read_is_a_fault_of_its_row(tmp_path: Path, old: bytes, new: bytes, what: str) -> None:
    """The list goes on, also where a CRL of the issuer is consulted; a file of an authority is refused likewise."""
    authority_key = new_key()
    authority = make_certificate("maker", key=authority_key, signer=authority_key, is_authority=True)
    (tmp_path / "list.crl").write_bytes(crl_of(authority, authority_key))
    bad = odd(make_certificate(), old, new)
    good = make_certificate("two", signer=authority_key)
    path = tmp_path / "list.csv"
    lines = [f"{n},{base64.b64encode(each).decode()}\n" for n, each in enumerate((bad, der(good)))]
    path.write_text("name,certificate\n" + "".join(lines))
    lists = RevocationLists([tmp_path / "list.crl"], [authority])
    refusals = Refusals(None, ledger=SpentKeys([]), lists=lists)
    rows = read_rows(open_source(path, format_name="auto"), now=NOW)
    broken, whole = refusals.sift(rows, reuses_retired=False, in_aws=None, at=0)
    refusals.close()
    assert isinstance(broken, Fault) and what in broken.reason and broken.remedy
    assert isinstance(whole, Row) and "two" == whole.material.common_name
    for reading in (read_certificate, lists.find):
        with pytest.raises(ValueError, match=r"read|parsing"):
            reading(bad)


def test_an_issuer_in_a_chain_that_cannot_be_read_is_a_fault_of_its_row() -> None:
    """Each certificate of the chain is read as a whole."""
    bad = odd(make_certificate("ca", is_authority=True), b"\x0c\x05maker", b"\x0c\x05m\xff\xfeer")
    block = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(bad).decode()}\n-----END CERTIFICATE-----\n"
    assert "issuer cannot be read" in refused(pem(make_certificate()) + block)


def test_a_crl_that_cannot_be_read_is_said_to_be_none(tmp_path: Path) -> None:
    """Its issuer is no text, or it is no CRL at all."""
    key = new_key()
    authority = make_certificate("maker", key=key, signer=key, is_authority=True)
    good = crl_of(authority, key)
    for content in (good.replace(b"\x0c\x05maker", b"\x0c\x05m\xff\xfeer"), b"\x30\x80"):
        (tmp_path / "list.crl").write_bytes(content)
        with pytest.raises(EnvironmentFault, match="is no CRL"):
            RevocationLists([tmp_path / "list.crl"], [authority])


def crl_of(authority: Any, key: Any) -> bytes:
    """An authority's CRL with one entry, in DER."""
    entry = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(NOW).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.subject).last_update(NOW)
    made = builder.next_update(NOW + DAY).add_revoked_certificate(entry).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)
