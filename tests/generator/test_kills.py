"""A `fleet generate` that is killed leaves the old tree or the new one, whenever it happens."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fleet_iot.generator.output import writer
from tests.places import PROJECT

ROOT = PROJECT
KILLS = int(os.environ.get("FLEET_KILLS", "10"))
SEED = int(os.environ.get("FLEET_KILLS_SEED", str(random.SystemRandom().randrange(2**32))))
ALLOWED = ("--allow", "breaks-identity", "--allow", "destroys-data")
COMMAND = (
    "import sys; sys.argv[0] = 'fleet'; import fleet_iot.generator.pipeline, fleet_iot.generator.manifest.load; "
    "from fleet_iot.generator.cli.commands import main; print(flush=True); main()"
)


@pytest.mark.slow
def test_kill_leaves_the_old_tree_or_the_new_one(project: Any, data: Any) -> None:
    """At each of these moments `--check` calls the tree stale or current, and it is the old one or the new one."""
    moments = random.Random(SEED)
    manifests = {"old": data(), "new": changed(data())}
    trees = {}
    for state, manifest in manifests.items():
        project.write(manifest)
        assert 0 == project.fleet("generate", *ALLOWED).exit_code
        trees[state] = project.files()
    assert trees["old"] != trees["new"]
    length = max(timed_run(project, manifest) for manifest in (manifests["old"], manifests["new"]))
    found = []
    for number in range(KILLS):
        goal = ("old", "new")[number % 2]
        start = next(state for state, tree in trees.items() if tree == project.files())
        project.write(manifests[goal])
        delay = moments.uniform(0, length)
        kill_after(project, delay)
        was_intended = (project.tree / ".staging" / "intent.json").exists()
        with writer.opened(project.tree):
            pass  # as the next run begins; what only looks finishes nothing
        exit_code = project.fleet("generate", "--check").exit_code
        state = next((state for state, tree in trees.items() if tree == project.files()), "a mixture")
        assert state in (start, goal), f"killed after {delay} s; FLEET_KILLS_SEED={SEED}"
        assert (0 if state == goal else 4) == exit_code, f"killed after {delay} s; FLEET_KILLS_SEED={SEED}"
        assert state == goal or not was_intended
        assert not (project.tree / ".staging").exists()
        found.append((start, state))
    print(f"{found.count(('old', 'new')) + found.count(('new', 'old'))} of {KILLS} were finished")


@pytest.mark.slow
def test_kill_leaves_the_other_environment_alone(project: Any, data: Any) -> None:
    """Killed while it writes prod's record, `fleet generate` has touched no file of the other; prod's is finished."""
    project.write(data())
    (project.folder / "fleet.prod.yaml").write_text("environment_suffix: prod\n")
    for option in ((), ("--env", "prod")):
        assert 0 == project.fleet("generate", *option).exit_code
    before = project.files()
    own = project.folder / "lib" / "environments" / "prod"
    moments = random.Random(SEED)
    for number in range(max(2, KILLS // 5)):
        count = 2_000 + number
        (project.folder / "fleet.prod.yaml").write_text(
            f"environment_suffix: prod\nfacilities: {{sg-01: {{registration: bulk, things: {{press: {count}}}}}}}\n"
        )
        kill_after(project, moments.uniform(0, 0.4), "--env", "prod")
        assert before == project.files(), f"FLEET_KILLS_SEED={SEED}"
        assert 0 == project.fleet("generate", "--check").exit_code
        assert 0 == project.fleet("generate", "--env", "prod", *ALLOWED).exit_code
        rows = (own / "sg_01" / "things.jsonl").read_text().splitlines()
        assert count == sum('"device_type":"press"' in row for row in rows)
        assert not (own / ".staging").exists()
    assert before == project.files()


def changed(data: dict[str, Any]) -> dict[str, Any]:
    """Another fleet: a plant is gone, one is new, one has more things, and all share another tag."""
    things = {"press": 4_000, "pump": 4_000}
    facilities = {f"my-{n:02d}": {"name": "Johor", "timezone": "UTC", "things": {"pump": 3}} for n in range(24)}
    data["facilities"] = {"sg-01": {"name": "Tuas", "timezone": "Asia/Singapore", "things": things}, **facilities}
    data["tags"] = {"owner": "another"}
    for device_type in data["device_types"].values():
        device_type["sample_interval_s"] = 60
    return data


def kill_after(project: Any, delay: float, *options: str) -> None:
    """Starts `fleet generate`, and kills it so many seconds after its modules are loaded, unless it is done by then."""
    with start_generate(project, *options) as process:
        process.stdout.readline()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()


def timed_run(project: Any, manifest: dict[str, Any]) -> float:
    """Seconds that a whole run takes from when its modules are loaded."""
    project.write(manifest)
    with start_generate(project) as process:
        process.stdout.readline()
        start = time.monotonic()
        process.stdout.read()
    assert 0 == process.returncode
    return time.monotonic() - start


def start_generate(project: Any, *options: str) -> subprocess.Popen[bytes]:
    """`fleet generate` in a process of its own, which prints an empty line when it begins."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "generate", *ALLOWED, *options],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def test_removal_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    """The other files that an intent removes are removed although one folder is gone already."""
    (tmp_path / ".staging").mkdir()
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "file").touch()
    intent = {"written": [], "removed": ["early/file", "late/file"]}
    (tmp_path / ".staging" / "intent.json").write_text(json.dumps(intent))
    with writer.opened(tmp_path):
        assert [] == list(tmp_path.iterdir())
