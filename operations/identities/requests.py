"""The committed certificate signing requests: `identities/<environment-suffix>/<facility>.csrs.jsonl`.

One JSON object a line, sorted by thing: `{"thing": NAME, "csr": PEM}`. CSRs are public.
"""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from generator.diagnostics import EnvironmentFault
from operations.identities.templates import request_der


def csr_path(folder: Path, suffix: str, facility: str) -> Path:
    """Where the facility's CSRs of one environment lie."""
    return folder / suffix / f"{facility}.csrs.jsonl"


def sign_request(name: str, key: ec.EllipticCurvePrivateKey) -> str:
    """A PEM CSR whose common name is the thing's name (AWS IoT takes P-256 CSRs of up to 4,096 characters)."""
    text = ssl.DER_cert_to_PEM_cert(request_der(name, key))
    return text.replace("CERTIFICATE-----", "CERTIFICATE REQUEST-----")


def read_requests(path: Path) -> dict[str, str]:
    """Thing name → PEM CSR; empty where there is no file. Raises EnvironmentFault with file and line."""
    requests: dict[str, str] = {}
    if not path.exists():
        return requests
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            requests[row["thing"]] = row["csr"]
        except (ValueError, KeyError, TypeError):
            raise EnvironmentFault(
                f'{path}:{number}: not a line {{"thing": …, "csr": …}}',
                hint="correct the line, or remove it and run `fleet keys create`",
            ) from None
    return requests


def write_requests(path: Path, requests: dict[str, str]) -> None:
    """Replace the file whole, sorted by thing: a killed run leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".new")
    with staged.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"thing": name, "csr": requests[name]}) + "\n" for name in sorted(requests))
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
