"""Reads a file into a document: plain data, and the place of every node."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet_iot.generator.diagnostics import Diagnostic, ManifestError, SourceLocation, refusal
from fleet_iot.generator.manifest.plain import read_plain
from fleet_iot.generator.manifest.project import leads_out
from fleet_iot.generator.manifest.sources import Places, SourceMap, location_of

if TYPE_CHECKING:  # imported where it is used: a manifest that is plain and has no fault needs no parser
    import yaml

MAXIMUM_BYTES = 256 * 1024 * 1024
_SAFE_DEPTH = 10_000
"""The C composer recurses on the C stack and takes the process down somewhere beyond 20,000 levels."""

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\ufeff\u2028\u2029]")
"""Those that hide, and those that begin a line to YAML and not to editors, which would count lines in another way."""
_COMMENT_IN_TEXT = re.compile(r"[^\s#] #(?=[^\s#!])")
"""`Plant #2`, maybe: a comment that is written like a part of the text before it."""
_PROBLEMS = {
    "mapping values are not allowed in this context": "a `:` stands where no value can follow: "
    "is a value with `: ` in it without quotes, or an indentation off?",
    "found character that cannot start any token": "this character cannot start a value: put the value in quotes",
    "found unexpected end of stream": "the text ends within quotes",
    "found undefined alias": "this alias has no anchor before it",
    "did not find expected ',' or ']'": "this list is not closed: expected `,` or `]`",
    "did not find expected ',' or '}'": "this mapping is not closed: expected `,` or `}`",
    "did not find expected key": "the indentation does not fit, or a quote or bracket above is not closed",
    "did not find expected '-' indicator": "a list and keys stand at the same indentation",
    "could not find expected ':'": "this line is no `key: value`",
    "found incompatible YAML document": "its %YAML line asks for another version than 1.1: take it away",
    "but found another document": "a second document begins here; a manifest is one document",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain data with its places; `faults` are those of the text, and the data is the best reading despite them."""

    data: Any
    sources: Places
    faults: tuple[Diagnostic, ...]


def read_document(path: Path, *, name: str, within: Path | None = None) -> Document:
    """The document in a file, called `name` in diagnostics; raises `ManifestError` where there is none.

    `within`: the folder that its links may not lead out of; the manifest's own may.
    """
    return parse_document(read_text(path, name, within=within), name=name)


def parse_document(text: str, *, name: str) -> Document:
    """The document in a text: read as plain text where it is that, and by the parser where it is not."""
    if found := _CONTROL.search(text):
        place = _place(name, text, found.start())
        raise refusal(
            place,
            f"the character U+{ord(found[0]):04X} is not allowed",
            "delete it: editors may not show it",
            rule="control-character",
        )
    data = read_plain(text)
    if _COMMENT_IN_TEXT.search(text):
        return _with_cut_texts(compose_document(text, name=name), text, name)
    if data is None:
        return compose_document(text, name=name)
    return Document(data=data, sources=SourceMap(file=name, compose=cache(lambda: _compose(text, name))), faults=())


def _with_cut_texts(document: Document, text: str, name: str) -> Document:
    from fleet_iot.generator.manifest.nodes import cut_texts

    faults = cut_texts(_compose(text, name), text.splitlines(), file=name)
    return replace(document, faults=(*document.faults, *faults))


def compose_document(text: str, *, name: str) -> Document:
    """The document in a text, read by the parser, with the faults that do not keep it from going on."""
    from fleet_iot.generator.manifest.nodes import Reading

    node = _compose(text, name)
    reading = Reading(file=name)
    data = reading.value(node)
    return Document(data=data, sources=SourceMap(file=name, compose=lambda: node), faults=tuple(reading.faults))


def _compose(text: str, name: str) -> yaml.Node:
    import yaml

    try:
        _refuse_depth(text, name)
        loader = yaml.CBaseLoader(text)
        try:
            node: yaml.Node | None = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, name) from None
    except yaml.YAMLError as error:
        raise refusal(SourceLocation(file=name), f"this is not YAML: {error}", rule="syntax") from None
    if node is None:
        raise refusal(
            SourceLocation(file=name),
            "the manifest is empty",
            "docs/manifest.md shows what a manifest holds",
            rule="empty-manifest",
        )
    return node


def read_text(path: Path, name: str, *, what: str = "the manifest", within: Path | None = None) -> str:
    """The text of a file, called `name` in diagnostics and `what` in sentences; raises `ManifestError`."""
    start = SourceLocation(file=name)
    if within is not None and leads_out(path, within):
        hint = "replace the link by a real file or folder"
        raise refusal(start, "this is a link out of the project", hint, rule="unreadable-file")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise refusal(start, f"this is a pipe or a device, not {_one(what)}", rule="unreadable-file")
        if path.is_file() and path.stat().st_size > MAXIMUM_BYTES:
            raise refusal(start, f"{what} is larger than {MAXIMUM_BYTES // 1024**2} MB", rule="too-large")
        content = path.read_bytes()
    except FileNotFoundError:
        raise refusal(start, "there is no such file", rule="unreadable-file") from None
    except IsADirectoryError:
        raise refusal(start, f"this is a folder, not {_one(what)}", rule="unreadable-file") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise refusal(start, f"{what} cannot be read: {reason}", rule="unreadable-file") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(name, content[: error.start].decode("utf-8-sig", "replace"), None)
        hint = "save it as UTF-8 in your editor"
        raise refusal(place, f"{what} is not UTF-8", hint, rule="encoding") from None


def _one(what: str) -> str:
    noun = what.removeprefix("the ")
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _place(name: str, text: str, index: int | None) -> SourceLocation:
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return SourceLocation(file=name, line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


def _syntax_error(error: yaml.MarkedYAMLError, name: str) -> ManifestError:
    mark = error.problem_mark or error.context_mark
    location = location_of(name, mark) if mark else SourceLocation(file=name)
    problem = error.problem or "it does not parse"
    hint = ""
    if error.context and error.context_mark:
        hint = f"look from line {error.context_mark.line + 1} on"
    return refusal(location, f"this is not YAML: {_PROBLEMS.get(problem, problem)}", hint, rule="syntax")


def _refuse_depth(text: str, name: str) -> None:
    """Looks at the events one by one where the text could nest deeper than the C stack bears."""
    longest = max(map(len, text.split("\n")))
    if text.count("[") + text.count("{") + 2 * longest <= _SAFE_DEPTH:
        return
    import yaml

    from fleet_iot.generator.manifest.nodes import MAXIMUM_DEPTH, too_deep

    depth = 0
    loader = yaml.CBaseLoader(text)
    try:
        while (event := loader.get_event()) is not None:
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAXIMUM_DEPTH:
                    raise too_deep(location_of(name, event.start_mark))
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    finally:
        loader.dispose()
