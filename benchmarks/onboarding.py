"""Run `fleet onboard` for 20,000 devices against a service that enforces AWS IoT's quotas; compare with the ceiling."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import CertificateSigningRequestBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID

from benchmarks.iot_service import running
from benchmarks.project import ROOT, make_project
from benchmarks.result import Result
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.yaml import parse_document

DEVICES = 20_000
SCALE = 6.0
"""How much faster the service's time runs: 20,000 devices at 15 a second would take 22 minutes. Its bursts shrink with
it: a bucket has one second's calls, and that second is a sixth of one here."""


def run(rounds: int, *, devices: int = DEVICES, scale: float = SCALE) -> Result:
    """Onboards once, whatever `rounds` says: each device can be onboarded only once, and a run is long enough."""
    with TemporaryDirectory(prefix="fleet-benchmark-") as folder, running(scale=scale) as service:
        project = make_onboarding_project(Path(folder) / "project", things=devices)
        keys = make_csrs(project)
        outcome, used = _onboard(project, service.environment(Path(folder) / "journals"))
        state = service.state()
    _verify(state, keys)
    throttles = sum(state["throttles"].values())
    return Result(
        benchmark="onboarding",
        unit="devices/s",
        ours=outcome["rate"] / scale,
        peers={},
        limit=outcome["ceiling"] / scale,
        peak_memory_mb=used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
        details={
            "devices": devices,
            "throttles": throttles,
            "time_scale": scale,
            "seconds": outcome["seconds"],
            "seconds_of_the_service": round(outcome["seconds"] * scale, 1),
            "calls": outcome["calls"],
            "calls_a_device": round(sum(outcome["calls"].values()) / devices, 3),
            "cpu_ms_a_device": round((used.ru_utime + used.ru_stime) * 1_000 / devices, 2),
            "verified_pairs": len(keys),
        },
    )


def _onboard(project: Path, environment: dict[str, str]) -> tuple[dict[str, Any], Any]:
    """Run the command; return its own result, and what its process used."""
    command = [sys.executable, "-m", "fleet_iot", "onboard", "--facility", PLANT, "--aws", "--json"]
    result = project / "result.json"
    with result.open("w") as out:
        own = environment | {"PYTHONPATH": python_path(project)}
        process = subprocess.Popen(command, cwd=project, env=own, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"fleet onboard ended with {process.returncode}")
    outcome: dict[str, Any] = json.loads(result.read_text())
    return outcome, used


def _verify(state: dict[str, Any], keys: dict[str, bytes]) -> None:
    """Verify that every thing has one certificate, of its own key, and that there is no other certificate."""
    if state["things"].keys() != keys.keys() or len(state["certificates"]) != len(keys):
        raise AssertionError(f"{len(state['things'])} things, {len(state['certificates'])} certificates")
    for name, thing in state["things"].items():
        (principal,) = thing["principals"]
        pem = state["certificates"][principal.rpartition("/")[2]]["certificatePem"]
        found = x509.load_pem_x509_certificate(pem.encode()).public_key()
        info = found.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if info != keys[name] or len(thing["groups"]) != 1:
            raise AssertionError(f"{name} has another device's certificate, or no group")


PLANT = "sg-01"
OTHER_PLANT = "th-01"
"""Has the same device type: its groups and policies must not be taken for the first one's."""
DEVICE_TYPE = "press"
SUFFIX = "dev"


def make_onboarding_project(folder: Path, *, things: int, others: int = 1, registration: str = "bulk") -> Path:
    """Make the project in `folder`, with its manifest and declarations; without CSRs."""
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
                "registration": registration,
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
    """Return a path with the project's own declarations before those of the programs."""
    return f"{project}:{ROOT}"
