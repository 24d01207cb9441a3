"""Deployments of a small company: ended by errors, delayed by faults, interrupted at random moments (`make soak`)."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

import pytest

from fleet_iot.operations.local.faults import LOG
from tests.integration.interruptions import (
    REAL,
    SEED,
    SIGNALS,
    TRANSIENT,
    Fault,
    count,
    inject,
    injected,
    interrupt,
    is_orderly,
)
from tests.integration.plant import PASSPHRASE, Plant
from tests.places import PROJECT, link_wheels

KILLS = int(os.environ.get("FLEET_KILLS", "0"))
LONGEST_S = 60.0
ENGINES = 1
"""The local AWS's rules engine has a thing and a certificate of its own."""

pytestmark = [pytest.mark.local_aws, pytest.mark.skipif(not KILLS, reason="FLEET_KILLS: a quarter of an hour")]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """One plant with two things of one type, on a local AWS that is up and empty."""
    folder = tmp_path_factory.mktemp("company")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLEET_", "ENVIRONMENT_"))}
    mirror = {name: os.environ[name] for name in ("FLEET_PROVIDER_MIRROR",) if name in os.environ}
    environment = kept | mirror | {"FLEET_KEYS_DIR": str(folder / "keys"), "FLEET_KEYS_PASSPHRASE": PASSPHRASE}
    environment["PYTHONPATH"] = str(PROJECT)
    root = folder / "Dünger Đà Nẵng"
    Plant(root=folder, environment=environment).fleet(
        "init", root.name, "--application", "duenger", "--facility", "dn-01", "--facility-name", "Xưởng Đà Nẵng",
        "--timezone", "Asia/Ho_Chi_Minh", "--things", "kompressor=2", "--yes",
    )  # fmt: skip
    link_wheels(root)
    company = Plant(root=root, environment=environment)
    company.fleet("generate")
    company.fleet("keys", "create", "--all")
    try:
        company.fleet("local", "up")
        yield company
    finally:
        if (root / "build" / "local" / "endpoint.json").exists():
            company.fleet("local", "down")


def test_an_error_that_stays_is_not_tried_again(company: Plant) -> None:
    """Each of five is asked for once, ends its stack and is named; the same command completes the rest later."""
    for faults in (REAL[:3], REAL[3:]):
        (company.local.folder / LOG).unlink(missing_ok=True)
        inject(company.local, faults)
        ended = company.fleet("deploy", exit_code=7)
        assert answers(faults) == sorted(injected(company.local))
        assert "again in" not in ended.stderr and "failed" in ended.stdout
        assert any(str(each["code"]) in ended.stderr for each in faults), ended.stderr
    company.fleet("deploy")
    assert no_changes(company)
    company.fleet("destroy")
    assert 0 == count(company.local)


def test_interrupted_and_delayed_it_is_applied_once(company: Plant) -> None:
    """After the last command the plan is empty, and after the destruction nothing is left."""
    moments = random.Random(SEED)
    (company.local.folder / LOG).unlink(missing_ok=True)
    inject(company.local, TRANSIENT)
    # The first one amid the platform, however slow the machine is.
    done = [interrupt(company, SIGNALS[0], resources=moments.randrange(5, 80))]
    done += [
        interrupt(company, SIGNALS[number % len(SIGNALS)], seconds=moments.uniform(0, LONGEST_S))
        for number in range(1, KILLS)
    ]
    told = f"{done}; FLEET_KILLS_SEED={SEED}"
    assert all(is_orderly(each) for each in done), told
    company.fleet("deploy")
    assert answers(TRANSIENT) == sorted(injected(company.local)), told
    assert no_changes(company), told
    iot = company.local.client("iot")
    assert 2 + ENGINES == len(iot.list_things()["things"]), told
    assert 2 + ENGINES == len(iot.list_certificates(pageSize=250)["certificates"]), told
    company.fleet("destroy")
    assert (0, []) == (count(company.local), iot.list_things()["things"]), told


def answers(faults: tuple[Fault, ...]) -> list[str]:
    """What the local AWS answers, all in all."""
    return sorted(f"{each['service']} {each['code']}" for each in faults for _ in range(int(each["times"])))


def no_changes(company: Plant) -> bool:
    """Whether another deployment changes nothing, once the emulator has its late tags."""
    company.fleet("deploy")
    plan = json.loads(company.fleet("deploy", "--plan-only", "--detailed-exitcode", "--json").stdout)
    return not any(stack["changes"] for stack in plan["stacks"])
