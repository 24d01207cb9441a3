"""Bundles of plans: what they are bound to, what refuses them, and what they may not do without permission."""

from __future__ import annotations

import dataclasses
import json
import stat
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import (
    EnvironmentFault,
    FleetError,
    GateError,
    RequestError,
    StaleError,
    WriteError,
)
from fleet_iot.generator.diff.impact import Impact
from fleet_iot.operations.deployment.bundle import (
    APPLIED,
    BEGUN,
    PLAN,
    Binding,
    Bundle,
    PlannedStack,
    Progress,
    file_digest,
    load,
    make_folder,
    note_progress,
    plan_file,
    read_progress,
    refuse_dangers,
    save,
    stack_digest,
    unplanned,
    verify,
)
from fleet_iot.operations.terraform import PlannedChange

BINDING = Binding(
    application="duenger",
    environment="prod",
    suffix="prod",
    account="123456789012",
    region="eu-central-1",
    state="s3://states in eu-central-1",
    record="0a" * 32,
    tool="1.4.2",
    terraform="1.11.4",
)

DONE = Progress(step=APPLIED, lineage="6a5f", serial=4)


def change(address: str, action: str = "create", reason: str = "") -> PlannedChange:
    return PlannedChange(address=address, action=action, reason=reason)


def bundle(folder: Path, *changes: PlannedChange) -> Bundle:
    """A bundle of one stack, with its plan file in the folder."""
    make_folder(folder)
    path = folder / plan_file("tap-prod")
    path.write_bytes(b"a plan")
    path.chmod(0o600)
    stack = PlannedStack(
        name="tap-prod", file=path.name, sha256=file_digest(path), stack_sha256="1b" * 32, changes=changes
    )
    return Bundle(binding=BINDING, is_destroy=False, facilities=("mu-01",), stacks=(stack,))


def test_a_bundle_is_read_as_it_was_saved(tmp_path: Path) -> None:
    """The digest that was printed is accepted, and only the owner reads the files."""
    folder = tmp_path / "plan"
    made = bundle(folder, change("aws_s3_bucket.a"), change("aws_iot_thing.b", "replace", "cannot_update"))
    digest = save(made, folder)
    assert (made, digest) == load(folder, digest=digest.upper())
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)


def test_a_bundle_that_a_pipeline_hands_on_is_read(tmp_path: Path) -> None:
    """Artefacts come back readable by others; their digests still hold. A link is none of its files."""
    folder = tmp_path / "plan"
    made = bundle(folder, change("aws_s3_bucket.a"))
    save(made, folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    assert made == load(folder)[0]
    note_progress(folder, "tap-prod", DONE)
    assert {"tap-prod": DONE} == read_progress(folder)
    (folder / "tap-prod.plan").rename(tmp_path / "elsewhere")
    (folder / "tap-prod.plan").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GateError):
        load(folder)


def test_plan_json_has_the_counts_for_readers(tmp_path: Path) -> None:
    """Counts by action, and what is destroyed by address."""
    folder = tmp_path / "plan"
    save(bundle(folder, change("aws_s3_bucket.a", "delete"), change("aws_iot_thing.b", "replace")), folder)
    (stack,) = json.loads((folder / PLAN).read_text())["stacks"]
    assert [0, 0, 1, 1] == [stack[name] for name in ("add", "change", "replace", "destroy")]
    assert ["aws_s3_bucket.a", "aws_iot_thing.b"] == stack["destroyed"]


@pytest.mark.parametrize("what", ["plan file", "missing plan", "digest", "name", "path", "no JSON", "not a bundle"])
def test_a_changed_bundle_is_refused(tmp_path: Path, what: str) -> None:
    """Exit 5: a plan file, the list of them, or the whole is not what was planned."""
    folder = tmp_path / "plan"
    digest = save(bundle(folder, change("aws_s3_bucket.a")), folder)
    text = (folder / PLAN).read_text()
    if what == "plan file":
        (folder / "tap-prod.plan").write_bytes(b"another plan")
    elif what == "missing plan":
        (folder / "tap-prod.plan").unlink()
    elif what == "digest":
        (folder / PLAN).write_text(text.replace("prod", "test"))
    elif what == "name":
        (folder / PLAN).write_text(text.replace('"name": "tap-prod"', '"name": "../../tap-prod"'))
    elif what == "path":
        (folder / PLAN).write_text(text.replace('"file": "tap-prod.plan"', '"file": "/etc/passwd"'))
    else:
        (folder / PLAN).write_text({"no JSON": text[:40], "not a bundle": '{"format": 1}'}[what])
    with pytest.raises(GateError) as refused:
        load(folder, digest=digest if what == "digest" else None)
    assert "plan it again" in (refused.value.hint or "")


def test_a_missing_or_later_bundle_is_explained(tmp_path: Path) -> None:
    """A folder without a plan is exit 7, another format exit 2."""
    with pytest.raises(EnvironmentFault, match=r"has no plan\.json"):
        load(tmp_path)
    folder = tmp_path / "plan"
    save(bundle(folder), folder)
    (folder / PLAN).write_text((folder / PLAN).read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(RequestError, match="format 2"):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("account", "210987654321", EnvironmentFault),
        ("region", "eu-west-1", EnvironmentFault),
        ("application", "other", RequestError),
        ("environment", None, RequestError),
        ("suffix", "test", RequestError),
        ("state", "in the stacks' folders", RequestError),
        ("record", "0b" * 32, StaleError),
        ("tool", "2.0.0", EnvironmentFault),
        ("terraform", "1.12.0", EnvironmentFault),
    ],
)
def test_a_bundle_of_something_else_is_refused(
    tmp_path: Path, field: str, value: str | None, kind: type[FleetError]
) -> None:
    """Each part of the binding must be the same; of the tool's version, the part that changes with its formats."""
    made = bundle(tmp_path / "plan")
    verify(made, BINDING)
    verify(made, dataclasses.replace(BINDING, tool="1.9.0"))
    with pytest.raises(kind):
        verify(made, dataclasses.replace(BINDING, **{field: value}))


def test_versions_before_1_change_with_their_second_number(tmp_path: Path) -> None:
    """0.2.7 reads the plan of 0.2.0, 0.3.0 does not."""
    made = dataclasses.replace(bundle(tmp_path / "plan"), binding=dataclasses.replace(BINDING, tool="0.2.0"))
    verify(made, dataclasses.replace(BINDING, tool="0.2.7"))
    with pytest.raises(EnvironmentFault, match=r"made by fleet 0\.2\.0, and this is 0\.3\.0"):
        verify(made, dataclasses.replace(BINDING, tool="0.3.0"))


def test_what_destroys_data_needs_permission(tmp_path: Path) -> None:
    """Named by address and class; with the plan's permission, or with that of the command, it passes."""
    folder = tmp_path / "plan"
    changes = (
        change("aws_dynamodb_table.t", "replace", "cannot_update"),
        change("aws_iot_certificate.c", "replace", "cannot_update"),
        change("aws_iot_thing.d", "delete", "delete_because_no_resource_config"),
        change("aws_cloudwatch_dashboard.x", "delete"),
        change("aws_kinesis_stream.u", "replace", "tainted"),
        change("aws_s3_bucket.n", "create"),
    )
    made = bundle(folder, *changes)
    assert {
        Impact.BREAKS_IDENTITY: ("tap-prod: aws_iot_certificate.c",),
        Impact.DESTROYS_DATA: ("tap-prod: aws_dynamodb_table.t", "tap-prod: aws_iot_thing.d"),
    } == made.dangers
    with pytest.raises(WriteError) as refused:
        refuse_dangers(made, allowed=[Impact.DESTROYS_DATA], command="fleet deploy --aws")
    assert "breaks-identity: tap-prod: aws_iot_certificate.c" in refused.value.message
    assert "if it is meant: fleet deploy --aws --allow breaks-identity" == refused.value.hint
    refuse_dangers(made, allowed=[Impact.DESTROYS_DATA, Impact.BREAKS_IDENTITY], command="")


def test_only_a_bundles_folder_is_replaced(tmp_path: Path) -> None:
    """Also one that an interrupted plan left; a folder with other files, and a file, are left as they are."""
    folder = tmp_path / "plan"
    save(bundle(folder), folder)
    note_progress(folder, "tap-prod", DONE)
    make_folder(folder)
    assert [] == list(folder.iterdir())
    for left in ("tap-prod.plan", "tap-prod.rest.plan", ".plan.json.0a1b"):
        (folder / left).touch()
    make_folder(folder)
    assert [] == list(folder.iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for name in ("mine", "mine/thesis.txt"):
        with pytest.raises(WriteError):
            make_folder(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_progress_is_noted_by_stack(tmp_path: Path) -> None:
    """Begun, then applied; the others' notes stay."""
    tmp_path.chmod(0o700)
    assert {} == read_progress(tmp_path)
    begun = Progress(step=BEGUN)
    note_progress(tmp_path, "tap-prod", begun)
    note_progress(tmp_path, "facility-a-prod", begun)
    note_progress(tmp_path, "tap-prod", DONE)
    assert {"tap-prod": DONE, "facility-a-prod": begun} == read_progress(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"[1]", b"null", b'{"tap-prod": "applied"}', b'{"tap-prod": {"step": "done"}}'],
)
def test_a_progress_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """Exit 5, with its path."""
    (tmp_path / "progress.json").write_bytes(content)
    with pytest.raises(GateError, match=f"{tmp_path}/progress.json is no progress of a deployment: "):
        read_progress(tmp_path)


@pytest.mark.parametrize(
    ("remaining", "strange"),
    [
        ((change("aws_iot_thing.a"),), ()),
        ((change("aws_iot_thing.a", "replace", "tainted"),), ()),
        ((change("aws_iot_thing.a", "replace", "cannot_update"),), ("aws_iot_thing.a",)),
        ((change("aws_iot_thing.a", "delete"),), ("aws_iot_thing.a",)),
        ((change("aws_iot_policy.r"),), ()),
        ((change("aws_iot_policy.r", "delete"),), ()),
        ((change("aws_iot_policy.new"),), ("aws_iot_policy.new",)),
        ((), ()),
    ],
)
def test_a_remainder_is_of_what_was_planned(remaining: tuple[PlannedChange, ...], strange: tuple[str, ...]) -> None:
    """An unfinished creation is a replacement, half a replacement a creation or a deletion; nothing else passes."""
    planned = (change("aws_iot_thing.a"), change("aws_iot_policy.r", "replace", "cannot_update"))
    assert strange == unplanned(planned, remaining)


def test_a_stacks_digest_is_over_what_decides_its_plan(tmp_path: Path) -> None:
    """Its configuration, overrides and assets; not its state, its provider or its name."""
    for name in ("one", "two"):
        stack = tmp_path / name
        (stack / "assets" / "code").mkdir(parents=True)
        (stack / "cdk.tf.json").write_text('{"filename": "assets/code/archive.zip"}')
        (stack / "assets" / "code" / "archive.zip").write_bytes(b"code")
        (stack / f"terraform.{name}.tfstate").write_text(name)
    one, two = tmp_path / "one", tmp_path / "two"
    assert stack_digest(one) == stack_digest(two)
    for path, content in (("local_override.tf.json", "{}"), ("assets/code/archive.zip", "other")):
        before = stack_digest(two)
        (two / path).write_text(content)
        assert before != stack_digest(two)
