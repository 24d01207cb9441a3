"""Runs the rules that installed packages add through the entry point group `fleet.rules`.

Each is a function of the manifest that yields faults: (path, message, hint), where `path` is the keys and indexes that
lead to what is wrong. They see manifests whose shape has no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.generator.manifest.model_errors import Fault
from fleet_iot.generator.manifest.models import FleetManifest

GROUP = "fleet.rules"

OwnRule = Callable[[FleetManifest], Iterable[Any]]


def check_own_rules(manifest: FleetManifest) -> Iterator[Fault]:
    """Every fault that an added rule finds, under the rule's name."""
    for name, rule in _rules():
        for found in rule(manifest):
            yield _fault(name, found)


@cache
def _rules() -> tuple[tuple[str, OwnRule], ...]:
    rules = []
    for point in sorted(entry_points(group=GROUP)):
        try:
            rule = point.load()
        except Exception as error:  # a package of the project, which may break in any way while it is loaded
            raise EnvironmentFault(
                f"the rule `{point.name}` ({point.value}) cannot be loaded: {error or type(error).__name__}",
                hint="mend or uninstall the package that adds it",
            ) from error
        if not callable(rule):
            raise _misfit(point.name, "is no function")
        rules.append((point.name, rule))
    return tuple(rules)


def _fault(name: str, found: Any) -> Fault:
    match found:
        case (tuple() | list() as path, str(message), *rest) if message and len(rest) <= 1:
            hint = rest[0] if rest else ""
            if isinstance(hint, str) and all(isinstance(step, str | int) for step in path):
                return Fault(path=tuple(path), message=message, hint=hint, is_key=True, rule=name)
    raise _misfit(name, f"yields {found!r}, not (path, message, hint)")


def _misfit(name: str, what: str) -> EnvironmentFault:
    return EnvironmentFault(f"the rule `{name}` {what}", hint="docs/extending.md shows one")
