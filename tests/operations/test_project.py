"""Values that the environment may give for a project, in every command that acts on one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import EnvironmentFault
from fleet_iot.operations.project import load_project
from tests.places import SAMPLE

NO_SUFFIXES = ("../../x", "a/b", " ", "dev ", "a\nb", "Dev", "-dev", "dev-", "x" * 17, "é", "$(id)", ".")
COMMANDS = (
    ("keys", "create", "--all"),
    ("onboard", "--facility", "sg-01", "--dry-run"),
    ("device", "show", "sg-01-press-monitor-0001"),
    ("certificates",),
    ("bundle", "--facility", "sg-01"),
    ("isolation",),
    ("archive", "query"),
    ("anomalies", "list"),
    ("history", "sg-01-press-monitor-0001"),
    ("quarantine", "list"),
    ("replay",),
    ("simulate",),
    ("ca", "show"),
    ("local", "up"),
    ("generate",),
    ("plan",),
    ("explain", "sg-01"),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: Any) -> Path:
    """A project of its own in the current folder, with keys and journals in folders beside it."""
    folder = tmp_path / "plant"
    shutil.copytree(
        SAMPLE / "lib" / "facilities", folder / "lib" / "facilities", ignore=shutil.ignore_patterns("__py*")
    )
    shutil.copy(SAMPLE / "fleet.yaml", folder)
    for name, place in (("FLEET_KEYS_DIR", "keys"), ("FLEET_JOURNAL_DIR", "journal"), ("HOME", "home")):
        monkeypatch.setenv(name, str(tmp_path / place))
    monkeypatch.setenv("FLEET_KEYS_PASSPHRASE", "a passphrase of the test")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_suffix_that_is_none_is_refused_before_anything(
    project: Path, monkeypatch: Any, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Exit 7, one sentence on one line, and no file anywhere: it is part of paths of keys, CSRs and journals."""
    before = sorted(tmp_path.rglob("*"))
    for suffix in NO_SUFFIXES if command == COMMANDS[0] else NO_SUFFIXES[:1]:
        monkeypatch.setenv("ENVIRONMENT_SUFFIX", suffix)
        result = CliRunner(catch_exceptions=False).invoke(main, command)
        assert (7, "") == (result.exit_code, result.stdout), result.stderr
        assert result.stderr.startswith("error: ENVIRONMENT_SUFFIX is ")
        assert 2 == len(result.stderr.splitlines())
    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("account", ["../x", "12345678901", "1234567890123", "١٢٣٤٥٦٧٨٩٠١٢", "12345678901a", " "])
def test_an_account_that_is_none_is_refused(project: Path, monkeypatch: Any, account: str) -> None:
    """It is part of the names of buckets."""
    monkeypatch.setenv("FLEET_ACCOUNT_ID", account)
    with pytest.raises(EnvironmentFault, match="FLEET_ACCOUNT_ID is "):
        load_project(project)


@pytest.mark.parametrize("name", ["../../x", "a\nb", " ", "Prod", "x" * 40])
def test_an_environment_that_is_none_is_refused(project: Path, name: str, monkeypatch: Any) -> None:
    """It is part of a file's name; on one line, exit 2, nothing written."""
    monkeypatch.setenv("FLEET_ENV", name)
    before = sorted(project.rglob("*"))
    for command in (("generate",), ("validate",), ("plan",)):
        result = CliRunner(catch_exceptions=False).invoke(main, command)
        assert (2, 2) == (result.exit_code, len(result.stderr.splitlines()))
    assert before == sorted(project.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csrs", "lock"])
def test_identities_that_cannot_be_read_are_told(project: Path, monkeypatch: Any, kind: str) -> None:
    """By their place, exit 7, and no traceback."""
    run = CliRunner(catch_exceptions=False)
    path = project / "identities" / "dev" / f"sg-01.{kind}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"thing": "sg-01-press-monitor-0001-dev", "csr": "x"}\n')
    result = run.invoke(main, ("keys", "create", "--facility", "sg-01"))
    assert (7, True) == (result.exit_code, f"{path}:" in result.stderr)


@pytest.mark.slow
def test_csrs_are_written_through_no_link(project: Path, tmp_path: Path) -> None:
    """A folder of identities that leads elsewhere gets nothing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "identities").mkdir()
    (project / "identities" / "dev").symlink_to(outside)
    result = CliRunner(catch_exceptions=False).invoke(main, ("keys", "create", "--facility", "sg-01"))
    assert (7, []) == (result.exit_code, list(outside.iterdir()))
    assert "leads out of" in result.stderr


def test_the_record_is_that_of_the_current_folder(project: Path, monkeypatch: Any) -> None:
    """A plant that is only in this project's record is known, and one of the tool's own sample is not."""
    manifest = (project / "fleet.yaml").read_text().replace("th-ry-01:", "th-ry-02:")
    (project / "fleet.yaml").write_text(manifest)
    run = CliRunner(catch_exceptions=False)
    assert 0 == run.invoke(main, ("generate", "--allow", "breaks-identity", "--allow", "destroys-data")).exit_code
    assert ["my-jb-01", "sg-01", "th-ry-02"] == [facility.id for facility in load_project(project).facilities]
    result = run.invoke(main, ("onboard", "--facility", "th-ry-01", "--dry-run"))
    assert "no facility 'th-ry-01' in lib/facilities" in result.stderr
