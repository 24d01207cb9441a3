"""The receipt of a hand-over: who gives what to whom, by checksum, as JSON and as a page to sign."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import visible
from fleet_iot.operations.registry.bundle.archive import whole
from fleet_iot.operations.registry.bundle.bundle import Plant
from fleet_iot.operations.registry.bundle.outcome import Outcome, joined


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Who made the bundle for whom, and when."""

    by: str
    to: str
    at: datetime.datetime


def write_receipt(plant: Plant, outcome: Outcome, hand_over: HandOver) -> tuple[Path, Path]:
    """Writes both beside the archive; returns their paths."""
    archive = outcome.archive
    page, document = archive.with_name(f"{archive.name}.receipt.txt"), archive.with_name(f"{archive.name}.receipt.json")
    for path, parts in ((page, _page(plant, outcome, hand_over)), (document, _document(plant, outcome, hand_over))):
        with whole(path) as file:
            for part in parts:
                file.write(part.encode())
    return document, page


def _head(plant: Plant, outcome: Outcome, hand_over: HandOver) -> dict[str, str | int]:
    return {
        "archive": outcome.archive.name,
        "sha256": outcome.sha256,
        "bytes": outcome.size,
        "made_at": hand_over.at.isoformat(timespec="seconds"),
        "made_by": hand_over.by,
        "handed_to": hand_over.to,
        "application": plant.project.fleet.application,
        "environment": plant.project.environment_suffix,
        "account": plant.account,
        "facility": plant.facility.id,
        "facility_name": plant.facility.name,
        "endpoint": plant.endpoint.host,
        "devices": outcome.devices,
        "encrypted_keys": outcome.keys,
        "missing": len(outcome.missing),
    }


def _document(plant: Plant, outcome: Outcome, hand_over: HandOver) -> Iterator[str]:
    head = _head(plant, outcome, hand_over) | {"missing": [asdict(each) for each in outcome.missing]}
    yield json.dumps(head)[:-1] + ', "things": [\n'
    kept = ("thing", "serial", "fingerprint", "has_key")
    yield from joined(json.dumps({name: getattr(each, name) for name in kept}) for each in outcome.bundled())
    yield "\n]}\n"


def _page(plant: Plant, outcome: Outcome, hand_over: HandOver) -> Iterator[str]:
    yield "RECEIPT OF DEVICE IDENTITIES\n\n"
    for name, value in _head(plant, outcome, hand_over).items():
        yield f"{name.replace('_', ' '):<16}{visible(str(value))}\n"
    yield "\nThe archive is the one meant here if its checksum is: sha256sum ARCHIVE\n\n"
    yield "things, with serial number, key (encrypted, or the device's own) and SHA-256 of the certificate\n\n"
    for number, each in enumerate(outcome.bundled(), start=1):
        key = "encrypted" if each.has_key else "own"
        yield f"{number:>7}  {each.thing}  {each.serial}  {key}  {each.fingerprint}\n"
    if outcome.missing:
        yield "\nnot in the archive\n\n"
    for fault in outcome.missing:
        yield f"         {fault.thing}  {visible(fault.reason)}\n"
    yield "\n\nhanded over by  ______________________________  date  ______________\n"
    yield "\n\nreceived by     ______________________________  date  ______________\n"
