"""Checks each rendered artefact once more before it is written: a fault here is one of a template, not of a person."""

from __future__ import annotations

import json
import re
from typing import Any

from generator import naming
from generator.artefact import Chunk
from generator.dashboard import DIMENSIONS, NAMESPACE, PROCESSOR_METRICS
from generator.diagnostics import GateError
from generator.encoding import EncodingError, encode_sql
from generator.inventory import name_order
from lib.declarations import DeclarationError, parse

POLICY_MAXIMUM = 2_048
"""Characters without white space: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
PROVISIONING_MAXIMUM = 10_240
"""Bytes: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateProvisioningTemplate.html"""
TOKEN_SLACK = {naming.ACCOUNT_ID_TOKEN: "0" * 12, naming.SUFFIX_TOKEN: "s" * naming.SUFFIX_MAX_LENGTH}
"""The longest values that the tokens may be filled with."""


def check_python(path: str, content: bytes) -> None:
    """Only imports from the specs and the facilities, and assignments of literals and specs."""
    try:
        parse(content)
    except DeclarationError as error:
        raise _fault(path, str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def check_json(path: str, content: bytes) -> Any:
    """JSON without keys that stand twice; gives what it holds."""
    try:
        return _DECODER.decode(content.decode())
    except ValueError as error:
        raise _fault(path, f"it is not JSON: {error}") from None


def check_policy(path: str, content: bytes) -> None:
    """No wildcard anywhere, no other effect than Allow, and short enough with any account and suffix."""
    document = check_json(path, content)
    text = content.decode()
    if "*" in text or "?" in text:
        raise _fault(path, "a device policy holds no wildcard")
    if any(statement.get("Effect") != "Allow" or not statement.get("Resource") for statement in document["Statement"]):
        raise _fault(path, "every statement allows something on named resources")
    for token, value in TOKEN_SLACK.items():
        text = text.replace(token, value)
    size = len("".join(text.split()))
    if size > POLICY_MAXIMUM:
        raise _fault(path, f"it has {size} characters without white space; AWS IoT takes {POLICY_MAXIMUM}")


def check_topic_rule(path: str, content: bytes, *, topic: str) -> None:
    """One statement, whose FROM is the planned topic."""
    lines = content.decode().splitlines()
    try:
        source = f"FROM {encode_sql(topic)}"
    except EncodingError as error:
        raise _fault(path, str(error)) from None
    if len(lines) != 2 or not lines[0].startswith("SELECT ") or lines[1] != source or b";" in content:
        raise _fault(path, f"it is not one statement that ends with {source}")


def check_provisioning(path: str, content: bytes) -> None:
    """The sections that AWS asks for, references to declared parameters alone, and short enough."""
    document = check_json(path, content)
    if set(document) != {"Parameters", "Resources"}:
        raise _fault(path, "it needs Parameters and Resources, and nothing else")
    types = {resource["Type"] for resource in document["Resources"].values()}
    if types != {"AWS::IoT::Thing", "AWS::IoT::Certificate", "AWS::IoT::Policy"}:
        raise _fault(path, "it makes a thing, a certificate and a policy")
    if unknown := sorted(set(_references(document["Resources"])) - set(document["Parameters"])):
        raise _fault(path, f"it refers to undeclared parameters: {', '.join(unknown)}")
    if len(content) > PROVISIONING_MAXIMUM:
        raise _fault(path, f"it has {len(content)} bytes; AWS IoT takes {PROVISIONING_MAXIMUM}")


def check_bulk_registration(path: str, content: bytes) -> None:
    """Like a provisioning template, with a certificate from a CSR; every parameter is used, so that none is lost.

    AWS documents its functions (Fn::Join) for fleet provisioning alone:
    https://docs.aws.amazon.com/iot/latest/developerguide/provision-template.html
    """
    check_provisioning(path, content)
    document = check_json(path, content)
    if unused := sorted(set(document["Parameters"]) - set(_references(document["Resources"]))):
        raise _fault(path, f"it does not use its parameters: {', '.join(unused)}")
    for resource in document["Resources"].values():
        if resource["Type"] == "AWS::IoT::Certificate" and "CertificateSigningRequest" not in resource["Properties"]:
            raise _fault(path, "it makes no certificate from a CSR")
    if b"Fn::" in content:
        raise _fault(path, "bulk registration takes no functions")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["Ref"]] if set(value) == {"Ref"} else []
        return own + [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


def check_dashboard(path: str, content: bytes) -> None:
    """Every metric in it is one that the sensor processor emits, with its dimensions."""
    for widget in check_json(path, content)["widgets"]:
        for line in widget["properties"].get("metrics", ()):
            namespace, metric, *dimensions = line
            if (namespace, tuple(dimensions[::2])) != (NAMESPACE, DIMENSIONS) or metric not in PROCESSOR_METRICS:
                raise _fault(path, f"the sensor processor emits no metric {line}")


def check_markdown(path: str, content: bytes) -> None:
    """Nothing of the template is left in it."""
    text = content.decode()
    if left := re.search(r"\{\{|\{%|\{#", text):
        raise _fault(path, f"the template shows through: {left[0]}")


_LINE = re.compile(rb"[^\n]*\n")


class ThingRowsGate:
    """Checks rows as they stream by: JSON with the right keys, in order (hence unique), and none missing."""

    KEYS = ("name", "thing_type", "device_type", "serial", "attributes")

    def __init__(self, path: str, *, count: int) -> None:
        self._path, self._expected, self._seen = path, count, 0
        self._previous = ("", (0, ""))
        self._shape, self._prefix = b"", b""

    def check(self, chunk: Chunk) -> None:
        """Looks at the first and the last row where these are numbers apart that leave none out, at all rows where not.

        All rows of such a chunk have one length, so its rows are as many as its numbers.
        """
        line = _LINE.match(chunk)
        if line is None:
            raise _fault(self._path, "a row is cut")
        rows, rest = divmod(len(chunk), line.end())
        last = bytes(chunk[-line.end() :])
        if not rest and _are_numbers_apart(_name_parts(line[0]), _name_parts(last), by=rows - 1):
            checked = [line[0], last][:rows]
        else:
            checked = bytes(chunk).splitlines(keepends=True)
            rows = len(checked)
        for row in checked:
            self._check_row(row)
        self._seen += rows

    def _check_row(self, line: bytes) -> None:
        """A row that differs from one that was parsed in its digits alone is not parsed again."""
        shape, (prefix, name) = line.translate(None, b"0123456789"), _name_parts(line)
        if (shape, prefix) != (self._shape, self._prefix):
            self._parse_row(line)
            self._shape, self._prefix = shape, prefix
            return
        place = name_order(name.decode("ascii"))
        if place <= self._previous[1]:
            raise self._disorder(line)
        self._previous = (self._previous[0], place)

    def _parse_row(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            raise _fault(self._path, "a row is cut")
        row = check_json(self._path, line)
        if tuple(row) != self.KEYS or not all(isinstance(value, str) for value in row["attributes"].values()):
            raise _fault(self._path, f"a row has other keys: {', '.join(row)}")
        place = (row["device_type"], name_order(row["name"].rpartition("-")[2]))
        if place <= self._previous:
            raise self._disorder(line)
        self._previous = place

    def _disorder(self, line: bytes) -> GateError:
        return _fault(self._path, f"{json.loads(line)['name']} is out of order")

    def finish(self) -> None:
        """Tells whether every thing was there."""
        if self._seen != self._expected:
            raise _fault(self._path, f"it has {self._seen} rows for {self._expected} things")


def _are_numbers_apart(first: tuple[bytes, bytes], last: tuple[bytes, bytes], *, by: int) -> bool:
    """Two names, in their parts, differ in their numbers alone, and by so much."""
    (prefix, number), (last_prefix, last_number) = first, last
    are_numbers = number.isdigit() and last_number.isdigit()
    return prefix == last_prefix and are_numbers and int(last_number) - int(number) == by


def _name_parts(line: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the last hyphen of a row's name."""
    prefix, _, name = b"".join(line.split(b'"', 4)[3:4]).rpartition(b"-")
    return prefix, name


def _fault(path: str, message: str) -> GateError:
    return GateError(f"{path} was not written: {message}", hint="this is a fault of its template, not of the manifest")
