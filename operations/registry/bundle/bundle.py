"""Bundles a plant's devices: finds their certificates, seals their keys, writes the archive and its receipt."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fleet_iot.lib.specs import FacilitySpec, fill
from fleet_iot.operations.pki.keystore import KeyStore
from fleet_iot.operations.pki.templates import key_and_point
from fleet_iot.operations.project import Project
from fleet_iot.operations.registry.bundle.archive import Archive, whole
from fleet_iot.operations.registry.bundle.certificates import Certificates, MissingError
from fleet_iot.operations.registry.bundle.device import CHECKSUMS, Endpoint, File, files_of, topics_of
from fleet_iot.operations.registry.bundle.guide import GUIDE
from fleet_iot.operations.registry.bundle.outcome import Bundled, Missing, NothingToBundleError, Outcome, joined
from fleet_iot.operations.registry.bundle.sealed_key import KeySealer
from fleet_iot.operations.registry.planned import PlannedThing, read_planned
from fleet_iot.operations.workers import WORKERS, batches_of, in_order

BATCH = 100
_SAFE = re.compile(r"[A-Za-z0-9:_][A-Za-z0-9:_-]{0,127}")
"""Names of things (https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html) that are no option of a
command either: they become folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The key store, and what encrypts keys for the bundle."""

    store: KeyStore
    sealer: KeySealer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Whose devices are bundled; without `keys`, the bundle has none."""

    project: Project
    facility: FacilitySpec
    account: str
    endpoint: Endpoint
    keys: Keys | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A thing with its certificate, and the sealed line of the key store that it has."""

    thing: PlannedThing
    certificate_id: str
    certificate: str
    line: bytes | None


def make_bundle(
    plant: Plant,
    certificates: Certificates,
    target: Path,
    *,
    workers: int = WORKERS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Writes the archive, whole or not at all; nothing of it but one batch of devices is in memory.

    The same devices give the same bytes, unless there are keys: their encryption is never twice the same.
    """
    root = f"{plant.facility.id}-{plant.project.environment_suffix}"
    entries = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - goes with the outcome
    missing: list[Missing] = []
    devices = keys = 0
    with tempfile.TemporaryFile() as sums, whole(target) as file:
        archive = Archive(file)
        work = partial(_files, plant, _policies(plant))
        for made in in_order(batches_of(_found(plant, certificates, missing), BATCH), work, workers=workers):
            for bundled, files in made:
                if isinstance(bundled, Missing):
                    missing.append(bundled)
                    continue
                for each in files:
                    archive.add(f"{root}/{bundled.thing}/{each.name}", each.content, mode=each.mode)
                sums.write(_sum(f"{bundled.thing}/{CHECKSUMS}", files[-1].content))
                entries.write(json.dumps(asdict(bundled)) + "\n")
                devices += 1
                keys += bundled.has_key
            on_progress(devices + len(missing), plant.facility.thing_count)
        outcome = Outcome(
            archive=target,
            sha256="",
            size=0,
            devices=devices,
            keys=keys,
            missing=tuple(sorted(missing, key=lambda each: each.thing)),
            entries=entries,
        )
        if not devices:
            raise NothingToBundleError(outcome)
        _add_rest(archive, root, plant, outcome, sums)
        archive.close()
    return replace(outcome, sha256=archive.sha256, size=archive.size)


def _found(plant: Plant, certificates: Certificates, missing: list[Missing]) -> Iterator[_Found]:
    """The things with what is known of them, in the approved record's order; what is missing is told at once."""
    store = plant.keys.store if plant.keys else None
    reader = store.reading(plant.facility.id) if store else None
    for thing in read_planned(plant.project, plant.facility):
        try:
            if not _SAFE.fullmatch(thing.name):
                raise MissingError("its name is no name of a thing, and none of a folder", "generate the plant anew")
            certificate_id, certificate = certificates.of(thing.name)
        except MissingError as fault:
            missing.append(Missing(thing=thing.name, reason=fault.reason, remedy=fault.remedy))
            continue
        line = reader.line(thing.name) if reader and thing.name in reader.places else None
        yield _Found(thing=thing, certificate_id=certificate_id, certificate=certificate, line=line)


def _policies(plant: Plant) -> dict[str, str]:
    """The device policies by device type, as this environment fills them."""
    folder = plant.project.root / "lib" / "facilities" / plant.facility.module
    return {
        group.device_type: fill(
            (folder / group.policy_file).read_text(encoding="utf-8"),
            account_id=plant.account,
            suffix=plant.project.environment_suffix,
        )
        for group in plant.facility.groups
    }


def _files(
    plant: Plant, policies: dict[str, str], batch: list[_Found]
) -> list[tuple[Bundled | Missing, tuple[File, ...]]]:
    """What goes into the archive for each; a key that is not its certificate's stays out, with its device."""
    made: list[tuple[Bundled | Missing, tuple[File, ...]]] = []
    for found in batch:
        name, certificate = found.thing.name, x509.load_pem_x509_certificate(found.certificate.encode())
        key = None
        if found.line is not None and plant.keys is not None:
            held = plant.keys.store.opened(plant.facility.id, found.line)
            if held.public_key() != certificate.public_key():
                reason = "its key in the key store is not its certificate's"
                remedy = "restore the key, or rotate the device"
                made.append((Missing(thing=name, reason=reason, remedy=remedy), ()))
                continue
            key = plant.keys.sealer.sealed(key_and_point(held)[0])
        topics = topics_of(policies[found.thing.device_type], name)
        files = files_of(name, certificate=found.certificate, key=key, topics=topics, endpoint=plant.endpoint)
        bundled = Bundled(
            thing=name,
            serial=found.thing.serial,
            device_type=found.thing.device_type,
            certificate_id=found.certificate_id,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            not_after=certificate.not_valid_after_utc.isoformat(),
            has_key=key is not None,
        )
        made.append((bundled, files))
    return made


def _add_rest(archive: Archive, root: str, plant: Plant, outcome: Outcome, sums: IO[bytes]) -> None:
    """The guide, the manifest, and the checksums of these and of each device's checksums."""
    archive.add(f"{root}/README.txt", GUIDE.encode())
    sums.write(_sum("README.txt", GUIDE.encode()))
    with tempfile.TemporaryFile() as manifest:
        digest = hashlib.sha256()
        for part in _manifest(plant, outcome):
            digest.update(part.encode())
            manifest.write(part.encode())
        _add_spooled(archive, f"{root}/manifest.json", manifest)
        sums.write(f"{digest.hexdigest()}  manifest.json\n".encode())
    _add_spooled(archive, f"{root}/{CHECKSUMS}", sums)


def _manifest(plant: Plant, outcome: Outcome) -> Iterator[str]:
    head = {
        "version": 1,
        "application": plant.project.fleet.application,
        "environment": plant.project.environment_suffix,
        "facility": plant.facility.id,
        "account": plant.account,
        "endpoint": plant.endpoint.host,
        "port": plant.endpoint.port,
        "devices": outcome.devices,
        "keys": outcome.keys,
        "missing": [asdict(each) for each in outcome.missing],
    }
    yield json.dumps(head)[:-1] + ', "things": [\n'
    yield from joined(json.dumps(asdict(each)) for each in outcome.bundled())
    yield "\n]}\n"


def _sum(name: str, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _add_spooled(archive: Archive, name: str, file: IO[bytes]) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    archive.add_stream(name, file, size=size)
