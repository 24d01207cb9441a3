"""Finds the certificates whose making was begun and never heard of: a run was killed, or an answer was lost.

The intent in the journal says for which key and since when; AWS IoT lists certificates by their making. One that no
device of the journal has and that bears the key is the device's; where there is none, nothing came of the intent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from fleet_iot.operations.lists.material import key_digest, read_certificate
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.records import Step
from fleet_iot.operations.registry.steps import Work, expiry_of

SETTLE_S = 3.0
"""A call of a killed run may still be on its way: so long is waited before what it did is looked for."""
CLOCK_SKEW_S = 300.0
"""How far this machine's clock may be from AWS's."""
_PAGE = 250


def settle_certificates(work: Work, run: int, *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Gives each device with an unheard-of certificate what AWS IoT has for it; returns how many were found."""
    begun = work.journal.read(
        """SELECT thing, key, begun FROM steps JOIN devices USING (thing)
        WHERE run = ? AND step = ? AND ended IS NULL AND NOT is_certificate AND state = 'planned'""",
        *(run, Step.CERTIFICATE),
    )
    if not begun:
        return 0
    sleep(SETTLE_S)
    wanted = {key: thing for thing, key, _ in begun}
    since = min(at for _, _, at in begun) - CLOCK_SKEW_S
    found: set[bytes] = set()
    for described in unknown_certificates(work, since):
        try:
            key = key_digest(read_certificate(described["certificatePem"].encode()).public_key())
        except ValueError:  # somebody else's: those that come from our CSRs can be read
            continue
        thing = wanted.get(key)
        if thing is None:
            continue
        certificate_id, arn = described["certificateId"], described["certificateArn"]
        if key in found:
            work.journal.write(entries.orphan(certificate_id, thing=thing, at=work.clock()))
            continue
        found.add(key)
        work.journal.write(
            entries.certificate(
                thing,
                certificate_id=certificate_id,
                arn=arn,
                status=described["status"],
                expires=expiry_of(described["certificatePem"]),
            ),
            entries.end(thing, Step.CERTIFICATE, at=work.clock()),
        )
    lost = [thing for key, thing in wanted.items() if key not in found]
    if lost:
        work.journal.write(*(entries.forget(thing, Step.CERTIFICATE) for thing in lost))
    return len(found)


def unknown_certificates(work: Work, since: float) -> Iterator[dict[str, Any]]:
    """Certificates made since a time that no device of the journal has, newest first."""
    marker: dict[str, str] = {}
    while True:
        page = work.calls.call("ListCertificates", pageSize=_PAGE, ascendingOrder=False, **marker)
        recent = [each for each in page["certificates"] if each["creationDate"].timestamp() >= since]
        for each in recent:
            certificate_id = each["certificateId"]
            if not work.journal.read("SELECT 1 FROM devices WHERE certificate_id = ?", certificate_id):
                yield work.calls.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"]
        if "nextMarker" not in page or not page["nextMarker"] or not recent:
            return
        marker = {"marker": page["nextMarker"]}
