"""The own authority: what it is, what it signs and refuses, and what it never lets out."""

from __future__ import annotations

import base64
import datetime
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.lists.formats import open_source, read_rows
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.lists.record import Row
from fleet_iot.operations.pki.ca import (
    BATCH,
    Places,
    Policy,
    end_of,
    make_authority,
    open_authority,
    revoke,
    show_authority,
    sign_requests,
)
from fleet_iot.operations.pki.keystore import KeyStore, key_bytes
from fleet_iot.operations.pki.ledger import Ledger, Signed
from fleet_iot.operations.pki.spent import End, SpentKeys, spend
from fleet_iot.operations.registry.journal import Journal
from tests.operations.lists.builders import make_certificate, make_request, new_key, pem
from tests.operations.pki.authorities import NOW, PLANT, SUFFIX, THINGS, Works, start, write_requests

DAY = datetime.timedelta(days=1)
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
FIRST, SECOND, THIRD = sorted(THINGS)[:3]


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return start(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("curve", ["P-256", "P-384"])
def test_a_chain_of_either_curve_is_what_openssl_takes(tmp_path: Path, curve: str) -> None:
    """Strictly, as a TLS client's; the authority can sign no other authority."""
    works = start(tmp_path, curve=curve)
    root = works.authority.certificate
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert (True, True, 0) == (basic.critical, basic.value.ca, basic.value.path_length)
    assert usage.critical and usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.digital_signature
    keys = {thing: new_key() for thing in sorted(THINGS)}
    assert (len(keys), 0, ()) == signed_of(works, write_requests(tmp_path / "csrs.jsonl", keys))
    found = works.certificates()
    assert list(keys) == list(found)
    assert all(works.verifies(certificate) for certificate in found.values())
    for thing, certificate in found.items():
        certificate.verify_directly_issued_by(root)
        assert (keys[thing].public_key(), f"CN={thing}") == (
            certificate.public_key(),
            certificate.subject.rfc4514_string(),
        )
        assert NOW + 300 * DAY == certificate.not_valid_after_utc
        assert [ExtendedKeyUsageOID.CLIENT_AUTH] == list(
            certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        )
    assert len(found) == len({certificate.serial_number for certificate in found.values()})
    rows = list(read_rows(open_source(works.list, format_name="auto"), now=NOW, issuers=[root]))
    assert list(keys) == [row.name for row in rows if isinstance(row, Row)]


def signed_of(works: Works, path: Path, **changes: object) -> tuple[int, int, tuple[str, ...]]:
    done = works.sign(path, **changes)
    return done.signed, done.already, tuple(fault.reason for fault in done.faults)


@pytest.mark.slow
def test_bad_csrs_are_told_and_the_good_ones_signed(works: Works, tmp_path: Path) -> None:
    """Each with its reason; no certificate is made of them."""
    first, shared = new_key(), new_key()
    forged = json.dumps({"thing": SECOND, "csr": forged_request(SECOND)})
    weak = x509.CertificateSigningRequestBuilder().subject_name(make_request(THIRD).subject)
    rows = [
        json.dumps({"thing": FIRST, "csr": pem(make_request(FIRST, key=first))}),
        forged,
        json.dumps({"thing": THIRD, "csr": pem(weak.sign(WEAK, hashes.SHA256()))}),
        json.dumps({"thing": THIRD, "csr": pem(make_request(SECOND))}),
        json.dumps({"csr": pem(make_request("a-stranger"))}),
        json.dumps({"thing": sorted(THINGS)[5], "csr": pem(make_request(sorted(THINGS)[5], key=shared))}),
        json.dumps({"thing": sorted(THINGS)[6], "csr": pem(make_request(sorted(THINGS)[6], key=shared))}),
        json.dumps({"thing": sorted(THINGS)[7], "certificate": pem(make_certificate(sorted(THINGS)[7]))}),
        "no JSON",
        json.dumps({"csr": pem(make_request(sorted(THINGS)[8]))}),
        json.dumps({"csr": pem(make_request(sorted(THINGS)[8]))}),
    ]
    (tmp_path / "csrs.jsonl").write_text("\n".join(rows) + "\n")
    done = works.sign(tmp_path / "csrs.jsonl")
    assert (1, [FIRST]) == (done.signed, list(works.certificates()))
    found = {fault.number: fault.reason for fault in done.faults}
    assert set(range(2, 12)) == found.keys()
    expected = {
        2: "signature does not verify",
        3: "1024 bits",
        4: f"the list calls it {THIRD!r}, its CSR {SECOND!r}",
        5: "'a-stranger' is no planned thing of sg-01",
        6: "row 7 has the key of this row",
        7: "has the key of row 6",
        8: "is a certificate, not a CSR",
        9: "no JSON object",
        10: "row 11 has the thing of this row",
        11: "has the thing of row 10",
    }
    assert [] == [(number, found[number]) for number, words in expected.items() if words not in found[number]]
    assert all(fault.remedy for fault in done.faults)


def forged_request(thing: str) -> str:
    """A CSR in which another name was laid over."""
    der = base64.b64decode("".join(pem(make_request("x" * len(thing))).splitlines()[1:-1]))
    text = base64.b64encode(der.replace(b"x" * len(thing), thing.encode())).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.slow
def test_csrs_that_were_handed_in_are_signed(works: Works, tmp_path: Path) -> None:
    """A folder with a file each, named as its thing with or without suffix; PEM blocks one after the other."""
    folder = tmp_path / "csrs"
    folder.mkdir()
    rsa_key = rsa.generate_private_key(65537, 2048)
    (folder / f"{FIRST}.csr").write_text(pem(make_request(FIRST, key=rsa_key)))
    (folder / f"{SECOND.removesuffix(f'-{SUFFIX}')}.pem").write_text(pem(make_request(SECOND)))
    (folder / f"{THIRD}.csr").write_text(pem(make_request(SECOND)))
    done = works.sign(folder)
    assert {FIRST, SECOND} == works.certificates().keys()
    assert rsa_key.public_key() == works.certificates()[FIRST].public_key()
    assert [f"the list calls it {THIRD!r}, its CSR {SECOND!r}"] == [fault.reason for fault in done.faults]
    fourth = sorted(THINGS)[3]
    (tmp_path / "blocks.pem").write_text(pem(make_request(THIRD)) + pem(make_request(fourth)))
    assert (2, 0, ()) == signed_of(works, tmp_path / "blocks.pem")
    assert [THIRD, fourth] == list(works.certificates())


@pytest.mark.slow
def test_a_csr_is_signed_once(works: Works, tmp_path: Path) -> None:
    """Unless it is asked for again, or its certificate was superseded, or has expired."""
    path = write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key(), SECOND: new_key()})
    assert (2, 0, ()) == signed_of(works, path)
    before = works.certificates()
    assert (0, 2, ()) == signed_of(works, path)
    assert before == works.certificates()
    assert (2, 0, ()) == signed_of(works, path, again=True)
    again = works.certificates()
    assert {before[FIRST], before[SECOND]}.isdisjoint(again.values())
    works.ledger.revoke([entry.serial for entry in works.ledger.of_thing(FIRST)], at=1.0, reason="superseded", note="")
    assert (1, 1, ()) == signed_of(works, path)
    assert again[SECOND] == works.certificates()[SECOND]
    assert (2, 0, ()) == signed_of(works, path, now=NOW + 301 * DAY, not_after=NOW + 400 * DAY)


@pytest.mark.slow
def test_a_revoked_key_is_never_signed_again(works: Works, tmp_path: Path) -> None:
    """Neither plainly, nor with --again, nor for another thing; and also where its certificate had expired before."""
    key, old = new_key(), new_key()
    assert (2, 0, ()) == signed_of(works, write_requests(tmp_path / "csrs.jsonl", {FIRST: key, THIRD: old}))
    revoke(works.ledger, works.ledger.of_thing(FIRST), reason="keyCompromise", note="stolen", now=NOW)
    for again in (False, True):
        path = write_requests(tmp_path / "csrs.jsonl", {FIRST: key})
        signed, _, (reason,) = signed_of(works, path, again=again, replaces=True)
        told = f"its key was revoked on 2026-11-24 as that of {FIRST} (ca revoke): keyCompromise, stolen"
        assert (0, told) == (signed, reason)
    assert 1 == len(signed_of(works, write_requests(tmp_path / "csrs.jsonl", {SECOND: key}))[2])
    assert {} == works.certificates()
    later = NOW + 301 * DAY
    revoke(works.ledger, works.ledger.of_thing(THIRD), reason="keyCompromise", note="", now=later)
    path = write_requests(tmp_path / "csrs.jsonl", {THIRD: old})
    assert 0 == signed_of(works, path, now=later, not_after=later + DAY)[0]
    assert (1, 0, ()) == signed_of(
        works, write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key()}), now=later, not_after=later + DAY
    )


@pytest.mark.slow
def test_another_key_of_a_thing_is_signed_when_it_is_asked_for(works: Works, tmp_path: Path) -> None:
    """The certificate of the old key is revoked as superseded then; without that, the CSR is refused."""
    signed_of(works, write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key()}))
    path = write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key()})
    for again in (False, True):
        signed, _, (reason,) = signed_of(works, path, again=again)
        assert (0, f"{FIRST} has a certificate for another key, until 2027-09-20") == (signed, reason)
    done = works.sign(path, replaces=True)
    assert (1, 1, ()) == (done.signed, done.superseded, done.faults)
    old, new = works.ledger.of_thing(FIRST)
    assert {"superseded", None} == {old.reason, new.reason}
    assert (0, 1, ()) == signed_of(works, path)


@pytest.mark.slow
def test_one_key_is_one_things(works: Works, tmp_path: Path) -> None:
    """In other lists, plants and runs, and after its certificate has expired; unless that very device has moved."""
    key, path = new_key(), tmp_path / "csrs.jsonl"
    signed_of(works, write_requests(path, {FIRST: key}))
    later = {"now": NOW + 301 * DAY, "not_after": NOW + 310 * DAY}
    for options in ({"facility": "th-01"}, {"again": True}, {"replaces": True}, later):
        signed, _, reasons = signed_of(works, write_requests(path, {SECOND: key}), **options)
        assert (0, (f"its key is that of {FIRST}, and no other thing may have it",)) == (signed, reasons)
    revoke(works.ledger, works.ledger.of_thing(FIRST), reason="affiliationChanged", note="moved", now=NOW)
    assert (1, 0, ()) == signed_of(works, write_requests(path, {SECOND: key}))
    assert 0 == signed_of(works, write_requests(path, {FIRST: key}))[0]


@pytest.mark.slow
def test_a_key_that_was_spent_in_aws_iot_is_not_signed(works: Works, tmp_path: Path) -> None:
    """A key that a journal knows as revoked is never signed; a retired one is signed when that is asked for."""
    stolen, retired, path = new_key(), new_key(), tmp_path / "csrs.jsonl"
    with Journal(tmp_path / "journal.sqlite") as journal:
        for end, key, thing in ((End.REVOKED, stolen, FIRST), (End.RETIRED, retired, SECOND)):
            values = {"key": key_digest(key.public_key()), "certificate_id": None, "thing": thing}
            journal.write(spend(end, **values, at=1.0, by="device", reason="stolen"))
        elsewhere = SpentKeys([tmp_path / "journal.sqlite"])
        write_requests(path, {FIRST: stolen, SECOND: retired})
        assert (0, 2) == counted(signed_of(works, path, elsewhere=elsewhere))
        assert (1, 1) == counted(signed_of(works, path, elsewhere=elsewhere, reuses_retired=True))
        elsewhere.close()
    assert [SECOND] == list(works.certificates())


def counted(done: tuple[int, int, tuple[str, ...]]) -> tuple[int, int]:
    return done[0], len(done[2])


@pytest.mark.slow
def test_a_clock_that_was_set_back_signs_nothing(works: Works, tmp_path: Path) -> None:
    """A clock that was set back is a fault, as certificates would be out of order; a few minutes are tolerated."""
    path = write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key()})
    signed_of(works, path)
    with pytest.raises(EnvironmentFault, match="clock says 2025"):
        works.sign(path, again=True, now=NOW - 400 * DAY)
    with pytest.raises(EnvironmentFault, match="the authority begins on"):
        open_authority(works.store, works.places, now=NOW - 400 * DAY)
    assert (1, 0, ()) == signed_of(works, path, again=True, now=NOW - datetime.timedelta(minutes=4))


@pytest.mark.slow
def test_what_an_older_ledger_has_revoked_is_taken_over(works: Works, tmp_path: Path) -> None:
    """A ledger of format 1 has no spent keys: they come from its revocations."""
    key, path = new_key(), tmp_path / "csrs.jsonl"
    signed_of(works, write_requests(path, {FIRST: key}))
    revoke(works.ledger, works.ledger.of_thing(FIRST), reason="keyCompromise", note="", now=NOW)
    works.ledger._database.execute("DROP TABLE spent")
    works.ledger._database.execute("PRAGMA user_version = 1")
    works.ledger.close()
    again = replace(works, ledger=Ledger(works.ledger.path))
    assert (0, 1) == counted(signed_of(again, path))


@pytest.mark.slow
def test_a_stopped_run_is_gone_on_with(tmp_path: Path) -> None:
    """Certificates of a stopped run are in the ledger and not signed again; no list exists before it is whole."""
    works = start(tmp_path)
    things = [f"{PLANT}-valve-{number:04d}-{SUFFIX}" for number in range(2 * BATCH)]
    path = write_requests(tmp_path / "csrs.jsonl", dict.fromkeys(things, new_key()) | {t: new_key() for t in things})
    order = works.order(path, planned=frozenset(things))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sign_requests(works.authority, works.ledger, order, target=works.list, on_progress=stop, workers=1)
    assert [] == list(works.places.folder.glob("*certificates*"))
    done = sign_requests(works.authority, works.ledger, order, target=works.list, workers=1)
    assert (BATCH, BATCH) == (done.signed, done.already)
    assert things == list(works.certificates())


@pytest.mark.slow
def test_validity_is_the_policys(works: Works) -> None:
    """No longer than it allows, and never longer than the authority's own."""
    for days in (0, 361):
        with pytest.raises(RequestError, match="allows 1 to 360 days"):
            end_of(works.authority, days, now=NOW)
    assert NOW + 5 * DAY == end_of(works.authority, 5, now=NOW)
    late = works.authority.certificate.not_valid_after_utc - DAY
    assert works.authority.certificate.not_valid_after_utc == end_of(works.authority, 300, now=late)


@pytest.mark.slow
def test_no_second_authority_is_made_over_the_first(works: Works) -> None:
    """It would orphan what the first one signed. A run killed before the certificate left a key, which is taken."""
    policy = Policy(days=1, max_days=1)
    with pytest.raises(RequestError, match="there is an authority already"):
        make_authority(works.store, works.places, name="b", curve="P-256", years=1, policy=policy, now=NOW)
    works.places.certificate.unlink()
    again = make_authority(works.store, works.places, name="b", curve="P-256", years=1, policy=policy, now=NOW)
    assert works.authority.key.public_key() == again.certificate.public_key()
    opened = open_authority(works.store, works.places, now=NOW)
    assert (again.certificate, policy) == (opened.certificate, opened.policy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"name": ""}, "is no common name"),
        ({"name": "x" * 65}, "is no common name"),
        ({"policy": Policy(days=10, max_days=9)}, "do not fit"),
        ({"policy": Policy(days=10, max_days=366)}, "do not fit"),
    ],
)
def test_an_authority_that_cannot_be_is_not_made(tmp_path: Path, asked: dict[str, object], told: str) -> None:
    """Nothing is written then."""
    works = start(tmp_path / "other")
    wanted = {"name": "a", "curve": "P-256", "years": 1, "policy": Policy(days=1, max_days=1), "now": NOW} | asked
    works.places.certificate.unlink()
    with pytest.raises(RequestError, match=told):
        make_authority(works.store, works.places, **wanted)  # type: ignore[arg-type]
    assert not works.places.certificate.exists()


@pytest.mark.slow
def test_an_authority_asks_for_a_longer_passphrase(tmp_path: Path) -> None:
    """A store of devices' keys may have a shorter one; an authority is not made in that."""
    places = Places(folder=tmp_path / "ca")
    with pytest.raises(RequestError, match="too few for an authority's key"):
        make_authority(
            KeyStore(tmp_path / "keys", "8 or 9 !"), places, name="x", curve="P-256", years=2,
            policy=Policy(days=1, max_days=2), now=NOW,
        )  # fmt: skip
    assert not places.certificate.exists()


@pytest.mark.slow
def test_an_authority_without_its_key_is_told(works: Works, tmp_path: Path) -> None:
    """Another store, an expired authority, damaged public parts."""
    with pytest.raises(EnvironmentFault, match="is not in the key store"):
        open_authority(KeyStore(tmp_path / "others", "tests only"), works.places, now=NOW)
    with pytest.raises(RequestError, match="expired on 2046-11-19"):
        open_authority(works.store, works.places, now=NOW + 20 * 366 * DAY)
    works.places.policy.write_text("{}")
    with pytest.raises(EnvironmentFault, match="is no policy"):
        open_authority(works.store, works.places, now=NOW)
    works.places.certificate.write_text("x")
    with pytest.raises(EnvironmentFault, match="is damaged"):
        open_authority(works.store, works.places, now=NOW)


@pytest.mark.slow
def test_a_serial_number_that_came_twice_is_refused(works: Works) -> None:
    """Then none of that batch is written down, so none gets out."""
    twice = [Signed(serial=b"s" * 16, thing=thing, key=b"k", der=b"d") for thing in (FIRST, SECOND)]
    with pytest.raises(EnvironmentFault, match="serial number came twice"):
        works.ledger.add(PLANT, twice, issued=0.0, not_after=1.0)
    assert 0 == works.ledger.counts(now=0.0).signed


@pytest.mark.slow
def test_the_authoritys_key_is_nowhere_in_the_clear(works: Works, tmp_path: Path) -> None:
    """Not in the ledger, nor in what is committed, nor beside it: as DER, PEM, or its bare number."""
    works.sign(write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key()}))
    key = works.authority.key
    number = key.private_numbers().private_value.to_bytes(32, "big")
    der = key_bytes(key)
    needles = (number, number.hex().encode(), der[20:60], base64.b64encode(der)[4:40], b"PRIVATE KEY")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [] == [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


@pytest.mark.slow
def test_what_is_shown_needs_no_key(works: Works, tmp_path: Path) -> None:
    """Counts of the ledger by state; a CRL that is not there is overdue."""
    works.sign(write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key(), SECOND: new_key()}))
    works.ledger.revoke([works.ledger.of_thing(FIRST)[0].serial], at=1.0, reason="superseded", note="")
    told = show_authority(works.ledger, works.places, now=NOW)
    assert (2, 1, 1, 0) == (told["signed"], told["valid"], told["revoked"], told["expired"])
    assert (0, True) == (told["crl_number"], told["crl_is_overdue"])
    later = show_authority(works.ledger, works.places, now=NOW + 301 * DAY)
    assert (0, 1, 1) == (later["valid"], later["revoked"], later["expired"])
    printed = subprocess.run(
        ["openssl", "x509", "-in", works.places.certificate, "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(told["sha256"]) == printed.stdout.strip().partition("=")[2].replace(":", "").lower()
    assert isinstance(works.authority.key, ec.EllipticCurvePrivateKey)
