"""Checks each rendered artefact once more before it is written: a fault here is one of a template, not of a person."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from fleet_iot.generator import naming
from fleet_iot.generator.aws.limits import TEMPLATE_BODY
from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.manifest.inventory import name_order
from fleet_iot.generator.output.artefact import Chunk
from fleet_iot.generator.output.dashboard import DIMENSIONS, NAMESPACE, PROCESSOR_METRICS
from fleet_iot.generator.output.encoding import EncodingError, encode_sql
from fleet_iot.lib.record.declarations import DeclarationError, parse

POLICY_MAXIMUM = 2_048
"""Characters without white space: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
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
    if len(content) > TEMPLATE_BODY.max:
        raise _fault(path, f"it has {len(content)} bytes; AWS IoT takes {TEMPLATE_BODY.max}")


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


_Row = dict[str, str | dict[str, str]]
_DECODE, _ENCODE = msgspec.json.Decoder(_Row).decode, msgspec.json.Encoder().encode
_LINE = re.compile(rb"[^\n]*\n")
_NUMBER = re.compile(rb'\{"name":"[^"\\]*?([0-9]+)"')
_LOW = b"".join(b"%03d" % (number % 1_000) for number in range(2_000))
"""The last three digits of the numbers from 0 on, twice, so that a block may begin anywhere."""


class ThingRowsGate:
    """Checks every row as rows stream by: JSON with the right keys and texts, in order (hence unique), none missing."""

    KEYS = ("name", "thing_type", "device_type", "serial", "attributes")

    def __init__(self, path: str, *, count: int) -> None:
        self._path, self._expected, self._seen = path, count, 0
        self._previous = ("", (0, ""))

    def check(self, chunk: Chunk) -> None:
        """Check every row of a chunk; raises `GateError` at the first that is wrong.

        Where all rows are the first one with the next numbers, byte for byte, the first and the last are parsed.
        """
        content = bytes(chunk)
        if not content.endswith(b"\n"):
            raise _fault(self._path, "a row is cut")
        count = _counted_rows(content)
        rows = _ends(content) if count else content.splitlines(keepends=True)
        for row in rows:
            self._check_row(row)
        self._seen += count or len(rows)

    def _check_row(self, line: bytes) -> None:
        row = self._parse(line)
        if tuple(row) != self.KEYS:
            raise _fault(self._path, f"a row has other keys: {', '.join(row)}")
        name, _, type_, _, attributes = row.values()
        if not isinstance(name, str) or not isinstance(type_, str) or not isinstance(attributes, dict):
            raise _fault(self._path, f"a row has values of other kinds: {_shown(line)}")
        place = (type_, name_order(name.rpartition("-")[2]))
        if place <= self._previous:
            raise _fault(self._path, f"{name} is out of order")
        self._previous = place

    def _parse(self, line: bytes) -> _Row:
        """A row of texts, in which no key stands twice: then it would not be what it is encoded to."""
        try:
            row: _Row = _DECODE(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _fault(self._path, f"it is not JSON, or no thing: {error}: {_shown(line)}") from None
        if _ENCODE(row) != line[:-1]:
            check_json(self._path, line)
        return row

    def finish(self) -> None:
        """Tells whether every thing was there."""
        if self._seen != self._expected:
            raise _fault(self._path, f"it has {self._seen} rows for {self._expected} things")


def _shown(line: bytes) -> str:
    return line[:60].decode("ascii", "backslashreplace").rstrip()


def _ends(content: bytes) -> list[bytes]:
    """The first row and the last, once where they are one."""
    end = content.index(b"\n") + 1
    return [content[:end], content[-end:]] if len(content) > end else [content]


def _counted_rows(content: bytes) -> int:
    """How many rows there are, if all are the first one with the numbers that follow its own; else 0.

    Makes the rows that there have to be and compares them: the first one repeated, and the digits that turn laid over
    it column by column, as rows of one length lie in step.
    """
    stride = content.index(b"\n") + 1
    row = content[:stride]
    found = _NUMBER.match(row)
    rows, rest = divmod(len(content), stride)
    if found is None or rest or not 1 < rows <= 1_000:
        return 0
    digits, first = found[1], int(found[1])
    high, low, width = digits[:-3], first % 1_000, len(digits)
    if width < 3 or len(str(first + rows - 1)) > width:
        return 0
    columns = {width - 3 + place: _LOW[3 * low + place : 3 * (low + rows) : 3] for place in range(3)}
    if low + rows > 1_000:
        before, higher = 1_000 - low, b"%0*d" % (width - 3, first // 1_000 + 1)
        columns |= {
            place: high[place : place + 1] * before + higher[place : place + 1] * (rows - before)
            for place in range(width - 3)
        }
    expected = bytearray(row) * rows
    for number in re.finditer(re.escape(digits), row):
        for place, column in columns.items():
            expected[number.start() + place :: stride] = column
    return rows if expected == content else 0


def _fault(path: str, message: str) -> GateError:
    return GateError(f"{path} was not written: {message}", hint="this is a fault of its template, not of the manifest")
