"""Parse generated declarations: literals and specs, never imported, so that no record runs code.

The allow-list below is the one grammar of declarations: the generator's gate checks its output against it, and every
program reads the record through it.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from .. import specs

Spec = TypeVar("Spec")

MAXIMUM_BYTES = 64 * 1024 * 1024
"""Of one declaration; a facility of the largest manifest needs a thousandth of it."""

SPECS: dict[str, type[Any]] = {
    name: value for name, value in vars(specs).items() if isinstance(value, type) and dataclasses.is_dataclass(value)
}
"""The classes that a declaration may call, by name."""

_NODES = {
    ast.Module,
    ast.Expr,
    ast.Constant,
    ast.ImportFrom,
    ast.alias,
    ast.Assign,
    ast.AnnAssign,
    ast.Name,
    ast.Load,
    ast.Store,
    ast.Call,
    ast.keyword,
    ast.Tuple,
    ast.Dict,
    ast.Subscript,
    ast.UnaryOp,
    ast.USub,
}
"""The node types that a declaration may contain."""


class DeclarationError(ValueError):
    """A text is not a declaration; `line` counts from 1."""

    def __init__(self, what: str, *, line: int = 1) -> None:
        super().__init__(f"line {line}: {what}")
        self.what = what
        self.line = line


def parse(content: bytes) -> ast.Module:
    """Parse a declaration: imports of specs and facilities, and assignments of literals and specs.

    Raises:
        DeclarationError: it is not ASCII Python, or contains more than declarations.
    """
    if len(content) > MAXIMUM_BYTES:
        raise DeclarationError(f"it is larger than {MAXIMUM_BYTES // 1024**2} MB")
    try:
        tree = ast.parse(content.decode("ascii"))
    except UnicodeDecodeError as error:
        raise DeclarationError("it is not ASCII", line=content[: error.start].count(b"\n") + 1) from None
    except SyntaxError as error:
        raise DeclarationError(f"it is not Python: {error.msg}", line=error.lineno or 1) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise DeclarationError(f"it is not Python: {error or 'it is nested too deep'}") from None
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if type(node) not in _NODES:
            raise DeclarationError(f"a declaration contains no {type(node).__name__}", line=line)
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in SPECS):
            raise DeclarationError("a declaration calls nothing but the specs", line=line)
        if isinstance(node, ast.ImportFrom) and not _is_allowed_import(node):
            raise DeclarationError(f"a declaration imports nothing from {node.module or '.'}", line=line)
    return tree


def read_values(content: bytes, name: str) -> dict[str, Any]:
    """Return the arguments of the spec that is assigned to `name`, nested specs as dictionaries.

    For records of any version: the caller decides which fields are required. Raises DeclarationError.
    """
    return _plain(_assigned(content, name))


def read_spec(content: bytes, name: str, kind: type[Spec]) -> Spec:
    """Return the `kind` that is assigned to `name`, with all its fields in their types. Raises DeclarationError."""
    value = _spec(_assigned(content, name))
    if type(value) is not kind:
        raise DeclarationError(f"{name} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def _is_allowed_import(node: ast.ImportFrom) -> bool:
    module = node.module or ""
    return not node.level and (module in ("__future__", "lib.specs") or module.startswith("lib.facilities."))


def _assigned(content: bytes, name: str) -> ast.Call:
    """Return the one call that is assigned to `name`."""
    found = [
        node
        for node in parse(content).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id == name
    ]
    if len(found) != 1 or not isinstance(found[0].value, ast.Call):
        what = f"it declares {name} twice" if len(found) > 1 else f"it declares no {name}"
        raise DeclarationError(what, line=found[-1].lineno if found else 1)
    return found[0].value


def _spec(call: ast.Call) -> Any:
    kind = SPECS[call.func.id]  # type: ignore[attr-defined]  # `parse` refuses other calls
    values = _arguments(call, _spec)
    if unknown := sorted(values.keys() - {field.name for field in dataclasses.fields(kind)}):
        raise DeclarationError(f"{kind.__name__} has no {', '.join(unknown)}", line=call.lineno)
    try:
        return msgspec.convert(values, type=kind)
    except msgspec.ValidationError as error:
        raise DeclarationError(f"{kind.__name__}: {error}", line=call.lineno) from None


def _plain(call: ast.Call) -> dict[str, Any]:
    return _arguments(call, _plain)


def _arguments(call: ast.Call, convert: Callable[[ast.Call], Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call, with nested calls converted."""
    if call.args:
        raise DeclarationError("the values of a spec are given by name", line=call.lineno)
    values: dict[str, Any] = {}
    for argument in call.keywords:
        if argument.arg is None or argument.arg in values:
            raise DeclarationError("each value of a spec is given by name, once", line=call.lineno)
        values[argument.arg] = _value(argument.value, convert)
    return values


def _value(node: ast.expr, convert: Callable[[ast.Call], Any]) -> Any:
    match node:
        case ast.Call():
            return convert(node)
        case ast.Tuple(elts=items):
            return tuple(_value(item, convert) for item in items)
        case ast.Dict(keys=keys, values=values):
            members = [(_value(key, convert) if key else None, value) for key, value in zip(keys, values, strict=True)]
            if len({key for key, _ in members if isinstance(key, str)}) != len(members):
                raise DeclarationError("a mapping has each key once, as text", line=node.lineno)
            return {key: _value(value, convert) for key, value in members}
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if not isinstance(
            value, bool
        ):
            return -value
    raise DeclarationError("a value is a literal or a spec", line=node.lineno)
