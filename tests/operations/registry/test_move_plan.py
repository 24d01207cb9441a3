"""Which planned thing a moved device becomes: by its serial, by name, else the next that is meant for nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.registry.device import Registered
from fleet_iot.operations.registry.journal import Journal
from fleet_iot.operations.registry.move import find_destination
from tests.places import SAMPLE

TYPE = "press-monitor"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def plant(root: Path, *things: tuple[str, str, str]) -> Project:
    """A project whose plant `sg-01` plans these things: name, type, serial."""
    project = load_project(SAMPLE)
    facility = replace(project.facility("sg-01"), registration="bulk")
    path = root / "lib" / "facilities" / facility.module / facility.things_file
    path.parent.mkdir(parents=True)
    rows = [
        {
            "name": name,
            "thing_type": f"thing-type-{device_type}",
            "device_type": device_type,
            "serial": serial,
            "attributes": {"facility": "sg-01", "serial": serial},
        }
        for name, device_type, serial in things
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Project(root=root, fleet=project.fleet, facilities=(facility,), environment_suffix="dev")


def device(serial: str = "THRY01-PRESS-MONITOR-0007") -> Registered:
    """A device of another plant."""
    thing = ThingRow(
        name="th-ry-01-press-monitor-0007-dev",
        thing_type=f"thing-type-{TYPE}-dev",
        device_type=TYPE,
        serial=serial,
        attributes={"facility": "th-ry-01", "serial": serial, "hall": "2"},
    )
    facility = load_project(SAMPLE).facility("th-ry-01")
    return Registered(thing=thing, facility=facility, is_in_journal=True, certificate_id="c", certificate_arn="a/c")


def chosen(
    project: Project, journal: Journal, moved: Registered, name: str | None = None, given: set[str] | None = None
) -> ThingRow:
    return find_destination(project, journal, moved, project.facility("sg-01"), name=name, given=given or set())


COUNTED = [("p-1", TYPE, "SG01-PRESS-MONITOR-0001"), ("p-2", TYPE, "SG01-PRESS-MONITOR-0002")]


def test_the_thing_with_the_devices_serial(tmp_path: Path, journal: Journal) -> None:
    """Wherever it stands in the plant's list; another name for it is refused."""
    project = plant(tmp_path, *COUNTED, ("p-9", TYPE, "SN-9"))
    assert "p-9-dev" == chosen(project, journal, device("SN-9")).name
    with pytest.raises(RequestError, match="plans serial SN-9 as p-9-dev"):
        chosen(project, journal, device("SN-9"), "p-1")


def test_the_next_that_is_free_and_meant_for_nobody_else(tmp_path: Path, journal: Journal) -> None:
    """Another type, another device's serial and what is taken are passed over; then there is none."""
    project = plant(tmp_path, ("b-1", "boiler", "SG01-BOILER-0001"), ("p-0", TYPE, "SN-0"), *COUNTED)
    first = chosen(project, journal, device())
    assert ("p-1-dev", "SG01-PRESS-MONITOR-0001") == (first.name, first.serial)
    assert "p-2-dev" == chosen(project, journal, device(), given={"p-1-dev"}).name
    with pytest.raises(RequestError, match="no planned press-monitor left in sg-01"):
        chosen(project, journal, device(), given={"p-1-dev", "p-2-dev"})


def test_a_makers_serial_goes_with_the_device(tmp_path: Path, journal: Journal) -> None:
    """As the thing's serial and attribute; other attributes are the plant's own."""
    found = chosen(plant(tmp_path, *COUNTED), journal, device("SN-7"))
    assert ("p-1-dev", "SN-7", {"facility": "sg-01", "serial": "SN-7"}) == (found.name, found.serial, found.attributes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b-1", "b-1-dev is a boiler"),
        ("p-0", "p-0-dev is planned for serial SN-0"),
        ("p-8", "sg-01 plans no thing p-8-dev"),
    ],
)
def test_a_name_that_is_not_the_devices(tmp_path: Path, journal: Journal, name: str, reason: str) -> None:
    """Is refused with the reason."""
    project = plant(tmp_path, ("b-1", "boiler", "SG01-BOILER-0001"), ("p-0", TYPE, "SN-0"), *COUNTED)
    with pytest.raises(RequestError, match=reason):
        chosen(project, journal, device(), name)


def test_a_plant_that_terraform_registers(tmp_path: Path, journal: Journal) -> None:
    """Its state would not know the thing."""
    project = plant(tmp_path, *COUNTED)
    to = replace(project.facility("sg-01"), registration="terraform")
    with pytest.raises(RequestError, match="Terraform registers the things of sg-01"):
        find_destination(project, journal, device(), to, name=None, given=set())
