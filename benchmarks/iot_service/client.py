"""Run the service in its own process, for commands under test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A service that runs on loopback."""

    url: str
    scale: float

    def environment(self, journals: Path) -> dict[str, str]:
        """This process's environment, with this service as AWS and journals in a folder."""
        steering = ("FLEET_", "ENVIRONMENT_", "AWS_", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
        return kept | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "FLEET_JOURNAL_DIR": str(journals),
        }

    def state(self) -> dict[str, Any]:
        """Return the registry's content, and the calls and throttles by API."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/_service/state", timeout=60) as answer:
            state: dict[str, Any] = json.loads(answer.read())
            return state


@contextmanager
def running(
    *,
    scale: float,
    lose: float = 0.0,
    seed: int = 1,
    s3: str = "",
    authority: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """A service from start to end; for bulk registrations, `s3`, who signed its certificate, and keys for it."""
    command = [sys.executable, "-m", "benchmarks.iot_service"]
    command += ["--scale", str(scale), "--lose", str(lose), "--seed", str(seed)]
    command += ["--s3", s3, "--authority", str(authority)] if s3 else []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe) as process:
        try:
            port = int(process.stdout.readline() if process.stdout else "")
            yield Running(url=f"http://127.0.0.1:{port}", scale=scale)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(10)
