"""DynamoDB's expressions: conditions, key conditions, filters, projections and updates, parsed once and evaluated.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Value = dict[str, Any]
Item = dict[str, Value]
Node = tuple[Any, ...]
"""An action, named by its first element, and its operands."""

BYTES = 4096
"""Most bytes of an expression: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""

_TOKEN = re.compile(r"\s*(?:([#:]?[A-Za-z_0-9]+)|(<>|<=|>=|[=<>()\[\].,+-]))")
_COMPARATORS = ("=", "<>", "<", "<=", ">", ">=")
_FUNCTIONS = ("attribute_exists", "attribute_not_exists", "begins_with", "contains", "size")
_SECTIONS = ("SET", "REMOVE", "ADD", "DELETE")


class InvalidExpression(Exception):  # noqa: N818 - becomes a ValidationException
    """An expression that DynamoDB refuses."""


@cache
def reserved_words() -> frozenset[str]:
    """Return the words that are no attribute names in expressions, as moto has them from AWS's page.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
    """
    found = find_spec("moto")
    if found is None or found.origin is None:
        raise RuntimeError("moto is not installed")
    return frozenset((Path(found.origin).parent / "dynamodb/parsing/reserved_keywords.txt").read_text().split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The names and values that a request gives for its expressions."""

    names: Mapping[str, str]
    values: Mapping[str, Value]

    def check_used(self, *texts: str | None) -> None:
        """Refuse names and values that no expression uses, and expressions that use others."""
        _check_used(texts, (*self.names, *self.values))


@lru_cache(maxsize=1024)
def _check_used(texts: tuple[str | None, ...], given: tuple[str, ...]) -> None:
    used = {token for text in texts if text for token in _tokens(text) if token[0] in "#:"}
    if set(given) - used:
        raise InvalidExpression(f"Value provided unused in expressions: {sorted(set(given) - used)}")
    if used - set(given):
        raise InvalidExpression(f"An expression attribute used in an expression is not defined: {sorted(used)}")


def holds(text: str, item: Item, scope: Scope) -> bool:
    """Return whether a condition is true of an item."""
    return bool(_evaluate(parse_condition(text), item, scope))


def project(text: str, item: Item, scope: Scope) -> Item:
    """Return the top-level attributes that a projection names."""
    names = [_path(node, scope) for node in _parse_projection(text)]
    if any(len(path) > 1 for path in names):
        raise InvalidExpression("projections of nested attributes are not supported here")
    return {path[0]: item[path[0]] for path in names if path[0] in item}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCondition:
    """A key condition: the partition's value and, for the range key, an operator with its operands."""

    partition: tuple[str, Value]
    sort: tuple[str, str, tuple[Value, ...]] | None = None


def key_condition(text: str, scope: Scope, *, keys: tuple[str, ...]) -> KeyCondition:
    """Read a KeyConditionExpression: equality of the partition key, and one condition of the range key.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.KeyConditionExpressions.html
    """
    conditions: dict[str, tuple[str, tuple[Value, ...]]] = {}
    for node in _conjuncts(parse_condition(text)):
        operator, path, *operands = node
        if operator not in ("=", "<", "<=", ">", ">=", "between", "begins_with") or path[0] != "path":
            raise InvalidExpression(f"no condition of a key: {node}")
        (name,) = _path(path, scope)
        if name in conditions or name not in keys or any(each[0] != "value" for each in operands):
            raise InvalidExpression(f"Query key condition not supported: {text}")
        conditions[name] = operator, tuple(scope.values[each[1]] for each in operands)
    partition = conditions.pop(keys[0], None)
    if partition is None or partition[0] != "=":
        raise InvalidExpression(f"Query condition missed key schema element: {keys[0]}")
    sort = next(((name, *condition) for name, condition in conditions.items()), None)
    return KeyCondition(partition=(keys[0], partition[1][0]), sort=sort)


def _conjuncts(node: Node) -> Iterator[Node]:
    if node[0] == "and":
        yield from _conjuncts(node[1])
        yield from _conjuncts(node[2])
    else:
        yield node


def update(text: str, item: Item, scope: Scope) -> tuple[Item, set[str]]:
    """Return an item as an update expression leaves it, and the top-level attributes that it touches.

    All operands are those of the item before the update.
    """
    after, touched = dict(item), set()
    for action, node, operand in _parse_update(text):
        name, *rest = _path(node, scope)
        if rest:
            raise InvalidExpression("updates of nested attributes are not supported here")
        if name in touched:
            raise InvalidExpression(f"Two document paths overlap with each other: {name}")
        touched.add(name)
        if action == "REMOVE":
            after.pop(name, None)
            continue
        value = _operand(operand, item, scope)
        if value is None:
            raise InvalidExpression("The provided expression refers to an attribute that does not exist in the item")
        if action == "ADD":
            value = value if name not in item else _add(item[name], value, 1)
        after[name] = value
    return after, touched


def _add(left: Value, right: Value, sign: int) -> Value:
    if left.keys() != {"N"} or right.keys() != {"N"}:
        raise InvalidExpression("An operand in the update expression has an incorrect data type")
    return {"N": format((Decimal(left["N"]) + sign * Decimal(right["N"])).normalize(), "f")}


def order(value: Value) -> Any:
    """Return what sorts and compares a value: numbers by size, text and binary by bytes."""
    ((kind, content),) = value.items()
    return Decimal(content) if kind == "N" else content.encode() if kind == "S" else content


def _evaluate(node: Node, item: Item, scope: Scope) -> bool:
    kind = node[0]
    if kind == "and":
        return _evaluate(node[1], item, scope) and _evaluate(node[2], item, scope)
    if kind == "or":
        return _evaluate(node[1], item, scope) or _evaluate(node[2], item, scope)
    if kind == "not":
        return not _evaluate(node[1], item, scope)
    if kind in ("attribute_exists", "attribute_not_exists"):
        return bool((_operand(node[1], item, scope) is not None) == (kind == "attribute_exists"))
    left, *right = (_operand(each, item, scope) for each in node[1:])
    if left is None or any(each is None for each in right):
        return bool(kind == "<>")
    return _compare(kind, left, [each for each in right if each is not None])


def _compare(kind: str, left: Value, right: list[Value]) -> bool:
    if kind == "in":
        return any(_compare("=", left, [each]) for each in right)
    if kind == "contains":
        (other,) = right
        held, wanted = next(iter(left.values())), next(iter(other.values()))
        return bool(wanted in held if left.keys() & {"S", "SS", "NS", "BS"} else other in held)
    same = all(each.keys() == left.keys() for each in right)
    if kind in ("=", "<>"):
        return (same and order(left) == order(right[0]) if {"N", "S"} & left.keys() else left == right[0]) == (
            kind == "="
        )
    if not same or not left.keys() <= {"N", "S", "B"}:
        return False
    this, others = order(left), [order(each) for each in right]
    if kind == "begins_with":
        return bool(this.startswith(others[0]))
    if kind == "between":
        return bool(others[0] <= this <= others[1])
    return bool({"<": this < others[0], "<=": this <= others[0], ">": this > others[0], ">=": this >= others[0]}[kind])


def _operand(node: Node, item: Item, scope: Scope) -> Value | None:
    kind = node[0]
    if kind == "value":
        return scope.values[node[1]]
    if kind == "path":
        value: Any = {"M": item}
        for part in _path(node, scope):
            nested = value.get("L" if isinstance(part, int) else "M", ())
            if (isinstance(part, int) and part >= len(nested)) or (isinstance(part, str) and part not in nested):
                return None
            value = nested[part]
        return dict(value)
    if kind == "size":
        held = _operand(node[1], item, scope)
        return None if held is None else {"N": str(len(next(iter(held.values()))))}
    left, right = (_operand(each, item, scope) for each in node[1:])
    if kind == "if_not_exists":
        return right if left is None else left
    if left is None or right is None:
        return None
    if kind == "list_append":
        return {"L": [*left["L"], *right["L"]]}
    return _add(left, right, 1 if kind == "+" else -1)


def _path(node: Node, scope: Scope) -> list[Any]:
    parts: list[Any] = []
    for part in node[1:]:
        if isinstance(part, str) and part[0] != "#" and part.upper() in reserved_words():
            raise InvalidExpression(f"Attribute name is a reserved keyword; reserved keyword: {part}")
        parts.append(scope.names[part] if isinstance(part, str) and part[0] == "#" else part)
    return parts


@lru_cache(maxsize=1024)
def _tokens(text: str) -> tuple[str, ...]:
    if not text or len(text.encode()) > BYTES:
        raise InvalidExpression("an expression has 1 to 4,096 bytes")
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidExpression(f"Syntax error; token: {text[at:]!r}")
        found.append(match[1] or match[2])
        at = match.end()
    return tuple(found)


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._at = text, _tokens(text), 0

    @property
    def next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.next
        if not token or (expected and token.upper() not in expected):
            raise InvalidExpression(f"Syntax error; token: {token or '<EOF>'!r} in {self._text!r}")
        self._at += 1
        return token

    def accept(self, token: str) -> bool:
        found = self.next.upper() == token
        self._at += found
        return found

    def end(self) -> None:
        if self.next:
            raise InvalidExpression(f"Syntax error; token: {self.next!r} in {self._text!r}")

    def listed(self, element: Callable[[], Any]) -> Iterator[Any]:
        yield element()
        while self.accept(","):
            yield element()

    def condition(self) -> Node:
        node = self._conjunction()
        while self.accept("OR"):
            node = "or", node, self._conjunction()
        return node

    def _conjunction(self) -> Node:
        node = self._negation()
        while self.accept("AND"):
            node = "and", node, self._negation()
        return node

    def _negation(self) -> Node:
        if self.accept("NOT"):
            return "not", self._negation()
        if self.accept("("):
            node = self.condition()
            self.take(")")
            return node
        left = self.operand()
        if left[0] in ("attribute_exists", "attribute_not_exists", "begins_with", "contains"):
            return left
        operator = self.take(*_COMPARATORS, "BETWEEN", "IN")
        if operator.upper() == "BETWEEN":
            first = self.operand()
            self.take("AND")
            return "between", left, first, self.operand()
        if operator.upper() == "IN":
            self.take("(")
            values = tuple(self.listed(self.operand))
            self.take(")")
            return "in", left, *values
        return operator, left, self.operand()

    def operand(self) -> Node:
        token = self.take()
        if token[0] == ":":
            return "value", token
        if self.next == "(" and token in (*_FUNCTIONS, "if_not_exists", "list_append"):
            self.take("(")
            operands = tuple(self.listed(self.operand))
            self.take(")")
            if len(operands) != (1 if token in ("size", "attribute_exists", "attribute_not_exists") else 2):
                raise InvalidExpression(f"Incorrect number of operands for function {token}")
            return token, *operands
        self._at -= 1
        return self.path()

    def path(self) -> Node:
        parts: list[Any] = [self._name()]
        while self.next in (".", "["):
            if self.take() == ".":
                parts.append(self._name())
            else:
                parts.append(int(self.take()))
                self.take("]")
        return "path", *parts

    def _name(self) -> str:
        token = self.take()
        if not re.fullmatch(r"#\w+|[A-Za-z]\w*", token):
            raise InvalidExpression(f"Syntax error; token: {token!r} in {self._text!r}")
        return token

    def assignment(self) -> tuple[str, Node, Node]:
        path = self.path()
        self.take("=")
        node = self.operand()
        while self.next in ("+", "-"):
            node = self.take(), node, self.operand()
        return "SET", path, node


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Node:
    """Parse a condition. Raises InvalidExpression."""
    parser = _Parser(text)
    node = parser.condition()
    parser.end()
    return node


@lru_cache(maxsize=1024)
def _parse_projection(text: str) -> tuple[Node, ...]:
    parser = _Parser(text)
    nodes = tuple(parser.listed(parser.path))
    parser.end()
    return nodes


@lru_cache(maxsize=1024)
def _parse_update(text: str) -> tuple[tuple[str, Node, Node], ...]:
    parser = _Parser(text)
    actions: list[tuple[str, Node, Node]] = []
    while parser.next:
        section = parser.take(*_SECTIONS).upper()
        if section == "SET":
            actions += parser.listed(parser.assignment)
        elif section == "REMOVE":
            actions += [("REMOVE", path, ()) for path in parser.listed(parser.path)]
        elif section == "ADD":
            actions += parser.listed(lambda: ("ADD", parser.path(), parser.operand()))
        else:
            raise InvalidExpression("DELETE is not supported here")
    if not actions:
        raise InvalidExpression("The expression can not be empty")
    return tuple(actions)
