"""The Jinja environment of each target language, in which a placed value is always encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, pass_context
from jinja2.runtime import Context, Undefined
from markupsafe import Markup

from fleet_iot.generator.output.encoding import ENCODERS, Code

_ROOT = files("fleet_iot.generator") / "templates"
_ESCAPE_HATCHES = ("safe", "e", "escape", "forceescape", "tojson", "xmlattr", "urlize", "pprint")


def render_template(name: str, values: dict[str, Any]) -> bytes:
    """Return the text of `templates/NAME`, UTF-8, with `values` encoded for the language that its suffix names."""
    suffix = PurePosixPath(name.removesuffix(".j2")).suffix
    return environment(suffix).get_template(name).render(values).encode()


@cache
def template_names() -> tuple[str, ...]:
    """Return all templates, sorted."""
    return tuple(
        sorted(
            f"{folder.name}/{file.name}"
            for folder in _ROOT.iterdir()
            if folder.is_dir()
            for file in folder.iterdir()
            if file.name.endswith(".j2")
        )
    )


@cache
def templates_hash() -> str:
    """Return SHA-256 of all templates: says whether a generated file is older than its template."""
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
        """Return the plants of a fleet share most of their texts and numbers."""
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
