"""Rows are paired with planned things before any call, by what they say; order pairs only where that is no guess."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from fleet_iot.generator.diagnostics import RequestError
from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.record import Fault, Material, Row
from fleet_iot.operations.registry.matching import KeyOwner, Matching, Plants


def thing(number: int, device_type: str = "press", **more: str) -> ThingRow:
    name = f"sg-01-{device_type}-{number:04d}-dev"
    values = {"name": name, "thing_type": f"type-{device_type}-dev", "serial": f"SN-{device_type}-{number}", **more}
    return ThingRow(device_type=device_type, attributes={}, **values)


THINGS = [*(thing(number) for number in (1, 2, 3)), *(thing(number, "pump") for number in (1, 2))]


def row(number: int, *, key: bytes | None = None, fingerprint: bytes | None = None, **more: Any) -> Row:
    material = Material(
        is_certificate=True,
        der=b"der",
        fingerprint=fingerprint or b"f%d" % number,
        key=key or b"k%d" % number,
        common_name=None,
    )
    values = {"name": None, "serial": None, "device_type": None, "must_match": False} | more
    return Row(number=number, place=f"line {number}", raw=b"", material=material, **values)


def matched(
    entries: Iterable[Row | Fault],
    *,
    held: dict[bytes, KeyOwner] | None = None,
    taken: Iterable[str] = (),
    device_type: str | None = None,
    by_order: bool = False,
    ignored: Iterable[str] = (),
) -> tuple[dict[int, str], dict[int, str]]:
    """Row → thing, row → why not."""
    matching = Matching(suffix="dev", device_type=device_type, by_order=by_order, ignored=ignored)
    matching.add_things(THINGS, is_taken=lambda name: name in set(taken))
    matching.add_rows(entries, key_owner=(held or {}).get)
    pairs = {pair.row: pair.thing.name.removeprefix("sg-01-").removesuffix("-dev") for pair in matching.pairs()}
    faults = {fault.number: fault.reason for fault in matching.faults()}
    counts = matching.counts
    assert (len(pairs), len(faults)) == (counts["pairs"], counts["faults"])
    assert len(pairs) + len(faults) + counts["already"] == counts["rows"]
    matching.close()
    return pairs, faults


def test_names_and_serials_come_before_the_next_free_number() -> None:
    """Whatever the order of the list: the row that names the first thing gets it."""
    rows = [
        row(1, device_type="press"),
        row(2, serial="SN-press-2"),
        row(3, name="sg-01-press-0001", must_match=True),
        row(4, name="sg-01-pump-0002-dev", must_match=True),
        row(5, name="a chip", device_type="pump"),
    ]
    wanted = {1: "press-0003", 2: "press-0002", 3: "press-0001", 4: "pump-0002", 5: "pump-0001"}
    assert (wanted, {}) == matched(rows, by_order=True)


def test_more_rows_than_things_is_a_fault_of_each_row_beyond() -> None:
    """The first three get the three things."""
    pairs, faults = matched((row(number) for number in range(1, 6)), by_order=True, device_type="press")
    assert (3, [4, 5]) == (len(pairs), list(faults))
    assert "more rows than that" in faults[4]


def test_a_device_type_takes_things_of_its_own_alone() -> None:
    """Said for the whole list or by the row."""
    assert {1: "pump-0001", 2: "press-0001", 3: "pump-0002"} == matched(
        [row(1), row(2, device_type="press"), row(3)], device_type="pump", by_order=True
    )[0]
    assert (
        "of type pump left" in matched([row(number) for number in (1, 2, 3)], device_type="pump", by_order=True)[1][3]
    )


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "sg-01-press-0009", "must_match": True}, "no planned thing has its name 'sg-01-press-0009'"),
        ({"serial": "SN-x", "must_match": True}, "no planned thing has its serial 'SN-x'"),
        ({"name": "sg-01-press-0001", "device_type": "pump", "must_match": True}, "says it is a pump"),
    ],
)
def test_a_row_that_names_a_thing_gets_no_other(wrong: dict[str, Any], reason: str) -> None:
    """A row is a fault where the thing that it names is not planned or is of another type."""
    pairs, faults = matched([row(1, name="sg-01-press-0002", must_match=True), row(2, **wrong)])
    assert ([1], [2]) == (list(pairs), list(faults))
    assert reason in faults[2]


def test_a_later_row_spoils_an_earlier_one() -> None:
    """Both are faults, and order does not give the thing to another: its device is still to come."""
    spoiling = Fault(number=2, place="line 2", reason="has the key of row 1: shared", remedy="…", spoils=1)
    pairs, faults = matched(
        [row(1, name="sg-01-press-0001", must_match=True), spoiling, row(3)], by_order=True, device_type="press"
    )
    assert ({3: "press-0002"}, [1, 2]) == (pairs, list(faults))
    assert "row 2 has the key of this row: shared" == faults[1]


def test_what_is_onboarded_already_is_no_work() -> None:
    """The same certificate again is `already`; it keeps its thing, which is not free."""
    held = {b"k1": KeyOwner(thing="sg-01-press-0001-dev", fingerprint=b"f1", is_done=True)}
    pairs, faults = matched(
        [row(1), row(2)], held=held, by_order=True, device_type="press", taken=["sg-01-press-0001-dev"]
    )
    assert ({2: "press-0002"}, {}) == (pairs, faults)


def test_what_failed_goes_on_with_its_own_thing() -> None:
    """Its certificate may be in AWS IoT already: another thing must not get it."""
    held = {b"k2": KeyOwner(thing="sg-01-pump-0002-dev", fingerprint=b"f2", is_done=False)}
    assert {1: "press-0001", 2: "pump-0002"} == matched(
        [row(1), row(2)], held=held, by_order=True, device_type="press", taken=["sg-01-pump-0002-dev"]
    )[0]


@pytest.mark.parametrize(
    ("held", "given", "reason"),
    [
        (("th-1", b"f1", True), {}, "it is onboarded as th-1"),
        (("th-1", b"other", True), {}, "its key is that of th-1 already"),
        (("sg-01-press-0002-dev", b"f1", True), {"name": "sg-01-press-0001"}, "it is onboarded as sg-01-press-0002"),
    ],
)
def test_a_key_belongs_to_one_thing(held: tuple[str, bytes, bool], given: dict[str, Any], reason: str) -> None:
    """Of whatever facility."""
    found = KeyOwner(thing=held[0], fingerprint=held[1], is_done=held[2])
    assert reason in matched([row(1, **given)], held={b"k1": found})[1][1]


def test_a_thing_with_a_certificate_is_not_given_another() -> None:
    """Rotation does that; and it is not free for a row that names none."""
    taken = ["sg-01-press-0001-dev"]
    pairs, faults = matched(
        [row(1, name="sg-01-press-0001", must_match=True), row(2)], taken=taken, by_order=True, device_type="press"
    )
    assert {2: "press-0002"} == pairs
    assert "has another certificate already" in faults[1]


def counted(number: int) -> ThingRow:
    """A thing by count: it has no serial of its own."""
    return thing(number, serial=f"SG01-PRESS-{number:04d}")


def matched_with(things: list[ThingRow], *rows: Row | Fault, **options: Any) -> dict[int, str]:
    """Row → thing's number in its name, for a plant with these things."""
    matching = Matching(suffix="dev", **options)
    matching.add_things(things, is_taken=lambda _: False)
    try:
        matching.add_rows(rows, key_owner=lambda _: None)
        return {pair.row: pair.thing.name.split("-")[-2] for pair in matching.pairs()}
    finally:
        matching.close()


def test_order_pairs_where_nothing_tells_things_apart() -> None:
    """Things by count are interchangeable, whatever the maker calls his chips."""
    rows = [row(1, serial="AABBCCDDEEFF", name="chip"), row(2), row(3, also=(("node_id", "n3"),))]
    assert {1: "0001", 2: "0002", 3: "0003"} == matched_with([counted(n) for n in (1, 2, 3)], *rows)


@pytest.mark.parametrize(
    "things",
    [
        [thing(1), thing(2)],
        [counted(1), thing(2)],
        [thing(1, name="sg-01-press-north-dev", serial="SG01-PRESS-NORTH"), counted(2)],
    ],
    ids=["serials", "one serial", "names"],
)
def test_order_does_not_pair_what_is_known(things: list[ThingRow]) -> None:
    """Pairing by order is refused as a guess where things have serials or names of their own, unless asked for."""
    with pytest.raises(RequestError, match="would be a guess") as caught:
        matched_with(things, row(1), row(2, unknown=(("Hall", "7"),)))
    assert "--by-order" in str(caught.value.hint) and "'Hall'" in str(caught.value.hint)
    assert 2 == len(matched_with(things, row(1), row(2), by_order=True))


def test_a_row_without_identity_among_others_that_have_one_is_refused() -> None:
    """The next free thing may be that of a row with a slip of the pen."""
    rows = [row(1, name="sg-01-press-0001", must_match=True), row(2, name="sg-01-press-OOO2")]
    assert {1: "0001"} == matched_with([counted(1), counted(2)], *rows)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"name": "sg-01-press-0001", "serial": "SN-press-2", "must_match": True}, "its name 'sg-01-press-0001' is"),
        ({"name": "SN-press-1", "serial": "sg-01-press-0002", "must_match": True}, "its name 'SN-press-1' is"),
        ({"name": "sg-01-press-0001", "serial": "SN-none", "must_match": True}, "which has 'SN-press-1'"),
        ({"name": "sg-01-press-0001", "must_match": True, "also": (("mac", "SN-press-3"),)}, "its mac 'SN-press-3' is"),
        ({"serial": "SN-press-1", "must_match": True, "common": "sg-01-press-0002"}, "its common name"),
        ({"serial": "SN-press-1", "must_match": True, "common": "sn press 2"}, "its common name"),
    ],
)
def test_a_row_that_says_two_things_gets_neither(says: dict[str, Any], reason: str) -> None:
    """Name, serial, other identities and the certificate's common name have to be of one thing."""
    common = says.pop("common", None)
    given = row(1, **says)
    given = replace(given, material=replace(given.material, common_name=common))
    pairs, faults = matched([given])
    assert {} == pairs and reason in faults[1]


def test_columns_swapped_throughout_are_read_as_they_are() -> None:
    """A serial under `name` and a name under `serial` of one thing are that thing."""
    assert {1: "press-0002"} == matched([row(1, name="SN-press-2", serial="sg-01-press-0002", must_match=True)])[0]


def test_a_thing_that_two_rows_say_they_are_is_neithers() -> None:
    """Also where they say it under different headings, and a third one comes."""
    rows = [
        row(1, name="sg-01-press-0002", must_match=True),
        row(2, serial="sn_PRESS_2", must_match=True),
        row(3, also=(("id", "SN-press-2"),)),
    ]
    pairs, faults = matched(rows)
    assert ({}, [1, 2, 3]) == (pairs, list(faults))


def test_a_spelling_that_may_be_two_things_is_neither() -> None:
    """`7` may be 007; the whole name tells them apart."""
    things = [thing(1, serial="7"), thing(2, serial="007")]
    assert {} == matched_with(things, row(1, serial="7", must_match=True))
    named = row(1, serial="7", name="sg-01-press-0002", must_match=True)
    assert {1: "0002"} == matched_with(things, named)


@pytest.mark.parametrize("heading", ["Device Serial Nummer", "Serail", "DUT-UUID", "Geräte-Nr", "hostname2"])
def test_a_heading_that_looks_like_an_identity_refuses_the_list(heading: str) -> None:
    """Even where order is asked for; not where it is said to mean nothing, or where the row is named."""
    given = row(1, unknown=((heading, "whatever"),), device_type="press")
    with pytest.raises(RequestError, match="not known"):
        matched([given], by_order=True)
    assert {1: "press-0001"} == matched([given], by_order=True, ignored=[heading.upper()])[0]
    assert {1: "press-0001"} == matched([replace(given, name="sg-01-press-0001", must_match=True)])[0]


@pytest.mark.parametrize("value", ["SN-press-2", "sn press 2", "sg-01-press-0002", "SG-01-PRESS-0002-DEV"])
def test_an_unknown_column_that_holds_planned_identities_refuses_the_list(value: str) -> None:
    """Whatever it is called: it says that the row is another thing, or which it is at all."""
    given = row(1, unknown=(("Spalte 3", value),))
    for named in (given, replace(given, name="sg-01-press-0001", must_match=True)):
        with pytest.raises(RequestError, match="says that row 1"):
            matched([named], by_order=True)
    assert {1: "press-0002"} == matched([replace(given, name="sg-01-press-0002", must_match=True)])[0]


def test_a_makers_serial_beside_a_name_is_no_contradiction() -> None:
    """A maker's serial is accepted where the thing has none of its own, or where another column has the thing's."""
    assert {1: "0001"} == matched_with([counted(1)], row(1, name="sg-01-press-0001", serial="X1", must_match=True))
    things = [thing(1, serial="AABBCCDDEEFF")]
    assert {1: "0001"} == matched_with(
        things, row(1, serial="X1", must_match=True, also=(("mac", "aa:bb:cc:dd:ee:ff"),))
    )
    with pytest.raises(RequestError, match="guess"):
        matched_with(things, row(1, also=(("mac", "aa:bb:cc:dd:ee:00"),)))


def test_how_rows_were_paired_is_told() -> None:
    """Counts by what said it, and the first pairs in words."""
    matching = Matching(suffix="dev", by_order=True)
    matching.add_things(THINGS, is_taken=lambda _: False)
    rows = [
        row(1, serial="sn-PRESS-2", must_match=True),
        row(2, device_type="press"),
        row(3, also=(("Node ID", "SN-pump-1"),)),
    ]
    matching.add_rows(rows, key_owner=lambda _: None)
    assert {"Node ID": 1, "order": 1, "serial": 1} == matching.ways()
    assert "row 1 (line 1) is sg-01-press-0002-dev, by serial 'sn-PRESS-2'" == matching.first_pairs(2)[0]
    matching.close()


@pytest.mark.parametrize(
    "said",
    [
        {"identities": ("SG 01 press 0001",)},
        {"identities": ("0", "sg-01-press-0001-dev")},
        {"raw": b"sg-01-press-0001,extra,MII\n"},
        {"raw": b'{"thingName": "SG01-PRESS-0001", "cert": '},
        {"place": "file sg-01-press-0001-certificate.pem.crt"},
    ],
    ids=["spelling", "full name", "csv", "json", "file"],
)
def test_what_a_refused_row_names_is_given_to_no_other(said: dict[str, Any]) -> None:
    """It shows that rows have names, so order does not pair; where order is asked for, its thing is left out."""
    broken = Fault(**({"number": 1, "place": "line 1", "reason": "…", "remedy": "…"} | said))
    things = [counted(number) for number in (1, 2, 3)]
    assert {} == matched_with(things, broken, row(2))
    assert {2: "0002"} == matched_with(things, broken, row(2), by_order=True)


def test_a_row_of_a_named_list_that_says_no_planned_thing_stops_order() -> None:
    """A slip in its name, or no name that can be read: its thing may be any that is free."""
    things = [counted(number) for number in (1, 2)]
    broken = Fault(number=1, place="line 1", reason="…", remedy="…", is_named=True)
    for first in (broken, row(1, name="sg-01-press-OOO1", must_match=True)):
        assert {} == matched_with(things, first, row(2))


MIXED = [*(counted(number) for number in (1, 2)), *(thing(n, "pump", serial=f"SG01-PUMP-{n:04d}") for n in (1, 2))]
PLANTS = Plants(
    own=frozenset({"sg01", "tuas"}),
    others={"th01": "th-01", "rayong": "th-01"},
    prefixes={"th01press": "th-01", "th01boiler": "th-01"},
    device_types=frozenset({"press", "pump", "boiler"}),
)


def refusals_with(things: list[ThingRow], *rows: Row, **options: Any) -> dict[int, str]:
    """Row → why it gets no thing."""
    matching = Matching(suffix="dev", plants=PLANTS, **options)
    matching.add_things(things, is_taken=lambda _: False)
    try:
        matching.add_rows(rows, key_owner=lambda _: None)
        return {fault.number: fault.reason for fault in matching.faults()}
    finally:
        matching.close()


@pytest.mark.parametrize("by_order", [False, True])
def test_order_does_not_cross_device_types(by_order: bool) -> None:
    """A row that says no type, in a plant with several, refuses the list; one type for all may be given."""
    for unknown in ((), (("Model", "ESP32"),), (("Hall", "7"),)):
        with pytest.raises(RequestError, match="several \\(press, pump\\)") as caught:
            matched_with(MIXED, row(1, unknown=unknown), by_order=by_order)
        assert "--device-type" in str(caught.value.hint)
    given = [row(1), row(2), row(3, device_type="press")]
    assert {1: "0001", 2: "0002", 3: "0001"} == matched_with(MIXED, *given, by_order=by_order, device_type="pump")


@pytest.mark.parametrize("heading", ["Type", "Model", "Product", "Category", "Kind", "Thing Type", "typ", "Bauform"])
@pytest.mark.parametrize("value", ["pump", "Pump", "type-pump", "type-pump-dev"])
def test_a_column_of_planned_types_says_the_type(heading: str, value: str) -> None:
    """Whatever it is called: the next free thing of that type."""
    given = [row(1, unknown=((heading, value),)), row(2, unknown=((heading, "press"),))]
    matching = Matching(suffix="dev", plants=PLANTS)
    matching.add_things(MIXED, is_taken=lambda _: False)
    matching.add_rows(given, key_owner=lambda _: None)
    assert {1: "pump", 2: "press"} == {pair.row: pair.thing.device_type for pair in matching.pairs()}
    matching.close()


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({"device_type": "bolier"}, "no such device type"),
        ({"unknown": (("Type", "bolier"),)}, "no such device type"),
        ({"unknown": (("Model", "Boiler"),)}, "no such device type"),
        ({"unknown": (("Type", "pump"), ("Model", "press"))}, "says it is a pump, its 'Model' a press"),
        ({"unknown": (("Type", "press"),), "name": "sg-01-pump-0001", "must_match": True}, "says it is a press"),
        ({"also": (("hostname", "sg-01-press-OOO1"),)}, "no planned thing has its hostname"),
        ({"also": (("Device Name", "plc 7"),)}, "no planned thing has its Device Name"),
    ],
)
def test_types_and_names_that_are_not_planned_are_refused(says: dict[str, Any], reason: str) -> None:
    """Of a plant with one device type or several; beside a name, a host name of any kind is none of these."""
    for things in (MIXED, MIXED[:2]) if "says" not in reason else (MIXED,):
        assert reason in refusals_with(things, row(1, **says), device_type="press")[1]
    named = row(1, name="sg-01-press-0001", must_match=True, also=(("hostname", "plc7"),))
    assert {} == refusals_with(MIXED, named)


@pytest.mark.parametrize("says", ["common", "name", "serial", "also", "unknown"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("th-01-press-0001", "th-01"),
        ("TH_01_BOILER_0007-dev", "th-01"),
        ("TH01-BOILER-0003", "th-01"),
        ("sg-01-press-0001-prod", "sg-01-press-0001"),
        ("sg-01-press-0001-prod-2", "sg-01-press-0001"),
        ("sg-01-press-0099-dev", "no planned thing"),
    ],
)
def test_a_thing_of_another_plant_or_environment_gets_no_other(says: str, value: str, reason: str) -> None:
    """Whatever says it; where it is asked for, order does not pair such a row either."""
    if says == "unknown" and "th" not in value.lower():
        return
    more = {"also": (("id", value),), "unknown": (("Hall", value),), "common": ()}.get(says, value)
    given = row(1, **({says: more} if says != "common" else {}))
    if says == "common":
        given = replace(given, material=replace(given.material, common_name=value))
    for by_order in (False, True):
        assert reason in refusals_with(MIXED[:2], given, by_order=by_order)[1]


@pytest.mark.parametrize(
    ("heading", "value", "is_refused"),
    [
        ("facility", "th-01", True),
        ("Plant", "TH 01", True),
        ("site", "Rayong", True),
        ("Standort", "th-01", True),
        ("Site ID", "my-02", True),
        ("plant", "sg_01", False),
        ("site", "Tuas", False),
        ("Hall", "7", False),
    ],
)
def test_a_column_that_says_another_plant(heading: str, value: str, is_refused: bool) -> None:
    """Refuses the row; not where the column is said to mean nothing."""
    given = row(1, unknown=((heading, value),))
    assert is_refused == bool(refusals_with(MIXED[:2], given))
    assert {} == refusals_with(MIXED[:2], given, ignored=[heading])


def test_a_name_that_is_another_things_serial_is_told_what_parts_them() -> None:
    """The name alone is what was given: with its serial it is one thing's."""
    things = [thing(1, serial="A-1"), thing(2, serial="sg-01-press-0001")]
    given = row(1, name="sg-01-press-0001", must_match=True)
    matching = Matching(suffix="dev")
    matching.add_things(things, is_taken=lambda _: False)
    matching.add_rows([given], key_owner=lambda _: None)
    (fault,) = matching.faults()
    assert "one has it as its name, one as its serial" in fault.reason and "both name and serial" in fault.remedy
    matching.close()
    assert {1: "0001"} == matched_with(things, replace(given, serial="A-1"))
    assert {1: "0002"} == matched_with(things, row(1, name="sg-01-press-0002", serial=given.name, must_match=True))
