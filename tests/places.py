"""Places in the repository that tests read."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
