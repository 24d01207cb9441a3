"""Makes a first manifest from a few answers: valid, with comments on what else is possible."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.aws.limits import REGIONS
from fleet_iot.generator.diagnostics import RequestError, WriteError
from fleet_iot.generator.filesystem import fault_of, write_whole
from fleet_iot.generator.manifest.load import validate
from fleet_iot.generator.manifest.model_errors import suggestion
from fleet_iot.generator.manifest.project import MANIFEST_NAME
from fleet_iot.generator.manifest.rules import timezones
from fleet_iot.generator.manifest.schema import schema_text
from fleet_iot.generator.manifest.yaml import parse_document, resolve, trap
from fleet_iot.generator.naming import ID_PATTERN, SUFFIX_PATTERN

SCHEMA_NAME = "fleet.schema.json"
_SCHEMA_OF_A_CHECKOUT = f"generator/{SCHEMA_NAME}"
_COUNT = re.compile(r"[1-9][0-9]{0,6}")

_ID = "1 to 32 lower-case letters, digits and hyphens, no hyphen first or last"
_SUFFIX = "1 to 16 lower-case letters, digits and hyphens, no hyphen first or last"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, its default, and a check that returns why an answer is refused, or an empty text."""

    text: str
    default: str
    refusal: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers for a first manifest; `things` are counts by device type."""

    application: str
    environment_suffix: str
    region: str
    facility: str
    facility_name: str
    timezone: str
    things: tuple[tuple[str, int], ...]


def _pattern(pattern: str, words: str) -> Callable[[str], str]:
    return lambda text: "" if re.fullmatch(pattern, text) else f"it must be {words}"


def _one_of(known: tuple[str, ...], what: str) -> Callable[[str], str]:
    return lambda text: "" if text in known else f"there is no {what} {text!r}; {suggestion(text, known)}".rstrip("; ")


def _name(text: str) -> str:
    return (
        ""
        if 1 <= len(text) <= 100 and text.isprintable() and text == text.strip()
        else "it must be 1 to 100 visible characters"
    )


def _things(text: str) -> str:
    try:
        read_things(text)
    except RequestError as error:
        return error.message
    return ""


QUESTIONS: dict[str, Question] = {
    "application": Question(
        text="Application, the root of all MQTT topics", default="mfg", refusal=_pattern(ID_PATTERN, _ID)
    ),
    "environment_suffix": Question(
        text="Environment, the last part of every name", default="dev", refusal=_pattern(SUFFIX_PATTERN, _SUFFIX)
    ),
    "region": Question(text="AWS region", default="ap-southeast-1", refusal=_one_of(REGIONS, "AWS IoT region")),
    "facility": Question(text="Id of the first plant", default="sg-01", refusal=_pattern(ID_PATTERN, _ID)),
    "facility_name": Question(text="Its name, as people say it", default="Plant 1", refusal=_name),
    "timezone": Question(
        text="Its time zone", default="Asia/Singapore", refusal=lambda text: _one_of(timezones(), "time zone")(text)
    ),
    "things": Question(
        text="Its devices, as type=count, ...", default="press-monitor=4, compressor=2", refusal=_things
    ),
}
"""By the name of the answer, in the order in which they are asked."""

_KNOWN_TYPES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "press-monitor": (
        "Hydraulic press",
        10,
        (
            "temperature: {unit: celsius, min: -10, max: 95}",
            "vibration: {unit: mm/s, max: 11.2}",
            "cycle_count: {unit: cycles, min: 0, detector: limits}",
        ),
    ),
    "compressor": (
        "Screw compressor",
        10,
        (
            "temperature: {unit: celsius, min: 0, max: 110}",
            "pressure: {unit: bar, min: 5.5, max: 10}",
            "running_hours: {unit: h, min: 0, detector: limits}",
        ),
    ),
    "boiler": (
        "Steam boiler",
        10,
        ("pressure: {unit: bar, min: 0, max: 12.5}", "water_level: {unit: percent, min: 35, max: 85}"),
    ),
    "conveyor": (
        "Belt conveyor",
        15,
        ("belt_speed: {unit: m/s, min: 0, max: 2.5}", "motor_current: {unit: A, min: 0, max: 32}"),
    ),
    "cnc-spindle": (
        "CNC machining centre, spindle",
        5,
        ("temperature: {unit: celsius, min: 5, max: 75}", "vibration: {unit: mm/s, max: 4.5}"),
    ),
}
_OTHER_TYPE = ("Say here what it is", 10, ("temperature: {unit: celsius, min: -10, max: 95}",))
"""Description of an unknown device type."""


def read_things(text: str) -> tuple[tuple[str, int], ...]:
    """Return the counts in `press-monitor=4, compressor=2`; raises `RequestError`."""
    counts: dict[str, int] = {}
    for part in text.split(","):
        type_, _, count = (word.strip() for word in part.partition("="))
        if not re.fullmatch(ID_PATTERN, type_) or not _COUNT.fullmatch(count) or int(count) > 1_000_000:
            message = f"{part.strip()!r} is not of the form type=count, such as press-monitor=4"
            raise RequestError(message, hint=f"a type is {_ID}; a count is 1 to 1,000,000")
        if type_ in counts:
            raise RequestError(f"the device type {type_!r} appears twice", hint="give one count for each type")
        counts[type_] = int(count)
    return tuple(counts.items())


def refuse_existing(folder: Path) -> None:
    """Raise `WriteError` where the folder has a manifest."""
    target = folder / MANIFEST_NAME
    if target.exists() or target.is_symlink():
        raise WriteError(f"{target} exists already", hint="edit it, or name another folder: fleet init FOLDER")


def write_manifest(folder: Path, answers: Answers) -> tuple[Path, ...]:
    """Write a manifest, and the schema that its first line names, into a folder; overwrites nothing."""
    target = folder / MANIFEST_NAME
    is_checkout = (folder / _SCHEMA_OF_A_CHECKOUT).is_file()
    text = manifest_text(answers, schema=_SCHEMA_OF_A_CHECKOUT if is_checkout else SCHEMA_NAME)
    validate(parse_document(text, name=MANIFEST_NAME))
    written = [target]
    refuse_existing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not is_checkout:
            write_whole(folder / SCHEMA_NAME, schema_text().encode("ascii"))
            written.append(folder / SCHEMA_NAME)
        with target.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError as error:
                target.unlink()
                raise OSError(error.errno, error.strerror, str(target)) from error
    except OSError as error:
        raise fault_of(error) or error from None
    return tuple(written)


def manifest_text(answers: Answers, *, schema: str) -> str:
    """Return the manifest's text; every answer in it is one YAML scalar."""
    types = "\n".join(_device_type(type_) for type_, _ in answers.things)
    things = "\n".join(f"      {_scalar(type_)}: {count}" for type_, count in answers.things)
    return f"""\
# yaml-language-server: $schema={schema}
#
# The fleet. After an edit: `fleet validate`, `fleet generate` (one plant only: `fleet generate --facility ID`), then
# commit both this file and lib/facilities/. To look up a name: `fleet explain NAME`.
version: 1

application: {_scalar(answers.application)}   # root of the MQTT topics: dt/<application>/<facility>/...
environment_suffix: {_scalar(answers.environment_suffix)}   # last part of every name; ENVIRONMENT_SUFFIX overrides it
region: {_scalar(answers.region)}
# account_id: "123456789012"   # in quotes: it is text. Makes the names of the buckets unique in the world
# tags: {{owner: plant-operations}}   # of every resource

# A kind of device. `min` and `max` are the limits that an operator would act on: a reading beyond is an anomaly.
# These are examples: put in your own, from the maker's sheet.
# detector: context  learns the usual values of each device as well (default);
# detector: limits   checks only the limits: for counters, which only rise, and for switched states.
device_types:
{types}

# A plant. The things of a type are numbered from 1; raising a count adds things, and changes none that exist.
facilities:
  {_scalar(answers.facility)}:
    name: {_scalar(answers.facility_name)}
    timezone: {_scalar(answers.timezone)}
    # registration: terraform   # who makes the things: terraform (up to 2,500), or bulk for more; by count if left out
    things:   # a count, or a count with attributes: {{count: 4, attributes: {{line: b2}}}}
{things}
"""


def _device_type(id_: str) -> str:
    description, interval, metrics = _KNOWN_TYPES.get(id_, _OTHER_TYPE)
    lines = "\n".join(f"      {metric}" for metric in metrics)
    return f"""\
  {_scalar(id_)}:
    description: {_scalar(description)}
    sample_interval_s: {interval}   # seconds between two readings
    metrics:
{lines}"""


def _scalar(text: str) -> str:
    """Encode a text as a YAML scalar: plain where every reader agrees, else in quotes."""
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_/ -]*[A-Za-z0-9]|[a-z]", text) is not None
    if is_plain and trap(text) is None and resolve(text) == text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
