"""Says what differs between the manifest, the index and the files of the generated tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from generator.diagnostics import StaleError, WriteError
from generator.index import Index, Section
from generator.manifest import FleetManifest
from generator.naming import INDEX_FILE, OUTPUT_FOLDER

HashOf = Callable[[str], str | None]
"""Gives the hash of a file of the tree, None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What `--check` found; facilities by id, files by path."""

    is_fleet_stale: bool
    stale: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    edited: tuple[str, ...]


def edited_files(index: Index, paths: Iterable[str], hash_of: HashOf) -> tuple[str, ...]:
    """The files of these that are not as the index has them: edited by hand, or not ours. Missing ones are no loss."""
    known = index.files
    hashes = ((path, hash_of(path)) for path in sorted(paths))
    return tuple(path for path, actual in hashes if actual is not None and actual != known.get(path))


def compare(index: Index, expected: dict[str | None, Section], hash_of: HashOf, *, is_whole: bool) -> Differences:
    """The tree against what the manifest says now; `is_whole`: all facilities are in `expected`."""
    actual = index.sections
    stale = []
    for id_, section in expected.items():
        if actual.get(id_) != section or any(hash_of(path) is None for path in section.paths):
            stale.append(id_)
    gone = tuple(id_ for id_, _ in index.facilities if id_ not in expected) if is_whole else ()
    return Differences(
        is_fleet_stale=None in stale,
        stale=tuple(id_ for id_ in stale if id_ is not None and id_ in actual),
        new=tuple(id_ for id_ in stale if id_ is not None and id_ not in actual),
        gone=gone,
        edited=edited_files(index, [path for id_ in expected if id_ in actual for path in actual[id_].paths], hash_of),
    )


def refuse_differences(found: Differences) -> None:
    """Raises `StaleError`, which names the command that mends it; returns where nothing differs."""
    parts = [
        f"{', '.join(ids)} {'is' if len(ids) == 1 else 'are'} {state}"
        for ids, state in ((found.stale, "stale"), (found.new, "new"), (found.gone, "gone from the manifest"))
        if ids
    ]
    if found.is_fleet_stale:
        parts.append("what all facilities share is stale")
    if found.edited:
        parts.append(f"edited by hand: {', '.join(found.edited)}")
    if not parts:
        return
    command = "fleet generate"
    if found.stale and not (found.new or found.gone or found.is_fleet_stale or found.edited):
        command += "".join(f" --facility {id_}" for id_ in found.stale)
    if found.edited:
        command += " --force"
    raise StaleError(f"{OUTPUT_FOLDER} is not what the manifest says: {'; '.join(parts)}", hint=f"run: {command}")


def refuse_edited(paths: tuple[str, ...]) -> None:
    """Raises `WriteError` where files were edited by hand."""
    if paths:
        raise WriteError(
            f"{'these files were' if len(paths) > 1 else 'this file was'} not written by `fleet generate`, or edited "
            f"since: {', '.join(f'{OUTPUT_FOLDER}/{path}' for path in paths)}",
            hint="put the edit into the manifest; to lose it, run `fleet generate --force`",
        )


def refuse_fleet_change(manifest: FleetManifest, former: Section, current: Section) -> None:
    """Raises `StaleError` where what all facilities share has changed: then one facility alone would be a mixture."""
    old, new = dict(former.values), dict(current.values)
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if not changed and former.templates == current.templates:
        return
    touched = sorted(
        id_
        for id_, facility in manifest.facilities.items()
        if any(not name.startswith("device_types.") or name.split(".", 1)[1] in facility.things for name in changed)
        or not changed
    )
    what = ", ".join(f"`{name}`" for name in changed) or "the generator's templates"
    whom = f"which touches {', '.join(touched)}" if touched else "which touches no facility yet"
    raise StaleError(
        f"--facility changes one facility alone, but {what} changed since the last `fleet generate`, {whom}",
        hint="run: fleet generate",
    )


def index_fault(reason: str) -> WriteError:
    """What to raise where the index cannot be understood."""
    return WriteError(
        f"{OUTPUT_FOLDER}/{INDEX_FILE} is not an index of this generator: {reason}",
        hint="restore it from version control, or make the whole tree anew: fleet generate --force",
    )
