"""The whole story: read → validate → plan → render → gate → write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fleet_iot.generator.diagnostics import RequestError, WriteError
from fleet_iot.generator.diff import report as impact_report
from fleet_iot.generator.diff.identities import LEAVING, Identities
from fleet_iot.generator.diff.impact import Impact, Kind, worst_first
from fleet_iot.generator.diff.tree import Comparison, compare_tree
from fleet_iot.generator.manifest.model_errors import suggestion
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.naming import INDEX_FILE, OUTPUT_FOLDER
from fleet_iot.generator.output import index, tree, writer
from fleet_iot.generator.output import staleness as changes
from fleet_iot.generator.output.artefact import Artefact
from fleet_iot.generator.output.extension import OwnTemplates, read_templates
from fleet_iot.generator.output.index import Index, Section
from fleet_iot.generator.output.render import render_attributes, render_facility, render_fleet, render_registry
from fleet_iot.generator.output.templating import templates_hash
from fleet_iot.generator.plan.build import plan_fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The facilities that a command is about; `is_whole`: all of them, and what they share."""

    facilities: tuple[str, ...]
    is_whole: bool


def generate(
    manifest: FleetManifest,
    project: Path,
    *,
    facilities: tuple[str, ...],
    force: bool,
    allowed: frozenset[Impact] = frozenset(),
    identities: Identities | None = None,
) -> writer.Change:
    """Writes what the manifest says into the project's tree, for all facilities or for some.

    What breaks identities or destroys data is refused unless it is `allowed`; `identities` are those that there are,
    and are locked once all is written.
    """
    root, selection, own = project / OUTPUT_FOLDER, _select(manifest, facilities), read_templates(project)
    with writer.opened(root):
        former = _read_index(root, is_forgiving=force and selection.is_whole)
        with writer.staging(root) as stage:
            sections = _sections(manifest, former, selection, own, stage.add_all)
            gone = frozenset(id_ for id_, _ in former.facilities if id_ not in manifest.facilities)
            current = former.having(sections, dropping=gone if selection.is_whole else frozenset())
            removed = former.files.keys() - current.files.keys()
            if not force:
                touched = [path for section in sections.values() for path in section.paths]
                shas = current.files
                edited, _ = changes.edited_files(former, [*touched, *removed], tree.hashes(root), root)
                changes.refuse_edited(tuple(path for path in edited if tree.hash_of(root, path) != shas.get(path)))
            found = Comparison(changes=())
            if former != index.EMPTY:  # else there is nothing to lose
                found = _compare(manifest, former, root, selection, own, is_forgiving=force)
            impact_report.refuse(_with_identities(found, manifest, selection, identities), allowed=allowed)
            stage.add_all([Artefact(path=INDEX_FILE, chunks=lambda: (index.dump(current),))])
            change = stage.commit(removing=removed)
    if identities is not None:
        identities.lock(plan_fleet(manifest), selection.facilities)
    return change


def check(
    manifest: FleetManifest, project: Path, *, facilities: tuple[str, ...], identities: Identities | None = None
) -> None:
    """Raises `StaleError` where the project's tree is not what the manifest says, or certificates would be others."""
    root, selection, own = project / OUTPUT_FOLDER, _select(manifest, facilities), read_templates(project)
    with writer.observed(root):
        former = _read_index(root, is_forgiving=False)
        sections = _sections(manifest, former, selection, own, writer.hash_all)
        changes.refuse_differences(changes.compare(former, sections, root, is_whole=selection.is_whole))
    if identities is not None:
        identities.refuse(plan_fleet(manifest), selection.facilities)


def compare(
    manifest: FleetManifest, project: Path, *, facilities: tuple[str, ...], identities: Identities | None = None
) -> Comparison:
    """Compare the manifest with the project's tree, and the identities with their locks."""
    root, selection, own = project / OUTPUT_FOLDER, _select(manifest, facilities), read_templates(project)
    with writer.observed(root):
        found = _compare(manifest, _read_index(root, is_forgiving=False), root, selection, own, is_forgiving=False)
        return _with_identities(found, manifest, selection, identities)


def _with_identities(
    found: Comparison, manifest: FleetManifest, selection: Selection, identities: Identities | None
) -> Comparison:
    more = identities.changes(plan_fleet(manifest), selection.facilities) if identities is not None else []
    leaving = {change.facility for change in found.changes if change.kind in LEAVING}
    more = [each for each in more if each.kind is not Kind.LOCKS_UNPLANNED or leaving.isdisjoint((each.facility, None))]
    return replace(found, changes=worst_first((*found.changes, *more))) if more else found


def _compare(
    manifest: FleetManifest, former: Index, root: Path, selection: Selection, own: OwnTemplates, *, is_forgiving: bool
) -> Comparison:
    """`is_forgiving`: a tree that does not say what there was has nothing to lose."""
    try:
        found = compare_tree(manifest, former, root, read=lambda path: tree.read(root, path), templates=own.hash)
    except WriteError:
        if not is_forgiving:
            raise
        return Comparison(changes=())
    return found if selection.is_whole else found.of(frozenset(selection.facilities))


def _select(manifest: FleetManifest, facilities: Iterable[str]) -> Selection:
    for id_ in facilities:
        if id_ not in manifest.facilities:
            hint = suggestion(id_, manifest.facilities) or f"there are: {', '.join(sorted(manifest.facilities))}"
            raise RequestError(f"the manifest has no facility `{id_}`", hint=hint)
    chosen = tuple(sorted(set(facilities)))
    return Selection(facilities=chosen or tuple(sorted(manifest.facilities)), is_whole=not chosen)


def _sections(
    manifest: FleetManifest,
    former: Index,
    selection: Selection,
    own: OwnTemplates,
    sink: Callable[[Iterable[Artefact]], dict[str, str]],
) -> dict[str | None, Section]:
    """Hands every artefact of the selection to `sink`, which gives their hashes, and makes the index of them."""
    plan = plan_fleet(manifest)
    known = () if selection.is_whole else (id_ for id_, _ in former.facilities)
    registered = sorted({*selection.facilities, *known})
    shared = sink([render_fleet(plan), render_registry(registered), render_attributes()])
    sections: dict[str | None, Section] = {None: _section(index.fleet_values(manifest), shared, templates_hash())}
    if not selection.is_whole and former.fleet is not None:
        changes.refuse_fleet_change(manifest, former.fleet, sections[None])
    chosen = {
        plant.id: list(render_facility(plant, own=own)) for plant in plan.facilities if plant.id in selection.facilities
    }
    shas = sink(artefact for artefacts in chosen.values() for artefact in artefacts)
    for id_, artefacts in chosen.items():
        files = {artefact.path: shas[artefact.path] for artefact in artefacts}
        sections[id_] = _section(index.facility_values(manifest, id_), files, own.hash)
    return sections


def _section(values: tuple[tuple[str, str], ...], shas: dict[str, str], templates: str) -> Section:
    return Section(values=values, templates=templates, files=tuple(sorted(shas.items())))


def _read_index(root: Path, *, is_forgiving: bool) -> Index:
    content = tree.read(root, INDEX_FILE)
    if content is None:
        return index.EMPTY
    try:
        return index.load(content)
    except index.IndexFormatError as error:
        if is_forgiving:
            return index.EMPTY
        raise changes.index_fault(str(error)) from None
