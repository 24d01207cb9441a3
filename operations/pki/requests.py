"""The committed certificate signing requests: `identities/<environment-suffix>/<facility>.csrs.jsonl`.

One JSON object a line, sorted by thing: `{"thing": NAME, "csr": PEM}`. CSRs are public.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import json
import operator
import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.pki.templates import request_der
from fleet_iot.operations.private_files import inside


def csr_path(folder: Path, suffix: str, facility: str) -> Path:
    """Where the facility's CSRs of one environment lie."""
    return inside(inside(folder, suffix), f"{facility}.csrs.jsonl")


def sign_request(name: str, key: ec.EllipticCurvePrivateKey, point: bytes | None = None) -> str:
    """A PEM CSR whose common name is the thing's name (AWS IoT takes P-256 CSRs of up to 4,096 characters)."""
    text = ssl.DER_cert_to_PEM_cert(request_der(name, key, point))
    return text.replace("CERTIFICATE-----", "CERTIFICATE REQUEST-----")


def read_requests(path: Path) -> dict[str, str]:
    """Thing name → PEM CSR; empty where there is no file. Raises EnvironmentFault with file and line."""
    return {thing: csr for thing, csr, _ in _lines(path)}


def places_of(path: Path) -> dict[str, int]:
    """Thing name → where in the file its line begins; what a file of a million can be held by."""
    return {thing: place for thing, _, place in _lines(path)}


def write_requests(path: Path, requests: dict[str, str]) -> None:
    """Replace the file whole, sorted by thing: a killed run leaves the old file or the new one."""
    _write(path, (line_of(name, requests[name]) for name in sorted(requests)))


def add_requests(
    path: Path, places: dict[str, int], added: Iterable[tuple[str, str]], *, before: Callable[[], None]
) -> None:
    """Replace the file by one that has these lines too, of other things, in order; nothing but a line is in memory.

    `before` is called when all lines are there and the file is not replaced yet.
    """
    with path.open("rb") if places else contextlib.nullcontext(io.BytesIO()) as file:

        def held() -> Iterator[tuple[str, str]]:
            for name in sorted(places):
                file.seek(places[name])
                yield name, file.readline().decode().rstrip("\n") + "\n"

        _write(path, (line for _, line in heapq.merge(held(), added, key=operator.itemgetter(0))), before=before)


def line_of(name: str, csr: str) -> str:
    """A line of the file."""
    return json.dumps({"thing": name, "csr": csr}) + "\n"


def _lines(path: Path) -> Iterator[tuple[str, str, int]]:
    """Thing, PEM CSR, and where the line begins."""
    if not path.exists():
        return
    place = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                yield row["thing"], row["csr"], place
            except (ValueError, KeyError, TypeError):
                raise EnvironmentFault(
                    f'{path}:{number}: not a line {{"thing": …, "csr": …}}',
                    hint="correct the line, or remove it and run `fleet keys create`",
                ) from None
            place += len(line)


def _write(path: Path, lines: Iterable[str], *, before: Callable[[], None] = lambda: None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".new")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        before()
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
