"""Rotate a device's key and certificate: the old one works until the rotation is finished.

The new key is on disk before the first call, under a name of its own until its certificate is attached.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.csr import read_requests, sign_request, write_requests
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.spent import End, spend
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.device import (
    Registered,
    certificates_of,
    find_certificate,
    id_of,
    make_certificate,
    material_of,
    refuse_moving,
    refuse_revoked,
    refuse_used,
    remove_certificate,
)
from fleet_iot.operations.registry.journal import Step, Write
from fleet_iot.operations.registry.steps import Work, expiry_of, pem_of

NEXT = "#next"
"""Suffix of a thing's name in the key store for its next key; no thing's name may contain it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The device's new certificate, and the old one, which works until the rotation is finished."""

    thing: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """The facility's key store and CSR file; without a store, devices make their own keys."""

    store: KeyStore | None
    requests: Path


def check_rotation(work: Work, device: Registered) -> None:
    """Raise RequestError for a device that cannot be given another key; nothing is changed."""
    name = device.thing.name
    refuse_moving(device)
    if not device.is_in_journal or device.certificate_arn is None:
        raise RequestError(
            f"{name} was not onboarded from here", hint="things that Terraform registers get a new CSR and an apply"
        )
    if not _noted(work, name).get("new"):
        refuse_revoked(work, device, certificates_of(work.journal, work.calls, device))


def check_finish(work: Work, device: Registered) -> dict[str, str]:
    """Return the journal's note on the device's rotation. Raises RequestError where none is unfinished."""
    noted = _noted(work, device.thing.name)
    if not noted.get("new"):
        raise RequestError(f"{device.thing.name} is not being rotated", hint="begin without --finish")
    return noted


def _noted(work: Work, name: str) -> dict[str, str]:
    begun = work.journal.steps(name).get(Step.ROTATE)
    return dict(json.loads(begun[2] or "{}")) if begun else {}


def begin_rotation(
    work: Work,
    device: Registered,
    *,
    keys: DeviceKeys,
    request: bytes | None,
    reason: str,
    sleep: Callable[[float], None] = time.sleep,
) -> Rotation:
    """Return the new certificate, made and attached beside the old one: from a CSR that was handed in, else from a new
    key.

    Raises RequestError where there is nothing to rotate; may be repeated after any interruption.
    """
    name, facility = device.thing.name, device.facility.id
    check_rotation(work, device)
    assert device.certificate_arn is not None  # noqa: S101 - check_rotation refuses that
    begun = work.journal.steps(name).get(Step.ROTATE)
    noted = json.loads(begun[2] or "{}") if begun else {}
    if noted.get("new"):
        if not _is_next(keys.store, facility, name, str(noted["key"])):
            raise RequestError(f"{name} is being rotated", hint="finish it once the device has come back: --finish")
        _hand_over(work, keys, facility, name)  # what a run that was killed just before this has left
        return Rotation(thing=name, old=id_of(noted["old"]), new=id_of(noted["new"]))
    pem = request.decode("ascii", "replace") if request else _own_request(keys.store, facility, name)
    material = material_of(pem)
    refuse_used(work, material.key)
    old = noted.get("old", device.certificate_arn)
    found = (
        find_certificate(work, material.key, begun[0], sleep)
        if begun and noted.get("key") == material.key.hex()
        else None
    )
    noted = {"old": old, "key": material.key.hex()}
    work.journal.write(
        entries.begin(name, Step.ROTATE, at=work.clock(), detail=json.dumps(noted)),
        entries.history(name, "rotate begun", at=work.clock(), certificate_id=id_of(old), reason=reason),
    )
    made = found or make_certificate(work, pem, key=material.key, is_active=True)
    arn, group = made["certificateArn"], work.groups[device.thing.device_type]
    if work.journal.policy_on(name) == "certificate":
        work.calls.call("AttachPolicy", policyName=group.policy, target=arn)
    work.calls.call("AttachThingPrincipal", thingName=name, principal=arn)
    noted["new"] = arn
    work.journal.write(
        _still_used(work, device, old, reason=reason),
        entries.begin(name, Step.ROTATE, at=work.clock(), detail=json.dumps(noted)),
        entries.material(name, der=material.der, fingerprint=material.fingerprint, key=material.key),
        entries.certificate(
            name, certificate_id=id_of(arn), arn=arn, status="ACTIVE", expires=expiry_of(made["certificatePem"])
        ),
        entries.history(name, "rotated", at=work.clock(), certificate_id=id_of(arn), reason=reason),
    )
    if request is None:
        _hand_over(work, keys, facility, name)
    else:
        _write_request(work, keys, name)
    return Rotation(thing=name, old=id_of(old), new=id_of(arn))


def finish_rotation(
    work: Work, device: Registered, *, reason: str, sleep: Callable[[float], None] = time.sleep
) -> Rotation:
    """Remove the old certificate. Raises RequestError where no rotation is unfinished."""
    name, noted = device.thing.name, check_finish(work, device)
    by = "device rotate --finish"
    remove_certificate(work, name, noted["old"], end=End.REPLACED, by=by, reason=reason, sleep=sleep)
    work.journal.write(entries.forget(name, Step.ROTATE))
    return Rotation(thing=name, old=id_of(noted["old"]), new=id_of(noted["new"]))


def _still_used(work: Work, device: Registered, old: str, *, reason: str) -> Write:
    """Reserve the old certificate's key for this device until the rotation is finished."""
    return spend(
        End.ROTATING,
        key=device.key,
        certificate_id=id_of(old),
        thing=device.thing.name,
        at=work.clock(),
        by="device rotate",
        reason=reason,
    )


def _own_request(store: KeyStore | None, facility: str, name: str) -> str:
    """Return a CSR for the device's next key, making the key if necessary."""
    if store is None or name not in store.names(facility):
        raise RequestError(
            f"the key of {name} is not in the key store: the device has made it itself",
            hint="have it make another, and hand in the CSR: --csr FILE",
        )
    store.add(facility, [(name + NEXT, ec.generate_private_key(ec.SECP256R1()))])
    key = _next_key(store, facility, name)
    assert key is not None  # noqa: S101 - added above
    return sign_request(name, key)


def _next_key(store: KeyStore, facility: str, name: str) -> ec.EllipticCurvePrivateKey | None:
    return dict(store.keys(facility, {name + NEXT})).get(name + NEXT)


def _is_next(store: KeyStore | None, facility: str, name: str, digest: str) -> bool:
    """Return whether the key with this digest still waits to become the device's."""
    key = _next_key(store, facility, name) if store else None
    return key is not None and key_digest(key.public_key()).hex() == digest


def _hand_over(work: Work, keys: DeviceKeys, facility: str, name: str) -> None:
    """Make the next key the device's key, and its CSR the committed one."""
    _write_request(work, keys, name)
    key = _next_key(keys.store, facility, name) if keys.store else None
    if keys.store is not None and key is not None:
        keys.store.replace(facility, name, key)
        # Overwrite the waiting name with another key, so that this one is not used twice.
        keys.store.replace(facility, name + NEXT, ec.generate_private_key(ec.SECP256R1()))


def _write_request(work: Work, keys: DeviceKeys, name: str) -> None:
    """Replace the device's CSR in the project, if there is one, so that onboarding finds it done."""
    requests = read_requests(keys.requests)
    if name in requests:
        der = work.journal.device(name).der
        write_requests(keys.requests, requests | {name: pem_of(der, "CERTIFICATE REQUEST")})
