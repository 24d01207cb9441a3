"""Things as people name them: resolved from the record and the journals, refused where they are several or none."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet_iot.generator.cli.commands import main
from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.record.read import ThingRow, read_things, search_things
from fleet_iot.operations.project import Project, load_project
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.device import find_thing
from fleet_iot.operations.registry.journal import Journal, Move
from fleet_iot.operations.registry.names import UnknownThingError, resolve
from fleet_iot.operations.registry.runner import groups_of
from tests.operations.registry.journals import material, onboard, thing

MANIFEST: dict[str, Any] = {
    "version": 1,
    "application": "werk",
    "environment_suffix": "dev",
    "region": "eu-central-1",
    "device_types": {
        "press": {
            "description": "Exzenterpresse, 400 t",
            "sample_interval_s": 10,
            "metrics": {"temperature": {"unit": "celsius", "max": 95}},
        },
        "kiln": {
            "description": "Lo nung",
            "sample_interval_s": 10,
            "metrics": {"draught": {"unit": "Pa", "max": 80}},
        },
    },
    "facilities": {
        "de-01": {
            "name": "Werk Köln-Süd",
            "timezone": "Europe/Berlin",
            "registration": "bulk",
            "things": {"press": {"inventory": "list.csv"}, "kiln": 24},
        },
        "vn-01": {
            "name": "Nhà máy Bình Dương",
            "timezone": "Asia/Ho_Chi_Minh",
            "registration": "bulk",
            "things": {
                "press": {
                    "names": {
                        "dev": {"serial": "KA-4711"},
                        "k1": {"serial": "DE-01-PRESS-K9", "attributes": {"mac": "AA-BB-CC-DD-EE-0F"}},
                        "k2": {"serial": "0042-A", "attributes": {"mac": "a:b:c:d:e:f", "hall": "north"}},
                    }
                },
                "kiln": 24,
            },
        },
    },
}
LIST = """name,serial,mac,vendor_id
k1,SN-1001,00:1A:2B:3C:4D:5E,ACME-77
k9,SN-2001,00:1A:2B:3C:4D:5F,ACME-78
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Another company's project, generated: two plants, one with a list of devices and one with named ones."""
    folder = tmp_path_factory.mktemp("werk")
    (folder / "fleet.yaml").write_text(yaml.safe_dump(MANIFEST, allow_unicode=True), "utf-8")
    (folder / "list.csv").write_text(LIST)
    with chdir(folder):
        done = CliRunner().invoke(main, ["generate"])
        assert 0 == done.exit_code, done.output
    return load_project(folder)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "werk-dev.sqlite") as opened:
        yield opened


@pytest.mark.parametrize(
    ("said", "full"),
    [
        ("de-01-press-k1-dev", "de-01-press-k1-dev"),
        ("de-01-press-k1", "de-01-press-k1-dev"),
        ("DE-01-Press-K1-dev", "de-01-press-k1-dev"),
        ("SN-1001", "de-01-press-k1-dev"),
        ("sn 1001", "de-01-press-k1-dev"),
        ("00-1a-2b-3c-4d-5e", "de-01-press-k1-dev"),
        ("001A.2B3C.4D5E", "de-01-press-k1-dev"),
        ("0:1a:2b:3c:4d:5f", "de-01-press-k9-dev"),
        ("acme_77", "de-01-press-k1-dev"),
        ("de-01-press-k9-dev", "de-01-press-k9-dev"),
        ("ka4711", "vn-01-press-dev-dev"),
        ("vn-01-press-dev", "vn-01-press-dev-dev"),
        ("vn-01-press-dev-dev", "vn-01-press-dev-dev"),
        ("0a-0b-0c-0d-0e-0f", "vn-01-press-k2-dev"),
        ("DE01-KILN-0024", "de-01-kiln-0024-dev"),
    ],
)
def test_a_thing_is_resolved_however_it_is_said(project: Project, said: str, full: str) -> None:
    """Names with and without suffix, one that ends in the suffix, serials, MAC addresses and a vendor id."""
    assert full == resolve(project, said).name


def test_what_may_be_two_things_is_refused(project: Project) -> None:
    """A serial that is another thing's name: both are shown with their plants, and the full names are unambiguous."""
    with pytest.raises(RequestError) as caught:
        resolve(project, "de-01-press-k9")
    assert (
        "'de-01-press-k9' may be 2 things: de-01-press-k9-dev (by its name; of de-01, Werk Köln-Süd); "
        "vn-01-press-k1-dev (by its serial; of vn-01, Nhà máy Bình Dương)"
    ) == caught.value.message
    assert ("say the full name", 2) == (caught.value.hint, caught.value.exit_code)
    assert "vn-01" == resolve(project, "de-01-press-k9", facility=project.facility("vn-01")).facility


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ("de-01-pres-k1", "", "did you mean de-01-press-k1-dev"),
        ("ed-01-press-k1-dev", "", "did you mean de-01-press-k1-dev"),
        ("SN-2O01", "", "did you mean de-01-press-k9-dev"),
        ("de-01-kiln-22", ": de-01 has 24 kiln", "did you mean de-01-kiln-0022-dev"),
        ("de-01-kiln-0122", ": de-01 has 24 kiln", "did you mean de-01-kiln-0022-dev"),
        ("kiln-0003", "", "did you mean de-01-kiln-0003-dev, vn-01-kiln-0003-dev"),
        ("0003", "", "did you mean de-01-kiln-0003-dev, vn-01-kiln-0003-dev"),
        ("de-01-press-k1-prod", ": names of this environment end in -dev", "did you mean de-01-press-k1-dev? For"),
        ("vn-01-press-dev-eu-prod", ": names of this environment end in -dev", "did you mean vn-01-press-dev-dev? For"),
        ("north", "", "`fleet device list`"),
        ("Köln", "", "`fleet device list`"),
        ("", "", "`fleet device list`"),
        ("-_-", "", "`fleet device list`"),
        ("x" * 5_000, "", "`fleet device list`"),
    ],
)
def test_an_unknown_thing_names_what_is_near(project: Project, said: str, message: str, hint: str) -> None:
    """Exit 2, with the nearest names, or the environment that the name is of; attributes are no names."""
    with pytest.raises(UnknownThingError) as caught:
        resolve(project, said)
    assert (f"there is no thing {said!r}{message}", 2) == (caught.value.message, caught.value.exit_code)
    assert (caught.value.hint or "").startswith(hint), caught.value.hint


def test_a_thing_of_another_plant_is_refused(project: Project) -> None:
    """Where the command is for one plant, the other one is named."""
    with pytest.raises(RequestError, match="vn-01 has no thing 'sn1001': de-01-press-k1-dev is a thing of de-01"):
        resolve(project, "sn1001", facility=project.facility("vn-01"))


def test_a_device_that_left_the_record_is_found(project: Project, journal: Journal) -> None:
    """By name, serial and MAC: its thing, its type or its plant are gone from the manifest; near names have it too."""
    onboard(journal, "de-01", thing("de-01-press-old-dev", "SN-9", mac="00:00:5e:00:53:01"))
    onboard(journal, "at-01", thing("at-01-lathe-0001-dev", "AT01-LATHE-0001", "lathe"))
    for said in ("de-01-press-old", "sn9", "0000.5E00.5301"):
        assert "de-01-press-old-dev" == resolve(project, said, journals=[journal.path]).name
    with pytest.raises(UnknownThingError) as caught:
        resolve(project, "at-01-lathe-001", journals=[journal.path])
    assert "did you mean at-01-lathe-0001-dev?" == caught.value.hint

    found = find_thing(project, journal, resolve(project, "at01lathe0001", journals=[journal.path]).name)
    group = groups_of(project, found.facility, device_type=found.thing.device_type)["lathe"]
    assert ("at-01", "bulk") == (found.facility.id, found.facility.registration)
    assert ("thing-group-at-01-lathe-dev", "policy-at-01-lathe-dev") == (group.thing_group, group.policy)


def test_a_serial_goes_with_its_device(project: Project, journal: Journal) -> None:
    """After a move the serial is the new thing's, though the record still plans it for the former; a retired device
    is found where nothing else has its serial."""
    former = thing("de-01-press-k1-dev", "SN-1001")
    onboard(journal, "de-01", former, thing("de-01-press-gone-dev", "SN-5"))
    assert former.name == resolve(project, "SN-1001", journals=[journal.path]).name
    there = thing("vn-01-press-dev-dev", "SN-1001")
    move = Move(1, former.name, there.name, f"arn/{former.name}", "ACTIVE", False, None)
    journal.write(*entries.move_begun(move, "vn-01", there, material(former.name), at=2.0))
    journal.write(*entries.move_ended(move, final_status="ACTIVE", certificate_id="x", reason="test", at=3.0))
    assert there.name == resolve(project, "SN-1001", journals=[journal.path]).name
    assert former.name == resolve(project, "de-01-press-k1", journals=[journal.path]).name
    journal.write(entries.retired("de-01-press-gone-dev"))
    assert "de-01-press-gone-dev" == resolve(project, "SN-5", journals=[journal.path]).name


def test_no_journal_and_none_of_ours_are_no_devices(project: Project, tmp_path: Path) -> None:
    """A journal that is not there, and a database without devices."""
    (tmp_path / "empty.sqlite").touch()
    found = resolve(project, "SN-1001", journals=[tmp_path / "empty.sqlite", tmp_path / "none.sqlite"])
    assert "de-01-press-k1-dev" == found.name


def _rows(count: int) -> Iterator[str]:
    for number in range(count):
        serial = f"SN-{number:07d}"
        attributes = {"facility": "de-01", "mac": f"00:1A:{number:08x}", "serial": serial}
        yield json.dumps(
            {
                "name": f"de-01-press-{number:04d}",
                "thing_type": "thing-type-press",
                "device_type": "press",
                "serial": serial,
                "attributes": attributes,
            },
            separators=(",", ":"),
        )


@pytest.mark.slow
def test_a_long_record_is_searched_without_decoding_it(tmp_path: Path) -> None:
    """The search needs less than half of the time of reading the things, and a few blocks of memory."""
    path = tmp_path / "things.jsonl"
    path.write_text("\n".join(_rows(100_000)) + "\n")

    def seconds(read: Callable[[], Iterator[ThingRow]]) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            assert any(row.serial == "SN-0099999" for row in read())
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(lambda: search_things(path, {"sn0099999"})) < seconds(lambda: read_things(path)) / 2
    tracemalloc.start()
    assert ["de-01-press-0500"] == [row.name for row in search_things(path, {"de01press0500"})]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000 < path.stat().st_size
