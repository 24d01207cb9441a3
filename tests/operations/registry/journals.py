"""Builders of devices in a journal."""

from __future__ import annotations

from fleet_iot.lib.record.read import ThingRow
from fleet_iot.operations.lists.record import Material
from fleet_iot.operations.registry import entries
from fleet_iot.operations.registry.journal import Journal, Run
from fleet_iot.operations.registry.matching import Pair


def thing(name: str, serial: str, device_type: str = "press", **attributes: str) -> ThingRow:
    return ThingRow(
        name=name,
        thing_type=f"thing-type-{device_type}-dev",
        device_type=device_type,
        serial=serial,
        attributes={"serial": serial} | attributes,
    )


def onboard(journal: Journal, facility: str, *things: ThingRow) -> None:
    """Write the things' devices into the journal, as onboarding does."""
    run = Run(
        facility=facility, source="list.csv", format="csv", bundle=None, signers=None, mark="", reason="test",
        is_staged=False, policy_on="group",
    )  # fmt: skip
    pairs = [Pair(thing=each, row=at, place="", material=material(each.name)) for at, each in enumerate(things)]
    journal.start_run(run, pairs, [], now=1.0)
    for each in things:
        certificate = entries.certificate(
            each.name, certificate_id=each.name, arn=f"arn/{each.name}", status="ACTIVE", expires=2e9
        )
        journal.write(certificate, entries.done(each.name))


def material(name: str) -> Material:
    return Material(is_certificate=False, der=b"", fingerprint=name.encode(), key=name.encode(), common_name=None)
