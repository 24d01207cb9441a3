"""A project with one plant in bulk, an AWS IoT that enforces quotas, and `fleet onboard` between the two."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from cryptography import x509

from benchmarks.iot_service import Running, running
from benchmarks.onboarding import PLANT, SUFFIX, make_csrs, make_onboarding_project, python_path
from fleet_iot.operations.lists.material import key_digest


def thing_name(number: int) -> str:
    return f"{PLANT}-press-{number:04d}-{SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Project and service that a test onboards devices with."""

    project: Path
    service: Running
    things: int

    @property
    def environment(self) -> dict[str, str]:
        return self.service.environment(self.journals) | {"PYTHONPATH": python_path(self.project)}

    @property
    def journals(self) -> Path:
        return self.project.parent / "journals"

    def start(self, *arguments: str, plant: str = PLANT) -> subprocess.Popen[str]:
        """`fleet onboard` in a process of its own."""
        command = [sys.executable, "-m", "fleet_iot", "onboard", "--facility", plant, "--aws", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.project, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def onboard(self, *arguments: str, exit_code: int = 0) -> str:
        """Run `fleet onboard`, expect an exit code, and return stdout, with stderr where the code is not 0."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=120)
        assert exit_code == process.returncode, f"{out}\n{err}"
        return out if exit_code == 0 else out + err

    def onboarded(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """Its JSON result."""
        return finished(self.start(*arguments, "--json"), exit_code=exit_code)

    def declare(self, old: str, new: str) -> None:
        """Another word in the plant's declaration, as if it had been generated so: the record's index knows it."""
        record, name = self.project / "lib" / "facilities", f"{PLANT.replace('-', '_')}/__init__.py"
        text = (record / name).read_text().replace(old, new)
        (record / name).write_text(text)
        index = json.loads((record / ".generated.json").read_text())
        index["facilities"][PLANT]["files"][name] = hashlib.sha256(text.encode()).hexdigest()
        (record / ".generated.json").write_text(json.dumps(index))

    def iot(self) -> Any:
        """A client of the service."""
        return boto3.client(
            "iot",
            endpoint_url=self.service.url,
            region_name="ap-southeast-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


def finished(process: subprocess.Popen[str], *, exit_code: int = 0) -> dict[str, Any]:
    """The JSON result of a run that was started, held to an exit code."""
    with process:
        out, err = process.communicate(timeout=120)
    assert exit_code == process.returncode, f"{out}\n{err}"
    result: dict[str, Any] = json.loads(out)
    return result


@contextmanager
def site(folder: Path, *, things: int, scale: float = 50.0, lose: float = 0.0, csrs: bool = True) -> Iterator[Site]:
    """A plant of so many presses; with CSRs of all of them in the project unless told otherwise."""
    project = make_onboarding_project(folder / "project", things=things)
    if csrs:
        make_csrs(project)
    with running(scale=scale, lose=lose) as service:
        yield Site(project=project, service=service, things=things)


def keys_by_thing(state: dict[str, Any]) -> dict[str, bytes]:
    """The digest of the one key that each thing has, by its certificate; there is no other certificate."""
    found = {}
    for name, thing in state["things"].items():
        (principal,) = thing["principals"]
        (group,) = thing["groups"]
        assert f"thing-group-{PLANT}-press-{SUFFIX}" == group
        pem = state["certificates"][principal.rpartition("/")[2]]["certificatePem"]
        found[name] = key_digest(x509.load_pem_x509_certificate(pem.encode()).public_key())
    assert len(found) == len(state["certificates"])
    return found


def asked_keys(project: Path) -> dict[str, bytes]:
    """The digest of each thing's key, by its CSR."""
    lines = (project / "identities" / SUFFIX / f"{PLANT}.csrs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["thing"]: key_digest(x509.load_pem_x509_csr(row["csr"].encode()).public_key()) for row in rows}
