"""Another certificate for a device that has one: made from a CSR, held against its key, found where it was lost."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.operations.lists.material import read_material
from fleet_iot.operations.lists.record import Material, RefusedError
from fleet_iot.operations.registry.calls import UnknownOutcomeError
from fleet_iot.operations.registry.orphans import CLOCK_SKEW_S, SETTLE_S, unknown_certificates
from fleet_iot.operations.registry.steps import Work, is_of_key


def make_certificate(work: Work, pem: str, *, key: bytes, is_active: bool) -> dict[str, str]:
    """The certificate that AWS IoT makes of a CSR, seen to bear the key with this digest.

    Raises EnvironmentFault where the answer is missing: the next try has to look for it first.
    """
    try:
        made: dict[str, str] = work.calls.call_once(
            "CreateCertificateFromCsr", certificateSigningRequest=pem, setAsActive=is_active
        )
    except UnknownOutcomeError as error:
        raise EnvironmentFault(f"AWS IoT did not answer: {error}", hint="ask for it again") from None
    if not is_of_key(made["certificatePem"], key):
        raise EnvironmentFault(
            f"the certificate {made['certificateId']} bears another key than the CSR",
            hint="delete it; tell AWS support",
        )
    return made


def find_certificate(work: Work, key: bytes, since: float, sleep: Callable[[float], None]) -> dict[str, str] | None:
    """The certificate of this key that an earlier try made without hearing of it."""
    sleep(SETTLE_S)
    for described in unknown_certificates(work, since - CLOCK_SKEW_S):
        if is_of_key(described["certificatePem"], key):
            return described
    return None


def material_of(pem: str) -> Material:
    """The CSR as the journal holds it. Raises RequestError for one that nobody may take."""
    try:
        return read_material(None, pem.encode(), now=datetime.datetime.now(datetime.UTC))
    except RefusedError as refused:
        raise RequestError(f"the CSR {refused.reason}", hint=refused.remedy) from None


def refuse_used(work: Work, key: bytes) -> None:
    """Raises RequestError for a CSR whose key a device has, or had."""
    held, ended = work.journal.held(key), work.journal.spent(key, None)
    if held is not None or ended is not None:
        told = ended.told if ended else f"is that of {held.thing if held else ''} already"
        raise RequestError(f"the key of the CSR {told}", hint="let the device make another")


def request_of(path: Path) -> bytes:
    """A CSR in a file, as PEM. Raises RequestError."""
    try:
        request = x509.load_pem_x509_csr(path.read_bytes())
        request.public_key()  # read only when it is asked for
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise RequestError(f"{path} is no CSR in PEM", hint="--csr takes what the device made") from None
    return request.public_bytes(serialization.Encoding.PEM)


def policy_on(work: Work, name: str) -> str:
    """Where the device has its policy from, as it was onboarded."""
    found = work.journal.read("SELECT policy_on FROM runs JOIN devices ON run = id WHERE thing = ?", name)
    return str(found[0][0])
