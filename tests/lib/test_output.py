"""The synthesised files: completed, and put where Terraform looks only as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet_iot.lib.faults import PrerequisiteError, SynthesisError
from fleet_iot.lib.synthesis.output import add_blocks, check_owner, read_resources, stack_file, staging


def _write(outdir: Path, document: dict[str, object]) -> Path:
    path = stack_file(outdir, "s")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def test_blocks_are_added_to_what_constructs_made(tmp_path: Path) -> None:
    """Other types and ids stay, all is sorted, and every argument has a line of its own."""
    path = _write(tmp_path, {"resource": {"t": {"b": {"x": 1}}}, "//": {}})
    add_blocks(path, {"t": {"a": {"y": "ü"}}, "s": {"c": {}}})
    assert read_resources(path) == {"s": {"c": {}}, "t": {"a": {"y": "ü"}, "b": {"x": 1}}}
    assert path.read_text(encoding="utf-8").splitlines()[:8] == [
        "{",
        '  "//": {},',
        '  "resource": {',
        '    "s": {',
        '      "c": {}',
        "    },",
        '    "t": {',
        '      "a": {',
    ]


def test_an_address_that_a_construct_has_is_refused(tmp_path: Path) -> None:
    """An override would win without a word."""
    path = _write(tmp_path, {"resource": {"t": {"a": {"x": 1}}}})
    with pytest.raises(SynthesisError, match=r"s would hold t\.a twice"):
        add_blocks(path, {"t": {"a": {"y": 1}}})


def test_a_synthesis_that_fails_leaves_the_former_one(tmp_path: Path) -> None:
    """What was there stays, states and files of others included, and nothing half-made is left."""
    former = _write(tmp_path, {"resource": {}})
    with pytest.raises(ZeroDivisionError), staging(tmp_path) as staged:
        assert _write(staged, {"resource": {"t": {}}}).stat().st_size // 0
    assert read_resources(former) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["stacks"]


def test_a_synthesis_that_succeeds_replaces_its_own_files_alone(tmp_path: Path) -> None:
    """Terraform's state and the local overrides lie beside the stack's file."""
    outdir = tmp_path / "deep" / "out"
    former = _write(outdir, {"resource": {}})
    (former.parent / "terraform.s.tfstate").write_text("state")
    with staging(outdir) as staged:
        _write(staged, {"resource": {"t": {}}})
        asset = staged / "stacks" / "s" / "assets" / "code.zip"
        asset.parent.mkdir()
        asset.write_bytes(b"zip")
    assert read_resources(former) == {"t": {}}
    found = {path.relative_to(former.parent).as_posix() for path in former.parent.rglob("*") if path.is_file()}
    assert found == {"assets/code.zip", "cdk.tf.json", "terraform.s.tfstate"}


def test_a_state_of_another_application_is_refused(tmp_path: Path) -> None:
    """An apply would destroy what that application has; without a state, or with an empty one, nothing is lost."""
    provider = {"aws": [{"default_tags": [{"tags": {"application": "paint"}}]}]}
    state = _write(tmp_path, {"provider": provider}).with_name("terraform.s.tfstate")
    check_owner(tmp_path, "s", application="mfg")
    state.write_text('{"version": 4, "resources": []}')
    check_owner(tmp_path, "s", application="mfg")
    state.write_text('{"version": 4, "resources": [{"type": "aws_kinesis_stream"}]}')
    check_owner(tmp_path, "s", application="paint")
    with pytest.raises(
        PrerequisiteError, match="has the state of the application 'paint', and this is 'mfg'"
    ) as caught:
        check_owner(tmp_path, "s", application="mfg")
    assert "FLEET_OUTDIR" in caught.value.remedy
