"""Reads YAML text into plain data, and keeps the place of every node.

Everything that the data alone could not show any more is refused here: keys that stand twice, and scalars that
YAML readers disagree about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from generator.diagnostics import Diagnostic, ManifestError, SourceLocation
from generator.scalars import resolve, trap
from generator.sources import MERGE_KEY, SourceMap, location_of, merged_mappings

MAXIMUM_BYTES = 256 * 1024 * 1024
MAXIMUM_DEPTH = 64
MAXIMUM_VALUES = 5_000_000
"""Values after aliases are expanded: a few lines of aliases can stand for billions."""

_SAFE_DEPTH = 10_000
"""The C composer recurses on the C stack and takes the process down somewhere beyond 20,000 levels."""

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|\ufeff")
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
    "but found another document": "a second document begins here; a manifest is one document",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain data with its places; `faults` are those of the text, and the data is the best reading despite them."""

    data: Any
    sources: SourceMap
    faults: tuple[Diagnostic, ...]


def read_document(path: Path, *, name: str) -> Document:
    """The document in a file, called `name` in diagnostics; raises `ManifestError` where there is none."""
    return parse_document(_text(path, name), name=name)


def parse_document(text: str, *, name: str) -> Document:
    """The document in a text."""
    if found := _CONTROL.search(text):
        place = _place(name, text, found.start())
        raise _refusal(
            place, f"the character U+{ord(found[0]):04X} is not allowed", "delete it: editors may not show it"
        )
    try:
        _refuse_depth(text, name)
        loader = yaml.CBaseLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, name) from None
    except yaml.YAMLError as error:
        raise _refusal(SourceLocation(file=name), f"this is not YAML: {error}") from None
    if node is None:
        raise _refusal(
            SourceLocation(file=name), "the manifest is empty", "docs/manifest.md shows what a manifest holds"
        )
    reading = _Reading(file=name)
    data = reading.value(node)
    return Document(data=data, sources=SourceMap(file=name, root=node), faults=tuple(reading.faults))


def _text(path: Path, name: str) -> str:
    start = SourceLocation(file=name)
    try:
        if path.is_file() and path.stat().st_size > MAXIMUM_BYTES:
            raise _refusal(start, f"the manifest is larger than {MAXIMUM_BYTES // 1024**2} MB")
        content = path.read_bytes()
    except FileNotFoundError:
        raise _refusal(start, "there is no such file") from None
    except IsADirectoryError:
        raise _refusal(start, "this is a folder, not a manifest") from None
    except OSError as error:
        raise _refusal(start, f"the manifest cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(name, content[: error.start].decode("utf-8-sig", "replace"), None)
        raise _refusal(place, "the manifest is not UTF-8", "save it as UTF-8 in your editor") from None


def _place(name: str, text: str, index: int | None) -> SourceLocation:
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return SourceLocation(file=name, line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


def _refusal(location: SourceLocation, message: str, hint: str = "") -> ManifestError:
    return ManifestError([Diagnostic(location=location, message=message, hint=hint)])


def _syntax_error(error: yaml.MarkedYAMLError, name: str) -> ManifestError:
    mark = error.problem_mark or error.context_mark
    location = location_of(name, mark) if mark else SourceLocation(file=name)
    problem = error.problem or "it does not parse"
    hint = ""
    if error.context and error.context_mark:
        hint = f"{error.context} that begins at line {error.context_mark.line + 1}"
    return _refusal(location, f"this is not YAML: {_PROBLEMS.get(problem, problem)}", hint)


def _refuse_depth(text: str, name: str) -> None:
    """Looks at the events one by one where the text could nest deeper than the C stack bears."""
    longest = max(map(len, text.split("\n")))
    if text.count("[") + text.count("{") + 2 * longest <= _SAFE_DEPTH:
        return
    depth = 0
    loader = yaml.CBaseLoader(text)
    try:
        while (event := loader.get_event()) is not None:
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAXIMUM_DEPTH:
                    raise _too_deep(location_of(name, event.start_mark))
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    finally:
        loader.dispose()


def _too_deep(location: SourceLocation) -> ManifestError:
    return _refusal(location, f"this is nested deeper than {MAXIMUM_DEPTH} levels")


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One pass over the node tree. Nodes that aliases share are read once, and counted each time."""

    file: str
    faults: list[Diagnostic] = field(default_factory=list)
    _values: dict[int, tuple[Any, int]] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)

    def value(self, node: yaml.Node) -> Any:
        return self._sized(node)[0]

    def _sized(self, node: yaml.Node) -> tuple[Any, int]:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node), 1
        known = self._values.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise _refusal(location_of(self.file, node.start_mark), "this alias stands for something that holds itself")
        if len(self._open) >= MAXIMUM_DEPTH:
            raise _too_deep(location_of(self.file, node.start_mark))
        self._refuse_tag(node)
        self._open.add(id(node))
        sized = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)
        self._open.discard(id(node))
        if sized[1] > MAXIMUM_VALUES:
            message = f"this stands for more than {MAXIMUM_VALUES:,} values once its aliases are expanded"
            raise _refusal(location_of(self.file, node.start_mark), message)
        self._values[id(node)] = sized
        return sized

    def _sequence(self, node: yaml.Node) -> tuple[list[Any], int]:
        sized = [self._sized(item) for item in node.value]
        return [value for value, _ in sized], 1 + sum(size for _, size in sized)

    def _mapping(self, node: yaml.Node) -> tuple[dict[str, Any], int]:
        data: dict[str, Any] = {}
        first: dict[str, yaml.Node] = {}
        merged: list[yaml.MappingNode] = []
        total = 1
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == MERGE_KEY and key_node.style == "":
                merged += self._merged(value_node)
                continue
            key = self._key(key_node)
            value, size = self._sized(value_node)
            total += size + 1
            if key is None:
                continue
            if key in first:
                self._duplicate(key, key_node, first[key])
            else:
                first[key] = key_node
                data[key] = value
        for source in merged:
            values, size = self._sized(source)
            total += size
            data |= {key: value for key, value in values.items() if key not in data}
        return data, total

    def _merged(self, node: yaml.Node) -> list[yaml.MappingNode]:
        sources = merged_mappings(node)
        if sources is None:
            self._fault(node, "`<<` takes a mapping, or a list of mappings, by alias")
        return sources or []

    def _key(self, node: yaml.Node) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, "a key is one word, not a list or a mapping")
            return None
        self._refuse_tag(node)
        if node.style == "":
            reason = trap(node.value)
            value = resolve(node.value)
            if reason or value is None or isinstance(value, bool):
                message = reason or f"the key `{node.value}` is no text"
                self._fault(node, message, f'put it in quotes: "{node.value}"')
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        self._refuse_tag(node)
        if node.style != "":
            return node.value
        if reason := trap(node.value):
            hint = f'put text in quotes, "{node.value}", and write numbers in plain decimal'
            self._fault(node, reason, hint)
            return node.value
        return resolve(node.value)

    def _refuse_tag(self, node: yaml.Node) -> None:
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in ("str", "seq", "map"):
            self._fault(node, f"the tag {node.tag} has no meaning in a manifest", "take it away")

    def _duplicate(self, key: str, node: yaml.Node, first: yaml.Node) -> None:
        place = location_of(self.file, first.start_mark)
        hint = f"it stands at line {place.line}, column {place.column} already: keep one of them"
        self._fault(node, f"the key `{key}` stands twice in the same mapping", hint)

    def _fault(self, node: yaml.Node, message: str, hint: str = "") -> None:
        location = location_of(self.file, node.start_mark)
        self.faults.append(Diagnostic(location=location, message=message, hint=hint))
