"""Rotate a device's key and certificate: the old one works until the rotation is finished.

The new key is on disk before the first call, under a name of its own until its certificate is attached. Where Terraform
registers the thing, its next CSR goes into the project, and two applies do what is done by calls for others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault, RequestError
from fleet_iot.lib.record.identities import Request
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.pki.csr import read_requests, sign_request, write_requests
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.spent import End, spend
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.device import (
    Certificate,
    Registered,
    certificates_of,
    find_certificate,
    id_of,
    make_certificate,
    material_of,
    no_key,
    refuse_moving,
    refuse_revoked,
    refuse_used,
    remove_certificate,
)
from fleet_iot.operations.registry.journal import Step, Write
from fleet_iot.operations.registry.registered import ThingKeys, add_key, digest_of, drop_keys
from fleet_iot.operations.registry.steps import Work, expiry_of, pem_of
from fleet_iot.sensor_processor.planning.items import device_key, parse_device

NEXT = "#next"
"""Suffix of a thing's name in the key store for its next key; no thing's name may contain it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The device's new certificate, and the old one, which works until the rotation is finished.

    `new` is None where the next apply makes it; `generation` is that of its key, None where Terraform does not
    register the thing.
    """

    thing: str
    old: str
    new: str | None
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """The facility's key store and CSR file; without a store, devices make their own keys."""

    store: KeyStore | None
    requests: Path


def check_rotation(work: Work, device: Registered) -> None:
    """Raise RequestError for a device that cannot be given another key; nothing is changed."""
    name = device.thing.name
    refuse_moving(device)
    if device.own_keys is not None:
        _check_own(work, device, device.own_keys)
        return
    if not device.is_in_journal or device.certificate_arn is None:
        raise RequestError(f"{name} was not onboarded from here", hint=f"fleet onboard --facility {device.facility.id}")
    if not _noted(work, name).get("new"):
        refuse_revoked(work, device, certificates_of(work.journal, work.calls, device))


def _check_own(work: Work, device: Registered, keys: ThingKeys) -> None:
    """Raise RequestError where the thing has no key in use, or no certificate of it; one being rotated passes."""
    if not keys.used:
        raise no_key(device)
    found = certificates_of(work.journal, work.calls, device)
    _refuse_unknown(device, keys, found)
    if len(keys.used) == 1:
        refuse_revoked(work, device, [_certificate_of(device, keys.used[0], found)])


def _refuse_unknown(device: Registered, keys: ThingKeys, found: Sequence[Certificate]) -> None:
    """Raise EnvironmentFault where a certificate of none of the thing's keys is active: no rotation would end it."""
    known = {digest_of(each) for each in keys.used}
    unknown = next((each for each in found if each.status == "ACTIVE" and each.key not in known), None)
    if unknown is not None:
        raise EnvironmentFault(
            f"{device.thing.name} has an active certificate {unknown.id} whose key is none of its CSRs' in use in "
            f"{keys.path}",
            hint=f"apply the stack of {device.facility.id} first, where a rotation was just finished; fleet device "
            "adopt, where the plant was in bulk; else remove it, where the device does not use it: "
            "docs/devices.md#second",
        )


def _certificate_of(device: Registered, request: Request, found: Sequence[Certificate]) -> Certificate:
    """Return the certificate that AWS IoT made of a CSR and attached to the thing; of several, an active one. Raises
    RequestError."""
    of_key = (each for each in found if each.key == digest_of(request))
    certificate = min(of_key, key=lambda each: each.status != "ACTIVE", default=None)
    if certificate is None:
        raise RequestError(
            f"{device.thing.name} has no certificate in AWS IoT of its key of generation {request.generation}",
            hint=f"apply the stack of {device.facility.id} first",
        )
    return certificate


def check_finish(work: Work, device: Registered) -> dict[str, str]:
    """Return the journal's note on the device's rotation. Raises RequestError where none is unfinished."""
    if device.own_keys is not None:
        if len(device.own_keys.used) < 2:
            raise RequestError(f"{device.thing.name} is not being rotated", hint="begin without --finish")
        found = certificates_of(work.journal, work.calls, device)
        _refuse_unknown(device, device.own_keys, found)
        new = _certificate_of(device, device.own_keys.used[-1], found)
        if second := [each.id for each in found if each.key == new.key and each.status == "ACTIVE" and each != new]:
            raise EnvironmentFault(
                f"{device.thing.name} has two active certificates of its new key: {new.id} and {second[0]}",
                hint="remove the one that is not in Terraform's state (docs/devices.md#second)",
            )
        refuse_revoked(work, device, [new])
        if new.status != "ACTIVE":
            raise RequestError(
                f"the new certificate {new.id} of {device.thing.name} is {new.status}", hint="fleet device activate"
            )
        return {"new": new.arn}
    noted = _noted(work, device.thing.name)
    if not noted.get("new"):
        raise RequestError(f"{device.thing.name} is not being rotated", hint="begin without --finish")
    return noted


def _noted(work: Work, name: str) -> dict[str, str]:
    begun = work.journal.steps(name).get(Step.ROTATE)
    return dict(json.loads(begun[2] or "{}")) if begun else {}


def refuse_unseen(dynamodb: Any, table: str, thing: str, new: str) -> None:
    """Raise RequestError unless the device's last reading came with its new certificate.

    Args:
        dynamodb: A client.
        table: The devices table.
        thing: Full name.
        new: Id of the new certificate.
    """
    hint = "have it connect with its new key and publish; or, where you have seen to that: --force"
    try:
        answer = dynamodb.get_item(TableName=table, Key=device_key(thing), ConsistentRead=True)
    except (BotoCoreError, ClientError) as error:
        raise RequestError(f"{table} does not say which certificate {thing} uses: {error}", hint=hint) from None
    if "Item" not in answer:
        raise RequestError(f"no reading of {thing} has arrived yet", hint=hint)
    seen = parse_device(answer["Item"])
    if seen.certificate_id != new:
        raise RequestError(f"the last reading of {thing} came with its certificate {seen.certificate_id}", hint=hint)


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
    if device.own_keys is not None:
        return _begin_own(work, device, device.own_keys, keys=keys, request=request, reason=reason)
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
        _still_used(work, device, old, key=device.key, reason=reason),
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
    if device.own_keys is not None:
        return _finish_own(work, device, device.own_keys, new=id_of(noted["new"]), by=by, reason=reason, sleep=sleep)
    remove_certificate(work, name, noted["old"], end=End.REPLACED, by=by, reason=reason, sleep=sleep)
    work.journal.write(entries.forget(name, Step.ROTATE))
    return Rotation(thing=name, old=id_of(noted["old"]), new=id_of(noted["new"]))


def _begin_own(
    work: Work, device: Registered, own: ThingKeys, *, keys: DeviceKeys, request: bytes | None, reason: str
) -> Rotation:
    """Add the thing's next CSR to the project: the next apply makes a certificate of it beside the other."""
    name, facility, used = device.thing.name, device.facility.id, own.used
    old = _certificate_of(device, used[0], certificates_of(work.journal, work.calls, device))
    reserved = _still_used(work, device, old.arn, key=old.key, reason=reason)
    if len(used) > 1:
        if request is not None or not _is_next(keys.store, facility, name, used[-1].locked.key):
            raise RequestError(f"{name} is being rotated", hint="finish it once the device has come back: --finish")
        work.journal.write(reserved)  # what a run that was killed just before this has left
        _take_next(keys.store, facility, name)
        return Rotation(thing=name, old=old.id, new=None, generation=used[-1].generation)
    pem = request.decode("ascii", "replace") if request else _own_request(keys.store, facility, name)
    key = material_of(pem).key
    refuse_used(work, key)
    work.journal.write(entries.history(name, "rotate begun", at=work.clock(), certificate_id=old.id, reason=reason))
    added = add_key(own, pem)
    what = f"CSR of generation {added.generation} added"
    work.journal.write(reserved, entries.history(name, what, at=work.clock(), certificate_id=None, reason=reason))
    if request is None:
        _take_next(keys.store, facility, name)
    return Rotation(thing=name, old=old.id, new=None, generation=added.generation)


def _finish_own(
    work: Work,
    device: Registered,
    own: ThingKeys,
    *,
    new: str,
    by: str,
    reason: str,
    sleep: Callable[[float], None],
) -> Rotation:
    """Remove the thing's former CSRs from the project: the next apply deletes their certificates.

    Terraform has one of each key. Where AWS IoT has several of one, all of them are removed there first: an apply finds
    the one that it had gone.
    """
    name, former = device.thing.name, own.used[:-1]
    found: dict[bytes, list[Certificate]] = {digest_of(each): [] for each in former}
    for each in certificates_of(work.journal, work.calls, device):
        if each.key in found:
            found[each.key].append(each)
    for key, certificates in found.items():
        ended = work.journal.spent(key, None)
        # Ended already: by a run that was stopped among several.
        is_one = len(certificates) < 2 and (ended is None or ended.what is not End.REPLACED)
        for each in () if is_one else certificates:
            remove_certificate(work, name, each.arn, end=End.REPLACED, by=by, reason=reason, sleep=sleep)
    at = work.clock()
    work.journal.write(
        *(
            spend(
                End.REPLACED,
                key=key,
                certificate_id=certificates[0].id if certificates else None,
                thing=name,
                at=at,
                by=by,
                reason=reason,
            )
            for key, certificates in found.items()
        ),
        entries.history(name, "rotated", at=at, certificate_id=new, reason=reason),
    )
    drop_keys(own, {each.generation for each in former})
    old = ", ".join(each.id for certificates in found.values() for each in certificates) or "none"
    return Rotation(thing=name, old=old, new=new, generation=own.used[-1].generation)


def _take_next(store: KeyStore | None, facility: str, name: str) -> None:
    """Make the next key the device's key in the store."""
    key = _next_key(store, facility, name) if store else None
    if store is not None and key is not None:
        store.replace(facility, name, key)
        # Overwrite the waiting name with another key, so that this one is not used twice.
        store.replace(facility, name + NEXT, ec.generate_private_key(ec.SECP256R1()))


def _still_used(work: Work, device: Registered, old: str, *, key: bytes | None, reason: str) -> Write:
    """Reserve the old certificate's key for this device until the rotation is finished."""
    return spend(
        End.ROTATING,
        key=key,
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
    _take_next(keys.store, facility, name)


def _write_request(work: Work, keys: DeviceKeys, name: str) -> None:
    """Replace the device's CSR in the project, if there is one, so that onboarding finds it done."""
    requests = read_requests(keys.requests)
    if name in requests:
        der = work.journal.device(name).der
        write_requests(keys.requests, requests | {name: pem_of(der, "CERTIFICATE REQUEST")})
