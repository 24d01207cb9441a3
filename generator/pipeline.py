"""The whole story: plan → render → gate → compare → write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_iot.generator.diagnostics import StaleError, WriteError
from fleet_iot.generator.diff import report
from fleet_iot.generator.diff.compare import Comparison, compare_tree
from fleet_iot.generator.diff.identities import LEAVING, Identities
from fleet_iot.generator.diff.impact import Impact, Kind, worst_first
from fleet_iot.generator.manifest.model_errors import refuse_unknown_facilities
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.naming import INDEX_FILE
from fleet_iot.generator.output import index, writer
from fleet_iot.generator.output.index import Index, Section
from fleet_iot.generator.output.render import render_attributes, render_facility, render_fleet, render_registry
from fleet_iot.generator.output.templating import OwnTemplates, read_templates, templates_hash
from fleet_iot.generator.plan.build import FleetPlan, plan_fleet
from fleet_iot.lib.record.place import name_of, orphans, record_name, removal

Sink = Callable[[str, Iterable[bytes]], str]
"""Consumes a file, given by path and chunks, and returns its SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Input of a command, computed once.

    `facilities`: those that it is about; `is_whole`: all of them, and what they share.
    """

    manifest: FleetManifest
    plan: FleetPlan
    root: Path
    own: OwnTemplates
    facilities: tuple[str, ...]
    is_whole: bool


def generate(
    manifest: FleetManifest,
    project: Path,
    *,
    environment: str | None = None,
    facilities: tuple[str, ...],
    force: bool,
    allowed: frozenset[Impact] = frozenset(),
    identities: Identities | None = None,
) -> writer.Change:
    """Write what the manifest says into the project's tree, for all facilities or for some.

    Args:
        manifest: A valid manifest.
        project: The manifest's folder.
        environment: The environment whose overlay is in the manifest; its record is written.
        facilities: Ids of the facilities to write; none for all.
        force: Overwrite files that were edited by hand, and an unreadable record.
        allowed: Impacts that are not refused; others that break identities or destroy data are.
        identities: The certificate requests that there are; locked once all is written.

    Raises:
        FleetError: nothing was written; the exit code is the error's.
    """
    run = _prepare(manifest, project, environment, facilities)
    root = run.root
    with writer.opened(root):
        former = _read_index(root, is_forgiving=force and run.is_whole)
        with writer.staging(root) as stage:
            sections = _render(run, former, stage.add)
            gone = frozenset(id_ for id_, _ in former.facilities if id_ not in manifest.facilities)
            current = former.updated(sections, removed=gone if run.is_whole else frozenset())
            removed = former.files.keys() - current.files.keys()
            if not force:
                touched = [path for section in sections.values() for path in section.paths]
                shas = current.files
                edited, _ = index.edited_files(former, [*touched, *removed], writer.hashes(root), root)
                theirs = tuple(path for path in edited if writer.hash_of(root, path) != shas.get(path))
                index.refuse_edited(theirs, record=name_of(root))
            found = Comparison(changes=())
            if former != index.EMPTY:  # else there is nothing to lose
                found = _compare(run, former, is_forgiving=force)
            report.refuse(_with_identities(found, run, identities), allowed=allowed)
            stage.add(INDEX_FILE, (index.dump(current),))
            change = stage.commit(removing=removed)
    if identities is not None:
        identities.lock(run.plan, run.facilities)
    return change


def check(
    manifest: FleetManifest,
    project: Path,
    *,
    environment: str | None = None,
    facilities: tuple[str, ...],
    identities: Identities | None = None,
) -> None:
    """Raise `StaleError` where the project's tree is not what the manifest says, or certificates would change."""
    run = _prepare(manifest, project, environment, facilities)
    with writer.observed(run.root):
        former = _read_index(run.root, is_forgiving=False)
        sections = _render(run, former, writer.hash_chunks)
        index.refuse_differences(
            index.compare(former, sections, run.root, is_whole=run.is_whole), record=name_of(run.root)
        )
    if identities is not None:
        identities.refuse(run.plan, run.facilities)


def refuse_orphans(manifest: Path) -> None:
    """Raise `StaleError` where the project has records of environments without an overlay."""
    if found := orphans(manifest):
        names = ", ".join(record_name(name) for name in found)
        hint = removal(manifest, found[0])
        raise StaleError(f"there are records of environments that are no more: {names}", hint=hint)


def compare(
    manifest: FleetManifest,
    project: Path,
    *,
    environment: str | None = None,
    facilities: tuple[str, ...],
    identities: Identities | None = None,
) -> Comparison:
    """Compare the manifest with the project's tree, and the identities with their locks."""
    run = _prepare(manifest, project, environment, facilities)
    with writer.observed(run.root):
        found = _compare(run, _read_index(run.root, is_forgiving=False), is_forgiving=False)
        return _with_identities(found, run, identities)


def _prepare(manifest: FleetManifest, project: Path, environment: str | None, facilities: Iterable[str]) -> Run:
    refuse_unknown_facilities(manifest, facilities)
    chosen = tuple(sorted(set(facilities)))
    return Run(
        manifest=manifest,
        plan=plan_fleet(manifest),
        root=project / record_name(environment),
        own=read_templates(project),
        facilities=chosen or tuple(sorted(manifest.facilities)),
        is_whole=not chosen,
    )


def _render(run: Run, former: Index, sink: Sink) -> dict[str | None, Section]:
    """Hand every file of the run to `sink`, and return the index of them."""
    known = () if run.is_whole else (id_ for id_, _ in former.facilities)
    registered = sorted({*run.facilities, *known})
    shared = [render_fleet(run.plan), render_registry(registered), render_attributes()]
    files = {artefact.path: sink(artefact.path, artefact.chunks) for artefact in shared}
    sections: dict[str | None, Section] = {None: _section(index.fleet_values(run.plan), files, templates_hash())}
    if not run.is_whole and former.fleet is not None:
        index.refuse_fleet_change(run.manifest, former.fleet, sections[None])
    for plant in run.plan.facilities:
        if plant.id in run.facilities:
            artefacts = render_facility(plant, own=run.own)
            files = {artefact.path: sink(artefact.path, artefact.chunks) for artefact in artefacts}
            sections[plant.id] = _section(index.facility_values(run.manifest, plant.id), files, run.own.hash)
    return sections


def _section(values: tuple[tuple[str, str], ...], shas: dict[str, str], templates: str) -> Section:
    return Section(values=values, templates=templates, files=tuple(sorted(shas.items())))


def _compare(run: Run, former: Index, *, is_forgiving: bool) -> Comparison:
    """Compare the tree; with `is_forgiving` an unreadable record counts as empty."""
    try:
        found = compare_tree(run.manifest, run.plan, former, run.root, templates=run.own.hash)
    except WriteError:
        if not is_forgiving:
            raise
        return Comparison(changes=())
    return found if run.is_whole else found.of(frozenset(run.facilities))


def _with_identities(found: Comparison, run: Run, identities: Identities | None) -> Comparison:
    more = identities.changes(run.plan, run.facilities) if identities is not None else []
    leaving = {change.facility for change in found.changes if change.kind in LEAVING}
    more = [each for each in more if each.kind is not Kind.LOCKS_UNPLANNED or leaving.isdisjoint((each.facility, None))]
    return replace(found, changes=worst_first((*found.changes, *more))) if more else found


def _read_index(root: Path, *, is_forgiving: bool) -> Index:
    content = writer.read(root, INDEX_FILE)
    if content is None:
        return index.EMPTY
    try:
        return index.load(content)
    except index.IndexFormatError as error:
        if is_forgiving:
            return index.EMPTY
        raise index.index_fault(str(error), record=name_of(root)) from None
