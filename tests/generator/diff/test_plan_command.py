"""`fleet plan` and what `fleet generate` refuses.

Each folder of tests/golden/plan holds a manifest before, one after, and what `fleet plan` says of the difference.
`UPDATE_GOLDEN=1 pytest tests/generator/diff/test_plan_command.py` writes the answers anew: read the difference before
committing.
"""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_iot.generator.diff import calls as impact_calls
from fleet_iot.generator.diff.impact import RULES, Impact, Kind, PlannedChange, Run
from fleet_iot.generator.diff.things import RUNS_KEPT, RowDifferences, compare_rows, paired
from fleet_iot.generator.plan.build import ThingRow
from tests.places import PROJECT

GOLDEN = PROJECT / "tests" / "golden" / "plan"
CASES = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


def planned(project: Any, case: str) -> dict[str, Any]:
    """The project of a case with the manifest of afterwards, and its plan as data."""
    for name in ("before", "after"):
        shutil.copy(GOLDEN / case / f"{name}.yaml", project.folder / "fleet.yaml")
        if name == "before":
            assert 0 == project.fleet("generate").exit_code
    document: dict[str, Any] = json.loads(project.fleet("plan", "--json").stdout)
    return document


def without_cost(told: str) -> str:
    """A plan without its paragraph on costs, which changes with the prices."""
    paragraphs = told.removesuffix("\n").split("\n\n")
    assert 1 == sum(paragraph.startswith("A month of it ") for paragraph in paragraphs)
    return "\n\n".join(each for each in paragraphs if not each.startswith("A month of it ")) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_change_is_told_as_its_golden_file_says(case: str, project: Any) -> None:
    """The plan is the golden one; generate refuses it unless all that it needs is allowed, and then nothing is left."""
    document = planned(project, case)
    before = project.files()
    result = project.fleet("plan")
    told = without_cost(result.stdout)
    expected = GOLDEN / case / "stdout.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(told, "utf-8")
    assert expected.read_text("utf-8") == told
    assert (0, "") == (result.exit_code, result.stderr)
    flags = [part for impact in document["needs_allow"] for part in ("--allow", impact)]
    for at in range(0, len(flags), 2):
        refused = project.fleet("generate", *flags[:at], *flags[at + 2 :])
        assert (6, True) == (refused.exit_code, f"{flags[at + 1]}: " in refused.stderr)
        assert refused.stderr.endswith(f"if it is meant: fleet generate {' '.join(flags)}\n")
    assert before == project.files()
    assert 0 == project.fleet("generate", *flags).exit_code
    assert "No changes: fleet.yaml says what lib/facilities was made from.\n" == without_cost(
        project.fleet("plan").stdout
    )


def test_each_impact_class_has_a_golden_case() -> None:
    """The worst class of a case is the first word of its folder's name."""
    first = {case.split("_", 1)[0] for case in CASES}
    assert {"none", *(impact.value.split("-")[0] for impact in Impact)} == first
    for case in CASES:
        told = (GOLDEN / case / "stdout.txt").read_text("utf-8").splitlines()
        worst = told[3].split()[0].split("-")[0] if len(told) > 1 else "none"
        assert case.split("_", 1)[0] == worst


def test_refusal_names_the_things_and_writes_nothing(project: Any) -> None:
    """One sentence says which things lose what, the hint which flag allows it; no class allows another one."""
    planned(project, "breaks_ten_things_move")
    before = project.files()
    refused = project.fleet("generate", "--allow", "destroys-data")
    message = (
        "nothing was written, because of what it would do. breaks-identity: sg-01 → th-01: 10 press moved by count "
        "(sg-01-press-0015 … 0024 become th-01-press-0015 … 0024)"
    )
    hint = "see why: fleet plan; if it is meant: fleet generate --allow breaks-identity --allow destroys-data"
    assert (6, "", f"error: {message}\nhint: {hint}\n") == (refused.exit_code, refused.stdout, refused.stderr)
    assert before == project.files()
    assert 4 == project.fleet("generate", "--check").exit_code
    assert 2 == project.fleet("generate", "--allow", "safe").exit_code


def test_long_refusal_stays_readable(project: Any, data: Any) -> None:
    """Of many changes the first are told, and the number of the others."""
    plants = {f"p-{n:02d}": {"name": "Plant", "timezone": "UTC", "things": {"press": 2}} for n in range(20)}
    project.write(data(facilities=plants))
    project.fleet("generate")
    project.write(data(facilities={id_: plant | {"things": {"press": 1}} for id_, plant in plants.items()}))
    told = project.fleet("generate").stderr
    assert "p-07: 1 press retired (p-07-press-0002); and 12 more\n" in told
    assert "p-08" not in told


def test_environment_is_in_the_command_that_writes(project: Any) -> None:
    """A plan of an environment ends in the command that writes that environment."""
    overlay = project.folder / "fleet.prod.yaml"
    overlay.write_text("environment_suffix: prod\n")
    project.fleet("generate", "--env", "prod")
    overlay.write_text("application: plants\nenvironment_suffix: prod\n")
    told = project.fleet("plan", "--env", "prod").stdout
    assert told.endswith("To write it: fleet generate --env prod --allow destroys-data\n")
    refused = project.fleet("generate", "--env", "prod").stderr
    assert refused.endswith("if it is meant: fleet generate --env prod --allow destroys-data\n")


@pytest.mark.slow
def test_plan_is_told_in_any_encoding(project: Any, data: Any) -> None:
    """A terminal that lacks a character shows another one in its place; JSON needs none beyond ASCII."""
    project.fleet("generate")
    changed = data()
    changed["facilities"]["sg-01"]["name"] = "大士"
    project.write(changed)
    result = project.process("plan", environment={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})
    assert (0, "", True) == (result.exit_code, result.stderr, "facility name: Tuas ? ??\n" in result.stdout)
    plain = project.fleet("plan", "--json").stdout
    assert (True, "Tuas → 大士") == (plain.isascii(), json.loads(plain)["changes"][0]["detail"])


def test_force_allows_nothing(project: Any) -> None:
    """`--force` is for edited files: what it does to devices has to be allowed all the same."""
    planned(project, "destroys_fewer_things")
    assert 6 == project.fleet("generate", "--force").exit_code


def test_move_is_refused_from_both_its_ends(project: Any) -> None:
    """One plant alone: what leaves it, and what comes to it from another, is its own; other plants' changes are not."""
    planned(project, "breaks_move_and_more")
    for facility in ("sg-01", "th-01"):
        refused = project.fleet("generate", "--facility", facility)
        assert (6, True) == (refused.exit_code, "10 press moved by count" in refused.stderr)
        assert refused.stderr.endswith(f": fleet generate --facility {facility} --allow breaks-identity\n")
    told = json.loads(project.fleet("plan", "--json", "--facility", "sg-01").stdout)
    assert [("things-moved", "sg-01", "th-01")] == [
        (change["kind"], change["facility"], change["to"]) for change in told["changes"]
    ]
    unknown = project.fleet("plan", "--facility", "sg-1")
    assert (2, "error: the manifest has no facility `sg-1`\nhint: did you mean `sg-01`?\n") == (
        unknown.exit_code,
        unknown.stderr,
    )


def test_exit_code_tells_of_changes_where_it_is_asked_for(project: Any) -> None:
    """0 without changes, 2 with some, and 0 in both cases where it was not asked for."""
    planned(project, "safe_more_things")
    assert 0 == project.fleet("plan").exit_code
    assert 2 == project.fleet("plan", "--detailed-exitcode").exit_code
    assert 2 == project.fleet("plan", "--detailed-exitcode", "--json").exit_code
    project.fleet("generate")
    assert 0 == project.fleet("plan", "--detailed-exitcode").exit_code


def test_json_has_the_documented_keys(project: Any) -> None:
    """A move as data: who becomes whom, what it costs, and what has to be allowed."""
    document = planned(project, "breaks_move_and_more")
    keys = ["format", "manifest", "impact", "summary", "needs_allow", "changes", "calls", "seconds", "slowest"]
    assert [*keys, "waiting_s", "then", "cost"] == list(document)
    assert ["region", "usd", "services", "unpriced"] == list(document["cost"])
    assert (1, "fleet.yaml", "breaks-identity") == tuple(document[key] for key in keys[:3])
    assert {"safe": 1, "reconfigures": 0, "breaks-identity": 1, "destroys-data": 0} == document["summary"]
    assert ["breaks-identity"] == document["needs_allow"]
    move, more = document["changes"]
    assert [{"first": "sg-01-press-0015", "last": "sg-01-press-0024", "count": 10}] == move["things"]
    assert [{"first": "th-01-press-0015", "last": "th-01-press-0024", "count": 10}] == move["become"]
    assert [{"first": "th-01-press-0025", "last": "th-01-press-0027", "count": 3}] == more["things"]
    assert list(move) == list(more)
    assert {"api": "CreateThing", "count": 13, "per_second": 100} in document["calls"]
    assert (1.0, "DeleteCertificate", 0) == (document["seconds"], document["slowest"], document["waiting_s"])
    page = (GOLDEN.parents[2] / "docs" / "plan.md").read_text("utf-8")
    assert [] == [key for key in [*document, *move] if key != "format" and f"`{key}" not in page]


def test_plants_in_bulk_are_told_the_commands_that_do_it(project: Any) -> None:
    """Those of plants whose things Terraform registers are not among them."""
    document = planned(project, "safe_attributes_in_bulk")
    assert ["fleet onboard --facility sg-01", "fleet device sync --facility sg-01"] == document["then"]
    assert [] == json.loads(project.fleet("plan", "--json", "--facility", "th-01").stdout)["then"]


def test_empty_project_has_all_to_come(project: Any) -> None:
    """Before the first generate, types, plants and things are added; nothing is made, not even a folder."""
    document = json.loads(project.fleet("plan", "--json").stdout)
    assert {"type-added": 2, "facility-added": 2, "things-added": 3} == {
        kind: sum(change["kind"] == kind for change in document["changes"])
        for kind in ("type-added", "facility-added", "things-added")
    }
    assert 7 == len(document["changes"])
    assert not project.tree.exists()


def test_plant_that_cannot_have_changed_is_not_opened(project: Any, data: Any) -> None:
    """After a count is raised in one plant, the files of the other may be anything."""
    project.fleet("generate")
    (project.tree / "th_01" / "things.jsonl").write_text("not a row\n")
    (project.tree / "th_01" / "__init__.py").unlink()
    changed = data()
    changed["facilities"]["sg-01"]["things"]["pump"] = 4
    project.write(changed)
    result = project.fleet("plan")
    assert (0, "") == (result.exit_code, result.stderr)
    assert "2 pump added (sg-01-pump-0003 … 0004)" in result.stdout


def test_other_version_of_the_generator_is_told(project: Any) -> None:
    """Files are regenerated where the templates are not those that made the tree, and nothing happens to things."""
    project.fleet("generate")
    index = project.tree / ".generated.json"
    content = json.loads(index.read_text())
    for section in content["facilities"].values():
        section["templates"] = "0" * 64
    index.write_text(json.dumps(content))
    told = project.fleet("plan").stdout
    assert "  safe    sg-01  all files regenerated\n  safe    th-01  all files regenerated\n" in told
    assert without_cost(told).endswith("No AWS calls.\n\nPlan: 2 safe. To write it: fleet generate\n")
    assert 0 == project.fleet("generate").exit_code


@pytest.mark.parametrize("content", [None, "", "FACILITY = 1\n", "FACILITY = f(\n", "FACILITY = f(name='x')\n"])
def test_record_that_says_nothing_is_told(project: Any, data: Any, content: str | None) -> None:
    """A record that no longer says what there was is a fault whose hint, `generate --force`, works."""
    project.fleet("generate")
    declaration = project.tree / "sg_01" / "__init__.py"
    declaration.unlink() if content is None else declaration.write_text(content)
    changed = data()
    changed["facilities"]["sg-01"]["things"]["press"] = 1
    project.write(changed)
    for command in (["plan"], ["plan", "--json"]):
        result = project.fleet(*command)
        assert (6, "") == (result.exit_code, result.stdout)
        assert result.stderr.startswith("error: lib/facilities/sg_01/__init__.py does not say what there was")
        assert result.stderr.endswith("; to go on without: fleet generate --force\n")
    assert 6 == project.fleet("generate").exit_code
    assert 0 == project.fleet("generate", "--force").exit_code
    assert 0 == project.fleet("generate", "--check").exit_code


@pytest.mark.parametrize(
    "content", [None, "not a row\n", '{"name":"\n', '{"name":"a","device_type":"press"}\n', "\0\n"]
)
def test_things_that_are_lost_or_edited_are_told(project: Any, data: Any, content: str | None) -> None:
    """Things whose rows are gone or strange are neither taken for retired nor for new."""
    project.fleet("generate")
    things = project.tree / "sg_01" / "things.jsonl"
    row = json.loads(things.read_text().splitlines()[0])
    things.unlink() if content is None else things.write_text(content.replace('"a"', json.dumps(row["name"])))
    changed = data()
    changed["facilities"]["sg-01"]["things"]["press"] = 1
    project.write(changed)
    result = project.fleet("plan")
    assert (6, True) == (result.exit_code, "sg_01/things.jsonl does not say what there was" in result.stderr)
    assert 6 == project.fleet("generate").exit_code
    assert 0 == project.fleet("generate", "--force").exit_code


@pytest.mark.parametrize("content", [None, "", "FLEET = FleetSpec(device_types=())\n", "FLEET = FleetSpec(x=1)\n"])
def test_shared_values_that_are_lost_are_told(project: Any, data: Any, content: str | None) -> None:
    """So it is with what all plants share."""
    project.fleet("generate")
    declaration = project.tree / "fleet.py"
    declaration.unlink() if content is None else declaration.write_text(content)
    project.write(data(region="eu-west-1"))
    result = project.fleet("plan")
    assert (6, True) == (result.exit_code, "fleet.py does not say what there was" in result.stderr)


def test_every_kind_has_an_impact_and_a_reason() -> None:
    """The one table is complete, and what it says of costs names real fields and APIs that are spelled alike."""
    assert set(Kind) == set(RULES)
    fields = {"change", "count", "groups", "groups_made", "groups_gone", "facilities"}
    costs = [cost for kind in Kind for cost in impact_calls.COSTS.get(kind, ())]
    assert {cost.per for cost in costs} <= fields
    names: set[str] = set()
    for service in ("cloudtrail", "cloudwatch", "dynamodb", "iot", "lambda", "logs", "s3"):
        names |= set(botocore.session.get_session().get_service_model(service).operation_names)
    called = {api for kind in Kind for api in impact_calls.calls_of(every(kind))}
    assert set() == (called | set(impact_calls.QUOTAS)) - names


def every(kind: Kind) -> PlannedChange:
    """A change that touches one of everything."""
    return PlannedChange(kind=kind, count=1, groups=1, groups_made=1, groups_gone=1, facilities=1)


def test_time_is_that_of_the_slowest_call() -> None:
    """3,000 things from CSRs need 200 seconds at 15 a second, however many other calls run beside."""
    added = PlannedChange(kind=Kind.THINGS_ADDED, facility="sg-01", device_type="press", count=3000)
    assert 200.0 == impact_calls.bill([added]).seconds
    removed = PlannedChange(kind=Kind.TYPE_REMOVED, device_type="press")
    assert (500.0, 300) == (impact_calls.bill([added, removed]).seconds, impact_calls.bill([added, removed]).waiting_s)


def row(device_type: str, number: int, line: str) -> ThingRow:
    """A row of the record."""
    return ThingRow(
        name=f"sg-01-{device_type}-{number:04d}",
        thing_type=f"thing-type-{device_type}",
        device_type=device_type,
        serial=f"SG01-{device_type.upper()}-{number:04d}",
        attributes={"line": line},
    )


def rows(things: dict[tuple[str, int], str]) -> Iterator[ThingRow]:
    """The rows of things, in their order."""
    return (row(*key, line) for key, line in sorted(things.items()))


things = st.dictionaries(
    st.tuples(st.sampled_from(["a", "a-b", "b"]), st.integers(9990, 10010)), st.sampled_from(["x", "y"]), max_size=30
)


def told(found: RowDifferences) -> dict[str, dict[str, int]]:
    """Return the number of things of each type that are added, retired and changed."""
    return {
        name: {type_: tally.count for type_, tally in getattr(found, name).items()}
        for name in ("added", "retired", "changed")
    }


@pytest.mark.slow
@given(things, things)
def test_merge_finds_what_a_look_at_all_things_finds(
    before: dict[tuple[str, int], str], after: dict[tuple[str, int], str]
) -> None:
    """The differences of two streams are those of the two sets; runs cover them."""
    found = compare_rows(rows(before), rows(after))
    keys = {
        "added": after.keys() - before.keys(),
        "retired": before.keys() - after.keys(),
        "changed": {key for key in before.keys() & after.keys() if before[key] != after[key]},
    }
    expected = {
        name: {type_: sum(key[0] == type_ for key in some) for type_ in {key[0] for key in some}}
        for name, some in keys.items()
    }
    assert expected == told(found)
    for tallies in (found.added, found.retired, found.changed):
        for tally in tallies.values():
            assert len(tally.things) <= RUNS_KEPT
            assert tally.count == sum(run.count for run in tally.things) or len(tally.things) == RUNS_KEPT
    for fields in found.fields.values():
        assert fields in ("line: x → y", "line: y → x")


@pytest.mark.slow
def test_comparing_holds_no_things() -> None:
    """3,000 rows, half a megabyte of them, are compared in a tenth of that, though each of them differs."""

    def rows(line: str) -> Iterator[ThingRow]:
        return (row("press", number, line) for number in range(3_000))

    tracemalloc.start()
    try:
        found = compare_rows(rows("x"), rows("y"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {"added": {}, "retired": {}, "changed": {"press": 3_000}} == told(found)
    assert (Run(first="sg-01-press-0000", last="sg-01-press-2999", count=3_000),) == found.changed["press"].things
    assert peak < 50_000


def group(kind: Kind, facility: str, device_type: str, start: int, count: int) -> PlannedChange:
    """Things that come to, or go from, a plant."""
    first, last = (f"{facility}-{device_type}-{number:04d}" for number in (start, start + count - 1))
    run = Run(first=first, last=last, count=count)
    return PlannedChange(kind=kind, facility=facility, device_type=device_type, count=count, things=(run,))


groups = st.dictionaries(
    st.tuples(st.sampled_from(["p-1", "p-2", "p-3"]), st.sampled_from(["old", "new", "pump"])),
    st.tuples(st.sampled_from([Kind.THINGS_ADDED, Kind.THINGS_RETIRED]), st.integers(9990, 10010), st.integers(1, 30)),
)


@pytest.mark.slow
@given(groups, st.booleans())
def test_pairing_loses_no_thing(found: dict[tuple[str, str], tuple[Kind, int, int]], is_renamed: bool) -> None:
    """Each thing that goes or comes is told once: retired, added, moved or renamed; and no type is both at the end."""
    changes = [group(kind, *where, start, count) for where, (kind, start, count) in found.items()]
    rename = [PlannedChange(kind=Kind.TYPE_RENAMED, device_type="new", detail="old")] if is_renamed else []
    told = list(paired([*changes, *rename], renamed={"old": "new"} if is_renamed else {}))
    both = (Kind.THINGS_MOVED, Kind.TYPE_RENAMED)
    for kind in (Kind.THINGS_ADDED, Kind.THINGS_RETIRED):
        before = sum(change.count for change in changes if change.kind is kind)
        assert before == sum(change.count for change in told if change.kind in (kind, *both))
    left = {kind: {change.device_type for change in told if change.kind is kind} for kind in Kind}
    if not is_renamed:
        assert set() == left[Kind.THINGS_ADDED] & left[Kind.THINGS_RETIRED]
    for change in told:
        assert change.count == sum(run.count for run in change.things)
        assert all(
            run.count == 1 + int(run.last[-5:].strip("-")) - int(run.first[-5:].strip("-")) for run in change.things
        )
        if change.kind is Kind.THINGS_MOVED:
            assert change.count == sum(run.count for run in change.become)
            assert change.facility != change.to


def test_renamed_type_is_the_one_described_alike(project: Any, data: Any) -> None:
    """Descriptions identify the renamed types where two are gone and two are new, all with the same metrics."""
    types = data()["device_types"]
    a, b = ({**types["pump"], "description": description} for description in ("Feed pump", "Drain pump"))
    plants = data()["facilities"]
    plants["sg-01"]["things"], plants["th-01"]["things"] = {"p-1": 2, "p-2": 3}, {"p-2": 1}
    project.write(data(device_types={"p-1": a, "p-2": b}, facilities=plants))
    project.fleet("generate")
    plants["sg-01"]["things"], plants["th-01"]["things"] = {"feed": 2, "drain": 4}, {"drain": 1}
    project.write(data(device_types={"drain": b, "feed": a}, facilities=plants))
    changes = json.loads(project.fleet("plan", "--json").stdout)["changes"]
    assert [
        ("type-renamed", "drain", "p-2", 4),
        ("type-renamed", "feed", "p-1", 2),
        ("things-added", "drain", "", 1),
    ] == [(change["kind"], change["device_type"], change["detail"], change["count"]) for change in changes]


def test_run_is_told_by_its_ends() -> None:
    """The last one by its number alone, where the names differ in nothing else."""
    assert "a-0009" == str(Run(first="a-0009", last="a-0009", count=1))
    assert "a-0009 … 0012" == str(Run(first="a-0009", last="a-0012", count=4))
    assert "a-9999 … 10000" == str(Run(first="a-9999", last="a-10000", count=2))
    assert "pump-left … pump-right" == str(Run(first="pump-left", last="pump-right", count=2))
