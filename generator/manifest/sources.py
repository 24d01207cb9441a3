"""Knows the place of every node of a YAML document by its path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from fleet_iot.generator.diagnostics import SourceLocation

if TYPE_CHECKING:  # imported where it is used: a manifest that is plain and has no fault needs no parser
    import yaml

MERGE_KEY = "<<"
DataPath = tuple[str | int, ...]


def location_of(file: str, mark: Any) -> SourceLocation:
    """A parser's mark, which counts from 0, as a place; pure Python and C parsers have each a class of their own."""
    return SourceLocation(file=file, line=mark.line + 1, column=mark.column + 1)


def merged_mappings(node: yaml.Node) -> list[yaml.MappingNode] | None:
    """The mappings that a merge key takes in, the first of them first in rank; None where it takes something else."""
    import yaml

    nodes: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
    mappings = [item for item in nodes if isinstance(item, yaml.MappingNode)]
    return mappings if len(mappings) == len(nodes) else None


class Places(Protocol):
    """Gives the place of every node of a document."""

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """The place of the value at `path`, or of its key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMap:
    """The places of a document's nodes; has the tree made when it is asked, so that a valid manifest costs nothing."""

    file: str
    compose: Callable[[], yaml.Node]
    _children: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = field(default_factory=dict, repr=False)

    def at(self, path: DataPath, *, is_key: bool = False) -> SourceLocation:
        """The place of the value at `path`, or of its key; of the nearest that there is, where the path leads on."""
        import yaml

        node = key = self.compose()
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
        """Keys of a mapping, its own before those of its merge keys; a loop, for merges may lead on without end."""
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
