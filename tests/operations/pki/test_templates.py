"""Output of templates, equal to that of the library's builder byte for byte except for the signature."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_iot.operations.pki import templates
from fleet_iot.operations.pki.templates import CertificateMaker, Issuer, built_request, key_and_point, request_der

NAMES = st.text(st.sampled_from("abcxyz0189-_"), min_size=1, max_size=64)
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


ISSUER = Issuer(
    key=new_key(),
    name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")]),
    not_before=NOW,
    not_after=NOW + datetime.timedelta(days=365),
)
MAKER = CertificateMaker(ISSUER)


@settings(max_examples=60)
@given(NAMES)
def test_requests_are_the_builders(name: str) -> None:
    """Of names of every length; and the signature verifies."""
    key = new_key()
    request = x509.load_der_x509_csr(request_der(name, key))
    assert request.is_signature_valid
    assert built_request(name, key).tbs_certrequest_bytes == request.tbs_certrequest_bytes


@settings(max_examples=60)
@given(NAMES)
def test_certificates_are_the_builders(name: str) -> None:
    """With the serial number that it has; and the issuer's signature verifies."""
    key = new_key()
    certificate = x509.load_der_x509_certificate(MAKER.certificate(name, key_and_point(key)[1]))
    ISSUER.key.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, templates.ALGORITHM)
    serial = certificate.serial_number.to_bytes(templates.SERIAL_BYTES, "big")
    built = MAKER.built(name, key_and_point(key)[1], serial)
    assert built.tbs_certificate_bytes == certificate.tbs_certificate_bytes
    assert key.public_key() == certificate.public_key()


def test_serial_numbers_are_random() -> None:
    """None comes twice."""
    point = key_and_point(new_key())[1]
    found = {x509.load_der_x509_certificate(MAKER.certificate("a", point)).serial_number for _ in range(200)}
    assert (200, True) == (len(found), all(number.bit_length() == 127 for number in found))


def test_where_a_template_would_differ_the_builder_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that lays the point down otherwise, another curve, a name that is not ASCII."""
    monkeypatch.setattr(templates, "pattern_of", lambda _, *values: templates.Pattern(b"%b" * len(values)))
    name = "n" * 33
    templates._request_pattern.cache_clear()
    assert templates._request_pattern(len(name)) is None
    assert x509.load_der_x509_csr(request_der(name, new_key())).is_signature_valid
    fresh = CertificateMaker(ISSUER)
    assert x509.load_der_x509_certificate(fresh.certificate(name, key_and_point(new_key())[1]))
    templates._request_pattern.cache_clear()
    assert x509.load_der_x509_csr(request_der("a", ec.generate_private_key(ec.SECP384R1()))).is_signature_valid
    assert x509.load_der_x509_csr(request_der("ä", new_key())).is_signature_valid


def test_a_percent_sign_in_a_sample_stays_one() -> None:
    """Patterns are formats of bytes: what stands around the values must not be read as one."""
    pattern = templates.pattern_of(b"100%b of A and B %", b"A", b"B")
    assert b"100%b of cc and % %" == pattern.fill(b"cc", b"%")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_issuers_of_both_curves_sign_for_keys_of_any_kind(curve: ec.EllipticCurve) -> None:
    """With the digest of their own strength; the library verifies the chain."""
    key = ec.generate_private_key(curve)
    issuer = dataclasses.replace(ISSUER, key=key)
    maker = CertificateMaker(issuer)
    for device in (new_key(), ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        found = x509.load_der_x509_certificate(maker.certificate_of("a-device", device.public_key()))
        algorithm = ec.ECDSA(templates.digest_of(curve))
        key.public_key().verify(found.signature, found.tbs_certificate_bytes, algorithm)
        assert templates.digest_of(curve).name == (found.signature_hash_algorithm or templates.ALGORITHM).name
        assert device.public_key() == found.public_key()


def test_a_value_that_stands_twice_makes_no_pattern() -> None:
    """It could be laid over in the wrong place."""
    with pytest.raises(ValueError, match="exactly once"):
        templates.pattern_of(b"axbxc", b"x")
