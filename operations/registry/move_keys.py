"""Keys and CSRs of a moved device: made or taken along, and gone from under its former name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.operations.lists.material import key_digest
from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.pki.csr import read_requests, sign_request, write_requests
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.registry.move_plan import PlannedMove
from fleet_iot.operations.registry.renewal import material_of
from fleet_iot.operations.registry.steps import Work, pem_of


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveKeys:
    """The key store, None where there is none, and the CSR files of the old plant and of the new one."""

    store: KeyStore | None
    requests_from: Path
    requests_to: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """That the device gets another certificate: from the CSR that it hands in, else from a key that is made here."""

    request: bytes | None


def material_for(work: Work, planned: PlannedMove, keys: MoveKeys, renewal: Renewal | None) -> Material:
    """What the device proves itself with at the new plant; a key that is made for it is on disk when this returns."""
    former, name, store = planned.device.thing.name, planned.thing.name, keys.store
    if renewal is not None and renewal.request is not None:
        return material_of(renewal.request.decode("ascii", "replace"))
    own = _key(store, planned.device.facility.id, former)
    if renewal is not None:
        if store is None or own is None:
            raise RequestError(
                f"the key of {former} is not in the key store: the device has made it itself",
                hint="let it make another, and hand in the CSR: --csr FILE",
            )
        store.add(planned.to.id, [(name, ec.generate_private_key(ec.SECP256R1()))])
        made = _key(store, planned.to.id, name)
        assert made is not None  # noqa: S101 - added above
        return material_of(sign_request(name, made))
    query = "SELECT is_certificate, der, fingerprint, key FROM devices WHERE thing = ?"
    is_certificate, der, fingerprint, digest = work.journal.read(query, former)[0]
    if own is not None and key_digest(own.public_key()) == digest and not is_certificate:
        return material_of(sign_request(name, own))
    return Material(is_certificate=bool(is_certificate), der=der, fingerprint=fingerprint, key=digest, common_name=None)


def take_key_along(work: Work, keys: MoveKeys, planned: PlannedMove) -> None:
    """The key that the device keeps lies under its new name too, once that name is taken."""
    facility, former = planned.device.facility.id, planned.device.thing.name
    own = _key(keys.store, facility, former)
    if keys.store is None or own is None:
        return
    ((digest,),) = work.journal.read("SELECT key FROM devices WHERE thing = ?", planned.thing.name)
    there = _key(keys.store, planned.to.id, planned.thing.name)
    if key_digest(own.public_key()) == digest and (there is None or key_digest(there.public_key()) != digest):
        keys.store.replace(planned.to.id, planned.thing.name, own)


def tidy_keys(work: Work, keys: MoveKeys, planned: PlannedMove) -> None:
    """No key or CSR of the device stays under its former name, so that nobody takes it twice; its CSR goes along."""
    former, name = planned.device.thing.name, planned.thing.name
    query = "SELECT thing, is_certificate, der, key FROM devices WHERE thing IN (?, ?)"
    rows = {thing: values for thing, *values in work.journal.read(query, former, name)}
    own = _key(keys.store, planned.device.facility.id, former)
    if keys.store is not None and own is not None and key_digest(own.public_key()) == rows[former][2]:
        keys.store.replace(planned.device.facility.id, former, ec.generate_private_key(ec.SECP256R1()))
    before, after = read_requests(keys.requests_from), read_requests(keys.requests_to)
    is_certificate, der, _ = rows[name]
    if former in before or name in after:
        after.pop(name, None)
        if not is_certificate:
            after[name] = pem_of(der, "CERTIFICATE REQUEST")
        write_requests(keys.requests_to, after)
    if former in before:
        del before[former]
        write_requests(keys.requests_from, before)


def _key(store: KeyStore | None, facility: str, name: str) -> ec.EllipticCurvePrivateKey | None:
    return dict(store.keys(facility, {name})).get(name) if store else None
