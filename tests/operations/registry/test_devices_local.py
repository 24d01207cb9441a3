"""Devices on the local AWS, with real MQTT: rotated, revoked, moved and retired ones are let in or refused.

One plant for all of them, and a story: the moves stand on the tests before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks.onboarding import OTHER_PLANT, PLANT
from tests.integration.broker import Asker
from tests.operations.lists.builders import make_request, new_key, pem
from tests.operations.registry.site import thing_name
from tests.operations.registry.works import Works, running_works, telemetry

pytestmark = pytest.mark.local_aws


def there(number: int) -> str:
    """A thing of the other plant."""
    return f"{OTHER_PLANT}-press-{number:04d}-dev"


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with running_works(tmp_path_factory.mktemp("works"), things=9, others=4) as found:
        yield found


def test_a_rotated_device_comes_back_with_its_new_certificate_alone(works: Works) -> None:
    """Both work until the rotation is finished, so that nothing is lost while the device changes over."""
    name = thing_name(1)
    (old_id,), old_key = works.certificate_ids(name), works.key(name)
    old = works.context(old_id, old_key)
    assert works.lets_in(name, old)
    works.fleet("device", "rotate", name, "--reason", "yearly")
    (new_id,) = set(works.certificate_ids(name, count=2)) - {old_id}
    new = works.context(new_id, works.key(name))
    assert works.lets_in(name, new) and works.lets_in(name, old)
    assert "being rotated" in works.fleet("device", "rotate", name, "--reason", "again", exit_code=2)
    works.fleet("device", "rotate", name, "--finish", "--reason", "yearly")
    assert works.lets_in(name, new) and not works.lets_in(name, old)
    assert [new_id] == works.certificate_ids(name)
    with pytest.raises(ClientError):
        works.local.client("iot").describe_certificate(certificateId=old_id)
    assert "is not being rotated" in works.fleet("device", "rotate", name, "--finish", "--reason", "x", exit_code=2)
    told = works.fleet("device", "show", name)
    assert new_id in told and "rotate begun" in told and "yearly" in told
    assert "9 were already" in works.fleet("onboard", "--facility", PLANT)


def test_a_device_that_makes_its_own_keys_hands_in_a_csr(works: Works, tmp_path: Path) -> None:
    """No key is made here, and none is asked for."""
    name, key = thing_name(2), new_key()
    (old_id,) = works.certificate_ids(name)
    (tmp_path / "next.csr").write_text(pem(make_request(name, key=key)))
    works.fleet("device", "rotate", name, "--csr", str(tmp_path / "next.csr"), "--reason", "board changed")
    works.fleet("device", "rotate", name, "--finish", "--reason", "board changed")
    (new_id,) = works.certificate_ids(name)
    assert new_id != old_id
    assert works.lets_in(name, works.context(new_id, key))


def test_a_revoked_device_is_refused(works: Works) -> None:
    """At once, and others are not."""
    name = thing_name(3)
    (certificate_id,) = works.certificate_ids(name)
    context = works.context(certificate_id, works.key(name))
    assert works.lets_in(name, context)
    works.fleet("device", "revoke", name, "--reason", "stolen")
    assert not works.lets_in(name, context)
    other = thing_name(4)
    assert works.lets_in(other, works.context(works.certificate_ids(other)[0], works.key(other)))
    assert "REVOKED" in works.fleet("device", "show", name)


def listed(works: Works, *arguments: str) -> dict[str, dict[str, Any]]:
    """The devices that `fleet device list` lists, by name."""
    rows = map(json.loads, works.fleet("device", "list", "--json", *arguments).splitlines())
    return {row["name"]: row for row in rows}


def test_devices_are_listed_with_their_states(works: Works) -> None:
    """As AWS IoT has them, also what was done there by hand, and a thing of no record; offline as the journal has them.
    A thing is named by its serial, without the suffix, or by a MAC address."""
    iot, plant = works.local.client("iot"), PLANT.replace("-", "").upper()
    (certificate_id,) = works.certificate_ids(thing_name(6))
    iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
    stray = {"facility": PLANT, "serial": "SN-77", "mac": "00:00:5e:00:53:01"}
    iot.create_thing(thingName=thing_name(77), attributePayload={"attributes": stray})
    found = listed(works)
    states = {name: row["state"] for name, row in found.items()}
    assert ("revoked", "registered", "active", "planned") == tuple(
        states[name] for name in (thing_name(3), thing_name(6), thing_name(4), there(1))
    )
    assert ("registered", "SN-77", False) == tuple(
        found[thing_name(77)][key] for key in ("state", "serial", "is_planned")
    )
    assert (certificate_id, True) == (found[thing_name(6)]["certificate_id"], found[thing_name(6)]["has_request"])
    assert found[thing_name(6)]["expires"] > "2040" and found[thing_name(3)]["changed"] > "2020"
    offline = listed(works, "--offline")
    assert ("active", "unknown") == (offline[thing_name(6)]["state"], offline[there(1)]["state"])
    assert thing_name(77) not in offline

    told = works.fleet("device", "list", "--facility", PLANT, "--state", "revoked").splitlines()
    assert 3 == len(told) and told[0].startswith("name ") and told[1].startswith(thing_name(3))
    assert "10 devices: 2 registered, 7 active, 1 revoked; 1 listed" == told[2]
    assert "; 9 listed" in works.fleet("device", "list", "--facility", PLANT, "--expiring", "36500d")
    assert "unknown until AWS IoT is asked" in works.fleet("device", "list", "--offline")
    iot.update_certificate(certificateId=certificate_id, newStatus="ACTIVE")
    iot.delete_thing(thingName=thing_name(77))
    assert f"{thing_name(6)}: press" in works.fleet("device", "show", f"{plant}-PRESS-0006")
    assert f"did you mean {thing_name(6)}" in works.fleet("device", "show", f"{PLANT}-pres-0006", exit_code=2)


def test_a_stolen_device_never_comes_back(works: Works) -> None:
    """AWS IoT changes no revoked status again: it is not activated, it can be retired, and its list is refused."""
    name = thing_name(3)
    (certificate_id,) = works.certificate_ids(name)
    context = works.context(certificate_id, works.key(name))
    with pytest.raises(ClientError, match="CertificateStateException"):
        works.local.client("iot").update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
    told = works.fleet("device", "activate", name, "--reason", "found", exit_code=2)
    assert f"{name} is revoked: its key was revoked on" in told and "stolen" in told
    assert f"{name} is revoked" in works.fleet("device", "rotate", name, "--reason", "found", exit_code=2)
    assert certificate_id in works.fleet("device", "retire", name, "--reason", "stolen")
    assert "0 onboarded, 8 were already, 1 failed" in works.fleet("onboard", "--facility", PLANT, exit_code=1)
    (reasons,) = (works.project / "build" / "onboarding").rglob("reasons.jsonl")
    assert "its key was revoked on" in reasons.read_text() and "(device revoke): stolen" in reasons.read_text()
    again = ("onboard", "--facility", PLANT, "--reuse-retired", "--dry-run")
    assert "0 would be onboarded, 8 are already, 1 cannot be" in works.fleet(*again, exit_code=1)
    works.fleet("keys", "create", "--facility", PLANT, "--renew", name)
    assert "1 onboarded, 8 were already" in works.fleet("onboard", "--facility", PLANT)
    (other_id,) = works.certificate_ids(name)
    assert works.lets_in(name, works.context(other_id, works.key(name))) and not works.lets_in(name, context)


def test_a_retired_device_is_refused_and_gone(works: Works) -> None:
    """Seen inactive, then deleted; its history stays; there is nothing to retire again. Its thing gets another key."""
    name = thing_name(5)
    (certificate_id,) = works.certificate_ids(name)
    context = works.context(certificate_id, works.key(name))
    assert works.lets_in(name, context)
    assert certificate_id in works.fleet("device", "retire", name, "--reason", "scrapped")
    assert not works.lets_in(name, context)
    iot = works.local.client("iot")
    for gone in (
        lambda: iot.describe_thing(thingName=name),
        lambda: iot.describe_certificate(certificateId=certificate_id),
    ):
        with pytest.raises(ClientError):
            gone()
    history = works.fleet("device", "show", name)
    assert "no certificate in AWS IoT" in history
    assert history.index("INACTIVE") < history.index("deleted") < history.index("  retired")
    works.fleet("device", "retire", name, "--reason", "scrapped", exit_code=2)
    assert "0 onboarded, 8 were already, 1 failed" in works.fleet("onboard", "--facility", PLANT, exit_code=1)
    keys = ("keys", "create", "--facility", PLANT)
    assert f"--renew {name}" in works.fleet(*keys, exit_code=1)
    works.fleet(*keys, "--renew", name)
    assert "1 onboarded, 8 were already" in works.fleet("onboard", "--facility", PLANT)
    (again,) = works.certificate_ids(name)
    assert works.lets_in(name, works.context(again, works.key(name)))


def test_a_device_is_not_moved_where_no_stack_is_applied(works: Works) -> None:
    """It works on where it is, and the error says what to do; a dry run says the same."""
    name = thing_name(6)
    context = works.context(works.certificate_ids(name)[0], works.key(name))
    for arguments in (("--dry-run",), ()):
        move = ("device", "move", name, "--to", OTHER_PLANT, "--reason", "line closed", *arguments)
        assert f"apply the stack of {OTHER_PLANT} first" in works.fleet(*move, exit_code=7)
    assert works.lets_in(name, context)
    works.apply(OTHER_PLANT)
    assert f"would become {there(1)}" in works.fleet(*move, "--dry-run")
    assert works.lets_in(name, context)


def test_a_moved_device_publishes_only_under_its_new_plant(works: Works) -> None:
    """With the certificate and key that it has: refused under its former name and topic, let in under the new ones."""
    name, new = thing_name(6), there(1)
    (certificate_id,), key = works.certificate_ids(name), works.key(name)
    context = works.context(certificate_id, key)
    assert works.lets_in(name, context)
    move = ("device", "move", name, "--to", OTHER_PLANT, "--reason", "line closed")
    assert f"is {new} now, under {certificate_id}" in works.fleet(*move)
    assert not works.lets_in(name, context)
    assert works.lets_in(new, context, plant=OTHER_PLANT)
    with Asker(works.broker, client_id=new, context=context) as asker:
        assert asker.is_in and not asker.publishes(telemetry(PLANT, name))
    with Asker(works.broker, client_id=new, context=context) as asker:
        assert asker.is_in and not asker.publishes(telemetry(PLANT, new))
    assert key.private_numbers() == works.key(new, plant=OTHER_PLANT).private_numbers()
    assert key.private_numbers() != works.key(name).private_numbers()
    iot = works.local.client("iot")
    with pytest.raises(ClientError):
        iot.describe_thing(thingName=name)
    thing = iot.describe_thing(thingName=new)
    assert (OTHER_PLANT, "thing-type-press-dev") == (thing["attributes"]["facility"], thing["thingTypeName"])
    assert f"is in {OTHER_PLANT} already, as {new}" in works.fleet(*move)
    told = works.fleet("device", "revoke", name, "--reason", "stolen", exit_code=2)
    assert f"its device was moved to {new}" in told
    told = works.fleet("device", "show", new)
    assert f"came from {name}" in told and f"{name}: moved to {new}" in told and f"moved from {name}" in told
    assert f"moved to {new}" in works.fleet("device", "show", name)
    assert "1 are already" in works.fleet("onboard", "--facility", OTHER_PLANT, "--dry-run")


def test_a_device_that_is_moved_and_rotated(works: Works) -> None:
    """Has its new key and certificate under its new name; the old certificate is gone."""
    name, new = thing_name(7), there(2)
    (old_id,), old_key = works.certificate_ids(name), works.key(name)
    old = works.context(old_id, old_key)
    works.fleet("device", "move", name, "--to", OTHER_PLANT, "--as", new, "--rotate", "--reason", "sold")
    (new_id,) = works.certificate_ids(new)
    assert new_id != old_id
    assert works.lets_in(new, works.context(new_id, works.key(new, plant=OTHER_PLANT)), plant=OTHER_PLANT)
    assert not works.lets_in(name, old) and not works.lets_in(new, old, plant=OTHER_PLANT)
    works.fleet("device", "move", new, "--to", PLANT, "--as", name, "--reason", "came back")
    assert works.lets_in(name, works.context(new_id, works.key(name)))
    assert 2 == works.fleet("device", "show", name).count("came from")


def test_what_cannot_be_moved_stays_where_it_is(works: Works) -> None:
    """Each refusal says why, before anything is changed."""
    name, move = thing_name(8), ("device", "move", thing_name(8), "--reason", "x", "--to")
    assert "in sg-01 already" in works.fleet(*move, PLANT, exit_code=2)
    assert "no facility 'nowhere'" in works.fleet(*move, "nowhere", exit_code=2)
    assert "has a certificate already" in works.fleet(*move, OTHER_PLANT, "--as", there(1), exit_code=2)
    assert "there is no thing 'th-01-press-0099': th-01 has 4 press" in works.fleet(
        *(*move, OTHER_PLANT, "--as", "th-01-press-0099"), exit_code=2
    )
    many = [thing_name(number) for number in (8, 9, 2, 4)]
    assert "no planned press left in th-01" in works.fleet(
        *("device", "move", *many, "--reason", "x", "--to", OTHER_PLANT), exit_code=2
    )
    assert f"{there(4)} was not onboarded from here" in works.fleet(
        *("device", "move", there(4), "--reason", "x", "--to", PLANT), exit_code=2
    )
    works.fleet("device", "rotate", name, "--reason", "yearly")
    assert "finish that first" in works.fleet(*move, OTHER_PLANT, exit_code=2)
    works.fleet("device", "rotate", name, "--finish", "--reason", "yearly")
    works.fleet("device", "revoke", name, "--reason", "stolen")
    assert "is REVOKED" in works.fleet(*move, OTHER_PLANT, exit_code=2)
    assert [thing_name(8)] == works.local.client("iot").list_principal_things(
        principal=works.local.client("iot").list_thing_principals(thingName=name)["principals"][0]
    )["things"]


def registered(iot: Any) -> set[str]:
    """The names of all things."""
    return {thing["thingName"] for thing in iot.list_things()["things"]}


def test_changed_attributes_reach_the_registry(works: Works) -> None:
    """The plan names the command, onboarding says what differs, and the command makes things what the record says."""
    iot, manifest = works.local.client("iot"), works.project / "fleet.yaml"
    record = json.loads(manifest.read_text())
    plant = record["facilities"][PLANT]
    plant["things"] = {"press": {"count": plant["things"]["press"], "attributes": {"firmware": "1.1"}}}
    manifest.write_text(json.dumps(record))
    command = f"fleet device sync --facility {PLANT}"
    assert command in works.fleet("plan")
    works.fleet("generate")
    iot.update_thing(thingName=thing_name(3), attributePayload={"attributes": {"owner": "bob"}, "merge": True})
    iot.create_thing(thingName=thing_name(77), attributePayload={"attributes": {"facility": PLANT}})

    there_are = [name for number in range(1, 10) if (name := thing_name(number)) in registered(iot)]
    count = len(there_are)  # the story has retired some
    said = f"{count} onboarded things of {PLANT} differ from the record: {command}"
    onboard = ("onboard", "--facility", PLANT)
    assert count > 5 and said in works.fleet(*onboard, exit_code=1)  # one of them is revoked
    dry = works.fleet("device", "sync", "--facility", PLANT, "--dry-run")
    assert f"{count} would be updated" in dry and f"{thing_name(3)}: firmware: none → 1.1, owner: bob → none" in dry
    assert "firmware" not in iot.describe_thing(thingName=thing_name(1))["attributes"]

    done = works.fleet("device", "sync", "--facility", PLANT, "--reason", "new firmware")
    assert f"{count} updated, 0 are what the record says, 0 failed" in done
    assert f"1 registered things left the record: {thing_name(77)}" in done
    for name in there_are:
        attributes = iot.describe_thing(thingName=name)["attributes"]
        assert ("1.1", None) == (attributes["firmware"], attributes.get("owner"))
    assert f"0 updated, {count} are what the record says" in works.fleet("device", "sync", "--facility", PLANT)
    assert "differ" not in works.fleet(*onboard, exit_code=1)
    assert "new firmware" in works.fleet("device", "show", thing_name(1))
    works.fleet("device", "sync", "--facility", "nowhere", exit_code=2)
    iot.delete_thing(thingName=thing_name(77))


def test_certificates_and_their_last_day(works: Works) -> None:
    """Those that AWS IoT made last long; a list by month."""
    told = works.fleet("certificates", "--expiring", "90d")
    assert "9 certificates; 0 expire within 90 days" in told
    assert "9 certificates; 9 expire within 36500 days" in works.fleet("certificates", "--expiring", "36500d")
    assert "say a number of days" in works.fleet("certificates", "--expiring", "soon", exit_code=2)
