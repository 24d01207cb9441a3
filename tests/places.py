"""Places in the repository that tests read."""

import contextlib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
"""The repository: its programs and documents. No test reads its `fleet.yaml` and its record: they are the user's."""

SAMPLE = PROJECT / "tests" / "sample"
"""A project that stays as it is: a manifest of three plants, and the record that was generated from it."""


def link_wheels(project: Path) -> None:
    """Give a project the Lambda's wheels that the repository has, or will have: pip fetches them once for all tests."""
    wheels, link = PROJECT / "build" / "lambda", project / "build" / "lambda"
    for folder in (wheels, link.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(wheels)
