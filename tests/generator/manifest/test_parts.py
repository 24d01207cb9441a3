"""Parts of a manifest in files of their own, and the company's defaults: as if all stood in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.shell_completion import ShellComplete

from fleet_iot.generator.cli.commands import main


def spread(project: Any, data: dict[str, Any]) -> None:
    """The manifest with every device type and plant in a file of its own, and nothing of them in `fleet.yaml`."""
    for section in ("device_types", "facilities"):
        folder = project.folder / section
        folder.mkdir(exist_ok=True)
        for id_, part in data.pop(section).items():
            (folder / f"{id_}.yaml").write_text(yaml.safe_dump(part), "utf-8")
    project.write(data)


def test_several_files_generate_what_one_does(project: Any, data: Any) -> None:
    """Byte for byte, and neither plan nor check sees a difference."""
    assert 0 == project.fleet("generate").exit_code
    before = project.files()
    spread(project, data())
    assert project.fleet("plan").stdout.startswith("No changes")
    assert (0, 0) == tuple(project.fleet("generate", *flags).exit_code for flags in (("--check",), ()))
    assert before == project.files()


def test_place_is_in_the_file_of_the_part(project: Any, data: Any) -> None:
    """Explained, and told as a fault, where it stands; an id at the beginning of its file."""
    spread(project, data())
    assert "facilities/sg-01.yaml:1  facilities.sg-01\n" in project.fleet("explain", "dashboard-sg-01").stdout
    assert "device_types/press.yaml:" in project.fleet("explain", "vibration").stdout
    path = project.folder / "facilities" / "sg-01.yaml"
    path.write_text(path.read_text().replace("Asia/Singapore", "Asia/Singapur"))
    line = path.read_text().splitlines().index("timezone: Asia/Singapur") + 1
    place = f"facilities/sg-01.yaml:{line}:11"
    assert f'{place}: there is no time zone "Asia/Singapur"' == project.fleet("validate").stderr.splitlines()[0]


def test_environment_is_laid_over_parts(project: Any, data: Any) -> None:
    """A plant of its own file has another count in an environment, and its fault is told in the environment's file."""
    spread(project, data())
    over = project.folder / "fleet.prod.yaml"
    over.write_text("facilities: {sg-01: {things: {press: 5}}}\nenvironment_suffix: prod\n")
    assert "11 things" in project.fleet("validate", "--env", "prod").stdout
    over.write_text("facilities: {sg-01: {things: {pres: 5}}}\nenvironment_suffix: prod\n")
    assert project.fleet("validate", "--env", "prod").stderr.startswith("fleet.prod.yaml:1:31: there is no device type")


def test_facilities_of_their_own_files_are_completed(project: Any, data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell knows the ids of plants that stand in files of their own."""
    spread(project, data())
    (project.folder / "facilities" / ".hidden.yaml").write_text("")
    monkeypatch.chdir(project.folder)
    found = ShellComplete(main, {}, "fleet", "_FLEET_COMPLETE").get_completions(["generate", "--facility"], "")
    assert ["sg-01", "th-01"] == [item.value for item in found]


def test_defaults_are_as_if_each_plant_said_them(project: Any, data: Any) -> None:
    """Said once or said everywhere, the same bytes are generated but for the index of what they come from."""
    contact = {"name": "Desk", "email": "desk@example.com", "phone": "+65 6123 4567"}
    everywhere = data()
    for plant in everywhere["facilities"].values():
        plant |= {"timezone": "Asia/Singapore", "registration": "bulk", "contact": contact}
    for device_type in everywhere["device_types"].values():
        device_type["sample_interval_s"] = 20
        for metric in device_type["metrics"].values():
            metric["detector"] = "limits"
    project.write(everywhere)
    assert 0 == project.fleet("generate").exit_code
    before = project.files()
    once = data(
        defaults={
            "timezone": "Asia/Singapore",
            "registration": "bulk",
            "contact": contact,
            "sample_interval_s": 20,
            "detector": "limits",
        }
    )
    for plant in once["facilities"].values():
        del plant["timezone"]
    for device_type in once["device_types"].values():
        del device_type["sample_interval_s"]
    project.write(once)
    assert project.fleet("plan").stdout.startswith("No changes")
    assert 0 == project.fleet("generate", "--check").exit_code
    assert before == project.files()


def test_what_a_plant_says_overrides_the_default(project: Any, data: Any) -> None:
    """For each key by itself; a null says nothing, and is told."""
    plants = data()["facilities"]
    plants["sg-01"] |= {"contact": {"name": "Own"}}
    del plants["sg-01"]["timezone"]
    project.write(data(facilities=plants, defaults={"timezone": "UTC", "contact": {"name": "Desk"}}))
    assert 0 == project.fleet("generate").exit_code
    runbooks = {id_: (project.tree / id_ / "RUNBOOK.md").read_text() for id_ in ("sg_01", "th_01")}
    for id_, texts in {
        "sg_01": ("Contact: Own.", "local time is UTC."),
        "th_01": ("Contact: Desk.", "local time is Asia/Bangkok."),
    }.items():
        assert [] == [text for text in texts if text not in runbooks[id_]]
    plants["sg-01"]["timezone"] = None
    project.write(data(facilities=plants, defaults={"timezone": "UTC"}))
    assert "`timezone` has no value" in project.fleet("validate").stderr


def test_parts_are_no_secret_of_their_folder(project: Any, data: Any, tmp_path: Path) -> None:
    """From any folder, and by the manifest's path, the same parts are read."""
    spread(project, data())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    told = project.fleet("validate", "--manifest", str(project.folder / "fleet.yaml")).stdout
    assert "2 facilities, 2 device types, 9 things" in told
