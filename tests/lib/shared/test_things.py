"""Things as expanded resource blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fleet_iot.lib.record.identities import Locked, Request, Status
from fleet_iot.lib.record.read import ThingRow, read_things
from fleet_iot.lib.shared.things import certificate_id, logical_id, thing_blocks
from fleet_iot.lib.specs import FacilitySpec

NAMES = st.text(alphabet="ab0-_:.", min_size=1, max_size=8)


NAME = "p1-press-0001-dev"


def held(csr: str, *, thing: str = NAME, generation: int = 1, status: Status | None = None) -> Request:
    locked = Locked(thing=thing, key=csr, csr=csr, generation=generation, status=status)
    return Request(csr=csr, locked=locked, names=(), line=1)


def _press(number: int) -> ThingRow:
    return ThingRow(
        name=f"p1-press-{number:04}",
        thing_type="thing-type-press",
        device_type="press",
        serial=f"S{number}",
        attributes={"serial": f"S{number}"},
    )


def test_a_thing_with_a_csr_gets_its_certificate_and_attachments(facility: Callable[..., FacilitySpec]) -> None:
    """ThingRow, membership, certificate from its CSR, policy and principal attachment refer to each other."""
    built = thing_blocks(iter([_press(1)]), facility=facility(), suffix="dev", requests={NAME: (held("CSR"),)})
    assert (built.certificates, built.without_csr) == (1, 0)
    assert {kind: blocks["p1-press-0001"] for kind, blocks in built.blocks.items()} == {
        "aws_iot_thing": {
            "name": "p1-press-0001-dev",
            "thing_type_name": "thing-type-press-dev",
            "attributes": {"serial": "S1"},
        },
        "aws_iot_thing_group_membership": {
            "thing_name": "${aws_iot_thing.p1-press-0001.name}",
            "thing_group_name": "${aws_iot_thing_group.thing-group-p1-press.name}",
        },
        "aws_iot_certificate": {"active": True, "csr": "CSR"},
        "aws_iot_policy_attachment": {
            "policy": "${aws_iot_policy.policy-p1-press.name}",
            "target": "${aws_iot_certificate.p1-press-0001.arn}",
        },
        "aws_iot_thing_principal_attachment": {
            "thing": "${aws_iot_thing.p1-press-0001.name}",
            "principal": "${aws_iot_certificate.p1-press-0001.arn}",
        },
    }


def test_a_thing_without_a_csr_is_registered_and_counted(facility: Callable[..., FacilitySpec]) -> None:
    """It gets no certificate at all: AWS would make its key pair, and the state would keep it."""
    built = thing_blocks(iter([_press(1), _press(2)]), facility=facility(), suffix="dev", requests={})
    assert (built.certificates, built.without_csr) == (0, 2)
    assert sorted(built.blocks) == ["aws_iot_thing", "aws_iot_thing_group_membership"]


def test_a_rotated_thing_has_two_certificates(facility: Callable[..., FacilitySpec]) -> None:
    """The first keeps its address, and the second has it for good; each has attachments of its own."""
    both = (held("1"), held("2", generation=2))
    for requests, expected in ((both, {"1": True, "2": True}), (both[:1], {"1": True}), (both[1:], {"2": True})):
        built = thing_blocks(iter([_press(1)]), facility=facility(), suffix="dev", requests={NAME: requests})
        certificates = built.blocks["aws_iot_certificate"]
        assert {each["csr"]: each["active"] for each in certificates.values()} == expected
        ids = [f"p1-press-0001{'_2' if csr == '2' else ''}" for csr in expected]
        for kind in ("aws_iot_certificate", "aws_iot_policy_attachment", "aws_iot_thing_principal_attachment"):
            assert list(built.blocks[kind]) == ids
        assert (built.certificates, built.without_csr) == (len(expected), 0)


def test_the_certificate_of_an_ended_key_is_never_active(facility: Callable[..., FacilitySpec]) -> None:
    """A revoked one stays, inactive; a retired key has none, and its thing does not lack a CSR."""
    requests = {NAME: (held("1", status=Status.RETIRED), held("2", generation=2, status=Status.REVOKED))}
    built = thing_blocks(iter([_press(1)]), facility=facility(), suffix="dev", requests=requests)
    assert built.blocks["aws_iot_certificate"] == {"p1-press-0001_2": {"active": False, "csr": "2"}}
    assert (built.certificates, built.without_csr) == (1, 0)


@given(st.sets(NAMES, min_size=2, max_size=30), st.integers(1, 12))
def test_different_names_have_different_logical_ids(names: set[str], generation: int) -> None:
    """CDKTF and Terraform would merge resources whose ids are the same, whatever the generations."""
    ids = {certificate_id(logical_id(name), number) for name in names for number in (1, generation)}
    assert len(ids) == len(names) * len({1, generation})


@given(NAMES)
def test_a_logical_id_is_a_terraform_identifier(name: str) -> None:
    """It begins with a letter or underscore and goes on with those, digits and hyphens."""
    id_ = logical_id(name)
    assert id_[0].isalpha() or id_[0] == "_"
    assert set(id_) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def test_the_name_of_a_generated_thing_is_its_logical_id() -> None:
    """Addresses read like names wherever names allow it."""
    assert logical_id("sg-01-press-monitor-0001") == "sg-01-press-monitor-0001"


def test_things_are_read_in_the_order_of_their_file(tmp_path: Path) -> None:
    """One thing a line."""
    path = tmp_path / "things.jsonl"
    line = '{"name":"%s","thing_type":"t","device_type":"press","serial":"s","attributes":{}}\n'
    path.write_text(line % "b" + line % "a")
    assert [thing.name for thing in read_things(path)] == ["b", "a"]
