"""Synthesise the current folder's project into Terraform JSON: `python -m lib.app`, of the environment FLEET_ENV."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .faults import ExpectedError, PrerequisiteError
from .record.place import MANIFEST, PART_ENDING, VARIABLE, find_overlay, with_environment
from .record.read import read_record, refuse_claimed_suffix
from .synthesis import settings

INTERRUPTED = 130


def find_place(project: Path, key: tuple[str, ...], value: str | None = None, *, environment: str | None = None) -> str:
    """Return `FILE:LINE` of a manifest key, as `("facilities", "sg-01")`: where it has `value`, else in the manifest.

    The environment's overlay is searched too.

    It searches plain text, because synthesis reads no YAML, and line numbers in the record would change it with every
    comment. A key that shares its line with others is found by that line.
    """
    places = list(_places(project, key, environment))
    with_value = [place for place, line in places if value is not None and value in line]
    return (with_value or [place for place, _ in places] or [MANIFEST])[0]


def _places(project: Path, key: tuple[str, ...], environment: str | None) -> Iterator[tuple[str, str]]:
    """Yield every place of `key`, with the text of its line."""
    part = project.joinpath(*key[:2]).with_name(f"{key[1]}{PART_ENDING}") if len(key) > 1 else None
    if part is not None and (lines := _lines(part)):
        number = _line_of(lines, key[2:]) or 0
        yield f"{part.relative_to(project)}:{number + 1}", lines[number]
    manifest = project / MANIFEST
    for path in (manifest, *([find_overlay(manifest, environment)] if environment else [])):
        lines = _lines(path)
        found = _line_of(lines, key)
        if found is not None:
            yield f"{path.name}:{found + 1}", lines[found]


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; none where it is missing or cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except (OSError, UnicodeDecodeError, ValueError):
        return []


def _line_of(lines: list[str], key: tuple[str, ...]) -> int | None:
    """Return the index of the last part of `key` that has a line of its own below the parts before it."""
    found, indent = None, -1
    for part in key:
        pattern = re.compile(rf"""( *)(["']?){re.escape(part)}\2\s*:""")
        for number in range(0 if found is None else found + 1, len(lines)):
            line = lines[number]
            if line.strip() and not line.lstrip().startswith("#") and len(line) - len(line.lstrip()) <= indent:
                return found
            match = pattern.match(line)
            if match and (found is not None or not match[1]):
                found, indent = number, len(match[1])
                break
        else:
            return found
    return found


def main() -> int:
    """Synthesise the current folder's project; return the exit code, also where a disk or an interrupt ends it."""
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the exit flushes into the same fault
        return PrerequisiteError.exit_code
    return code


def _run() -> int:
    """Synthesise the current folder's project, print the stacks, and return 0 or the error's exit code."""
    project: Path | None = None
    environment = os.environ.get(VARIABLE) or None
    try:
        project = settings.find_project(Path.cwd())
        record = read_record(project, environment)
        chosen = settings.read_settings(
            os.environ, project=project, fleet=record.fleet, facilities=record.facilities.keys()
        )
        refuse_claimed_suffix(
            project / MANIFEST,
            environment,
            record.fleet,
            suffix=chosen.environment_suffix,
            account_id=chosen.account_id,
        )
        settings.require_account(chosen)
        from .synthesis import run as synthesis

        result = synthesis.synthesise(chosen, fleet=record.fleet, facilities=record.facilities, folder=record.folder)
    except ExpectedError as fault:
        fault.remedy = with_environment(fault.remedy, environment)
        place = find_place(project, fault.key, fault.value, environment=environment) if project and fault.key else None
        print(*fault.lines(place), sep="\n", file=sys.stderr)
        return fault.exit_code
    for note in result.notes:
        print(note, file=sys.stderr)
    print(*result.stacks, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
