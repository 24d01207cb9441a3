"""Reads the node tree of a YAML text into plain data.

Everything that the data alone could not show any more is told here: keys that stand twice, and scalars that YAML
readers disagree about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from fleet_iot.generator.diagnostics import Diagnostic, ManifestError, SourceLocation, refusal
from fleet_iot.generator.manifest.scalars import resolve, trap
from fleet_iot.generator.manifest.sources import MERGE_KEY, location_of, merged_mappings

_TEXTS = frozenset({"name", "description", "unit"})
_MAPS_OF_TEXT = frozenset({"tags", "attributes", "lines"})
"""Keys of free text, and of mappings that hold it: other values would be refused with more words in them."""
_COMMENT = re.compile(r" #[^\s#!]\S*(?: +(?!# )\S+)*")
MAXIMUM_DEPTH = 64
MAXIMUM_VALUES = 5_000_000
"""Values after aliases are expanded: a few lines of aliases can stand for billions."""


def too_deep(location: SourceLocation) -> ManifestError:
    """What to raise where a text nests deeper than any manifest does."""
    return refusal(location, f"this is nested deeper than {MAXIMUM_DEPTH} levels", rule="too-deep")


@dataclass(slots=True, kw_only=True)
class Reading:
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
            place = location_of(self.file, node.start_mark)
            raise refusal(place, "this alias stands for something that holds itself", rule="alias-loop")
        if len(self._open) >= MAXIMUM_DEPTH:
            raise too_deep(location_of(self.file, node.start_mark))
        self._refuse_tag(node)
        self._open.add(id(node))
        sized = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)
        self._open.discard(id(node))
        if sized[1] > MAXIMUM_VALUES:
            message = f"this stands for more than {MAXIMUM_VALUES:,} values once its aliases are expanded"
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
            self._fault(node, "`<<` takes a mapping, or a list of mappings, by alias", rule="merge-key")
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
            self._fault(node, f"the tag {tag} has no meaning in a manifest", "take it away", rule="tag")

    def _duplicate(self, key: str, node: yaml.Node, first: yaml.Node) -> None:
        place = location_of(self.file, first.start_mark)
        message = f"the key `{key}` stands twice in the same mapping, first at {place}"
        self._fault(node, message, "keep one of them", rule="duplicate-key", related=(place,))

    def _fault(
        self, node: yaml.Node, message: str, hint: str = "", *, rule: str, related: tuple[SourceLocation, ...] = ()
    ) -> None:
        place = location_of(self.file, node.start_mark)
        self.faults.append(Diagnostic(location=place, message=message, hint=hint, rule=rule, related=related))


def cut_texts(root: yaml.Node, lines: list[str], *, file: str) -> Iterator[Diagnostic]:
    """The texts that a ` #` without a space behind it ends: `name: Plant #2` is the name Plant to YAML."""
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
