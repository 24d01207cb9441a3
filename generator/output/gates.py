"""Checks each rendered artefact once more before it is written: a fault here is one of a template, not of a person."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from fleet_iot.generator import naming
from fleet_iot.generator.aws.limits import TEMPLATE_BODY
from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.output.encoding import EncodingError, encode_sql
from fleet_iot.lib import names as resource_names
from fleet_iot.lib.record.read import DeclarationError, ThingRow, parse
from fleet_iot.lib.specs import ACCOUNT_ID_TOKEN, SUFFIX_TOKEN

POLICY_MAXIMUM = 2_048
"""Characters without white space: https://docs.aws.amazon.com/general/latest/gr/iot-core.html"""
TOKEN_SLACK = {ACCOUNT_ID_TOKEN: "0" * 12, SUFFIX_TOKEN: "s" * naming.SUFFIX_MAX_LENGTH}
"""The longest values that the tokens may be filled with."""


def check_python(path: str, content: bytes) -> None:
    """Check for imports from specs and facilities, and assignments of literals and specs only."""
    try:
        parse(content)
    except DeclarationError as error:
        raise _fault(path, str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key appears twice")
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def check_json(path: str, content: bytes) -> Any:
    """Parse JSON without duplicate keys."""
    try:
        return _DECODER.decode(content.decode())
    except ValueError as error:
        raise _fault(path, f"it is not JSON: {error}") from None


def check_policy(path: str, content: bytes) -> None:
    """Check for wildcards, effects other than Allow, and the length with any account and suffix."""
    document = check_json(path, content)
    text = content.decode()
    if "*" in text or "?" in text:
        raise _fault(path, "a device policy must not contain a wildcard")
    if any(statement.get("Effect") != "Allow" or not statement.get("Resource") for statement in document["Statement"]):
        raise _fault(path, "every statement allows something on named resources")
    for token, value in TOKEN_SLACK.items():
        text = text.replace(token, value)
    size = len("".join(text.split()))
    if size > POLICY_MAXIMUM:
        raise _fault(path, f"it has {size} characters without white space; AWS IoT accepts {POLICY_MAXIMUM}")


def check_topic_rule(path: str, content: bytes, *, topic: str) -> None:
    """Check for one statement, whose FROM is the planned topic."""
    lines = content.decode().splitlines()
    try:
        source = f"FROM {encode_sql(topic)}"
    except EncodingError as error:
        raise _fault(path, str(error)) from None
    if len(lines) != 2 or not lines[0].startswith("SELECT ") or lines[1] != source or b";" in content:
        raise _fault(path, f"it is not one statement that ends with {source}")


def check_provisioning(path: str, content: bytes) -> None:
    """Check the sections that AWS requires, references to declared parameters only, and the size."""
    document = check_json(path, content)
    if set(document) != {"Parameters", "Resources"}:
        raise _fault(path, "it needs Parameters and Resources, and nothing else")
    types = {resource["Type"] for resource in document["Resources"].values()}
    if types != {"AWS::IoT::Thing", "AWS::IoT::Certificate", "AWS::IoT::Policy"}:
        raise _fault(path, "it makes a thing, a certificate and a policy")
    if unknown := sorted(set(_references(document["Resources"])) - set(document["Parameters"])):
        raise _fault(path, f"it refers to undeclared parameters: {', '.join(unknown)}")
    if len(content) > TEMPLATE_BODY.max:
        raise _fault(path, f"it has {len(content)} bytes; AWS IoT accepts {TEMPLATE_BODY.max}")


def check_bulk_registration(path: str, content: bytes) -> None:
    """Check a provisioning template that makes a certificate from a CSR and uses every parameter.

    AWS documents its functions (Fn::Join) for fleet provisioning only:
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
        raise _fault(path, "bulk registration accepts no functions")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["Ref"]] if set(value) == {"Ref"} else []
        return own + [name for item in value.values() for name in _references(item)]
    return [name for item in value for name in _references(item)] if isinstance(value, list) else []


def check_dashboard(path: str, content: bytes) -> None:
    """Check that the sensor processor emits every metric, with its dimensions."""
    for widget in check_json(path, content)["widgets"]:
        for line in widget["properties"].get("metrics", ()):
            namespace, metric, *dimensions = line
            expected = (resource_names.metrics_namespace(SUFFIX_TOKEN), naming.METRICS_DIMENSIONS)
            if (namespace, tuple(dimensions[::2])) != expected or metric not in naming.PROCESSOR_METRICS:
                raise _fault(path, f"the sensor processor emits no metric {line}")


def check_markdown(path: str, content: bytes) -> None:
    """Check that no template syntax is left."""
    text = content.decode()
    if left := re.search(r"\{\{|\{%|\{#", text):
        raise _fault(path, f"the template shows through: {left[0]}")


_DECODE_LINES = msgspec.json.Decoder(ThingRow).decode_lines
_ENCODE_LINES = msgspec.json.Encoder().encode_lines


class ThingRowsGate:
    """Checks every row of a `things.jsonl` as it streams by: its form, its order (hence its uniqueness), the count."""

    def __init__(self, path: str, *, count: int) -> None:
        self._path, self._expected, self._seen = path, count, 0
        self._previous = ("", (0, ""))

    def check(self, chunk: bytes) -> None:
        """Check every row of a chunk of whole lines.

        A chunk is as it should be where its decoded rows encode to the same bytes: no other, missing or repeated key,
        no other order of keys, no space. Raises `GateError` at the first row that is wrong.
        """
        try:
            rows = _DECODE_LINES(chunk)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _fault(self._path, f"a row is no thing: {error}: {self._first_wrong(chunk)}") from None
        if _ENCODE_LINES(rows) != chunk:
            raise _fault(self._path, f"a row is not in the form of a thing: {self._first_wrong(chunk)}")
        previous = self._previous
        for row in rows:
            own = row.name.rpartition("-")[2]
            place = (row.thing_type, (len(own), own))  # as `name_order` sorts
            if place <= previous:
                raise _fault(self._path, f"{row.name} is out of order")
            if row.attributes.get("serial") != row.serial:
                raise _fault(self._path, f"{row.name} has another serial among its attributes")
            previous = place
        self._previous = previous
        self._seen += len(rows)

    def finish(self) -> None:
        """Raise `GateError` unless every thing had a row."""
        if self._seen != self._expected:
            raise _fault(self._path, f"it has {self._seen} rows for {self._expected} things")

    def _first_wrong(self, chunk: bytes) -> str:
        for line in chunk.splitlines(keepends=True):
            try:
                if _ENCODE_LINES(_DECODE_LINES(line)) == line:
                    continue
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            return line[:60].decode("ascii", "backslashreplace").rstrip()
        return ""


def _fault(path: str, message: str) -> GateError:
    return GateError(f"{path} was not written: {message}", hint="this is a fault of its template, not of the manifest")
