"""Revocation by the authority: in its CRL, for good, under a number that only rises."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.pki.ca import (
    REASONS,
    find_certificates,
    publish,
    published,
    published_number,
    revoke,
    withdraw,
)
from fleet_iot.operations.pki.ledger import Signed
from tests.operations.lists.builders import new_key
from tests.operations.pki.authorities import NOW, PLANT, SUFFIX, THINGS, Works, start, write_requests

DAY = datetime.timedelta(days=1)
FIRST, SECOND = sorted(THINGS)[:2]


@pytest.fixture
def works(tmp_path: Path) -> Works:
    works = start(tmp_path)
    works.sign(write_requests(tmp_path / "csrs.jsonl", {FIRST: new_key(), SECOND: new_key()}))
    publish(works.authority, works.ledger, works.places, now=NOW)
    return works


@pytest.mark.slow
def test_a_revoked_certificate_is_refused_by_openssl(works: Works) -> None:
    """By the CRL; the other one is taken, and so was this one before."""
    found = works.certificates()
    assert works.verifies(found[FIRST], crl=True)
    entries = find_certificates(works.ledger, FIRST.removesuffix(f"-{SUFFIX}"), suffix=SUFFIX)
    assert [FIRST] == [entry.thing for entry in revoke(works.ledger, entries, reason="keyCompromise", note="", now=NOW)]
    done = publish(works.authority, works.ledger, works.places, now=NOW)
    assert (2, 1, NOW + 30 * DAY) == (done.number, done.revoked, done.next_update)
    assert not works.verifies(found[FIRST], crl=True)
    assert works.verifies(found[SECOND], crl=True)
    text = subprocess.run(
        ["openssl", "crl", "-in", works.places.crl, "-CAfile", works.places.certificate, "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "verify OK" in text.stderr
    assert "Key Compromise" in text.stdout
    assert f"{found[FIRST].serial_number:X}" in text.stdout
    crl = published(works.places)
    assert crl is not None and crl.is_signature_valid(works.authority.key.public_key())
    own = works.authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert own.key_identifier == authority.key_identifier


@pytest.mark.slow
def test_a_revocation_stays(works: Works) -> None:
    """Revoked again it keeps day and reason; what has expired needs no revocation, and stays in the list."""
    serial = f"{works.certificates()[FIRST].serial_number:032x}"
    by_serial = find_certificates(works.ledger, ":".join(serial[at : at + 2] for at in range(0, 32, 2)), suffix=SUFFIX)
    revoke(works.ledger, by_serial, reason="superseded", note="new board", now=NOW)
    again = find_certificates(works.ledger, f"0x{serial.upper()}", suffix=SUFFIX)
    assert [] == revoke(works.ledger, again, reason="keyCompromise", note="", now=NOW + DAY)
    (entry,) = works.ledger.of_thing(FIRST)
    assert (NOW.timestamp(), "superseded") == (entry.revoked, entry.reason)
    expired = find_certificates(works.ledger, SECOND, suffix=SUFFIX)
    assert [] == revoke(works.ledger, expired, reason="superseded", note="", now=NOW + 301 * DAY)
    assert 1 == publish(works.authority, works.ledger, works.places, now=NOW + 301 * DAY).revoked


@pytest.mark.slow
@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_in_the_list(works: Works, reason: str) -> None:
    """But for the one that is said by saying nothing."""
    revoke(works.ledger, works.ledger.of_thing(FIRST), reason=reason, note="", now=NOW)
    publish(works.authority, works.ledger, works.places, now=NOW)
    crl = published(works.places)
    assert crl is not None
    (revoked,) = crl
    found = [each.value.reason for each in revoked.extensions if isinstance(each.value, x509.CRLReason)]
    assert ([] if reason == "unspecified" else [REASONS[reason]]) == found
    assert NOW == revoked.revocation_date_utc


@pytest.mark.slow
def test_numbers_rise_whatever_is_lost(works: Works) -> None:
    """A run that was killed after publishing has not written its number down; a list that was lost is not the first."""
    before = works.ledger.last_list()
    works.ledger._database.execute("DELETE FROM lists")
    assert (1, 1) == (before[0], published_number(works.places))
    assert 2 == publish(works.authority, works.ledger, works.places, now=NOW).number
    works.places.crl.unlink()
    assert 3 == publish(works.authority, works.ledger, works.places, now=NOW).number


@pytest.mark.slow
def test_a_list_ends_with_its_authority(works: Works) -> None:
    """It could not be verified after."""
    end = works.authority.certificate.not_valid_after_utc
    assert end == publish(works.authority, works.ledger, works.places, now=end - DAY).next_update


@pytest.mark.slow
def test_a_stranger_cannot_be_revoked(works: Works) -> None:
    """Neither a thing nor a serial number that the authority has not signed."""
    for stranger in ("a-stranger", "00" * 16, "zz"):
        with pytest.raises(RequestError, match="has signed no certificate"):
            find_certificates(works.ledger, stranger, suffix=SUFFIX)


@pytest.mark.slow
def test_a_list_of_many_is_made_in_time(works: Works) -> None:
    """Of fifty thousand in seconds: it does not grow with the square."""
    many = [
        Signed(serial=b"\x41" + number.to_bytes(15, "big"), thing=f"t-{number}", key=b"", der=b"")
        for number in range(50_000)
    ]
    works.ledger.add(PLANT, many, issued=0.0, not_after=NOW.timestamp() + 1)
    found = [entry for each in many for entry in works.ledger.of_thing(each.thing)]
    revoke(works.ledger, found, reason="superseded", note="", now=NOW)
    start = datetime.datetime.now(datetime.UTC)
    assert 50_000 == publish(works.authority, works.ledger, works.places, now=NOW).revoked
    assert datetime.datetime.now(datetime.UTC) - start < datetime.timedelta(seconds=10)


@pytest.mark.slow
def test_a_crl_is_never_older_than_its_predecessor(works: Works) -> None:
    """With the clock set back none is published, and nothing is revoked; also where only the published one tells."""
    before = published(works.places)
    assert before is not None
    with pytest.raises(EnvironmentFault, match="clock says 2025"):
        publish(works.authority, works.ledger, works.places, now=NOW - 400 * DAY)
    with pytest.raises(EnvironmentFault, match="clock says 2025"):
        revoke(works.ledger, works.ledger.of_thing(FIRST), reason="keyCompromise", note="", now=NOW - 400 * DAY)
    assert [None] == [entry.revoked for entry in works.ledger.of_thing(FIRST)]
    works.ledger._database.execute("DELETE FROM lists")
    works.ledger._database.execute("DELETE FROM certificates")
    with pytest.raises(EnvironmentFault, match=r"clock says 2025.*crl\.pem is of 2026"):
        publish(works.authority, works.ledger, works.places, now=NOW - 400 * DAY)
    assert before == published(works.places)
    done = publish(works.authority, works.ledger, works.places, now=NOW - datetime.timedelta(minutes=1))
    after = published(works.places)
    assert after is not None and (2, NOW) == (done.number, after.last_update_utc)


@pytest.mark.slow
def test_a_revoked_certificate_leaves_the_written_list(works: Works) -> None:
    """Its line alone; a list that is none is told."""
    revoke(works.ledger, works.ledger.of_thing(FIRST), reason="keyCompromise", note="", now=NOW)
    assert {works.list: 1} == withdraw(works.ledger, works.places, [PLANT, "th-01"])
    assert [SECOND] == list(works.certificates())
    assert {} == withdraw(works.ledger, works.places, [PLANT])
    works.list.write_text("no list\n")
    with pytest.raises(EnvironmentFault, match="is no list of certificates"):
        withdraw(works.ledger, works.places, [PLANT])
