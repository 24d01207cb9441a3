"""Makes a project: a first manifest from a few answers, and the files around it; renews those files later."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FunctionLoader, StrictUndefined

from fleet_iot.generator.aws.limits import REGIONS
from fleet_iot.generator.diagnostics import RequestError, WriteError
from fleet_iot.generator.filesystem import fault_of, write_whole
from fleet_iot.generator.manifest.load import read_manifest, validate
from fleet_iot.generator.manifest.model_errors import suggestion
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.project import leads_out
from fleet_iot.generator.manifest.rules import timezones
from fleet_iot.generator.manifest.schema import schema_text
from fleet_iot.generator.manifest.yaml import parse_document, resolve, trap
from fleet_iot.generator.naming import ID_PATTERN, SUFFIX_PATTERN, module_of
from fleet_iot.lib.record.place import MANIFEST, environments

SCHEMA_NAME = "fleet.schema.json"
_SCHEMA_OF_A_CHECKOUT = f"generator/{SCHEMA_NAME}"
CI = ("github", "gitlab", "both", "none")
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
    ci: str = "none"


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
    "ci": Question(text="CI pipeline: github, gitlab, both or none", default="github", refusal=_one_of(CI, "choice")),
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
    target = folder / MANIFEST
    if target.exists() or target.is_symlink():
        hint = f"edit it, name another folder, or renew its other files: fleet init --from {folder}"
        raise WriteError(f"{target} exists already", hint=hint)


def write_project(folder: Path, answers: Answers) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Write a project into a folder: its files, then the manifest; return what was written, and what was there before.

    Overwrites nothing. Where a file cannot be written, those that were written are removed again.
    """
    target = folder / MANIFEST
    is_checkout = (folder / _SCHEMA_OF_A_CHECKOUT).is_file()
    text = manifest_text(answers, schema=_SCHEMA_OF_A_CHECKOUT if is_checkout else SCHEMA_NAME)
    manifest = validate(parse_document(text, name=MANIFEST))
    refuse_existing(folder)
    files = {} if is_checkout else project_files(manifest, ci=answers.ci)
    kept = tuple(folder / name for name in files if os.path.lexists(folder / name))
    new = {name: content for name, content in files.items() if folder / name not in kept}
    _refuse_links(folder, new)
    known = {name: content for name, content in files.items() if name in new or _same(folder / name, content)}
    if not is_checkout:
        new[RECORD_NAME] = _record(answers.ci, {name: _hash(content) for name, content in known.items()})
    written: list[Path] = []
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in new.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, content)
            written.append(folder / name)
        with target.open("x", encoding="utf-8") as file:
            written.append(target)
            file.write(text)
    except OSError as error:
        _remove(written, folders=made)
        raise fault_of(error, target) or error from None
    return tuple(written), kept


def _refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Raise WriteError where a file would be written through a link, outside the project."""
    for name in names:
        if leads_out(folder / name, folder):
            raise WriteError(f"{folder / name} leads out of the project by a link", hint="replace the link by a folder")


def _remove(files: Iterable[Path], *, folders: Iterable[Path]) -> None:
    """Remove files, the folders that then are empty below the project, and `folders`, as far as that can be done."""
    for file in files:
        with suppress(OSError):
            file.unlink()
        with suppress(OSError):
            file.parent.rmdir()
            file.parent.parent.rmdir()
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


# The files of a project beside its manifest, and their renewal by a later version of this tool.

RECORD_NAME = ".fleet-init.json"
"""In the project: which version wrote the files, and the hash of each, by which an edit is known."""

_TEMPLATES = {
    ".gitattributes": "gitattributes.j2",
    ".gitignore": "gitignore.j2",
    "CODEOWNERS": "CODEOWNERS.j2",
    "README.md": "README.md.j2",
    "cdktf.json": "cdktf.json.j2",
    "requirements.txt": "requirements.txt.j2",
}
_PIPELINES = {
    ".github/workflows/fleet.yml": ("github.yml.j2", ("github", "both")),
    ".gitlab-ci.yml": ("gitlab-ci.yml.j2", ("gitlab", "both")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectEnvironment:
    """An environment that the pipeline plans and deploys; `overlay` is the NAME of its fleet.NAME.yaml, if any."""

    name: str
    overlay: str
    suffix: str
    region: str


def project_files(
    manifest: FleetManifest, *, ci: str, overlays: Mapping[str, FleetManifest] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return the files of a project by path, without the manifest.

    Args:
        manifest: A valid manifest.
        ci: One of `CI`.
        overlays: The manifests of the environments that have a file, by name.
    """
    suffix = manifest.environment_suffix
    own = suffix if suffix not in overlays else f"{suffix}-base"
    layers = {name: (name, each) for name, each in overlays.items()}
    values = {
        "application": manifest.application,
        "ci": ci,
        "version": version("fleet-iot"),
        "facilities": [{"id": id_, "module": module_of(id_)} for id_ in sorted(manifest.facilities)],
        "environments": [
            ProjectEnvironment(name=name, overlay=overlay, suffix=each.environment_suffix, region=each.region)
            for name, (overlay, each) in ({own: ("", manifest)} | layers).items()
        ],
    }
    chosen = _TEMPLATES | {path: name for path, (name, systems) in _PIPELINES.items() if ci in systems}
    rendered = {path: _jinja().get_template(name).render(values).encode() for path, name in chosen.items()}
    return {SCHEMA_NAME: schema_text().encode("ascii"), **rendered}


def _jinja() -> Environment:
    """Return an environment with `[[ ]]` and `[% %]`: workflows have `${{ }}` of their own.

    All values are ids, suffixes, regions and versions, which need no encoding in any of the files.
    """
    root = resources.files("fleet_iot.generator") / "templates" / "project"
    return Environment(  # noqa: S701 - no HTML
        loader=FunctionLoader(lambda name: root.joinpath(name).read_text("utf-8")),
        undefined=StrictUndefined,
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The effect of a renewal on one file.

    `state` is `new`, `updated`, `unchanged`, `kept` (it was edited by hand) or `left out` (it was removed).
    """

    path: str
    state: str
    before: str
    after: str

    @property
    def is_written(self) -> bool:
        return self.state in ("new", "updated")

    def diff(self) -> str:
        """Return the difference between the file and what this version writes, as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        return "".join(difflib.unified_diff(before, after, f"{self.path} ({self.state})", f"{self.path}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """The effects of a renewal on a project's files."""

    folder: Path
    ci: str
    renewals: tuple[Renewal, ...]
    recorded: Mapping[str, str]

    def write(self) -> None:
        """Write what is new and updated, each file whole, then the record of them."""
        hashes = dict(self.recorded)
        _refuse_links(self.folder, (each.path for each in self.renewals if each.is_written))
        try:
            for each in self.renewals:
                content = each.after.encode()
                if each.is_written:
                    (self.folder / each.path).parent.mkdir(parents=True, exist_ok=True)
                    write_whole(self.folder / each.path, content)
                if each.state in ("new", "updated", "unchanged"):
                    hashes[each.path] = _hash(content)
            write_whole(self.folder / RECORD_NAME, _record(self.ci, hashes))
        except OSError as error:
            raise fault_of(error) or error from None


def plan_upgrade(folder: Path, *, ci: str | None) -> Upgrade:
    """Compare a project's files with what this version writes; `ci` None for the choice of before.

    A file is updated where it is what some version wrote. The schema is always: it is the tool's own. A project of
    before this record gets what it lacks, and its own files are kept.

    Raises:
        ManifestError: the manifest, or an environment's, is not valid.
        WriteError: the folder is a checkout of this tool, or the record of its files cannot be read.
    """
    if (folder / _SCHEMA_OF_A_CHECKOUT).is_file():
        raise WriteError(f"{folder} is a checkout of this tool", hint="it needs no files of a project")
    path = folder / MANIFEST
    manifest = read_manifest(path, name=MANIFEST)
    overlays = {name: read_manifest(path, name=MANIFEST, environment=name) for name in environments(path)}
    chosen, recorded = _read_record(folder)
    ci = ci or chosen
    files = project_files(manifest, ci=ci, overlays=overlays)
    return Upgrade(
        folder=folder,
        ci=ci,
        renewals=tuple(_renewal(folder, name, content, recorded) for name, content in files.items()),
        recorded=recorded,
    )


def _renewal(folder: Path, name: str, content: bytes, recorded: Mapping[str, str]) -> Renewal:
    path = folder / name
    before = path.read_bytes() if path.is_file() else b""
    if not os.path.lexists(path):
        state = "left out" if name in recorded else "new"
    elif _same(path, content):
        state = "unchanged"
    elif name == SCHEMA_NAME or (path.is_file() and recorded.get(name) == _hash(before)):
        state = "updated"
    else:
        state = "kept"
    return Renewal(path=name, state=state, before=before.decode("utf-8", "replace"), after=content.decode())


def _same(path: Path, content: bytes) -> bool:
    return path.is_file() and _hash(path.read_bytes()) == _hash(content)


def _hash(content: bytes) -> str:
    """Return the SHA-256 of a text, whatever line ends a checkout gave it."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def _record(ci: str, hashes: Mapping[str, str]) -> bytes:
    body = {"version": version("fleet-iot"), "ci": ci, "files": dict(sorted(hashes.items()))}
    return (json.dumps(body, indent=1) + "\n").encode()


def _read_record(folder: Path) -> tuple[str, Mapping[str, str]]:
    """Return the CI system that was chosen, and the hash of each file as it was written."""
    path = folder / RECORD_NAME
    if not os.path.lexists(path):
        return QUESTIONS["ci"].default, {}
    try:
        body = json.loads(path.read_bytes())
        ci, hashes = body["ci"], {str(name): str(sha) for name, sha in body["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise WriteError(f"{path} is no record of `fleet init`", hint="restore it with git, or remove it") from None
    if ci not in CI:
        raise WriteError(f"{path} has the CI system {ci!r}", hint=f"there are: {', '.join(CI)}")
    return ci, hashes


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
# detector: machine  learns each device for a week, then reports what is unusual for it as well (default);
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
