"""The fenced blocks of the documents.

The words after a fence's `sh` are how its commands are tested: none, they run in the page's order;
`account`, they need an AWS account and are only parsed; `test=PATH`, that test runs what they do. A fence with a
`title="FILE"` is the whole content of that file, which the page's commands then find.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.places import PROJECT

DOCUMENTS = (
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    *sorted(path for path in (PROJECT / "docs").rglob("*.md") if "decisions" not in path.parts),
)
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```", flags=re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; `line` is that of its fence, from 1."""

    document: Path
    line: int
    language: str
    how: str
    text: str

    @property
    def place(self) -> str:
        """Return FILE:LINE, from the repository's root."""
        return f"{self.document.relative_to(PROJECT)}:{self.line}"

    @property
    def title(self) -> str | None:
        """Return the file that the block is the content of."""
        found = _TITLE.search(self.how)
        return found[1] if found else None

    @property
    def commands(self) -> list[str]:
        """Return the lines of commands, continuation lines joined, without comments and prompts."""
        lines = re.sub(r"\\\n\s*", " ", self.text).splitlines()
        return [line for line in (re.sub(r"(^|\s)#.*$", "", line).strip() for line in lines) if line]


def blocks(document: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    text = document.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        language, _, how = match[2].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        yield Block(document=document, line=line, language=language, how=how.strip(), text=match[3])


def script(*documents: Path) -> str:
    """Return a shell script of the unmarked command blocks and the titled files of pages, in order."""
    parts = ["set -euo pipefail", "git init --quiet"]
    for block in (block for document in documents for block in blocks(document)):
        if block.language == "sh" and not block.how:
            parts.append(f"echo {shlex.quote(f'== {block.place}')}\n{block.text}")
        elif block.title:
            folder = shlex.quote(str(Path(block.title).parent))
            parts.append(
                f"mkdir -p {folder}\ncat > {shlex.quote(block.title)} <<'END OF FILE'\n{block.text}END OF FILE"
            )
    return "\n".join(parts)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a new user, whose home is a folder of the test, with `fleet` on the path."""
    ours = ("FLEET_", "ENVIRONMENT_", "AWS_", "TERRAFORM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    mirror = os.environ.get("FLEET_PROVIDER_MIRROR")
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return (
        kept
        | {"HOME": str(home), "PATH": path, "EDITOR": "true"}
        | ({"FLEET_PROVIDER_MIRROR": mirror} if mirror else {})
    )
