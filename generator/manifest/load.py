"""Reads a manifest and gives every fault its place."""

from __future__ import annotations

import gc
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet_iot.generator.diagnostics import Diagnostic, ManifestError
from fleet_iot.generator.manifest.defaults import with_defaults
from fleet_iot.generator.manifest.document import Document
from fleet_iot.generator.manifest.environments import read_layers
from fleet_iot.generator.manifest.model_errors import Fault, read_draft
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.manifest.rules import check_rules, known_region, known_timezones, rule_id

_FOREIGN_LETTER = re.compile(r"[^\W\d_\x00-\x7f]")
_RULES_OF_WORDS = {"unknown-key", "wrong-pattern", "unknown-choice", *map(rule_id, (known_region, known_timezones))}


def read_manifest(path: Path, *, name: str, environment: str | None = None) -> FleetManifest:
    """The valid manifest in a file, with the environment's file over it; raises `ManifestError` with all faults."""
    with _collector_paused():
        return validate(read_layers(path, name=name, environment=environment))


def read_with_warnings(
    path: Path, *, name: str, environment: str | None = None
) -> tuple[FleetManifest, tuple[Diagnostic, ...]]:
    """The valid manifest in a file, as `read_manifest` reads it, and what may still fail in AWS, sorted."""
    with _collector_paused():
        document = with_defaults(read_layers(path, name=name, environment=environment))
        manifest, warnings = _judge(document)
        return manifest, tuple(sorted(_locate(document, warning) for warning in warnings))


def validate(document: Document) -> FleetManifest:
    """The valid manifest in a document. Raises ManifestError with all faults."""
    return _judge(with_defaults(document))[0]


def _judge(document: Document) -> tuple[FleetManifest, tuple[Fault, ...]]:
    """The manifest and its warnings, without their places, which are not for nothing.

    A place that is misread as YAML has no second fault for its shape. Raises ManifestError with all faults.
    """
    draft = read_draft(document.data, written=lambda path: document.sources.at(path).written)
    misread = {fault.location for fault in document.faults}
    found = (*draft.faults, *check_rules(draft))
    located = [_locate(document, fault) for fault in found if not fault.is_warning]
    diagnostics = [*document.faults, *(each for each in located if each.location not in misread)]
    if diagnostics or draft.manifest is None:
        raise ManifestError(diagnostics)
    return draft.manifest, tuple(fault for fault in found if fault.is_warning)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keeps the garbage collector from walking a large manifest again and again while it grows: it holds no cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _locate(document: Document, fault: Fault) -> Diagnostic:
    location = document.sources.at(fault.path, is_key=fault.is_key)
    hint = "; ".join(filter(None, (fault.hint, _look_alike(fault))))
    return Diagnostic(location=location, message=fault.message, hint=hint, rule=fault.rule, is_warning=fault.is_warning)


def _look_alike(fault: Fault) -> str:
    """Names the first letter of another script where only ASCII is known: it may look like the right one."""
    found = _FOREIGN_LETTER.search(fault.message) if fault.rule in _RULES_OF_WORDS else None
    return f"`{found[0]}` is U+{ord(found[0]):04X}, {unicodedata.name(found[0], 'without a name')}" if found else ""
