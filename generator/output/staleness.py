"""Finds differences between the manifest, the index and the files of the generated tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet_iot.generator.diagnostics import StaleError, WriteError
from fleet_iot.generator.manifest.models import FleetManifest
from fleet_iot.generator.naming import ATTRIBUTES_FILE, INDEX_FILE, OUTPUT_FOLDER
from fleet_iot.generator.output import writer as tree
from fleet_iot.generator.output.index import Index, Section

HashOf = Callable[[str], str | None]
"""Gives the hash of a file of the tree, None where there is none."""


CHECKED_OUT = (
    "git changed them at the checkout (core.autocrlf); run: fleet generate, which puts them right and keeps them so "
    f"by {OUTPUT_FOLDER}/{ATTRIBUTES_FILE}; or, once that file is committed, check them out again: "
    f"rm -r {OUTPUT_FOLDER} && git checkout -- {OUTPUT_FOLDER}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """The findings of `--check`; facilities by id, files by path.

    `reencoded` files differ only in line ends, `unknown` ones are in no index.
    """

    is_fleet_stale: bool
    stale: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    edited: tuple[str, ...]
    reencoded: tuple[str, ...]
    unknown: tuple[str, ...]


def edited_files(
    index: Index, paths: Iterable[str], hash_of: HashOf, root: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files of these that are not as the index has them. Missing ones are no loss.

    Returns:
        Those that were edited by hand, or are not ours; and those that differ only in line ends.
    """
    known = index.files
    edited: list[str] = []
    reencoded: list[str] = []
    for path in sorted(paths):
        actual, sha = hash_of(path), known.get(path)
        if actual is not None and actual != sha:
            is_reencoded = sha is not None and tree.has_other_line_ends(root, path, sha)
            (reencoded if is_reencoded else edited).append(path)
    return tuple(edited), tuple(reencoded)


def compare(index: Index, expected: dict[str | None, Section], root: Path, *, is_whole: bool) -> Differences:
    """Return the tree at `root` against what the manifest says now; `is_whole`: all facilities are in `expected`."""
    hash_of = tree.hashes(root)
    actual = index.sections
    stale = []
    for id_, section in expected.items():
        if actual.get(id_) != section or any(hash_of(path) is None for path in section.paths):
            stale.append(id_)
    indexed = [path for id_ in expected if id_ in actual for path in actual[id_].paths]
    edited, reencoded = edited_files(index, indexed, hash_of, root)
    gone = tuple(id_ for id_, _ in index.facilities if id_ not in expected) if is_whole else ()
    return Differences(
        is_fleet_stale=None in stale,
        stale=tuple(id_ for id_ in stale if id_ is not None and id_ in actual),
        new=tuple(id_ for id_ in stale if id_ is not None and id_ not in actual),
        gone=gone,
        edited=edited,
        reencoded=reencoded,
        unknown=tuple(tree.unknown(root, {*index.files, INDEX_FILE})),
    )


def refuse_differences(found: Differences) -> None:
    """Raise `StaleError` with the command to run, if anything differs."""
    parts = [
        f"{', '.join(ids)} {'is' if len(ids) == 1 else 'are'} {state}"
        for ids, state in ((found.stale, "stale"), (found.new, "new"), (found.gone, "gone from the manifest"))
        if ids
    ]
    if found.is_fleet_stale:
        parts.append("what all facilities share is stale")
    if found.edited:
        parts.append(f"edited by hand: {', '.join(found.edited)}")
    if found.reencoded:
        parts.append(f"different only in line ends (CRLF): {', '.join(found.reencoded)}")
    if found.unknown:
        parts.append(f"not generated: {', '.join(found.unknown)}")
    if not parts:
        return
    if found.unknown and len(parts) == 1:
        raise StaleError(f"{OUTPUT_FOLDER} is not what the manifest says: {parts[0]}", hint="move or delete them")
    if found.reencoded and not found.edited:
        raise StaleError(f"{OUTPUT_FOLDER} is not what the manifest says: {'; '.join(parts)}", hint=CHECKED_OUT)
    command = "fleet generate"
    if found.stale and not (found.new or found.gone or found.is_fleet_stale or found.edited):
        command += "".join(f" --facility {id_}" for id_ in found.stale)
    if found.edited:
        command += " --force"
    raise StaleError(f"{OUTPUT_FOLDER} is not what the manifest says: {'; '.join(parts)}", hint=f"run: {command}")


def refuse_edited(paths: tuple[str, ...]) -> None:
    """Raise `WriteError` where files were edited by hand."""
    if paths:
        raise WriteError(
            f"{'these files were' if len(paths) > 1 else 'this file was'} not written by `fleet generate`, or edited "
            f"since: {', '.join(f'{OUTPUT_FOLDER}/{path}' for path in paths)}",
            hint="put the edit into the manifest; to lose it, run `fleet generate --force`",
        )


def refuse_fleet_change(manifest: FleetManifest, former: Section, current: Section) -> None:
    """Raise `StaleError` if shared values have changed: one facility would be generated from a mixture."""
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
        f"--facility changes only the named facilities, but {what} changed since the last `fleet generate`, {whom}",
        hint="run: fleet generate",
    )


def index_fault(reason: str) -> WriteError:
    """Return the error for an unreadable index."""
    return WriteError(
        f"{OUTPUT_FOLDER}/{INDEX_FILE} is not an index of this generator: {reason}",
        hint="restore it from version control, or regenerate the whole tree: fleet generate --force",
    )
