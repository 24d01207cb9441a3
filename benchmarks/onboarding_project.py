"""A project with one plant of so many things, registered in bulk, each with a key and a CSR of its own, and another."""

from __future__ import annotations

import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import CertificateSigningRequestBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID

from benchmarks.project import ROOT, make_project
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.yaml import parse_document

PLANT = "sg-01"
OTHER_PLANT = "th-01"
"""Has the same device type: its groups and policies must not be taken for the first one's."""
DEVICE_TYPE = "press"
SUFFIX = "dev"


def make_onboarding_project(folder: Path, *, things: int, others: int = 1) -> Path:
    """The project in `folder`, with its manifest and declarations; without CSRs."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"temperature": {"unit": "celsius", "max": 95}}
    data = {
        "version": 1,
        "application": "bench",
        "environment_suffix": SUFFIX,
        "region": "ap-southeast-1",
        "device_types": {DEVICE_TYPE: {"description": "Press", "sample_interval_s": 3600, "metrics": metrics}},
        "facilities": {
            PLANT: {
                "name": "Tuas",
                "timezone": "Asia/Singapore",
                "registration": "bulk",
                "things": {DEVICE_TYPE: things},
            },
            OTHER_PLANT: {
                "name": "Rayong",
                "timezone": "Asia/Bangkok",
                "registration": "bulk",
                "things": {DEVICE_TYPE: others},
            },
        },
    }
    text = json.dumps(data)
    (folder / "fleet.yaml").write_text(text, encoding="utf-8")
    return make_project(folder, validate(parse_document(text, name="fleet.yaml")))


def make_csrs(project: Path, plant: str = PLANT) -> dict[str, bytes]:
    """Writes a CSR for each thing of a plant; returns the public keys (SPKI) by the thing's full name."""
    target = project / "identities" / SUFFIX / f"{plant}.csrs.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    keys: dict[str, bytes] = {}
    things = project / "lib" / "facilities" / plant.replace("-", "_") / "things.jsonl"
    with things.open("rb") as rows, target.open("w", encoding="ascii") as lines:
        for row in rows:
            name = f"{json.loads(row)['name']}-{SUFFIX}"
            key = ec.generate_private_key(ec.SECP256R1())
            subject = Name([NameAttribute(NameOID.COMMON_NAME, name)])
            csr = CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
            pem = csr.public_bytes(serialization.Encoding.PEM).decode()
            lines.write(json.dumps({"thing": name, "csr": pem}) + "\n")
            keys[name] = key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
    return keys


def python_path(project: Path) -> str:
    """The project's own declarations before those of the programs."""
    return f"{project}:{ROOT}"
