"""Reads what a bulk registration reports: files of JSON lines, behind links that AWS IoT signs for a while.

AWS documents the files nowhere. Its own samples read `response.CertificatePem` and `response.ResourceArns.thing` of a
result (https://github.com/aws-samples/aws-iot-device-management-workshop, bin/bulk-result.py); of an error nothing is
known but that it has a line's number. So every field may be missing here, and cases of letters are not told apart:
what a report does not say is found out from AWS IoT itself afterwards.
"""

from __future__ import annotations

import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import urllib3

from fleet_iot.generator.diagnostics import EnvironmentFault

_CHUNK = 1 << 16
_TIMEOUT_S = 60.0
_RETRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One line of a report: the line of the parameter file (from 1) or the thing that it is about, as far as it says;
    a result's certificate; an error's words."""

    line: int | None
    thing: str | None
    certificate_pem: str | None
    certificate_arn: str | None
    message: str


def read_report(lines: Iterator[bytes]) -> Iterator[Reported]:
    """The lines of a report; those that are no JSON object say nothing."""
    for line in lines:
        try:
            told = _lowered(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if isinstance(told, dict):
            yield _reported(told, line)


def fetch_lines(url: str) -> Iterator[bytes]:
    """The lines of the file behind a link. Raises EnvironmentFault where it does not come whole."""
    with _pool(url) as pool:
        rest = b""
        try:
            answer = pool.request("GET", url, preload_content=False, enforce_content_length=True)
            if answer.status != 200:
                raise EnvironmentFault(
                    f"a report of the bulk registration is not to be had: HTTP {answer.status}",
                    hint="go on with --resume: the links are signed anew",
                )
            for chunk in answer.stream(_CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        except urllib3.exceptions.HTTPError as error:
            raise EnvironmentFault(
                f"a report of the bulk registration did not come whole: {error}", hint="go on with --resume"
            ) from None
        if rest:
            yield rest


def _pool(url: str) -> urllib3.PoolManager:
    """Trusts and goes through whom botocore trusts and goes through: AWS_CA_BUNDLE, HTTPS_PROXY, NO_PROXY."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    authorities = os.environ.get("AWS_CA_BUNDLE") or None
    if proxy is None or urllib.request.proxy_bypass(parts.netloc):
        return urllib3.PoolManager(ca_certs=authorities, timeout=_TIMEOUT_S, retries=_RETRIES)
    return urllib3.ProxyManager(proxy, ca_certs=authorities, timeout=_TIMEOUT_S, retries=_RETRIES)


def _reported(told: dict[str, Any], line: bytes) -> Reported:
    response = told.get("response")
    response = response if isinstance(response, dict) else told
    arns = response.get("resourcearns")
    arns = arns if isinstance(arns, dict) else {}
    number, thing = told.get("linenumber"), _text(arns.get("thing")) or _text(told.get("thingname"))
    words = (_text(told.get(name)) for name in ("errormessage", "message", "error", "errorcode"))
    return Reported(
        line=int(str(number)) if str(number).isdigit() else None,
        thing=thing.rpartition("/")[2] if thing else None,
        certificate_pem=_text(response.get("certificatepem")),
        certificate_arn=_text(arns.get("certificate")),
        message=next((word for word in words if word), line.decode("utf-8", "replace").strip()),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name).lower(): _lowered(item) for name, item in value.items()}
    return value
