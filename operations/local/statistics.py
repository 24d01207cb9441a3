"""The small files in which the services of the local AWS say what they have done, whole at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_statistics(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file in one step, so that no reader sees half of it."""
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    staged.write_text(json.dumps(document, indent=2) + "\n")
    staged.replace(path)


def read_statistics(path: Path) -> dict[str, Any]:
    """What the service last said; empty where it has said nothing yet."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return document if isinstance(document, dict) else {}
