"""Brings what a bulk registration reports into the journal; what it leaves open is found out from AWS IoT."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.bulk import tasks
from fleet_iot.operations.registry.bulk.reports import Reported, fetch_lines, read_report
from fleet_iot.operations.registry.bulk.tasks import Task
from fleet_iot.operations.registry.orphans import settle_certificates
from fleet_iot.operations.registry.records import Step, Write
from fleet_iot.operations.registry.steps import Work

_TOGETHER = 500
_THROTTLED = re.compile(r"throttl|rate exceeded|too ?many ?requests|limit ?exceeded", re.IGNORECASE)
"""A line that only came too fast is no failure: it is registered afterwards, call by call."""


def read_reports(work: Work, task: Task, task_id: str, sleep: Callable[[float], None], *, is_complete: bool) -> None:
    """The reports, into the journal: devices that are done; then what was made and not reported; then failures."""
    writes: list[Write] = []
    for reported in _report(work, task_id, "RESULTS"):
        writes += _result(work, task, reported)
        if len(writes) >= _TOGETHER:
            work.journal.write(*writes)
            writes = []
    if writes:
        work.journal.write(*writes)
    settle_certificates(work, task.run, sleep=sleep)
    for reported in _report(work, task_id, "ERRORS"):
        found = tasks.thing_of(work.journal, task, line=reported.line, thing=reported.thing)
        if found is not None and not _THROTTLED.search(reported.message):
            reason = f"AWS IoT's bulk registration could not: {reported.message[:500]}"
            work.journal.write(tasks.failed(found[0], reason=reason, remedy="put that right and onboard the row again"))
    work.journal.write(*tasks.read_through(task, at=work.clock(), is_complete=is_complete))


def _report(work: Work, task_id: str, kind: str) -> Iterator[Reported]:
    """The lines of all files of a report."""
    token: dict[str, str] = {}
    while True:
        page = work.calls.call("ListThingRegistrationTaskReports", taskId=task_id, reportType=kind, **token)
        for url in page.get("resourceLinks", ()):
            yield from read_report(fetch_lines(url))
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


def _result(work: Work, task: Task, reported: Reported) -> list[Write]:
    """What to write of a device that AWS IoT says it registered: done, once its certificate is seen to bear its key."""
    found = tasks.thing_of(work.journal, task, line=reported.line, thing=reported.thing)
    if found is None or reported.certificate_pem is None:
        return []
    thing, key = found
    certificate = x509.load_pem_x509_certificate(reported.certificate_pem.encode())
    certificate_id = certificate.fingerprint(hashes.SHA256()).hex()
    arn = reported.certificate_arn or ""
    if not arn.endswith(f"/{certificate_id}"):
        arn = work.calls.call("DescribeCertificate", certificateId=certificate_id)["certificateDescription"][
            "certificateArn"
        ]
    if key_digest(certificate.public_key()) != key:
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE")
        return [
            entries.orphan(certificate_id, thing=thing, at=work.clock()),
            entries.failed(
                thing,
                reason=f"AWS IoT attached the certificate {certificate_id}, which bears another key than its CSR",
                remedy="it was made INACTIVE: delete it and the thing, and tell AWS support",
            ),
        ]
    expires = certificate.not_valid_after_utc.timestamp()
    ended = work.journal.spent(key, certificate_id, certificate.public_bytes(Encoding.DER))
    if ended is not None:  # revoked or retired while AWS IoT's task went on
        work.calls.call("UpdateCertificate", certificateId=certificate_id, newStatus="INACTIVE")
        reason = f"its key {ended.told}; its certificate was made INACTIVE"
        return [
            entries.certificate(thing, certificate_id=certificate_id, arn=arn, status="INACTIVE", expires=expires),
            entries.end(thing, Step.CERTIFICATE, at=work.clock()),
            entries.failed(thing, reason=reason, remedy=ended.remedy),
        ]
    return [
        entries.certificate(thing, certificate_id=certificate_id, arn=arn, status=work.status, expires=expires),
        entries.end(thing, Step.CERTIFICATE, at=work.clock()),
        entries.done(thing),
    ]
