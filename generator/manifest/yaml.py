"""Reads a YAML file into plain data and the place of every value in it; reports every fault of the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import yaml

from fleet_iot.generator.diagnostics import DataPath, Diagnostic, ManifestError, SourceLocation, refusal
from fleet_iot.generator.manifest.project import leads_out

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,299})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)", re.ASCII)
_NAN = re.compile(r"\.(nan|NaN|NAN)", re.ASCII)
_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}

_TRAPS = (
    (re.compile(r"yes|Yes|YES|on|On|ON"), "YAML 1.1 reads {text} as true"),
    (re.compile(r"no|No|NO|off|Off|OFF"), "YAML 1.1 reads {text} as false"),
    (re.compile(r"[-+]?0[0-7_]+"), "YAML 1.1 reads {text} as the octal number {octal}"),
    (re.compile(r"[-+]?0[0-9]+"), "{text} is a number to some YAML readers and text to others"),
    (re.compile(r"[-+]?0[xob][0-9a-fA-F_]+"), "{text} is a number to some YAML readers and text to others"),
    (
        re.compile(r"[-+]?\.?[0-9][0-9.]*_[0-9_.]*([eE][-+]?[0-9]+)?|[-+]\.[0-9]+([eE][-+]?[0-9]+)?"),
        "{text} is a number to some YAML readers and text to others",
    ),
    (
        re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"),
        "YAML 1.1 reads {text} as a number to the base 60",
    ),
    (re.compile(r"[0-9]{4}-([0-9]{2}-[0-9]{2}|[0-9]{1,2}-[0-9]{1,2}[Tt \t].*)"), "YAML 1.1 reads {text} as a date"),
    (re.compile(r"="), "{text} has a special meaning in YAML 1.1"),
)
_START_OF_A_TRAP = frozenset("yYoOnN0123456789+-.=")


@lru_cache(maxsize=10_000)  # most plain scalars are keys, and the same in every part
def trap(text: str) -> str | None:
    """Return why YAML readers disagree about a plain scalar; None if they agree."""
    if text[:1] not in _START_OF_A_TRAP:
        return None
    for pattern, reason in _TRAPS:
        if pattern.fullmatch(text):
            digits = text.lstrip("+-").replace("_", "")
            octal = int(digits, 8) if digits and set(digits) <= set("01234567") else 0
            return reason.format(text=text, octal=octal)
    return None


@lru_cache(maxsize=10_000)
def resolve(text: str) -> Scalar:
    """Return the value of a plain scalar: null, a truth value, a decimal number, or else text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float(text.replace(".", ""))
    return float("nan") if _NAN.fullmatch(text) else text


MERGE_KEY = "<<"


def location_of(file: str, mark: Any) -> SourceLocation:
    """Convert a parser's mark, which counts from 0; the C parser's class is not the Python parser's."""
    return SourceLocation(file=file, line=mark.line + 1, column=mark.column + 1)


def merged_mappings(node: yaml.Node) -> list[yaml.MappingNode] | None:
    """Return the mappings of a merge key, highest precedence first; None if its value is anything else."""
    nodes: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    mappings = [item for item in nodes if isinstance(item, yaml.MappingNode)]
    return mappings if len(mappings) == len(nodes) else None


class Places(Protocol):
    """Gives the place of every value of a document."""

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """Return the place of the value at `path`, or of its key; of the nearest there is, where the path leads on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMap:
    """The places of one file's values, looked up in the parser's tree."""

    file: str
    root: yaml.Node
    _children: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = field(default_factory=dict, repr=False)

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """See `Places`."""
        import yaml

        node = key = self.root
        for step in path:
            found = self._step(node, step)
            if found is None:
                is_leaf = isinstance(node, yaml.ScalarNode)
                return location_of(self.file, (node if is_leaf else key).start_mark)
            key, node = found
        place = location_of(self.file, (key if is_key else node).start_mark)
        is_plain = isinstance(node, yaml.ScalarNode) and node.style == "" and not is_key
        return replace(place, written=node.value) if is_plain else place

    def _step(self, node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
        import yaml

        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            return node.value[step], node.value[step]
        if isinstance(node, yaml.SequenceNode):  # a list of names, which the models read as a mapping by name
            named = (item for item in node.value if isinstance(item, yaml.ScalarNode) and item.value == step)
            return next(((item, item) for item in named), None)
        if not isinstance(node, yaml.MappingNode):
            return None
        return self._mapping(node).get(str(step))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Keys of a mapping, its own before those of its merge keys. A loop, as merges may nest without end."""
        import yaml

        if id(node) not in self._children:
            children: dict[str, tuple[yaml.Node, yaml.Node]] = {}
            pending, seen = [node], {id(node)}
            while pending:
                merged: list[yaml.MappingNode] = []
                for key, value in pending.pop(0).value:
                    if key.value == MERGE_KEY and key.style == "":
                        merged += merged_mappings(value) or []
                    elif isinstance(key, yaml.ScalarNode):
                        children.setdefault(key.value, (key, value))
                pending = [source for source in merged if id(source) not in seen] + pending
                seen.update(map(id, merged))
            self._children[id(node)] = children
        return self._children[id(node)]


MAXIMUM_BYTES = 256 * 1024 * 1024
_SAFE_DEPTH = 10_000
"""The C composer recurses on the C stack, and the process crashes somewhere beyond 20,000 levels."""

_CONTROL = re.compile("[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\ufeff\u2028\u2029]")
"""Hidden characters, and those that begin a line in YAML but not in editors, which would count lines differently."""
_COMMENT_IN_TEXT = re.compile(r"[^\s#] #(?=[^\s#!])")
"""`Plant #2`, maybe: a comment that is written like a part of the text before it."""
_PROBLEMS = {
    "mapping values are not allowed in this context": "a `:` is where no value can follow: "
    "is a value with `: ` in it without quotes, or an indentation off?",
    "found character that cannot start any token": "this character cannot start a value: put the value in quotes",
    "found unexpected end of stream": "the text ends within quotes",
    "found undefined alias": "this alias has no anchor before it",
    "did not find expected ',' or ']'": "this list is not closed: expected `,` or `]`",
    "did not find expected ',' or '}'": "this mapping is not closed: expected `,` or `}`",
    "did not find expected key": "the indentation does not fit, or a quote or bracket above is not closed",
    "did not find expected '-' indicator": "a list and keys have the same indentation",
    "could not find expected ':'": "this line is no `key: value`",
    "found incompatible YAML document": "its %YAML line asks for another version than 1.1: remove it",
    "but found another document": "a second document begins here; a manifest is one document",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain data, the place of every value, and the diagnostics of the text; the data is the best reading despite them.

    `sources` are the places of what the document was made from; `moved` are those of values that came from elsewhere,
    by their paths: whose places they are, and the path there. So a document may be laid over another again and again.
    """

    data: Any
    sources: Places
    diagnostics: tuple[Diagnostic, ...] = ()
    moved: Mapping[DataPath, tuple[Places, DataPath]] = field(default_factory=dict)

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """Return the place of the value at `path`, or of its key, in the file that it is written in."""
        for end in range(len(path), 0, -1) if self.moved else ():
            if path[:end] in self.moved:
                places, start = self.moved[path[:end]]
                return places.at((*start, *path[end:]), is_key=is_key)
        return self.sources.at(path, is_key=is_key)

    def changed(
        self, data: Any, moved: Mapping[DataPath, tuple[Places, DataPath]], faults: Iterable[Diagnostic] = ()
    ) -> Document:
        """Return the document with other data, of which the values at the paths of `moved` came from elsewhere."""
        return Document(data=data, sources=self, moved=moved, diagnostics=(*self.diagnostics, *faults))


def read_document(path: Path, *, name: str, within: Path | None = None) -> Document:
    """Return the document in a file, called `name` in diagnostics; raises `ManifestError` where there is none.

    `within`: the folder that its links may not lead out of; the manifest's own may.
    """
    return parse_document(read_text(path, name, within=within), name=name)


def parse_document(text: str, *, name: str) -> Document:
    """Return the document in a text, with the faults that do not keep the reading from going on.

    Raises:
        ManifestError: a control character, no YAML, nothing, or nested too deep.
    """
    if found := _CONTROL.search(text):
        place = _place(name, text, found.start())
        raise refusal(
            place,
            f"the character U+{ord(found[0]):04X} is not allowed",
            "delete it: editors may not show it",
            rule="control-character",
        )
    node = _compose(text, name)
    reading = Reading(file=name)
    data = reading.value(node)
    faults = reading.diagnostics
    if _COMMENT_IN_TEXT.search(text):
        faults += cut_texts(node, text.splitlines(), file=name)
    return Document(data=data, sources=SourceMap(file=name, root=node), diagnostics=tuple(faults))


def _compose(text: str, name: str) -> yaml.Node:
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
            "docs/manifest.md describes the manifest",
            rule="empty-manifest",
        )
    return node


def read_text(path: Path, name: str, *, what: str = "the manifest", within: Path | None = None) -> str:
    """Return the text of a file, called `name` in diagnostics and `what` in sentences; raises `ManifestError`."""
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
    """Parse event by event where the text could nest deeper than the C stack allows."""
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
                    raise too_deep(location_of(name, event.start_mark))
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    finally:
        loader.dispose()


_TEXTS = frozenset({"name", "description", "unit"})
_MAPS_OF_TEXT = frozenset({"tags", "attributes", "lines"})
"""Keys of free text, and of mappings of it: only there can a comment cut off a part of a valid value."""
_COMMENT = re.compile(r" #[^\s#!]\S*(?: +(?!# )\S+)*")
MAXIMUM_DEPTH = 64
MAXIMUM_VALUES = 5_000_000
"""Values after aliases are expanded: a few lines of aliases can expand to billions."""


def too_deep(location: SourceLocation) -> ManifestError:
    """Return the error for a text that nests deeper than any manifest."""
    return refusal(location, f"this is nested deeper than {MAXIMUM_DEPTH} levels", rule="too-deep")


@dataclass(slots=True, kw_only=True)
class Reading:
    """One pass over the node tree. Nodes that aliases share are read once, and counted each time."""

    file: str
    diagnostics: list[Diagnostic] = field(default_factory=list)
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
            place = location_of(self.file, node.start_mark)
            raise refusal(place, "this alias refers to a value that contains itself", rule="alias-loop")
        if len(self._open) >= MAXIMUM_DEPTH:
            raise too_deep(location_of(self.file, node.start_mark))
        self._refuse_tag(node)
        self._open.add(id(node))
        sized = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)
        self._open.discard(id(node))
        if sized[1] > MAXIMUM_VALUES:
            message = f"this is more than {MAXIMUM_VALUES:,} values once its aliases are expanded"
            raise refusal(location_of(self.file, node.start_mark), message, rule="too-many-values")
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
            self._fault(node, "the value of `<<` is a mapping, or a list of mappings, by alias", rule="merge-key")
        return sources or []

    def _key(self, node: yaml.Node) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._fault(node, "a key is one word, not a list or a mapping", rule="key-type")
            return None
        self._refuse_tag(node)
        if node.style == "":
            reason = trap(node.value)
            value = resolve(node.value)
            if reason or value is None or isinstance(value, bool):
                message = reason or f"the key `{node.value}` is no text"
                self._fault(node, message, f'put it in quotes: "{node.value}"', rule="yaml-trap")
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        self._refuse_tag(node)
        if node.style != "":
            return node.value
        if reason := trap(node.value):
            hint = f'put text in quotes, "{node.value}", and write numbers in plain decimal'
            self._fault(node, reason, hint, rule="yaml-trap")
            return node.value
        return resolve(node.value)

    def _refuse_tag(self, node: yaml.Node) -> None:
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.rpartition(":")[2] not in ("str", "seq", "map"):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self._fault(node, f"the tag {tag} has no meaning in a manifest", "remove it", rule="tag")

    def _duplicate(self, key: str, node: yaml.Node, first: yaml.Node) -> None:
        place = location_of(self.file, first.start_mark)
        message = f"the key `{key}` appears twice in the same mapping, first at {place}"
        self._fault(node, message, "keep one of them", rule="duplicate-key", related=(place,))

    def _fault(
        self, node: yaml.Node, message: str, hint: str = "", *, rule: str, related: tuple[SourceLocation, ...] = ()
    ) -> None:
        place = location_of(self.file, node.start_mark)
        self.diagnostics.append(Diagnostic(location=place, message=message, hint=hint, rule=rule, related=related))


def cut_texts(root: yaml.Node, lines: list[str], *, file: str) -> Iterator[Diagnostic]:
    """Find texts that a ` #` without a space after it cuts off: `name: Plant #2` is the name Plant to YAML."""
    pending: list[tuple[yaml.Node, str, bool]] = [(root, "", False)]
    seen: set[int] = set()
    while pending:
        node, key, is_free = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            pending += [(value, str(name.value), key in _MAPS_OF_TEXT) for name, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            pending += [(item, key, False) for item in node.value]
        elif (
            isinstance(node, yaml.ScalarNode)
            and node.style == ""
            and (is_free or key in _TEXTS)
            and node.end_mark.line < len(lines)
        ):
            comment = _COMMENT.match(lines[node.end_mark.line], node.end_mark.column)
            if comment:
                message = f"a comment begins within this text, which is read as {node.value}"
                hint = f'put the text in quotes: "{node.value}{comment[0]}"; a comment has a space behind its #'
                place = location_of(file, node.start_mark)
                yield Diagnostic(location=place, message=message, hint=hint, rule="comment")
