"""Render templates, in the Jinja environment of each target language, in which a placed value is always encoded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, TemplateSyntaxError, pass_context
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from fleet_iot.generator import naming
from fleet_iot.generator.diagnostics import GateError
from fleet_iot.generator.manifest.project import leads_out
from fleet_iot.generator.output import gates
from fleet_iot.generator.output.encoding import ENCODERS, Code

_ROOT = files("fleet_iot.generator") / "templates"
_ESCAPE_HATCHES = ("safe", "e", "escape", "forceescape", "tojson", "xmlattr", "urlize", "pprint")


def render_template(name: str, values: dict[str, Any]) -> bytes:
    """Return the text of `templates/NAME`, UTF-8, with `values` encoded for the language that its suffix names."""
    suffix = PurePosixPath(name.removesuffix(".j2")).suffix
    return environment(suffix).get_template(name).render(values).encode()


@cache
def template_names() -> tuple[str, ...]:
    """Return all templates of the record, sorted; those of `fleet init` are not of it."""
    return tuple(
        sorted(
            f"{folder.name}/{file.name}"
            for folder in _ROOT.iterdir()
            if folder.is_dir() and folder.name != "project"
            for file in folder.iterdir()
            if file.name.endswith(".j2")
        )
    )


@cache
def templates_hash() -> str:
    """Return the SHA-256 of all templates, which shows whether a generated file is older than its template."""
    digest = hashlib.sha256()
    for name in template_names():
        digest.update(name.encode() + b"\0" + _source(name).encode() + b"\0")
    return digest.hexdigest()


def _source(name: str) -> str:
    return _ROOT.joinpath(*name.split("/")).read_text("utf-8")


@cache
def environment(suffix: str) -> Environment:
    """Return the environment of the built-in templates of one language."""
    return make_environment(suffix, _source)


def make_environment(suffix: str, load: Callable[[str], Any], *, kind: type[Environment] = Environment) -> Environment:
    """Make the environment of a language; `load` returns the source of a template.

    `Markup` marks what `finalize` has encoded, which autoescape would else escape for HTML.
    """
    encode = ENCODERS[suffix]

    @lru_cache(maxsize=4_096)
    def encoded(value: str | int) -> Markup:
        """Encode a value, once for all plants: they share most of their texts and numbers."""
        return Markup(encode(value))  # noqa: S704 - encoded, not HTML

    @pass_context  # else Jinja would escape a template's own constants for HTML instead, while it compiles
    def finalize(_: Context, value: Any) -> Markup:
        if type(value) is str or type(value) is int:  # and no bool, which equals a number that has another text
            return encoded(value)
        if isinstance(value, Markup):  # the output of a macro, encoded already
            return value
        if isinstance(value, Undefined):
            str(value)  # raises: StrictUndefined
        return Markup(encode(value))  # noqa: S704 - encoded, not HTML

    jinja = kind(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters["code"] = Code
    for name in _ESCAPE_HATCHES:
        del jinja.filters[name]
    jinja.globals.clear()
    return jinja


# A project's own templates, `templates/facility/*.j2` beside the manifest, are rendered as the built-in ones are. Each
# makes one more file in every facility's folder: values are encoded for its suffix, and it passes the gate of its
# suffix. One whose name begins with `_` makes no file: others include it, or import macros from it.

FOLDER = "templates/facility"
_MAXIMUM_BYTES = 1024 * 1024
_ENDING = ".j2"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_RESERVED = re.compile(
    r"__init__\.py|runbook\.md|dashboard\.json|prefixes\.json|(provisioning|bulk_registration)_template\.json|"
    r"rule_telemetry_.*|"
    rf".*\.policy\.json|{re.escape(naming.THINGS_FILE)}"
)
"""Files that the generator makes itself, in lower case: some file systems ignore case."""


def _check_sql(path: str, content: bytes) -> None:
    """Check that a file is one SQL statement; raises `GateError`."""
    outside = re.sub(rb"'[^']*'", b"", content)
    if b";" in outside or b"'" in outside:
        raise GateError(f"{path} was not written: it is not one statement", hint="make one file for each statement")


GATES: dict[str, Callable[[str, bytes], object]] = {
    ".py": gates.check_python,
    ".json": gates.check_json,
    ".sql": _check_sql,
    ".md": gates.check_markdown,
}
"""By suffix of the file that is made; other suffixes have no encoder, and no own template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTemplates:
    """The project's own templates: texts by file name, sorted."""

    sources: tuple[tuple[str, str], ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that they make in each facility's folder."""
        return tuple(name.removesuffix(_ENDING) for name, _ in self.sources if not name.startswith("_"))

    @property
    def hash(self) -> str:
        """SHA-256 of these and the built-in templates; of only the built-in if there are no own."""
        if not self.sources:
            return templates_hash()
        digest = hashlib.sha256(templates_hash().encode())
        for name, source in self.sources:
            digest.update(name.encode() + b"\0" + source.encode() + b"\0")
        return digest.hexdigest()

    def render(self, output: str, path: str, values: dict[str, Any]) -> bytes:
        """Return the file `output` of one facility, to be written at `path`; raises `GateError`."""
        suffix, template = PurePosixPath(output).suffix, output + _ENDING
        try:
            text = _environment(self, suffix).get_template(template).render(values)
        except TemplateSyntaxError as error:
            raise _fault(f"{error.name or template}:{error.lineno}", error.message or "it does not parse") from None
        except Exception as error:  # any error of a template is reported as such
            place = _place(error.__traceback__) or template
            raise _fault(place, f"{path} was not written: {error or type(error).__name__}") from None
        content = text.encode()
        GATES[suffix](path, content)
        return content


NONE = OwnTemplates(sources=())


def read_templates(project: Path) -> OwnTemplates:
    """Read the project's own templates, if it has any. Raises `GateError` for one that cannot be used."""
    folder = project / FOLDER
    if not os.path.lexists(folder):
        return NONE
    if leads_out(folder, project) or not folder.is_dir():
        raise GateError(f"{FOLDER} is no folder of this project", hint="replace it by a real folder, or remove it")
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    sources = tuple((file.name, _read(file, project)) for file in files)
    lower = [name.lower() for name, _ in sources]
    if twice := next((name for name, _ in sources if lower.count(name.lower()) > 1), None):
        raise _fault(twice, "another template has the same name but for capital letters")
    return OwnTemplates(sources=sources)


def _read(file: Path, project: Path) -> str:
    output = file.name.removesuffix(_ENDING)
    if file.name == output or not _NAME.fullmatch(output) or not file.is_file():
        raise _fault(file.name, "this is no template", f"name it after what it makes, such as labels.json{_ENDING}")
    if leads_out(file, project):
        raise _fault(file.name, "this is a link out of the project", "replace the link by a real file")
    if _RESERVED.fullmatch(output.lower()):
        raise _fault(file.name, f"the generator makes {output} itself", "give it another name")
    if not output.startswith("_") and PurePosixPath(output).suffix not in GATES:
        raise _fault(file.name, "files of this kind have no encoder", f"there are: {', '.join(GATES)}")
    try:
        content = file.read_bytes()
        if len(content) > _MAXIMUM_BYTES:
            raise _fault(file.name, f"it is larger than {_MAXIMUM_BYTES:,} bytes")
        return content.decode("utf-8").replace("\r\n", "\n")  # a checkout may have changed line ends
    except UnicodeDecodeError:
        raise _fault(file.name, "it is not UTF-8", "save it as UTF-8 in your editor") from None
    except OSError as error:
        raise _fault(file.name, f"it cannot be read: {(error.strerror or str(error)).lower()}") from None


@cache
def _environment(own: OwnTemplates, suffix: str) -> Environment:
    sources = dict(own.sources)

    def load(name: str) -> tuple[str, str, None] | None:
        return (sources[name], name, None) if name in sources else None

    return make_environment(suffix, load, kind=ImmutableSandboxedEnvironment)


def _place(traceback: TracebackType | None) -> str | None:
    """Return the innermost line of a template that an error came through."""
    place = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.endswith(_ENDING):
            place = f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def _fault(place: str, message: str, hint: str | None = None) -> GateError:
    return GateError(f"{FOLDER}/{place}: {message}", hint=hint or "docs/extending.md says what a template may do")
